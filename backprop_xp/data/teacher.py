"""Synthetic data: a random net, the teacher, labels random inputs. The best possible loss is known.

Every row is a function of (seed, index): nothing is stored, and any slice can be generated.
"""

from collections.abc import Sequence
from functools import partial
from math import log, pi, sqrt
from numbers import Real
from typing import Any, Literal

from .. import backends, losses, rng
from ..activations import tanh
from ..arrays import Array
from ..errors import BackpropError, listed
from ..layers import Dense, Linear, check_count
from ..learner import Learner
from ..losses import Loss
from ..net import chain
from .source import check_slice

Task = Literal["regression", "classification"]
_NET, _SCALE, _INPUTS, _NOISE = (1 << 25, (1 << 25) + 1, (1 << 25) + 2, (1 << 25) + 3)  # random streams
_LOUDEST = 1e15  # noise whose squares are still finite in float32
_PAIRS = 1 << 15  # pairs of random numbers generated in one call: fastest from 8k to 50k
_WINDOW = 1 << 16
_STANDARDIZED_ON = 4096  # rows on which the outputs get mean 0 and variance 1


class Teacher:
    """Random inputs x with noisy outputs of a random tanh net as targets, generated on demand.

    Inputs are standard normal, shape (rows, features). Each output y of the teacher has mean 0 and
    variance 1. Regression: t = y + noise · z with z standard normal, shape (rows, outputs).
    Classification: t = argmax y, int32 of shape (rows,), replaced with probability `noise` by one of
    the other labels.

    Rows are always generated in the same blocks, so on one backend a slice equals the same rows of
    the whole, bit for bit. All backends use the same random bits; the numbers differ by a few ulps.

    Args:
        seed: 0 <= seed < 2³²; another seed gives another teacher and other inputs.
        n: the number of rows.
        features: the number of features, the columns of x.
        outputs: how many numbers, or classes, to predict.
        hidden: units of the teacher's hidden layers.
        task: 'regression' or 'classification'.
        noise: the standard deviation of the noise, or the probability of a wrong label.
        like: an array whose library, device and dtype are used.
        backend: else this library, by name.
        device: of that library.
        dtype: of the inputs and numeric targets.
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

    def __init__(
        self,
        seed: int,
        n: int,
        features: int,
        outputs: int = 1,
        *,
        hidden: tuple[int, ...] = (16,),
        task: Task = "regression",
        noise: float = 0.1,
        like: Array = None,
        backend: str | None = None,
        device: Any = None,
        dtype: Any = None,
        window: int | None = None,
    ) -> None:
        outputs = check_count(outputs, "the number of outputs")
        seed = _check(seed, outputs, task, noise)
        n = check_count(n, "the number of rows")
        features = check_count(features, "the number of features")
        window = window if window is None else check_count(window, "the window of rows shuffled together")
        units: Any = hidden
        if isinstance(units, str) or not isinstance(units, Sequence):
            msg = f"the teacher's hidden layers are a tuple of their units, such as (16,); got {hidden!r}"
            raise BackpropError(msg)
        self.n, self.features, self.outputs = n, features, outputs
        self.seed, self.task, self.noise, self.hidden = seed, task, noise, tuple(hidden)
        self.window = min(n, window or _WINDOW)
        self.net = chain(features, *(Dense(units, tanh) for units in hidden), Linear(outputs))
        self._learner = Learner(self.net)
        self.weights = _standardized_weights(self._learner, seed)
        self._to, self._device, dtype = backends.resolve(like, backend, device, dtype)
        if "rational" in self._to.floats:
            msg = (
                f"a teacher needs tanh and log, which the {self._to.name} backend lacks: use backend='numpy'"
            )
            raise BackpropError(msg)
        self._dtype = dtype
        given = {name: self._to.asarray(v, dtype, self._device) for name, v in self.weights.items()}
        self._w, self._s = self._learner.init(like=given["dense1.w"], weights=given)
        self.block = _block(features)

    def __repr__(self) -> str:
        return (
            f"Teacher({self.seed}, {self.n}, features={self.features}, outputs={self.outputs}, "
            f"hidden={self.hidden}, task={self.task!r}, noise={self.noise}) on {self._to.name}"
        )

    def __reduce__(self) -> Any:
        """A pickle holds the settings, and an array of the library, device and dtype; all else follows."""
        make = partial(
            Teacher,
            hidden=self.hidden,
            task=self.task,
            noise=self.noise,
            window=self.window,
            like=self._w,
        )
        return make, (self.seed, self.n, self.features, self.outputs)

    def rows(self, start: int, stop: int) -> tuple[Array, Array]:
        """The rows start, …, stop - 1: inputs (rows, features), and targets."""
        check_slice(start, stop, self.n)
        size, xp = self.block, self._to.xp
        first, last = start // size, -(-stop // size)
        blocks = [self._rows_of_block(k * size) for k in range(first, last)]
        x, t = blocks[0] if len(blocks) == 1 else (xp.concat(column) for column in zip(*blocks, strict=True))
        part = slice(start - first * size, stop - first * size)
        return x[part, ...], t[part, ...]

    def floor(self, loss: Loss) -> float:
        """The lowest mean loss any net can reach on unseen rows: the loss due to the noise alone.

        Regression with σ = noise and k outputs: half squared error k σ²/2, squared error k σ², mean
        squared error σ², mean absolute error σ √(2/π). Classification with ε = noise and K classes:
        both cross-entropies −(1 − ε) ln(1 − ε) − ε ln(ε / (K − 1)).

        Raises:
            BackpropError: no formula is known for this loss on this task.
        """
        noise, k = self.noise, self.outputs
        known: dict[Loss, float] = {
            losses.half_squared_error: k * noise**2 / 2,
            losses.squared_error: k * noise**2,
            losses.mean_squared_error: noise**2,
            losses.mean_absolute_error: noise * sqrt(2 / pi),
        }
        if self.task == "classification":
            entropy = -(1 - noise) * log(1 - noise) - (noise * log(noise / (k - 1)) if noise else 0.0)
            known = dict.fromkeys((losses.softmax_cross_entropy, losses.categorical_cross_entropy), entropy)
        if loss not in known:
            msg = (
                f"the floor of {type(loss).__name__} on {self.task} is not known; "
                f"it is known for {listed(type(each).__name__ for each in known)}, without settings"
            )
            raise BackpropError(msg)
        return known[loss]

    def _rows_of_block(self, start: int) -> tuple[Array, Array]:
        """The rows of the block that begins at `start`."""
        x = _normals(self.seed, _INPUTS, start, self.block, self.features, self._where)
        y = self._learner.predict(self._w, self._s, x, net_input=True)
        if self.task == "regression":
            z = _normals(self.seed, _NOISE, start, self.block, self.outputs, self._where)
            return x, y + self.noise * z
        return x, self._mislabelled(self._to.xp.argmax(y, axis=1), start)

    def _mislabelled(self, label: Array, start: int) -> Array:
        """Labels (rows,), each replaced with probability `noise` by another label."""
        xp, others = self._to.xp, self.outputs - 1
        first, second = rng.bits(self.seed, _NOISE, start, self.block, xp=xp, device=self._device)
        label = xp.astype(label, xp.int32)
        u, v = (rng.uniform((a, a), xp.float32, xp=xp) for a in (first, second))
        jump = 1 + xp.minimum(xp.astype(v * others, xp.int32), others - 1)
        return xp.where(u < self.noise, (label + jump) % self.outputs, label)

    @property
    def _where(self) -> tuple[Any, Any, Any]:
        return self._to.xp, self._dtype, self._device


def _check(seed: Any, outputs: int, task: str, noise: Any) -> int:
    own: int = rng.check_seed(seed)
    if isinstance(noise, bool) or not isinstance(noise, Real):
        msg = f"the noise must be a number, got {noise!r}"
        raise BackpropError(msg)
    noise = float(noise)
    if task not in ("regression", "classification"):
        msg = f"a task must be 'regression' or 'classification', got {task!r}"
        raise BackpropError(msg)
    check_count(outputs, "the number of outputs")
    if task == "classification" and outputs < 2:
        msg = f"classification needs 2 or more classes, got outputs={outputs}"
        raise BackpropError(msg)
    if task == "classification" and not 0 <= noise < 1:
        msg = f"the noise of classification must be a probability, 0 <= noise < 1, got {noise!r}"
        raise BackpropError(msg)
    if not 0 <= noise <= _LOUDEST:
        msg = f"the noise of regression must be a standard deviation from 0 to {_LOUDEST:g}, got {noise!r}"
        raise BackpropError(msg)
    return own


def _block(features: int) -> int:
    """Rows of a block, a power of two, chosen so that a call generates about _PAIRS random pairs."""
    rows = _PAIRS // ((features + 1) // 2)
    return min(max(1 << max(rows, 1).bit_length() - 1, 128), 8192)


def _normals(seed: int, stream: int, start: int, n: int, columns: int, where: tuple[Any, Any, Any]) -> Array:
    """Standard normal numbers for rows start, …, start + n - 1, shape (n, columns)."""
    xp, dtype, device = where
    pairs = (columns + 1) // 2
    words = rng.bits(seed, stream, start * pairs, n * pairs, xp=xp, device=device)
    both = xp.stack(rng.normal(words, dtype, xp=xp), axis=-1)
    return xp.reshape(both, (n, 2 * pairs))[:, :columns]


def _standardized_weights(learner: Learner, seed: int) -> dict[str, Array]:
    """The teacher's weights by block name, computed on the host in float64.

    The last layer is shifted and scaled so that each output has mean 0 and variance 1.
    """
    host = backends.get("numpy").xp
    own, _ = rng.bits(seed, _NET, 0, 1, xp=host)  # not the seed itself: the net that learns may use it
    w, s = learner.init(int(own[0]), backend="numpy", dtype="float64")
    features = learner.net.outputs[0][0]
    x = _normals(seed, _SCALE, 0, _STANDARDIZED_ON, features, (host, host.float64, None))
    y = learner.predict(w, s, x, net_input=True)
    mean, spread = host.mean(y, axis=0), host.std(y, axis=0)
    blocks = dict(learner.weights(w))
    last = learner.net.nodes[-1].name
    return blocks | {f"{last}.w": blocks[f"{last}.w"] / spread, f"{last}.b": -mean / spread}
