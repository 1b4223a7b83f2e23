"""Losses: the value E of each sample and its error e = ∂E/∂o.

A loss receives the net's output o, shape (batch, units), and targets t. It reduces over the units of
a sample; the learner reduces over the batch. `value` gives one number per sample, shape (batch,);
`error` the derivative, shape (batch, units). `link` turns the output into what `predict` returns:
for the losses on net input (logits) that is probabilities. `ALL` lists the losses; tests run over
that list.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from .arrays import Array, Namespace
from .functions import sigmoid, softmax

Targets = Literal["numbers", "probabilities", "distribution"]


@dataclass(frozen=True)
class Loss(ABC):
    """The base: targets are numbers, and `link` is the identity.

    Attributes:
        targets: 'numbers' (any finite number per unit), 'probabilities' (each in [0, 1]) or
            'distribution' (each in [0, 1]; integer labels of shape (batch,) are also accepted).
    """

    targets: ClassVar[Targets] = "numbers"

    def encode(self, t: Array, o: Array, *, xp: Namespace) -> Array:
        """Targets as numbers, shape (batch, units): integer labels become one-hot rows."""
        if t.ndim == o.ndim:
            return t
        t = t if t.dtype == xp.int32 else xp.astype(t, xp.int32)
        k = xp.arange(o.shape[-1], dtype=xp.int32, device=getattr(o, "device", None))
        return xp.astype(xp.expand_dims(t, axis=-1) == k, o.dtype)

    @abstractmethod
    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The loss E of each sample, shape (batch,)."""

    @abstractmethod
    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = ∂E/∂o of each sample, shape (batch, units)."""

    def link(self, o: Array, *, xp: Namespace) -> Array:
        """What `predict` returns for the output o, shape (batch, units)."""
        return o


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


class BinaryCrossEntropy(Loss):
    """E = −(1/n) Σ_k t_k ln o_k + (1 − t_k) ln(1 − o_k), for outputs o that are probabilities.

    A term whose factor is 0 counts as 0, so t = 0 at o = 0 gives no NaN. For a net that ends in a
    sigmoid, prefer `sigmoid_cross_entropy` on the net input, which keeps its digits in every range.

    >>> import numpy as np
    >>> binary_cross_entropy.error(np.asarray([[0.5]]), np.asarray([[1.0]]), xp=np).tolist()
    [[-2.0]]
    """

    targets = "probabilities"

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = −(1/n) Σ_k t_k ln o_k + (1 − t_k) ln(1 − o_k)."""
        yes = t * xp.log(xp.where(t == 0, 1, o))
        no = (1 - t) * xp.log(xp.where(t == 1, 1, 1 - o))
        return -xp.sum(yes + no, axis=-1) / o.shape[-1]

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = ((1 − t) / (1 − o) − t / o) / n."""
        yes = t / xp.where(t == 0, 1, o)
        no = (1 - t) / xp.where(t == 1, 1, 1 - o)
        return (no - yes) / o.shape[-1]


class CategoricalCrossEntropy(Loss):
    """E = −Σ_k t_k ln o_k for outputs o that are probabilities; a term with t_k = 0 counts as 0.

    For a net that ends in a softmax, prefer `softmax_cross_entropy` on the net input, which keeps its
    digits in every range.

    >>> import numpy as np
    >>> categorical_cross_entropy.error(np.asarray([[0.5, 0.5]]), np.asarray([[1.0, 0.0]]), xp=np).tolist()
    [[-2.0, -0.0]]
    """

    targets = "distribution"

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = −Σ_k t_k ln o_k."""
        return -xp.sum(t * xp.log(xp.where(t == 0, 1, o)), axis=-1)

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = −t / o."""
        return -t / xp.where(t == 0, 1, o)


class SigmoidCrossEntropy(Loss):
    """Binary cross-entropy of σ(o), from the net input (logits) o; no overflow and no ln 0.

    E = (1/n) Σ_k max(o_k, 0) − o_k t_k + ln(1 + e^(−|o_k|)), e = (σ(o) − t) / n.

    >>> import numpy as np
    >>> sigmoid_cross_entropy.error(np.asarray([[0.0]]), np.asarray([[1.0]]), xp=np).tolist()
    [[-0.5]]
    """

    targets = "probabilities"

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = (1/n) Σ_k max(o_k, 0) − o_k t_k + ln(1 + e^(−|o_k|))."""
        rest = xp.log1p(xp.exp(-xp.abs(o)))
        return xp.sum(xp.maximum(o, 0) - o * t + rest, axis=-1) / o.shape[-1]

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = (σ(o) − t) / n."""
        return (sigmoid(o, xp=xp) - t) / o.shape[-1]

    def link(self, o: Array, *, xp: Namespace) -> Array:
        """The probabilities σ(o)."""
        return sigmoid(o, xp=xp)


class SoftmaxCrossEntropy(Loss):
    """Categorical cross-entropy of softmax(o), from the net input (logits) o; no overflow.

    E = Σ_k t_k (ln Σ_j e^(o_j) − o_k), e = softmax(o) Σ_k t_k − t.

    >>> import numpy as np
    >>> softmax_cross_entropy.error(np.asarray([[0.0, 0.0]]), np.asarray([[1.0, 0.0]]), xp=np).tolist()
    [[-0.5, 0.5]]
    """

    targets = "distribution"

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = Σ_k t_k (ln Σ_j e^(o_j) − o_k)."""
        z = o - xp.max(o, axis=-1, keepdims=True)
        log_sum = xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True))
        return xp.sum(t * (log_sum - z), axis=-1)

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = softmax(o) Σ_k t_k − t."""
        return softmax(o, xp=xp) * xp.sum(t, axis=-1, keepdims=True) - t

    def link(self, o: Array, *, xp: Namespace) -> Array:
        """The probabilities softmax(o)."""
        return softmax(o, xp=xp)


half_squared_error = HalfSquaredError()
squared_error = SquaredError()
mean_squared_error = MeanSquaredError()
mean_absolute_error = MeanAbsoluteError()
binary_cross_entropy = BinaryCrossEntropy()
categorical_cross_entropy = CategoricalCrossEntropy()
sigmoid_cross_entropy = SigmoidCrossEntropy()
softmax_cross_entropy = SoftmaxCrossEntropy()

ALL: dict[str, Loss] = {
    "half_squared_error": half_squared_error,
    "squared_error": squared_error,
    "mean_squared_error": mean_squared_error,
    "mean_absolute_error": mean_absolute_error,
    "binary_cross_entropy": binary_cross_entropy,
    "categorical_cross_entropy": categorical_cross_entropy,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
    "softmax_cross_entropy": softmax_cross_entropy,
}
