"""Losses: the value E of each sample and its error e = ∂E/∂o.

A loss receives the net's output o, shape (batch, units), and targets t. It reduces over the units of
a sample; the learner reduces over the batch. `value` gives one number per sample, shape (batch,);
`error` the derivative, shape (batch, units). `link` turns the output into what `predict` returns:
for the losses on net input (logits) that is probabilities. `ALL` lists the losses; tests run over
that list.

For no o is the result NaN, or a warning given, if E and the differences and sums that define it fit the
dtype. Squares overflow to infinity beyond the square root of its largest number.
"""

from .base import DistributionLoss as DistributionLoss
from .base import Loss as Loss
from .base import Targets as Targets
from .classes import BinaryCrossEntropy as BinaryCrossEntropy
from .classes import CategoricalCrossEntropy as CategoricalCrossEntropy
from .classes import NegativeLogLikelihood as NegativeLogLikelihood
from .classes import SigmoidCrossEntropy as SigmoidCrossEntropy
from .classes import SoftmaxCrossEntropy as SoftmaxCrossEntropy
from .classes import binary_cross_entropy as binary_cross_entropy
from .classes import categorical_cross_entropy as categorical_cross_entropy
from .classes import negative_log_likelihood as negative_log_likelihood
from .classes import sigmoid_cross_entropy as sigmoid_cross_entropy
from .classes import softmax_cross_entropy as softmax_cross_entropy
from .numbers import HalfSquaredError as HalfSquaredError
from .numbers import Hinge as Hinge
from .numbers import Huber as Huber
from .numbers import MeanAbsoluteError as MeanAbsoluteError
from .numbers import MeanSquaredError as MeanSquaredError
from .numbers import Poisson as Poisson
from .numbers import Quantile as Quantile
from .numbers import SquaredError as SquaredError
from .numbers import half_squared_error as half_squared_error
from .numbers import hinge as hinge
from .numbers import huber as huber
from .numbers import mean_absolute_error as mean_absolute_error
from .numbers import mean_squared_error as mean_squared_error
from .numbers import poisson as poisson
from .numbers import quantile as quantile
from .numbers import squared_error as squared_error

ALL: dict[str, Loss] = {
    "half_squared_error": half_squared_error,
    "squared_error": squared_error,
    "mean_squared_error": mean_squared_error,
    "mean_absolute_error": mean_absolute_error,
    "binary_cross_entropy": binary_cross_entropy,
    "categorical_cross_entropy": categorical_cross_entropy,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
    "softmax_cross_entropy": softmax_cross_entropy,
    "huber": huber,
    "quantile": quantile,
    "poisson": poisson,
    "hinge": hinge,
    "negative_log_likelihood": negative_log_likelihood,
}
