"""Metrics: accuracy, AUC, R² and others, which say how good predictions are.

A metric is computed from sums over rows, so that data of any length can be measured batch by batch: `sums`
turns predictions p, targets t and row weights v into quantities that are added up over batches, and `value`
computes the metric from their totals. Both run in float64 on the host. `ALL` lists the metrics by name.

Targets are classes or numbers. Classes are labels of shape (rows,), or rows of probabilities, the largest of
which is the label; a net with one output unit between 0 and 1 has the classes 0 and 1. Numbers have the
shape of the predictions.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf, isnan, nan
from typing import Any, ClassVar, Literal

from ..arrays import Array, Namespace
from ..errors import BackpropError
from ..layers import check_count
from ..losses import Loss

_SMALLEST = 2.0**-52  # smaller probabilities count as this one, since log 0 is infinite


@dataclass(frozen=True)
class Metric(ABC):
    """The base class: a figure computed from sums over rows.

    Attributes:
        of: what is predicted, 'classes' or 'numbers'.
        larger_is_better: whether a larger value is better; otherwise a smaller one is.
        is_number: whether the value is a single number, so that it can be recorded for each epoch.
    """

    of: ClassVar[Literal["classes", "numbers"]] = "classes"
    larger_is_better: ClassVar[bool] = True
    is_number: ClassVar[bool] = True

    def check(self, loss: Loss, units: int) -> None:
        """Check that this metric is defined for this loss and number of output units.

        Raises:
            BackpropError: it is not.
        """
        classes = loss.targets == "distribution" or (loss.targets == "probabilities" and units == 1)
        if self.of == "classes" and not classes:
            msg = (
                f"{type(self).__name__} needs classes: labels and a loss such as softmax_cross_entropy, or "
                f"one unit and one such as sigmoid_cross_entropy; got {type(loss).__name__}, {units} units"
            )
            raise BackpropError(msg)
        if self.of == "numbers" and loss.targets == "distribution":
            msg = f"{type(self).__name__} needs numbers, but targets of {type(loss).__name__} are classes"
            raise BackpropError(msg)

    @abstractmethod
    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """The quantities that are added up over batches.

        Args:
            p: predictions, float64, shape (rows, units).
            t: targets: labels, shape (rows,), or float64, shape (rows, units).
            v: a weight for each row, float64, shape (rows,); 0 for a row whose label is ignored.
            xp: NumPy.
        """

    @abstractmethod
    def value(self, *sums: Any, xp: Namespace) -> Any:
        """The metric, from the sums of all batches; NaN if it is not defined, as for a total weight of 0."""


@dataclass(frozen=True)
class Accuracy(Metric):
    """The fraction of correct predictions, Σ v [argmax p = t] / Σ v.

    >>> import numpy as np
    >>> of_rows = accuracy.sums(np.asarray([[0.9, 0.1], [0.8, 0.2]]), np.asarray([0, 1]), np.ones(2), xp=np)
    >>> accuracy.value(*of_rows, xp=np)
    0.5
    """

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """The weight of the correct rows, and of all rows."""
        p, t = _by_class(p, t, xp=xp)
        return xp.sum(v * (xp.argmax(p, axis=1) == t)), xp.sum(v)

    def value(self, *sums: Any, xp: Namespace) -> float:
        """Their quotient."""
        return _quotient(*sums)


@dataclass(frozen=True)
class TopK(Metric):
    """The fraction of rows whose label is among the k most probable classes.

    Of classes with equal probabilities the one with the smaller label ranks first.

    Args:
        k: how many, 1 or more.

    >>> import numpy as np
    >>> p, t = np.asarray([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1]]), np.asarray([1, 2])
    >>> TopK(2).value(*TopK(2).sums(p, t, np.ones(2), xp=np), xp=np)
    0.5
    """

    k: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", check_count(self.k, "k of TopK"))

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """The weight of the correct rows, and of all rows."""
        p, t = _by_class(p, t, xp=xp)
        k = xp.arange(p.shape[1])
        own = xp.sum(xp.where(k == t[:, None], p, 0), axis=1)[:, None]
        ahead = xp.sum((p > own) | ((p == own) & (k < t[:, None])), axis=1)
        return xp.sum(v * (ahead < self.k)), xp.sum(v)

    def value(self, *sums: Any, xp: Namespace) -> float:
        """Their quotient."""
        return _quotient(*sums)


@dataclass(frozen=True)
class ConfusionMatrix(Metric):
    """The weight of rows of each class (row) that were predicted as each class (column), as nested tuples.

    >>> import numpy as np
    >>> p, t = np.asarray([[0.9, 0.1], [0.8, 0.2]]), np.asarray([0, 1])
    >>> confusion_matrix.value(*confusion_matrix.sums(p, t, np.ones(2), xp=np), xp=np)
    ((1.0, 0.0), (1.0, 0.0))
    """

    is_number = False

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """The matrix, shape (classes, classes)."""
        p, t = _by_class(p, t, xp=xp)
        n, there = p.shape[1], v > 0
        places = t[there] * n + xp.argmax(p, axis=1)[there]
        return (xp.bincount(places, weights=v[there], minlength=n * n).reshape(n, n),)

    def value(self, *sums: Any, xp: Namespace) -> Any:
        """The matrix itself."""
        return tuple(map(tuple, sums[0].tolist()))


@dataclass(frozen=True)
class BalancedAccuracy(ConfusionMatrix):
    """The mean recall: the fraction of correct predictions in each class, averaged over classes that occur.

    (Brodersen and others: The balanced accuracy and its posterior distribution, 2010.)

    >>> import numpy as np
    >>> p, t = np.asarray([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.asarray([0, 1, 1])
    >>> balanced_accuracy.value(*balanced_accuracy.sums(p, t, np.ones(3), xp=np), xp=np)
    0.75
    """

    is_number = True

    def value(self, *sums: Any, xp: Namespace) -> float:
        """The mean of the diagonal elements divided by the sums of their rows."""
        of_class = xp.sum(sums[0], axis=1)
        there = of_class > 0
        right = xp.linalg.diagonal(sums[0])[there] / of_class[there]
        return _quotient(xp.sum(right), xp.sum(there))


@dataclass(frozen=True)
class LogLoss(Metric):
    """The mean cross entropy, −Σ v log p_t / Σ v, with p_t the predicted probability of the label.

    Where targets are rows of probabilities, log p_t becomes Σ_k t_k log p_k. Probabilities below 2⁻⁵² count
    as 2⁻⁵².

    >>> import numpy as np
    >>> sums = log_loss.sums(np.asarray([[0.5, 0.5]]), np.asarray([1]), np.ones(1), xp=np)
    >>> round(log_loss.value(*sums, xp=np), 4)
    0.6931
    """

    larger_is_better = False

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """The weighted negative log-likelihood, and the weight of all rows."""
        if p.shape[1] == 1:
            p, t = xp.concat([1 - p, p], axis=1), (t if t.ndim == 1 else xp.concat([1 - t, t], axis=1))
        y = t if t.ndim > 1 else (xp.arange(p.shape[1]) == t[:, None])
        logarithms = xp.log(xp.clip(p, _SMALLEST, None))
        return -xp.sum(v * xp.sum(xp.where(y != 0, y * logarithms, 0), axis=1)), xp.sum(v)

    def value(self, *sums: Any, xp: Namespace) -> float:
        """Their quotient."""
        return _quotient(*sums)


@dataclass(frozen=True)
class AUC(Metric):
    """The area under the ROC curve, by scikit-learn; for several classes, the mean one-vs-rest area.

    It needs all predictions at once: one number for each row and class stays in memory. The value is NaN if
    a class does not occur.

    Raises:
        BackpropError: scikit-learn is not installed; raised when the metric is first used.
    """

    def check(self, loss: Loss, units: int) -> None:
        """Check as for other metrics, and that scikit-learn is installed."""
        super().check(loss, units)
        if find_spec("sklearn") is None:
            msg = "AUC is computed by scikit-learn, which is not installed: pip install scikit-learn"
            raise BackpropError(msg)

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """Probabilities, labels and weights, each in a list: adding lists joins them."""
        p, t = _by_class(p, t, xp=xp)
        there = v > 0
        return [p[there]], [t[there]], [v[there]]

    def value(self, *sums: Any, xp: Namespace) -> float:
        """The area."""
        from sklearn.metrics import roc_auc_score

        p, t, v = map(xp.concat, sums)
        classes = p.shape[1]
        if len(xp.unique_values(t)) < classes:
            return nan
        if classes == 2:
            return float(roc_auc_score(t, p[:, 1], sample_weight=v))
        p = p / xp.sum(p, axis=1, keepdims=True)  # scikit-learn insists on sums of 1
        return float(roc_auc_score(t, p, multi_class="ovr", sample_weight=v))


@dataclass(frozen=True)
class MeanAbsoluteError(Metric):
    """MAE = Σ v |p − t| / Σ v, averaged over output units.

    >>> import numpy as np
    >>> sums = mean_absolute_error.sums(np.asarray([[1.0], [5.0]]), np.zeros((2, 1)), np.ones(2), xp=np)
    >>> mean_absolute_error.value(*sums, xp=np)
    3.0
    """

    of, larger_is_better = "numbers", False

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """The weighted absolute errors, and the weight of all rows."""
        return xp.sum(v * xp.mean(xp.abs(p - t), axis=1)), xp.sum(v)

    def value(self, *sums: Any, xp: Namespace) -> float:
        """Their quotient."""
        return _quotient(*sums)


@dataclass(frozen=True)
class MeanSquaredError(Metric):
    """MSE = Σ v (p − t)² / Σ v, averaged over output units.

    >>> import numpy as np
    >>> sums = mean_squared_error.sums(np.asarray([[1.0], [5.0]]), np.zeros((2, 1)), np.ones(2), xp=np)
    >>> mean_squared_error.value(*sums, xp=np)
    13.0
    """

    of, larger_is_better = "numbers", False

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """The weighted squared errors, and the weight of all rows."""
        return xp.sum(v * xp.mean((p - t) ** 2, axis=1)), xp.sum(v)

    def value(self, *sums: Any, xp: Namespace) -> float:
        """Their quotient."""
        return _quotient(*sums)


@dataclass(frozen=True)
class R2(Metric):
    """R² = 1 − Σ v (p − t)² / Σ v (t − t̄)², averaged over output units; t̄ is the weighted mean.

    If all targets are equal it is 1 where every prediction is correct, else 0, as in scikit-learn.

    >>> import numpy as np
    >>> p, t = np.asarray([[1.0], [3.0], [4.0]]), np.asarray([[1.0], [3.0], [5.0]])
    >>> r2.value(*r2.sums(p, t, np.ones(3), xp=np), xp=np)
    0.875
    """

    of = "numbers"

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """The weighted squared errors of each unit, and the spread of its targets."""
        return xp.sum(v[:, None] * (p - t) ** 2, axis=0), Spread.of(t, v, xp=xp)

    def value(self, *sums: Any, xp: Namespace) -> float:
        """The mean over units of 1 − squares / spread."""
        squares, spread = sums
        if not spread.weight:
            return nan
        share = xp.where(squares == 0, 0.0, 1.0)
        share = xp.where(spread.squares > 0, squares / xp.where(spread.squares > 0, spread.squares, 1), share)
        return float(xp.mean(1 - share))


@dataclass(frozen=True)
class Spread:
    """Σ v, the mean t̄ and Σ v (t − t̄)² of each column; adding those of two sets of rows cancels no digits.

    (Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979.)
    """

    weight: float
    mean: Array
    squares: Array

    @classmethod
    def of(cls, t: Array, v: Array, *, xp: Namespace) -> "Spread":
        """The spread of these rows."""
        weight = float(xp.sum(v))
        mean = xp.sum(v[:, None] * t, axis=0) / (weight or 1.0)
        return cls(weight, mean, xp.sum(v[:, None] * (t - mean) ** 2, axis=0))

    def __add__(self, other: "Spread") -> "Spread":
        """The spread of both sets of rows together."""
        weight, apart = self.weight + other.weight, other.mean - self.mean
        share = other.weight / (weight or 1.0)
        squares = self.squares + other.squares + apart**2 * self.weight * share
        return Spread(weight, self.mean + apart * share, squares)


def _by_class(p: Array, t: Array, *, xp: Namespace) -> tuple[Array, Array]:
    """Probabilities, shape (rows, classes), and labels, shape (rows,)."""
    if p.shape[1] == 1:
        p = xp.concat([1 - p, p], axis=1)
        t = t if t.ndim == 1 else t[:, 0] > 0.5
    elif t.ndim > 1:
        t = xp.argmax(t, axis=1)
    return p, xp.astype(t, xp.int64)


def _quotient(total: Any, weight: Any) -> float:
    return float(total / weight) if weight else nan


def is_better(figure: float, best: float | None, *, larger: bool, by: float = 0) -> bool:
    """Whether a figure is better than the best so far by more than `by`; NaN and infinity never are.

    >>> is_better(0.5, None, larger=False), is_better(0.4, 0.5, larger=False, by=0.2)
    (True, False)
    """
    if isnan(figure) or abs(figure) == inf:
        return False
    return best is None or (figure > best + by if larger else figure < best - by)


accuracy = Accuracy()
balanced_accuracy = BalancedAccuracy()
confusion_matrix = ConfusionMatrix()
log_loss = LogLoss()
auc = AUC()
mean_absolute_error = MeanAbsoluteError()
mean_squared_error = MeanSquaredError()
r2 = R2()

ALL: dict[str, Metric] = {
    "accuracy": accuracy,
    "top_k": TopK(),
    "balanced_accuracy": balanced_accuracy,
    "confusion_matrix": confusion_matrix,
    "log_loss": log_loss,
    "auc": auc,
    "mean_absolute_error": mean_absolute_error,
    "mean_squared_error": mean_squared_error,
    "r2": r2,
}
