"""Training: epochs over a source in batches, or one sample at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from .. import backends
from ..arrays import Array, as_integer, leaves
from ..checks import check_finite, check_state
from ..compiler.compiled import Compiled
from ..errors import BackpropError
from ..layers import check_count
from ..learner import Learner
from ..params import join
from ..step import State
from .batches import Batches, window_and_block
from .chunk_length import LONGEST
from .evaluate import check_source, evaluate
from .loop import Epoch, Loop, Trained, as_int
from .progress import Progress, Show, opened

_BLOCK = 1024  # rows that are read together, unless a source knows better


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


def epochs(
    learner: Learner,
    w: Array,
    s: State,
    source: Any,
    *,
    epochs: int = 1,
    batch_size: int = 32,
    shuffle: bool = True,
    show: Show | None = None,
    step: Compiled | None = None,
    each: bool = True,
    validate: Any = None,
    began: int | None = None,
) -> Iterator[Trained]:
    """Train as `fit` does, and yield w, s and the figures after every epoch.

    Args:
        learner: the net, its loss and its update rule.
        w: weights, from `learner.init` or an earlier training.
        s: the state, likewise.
        source: the data.
        epochs: how many, counted from the step `began`.
        batch_size: rows of a step.
        shuffle: a new random order in every epoch.
        show: is called with a `Report` about five times a second, and stops the training by returning
            False.
        step: what `learner.compile(w)` returned, to be used again; else the step is compiled here.
        each: yield after each epoch; else several short epochs may come in one record, which is faster.
        validate: further data; after each epoch its mean loss is computed and recorded.
        began: to resume a training, the value of s.step when it began.

    Raises:
        BackpropError: data that do not fit the learner, settings out of range.
        Diverged: a loss or a weight is not finite.
        KeyboardInterrupt: after Ctrl-C, when the steps under way are done; its attributes w and s hold
            the weights and the state. After a second Ctrl-C at once, with those from the beginning of
            the epoch.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    >>> source = bp.data.Teacher(seed=1, n=100, features=2)
    >>> for w, s, (epoch,) in epochs(learner, *learner.init(), source, epochs=2):
    ...     print(epoch.epoch, epoch.rows)
    1 100
    2 100
    """
    epochs = check_count(epochs, "the number of epochs")
    batch_size = check_count(batch_size, "the batch size")
    check_source(source)
    _check_start(learner, w, s)
    _check_settings(shuffle, step)
    at = as_int(s.step)
    first = at if began is None else as_integer(began)
    if first is None or not 0 <= first <= at:
        msg = f"began must be a step from 0 to {at}, the number of steps made so far; got began={began!r}"
        raise BackpropError(msg)
    check_finite(w, "weights")
    learner.check_source(source)
    judge = None
    if validate is not None:
        check_source(validate)
        learner.check_source(validate)
        judge = partial(evaluate, learner, source=validate, compiled=learner.compile_evaluate(w))
    each = each or validate is not None or learner.pure.plateau is not None
    window, block = window_and_block(source.n, batch_size, source.window, getattr(source, "block", _BLOCK))
    batches = Batches(source.n, batch_size, window, block, as_int(s.seed), shuffle)
    step, show = step or learner.compile(w), show or (lambda _: None)
    yield from Loop(learner, step, source, batches, epochs, show, each, judge, w, s, first, at).records()


def fit(
    learner: Learner,
    w: Array,
    s: State,
    source: Any,
    *,
    epochs: int = 1,
    batch_size: int = 32,
    shuffle: bool = True,
    progress: Progress = None,
    validate: Any = None,
    step: Compiled | None = None,
    began: int | None = None,
) -> Fitted:
    """Train on every row of a source, `epochs` times; the given w and s are not changed.

    The rows of a step are determined by (s.seed, s.step) alone. To resume a stopped run, call fit with
    the w and s it returned, the same settings, and `began`: the result is the same, bit for bit, as
    without the stop. Without `began`, fit trains for `epochs` more epochs. The short last batch of an
    epoch is used too. Each epoch begins with a copy of w and s, which `Diverged` returns; so do several
    short epochs that are passed to the backend in one call.

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
        validate: further data; after each epoch its mean loss is computed and recorded.
        step: what `learner.compile(w)` returned, to be used again; else the step is compiled here.
        began: to resume a training, the value of s.step when it began: 0 if that was directly after
            `learner.init`. None: the training begins now.

    Returns:
        The new w and s, and the loss and time of each epoch.

    Raises:
        BackpropError: data that do not fit the learner, settings out of range.
        Diverged: a loss or a weight is not finite; the error holds w and s from the beginning of the
            epoch.
        KeyboardInterrupt: after Ctrl-C; its attributes w and s are those to go on from, as for `epochs`.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)), bp.half_squared_error, bp.GradientDescent(0.1))
    >>> source = bp.data.Teacher(seed=1, n=1000, features=2, hidden=(), noise=0.1)
    >>> w, s, history = bp.fit(learner, *learner.init(), source, epochs=3)
    >>> [(epoch.epoch, epoch.rows) for epoch in history]
    [(1, 1000), (2, 1000), (3, 1000)]
    >>> abs(history[-1].loss - source.floor(learner.loss)) < 0.001
    True
    """
    history: list[Epoch] = []
    _check_start(learner, w, s)
    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "shuffle": shuffle,
        "validate": validate,
        "began": began,
    }
    with opened(progress) as show, _carrying(lambda: (w, s)):
        each = progress is not None
        for record in _epochs(learner, w, s, source, **settings, show=show, step=step, each=each):
            w, s, found = record
            history += found
    return Fitted(w, s, tuple(history))


@contextmanager
def _carrying(state: Callable[[], tuple[Array, State]]) -> Iterator[None]:
    """A Ctrl-C between two epochs has the w and s of the last one, too."""
    try:
        yield
    except KeyboardInterrupt as error:
        if not hasattr(error, "w"):
            error.w, error.s = state()  # type: ignore[attr-defined]
        raise


def _check_settings(shuffle: Any, step: Any) -> None:
    if not isinstance(shuffle, int) or shuffle not in (False, True):
        msg = f"shuffle must be True or False, got {shuffle!r}: the order follows from the seed of init"
        raise BackpropError(msg)
    if step is not None and not isinstance(step, Compiled):
        msg = f"step must be what learner.compile(w) returned, got {step!r}"
        raise BackpropError(msg)


def _check_start(learner: Any, w: Array, s: Any) -> None:
    if not isinstance(learner, Learner):
        msg = f"the learner must be a bp.Learner, got a {type(learner).__name__}"
        raise BackpropError(msg)
    learner.weights(w)  # which checks that they are there
    check_state(s, State, learner.pure.moments)


_epochs = epochs  # which `fit` has as an argument


def per_sample(
    learner: Learner, w: Array, s: State, *batch: Any, step: Compiled | None = None
) -> tuple[Array, State, Array]:
    """Train on one sample at a time, in the given order; the given w and s are not changed.

    Each update is made before the next sample is used (stochastic gradient descent), as in the articles.

    Args:
        learner: the net, its loss and its update rule.
        w: the weights.
        s: the state.
        batch: inputs, shape (samples, features); targets, shape (samples, units), or integer labels
            (samples,); and optionally weights, shape (samples,).
        step: what `learner.compile(w)` returned, to be used again; else the step is compiled here.

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
    to = learner.check(w, s, *batch)
    learner.check_values(*batch)
    step, losses = step or learner.compile(w), []
    host, n = backends.get("numpy").xp, leaves(batch)[0].shape[0]
    state = step.pack(*learner.snapshot(w, s))
    for first in range(0, n, LONGEST):
        rows = host.arange(first, min(first + LONGEST, n))
        *state, part = step.scan(*state, *batch, rows[:, None])
        losses.append(part)
    return *step.unpack(*state), join(losses, xp=to.xp)
