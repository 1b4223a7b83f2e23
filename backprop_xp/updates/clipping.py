"""Bounds on the whole gradient, before the rules see it."""

from dataclasses import dataclass
from math import inf
from typing import Any, Protocol, runtime_checkable

from ..arrays import Array, Namespace
from ..errors import BackpropError
from ..number import check_positive, is_number, number, read_text


@runtime_checkable
class Clip(Protocol):
    """What the learner needs to know of a bound on the gradient."""

    def __call__(self, g: tuple[Array, ...], *, xp: Namespace) -> tuple[Array, ...]:
        """The whole gradient, in one vector or many blocks, held within bounds."""
        ...


@dataclass(frozen=True)
class ClipByNorm:
    """g ← g · min(1, c / ‖g‖), over the whole gradient (Pascanu et al., 2013).

    With r the larger of c and the largest |g| the norm is r ‖g / r‖, whose squares neither overflow nor
    vanish: any finite gradient is shortened to the length c, and one of zeros or within the bound stays,
    bit for bit. (Torch divides by ‖g‖ + 1e-6.)

    Args:
        limit: c, the largest norm.

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
        """What every number of the gradient is multiplied by, min(1, c / ‖g‖); 0-d."""
        largest: Any = self.limit
        for a in g:
            largest = xp.maximum(xp.max(xp.abs(a)), largest)
        squares = [xp.sum(xp.square(a / largest)) for a in g]
        norm, limit = xp.sqrt(sum(squares[1:], start=squares[0])), self.limit / largest
        return limit / xp.maximum(norm, limit)

    def __call__(self, g: tuple[Array, ...], *, xp: Namespace) -> tuple[Array, ...]:
        """The gradient, shortened where it is longer than the limit."""
        factor = self.factor(g, xp=xp)
        return tuple(a * factor for a in g)


@dataclass(frozen=True)
class ClipByValue:
    """g ← min(max(g, −c), c), each number by itself (Torch's clip_grad_value_).

    Args:
        limit: c, a number, or its text such as "1/100", exact on fractions.

    >>> import numpy as np
    >>> ClipByValue(1)((np.asarray([3.0, 0.5]), np.asarray([-4.0])), xp=np)
    (array([1. , 0.5]), array([-1.]))
    """

    limit: Any

    def __post_init__(self) -> None:
        read_text(self, "limit")
        check_positive(self.limit, "the largest value of a gradient", "1")

    def __call__(self, g: tuple[Array, ...], *, xp: Namespace) -> tuple[Array, ...]:
        """The gradient, cut where it is outside of the limit."""
        limit = number(self.limit, xp=xp)
        return tuple(xp.minimum(xp.maximum(a, -limit), limit) for a in g)
