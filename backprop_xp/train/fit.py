"""Training: epochs over a source in batches, or one sample at a time."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

from .. import backends
from ..arrays import Array, as_integer, leaves
from ..checks import check_finite, check_state
from ..compiler.compiled import Compiled
from ..errors import BackpropError, Diverged, got_instead
from ..layers import check_count
from ..learner import Learner
from ..params import join
from ..step import State
from ..workers import Devices, Exchange
from .batches import ORDER, Batches, window_and_block
from .chunk_length import LONGEST
from .evaluate import check_source
from .loop import Epoch, Loop, Partial, Resumed, Run, Trained, as_int, interrupts, resumable, stopped
from .progress import Progress, Show, opened
from .shared import compile_shared, sharded
from .watching import (
    NOTE,
    Callback,
    EarlyStop,
    Record,
    Stopping,
    check_callbacks,
    stopping,
    validation,
)

_BLOCK = 1024  # rows read together, for a source without an attribute `block`


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
        s: the state that belongs to them.
        source: the data.
        epochs: how many, counted from the step `began`.
        batch_size: rows in each step.
        shuffle: whether to draw a new random order in every epoch.
        show: a function, called with a `Report` about five times a second; it stops the training by
            returning False.
        step: the result of `learner.compile(w)`, to reuse it; None compiles the step here.
        each: yield after each epoch. If False, several short epochs may share a record, which is faster.
        validate: held-out data, whose mean loss is recorded after each epoch; or a `Validate`.
        began: to resume a training, the value of s.step when it began.

    Raises:
        BackpropError: data that do not fit the learner, settings out of range.
        Diverged: a loss or a weight is not finite.
        KeyboardInterrupt: after Ctrl-C, once the steps in progress are done; its attributes w and s hold
            the weights and the state. A second Ctrl-C raises it at once, with w and s from the beginning
            of the epoch.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    >>> source = bp.data.Teacher(seed=1, n=100, features=2)
    >>> for w, s, (epoch,) in epochs(learner, *learner.init(), source, epochs=2):
    ...     print(epoch.epoch, epoch.rows)
    1 100
    2 100
    """
    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "shuffle": shuffle,
        "validate": validate,
        "began": began,
    }
    loop, _ = _loop(learner, w, s, source, **settings, show=show, step=step, each=each)
    yield from loop.records()


def _loop(
    learner: Learner,
    w: Array,
    s: State,
    source: Any,
    *,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    show: Show | None,
    step: Compiled | None,
    each: bool,
    validate: Any,
    began: int | None,
    run: Run | None = None,
    workers: Exchange | None = None,
) -> tuple[Loop, Resumed]:
    """Check all arguments; return the training loop, and the point from which it resumes."""
    epochs = check_count(epochs, "the number of epochs")
    batch_size = check_count(batch_size, "the batch size")
    check_source(source)
    _check_start(learner, w, s)
    _check_settings(shuffle, step)
    shared = learner
    if workers is not None:
        shared, (w, s) = sharded(learner, workers), workers.broadcast((w, s))
    at = as_int(s.step)
    first = at if began is None else as_integer(began)
    if first is None or not 0 <= first <= at:
        msg = f"began must be a step from 0 to {at}, the number of steps made so far; got began={began!r}"
        raise BackpropError(msg)
    check_finite(w, "weights")
    learner.check_source(source)
    validate = validation(validate)
    judge = None if validate is None else validate.judge(learner, w)
    each = each or validate is not None or learner.pure.plateau is not None
    window, block = window_and_block(source.n, batch_size, source.window, getattr(source, "block", _BLOCK))
    forwards = getattr(source, "forwards", False)
    batches = Batches(source.n, batch_size, window, block, as_int(s.seed), shuffle, forwards, shared.shards)
    resumed = Resumed(first)
    step = step or learner.compile(w)
    settings = _settings(shared, source, batches, workers) | {"kernels": step.code_for(w)}
    if run is not None:
        resumed = run.begin(learner, w, s, settings | {"began": began})
    if workers is not None:
        resumed = _agreed(workers, learner, resumed, settings | {"epochs": epochs, "run": run is not None})
        step = compile_shared(shared, w, workers)
    show = show or (lambda _: None)
    loop = Loop(
        learner,
        step,
        source,
        batches,
        epochs,
        show,
        each,
        judge,
        w,
        s,
        resumed.began,
        at,
        run,
        resumed.partial,
        every=1 if validate is None else validate.every,
        workers=workers,
    )
    return loop, resumed


