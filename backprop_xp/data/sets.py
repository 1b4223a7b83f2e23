"""Synthetic data sets: the formula of each, and the best possible loss and error where they are known."""

from dataclasses import KW_ONLY, dataclass
from math import pi, sqrt
from typing import Any, ClassVar

from .. import rng
from ..arrays import Array
from ..errors import BackpropError
from ..layers import check_count
from .generated import (
    SETTINGS,
    Generated,
    Task,
    cross_entropies,
    entropy_of_two_normals,
    error_of_two_normals,
    integral,
    normal_below,
    normal_density,
    on_host,
    setting,
)
from .teacher import HiddenManifold, Teacher


@dataclass(frozen=True, repr=False)
class GaussianMixture(Generated):
    """Classes that are normal distributions of variance 1, their means all at the same distance d.

    A label k is drawn, each of the K with the same probability, and x = μ_k + z with z standard normal. The
    means are μ_k = d/√2 h_k, where the h_k are rows of a random reflection matrix.

    `bayes_error` is 1 − ∫ φ(u − d/√2) Φ(u)^(K−1) du, which is Φ(−d/2) for two classes; for two classes the
    `floor` is known too, by quadrature. Labels are equal on all backends; inputs differ by a few ulps.

    Args:
        seed: another seed gives other means and rows.
        n: the number of rows.
        features: the columns of x, at least as many as classes.
        outputs: K, the number of classes.
        distance: d, the distance between any two means.
        like: this and all further arguments are those of `Teacher`.

    >>> round(GaussianMixture(0, 100, distance=2.0).bayes_error, 4)
    0.1587
    """

    features: int = 2
    outputs: int = 2
    _: KW_ONLY
    distance: float = 2.0

    task: ClassVar[Task] = "classification"
    _means: ClassVar[Array]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_number("distance", self.distance, 0, 1e6)
        if self.outputs > self.features:
            msg = f"{self.outputs} classes need at least as many features, got features={self.features}"
            raise BackpropError(msg)
        v, xp = setting(self.seed, 1, self.features), on_host().xp
        reflection = xp.eye(self.features)[: self.outputs, :] - 2 * v[:, : self.outputs].T * v / xp.sum(v * v)
        self._set(_means=self._array(self.distance / sqrt(2) * reflection))

    def rows_of_block(self, start: int) -> tuple[Array, Array]:
        """Labels, and points around their means."""
        label = self._integers(self.outputs * self._uniforms(start, 1, SETTINGS)[:, 0])
        return self._normals(start, self.features) + self.where.xp.take(self._means, label, axis=0), label

    def _bayes_error(self) -> float:
        d, others = self.distance / sqrt(2), self.outputs - 1
        if others == 1:
            return normal_below(-self.distance / 2)
        return 1 - integral(lambda u: normal_density(u - d) * normal_below(u) ** others, d - 9, d + 9)

    def _floors(self) -> dict[type, float]:
        return cross_entropies(entropy_of_two_normals(self.distance)) if self.outputs == 2 else {}


@dataclass(frozen=True, repr=False)
class TwoSpirals(Generated):
    """Two spirals, each wound around the other (Lang and Witbrock: Learning to tell two spirals apart, 1988).

    x = u · (cos a, sin a) with a = 2π · turns · u + π k, where u is uniform in [0, 1) and k is 0 or 1. The
    label is k, or with probability `noise` the other one.

    `floor` and `bayes_error` are those of the wrong labels. Labels are equal on all backends; inputs differ
    by an ulp or two.

    Args:
        seed: another seed gives other points.
        n: the number of rows.
        turns: the number of turns of a spiral.
        noise: the probability of a wrong label.
        like: this and all further arguments are those of `Teacher`.

    >>> TwoSpirals(0, 1000).rows(0, 3)[0].shape
    (3, 2)
    """

    _: KW_ONLY
    turns: float = 3.0
    noise: float = 0.0

    features: ClassVar[int] = 2
    outputs: ClassVar[int] = 2
    task: ClassVar[Task] = "classification"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_number("turns", self.turns, 0, 1000)

    def rows_of_block(self, start: int) -> tuple[Array, Array]:
        """Points of both spirals, and which spiral each is on."""
        xp, both = self.where.xp, self._uniforms(start, 2)
        u, k = both[:, 0], self._integers(2 * both[:, 1])
        angle = 2 * pi * self.turns * u + pi * xp.astype(k, u.dtype)
        x = xp.stack([u * xp.cos(angle), u * xp.sin(angle)], axis=1)
        return x, self._mislabelled(k, start)


