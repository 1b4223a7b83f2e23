"""Gradient clipping: bounds on the whole gradient, before the update rules use it."""

from dataclasses import dataclass
from math import inf
from typing import Any, Protocol, runtime_checkable

from ..arrays import Array, Namespace
from ..errors import BackpropError
from ..number import check_positive, is_number, number, read_text


@runtime_checkable
class Clip(Protocol):
    """What the learner needs of a bound on the gradient."""

    def __call__(self, g: tuple[Array, ...], *, xp: Namespace) -> tuple[Array, ...]:
        """The whole gradient, in one vector or many blocks, within the bound."""
        ...


@dataclass(frozen=True)
class ClipByNorm:
    """g ← g · min(1, c / ‖g‖), over the whole gradient (Pascanu et al., 2013).

    The norm is computed as r ‖g / r‖, r being the larger of c and the largest |g|, so that no square
    overflows or underflows: any longer finite gradient is scaled to the norm c, and one within the bound
    (also one of zeros) stays the same, bit for bit. (Torch divides by ‖g‖ + 1e-6.)

    Args:
        limit: c, the largest norm.

    Raises:
        BackpropError: limit is not a positive finite number.

    >>> import numpy as np
    >>> ClipByNorm(1)((np.asarray([3.0]), np.asarray([4.0])), xp=np)
    (array([0.6]), array([0.8]))
    """

    limit: float

    def __post_init__(self) -> None:
        if not is_number(self.limit) or not 0 < self.limit < inf:
            msg = f"the largest norm of a gradient must be a positive number, got {self.limit!r}"
            raise BackpropError(msg)

    def factor(self, g: tuple[Array, ...], *, xp: Namespace) -> Array:
        """The factor min(1, c / ‖g‖) of the whole gradient, 0-d."""
        largest: Any = self.limit
        for a in g:
            largest = xp.maximum(xp.max(xp.abs(a)), largest)
        squares = [xp.sum(xp.square(a / largest)) for a in g]
        norm, limit = xp.sqrt(sum(squares[1:], start=squares[0])), self.limit / largest
        return limit / xp.maximum(norm, limit)

    def __call__(self, g: tuple[Array, ...], *, xp: Namespace) -> tuple[Array, ...]:
        """The gradient, scaled down if its norm is larger than the limit."""
        factor = self.factor(g, xp=xp)
        return tuple(a * factor for a in g)


@dataclass(frozen=True)
class ClipByValue:
    """g ← min(max(g, −c), c), each number by itself (Torch's clip_grad_value_).

    Args:
        limit: c, a number, or text such as "1/100", which the exact backend keeps exact.

    Raises:
        BackpropError: limit is not a positive finite number.

    >>> import numpy as np
    >>> ClipByValue(1)((np.asarray([3.0, 0.5]), np.asarray([-4.0])), xp=np)
    (array([1. , 0.5]), array([-1.]))
    """

    limit: Any

    def __post_init__(self) -> None:
        read_text(self, "limit")
        check_positive(self.limit, "the largest value of a gradient", "1")

    def __call__(self, g: tuple[Array, ...], *, xp: Namespace) -> tuple[Array, ...]:
        """The gradient, each number clipped to the limit."""
        limit = number(self.limit, xp=xp)
        return tuple(xp.minimum(xp.maximum(a, -limit), limit) for a in g)
