"""Data labelled by a random net, the teacher, so that the best possible loss is known."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import Any, ClassVar

from .. import rng
from ..activations import tanh
from ..arrays import Array
from ..errors import BackpropError
from ..layers import Dense, Linear, check_count
from ..learner import Learner
from ..net import Net, chain
from .generated import Generated, Task, normals, on_host, setting

_NET, _SCALE = 1 << 25, (1 << 25) + 1  # random streams
_STANDARDIZED_ON = 4096  # rows on which the outputs get mean 0 and variance 1


@dataclass(frozen=True, repr=False)
class Teacher(Generated):
    """Random inputs x with noisy outputs of a random tanh net as targets.

    Inputs are standard normal, shape (rows, features). Each output y of the teacher has mean 0 and
    variance 1. Regression: t = y + noise · z with z standard normal, shape (rows, outputs).
    Classification: t = argmax y, int32 of shape (rows,), replaced with probability `noise` by one of
    the other labels.

    The `floor` of losses and the `bayes_error` are known. All backends use the same random bits; the
    numbers differ by a few ulps.

    Args:
        seed: 0 <= seed < 2³²; another seed gives another teacher and other inputs.
        n: the number of rows.
        features: the number of features, the columns of x.
        outputs: how many numbers, or classes, to predict.
        hidden: the widths of the teacher's hidden layers.
        task: 'regression' or 'classification'.
        noise: the standard deviation of the noise, or the probability of a wrong label.
        like: an array whose library, device and dtype are used.
        backend: without `like`, the name of the library.
        device: a device of that library.
        dtype: the dtype of the inputs and numeric targets.
        window: the number of rows that are generated, and shuffled, together.

    Raises:
        BackpropError: settings out of range; a backend without tanh and log (exact).

    >>> teacher = Teacher(0, 1000, features=4, outputs=1, noise=0.5)
    >>> x, t = teacher.rows(10, 13)
    >>> x.shape, t.shape
    ((3, 4), (3, 1))
    >>> import backprop_xp as bp
    >>> teacher.floor(bp.half_squared_error)
    0.125
    """

    features: int
    outputs: int = 1
    _: KW_ONLY
    hidden: tuple[int, ...] = (16,)
    task: Task = "regression"
    noise: float = 0.1

    net: ClassVar[Net]
    weights: ClassVar[dict[str, Array]]
    _labels: ClassVar[tuple[Any, ...]]

    def __post_init__(self) -> None:
        super().__post_init__()
        units: Any = self.hidden
        if isinstance(units, str) or not isinstance(units, Sequence):
            msg = f"the teacher's hidden layers are a tuple of their units, such as (16,); got {units!r}"
            raise BackpropError(msg)
        self._set(hidden=tuple(units))
        net = chain(self.features, *(Dense(units, tanh) for units in self.hidden), Linear(self.outputs))
        learner = Learner(net)
        weights = _standardized_weights(learner, self.seed)
        given = {name: self._array(v) for name, v in weights.items()}
        self._set(net=net, weights=weights)
        self._set(_labels=(learner, *learner.init(like=given["dense1.w"], weights=given)))

    def rows_of_block(self, start: int) -> tuple[Array, Array]:
        """Inputs and the teacher's answers."""
        x = self._normals(start, self.features)
        learner, w, s = self._labels
        y = learner.predict(w, s, x, net_input=True)
        if self.task == "regression":
            return x, self._noisy(y, start)
        return x, self._mislabelled(self.where.xp.argmax(y, axis=1), start)


@dataclass(frozen=True, repr=False)
class HiddenManifold(Generated):
    """Inputs on a curved surface of few dimensions, x = tanh(c F), and targets that depend on c.

    c is standard normal, shape (rows, latent); F is normal with variance 1 / latent, shape (latent,
    features). Targets are those of a `Teacher` whose input is c (Goldt, Mézard, Krzakala and Zdeborová:
    Modeling the influence of data structure on learning in neural networks, 2020).

    `floor` and `bayes_error` are those of the teacher, since F has full rank and c can be computed from x.
    All backends use the same random bits; the numbers differ by a few ulps.

    Args:
        seed: another seed gives another surface, teacher and inputs.
        n: the number of rows.
        features: the columns of x, at least as many as `latent`.
        outputs: how many numbers, or classes, to predict.
        latent: the number of dimensions of the surface.
        hidden: the widths of the teacher's hidden layers.
        task: 'regression' or 'classification'.
        noise: the standard deviation of the noise, or the probability of a wrong label.
        like: and what follows it as for `Teacher`.

    >>> HiddenManifold(0, 1000, features=50, latent=3).rows(10, 13)[0].shape
    (3, 50)
    """

    features: int
    outputs: int = 1
    _: KW_ONLY
    latent: int = 4
    hidden: tuple[int, ...] = (16,)
    task: Task = "regression"
    noise: float = 0.1

    _teacher: ClassVar[Teacher]
    _surface: ClassVar[Array]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(latent=check_count(self.latent, "the number of latent dimensions"))
        if self.latent > self.features:
            msg = (
                f"a surface of {self.latent} dimensions needs at least as many features, "
                f"got features={self.features}"
            )
            raise BackpropError(msg)
        teacher = Teacher(
            self.seed, self.n, self.latent, self.outputs, hidden=self.hidden, task=self.task,
            noise=self.noise, like=self._array([[0.0]]),
        )  # fmt: skip
        surface = setting(self.seed, self.latent, self.features) / sqrt(self.latent)
        self._set(_teacher=teacher, _surface=self._array(surface), block=teacher.block)

    def rows_of_block(self, start: int) -> tuple[Array, Array]:
        """Points of the surface, and the teacher's outputs as targets."""
        c, t = self._teacher.rows_of_block(start)
        return self.where.xp.tanh(c @ self._surface), t


def _standardized_weights(learner: Learner, seed: int) -> dict[str, Array]:
    """The teacher's weights by block name, computed on the host in float64.

    The last layer is shifted and scaled so that each output has mean 0 and variance 1.
    """
    where = on_host()
    host = where.xp
    own, _ = rng.bits(seed, _NET, 0, 1, xp=host)  # not the seed itself: the net that learns may use it
    w, s = learner.init(int(own[0]), backend="numpy", dtype="float64")
    features = learner.net.outputs[0][0]
    x = normals(seed, _SCALE, 0, _STANDARDIZED_ON, features, where)
    y = learner.predict(w, s, x, net_input=True)
    mean, spread = host.mean(y, axis=0), host.std(y, axis=0)
    blocks = dict(learner.weights(w))
    last = learner.net.nodes[-1].name
    return blocks | {f"{last}.w": blocks[f"{last}.w"] / spread, f"{last}.b": -mean / spread}