@dataclass(frozen=True, repr=False)
class Checkerboard(Generated):
    """A board of black and white squares: u uniform in [0, 1), x = 2u − 1, label Σ ⌊squares · u⌋ mod 2.

    `floor` and `bayes_error` are those of the wrong labels. Inputs and labels are equal on all backends, bit
    for bit.

    Args:
        seed: another seed gives other points.
        n: the number of rows.
        features: the number of dimensions of the board.
        squares: the number of squares along each dimension.
        noise: the probability of a wrong label.
        like: this and all further arguments are those of `Teacher`.

    >>> x, t = Checkerboard(0, 1000, squares=2).rows(0, 1000)
    >>> bool(((x[:, 0] * x[:, 1] < 0) == t).all())
    True
    """

    features: int = 2
    _: KW_ONLY
    squares: int = 4
    noise: float = 0.0

    outputs: ClassVar[int] = 2
    task: ClassVar[Task] = "classification"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(squares=check_count(self.squares, "the number of squares"))

    def rows_of_block(self, start: int) -> tuple[Array, Array]:
        """Points, and the colours of their squares."""
        xp, u = self.where.xp, self._uniforms(start, self.features)
        label = xp.sum(self._integers(self.squares * u), axis=1) % 2
        return 2 * u - 1, self._mislabelled(label, start)


@dataclass(frozen=True, repr=False)
class Parity(Generated):
    """Random signs, x ∈ {−1, 1}; the label is 1 if an odd number of the first `relevant` features are 1.

    Fewer than `relevant` features together say nothing about the label (Minsky and Papert: Perceptrons,
    1969). With two relevant features it is XOR.

    `floor` and `bayes_error` are those of the wrong labels. Inputs and labels are equal on all backends, bit
    for bit.

    Args:
        seed: another seed gives other rows.
        n: the number of rows.
        features: the columns of x.
        relevant: how many of them, from the first on, determine the label.
        noise: the probability of a wrong label.
        like: this and all further arguments are those of `Teacher`.

    >>> x, t = Parity(0, 1000, features=2, relevant=2).rows(0, 1000)
    >>> bool(((x[:, 0] * x[:, 1] < 0) == t).all())
    True
    """

    features: int = 8
    _: KW_ONLY
    relevant: int = 3
    noise: float = 0.0

    outputs: ClassVar[int] = 2
    task: ClassVar[Task] = "classification"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(relevant=check_count(self.relevant, "the number of relevant features"))
        if self.relevant > self.features:
            msg = f"{self.relevant} of {self.features} features cannot be relevant: relevant <= features"
            raise BackpropError(msg)

    def rows_of_block(self, start: int) -> tuple[Array, Array]:
        """Signs, and the parity of the relevant ones."""
        xp, u = self.where.xp, self._uniforms(start, self.features)
        one = self._integers(2 * u)
        label = xp.sum(one[:, : self.relevant], axis=1) % 2
        return xp.astype(2 * one - 1, u.dtype), self._mislabelled(label, start)


