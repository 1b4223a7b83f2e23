"""Update rules (optimizers): how the gradient changes the weights.

A rule is two functions. `scalars` is called once per step and gives what many weights share (the
rate, corrections). `element` is elementwise on any slice of the learning weights, so it can run on
the whole vector, in blocks, or fused. `ALL` lists the rules; tests run over that list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from inspect import signature
from math import inf, isfinite, log
from numbers import Real
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from .arrays import Array, Namespace
from .errors import BackpropError
from .printed import short

Rate = Any  # a number, a mapping of layer or block names to numbers, or a schedule


class RuleState(NamedTuple):
    """What a rule carries from step to step.

    Attributes:
        count: the number of updates made, an integer array: 0-d, or one per weight after thawing.
        rates: one rate per learning weight where rates differ by layer, else ().
        moments: vectors over the learning weights, such as Adam's m and v.
    """

    count: Array
    rates: Array
    moments: tuple[Array, ...]

    def __repr__(self) -> str:
        return short(self)


@runtime_checkable
class Update(Protocol):
    """What the learner needs of a rule; `moments` is the number of its vectors."""

    moments: ClassVar[int]

    @property
    def rate(self) -> Rate:
        """A number, a mapping of names to numbers, or a schedule."""

    def scalars(self, state: RuleState, *, dtype: Any, xp: Namespace) -> tuple[Array, ...]:
        """What `element` needs in this step besides the vectors, in the dtype of the weights."""

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights and moments of a slice.

        Args:
            g: ∂E/∂w of the slice.
            w: its weights; consumed.
            rest: its moments, consumed; then the scalars.
            xp: the namespace of the arrays.
        """


def _is_number(value: Any) -> bool:
    """Whether a setting is a real number; a truth is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def read_text(rule: Any, *names: str) -> None:
    """Settings of a rule that are text, such as "1/100", as fractions; in mappings too.

    Raises:
        BackpropError: the text is no number.
    """
    for name in names:
        value = getattr(rule, name)
        if isinstance(value, Mapping):
            object.__setattr__(rule, name, {key: _read(each, name) for key, each in value.items()})
        else:
            object.__setattr__(rule, name, _read(value, name))


def _read(value: Any, name: str) -> Any:
    try:
        return Fraction(value) if isinstance(value, str) else value
    except (ValueError, ZeroDivisionError) as error:
        msg = f"the text of a {name} must be a number such as '1/100' or '0.01', got {value!r}"
        raise BackpropError(msg) from error


def number(value: Any, *, xp: Namespace) -> Any:
    """A fraction as a float, except on the exact backend, which has no floats; others unchanged.

    >>> import numpy as np, backprop_xp as bp
    >>> number(Fraction("1/4"), xp=np), number(Fraction("1/4"), xp=bp.exact.namespace)
    (0.25, Fraction(1, 4))
    """
    return float(value) if isinstance(value, Fraction) and xp.float32 is not None else value


def check_rate(rate: Rate) -> None:
    """Check that constant rates are positive finite numbers, and that a schedule takes what it is given."""
    if callable(rate):
        _check_schedule(rate)
    constants = rate.values() if isinstance(rate, Mapping) else () if callable(rate) else (rate,)
    for each in constants:
        if not _is_number(each) or not 0 < float(each) < inf:
            msg = f"a rate must be a positive finite number such as 0.1, got {each!r}"
            raise BackpropError(msg)


def _check_schedule(rate: Any) -> None:
    try:
        signature(rate).bind(0, xp=None)
    except TypeError as error:
        msg = f"a schedule of rates must be a function rate(count, *, xp), got {rate!r}: {error}"
        raise BackpropError(msg) from error
    except ValueError:  # a function that tells no signature
        pass


def bounded(old: Array, new: Array, limit: Any, floor: Any, *, xp: Namespace) -> Array:
    """The new weights clipped to |w| <= limit, and kept out of |w| < floor.

    A weight that would get smaller than the floor stops there. If it was at the floor already, it
    jumps to the floor of the other sign, so that it can change its sign. Zero counts as negative.
    (The article "backpropagation further backwards" and its program FloatNeuralNet.)
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
        rate: η, a number, or its text such as "1/100", exact on fractions; or one by layer or block name,
            such as {"dense1": 0.02, "dense2": 0.01}; or a schedule `rate(count, *, xp)`, where count is
            the number of updates made, a 0-d array in the dtype of w.
        limit: weights are clipped to |w| <= limit after each update.
        floor: weights are kept out of |w| < floor, see `bounded`.

    Raises:
        BackpropError: a rate that is not positive and finite, or not 0 <= floor < limit.

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
            if bound is not None and not _is_number(bound):
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