def _agreed(workers: Exchange, learner: Learner, resumed: Resumed, settings: dict[str, Any]) -> Resumed:
    """The point from which worker 0 resumes, made known to every worker.

    Raises:
        BackpropError: a worker was started with other settings.
    """
    told = settings | {"learner": repr(learner), "version of orders": ORDER}
    each = workers.gather([told, resumed.began, resumed.history, resumed.partial])
    for k, (other, *_) in enumerate(each):
        names = [name for name in told if other[name] != each[0][0][name]]
        if names:
            how = "; ".join(f"{name} is {other[name]!r}, not {each[0][0][name]!r}" for name in names)
            msg = f"worker {k} was started with other settings than worker 0: {how}; give all the same"
            raise BackpropError(msg)
    _, began, history, partial = each[0]
    return Resumed(began, tuple(Epoch(*row) for row in history), partial and Partial(*partial))


def _settings(learner: Learner, source: Any, batches: Batches, workers: Exchange | None) -> dict[str, Any]:
    """Everything that determines the rows of each step, and the shards over which gradients are summed."""
    kinds = {"by_shard": batches.by_shard, "on_devices": isinstance(workers, Devices)}
    return {
        "rows": batches.n,
        "features": getattr(source, "features", None),
        "outputs": getattr(source, "outputs", None),
        "batch_size": batches.size,
        "window": batches.window,
        "block": batches.block,
        "shuffle": bool(batches.shuffle),
        "forwards": bool(batches.forwards),
        "seed": batches.seed,
        "shards": learner.shards,
    } | {name: True for name, is_so in kinds.items() if is_so}


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
    run: Run | None = None,
    stop: EarlyStop | None = None,
    callbacks: Iterable[Callback] = (),
    workers: Exchange | None = None,
) -> Fitted:
    """Train on every row of a source, `epochs` times; the given w and s are not changed.

    The rows of a step are determined by (s.seed, s.step) alone. To resume a stopped training, call fit
    with the w and s it returned, the same settings, and `began`: the result is the same, bit for bit, as
    without the stop. Without `began`, fit trains for `epochs` more epochs. The last batch of an epoch is
    used even if it is short. w and s are copied before each epoch (or before several short epochs that
    are passed to the backend in one call), and `Diverged` holds these copies.

    Args:
        learner: the net, its loss and its update rule.
        w: weights, from `learner.init` or an earlier training.
        s: the state that belongs to them.
        source: the data, such as `bp.data.Stored(x, t)` or `bp.data.Teacher(0, 10_000, features=8)`. If
            its rows are NumPy arrays and w is not, they are sent to the device of w: streamed while steps
            run with CuPy, one window at a time with JAX and Torch.
        epochs: how many, counted from the step `began`.
        batch_size: rows in each step.
        shuffle: whether to draw a new random order in every epoch: of the source's blocks of rows, and of
            the rows within each window.
        progress: 'auto' shows it on standard error; a function is called with a `Report` about five
            times a second, and stops the training by returning False; None shows nothing.
        validate: held-out data, whose mean loss is recorded after each epoch; or a `bp.train.Validate`,
            which can add metrics.
        step: the result of `learner.compile(w)`, to reuse it; None compiles the step here.
        began: to resume a training, the value of s.step when it began: 0 if that was directly after
            `learner.init`. None: the training begins now.
        run: a `bp.RunDir`, which keeps checkpoints. It also keeps the step at which the training began, so
            that a later process resumes it: `epochs` then counts all epochs of the run.
        stop: a `bp.train.EarlyStop`: w and s of the best epoch are returned. A run saves its state.
        callbacks: functions that are called after each epoch with a `bp.train.Record`; one that returns
            False stops the training.
        workers: `bp.workers.mpi()`, where a launcher started this program several times: each worker
            computes its shards of every batch, and all get the same w and s, with the same bits for any
            number of workers. All must be given the same settings; w and s are worker 0's. Progress is
            shown by worker 0, and a run is `bp.RunDir(path, workers=workers)`, which it alone reads and
            writes. Or `bp.workers.devices()`, for several JAX devices. None: this process alone.

    Returns:
        The new w and s, and the figures of each epoch; with a run, also those of earlier processes.

    Raises:
        BackpropError: data that do not fit the learner, settings out of range.
        Diverged: a loss or a weight is not finite; the error holds w and s from the beginning of the
            epoch.
        KeyboardInterrupt: after Ctrl-C; its attributes w and s are those to resume from, as for `epochs`.
            With a run, also after the signals TERM and USR1; the run has then saved a checkpoint.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)), bp.half_squared_error, bp.GradientDescent(0.1))
    >>> source = bp.data.Teacher(seed=1, n=1000, features=2, hidden=(), noise=0.1)
    >>> w, s, history = bp.fit(learner, *learner.init(), source, epochs=3)
    >>> [(epoch.epoch, epoch.rows) for epoch in history]
    [(1, 1000), (2, 1000), (3, 1000)]
    >>> abs(history[-1].loss - source.floor(learner.loss)) < 0.001
    True
    """
    _check_start(learner, w, s)
    if run is not None and not hasattr(run, "begin"):
        msg = f"run must be a bp.RunDir, {got_instead(run)}"
        raise BackpropError(msg)
    validate, calls = validation(validate), check_callbacks(callbacks)
    early = stopping(stop, validate)
    if workers is not None:
        _check_workers(workers, step, run)
    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "shuffle": shuffle,
        "validate": validate,
        "began": began,
        "workers": workers,
    }
    silent = workers is not None and workers.rank > 0
    noting: Any = nullcontext() if run is None else interrupts("SIGTERM", "SIGUSR1")
    with opened(None if silent else progress) as show, _carrying(lambda: (w, s)), noting as noted:
        each = progress is not None or run is not None or early is not None or bool(calls)
        loop, resumed = _loop(learner, w, s, source, **settings, show=show, step=step, each=each, run=run)
        history = list(resumed.history)
        loop.noted = noted
        if early is not None and run is not None:
            _go_on(early, run, loop)
        with _having_best(early):
            for trained in loop.records():
                w, s, found = trained
                history += found
                best = _watch(Record(w, s, *found[-1]), loop, early, calls) if loop.at_end else None
                if workers is not None:
                    loop.stopped = any(workers.gather(loop.stopped))
                if run is not None:
                    run.notes |= {} if early is None else {NOTE: early.note()}
                    _keep(run, loop, found[-1], (noted or ()) if workers is None else loop.interrupted, best)
    if early is not None and early.kept is not None:
        w, s = early.kept
    return Fitted(w, s, tuple(history))