@dataclass(frozen=True, repr=False)
class Friedman1(Generated):
    """t = 10 sin(π x₁ x₂) + 20 (x₃ − ½)² + 10 x₄ + 5 x₅ + noise · z, inputs uniform in [0, 1).

    Targets do not depend on features after the fifth (Friedman: Multivariate adaptive regression splines,
    1991).

    The `floor` of losses is known. Inputs are equal on all backends, bit for bit; targets differ by a few
    ulps.

    Args:
        seed: another seed gives other rows.
        n: the number of rows.
        features: the columns of x, 5 or more.
        noise: the standard deviation of the noise.
        like: this and all further arguments are those of `Teacher`.

    >>> x, t = Friedman1(0, 1000, noise=0).rows(0, 1000)
    >>> x.shape, t.shape, round(float(t.mean()))
    ((1000, 10), (1000, 1), 14)
    """

    features: int = 10
    _: KW_ONLY
    noise: float = 1.0

    outputs: ClassVar[int] = 1
    task: ClassVar[Task] = "regression"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features < 5:
            msg = f"Friedman1 needs 5 features or more, got features={self.features}"
            raise BackpropError(msg)

    def rows_of_block(self, start: int) -> tuple[Array, Array]:
        """Inputs, and the function of five of them."""
        x = self._uniforms(start, self.features)
        wave = 10 * self.where.xp.sin(pi * x[:, 0:1] * x[:, 1:2])
        y = wave + 20 * (x[:, 2:3] - 0.5) ** 2 + 10 * x[:, 3:4] + 5 * x[:, 4:5]
        return x, self._noisy(y, start)


@dataclass(frozen=True, repr=False)
class Sinusoids(Generated):
    """A sum of waves in random directions: t = √(2/m) Σ_j sin(x·ω_j + φ_j) + noise · z, j = 1, …, m.

    Inputs are uniform in [−1, 1); ω is normal with standard deviation `frequency`, φ uniform in [0, 2π).
    With many terms this approaches a draw from a Gaussian process (Rahimi and Recht: Random features for
    large-scale kernel machines, 2007); the higher the frequency, the harder it is to learn.

    The `floor` of losses is known. Inputs are equal on all backends, bit for bit; targets differ by a few
    ulps.

    Args:
        seed: another seed gives other waves and rows.
        n: the number of rows.
        features: the columns of x.
        outputs: the number of sums to predict, each with its own waves.
        terms: m, the number of waves in a sum.
        frequency: the standard deviation of ω.
        noise: the standard deviation of the noise.
        like: this and all further arguments are those of `Teacher`.

    >>> Sinusoids(0, 1000, 3).rows(0, 4)[1].shape
    (4, 1)
    """

    features: int = 1
    outputs: int = 1
    _: KW_ONLY
    terms: int = 8
    frequency: float = 6.0
    noise: float = 0.1

    task: ClassVar[Task] = "regression"
    _waves: ClassVar[tuple[Array, Array]]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(terms=check_count(self.terms, "the number of terms"))
        _check_number("frequency", self.frequency, 0, 1e4)
        xp, dtype, _ = on_host()
        m = self.outputs * self.terms
        omega = self.frequency * setting(self.seed, self.features, m)
        phi = 2 * pi * rng.uniform(rng.bits(self.seed, SETTINGS + 1, 0, m, xp=xp), dtype, xp=xp)
        self._set(_waves=(self._array(omega), self._array(phi)))

    def rows_of_block(self, start: int) -> tuple[Array, Array]:
        """Inputs, and the sums of waves."""
        xp, (omega, phi) = self.where.xp, self._waves
        x = 2 * self._uniforms(start, self.features) - 1
        waves = xp.reshape(xp.sin(x @ omega + phi), (self.block, self.outputs, self.terms))
        return x, self._noisy(sqrt(2 / self.terms) * xp.sum(waves, axis=2), start)


