"""The interface of update rules, and what they share: the rate of a step, and checks of settings."""

from collections.abc import Mapping
from inspect import signature
from math import isfinite
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ..arrays import Array, Namespace
from ..errors import BackpropError
from ..number import check_not_negative, check_positive, is_number, number
from ..printed import short
from ..schedules import Plateau

Rate = Any  # a number, a mapping of layer or block names to numbers, or a schedule


class RuleState(NamedTuple):
    """What a rule carries from step to step.

    Attributes:
        count: the number of updates made, an integer array: 0-d, or one per weight after thawing.
        rates: one rate per learning weight if rates differ by block, else ().
        moments: vectors over the learning weights, such as Adam's m and v.
        decays: one weight decay per learning weight if decays differ by block, else ().
        plateau: the rate, the lowest loss and the epochs since it, if a rate is a `schedules.Plateau`;
            else ().
    """

    count: Array
    rates: Array
    moments: tuple[Array, ...]
    decays: Array = ()
    plateau: Array = ()

    def __repr__(self) -> str:
        return short(self)


@runtime_checkable
class Update(Protocol):
    """What the learner needs of a rule.

    A rule whose weight decay may differ by block has a class attribute numbers = ("rate", "decay") and
    takes its decay from `decay_now`. `GradientDescent` is a short example.
    """

    @property
    def moments(self) -> int:
        """The number of moment vectors that it keeps."""

    @property
    def rate(self) -> Rate:
        """A number, a mapping of names to numbers, or a schedule."""

    def scalars(self, state: RuleState, *, dtype: Any, xp: Namespace) -> tuple[Array, ...]:
        """What `element` needs in this step besides the vectors, in the dtype of the weights."""

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights and moments of a slice.

        Args:
            g: ∂E/∂w of the slice.
            w: the weights of the slice; consumed.
            rest: the moments of the slice, consumed; then the scalars.
            xp: the namespace of the arrays.
        """


def rate_now(rate: Rate, state: RuleState, *, dtype: Any, xp: Namespace) -> Array:
    """The rate of this step: a number, a 0-d array, or one per learning weight."""
    if isinstance(rate, Plateau):
        return state.plateau[0]
    if callable(rate):
        found = rate(xp.astype(state.count, dtype), xp=xp)
        _check_now(found, state.count)
        return found
    return number(rate, xp=xp) if isinstance(state.rates, tuple) else state.rates


def decay_now(decay: Any, state: RuleState, *, xp: Namespace) -> Array:
    """The weight decay: a number, or one per learning weight."""
    return number(decay, xp=xp) if isinstance(state.decays, tuple) else state.decays


def _check_now(now: Any, count: Array) -> None:
    """Check what a schedule returned, as far as that is known without reading an array."""
    shape = getattr(now, "shape", None)
    if not (is_number(now) and isfinite(now)) and shape not in ((), tuple(count.shape)):
        got = repr(now) if shape is None else f"an array of shape {tuple(shape)}"
        msg = f"a schedule must return a finite number or a 0-d array, the rate; got {got}"
        raise BackpropError(msg)


def check_rate(rate: Rate) -> None:
    """Check that constant rates are positive finite numbers, and that a schedule takes what it is given."""
    if isinstance(rate, Plateau):
        return
    if callable(rate):
        _check_schedule(rate)
    constants = rate.values() if isinstance(rate, Mapping) else () if callable(rate) else (rate,)
    for each in constants:
        check_positive(each, "a rate", "0.1")


def _check_schedule(rate: Any) -> None:
    try:
        signature(rate).bind(0, xp=None)
    except TypeError as error:
        msg = f"a schedule of rates must be a function rate(count, *, xp), got {rate!r}: {error}"
        raise BackpropError(msg) from error
    except ValueError:  # a callable without a signature
        pass


def check_beta(beta: Any, name: str = "beta") -> None:
    """Check that a decay factor is in [0, 1)."""
    if not (is_number(beta) and 0 <= beta < 1):
        msg = f"{name} must be a number with 0 <= {name} < 1, such as 0.9, got {beta!r}"
        raise BackpropError(msg)


def check_epsilon(rule: Any) -> None:
    """Check that a rule's ε is a positive finite number."""
    check_positive(rule.epsilon, f"{type(rule).__name__}'s epsilon", "1e-8")


def check_decay(decay: Any, what: str = "the weight decay of a rule") -> None:
    """Check that a decay is a finite number, 0 or more."""
    check_not_negative(decay, what)
