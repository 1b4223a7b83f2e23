"""Training: the loop over a source of data, one sample at a time, and its progress."""

from .fit import Fitted as Fitted
from .fit import fit as fit
from .fit import per_sample as per_sample
from .loop import Epoch as Epoch
from .progress import Report as Report
