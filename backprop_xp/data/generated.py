"""Generated data: every row is a function of (seed, index), and nothing is stored."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import partial
from math import erf, exp, log, pi, sqrt
from numbers import Real
from typing import Any, ClassVar, Literal, NamedTuple

from .. import backends, losses, rng
from ..arrays import Array, Namespace
from ..errors import BackpropError, listed
from ..layers import check_count
from ..losses import Loss
from .source import check_slice, rows_of_window

Task = Literal["regression", "classification"]
INPUTS, NOISE, SETTINGS = ((1 << 25) + 2, (1 << 25) + 3, (1 << 25) + 4)  # random streams
_LOUDEST = 1e15  # the largest noise; its squares are still finite in float32
_PAIRS = 1 << 15  # pairs of random numbers generated in one call: fastest from 8k to 50k


class Where(NamedTuple):
    """Where numbers are generated: the library's namespace, and a dtype and a device of it."""

    xp: Namespace
    dtype: Any
    device: Any


@dataclass(frozen=True, repr=False)
class Generated(ABC):
    """The base class of generated data: any slice of any number of rows, without storage.

    Rows are always generated in the same blocks, so on one backend a slice equals the same rows of the
    whole, bit for bit, and a longer set begins with the rows of a shorter one. A data set adds its
    `features`, `outputs` and `task` ('regression' or 'classification') and the formula, `rows_of_block`.

    Args:
        seed: 0 <= seed < 2³²; another seed gives other rows.
        n: the number of rows.
        like: an array whose library, device and dtype are used.
        backend: without `like`, the name of the library.
        device: a device of that library.
        dtype: the dtype of the inputs and numeric targets.
        window: the number of rows that are generated, and shuffled, together.

    Raises:
        BackpropError: settings out of range; a backend that lacks functions such as log (exact).
    """

    seed: int
    n: int
    _: KW_ONLY
    like: Array = field(default=None, compare=False)
    backend: str | None = None
    device: Any = None
    dtype: Any = None
    window: Any = None

    rational: ClassVar[bool] = False  # whether its formula can be computed with fractions
    block: ClassVar[int]
    where: ClassVar[Where]
    _to: ClassVar[Any]

    def __post_init__(self) -> None:
        own: Any = self
        self._set(seed=rng.check_seed(self.seed), n=check_count(self.n, "the number of rows"))
        names = {each.name for each in fields(self)}
        for name in sorted(names & {"features", "outputs"}):
            self._set(**{name: check_count(getattr(self, name), f"the number of {name}")})
        if own.task not in ("regression", "classification"):
            msg = f"a task must be 'regression' or 'classification', got {own.task!r}"
            raise BackpropError(msg)
        if own.task == "classification" and own.outputs < 2:
            msg = f"classification needs 2 or more classes, got outputs={own.outputs}"
            raise BackpropError(msg)
        if "noise" in names:
            self._set(noise=_checked_noise(own.noise, own.task))
        self._set(window=rows_of_window(self.n, own.features + own.outputs, asked=self.window))
        to, device, dtype = backends.resolve(self.like, self.backend, self.device, self.dtype)
        if "rational" in to.floats and not self.rational:
            msg = (
                f"{type(self).__name__} needs functions such as log, which the {to.name} backend lacks: "
                "use backend='numpy'"
            )
            raise BackpropError(msg)
        self._set(_to=to, where=Where(to.xp, dtype, device), block=_block(own.features))

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        shared = {each.name for each in fields(Generated)}
        own = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.name not in shared]
        return f"{type(self).__name__}({', '.join([str(self.seed), str(self.n), *own])}) on {self._to.name}"

    def __reduce__(self) -> Any:
        """A pickle holds the settings, and an array for library, device and dtype; the rest is recomputed."""
        settings = {each.name: getattr(self, each.name) for each in fields(self)}
        settings |= {"like": self._array([[0.0]]), "backend": None, "device": None, "dtype": None}
        return partial(type(self), **settings), ()

    def rows(self, start: int, stop: int) -> tuple[Array, Array]:
        """The rows start, …, stop - 1: inputs (rows, features), and targets."""
        check_slice(start, stop, self.n)
        size, xp = self.block, self.where.xp
        first, last = start // size, -(-stop // size)
        blocks = [self.rows_of_block(k * size) for k in range(first, last)]
        x, t = blocks[0] if len(blocks) == 1 else (xp.concat(column) for column in zip(*blocks, strict=True))
        part = slice(start - first * size, stop - first * size)
        return x[part, ...], t[part, ...]

    @abstractmethod
    def rows_of_block(self, start: int) -> tuple[Array, Array]:
        """The `block` rows from `start` on, the first row of a block; rows past the last one are not used."""

    # ------------------------------------------------------------ the best possible loss and error
    def floor(self, loss: Loss) -> float:
        """The lowest mean loss any net can reach on unseen rows: the loss due to the noise alone.

        Regression with σ = noise and k outputs: half squared error k σ²/2, squared error k σ², mean
        squared error σ², mean absolute error σ √(2/π). Classification with ε = noise and K classes:
        both cross-entropies −(1 − ε) ln(1 − ε) − ε ln(ε / (K − 1)).

        Raises:
            BackpropError: no formula is known for this loss on this task.
        """
        known, kind = self._floors(), type(loss)
        own: Any = self
        if kind not in known or loss != kind():
            there = listed(each.__name__ for each in known)
            msg = (
                f"the floor of {kind.__name__} on {own.task} is not known"
                f"{f'; it is known for {there}, without settings' if known else ''}"
            )
            raise BackpropError(msg)
        return known[kind]

    def _floors(self) -> dict[type, float]:
        own: Any = self
        noise, k = own.noise, own.outputs
        if own.task == "classification":
            entropy = -(1 - noise) * log(1 - noise) - (noise * log(noise / (k - 1)) if noise else 0.0)
            return cross_entropies(abs(entropy))
        return {
            losses.HalfSquaredError: k * noise**2 / 2,
            losses.SquaredError: k * noise**2,
            losses.MeanSquaredError: noise**2,
            losses.MeanAbsoluteError: noise * sqrt(2 / pi),
        }

    @property
    def bayes_error(self) -> float:
        """The lowest error rate any classifier can reach on unseen rows.

        If labels are wrong with probability ε, it is ε, or 1 − ε / (K − 1) if that is less.

        Raises:
            BackpropError: the targets are not classes.
        """
        own: Any = self
        if own.task != "classification":
            msg = f"{type(self).__name__} has numbers as targets, not classes: use floor(loss) instead"
            raise BackpropError(msg)
        return self._bayes_error()

    def _bayes_error(self) -> float:
        own: Any = self
        return float(min(own.noise, 1 - own.noise / (own.outputs - 1)))

    # ------------------------------------------------------------ helpers for the formulas
    def _array(self, data: Any) -> Array:
        return backends.convert(data, self._to, self.where.dtype, self.where.device)

    def _normals(self, start: int, columns: int, stream: int = INPUTS) -> Array:
        """Standard normal numbers for the rows of a block, shape (block, columns)."""
        return normals(self.seed, stream, start, self.block, columns, self.where)

    def _uniforms(self, start: int, columns: int, stream: int = INPUTS) -> Array:
        """Numbers in [0, 1) for the rows of a block, shape (block, columns); equal on all backends."""
        xp, dtype, device = self.where
        words = rng.bits(self.seed, stream, start * columns, self.block * columns, xp=xp, device=device)
        return xp.reshape(rng.uniform(words, dtype, xp=xp), (self.block, columns))

    def _integers(self, u: Array) -> Array:
        """Each number rounded down, int32."""
        xp = self.where.xp
        return xp.astype(xp.floor(u), xp.int32)

    def _mislabelled(self, label: Array, start: int) -> Array:
        """Labels (block,), each replaced with probability `noise` by one of the others."""
        own: Any = self
        xp, others = self.where.xp, own.outputs - 1
        words = rng.bits(self.seed, NOISE, start, self.block, xp=xp, device=self.where.device)
        first, second = words
        label = xp.astype(label, xp.int32)
        u, v = (rng.uniform((a, a), xp.float32, xp=xp) for a in (first, second))
        jump = 1 + xp.minimum(xp.astype(v * others, xp.int32), others - 1)
        return xp.where(u < own.noise, (label + jump) % own.outputs, label)

    def _noisy(self, y: Array, start: int) -> Array:
        """Numbers (block, outputs) + σ z."""
        own: Any = self
        return y + own.noise * self._normals(start, own.outputs, NOISE)


