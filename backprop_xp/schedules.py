"""Learning-rate schedules: functions `rate(count, *, xp)` of the number of updates made.

The count has the dtype of the weights and is 0-d or, after thawing, one for each weight; the rate returned
is likewise. The count is exact up to 2²⁴ in float32 and 2⁵³ in float64; beyond, float32 rounds it to a
multiple of 2, 4, …, so that a change of the rate may come that many updates early or late. `Plateau` is
not a function of the count: it follows the loss of each epoch. `ALL` lists the schedules.

Schedules count updates, not epochs: multiply a number of epochs by the updates in each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi
from typing import Any

from .arrays import Array, Namespace, as_integer
from .errors import BackpropError
from .number import check_not_negative, check_positive, is_number, number, read_text


def check_steps(value: Any, what: str) -> int:
    """A number of updates as an int, if it is a positive integer."""
    steps = as_integer(value)
    if steps is None or steps < 1:
        msg = f"{what} must be a number of updates, a positive integer, got {value!r}"
        raise BackpropError(msg)
    return steps


def _set_steps(schedule: Any, name: str) -> None:
    object.__setattr__(schedule, name, check_steps(getattr(schedule, name), f"{name} of a schedule"))


def _half_cosine(x: Array, *, xp: Namespace) -> Array:
    """(1 − cos πx) / 2, from 0 to 1, as sin²(πx / 2), which keeps its digits near 0."""
    return xp.square(xp.sin(x * (pi / 2)))


@dataclass(frozen=True)
class Constant:
    """A constant rate.

    Args:
        rate: a number, or text such as "1/100", which the exact backend keeps exact.

    Raises:
        BackpropError: rate is not positive and finite.

    >>> import numpy as np
    >>> Constant(0.1)(np.asarray(7.0), xp=np)
    0.1
    """

    rate: Any = 0.1

    def __post_init__(self) -> None:
        read_text(self, "rate")
        check_positive(self.rate, "a rate", "0.1")

    def __call__(self, count: Array, *, xp: Namespace) -> Array:
        """The rate."""
        return number(self.rate, xp=xp)


@dataclass(frozen=True)
class Step:
    """The rate times factor^⌊count / step_size⌋ (Torch's StepLR).

    Args:
        rate: the first rate, as for `Constant`.
        step_size: the number of updates from one decay to the next.
        factor: the factor of each decay.

    Raises:
        BackpropError: a setting is not positive, or step_size is not an integer.

    >>> import numpy as np
    >>> [float(Step(0.5, 10, 0.5)(np.asarray(count), xp=np)) for count in (0.0, 9.0, 10.0, 25.0)]
    [0.5, 0.5, 0.25, 0.125]
    """

    rate: Any
    step_size: int
    factor: Any = 0.1

    def __post_init__(self) -> None:
        read_text(self, "rate", "factor")
        check_positive(self.rate, "a rate", "0.1")
        check_positive(self.factor, "the factor of a schedule", "0.1")
        _set_steps(self, "step_size")

    def __call__(self, count: Array, *, xp: Namespace) -> Array:
        """The rate after `count` updates."""
        return number(self.rate, xp=xp) * number(self.factor, xp=xp) ** (count // self.step_size)


@dataclass(frozen=True)
class Exponential:
    """The rate times factor^count, computed as e^(count ln factor) (Torch's ExponentialLR).

    Powers of a factor rounded to float32 would be off by 6 % after a million updates.

    Args:
        rate: the first rate.
        factor: the factor of each update.

    Raises:
        BackpropError: a setting is not positive and finite.

    >>> import numpy as np
    >>> round(float(Exponential(0.5, 0.9)(np.asarray(2.0), xp=np)), 6)
    0.405
    """

    rate: Any
    factor: Any

    def __post_init__(self) -> None:
        read_text(self, "rate", "factor")
        check_positive(self.rate, "a rate", "0.1")
        check_positive(self.factor, "the factor of a schedule", "0.999")

    def __call__(self, count: Array, *, xp: Namespace) -> Array:
        """The rate after `count` updates."""
        return number(self.rate, xp=xp) * xp.exp(count * log(self.factor))


@dataclass(frozen=True)
class Cosine:
    """From the rate down to `least` in `steps` updates along half a cosine; constant after that.

    least + (rate − least) (1 + cos(π count / steps)) / 2 (Loshchilov and Hutter: SGDR, 2017, without its
    restarts; Torch's CosineAnnealingLR).

    Args:
        rate: the first rate.
        steps: the number of updates until the rate is `least`.
        least: the last rate, 0 or more.

    Raises:
        BackpropError: a setting out of range.

    >>> import numpy as np
    >>> [round(float(Cosine(0.5, 10)(np.asarray(count), xp=np)), 6) for count in (0.0, 5.0, 10.0, 20.0)]
    [0.5, 0.25, 0.0, 0.0]
    """

    rate: Any
    steps: int
    least: Any = 0

    def __post_init__(self) -> None:
        read_text(self, "rate", "least")
        check_positive(self.rate, "a rate", "0.1")
        check_not_negative(self.least, "the least rate of a schedule")
        _set_steps(self, "steps")

    def __call__(self, count: Array, *, xp: Namespace) -> Array:
        """The rate after `count` updates."""
        least = number(self.least, xp=xp)
        left = xp.maximum(self.steps - count, 0) / self.steps
        return least + (number(self.rate, xp=xp) - least) * _half_cosine(left, xp=xp)


@dataclass(frozen=True)
class WarmUp:
    """A linear warm-up, then another schedule, which starts to count there.

    During the warm-up the rate is (count + 1) / steps of the other schedule's first rate: the first update
    has 1 / steps of it, and the last has all of it (Goyal et al.: Accurate, large minibatch SGD, 2017).

    Args:
        steps: the number of updates of the warm-up.
        then: the schedule that follows, or a number for a constant rate.

    Raises:
        BackpropError: steps is not a positive integer, or then is neither of the two (or a `Plateau`).

    >>> import numpy as np
    >>> warm = WarmUp(4, Step(0.5, 10, 0.5))
    >>> [float(warm(np.asarray(count), xp=np)) for count in (0.0, 1.0, 3.0, 4.0, 14.0)]
    [0.125, 0.25, 0.5, 0.5, 0.25]
    """

    steps: int
    then: Any

    def __post_init__(self) -> None:
        _set_steps(self, "steps")
        read_text(self, "then")
        if isinstance(self.then, Plateau) or not callable(self.then):
            if not is_number(self.then):
                msg = f"a warm-up needs a schedule rate(count, *, xp) or a number after it, got {self.then!r}"
                raise BackpropError(msg)
            check_positive(self.then, "a rate", "0.1")

    def __call__(self, count: Array, *, xp: Namespace) -> Array:
        """The rate after `count` updates."""
        then = self.then if callable(self.then) else Constant(self.then)
        share = xp.minimum(count + 1, self.steps) / self.steps
        return then(xp.maximum(count - self.steps, 0), xp=xp) * share


@dataclass(frozen=True)
class OneCycle:
    """From rate / div_factor up to the rate, then down to a very small one; each way along half a cosine.

    (Smith and Topin: Super-convergence, 2019; Torch's OneCycleLR with its cosine, two phases and
    cycle_momentum=False.) After `steps` updates the last rate stays.

    Args:
        rate: the largest rate.
        steps: the number of updates in all.
        pct_start: the share of the updates in which the rate grows.
        div_factor: the first rate is rate / div_factor.
        final_div_factor: the last rate is rate / div_factor / final_div_factor.

    Raises:
        BackpropError: a setting out of range.

    >>> import numpy as np
    >>> cycle = OneCycle(1, 11, pct_start=5 / 11, div_factor=10, final_div_factor=10)
    >>> [round(float(cycle(np.asarray(count), xp=np)), 6) for count in (0.0, 2.0, 4.0, 7.0, 10.0, 99.0)]
    [0.1, 0.55, 1.0, 0.505, 0.01, 0.01]
    """

    rate: Any
    steps: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        read_text(self, "rate")
        check_positive(self.rate, "a rate", "0.1")
        check_positive(self.div_factor, "div_factor", "25")
        check_positive(self.final_div_factor, "final_div_factor", "10000")
        _set_steps(self, "steps")
        share = self.pct_start
        if not is_number(share) or not 0 < share < 1 or not self.steps * share > 1:
            msg = f"pct_start must be a share of more than one of the {self.steps} updates, got {share!r}"
            raise BackpropError(msg)

    def __call__(self, count: Array, *, xp: Namespace) -> Array:
        """The rate after `count` updates."""
        top, last = self.steps * self.pct_start - 1, self.steps - 1
        rate = number(self.rate, xp=xp)
        first, least = rate / self.div_factor, rate / self.div_factor / self.final_div_factor
        up = first + (rate - first) * _half_cosine(xp.minimum(count, top) / top, xp=xp)
        left = (last - xp.minimum(xp.maximum(count, top), last)) / (last - top)
        return xp.where(count <= top, up, least + (rate - least) * _half_cosine(left, xp=xp))


@dataclass(frozen=True)
class Plateau:
    """Multiply the rate by a factor when the loss has had no new minimum for `patience` + 1 epochs in a row.

    The loss is compared after each epoch of `bp.fit` or `bp.train.epochs`: the validation loss, if there
    are validation data, else the training loss. (Torch's ReduceLROnPlateau, with threshold=0.) In a loop
    of your own call `learner.observe(s, loss)`. All groups that use a Plateau share one.

    The rate, the lowest loss and the number of epochs since are part of the state: a new rate compiles
    nothing again, and training that is resumed from w and s continues with them. (If it was stopped within
    an epoch, that epoch's training loss is only of the rows after the stop; the validation loss is the
    same as without it.)

    Args:
        rate: the first rate.
        factor: the factor of each decay, 0 < factor < 1.
        patience: the number of epochs without a lower loss that are tolerated.
        least: the smallest rate.

    Raises:
        BackpropError: a setting out of range.

    >>> import numpy as np
    >>> plateau = Plateau(1.0, 0.5, patience=1)
    >>> state = np.asarray(plateau.first())
    >>> for loss in (3.0, 2.0, 2.0, 2.5, 1.0):
    ...     state = plateau.observe(state, loss, xp=np)
    >>> state.tolist()
    [0.5, 1.0, 0.0]
    """

    rate: Any
    factor: Any = 0.1
    patience: int = 10
    least: Any = 0

    def __post_init__(self) -> None:
        read_text(self, "rate", "factor", "least")
        check_positive(self.rate, "a rate", "0.1")
        check_not_negative(self.least, "the least rate of a plateau")
        if not is_number(self.factor) or not 0 < self.factor < 1:
            msg = (
                f"the factor of a plateau must be a number between 0 and 1, such as 0.1, got {self.factor!r}"
            )
            raise BackpropError(msg)
        patience = as_integer(self.patience)
        if patience is None or patience < 0:
            msg = f"the patience of a plateau must be a number of epochs, 0 or more, got {self.patience!r}"
            raise BackpropError(msg)
        object.__setattr__(self, "patience", patience)
        if self.least > self.rate:
            msg = f"a plateau needs least <= rate, got rate={self.rate!r}, least={self.least!r}"
            raise BackpropError(msg)

    def first(self) -> tuple[Any, int, int]:
        """The state before the first epoch: the rate, 0 in place of a lowest loss, and −1 for no epoch."""
        return self.rate, 0, -1

    def observe(self, state: Array, loss: Any, *, xp: Namespace) -> Array:
        """The state after an epoch.

        Args:
            state: the rate, the lowest loss so far, the number of epochs since; shape (3,).
            loss: the loss of the epoch.
            xp: the namespace of the state.
        """
        rate, lowest, waited = state[0], state[1], state[2]
        lower = (waited < 0) | (loss < lowest)
        waited = xp.where(lower, 0, waited + 1)
        due = waited > self.patience
        fallen = xp.maximum(rate * number(self.factor, xp=xp), number(self.least, xp=xp))
        return xp.stack(
            [xp.where(due, fallen, rate), xp.where(lower, loss, lowest), xp.where(due, 0, waited)]
        )


ALL: dict[str, Callable[..., Any]] = {
    "constant": Constant,
    "step": Step,
    "exponential": Exponential,
    "cosine": Cosine,
    "warm_up": WarmUp,
    "one_cycle": OneCycle,
    "plateau": Plateau,
}
