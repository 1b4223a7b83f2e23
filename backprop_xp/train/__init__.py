"""Training in epochs or one sample at a time, evaluation, early stopping, callbacks and progress.

Metrics are in the module `metrics`, which is also `bp.metrics`.
"""

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
from .watching import EarlyStop as EarlyStop
from .watching import Record as Record
from .watching import Validate as Validate
from .watching import warn_health as warn_health
