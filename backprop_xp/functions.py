"""Functions that activations and losses share and the standard lacks. They never overflow."""

from .arrays import Array, Namespace


def exp(x: Array, *, xp: Namespace) -> Array:
    """e^x, at most e^88 in float32 and e^709 in float64, just below their largest numbers.

    >>> import numpy as np
    >>> exp(np.asarray([0.0, 1000.0]), xp=np).tolist()
    [1.0, 8.218407461554972e+307]
    """
    return xp.exp(xp.minimum(x, 88 if x.dtype == xp.float32 else 709))


def sigmoid(x: Array, *, xp: Namespace) -> Array:
    """σ(x) = 1 / (1 + e^(−x)), computed as e^x / (1 + e^x) for x < 0, so that nothing overflows.

    >>> import numpy as np
    >>> sigmoid(np.asarray([0.0, -1000.0]), xp=np).tolist()
    [0.5, 0.0]
    """
    z = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, z) / (1 + z)


def softmax(x: Array, *, xp: Namespace) -> Array:
    """e^(x_k) / Σ_j e^(x_j) over the last axis; the largest x is subtracted first to avoid overflow.

    >>> import numpy as np
    >>> softmax(np.asarray([[1000.0, 1000.0]]), xp=np).tolist()
    [[0.5, 0.5]]
    """
    z = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return z / xp.sum(z, axis=-1, keepdims=True)
