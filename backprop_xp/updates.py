"""Update rules: what is done to the weights once the gradient is known.

A rule is two functions. `scalars` is called once a step and gives what is the same for many weights
(the rate, corrections); `element` is elementwise on any slice of the learning weights, so that it
can run on the whole vector, in blocks, or fused. `ALL` lists them: what is in the list is tested.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar, NamedTuple, Protocol

from .arrays import Array, BackpropError, Namespace

Rate = Any  # a number, a mapping of layer or block names to numbers, or a schedule


class RuleState(NamedTuple):
    """What a rule carries from step to step.

    Attributes:
        count: updates made, an integer array: 0-d, or one a weight after thawing.
        rates: one rate a learning weight where rates differ by layer, else ().
        moments: vectors over the learning weights.
    """

    count: Array
    rates: Array
    moments: tuple[Array, ...]


class Update(Protocol):
    """What the learner needs to know of a rule."""

    moments: ClassVar[int]

    @property
    def rate(self) -> Rate:
        """A number, a mapping of names to numbers, or a schedule."""
        ...

    def scalars(self, state: RuleState, *, xp: Namespace) -> tuple[Array, ...]:
        """What this step's `element` needs besides the vectors."""
        ...

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """New weights and moments for a slice of g, w, the moments, and the scalars."""
        ...


def check_rate(rate: Rate) -> None:
    """A constant rate is a positive finite number; a schedule is taken as it is."""
    if isinstance(rate, Mapping):
        for each in rate.values():
            check_rate(each)
    elif not callable(rate):
        ok = not isinstance(rate, (bool, str)) and isfinite(rate) and rate > 0
        if not ok:
            msg = f"a rate is a positive finite number such as 0.1, got {rate!r}"
            raise BackpropError(msg)


def bounded(old: Array, new: Array, limit: Any, floor: Any, *, xp: Namespace) -> Array:
    """The new weights held to |w| <= limit, and kept from |w| < floor.

    A weight that would fall below the floor stops there; one that stood at the floor already goes
    over to the other side, so that it can change its sign. Zero counts as standing on the negative
    side. (The article "backpropagation further backwards" and its program FloatNeuralNet.)
    """
    if limit is not None:
        new = xp.minimum(xp.maximum(new, -limit), limit)
    if floor is not None:
        side = xp.where(old > 0, xp.ones_like(old), -1)
        stop = xp.where(side * old > floor, side * floor, -side * floor)
        new = xp.where(side * new >= floor, new, stop)
    return new


@dataclass(frozen=True)
class GradientDescent:
    """w ← w − η g (Cauchy, 1847).

    Args:
        rate: η, a number; or one by layer or block name, such as {"dense1": 0.02, "dense2": 0.01};
            or a schedule `rate(count, *, xp)` of the updates made.
        limit: weights are held to |w| <= limit after each update.
        floor: weights are kept from |w| < floor.

    Raises:
        BackpropError: a rate that is not positive and finite, or limits that contradict.

    >>> import numpy as np
    >>> g, w = np.asarray([1.0, -2.0]), np.asarray([1.0, 1.0])
    >>> GradientDescent(0.5).element(g, w, 0.5, xp=np)[0].tolist()
    [0.5, 2.0]
    """

    rate: Rate = 0.1
    limit: Any = None
    floor: Any = None
    moments: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_rate(self.rate)
        low = 0 if self.floor is None else self.floor
        if not (low >= 0 and (self.limit is None or self.limit > low)):
            msg = f"weights need 0 <= floor < limit, got floor={self.floor!r}, limit={self.limit!r}"
            raise BackpropError(msg)

    def scalars(self, state: RuleState, *, xp: Namespace) -> tuple[Array, ...]:
        """The rate."""
        return (rate_now(self.rate, state, xp=xp),)

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights w − η g, within their bounds."""
        (rate,) = rest
        if self.limit is None and self.floor is None:
            w -= rate * g
            return (w,)
        return (bounded(w, w - rate * g, self.limit, self.floor, xp=xp),)


def rate_now(rate: Rate, state: RuleState, *, xp: Namespace) -> Array:
    """The rate of this step: a number, 0-d, or one a learning weight."""
    if isinstance(rate, Mapping):
        return state.rates
    return rate(state.count, xp=xp) if callable(rate) else rate


ALL: dict[str, type[Update]] = {"gradient_descent": GradientDescent}
