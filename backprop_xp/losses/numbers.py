"""Losses whose targets are numbers, counts or signs."""

from dataclasses import dataclass
from math import inf

from ..arrays import Array, Namespace
from ..functions import exp
from .base import Loss, check_setting


class HalfSquaredError(Loss):
    """E = ½ Σ_k (o_k − t_k)², e = o − t. The articles' loss.

    >>> import numpy as np
    >>> half_squared_error.value(np.asarray([[3.0]]), np.asarray([[1.0]]), xp=np).tolist()
    [2.0]
    """

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = ½ Σ_k (o_k − t_k)²."""
        return xp.sum((o - t) ** 2, axis=-1) / 2

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = o − t."""
        return o - t


class SquaredError(Loss):
    """E = Σ_k (o_k − t_k)², e = 2 (o − t).

    >>> import numpy as np
    >>> squared_error.value(np.asarray([[3.0]]), np.asarray([[1.0]]), xp=np).tolist()
    [4.0]
    """

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = Σ_k (o_k − t_k)²."""
        return xp.sum((o - t) ** 2, axis=-1)

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = 2 (o − t)."""
        return 2 * (o - t)


class MeanSquaredError(Loss):
    """E = (1/n) Σ_k (o_k − t_k)² over the n units, e = (2/n) (o − t).

    >>> import numpy as np
    >>> mean_squared_error.value(np.asarray([[3.0, 1.0]]), np.asarray([[1.0, 1.0]]), xp=np).tolist()
    [2.0]
    """

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = (1/n) Σ_k (o_k − t_k)²."""
        return xp.sum((o - t) ** 2, axis=-1) / o.shape[-1]

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = 2 (o − t) / n."""
        return 2 * (o - t) / o.shape[-1]


class MeanAbsoluteError(Loss):
    """E = (1/n) Σ_k |o_k − t_k|, e = sign(o − t) / n, which is 0 where o = t.

    >>> import numpy as np
    >>> mean_absolute_error.error(np.asarray([[3.0, 1.0]]), np.asarray([[1.0, 1.0]]), xp=np).tolist()
    [[0.5, 0.0]]
    """

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = (1/n) Σ_k |o_k − t_k|."""
        return xp.sum(xp.abs(o - t), axis=-1) / o.shape[-1]

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = ([o > t] − [o < t]) / n."""
        return (xp.astype(o > t, o.dtype) - xp.astype(o < t, o.dtype)) / o.shape[-1]


@dataclass(frozen=True)
class Huber(Loss):
    """E = (1/n) Σ_k ½ d_k² where |d_k| <= δ, else δ (|d_k| − δ/2), with d = o − t; e = clip(d, −δ, δ) / n.

    Squared near the target, linear far from it: the error of an outlier is at most δ / n.
    (Huber: Robust estimation of a location parameter, 1964.)

    Args:
        delta: the distance δ > 0 beyond which the loss grows linearly.

    Raises:
        BackpropError: delta is not a positive finite number.

    >>> import numpy as np
    >>> o, t = np.asarray([[0.5], [3.0]]), np.asarray([[0.0], [0.0]])
    >>> huber.value(o, t, xp=np).tolist(), huber.error(o, t, xp=np).tolist()
    ([0.125, 2.5], [[0.5], [1.0]])
    """

    delta: float = 1

    def __post_init__(self) -> None:
        check_setting(self, "delta", lambda d: 0 < d < inf, "a positive finite number such as 1")

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = (1/n) Σ_k c_k (|d_k| − c_k / 2), d = o − t, c = min(|d|, δ)."""
        d = xp.abs(o - t)
        c = xp.minimum(d, self.delta)  # only c is squared: d² could overflow
        return xp.sum(c * (d - c / 2), axis=-1) / o.shape[-1]

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = max(min(o − t, δ), −δ) / n."""
        return xp.maximum(xp.minimum(o - t, self.delta), -self.delta) / o.shape[-1]