def cross_entropies(entropy: float) -> dict[type, float]:
    """The floors of a classification whose labels, given the inputs, have this mean entropy."""
    return dict.fromkeys((losses.SoftmaxCrossEntropy, losses.CategoricalCrossEntropy), entropy)


def normals(seed: int, stream: int, start: int, n: int, columns: int, where: Where) -> Array:
    """Standard normal numbers for rows start, …, start + n - 1, shape (n, columns)."""
    xp, dtype, device = where
    pairs = (columns + 1) // 2
    words = rng.bits(seed, stream, start * pairs, n * pairs, xp=xp, device=device)
    both = xp.stack(rng.normal(words, dtype, xp=xp), axis=-1)
    return xp.reshape(both, (n, 2 * pairs))[:, :columns]


def on_host() -> Where:
    """Where a set's random constants are drawn: the host, in float64, so that all backends have the same."""
    host = backends.get("numpy").xp
    return Where(host, host.float64, None)


def setting(seed: int, rows: int, columns: int) -> Array:
    """Standard normal numbers (rows, columns) on the host, for the random constants of a set."""
    return normals(seed, SETTINGS, 0, rows, columns, on_host())


def normal_below(u: float) -> float:
    """Φ(u), the probability that a standard normal number is less than u."""
    return (1 + erf(u / sqrt(2))) / 2


