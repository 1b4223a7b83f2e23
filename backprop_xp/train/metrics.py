"""Metrics: how good predictions are, in figures that people know.

A metric is a formula over sums of rows, so that data of any length are measured batch by batch: `sums` of
predictions p, targets t and weights of rows v gives things that add up, and `value` the figure that follows
from them. They are computed in float64 on the host, from what the compiled net predicts. `ALL` lists them.

Classes are labels of shape (rows,), or rows of probabilities, of which the largest is the label; a net with
one output unit between 0 and 1 has the classes 0 and 1. Numbers are targets of the shape of predictions.
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

_SMALLEST = 2.0**-52  # the probability whose logarithm is taken in place of that of 0


@dataclass(frozen=True)
class Metric(ABC):
    """The base: a figure that follows from sums over rows.

    Attributes:
        of: what is predicted, 'classes' or 'numbers'.
        larger_is_better: else smaller.
        is_number: whether the value is one number, which is kept for each epoch.
    """

    of: ClassVar[Literal["classes", "numbers"]] = "classes"
    larger_is_better: ClassVar[bool] = True
    is_number: ClassVar[bool] = True

    def check(self, loss: Loss, units: int) -> None:
        """Check that this metric is defined for so many output units and this loss.

        Raises:
            BackpropError: it cannot.
        """
        classes = loss.targets == "distribution" or (loss.targets == "probabilities" and units == 1)
        if self.of == "classes" and not classes:
            msg = (
                f"{type(self).__name__} needs classes: labels and a loss such as softmax_cross_entropy, or "
                f"one unit and one such as sigmoid_cross_entropy; got {type(loss).__name__}, {units} units"
            )
            raise BackpropError(msg)
        if self.of == "numbers" and loss.targets == "distribution":
            msg = f"{type(self).__name__} needs numbers, and targets of {type(loss).__name__} are classes"
            raise BackpropError(msg)

    @abstractmethod
    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """What adds up over rows.

        Args:
            p: predictions, float64, shape (rows, units).
            t: targets, as given to the net.
            v: a weight for each row, float64, shape (rows,); 0 for a row whose label is ignored.
            xp: NumPy.
        """

    @abstractmethod
    def value(self, *sums: Any, xp: Namespace) -> Any:
        """The figure; NaN where it is not defined, as for rows of no weight."""


@dataclass(frozen=True)
class Accuracy(Metric):
    """The share of right answers, Σ v [argmax p = t] / Σ v.

    >>> import numpy as np
    >>> of_rows = accuracy.sums(np.asarray([[0.9, 0.1], [0.8, 0.2]]), np.asarray([0, 1]), np.ones(2), xp=np)
    >>> accuracy.value(*of_rows, xp=np)
    0.5
    """

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """Weights of right answers, and of all."""
        p, t = _by_class(p, t, xp=xp)
        return xp.sum(v * (xp.argmax(p, axis=1) == t)), xp.sum(v)

    def value(self, *sums: Any, xp: Namespace) -> float:
        """Their quotient."""
        return _quotient(*sums)


@dataclass(frozen=True)
class TopK(Metric):
    """The share of rows whose label is among the k most probable classes; of equal ones the first come first.

    Args:
        k: how many, 1 or more.
    """

    k: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", check_count(self.k, "k of TopK"))

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """Weights of right answers, and of all."""
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
    """How often each class (row) was taken for each class (column): sums of weights, as nested tuples.

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
    """The mean over classes that occur of the share of right answers in each.

    (Brodersen and others: The balanced accuracy and its posterior distribution, 2010.)
    """

    is_number = True

    def value(self, *sums: Any, xp: Namespace) -> float:
        """The mean of the diagonal over the sums of rows."""
        of_class = xp.sum(sums[0], axis=1)
        there = of_class > 0
        right = xp.linalg.diagonal(sums[0])[there] / of_class[there]
        return _quotient(xp.sum(right), xp.sum(there))


@dataclass(frozen=True)
class LogLoss(Metric):
    """−Σ v log p_t / Σ v, p_t the probability of the label, 2⁻⁵² at least; Σ_k t_k log p_k for rows."""

    larger_is_better = False

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """Weighted logarithms, and weights."""
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
    """The area under the ROC curve, by scikit-learn; of several classes the mean of each against the rest.

    It needs all predictions at once: one number for each row and class stays in memory. NaN where a class
    does not occur.

    Raises:
        BackpropError: scikit-learn is not installed; when the metric is first given to something.
    """

    def check(self, loss: Loss, units: int) -> None:
        """Check as for other metrics, and that scikit-learn is there."""
        super().check(loss, units)
        if find_spec("sklearn") is None:
            msg = "AUC is computed by scikit-learn, which is not installed: pip install scikit-learn"
            raise BackpropError(msg)

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """Lists, which add up to longer ones: probabilities, labels and weights."""
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
        p = p / xp.sum(p, axis=1, keepdims=True)  # which in float32 is 1 but for its last bits
        return float(roc_auc_score(t, p, multi_class="ovr", sample_weight=v))


@dataclass(frozen=True)
class MeanAbsoluteError(Metric):
    """MAE = Σ v |p − t| / Σ v, the mean over output units."""

    of, larger_is_better = "numbers", False

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """Weighted distances, and weights."""
        return xp.sum(v * xp.mean(xp.abs(p - t), axis=1)), xp.sum(v)

    def value(self, *sums: Any, xp: Namespace) -> float:
        """Their quotient."""
        return _quotient(*sums)


@dataclass(frozen=True)
class MeanSquaredError(Metric):
    """MSE = Σ v (p − t)² / Σ v, the mean over output units."""

    of, larger_is_better = "numbers", False

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """Weighted squares, and weights."""
        return xp.sum(v * xp.mean((p - t) ** 2, axis=1)), xp.sum(v)

    def value(self, *sums: Any, xp: Namespace) -> float:
        """Their quotient."""
        return _quotient(*sums)


@dataclass(frozen=True)
class R2(Metric):
    """R² = 1 − Σ v (p − t)² / Σ v (t − t̄)², the mean over output units; t̄ is the weighted mean.

    Of targets that are all equal it is 1 where every prediction is right, else 0, as in scikit-learn.
    """

    of = "numbers"

    def sums(self, p: Array, t: Array, v: Array, *, xp: Namespace) -> tuple[Any, ...]:
        """Weighted squares of errors, and the spread of targets."""
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
    """Σ v, the mean t̄ and Σ v (t − t̄)² of each column: those of two sets of rows add up without cancellation.

    (Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979.)
    """

    weight: float
    mean: Array
    squares: Array

    @classmethod
    def of(cls, t: Array, v: Array, *, xp: Namespace) -> "Spread":
        """That of some rows."""
        weight = float(xp.sum(v))
        mean = xp.sum(v[:, None] * t, axis=0) / (weight or 1.0)
        return cls(weight, mean, xp.sum(v[:, None] * (t - mean) ** 2, axis=0))

    def __add__(self, other: "Spread") -> "Spread":
        """That of both."""
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
    """Whether a figure is better than the best so far, by more than this; NaN and infinity never are.

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
