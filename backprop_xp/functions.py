"""Functions that activations, losses and rules share. They never overflow."""

from .arrays import Array, Namespace


def sigmoid(x: Array, *, xp: Namespace) -> Array:
    """σ(x) = 1 / (1 + e^(−x)), computed as e^x / (1 + e^x) for x < 0, so that nothing overflows.

    >>> import numpy as np
    >>> sigmoid(np.asarray([0.0, -1000.0]), xp=np).tolist()
    [0.5, 0.0]
    """
    z = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, z) / (1 + z)


def sign(x: Array, *, xp: Namespace) -> Array:
    """−1, 0 or 1, and NaN where x is: in comparisons, which run on fractions and in scans of single numbers.

    >>> import numpy as np
    >>> sign(np.asarray([-3.0, 0.0, 0.5]), xp=np).tolist()
    [-1.0, 0.0, 1.0]
    """
    return xp.where(x > 0, 1, xp.where(x < 0, -1, x))


def softmax(x: Array, *, xp: Namespace) -> Array:
    """e^(x_k) / Σ_j e^(x_j) over the last axis; the largest x is subtracted first to avoid overflow.

    >>> import numpy as np
    >>> softmax(np.asarray([[1000.0, 1000.0]]), xp=np).tolist()
    [[0.5, 0.5]]
    """
    z = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return z / xp.sum(z, axis=-1, keepdims=True)