def normal_density(u: float) -> float:
    """φ(u) = exp(−u²/2) / √(2π)."""
    return exp(-u * u / 2) / sqrt(2 * pi)


def integral(f: Callable[[float], float], low: float, high: float, parts: int = 2000) -> float:
    """∫ f by Simpson's rule.

    >>> round(integral(normal_density, -9, 9), 12)
    1.0
    """
    step = (high - low) / parts
    inner = sum((4 if k % 2 else 2) * f(low + k * step) for k in range(1, parts))
    return step / 3 * (f(low) + inner + f(high))


def error_of_two_normals(distance: float, prior: float = 0.5) -> float:
    """The Bayes error of two normal distributions of variance 1, the second with probability `prior`.

    Their means are d apart and π is the prior. The best classifier chooses the second above
    c = d/2 + ln((1 − π) / π) / d; its error is (1 − π) Φ(−c) + π Φ(c − d).
    """
    if not distance:
        return min(prior, 1 - prior)
    c = distance / 2 + log((1 - prior) / prior) / distance
    return (1 - prior) * normal_below(-c) + prior * normal_below(c - distance)


def entropy_of_two_normals(distance: float, prior: float = 0.5) -> float:
    """The mean entropy of the label of two such distributions, −∫ Σ p(u, label) ln p(label | u) du."""

    def at(u: float) -> float:
        parts = (1 - prior) * normal_density(u), prior * normal_density(u - distance)
        return -sum(p * log(p / sum(parts)) for p in parts if p > 0)

    return integral(at, -9, distance + 9)


def _checked_noise(noise: Any, task: Task) -> float:
    if isinstance(noise, bool) or not isinstance(noise, Real):
        msg = f"the noise must be a number, got {noise!r}"
        raise BackpropError(msg)
    found = float(noise)
    if task == "classification" and not 0 <= found < 1:
        msg = f"the noise of classification must be a probability, 0 <= noise < 1, got {noise!r}"
        raise BackpropError(msg)
    if not 0 <= found <= _LOUDEST:
        msg = f"the noise of regression must be a standard deviation from 0 to {_LOUDEST:g}, got {noise!r}"
        raise BackpropError(msg)
    return found


def _block(features: int) -> int:
    """Rows of a block, a power of two, chosen so that a call generates about _PAIRS random pairs."""
    rows = _PAIRS // ((features + 1) // 2)
    return min(max(1 << max(rows, 1).bit_length() - 1, 128), 8192)
