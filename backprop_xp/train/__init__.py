"""Training: epochs over a data source in batches, or one sample at a time, and progress reports."""

from .fit import Fitted as Fitted
from .fit import fit as fit
from .fit import per_sample as per_sample
from .loop import Epoch as Epoch
from .progress import Report as Report
