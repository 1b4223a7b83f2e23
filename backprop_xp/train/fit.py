"""Training: epochs over a source in batches, or one sample at a time."""

from typing import NamedTuple

from .. import backends
from ..arrays import Array
from ..checks import check_finite
from ..errors import BackpropError
from ..layers import check_count
from ..learner import Learner
from ..params import join
from ..step import State
from .batches import Batches
from .chunk_length import LONGEST
from .loop import Epoch, Loop, Rows, as_int, compiled_step
from .progress import Progress, opened


class Fitted(NamedTuple):
    """What `fit` returns.

    Attributes:
        w: the weights.
        s: the state.
        history: one entry for each epoch.
    """

    w: Array
    s: State
    history: tuple[Epoch, ...]


def fit(
    learner: Learner,
    w: Array,
    s: State,
    source: Rows,
    *,
    epochs: int = 1,
    batch_size: int = 32,
    shuffle: bool = True,
    progress: Progress = None,
    began: int | None = None,
) -> Fitted:
    """Train on every row of a source, `epochs` times; the given w and s are not changed.

    The rows of a step are determined by (s.seed, s.step) alone. To resume a stopped run, call fit with
    the w and s it returned, the same settings, and `began`: the result is the same, bit for bit, as
    without the stop. Without `began`, fit trains for `epochs` more epochs. The short last batch of an
    epoch is used too. Each epoch begins with a copy of w and s, which `Diverged` returns.

    Args:
        learner: the net, its loss and its update rule.
        w: weights, from `learner.init` or an earlier training.
        s: the state, likewise.
        source: the data, such as `bp.data.Stored(x, t)` or `bp.data.Teacher(0, 10_000, features=8)`. If
            its rows are NumPy arrays and w is not, they are sent to the device of w: with CuPy
            streamed while steps run, with JAX and Torch one window at a time.
        epochs: how many, counted from the step `began`.
        batch_size: rows of a step.
        shuffle: a new random order in every epoch: of the source's windows, and of the rows in each.
        progress: 'auto' shows it on standard error; a function is called with a `Report` about five
            times a second, and stops the training by returning False; None shows nothing.
        began: to resume a training, the value of s.step when it began: 0 if that was directly after
            `learner.init`. None: the training begins now.

    Returns:
        The new w and s, and the loss and time of each epoch.

    Raises:
        BackpropError: data that do not fit the learner, settings out of range.
        Diverged: a loss or a weight is not finite; the error holds w and s from the beginning of the
            epoch.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)), bp.half_squared_error, bp.GradientDescent(0.1))
    >>> source = bp.data.Teacher(seed=1, n=1000, features=2, hidden=(), noise=0.1)
    >>> w, s, history = bp.fit(learner, *learner.init(), source, epochs=3)
    >>> [(epoch.epoch, epoch.rows) for epoch in history]
    [(1, 1000), (2, 1000), (3, 1000)]
    >>> abs(history[-1].loss - source.floor(learner.loss)) < 0.001
    True
    """
    check_count(epochs, "the number of epochs")
    check_count(batch_size, "the batch size")
    if not hasattr(source, "rows"):
        msg = f"a source of data must be one such as bp.data.Stored(x, t), got {type(source).__name__}"
        raise BackpropError(msg)
    at = as_int(s.step)
    began = at if began is None else began
    if not 0 <= began <= at:
        msg = f"began must be a step from 0 to {at}, the number of steps made so far; got began={began!r}"
        raise BackpropError(msg)
    window = max(1, min(source.n, source.window) // batch_size) * batch_size
    batches = Batches(source.n, batch_size, window, as_int(s.seed), shuffle)
    check_finite(w, "weights")
    with opened(progress) as show:
        loop = Loop(learner, source, batches, epochs, show, w, s, began, at)
        while loop.at < began + epochs * batches.steps and loop.epoch():
            pass
    return Fitted(loop.w, loop.s, tuple(loop.history))


def per_sample(learner: Learner, w: Array, s: State, x: Array, t: Array) -> tuple[Array, State, Array]:
    """Train on one sample at a time, in the given order; the given w and s are not changed.

    Each update is made before the next sample is used (stochastic gradient descent), as in the articles.

    Args:
        learner: the net, its loss and its update rule.
        w: the weights.
        s: the state.
        x: inputs, shape (samples, features).
        t: targets, shape (samples, units), or integer labels (samples,).

    Returns:
        The new w and s, and the loss of each sample before its update, shape (samples,).

    Raises:
        BackpropError: data that do not fit the learner.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(1, bp.layers.Linear(1, bias=False)), update=bp.GradientDescent(0.5))
    >>> w, s = learner.init(backend="exact", weights={"dense1.w": [[1]]})
    >>> x = bp.asarray([[1], [1]], like=w)
    >>> per_sample(learner, w, s, x, 0 * x)[2]
    exact.asarray(['1/2', '1/8'])
    """
    to = learner.check(w, s, x, t)
    step, losses = compiled_step(learner, to), []
    host = backends.get("numpy").xp
    w, s = learner.snapshot(w, s)
    for first in range(0, x.shape[0], LONGEST):
        rows = host.arange(first, min(first + LONGEST, x.shape[0]))
        w, s, part = step.scan(w, s, x, t, rows[:, None])
        losses.append(part)
    return w, s, join(losses, xp=to.xp)
