"""Training: the loop over a source of data, one sample at a time, and its progress."""

from .loop import Fitted as Fitted
from .loop import fit as fit
from .loop import per_sample as per_sample
from .progress import Report as Report
from .run import Epoch as Epoch
