"""The names every room shares: what an array is here, and the errors the library raises.

An array is whatever the caller's library calls one. Formulas receive the library's namespace as
`xp` and use the Python Array API standard (2024.12) alone: https://data-apis.org/array-api/.
"""

from typing import Any

Array = Any  # the standard has no protocol for arrays yet
Namespace = Any
Shape = tuple[int, ...]


class BackpropError(ValueError):
    """What the caller gave cannot be used; the message says what was expected and what to write."""


class BackendUnavailable(BackpropError, ImportError):
    """The array library or the device asked for is not on this machine."""


class Diverged(BackpropError):
    """Training produced a loss that is not finite.

    Attributes:
        w: the weights last seen with a finite loss.
        s: the state that belongs to them.
    """

    def __init__(self, message: str, w: Array, s: Any) -> None:
        super().__init__(message)
        self.w = w
        self.s = s


def listed(names: Any) -> str:
    """Names as a sentence lists them.

    >>> listed(["relu", "tanh"])
    "'relu', 'tanh'"
    """
    return ", ".join(repr(name) for name in names)


def sigmoid(x: Array, *, xp: Namespace) -> Array:
    """The logistic function 1 / (1 + e^(−x)), for x < 0 as e^x / (1 + e^x); nothing overflows.

    >>> import numpy as np
    >>> sigmoid(np.asarray([0.0, -1000.0]), xp=np).tolist()
    [0.5, 0.0]
    """
    z = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, z) / (1 + z)


def softmax(x: Array, *, xp: Namespace) -> Array:
    """e^(x_k) / Σ_j e^(x_j) over the last axis, shifted by the largest x; nothing overflows.

    >>> import numpy as np
    >>> softmax(np.asarray([[1000.0, 1000.0]]), xp=np).tolist()
    [[0.5, 0.5]]
    """
    z = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return z / xp.sum(z, axis=-1, keepdims=True)
