"""Gradient descent, with bounds on the weights, and momentum."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ..arrays import Array, Namespace
from ..errors import BackpropError
from ..number import is_number, number, read_text
from .rule import Rate, RuleState, check_beta, check_rate, rate_now


def bounded(old: Array, new: Array, limit: Any, floor: Any, *, xp: Namespace) -> Array:
    """The new weights clipped to |w| <= limit, and kept out of |w| < floor.

    A weight whose |w| would fall below the floor stops at the floor. If it was at the floor already, it
    jumps to the floor of the other sign, so that weights can change their sign. Zero counts as negative.
    (The article "backpropagation further backwards" and its program FloatNeuralNet.)

    Args:
        old: the weights before the update.
        new: the weights after it, not yet bounded.
        limit: the largest |w|; None for none.
        floor: the smallest |w|; None for none.
        xp: the namespace of the arrays.

    >>> import numpy as np
    >>> old, new = np.asarray([0.5, 0.25, 0.5]), np.asarray([0.125, 0.125, 2.0])
    >>> bounded(old, new, 1, 0.25, xp=np).tolist()
    [0.25, -0.25, 1.0]
    """
    limit, floor = number(limit, xp=xp), number(floor, xp=xp)
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
        rate: η, a number, or text such as "1/100", which the exact backend keeps exact; or rates by layer,
            block or pattern, such as {"dense1": 0.02, "dense2": 0.01}; or a schedule `rate(count, *, xp)`,
            where count is the number of updates made, a 0-d array in the dtype of w.
        limit: weights are clipped to |w| <= limit after each update.
        floor: weights are kept out of |w| < floor, see `bounded`.

    Raises:
        BackpropError: a rate that is not positive and finite, or floor and limit without
            0 <= floor < limit.

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
        read_text(self, "rate", "limit", "floor")
        check_rate(self.rate)
        for bound in (self.floor, self.limit):
            if bound is not None and not is_number(bound):
                msg = f"a floor or limit of weights must be a number, or None for none, got {bound!r}"
                raise BackpropError(msg)
        low = 0 if self.floor is None else self.floor
        if not (low >= 0 and (self.limit is None or self.limit > low)):
            msg = f"weights need 0 <= floor < limit, got floor={self.floor!r}, limit={self.limit!r}"
            raise BackpropError(msg)

    def scalars(self, state: RuleState, *, dtype: Any, xp: Namespace) -> tuple[Array, ...]:
        """The rate."""
        return (rate_now(self.rate, state, dtype=dtype, xp=xp),)

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights w − η g, within their bounds."""
        (rate,) = rest
        if self.limit is None and self.floor is None:
            w -= rate * g
            return (w,)
        return (bounded(w, w - rate * g, self.limit, self.floor, xp=xp),)


@dataclass(frozen=True)
class Momentum:
    """v ← β v + g, w ← w − η v; with Nesterov's correction w ← w − η (g + β v).

    (Polyak: Some methods of speeding up the convergence of iteration methods, 1964; Nesterov's in
    the form of Sutskever et al., 2013.) Libraries differ in where η is applied: here, as in Torch, it
    multiplies v, not g.

    Args:
        rate: η, as for GradientDescent.
        beta: β, 0 <= β < 1.
        nesterov: use Nesterov's correction.

    Raises:
        BackpropError: a rate that is not positive and finite, or a β outside [0, 1).

    >>> import numpy as np
    >>> g, w, v = np.asarray([1.0]), np.asarray([1.0]), np.asarray([2.0])
    >>> [a.tolist() for a in Momentum(0.1, 0.5).element(g, w, v, 0.1, xp=np)]
    [[0.8], [2.0]]
    """

    rate: Rate = 0.1
    beta: Any = 0.9
    nesterov: bool = False
    moments: ClassVar[int] = 1

    def __post_init__(self) -> None:
        read_text(self, "rate", "beta")
        check_rate(self.rate)
        check_beta(self.beta)

    def scalars(self, state: RuleState, *, dtype: Any, xp: Namespace) -> tuple[Array, ...]:
        """The rate."""
        return (rate_now(self.rate, state, dtype=dtype, xp=xp),)

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights and velocity."""
        (v, rate), beta = rest, number(self.beta, xp=xp)
        v *= beta
        v += g
        w -= rate * (g + beta * v if self.nesterov else v)
        return w, v