@dataclass(frozen=True, repr=False)
class HiggsShaped(Generated):
    """Synthetic rows shaped like HIGGS: 28 features, 11 million rows, two classes, 53 % of them signal.

    HIGGS itself has 21 measured and 7 derived features of simulated collisions; nets reach an area under
    the ROC curve of 0.88 on it (Baldi, Sadowski and Whiteson, 2014), which is the best possible one here.
    With z standard normal (21 numbers) and s the label, x is:

    - 14 energies E_i = exp(z_i / 2),
    - 7 derived masses m_j = √(E_2j E_2j+1),
    - 7 momenta p_j = z_14+j + s d/√7 + 2 sin(8 ln m_j), the only ones that depend on s.

    z_14+j + s d/√7 can be computed from x, so `bayes_error` and `floor` are those of two normal
    distributions at the distance d = 1.66. Labels are equal on all backends; inputs differ by a few ulps.

    Args:
        seed: another seed gives other rows.
        n: the number of rows.
        like: this and all further arguments are those of `Teacher`.

    >>> HiggsShaped(0).rows(10_999_998, 11_000_000)[0].shape
    (2, 28)
    >>> round(HiggsShaped(0).bayes_error, 4)
    0.2027
    """

    n: int = 11_000_000

    features: ClassVar[int] = 28
    outputs: ClassVar[int] = 2
    task: ClassVar[Task] = "classification"
    distance: ClassVar[float] = 1.66
    signal: ClassVar[float] = 0.53

    def rows_of_block(self, start: int) -> tuple[Array, Array]:
        """Energies, momenta and masses of events."""
        xp, z = self.where.xp, self._normals(start, 21)
        s = self._uniforms(start, 1, SETTINGS) < self.signal
        log_m = (z[:, 0:14:2] + z[:, 1:14:2]) / 4
        shift = self.distance / sqrt(7) * xp.astype(s, z.dtype)
        p = z[:, 14:] + shift + 2 * xp.sin(8 * log_m)
        x = xp.concat([xp.exp(z[:, :14] / 2), p, xp.exp(log_m)], axis=1)
        return x, xp.astype(s[:, 0], xp.int32)

    def _bayes_error(self) -> float:
        return error_of_two_normals(self.distance, self.signal)

    def _floors(self) -> dict[type, float]:
        return cross_entropies(entropy_of_two_normals(self.distance, self.signal))


@dataclass(frozen=True, repr=False)
class ThreeRows(Generated):
    """The three rows of the article "The Gradient Descent Algorithm", over and over.

    (100, 2000, 100) → 0, (200, 0, 0) → 1 and (0, 2000, 3000) → 1: amounts of three foods, and whether the
    meal is eaten. The seed changes nothing. A linear net can fit all three, so every `floor` is 0. Rows are
    equal on all backends, bit for bit, including exact fractions.

    >>> x, t = ThreeRows(0, 3).rows(0, 3)
    >>> x.tolist(), t.tolist()
    ([[100.0, 2000.0, 100.0], [200.0, 0.0, 0.0], [0.0, 2000.0, 3000.0]], [[0.0], [1.0], [1.0]])
    """

    seed: int = 0
    n: int = 3

    features: ClassVar[int] = 3
    outputs: ClassVar[int] = 1
    task: ClassVar[Task] = "regression"
    noise: ClassVar[float] = 0.0
    rational: ClassVar[bool] = True

    def rows_of_block(self, start: int) -> tuple[Array, Array]:
        """The three rows in turn, beginning with the one that row `start` has."""
        x, t = [[100, 2000, 100], [200, 0, 0], [0, 2000, 3000]], [[0], [1], [1]]
        turn = [(start + k) % 3 for k in range(self.block)]
        return self._array([x[k] for k in turn]), self._array([t[k] for k in turn])


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not low <= value <= high:
        msg = f"{name} must be a number from {low:g} to {high:g}, got {value!r}"
        raise BackpropError(msg)


ALL: dict[str, type[Generated]] = {
    "teacher": Teacher,
    "hidden_manifold": HiddenManifold,
    "gaussian_mixture": GaussianMixture,
    "two_spirals": TwoSpirals,
    "checkerboard": Checkerboard,
    "parity": Parity,
    "friedman1": Friedman1,
    "sinusoids": Sinusoids,
    "higgs_shaped": HiggsShaped,
    "three_rows": ThreeRows,
}
