"""Penalties on the weights (regularization): what they add to the loss and to the gradient."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ..arrays import Array, Namespace
from ..functions import sign
from ..number import check_not_negative, number, read_text


@runtime_checkable
class Penalty(Protocol):
    """What the learner needs of a penalty on the weights."""

    def value(self, w: Array, *, xp: Namespace) -> Array:
        """What it adds to the objective, 0-d, for a part of the weights; reported losses are without it."""

    def gradient(self, w: Array, *, xp: Namespace) -> Array:
        """What it adds to ∂E/∂w, for a part of the weights."""


@dataclass(frozen=True)
class L1:
    """λ Σ |w|, which adds λ sign(w) to the gradient (Tibshirani: the lasso, 1996).

    At w = 0 it adds 0, one of its subgradients.

    Args:
        strength: λ, a number, or text such as "1/100", which the exact backend keeps exact.

    >>> import numpy as np
    >>> L1(0.5).gradient(np.asarray([2.0, 0.0, -4.0]), xp=np).tolist()
    [0.5, 0.0, -0.5]
    >>> float(L1(0.5).value(np.asarray([2.0, 0.0, -4.0]), xp=np))
    3.0
    """

    strength: Any = 0.01

    def __post_init__(self) -> None:
        read_text(self, "strength")
        check_not_negative(self.strength, "the strength of a penalty")

    def value(self, w: Array, *, xp: Namespace) -> Array:
        """λ Σ |w|."""
        return number(self.strength, xp=xp) * xp.sum(xp.abs(w))

    def gradient(self, w: Array, *, xp: Namespace) -> Array:
        """The term λ sign(w)."""
        return number(self.strength, xp=xp) * sign(w, xp=xp)


@dataclass(frozen=True)
class L2:
    """½ λ Σ w², which adds λ w to the gradient (Hoerl and Kennard: Ridge regression, 1970).

    Args:
        strength: λ, a number, or text such as "1/100", which the exact backend keeps exact.

    >>> import numpy as np
    >>> L2(0.5).gradient(np.asarray([2.0, -4.0]), xp=np).tolist()
    [1.0, -2.0]
    >>> float(L2(0.5).value(np.asarray([2.0, -4.0]), xp=np))
    5.0
    """

    strength: Any = 0.01

    def __post_init__(self) -> None:
        read_text(self, "strength")
        check_not_negative(self.strength, "the strength of a penalty")

    def value(self, w: Array, *, xp: Namespace) -> Array:
        """½ λ Σ w²."""
        return number(self.strength, xp=xp) * xp.sum(xp.square(w)) / 2

    def gradient(self, w: Array, *, xp: Namespace) -> Array:
        """The term λ w."""
        return number(self.strength, xp=xp) * w
