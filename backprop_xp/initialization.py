"""Initializers: the first values of the weights of a net.

An initializer turns random bits into the first values of a block, in float64 on the host, so that
they are equal on every backend. The random bits for number i of the vector w depend only on the seed and
on i. Initializers are given to `learner.init` by layer, block or pattern:

    learner.init(seed, initial={"*.w": HeNormal(), "dense2.b": Constant(0.1)})

A matrix of weights has shape (n_in, n_out). `ALL` lists the initializers; tests run over that list.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import isfinite, sqrt
from numbers import Real
from typing import Any, ClassVar

from . import rng
from .arrays import Array, Namespace, Shape
from .errors import BackpropError


@dataclass(frozen=True)
class Initializer(ABC):
    """The base class of initializers, for blocks of any shape.

    Attributes:
        whole: whether `numbers` needs a whole block at once; else it is called for parts of a block, which
            takes less memory.

    >>> class Alternating(Initializer):
    ...     def numbers(self, words, shape, *, xp):
    ...         return xp.where(words[0] % 2 == 0, -0.5, 0.5)
    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    >>> w, s = learner.init(initial={"*.w": Alternating()})
    >>> abs(w).tolist()
    [0.5, 0.5, 0.0]
    """

    whole: ClassVar[bool] = False

    def fits(self, shape: Shape) -> bool:
        """Whether the initializer is for blocks of this shape; it is not used for others."""
        return True

    @abstractmethod
    def numbers(self, words: tuple[Array, Array], shape: Shape, *, xp: Namespace) -> Array:
        """The values of a part of a block, float64, one for each pair of random words (see `rng`).

        Args:
            words: two vectors of random words.
            shape: the shape of the whole block.
            xp: the namespace of the words: NumPy.
        """


class OfFans(Initializer):
    """The base class of initializers that depend on n_in and n_out; only for matrices (n_in, n_out)."""

    def fits(self, shape: Shape) -> bool:
        """Whether it has two axes."""
        return len(shape) == 2

    @abstractmethod
    def width(self, n_in: int, n_out: int) -> float:
        """σ of a normal distribution, or the limit of a uniform one."""


class FanNormal(OfFans):
    """The base class of normal ones: w = σ z, with z standard normal and not truncated.

    Values are equal on every backend of one machine. Between machines they differ by an ulp or two, as log
    and cos do.
    """

    def numbers(self, words: tuple[Array, Array], shape: Shape, *, xp: Namespace) -> Array:
        """The numbers σ z."""
        return self.width(*shape) * rng.normal(words, xp.float64, xp=xp)[0]


class FanUniform(OfFans):
    """The base class of uniform ones: w is uniform in [−limit, limit)."""

    def numbers(self, words: tuple[Array, Array], shape: Shape, *, xp: Namespace) -> Array:
        """The numbers limit (2 u − 1), with u uniform in [0, 1)."""
        return self.width(*shape) * (2 * rng.uniform(words, xp.float64, xp=xp) - 1)


class HeNormal(FanNormal):
    """Normal, variance 2 / n_in: for ReLU layers (He, Zhang, Ren, Sun: Delving deep into rectifiers, 2015).

    >>> HeNormal().width(8, 3)
    0.5
    """

    def width(self, n_in: int, n_out: int) -> float:
        """σ = √(2 / n_in)."""
        return sqrt(2 / n_in)


class HeUniform(FanUniform):
    """Uniform, variance 2 / n_in (He et al., 2015): the default of Dense with a ReLU.

    >>> HeUniform().width(24, 3)
    0.5
    """

    def width(self, n_in: int, n_out: int) -> float:
        """The limit √(6 / n_in)."""
        return sqrt(6 / n_in)


class GlorotNormal(FanNormal):
    """Normal, variance 2 / (n_in + n_out): for layers with tanh, or without an activation.

    (Glorot and Bengio: Understanding the difficulty of training deep feedforward neural networks, 2010.)

    >>> GlorotNormal().width(5, 3)
    0.5
    """

    def width(self, n_in: int, n_out: int) -> float:
        """σ = √(2 / (n_in + n_out))."""
        return sqrt(2 / (n_in + n_out))


class GlorotUniform(FanUniform):
    """Uniform, variance 2 / (n_in + n_out) (Glorot and Bengio, 2010): the default of Dense without a ReLU.

    >>> GlorotUniform().width(20, 4)
    0.5
    """

    def width(self, n_in: int, n_out: int) -> float:
        """The limit √(6 / (n_in + n_out))."""
        return sqrt(6 / (n_in + n_out))


class LeCunNormal(FanNormal):
    """Normal, variance 1 / n_in: for SELU (LeCun, Bottou, Orr, Müller: Efficient BackProp, 1998).

    >>> LeCunNormal().width(4, 3)
    0.5
    """

    def width(self, n_in: int, n_out: int) -> float:
        """σ = √(1 / n_in)."""
        return sqrt(1 / n_in)


class LeCunUniform(FanUniform):
    """Uniform, variance 1 / n_in (LeCun et al., 1998).

    >>> LeCunUniform().width(12, 3)
    0.5
    """

    def width(self, n_in: int, n_out: int) -> float:
        """The limit √(3 / n_in)."""
        return sqrt(3 / n_in)


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """A random matrix whose columns (or rows, if there are fewer) are orthogonal and have length `gain`.

    Q R = A with A standard normal, w = gain · Q · sign(diag R), so that w is uniform over all such
    matrices (Saxe, McClelland, Ganguli: Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks, 2014). Values are equal on every backend of one machine. Between machines they
    differ by the rounding of LAPACK.

    Args:
        gain: the length of each column or row, a finite number.

    Raises:
        BackpropError: gain is not a finite number.

    >>> import numpy as np
    >>> w = Orthogonal(2).numbers(rng.bits(0, 0, 0, 6, xp=np), (3, 2), xp=np).reshape(3, 2)
    >>> np.abs(w.T @ w).round(12).tolist()
    [[4.0, 0.0], [0.0, 4.0]]
    """

    gain: float = 1.0
    whole: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_number(self.gain, "the gain of Orthogonal")

    def fits(self, shape: Shape) -> bool:
        """Whether it has two axes."""
        return len(shape) == 2

    def numbers(self, words: tuple[Array, Array], shape: Shape, *, xp: Namespace) -> Array:
        """The numbers gain · Q · sign(diag R), row by row."""
        normal = xp.reshape(rng.normal(words, xp.float64, xp=xp)[0], (max(shape), min(shape)))
        q, r = xp.linalg.qr(normal)
        q = q * xp.where(xp.linalg.diagonal(r) < 0, -1.0, 1.0) * float(self.gain)
        return xp.reshape(q if shape[0] >= shape[1] else xp.matrix_transpose(q), (-1,))


@dataclass(frozen=True)
class Constant(Initializer):
    """The same value for all weights of a block, such as 0.1 for biases.

    Args:
        value: a finite number.

    Raises:
        BackpropError: value is not a finite number.

    >>> import numpy as np
    >>> Constant(0.1).numbers(rng.bits(0, 0, 0, 2, xp=np), (2,), xp=np).tolist()
    [0.1, 0.1]
    """

    value: float

    def __post_init__(self) -> None:
        _check_number(self.value, "the value of Constant")

    def numbers(self, words: tuple[Array, Array], shape: Shape, *, xp: Namespace) -> Array:
        """The value, once for each pair of words."""
        return xp.full(words[0].shape, float(self.value), dtype=xp.float64)


@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform in [low, high).

    Args:
        low: the lower end, included.
        high: the upper end, excluded.

    Raises:
        BackpropError: low and high are not finite numbers with low < high.

    >>> import numpy as np
    >>> found = Uniform(0, 4).numbers(rng.bits(0, 0, 0, 3, xp=np), (3,), xp=np)
    >>> bool((found >= 0).all() and (found < 4).all())
    True
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_number(self.low, "the lower end of Uniform")
        _check_number(self.high, "the upper end of Uniform")
        if not self.low < self.high or not isfinite(float(self.high) - float(self.low)):
            msg = f"the ends of Uniform must be numbers with low < high, got {self.low!r} and {self.high!r}"
            raise BackpropError(msg)

    def numbers(self, words: tuple[Array, Array], shape: Shape, *, xp: Namespace) -> Array:
        """The numbers low + (high − low) u, with u uniform in [0, 1)."""
        low, high = float(self.low), float(self.high)
        return low + (high - low) * rng.uniform(words, xp.float64, xp=xp)


def _check_number(value: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
        msg = f"{what} must be a finite number, got {value!r}"
        raise BackpropError(msg)


ALL: dict[str, type[Initializer]] = {
    "he_normal": HeNormal,
    "he_uniform": HeUniform,
    "glorot_normal": GlorotNormal,
    "glorot_uniform": GlorotUniform,
    "lecun_normal": LeCunNormal,
    "lecun_uniform": LeCunUniform,
    "orthogonal": Orthogonal,
    "constant": Constant,
    "uniform": Uniform,
}