def _go_on(early: Stopping, run: Run, loop: Loop) -> None:
    """Restore early stopping from the notes of a run; a training that it has ended does not continue."""
    note = run.notes.get(NOTE)
    note = note if loop.workers is None else loop.workers.gather(note)[0]
    if note is None:
        return
    early.go_on(note)
    loop.stopped = early.ends
    if early.best is None:
        return
    best = (loop.w, loop.s) if loop.at == early.step else run.best(loop.learner, like=loop.w)
    if best is not None and as_int(best[1].step) == early.step:
        early.kept = loop.learner.snapshot(*best)
    else:
        warnings.warn(
            f"the best weights so far, of epoch {early.epoch}, are no longer in the run's folder: unless a "
            "later epoch is better, those of the last epoch are returned",
            stacklevel=3,
        )


def _watch(record: Record, loop: Loop, early: Stopping | None, calls: Sequence[Callback]) -> bool | None:
    """Show a finished epoch to early stopping and callbacks; whether it is the best, None if not known."""
    validated = loop.judge is None or record.validation is not None
    best = None if early is None else validated and early.see(loop.learner, record, loop.at)
    if early is not None:
        loop.stopped, loop.copies = loop.stopped or early.ends, early.kept if best else None
    for call in calls:
        if call(record) is False:
            loop.stopped = True
    return best


@contextmanager
def _having_best(early: Stopping | None) -> Iterator[None]:
    """Give an error that ends the training the best weights and their state, as its attribute `best`."""
    try:
        yield
    except (Diverged, KeyboardInterrupt) as error:
        if early is not None and early.kept is not None:
            error.best = early.kept  # type: ignore[union-attr]
        raise


def _keep(run: Run, loop: Loop, epoch: Epoch, noted: Sequence[int], best: bool | None) -> None:
    """Record an epoch in a run; save a checkpoint if one is due, and at the end of the training."""
    w, s, step = loop.w, loop.s, loop.at
    if not loop.at_end:  # progress= stopped the training within the epoch
        run.save(w, s, loop.done())
        return
    best, last = run.record(epoch, step, best=best), step == loop.began + loop.epochs * loop.batches.steps
    if best or last or loop.stopped or noted or run.due(step, epoch=epoch.epoch):
        run.save(w, s)
    if noted and not last:
        with resumable(w, s):
            loop.meet()
            raise stopped(step, run, noted)


@contextmanager
def _carrying(state: Callable[[], tuple[Array, State]]) -> Iterator[None]:
    """Give a Ctrl-C between two epochs the w and s of the last one."""
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


def _check_workers(workers: Any, step: Any, run: Any) -> None:
    if isinstance(workers, type) or not callable(getattr(workers, "broadcast", None)):
        msg = f"workers must be what bp.workers.mpi() or bp.workers.devices() made, {got_instead(workers)}"
        raise BackpropError(msg)
    if step is not None:
        msg = "step= is compiled for one process alone: leave it out when workers= is given"
        raise BackpropError(msg)
    if run is not None and workers.size > 1 and getattr(run, "workers", None) is not workers:
        msg = "a run that workers share must be made with them: write bp.RunDir(path, workers=workers)"
        raise BackpropError(msg)


def _check_start(learner: Any, w: Array, s: Any) -> None:
    if not isinstance(learner, Learner):
        msg = f"the learner must be a bp.Learner, got a {type(learner).__name__}"
        raise BackpropError(msg)
    learner.weights(w)  # raises if they are not this learner's
    check_state(s, State, learner.pure.moments)


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
        step: the result of `learner.compile(w)`, to reuse it; None compiles the step here.

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
