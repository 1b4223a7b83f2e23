"""Training: epochs over a source of data, one sample at a time, evaluation, and progress."""

from . import metrics as metrics
from .evaluate import evaluate as evaluate
from .evaluate import measure as measure
from .fit import Fitted as Fitted
from .fit import epochs as epochs
from .fit import fit as fit
from .fit import per_sample as per_sample
from .loop import Epoch as Epoch
from .loop import Trained as Trained
from .progress import Report as Report