@dataclass(frozen=True)
class Adam:
    """w ← w − η m̂ / (√v̂ + ε), with m and v the moving averages of g and g².

    m ← m + (1 − β₁) (g − m), v ← v + (1 − β₂) (g² − v), m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)
    (Kingma and Ba: Adam: a method for stochastic optimization, 2015). As in the paper's algorithm
    and in Torch, ε is added to √v̂. The two corrections are combined as in the paper's section 2:
    with c = √(1 − β₂ᵗ) the update is η c / (1 − β₁ᵗ) · m / (√v + ε c). They are computed as
    1 − βᵗ = −expm1(t ln β), which keeps its digits in float32.

    Args:
        rate: η, as for GradientDescent.
        beta1: β₁.
        beta2: β₂.
        epsilon: ε.

    Raises:
        BackpropError: a rate or ε that is not positive and finite, or a β outside [0, 1).

    >>> import backprop_xp as bp, numpy as np
    >>> learner = bp.Learner(bp.chain(1, bp.layers.Linear(1, bias=False)), update=Adam(0.5))
    >>> w, s = learner.init(dtype="float64", weights={"dense1.w": [[1]]})
    >>> w, s, _ = learner.step(w, s, np.ones((1, 1)), np.zeros((1, 1)))
    >>> round(float(w[0]), 6)
    0.5
    """

    rate: Rate = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    moments: ClassVar[int] = 2

    def __post_init__(self) -> None:
        read_text(self, "rate")
        check_rate(self.rate)
        check_beta(self.beta1)
        check_beta(self.beta2)
        if not (_is_number(self.epsilon) and 0 < self.epsilon < inf):
            msg = f"Adam's epsilon must be a positive finite number such as 1e-8, got {self.epsilon!r}"
            raise BackpropError(msg)

    def scalars(self, state: RuleState, *, dtype: Any, xp: Namespace) -> tuple[Array, ...]:
        """η c / (1 − β₁ᵗ) and ε c, with c = √(1 − β₂ᵗ)."""
        t = xp.astype(state.count + 1, dtype)
        first, second = (
            -xp.expm1(t * log(beta)) if beta else xp.ones_like(t) for beta in (self.beta1, self.beta2)
        )
        c = xp.sqrt(second)
        return rate_now(self.rate, state, dtype=dtype, xp=xp) * c / first, self.epsilon * c

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights and moments."""
        m, v, rate, epsilon = rest
        m += (1 - self.beta1) * (g - m)
        v += (1 - self.beta2) * (g * g - v)
        w -= rate * m / (xp.sqrt(v) + epsilon)
        return w, m, v


def check_beta(beta: Any) -> None:
    """Check that a decay factor is in [0, 1)."""
    if not (_is_number(beta) and 0 <= beta < 1):
        msg = f"beta must be a number with 0 <= beta < 1, such as 0.9, got {beta!r}"
        raise BackpropError(msg)


def rate_now(rate: Rate, state: RuleState, *, dtype: Any, xp: Namespace) -> Array:
    """The rate of this step: a number, a 0-d array, or one per learning weight."""
    if callable(rate):
        found = rate(xp.astype(state.count, dtype), xp=xp)
        _check_now(found, state.count)
        return found
    return number(rate, xp=xp) if isinstance(state.rates, tuple) else state.rates


def _check_now(now: Any, count: Array) -> None:
    """Check what a schedule returned, as far as that is known without reading an array."""
    shape = getattr(now, "shape", None)
    if not (_is_number(now) and isfinite(now)) and shape not in ((), tuple(count.shape)):
        got = repr(now) if shape is None else f"an array of shape {tuple(shape)}"
        msg = f"a schedule must return a finite number or a 0-d array, the rate; got {got}"
        raise BackpropError(msg)


@runtime_checkable
class Penalty(Protocol):
    """What the learner needs to know of a penalty on the weights."""

    def value(self, w: Array, *, xp: Namespace) -> Array:
        """What it adds to E, for a part of the weights, 0-d."""
        ...

    def gradient(self, w: Array, *, xp: Namespace) -> Array:
        """What it adds to ∂E/∂w, for a part of the weights."""
        ...


@dataclass(frozen=True)
class L2:
    """½ λ Σ w², which adds λ w to the gradient (Hoerl and Kennard: Ridge regression, 1970).

    Args:
        strength: λ.

    >>> import numpy as np
    >>> L2(0.5).gradient(np.asarray([2.0, -4.0]), xp=np).tolist()
    [1.0, -2.0]
    """

    strength: Any = 0.01

    def __post_init__(self) -> None:
        if not _is_number(self.strength) or not 0 <= self.strength < inf:
            msg = f"the strength of a penalty must be a number, 0 or more, got {self.strength!r}"
            raise BackpropError(msg)

    def value(self, w: Array, *, xp: Namespace) -> Array:
        """The term ½ λ Σ w²."""
        return self.strength * xp.sum(w * w) / 2

    def gradient(self, w: Array, *, xp: Namespace) -> Array:
        """The term λ w."""
        return self.strength * w


@runtime_checkable
class Clip(Protocol):
    """What the learner needs to know of a bound on the gradient."""

    def __call__(self, g: tuple[Array, ...], *, xp: Namespace) -> tuple[Array, ...]:
        """The whole gradient, in one vector or many blocks, held within bounds."""
        ...


@dataclass(frozen=True)
class ClipByNorm:
    """g ← g · min(1, c / ‖g‖), over the whole gradient (Pascanu et al., 2013).

    Args:
        limit: c, the largest norm.

    >>> import numpy as np
    >>> ClipByNorm(1)((np.asarray([3.0]), np.asarray([4.0])), xp=np)
    (array([0.6]), array([0.8]))
    """

    limit: float

    def __post_init__(self) -> None:
        if not _is_number(self.limit) or not self.limit > 0:
            msg = f"the largest norm of a gradient must be a positive number, got {self.limit!r}"
            raise BackpropError(msg)

    def __call__(self, g: tuple[Array, ...], *, xp: Namespace) -> tuple[Array, ...]:
        """The gradient, shortened where it is longer than the limit."""
        squares = [xp.sum(xp.square(a)) for a in g]
        norm = xp.sqrt(sum(squares[1:], start=squares[0]))
        factor = self.limit / xp.maximum(norm, self.limit)
        return tuple(a * factor for a in g)


ALL: dict[str, Any] = {
    "gradient_descent": GradientDescent,
    "momentum": Momentum,
    "adam": Adam,
}
