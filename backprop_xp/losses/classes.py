"""Losses on probabilities, and on classes: labels or a distribution over them."""

from dataclasses import dataclass

from ..arrays import Array, Namespace
from ..functions import exp, sigmoid, softmax
from .base import DistributionLoss, Loss


class BinaryCrossEntropy(Loss):
    """E = −(1/n) Σ_k [t_k ln o_k + (1 − t_k) ln(1 − o_k)], for outputs o that are probabilities.

    A term whose factor is 0 counts as 0, so t = 0 at o = 0 gives no NaN. For a net that ends in a
    sigmoid, prefer `sigmoid_cross_entropy` on the net input, which loses no digits in any range.

    >>> import numpy as np
    >>> binary_cross_entropy.error(np.asarray([[0.5]]), np.asarray([[1.0]]), xp=np).tolist()
    [[-2.0]]
    """

    targets = "probabilities"

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = −(1/n) Σ_k [t_k ln o_k + (1 − t_k) ln(1 − o_k)]."""
        yes = t * xp.log(xp.where(t == 0, 1, o))
        no = (1 - t) * xp.log(xp.where(t == 1, 1, 1 - o))
        return -xp.sum(yes + no, axis=-1) / o.shape[-1]

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = ((1 − t) / (1 − o) − t / o) / n."""
        yes = t / xp.where(t == 0, 1, o)
        no = (1 - t) / xp.where(t == 1, 1, 1 - o)
        return (no - yes) / o.shape[-1]


class SigmoidCrossEntropy(Loss):
    """Binary cross-entropy of σ(o), from the net input (logits) o; no overflow and no ln 0.

    E = (1/n) Σ_k [max(o_k, 0) − o_k t_k + ln(1 + e^(−|o_k|))], e = (σ(o) − t) / n.

    >>> import numpy as np
    >>> sigmoid_cross_entropy.error(np.asarray([[0.0]]), np.asarray([[1.0]]), xp=np).tolist()
    [[-0.5]]
    """

    targets = "probabilities"

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = (1/n) Σ_k [max(o_k, 0) − o_k t_k + ln(1 + e^(−|o_k|))]."""
        rest = xp.log1p(xp.exp(-xp.abs(o)))
        return xp.sum(xp.maximum(o, 0) - o * t + rest, axis=-1) / o.shape[-1]

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = (σ(o) − t) / n."""
        return (sigmoid(o, xp=xp) - t) / o.shape[-1]

    def link(self, o: Array, *, xp: Namespace) -> Array:
        """The probabilities σ(o)."""
        return sigmoid(o, xp=xp)


@dataclass(frozen=True)
class CategoricalCrossEntropy(DistributionLoss):
    """E = −Σ_k t_k ln o_k for outputs o that are probabilities; a term with t_k = 0 counts as 0.

    For a net that ends in a softmax, prefer `softmax_cross_entropy` on the net input, which loses no
    digits in any range. The settings are those of every `DistributionLoss`.

    >>> import numpy as np
    >>> categorical_cross_entropy.error(np.asarray([[0.5, 0.5]]), np.asarray([[1.0, 0.0]]), xp=np).tolist()
    [[-2.0, -0.0]]
    """

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = −Σ_k t_k ln o_k."""
        return -xp.sum(t * xp.log(xp.where(t == 0, 1, o)), axis=-1)

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = −t / o."""
        return -t / xp.where(t == 0, 1, o)


@dataclass(frozen=True)
class SoftmaxCrossEntropy(DistributionLoss):
    """Categorical cross-entropy of softmax(o), from the net input (logits) o; no overflow.

    E = Σ_k t_k (ln Σ_j e^(o_j) − o_k), e = softmax(o) Σ_k t_k − t. The settings are those of every
    `DistributionLoss`.

    >>> import numpy as np
    >>> softmax_cross_entropy.error(np.asarray([[0.0, 0.0]]), np.asarray([[1.0, 0.0]]), xp=np).tolist()
    [[-0.5, 0.5]]
    """

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


@dataclass(frozen=True)
class NegativeLogLikelihood(DistributionLoss):
    """E = −Σ_k t_k o_k, e = −t, for outputs o that are log-probabilities, as from a log-softmax.

    `predict` returns the probabilities e^o. The settings are those of every `DistributionLoss`.

    >>> import numpy as np
    >>> o, t = np.log(np.asarray([[0.25, 0.75]])), np.asarray([[0.0, 1.0]])
    >>> negative_log_likelihood.value(o, t, xp=np).round(6).tolist()
    [0.287682]
    """

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = −Σ_k t_k o_k."""
        return -xp.sum(t * o, axis=-1)

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = −t."""
        return -t

    def link(self, o: Array, *, xp: Namespace) -> Array:
        """The probabilities e^o."""
        return exp(o, xp=xp)


binary_cross_entropy = BinaryCrossEntropy()
sigmoid_cross_entropy = SigmoidCrossEntropy()
categorical_cross_entropy = CategoricalCrossEntropy()
softmax_cross_entropy = SoftmaxCrossEntropy()
negative_log_likelihood = NegativeLogLikelihood()