@dataclass(frozen=True)
class Quantile(Loss):
    """E = (1/n) Σ_k q d_k where d_k >= 0, else (q − 1) d_k, with d = t − o: the pinball loss.

    Its minimum is the q-quantile of the targets: a share q of them is below o. With q = 0.5 it is half
    the absolute error, and o the median. The error is −q / n where o < t and (1 − q) / n where o > t; at
    the kink o = t, 0 is chosen. (Koenker, Bassett: Regression quantiles, 1978.)

    Args:
        q: the quantile, 0 < q < 1.

    Raises:
        BackpropError: q is out of range.

    >>> import numpy as np
    >>> o, t = np.asarray([[1.0], [2.0], [3.0]]), np.asarray([[2.0], [2.0], [2.0]])
    >>> Quantile(0.75).value(o, t, xp=np).tolist(), Quantile(0.75).error(o, t, xp=np).tolist()
    ([0.75, 0.0, 0.25], [[-0.75], [0.0], [0.25]])
    """

    q: float = 0.5

    def __post_init__(self) -> None:
        check_setting(self, "q", lambda q: 0 < q < 1, "a number between 0 and 1 such as 0.9")

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = (1/n) Σ_k [q (t_k − o_k) + max(o_k − t_k, 0)]."""
        return xp.sum(self.q * (t - o) + xp.maximum(o - t, 0), axis=-1) / o.shape[-1]

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = ([o > t] − q [o ≠ t]) / n."""
        return (xp.astype(o > t, o.dtype) - self.q * xp.astype(o != t, o.dtype)) / o.shape[-1]


class Poisson(Loss):
    """E = (1/n) Σ_k [e^(o_k) − t_k o_k], e = (e^o − t) / n, for counts t >= 0 whose rate is e^o.

    The negative log-likelihood of Poisson counts without ln t!, which depends on no weight, as PyTorch's
    `PoissonNLLLoss`. `predict` returns the rate. Beyond o = 88.7 (float32) or 709.7 (float64) e^o overflows:
    E and e are infinite, so that training stops with `Diverged`, and NumPy warns of the overflow.
    `predict` stays finite: it returns at most the rate e^88 or e^709. (McCullagh, Nelder: Generalized
    linear models, 1989.)

    >>> import numpy as np
    >>> o, t = np.asarray([[0.0]]), np.asarray([[3.0]])
    >>> poisson.value(o, t, xp=np).tolist(), poisson.error(o, t, xp=np).tolist()
    ([1.0], [[-2.0]])
    """

    targets = "counts"

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = (1/n) Σ_k [e^(o_k) − t_k o_k]."""
        counted = t * xp.minimum(o, 1000)  # where e^o is infinite, t o could be too, and ∞ − ∞ is NaN
        return xp.sum(xp.exp(o) - counted, axis=-1) / o.shape[-1]

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = (e^o − t) / n."""
        return (xp.exp(o) - t) / o.shape[-1]

    def link(self, o: Array, *, xp: Namespace) -> Array:
        """The rate e^o."""
        return exp(o, xp=xp)


class Hinge(Loss):
    """E = (1/n) Σ_k max(0, 1 − t_k o_k) for targets −1 or 1, as in a support vector machine.

    The sign of an output is the decision; outputs with t o >= 1 add nothing. The error is −t / n where
    t o < 1; at the kink t o = 1, 0 is chosen. (Cortes, Vapnik: Support-vector networks, 1995.)

    >>> import numpy as np
    >>> o, t = np.asarray([[0.5], [1.0], [2.0]]), np.asarray([[1.0], [1.0], [-1.0]])
    >>> hinge.value(o, t, xp=np).tolist(), hinge.error(o, t, xp=np).tolist()
    ([0.5, 0.0, 3.0], [[-1.0], [0.0], [1.0]])
    """

    targets = "signs"

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = (1/n) Σ_k max(1 − t_k o_k, 0)."""
        return xp.sum(xp.maximum(1 - t * o, 0), axis=-1) / o.shape[-1]

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = −t / n where t o < 1, else 0."""
        return xp.where(t * o < 1, -t, 0) / o.shape[-1]


half_squared_error = HalfSquaredError()
squared_error = SquaredError()
mean_squared_error = MeanSquaredError()
mean_absolute_error = MeanAbsoluteError()
huber = Huber()
quantile = Quantile()
poisson = Poisson()
hinge = Hinge()
