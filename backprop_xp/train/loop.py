"""The training loop: how steps are passed to the backend, and when the losses are read.

Many steps are passed in one call. Values are read from the device only a few times a second, for the
progress report and to check that the loss is still finite.
"""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain
from math import isfinite
from operator import add
from threading import current_thread, main_thread
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from .. import backends
from ..arrays import Array, leaves, mapped
from ..compiler.compiled import Compiled
from ..errors import BackpropError, Diverged
from ..learner import Learner
from ..params import join
from ..step import State
from ..workers import Exchange
from .batches import LARGEST_ORDER, Batches, Piece, Window
from .chunk_length import ChunkLength
from .evaluate import read_rows
from .progress import Report, Show
from .read_ahead import ReadAhead, pages
from .shared import SharedStep

Wanted = tuple[int, tuple[Piece, ...]]

_DECAY, _RECENT = 0.98, 1000  # of the smoothed loss: about 50 steps' mean; of a read, 1,000 steps count


class Epoch(NamedTuple):
    """The figures of an epoch.

    Attributes:
        epoch: its number, from 1.
        rows: the number of rows trained on; fewer than the source has if the epoch began before this
            call, or was stopped.
        loss: the mean loss of these rows, each computed before the update it led to.
        seconds: wall-clock time; epochs that were passed to the backend in one call share it evenly.
        rows_per_second: rows / seconds.
        validation: the mean loss of the validation rows after this epoch, None where they were not
            evaluated.
        metrics: those of the validation rows, by name.
    """

    epoch: int
    rows: int
    loss: float
    seconds: float
    rows_per_second: float
    validation: float | None = None
    metrics: Mapping[str, float] = {}


class Trained(NamedTuple):
    """What `epochs` yields.

    Attributes:
        w: the weights, valid until the next record; keep copies with `learner.snapshot`.
        s: the state, likewise.
        epochs: the figures of the epochs since the last record, the newest last.
    """

    w: Array
    s: State
    epochs: tuple[Epoch, ...]


class Partial(NamedTuple):
    """The part of an epoch that is done.

    Attributes:
        loss: the sum of the losses of its rows.
        rows: how many there are.
        seconds: wall-clock time.
    """

    loss: float
    rows: int
    seconds: float


class Resumed(NamedTuple):
    """The point from which a run resumes.

    Attributes:
        began: the step at which its first epoch began.
        history: the epochs that are done.
        partial: what is done of the epoch in progress, None at the beginning of one.
    """

    began: int
    history: tuple[Epoch, ...] = ()
    partial: Partial | None = None


class Run(Protocol):
    """The protocol of what keeps the checkpoints of a training, such as `bp.RunDir`.

    Attributes:
        longest: steps that are passed to the backend at once, at most.
        notes: further values that are saved with each checkpoint, by name.
    """

    longest: int
    notes: dict[str, Any]

    def begin(self, learner: Learner, w: Array, s: State, settings: Mapping[str, Any]) -> Resumed:
        """Begin or resume a training; `settings` are all that determine the order of its rows."""

    def due(self, step: int, *, epoch: int | None = None) -> bool:
        """Whether a checkpoint is due: at the end of this epoch, or (None) within one."""

    def record(self, epoch: Epoch, step: int, *, best: bool | None = None) -> bool:
        """Record an epoch that ended after this step; return whether it is the best so far, to be saved.

        `best` says so if the caller knows; if it is None, the validation loss decides.
        """

    def best(self, learner: Learner, *, like: Array) -> tuple[Array, State] | None:
        """The weights and state of the best epoch, None if they were not saved."""

    def save(self, w: Array, s: State, partial: Partial | None = None) -> None:
        """Save a checkpoint: within an epoch with what is done of it, or at the end of one."""

    def stopped(self, step: int) -> str:
        """For a message: where the checkpoint of this step was saved, and how to resume from it."""


@dataclass
class Loop:
    """A training in progress: w and s after `at` steps.

    Attributes:
        learner: the net, its loss and its update rule.
        step: the learner's step, compiled.
        source: the data.
        batches: which rows each step uses.
        epochs: how many there are, counted from step `began`.
        show: a function, given a report a few times a second; it stops the training by returning False.
        each: whether each epoch needs a record of its own.
        judge: computes the validation loss and metrics from w and s; None without validation.
        run: keeps checkpoints, within epochs too.
        partial: what an earlier process did of the first epoch.
        noted: the signals received, if the caller collects them; else the loop collects Ctrl-C itself.
        every: the number of epochs between two validations.
        workers: the workers that share each step; all stop after the same one.
    """

    learner: Learner
    step: Compiled
    source: Any
    batches: Batches
    epochs: int
    show: Show
    each: bool
    judge: Callable[..., dict[str, float]] | None
    w: Array
    s: State
    began: int
    at: int
    run: Run | None = None
    partial: Partial | None = None
    noted: list[int] | None = None
    every: int = 1
    workers: Exchange | None = None
    chunk: ChunkLength = field(default_factory=ChunkLength)
    stopped: bool = False
    own: bool = False  # whether w and s belong to the loop alone, and not to the caller
    copies: tuple[Array, State] | None = None  # of the present w and s, if early stopping has made some
    interrupted: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.to = backends.of(self.w)
        self.total, self.rows_of_call, self.start_of_call = 0.0, 0, perf_counter()
        self.pending: list[tuple[Array, int, int, int]] = []
        self.data: tuple[Any, Any] | None = None
        self.unchecked = not hasattr(self.source, "check_for")
        self.smooth = 0.0, 0.0
        self.own_rows = False
        self.compiled = -1

    def records(self) -> Iterator[Trained]:
        """Train to the end, or until stopped; yield after each epoch, or after a few short ones."""
        while not self.stopped and self.at < self.began + self.epochs * self.batches.steps:
            self._keep_good()
            with resumable(*self.good):
                found = self._some_epochs()
            with resumable(self.w, self.s):
                found = self._judged(found)
            yield Trained(self.w, self.s, found)

    def _judged(self, found: tuple[Epoch, ...]) -> tuple[Epoch, ...]:
        """Add the figures of validation, and pass the loss to a rate that is reduced on a plateau.

        Without a run, a signal stops the training here; with one, `fit` first saves a checkpoint.
        """
        judges = self._judges
        ends = bool(self.interrupted) and self.run is None
        waits = self.learner.pure.plateau is not None and (self.judge is None or judges)
        observes = self.at_end and waits
        if ends and not observes:
            raise stopped(self.at, None, self.interrupted)
        *before, last = found
        if self.judge is not None and judges:
            metrics = self.judge(w=self.w, s=self.s)
            last = last._replace(validation=metrics.pop("loss"), metrics=metrics)
            report = self._report()._replace(validation=last.validation, metrics=metrics)
            if self.at_end and self.show(report) is False:
                self.stopped = True
        if observes:
            self.s = self.learner.observe(self.s, last.loss if last.validation is None else last.validation)
        if ends:
            with resumable(self.w, self.s):
                raise stopped(self.at, None, self.interrupted)
        return (*before, last)

    def _keep_good(self) -> None:
        """Copy w and s, to return them if the training diverges.

        At first it is the copies that are trained, since w and s are the caller's; later the originals are,
        since the compiled step is bound to these arrays.
        """
        self.good, self.seen = (self.w, self.s), self.at
        copies, self.copies = self.copies or self.learner.snapshot(self.w, self.s), None
        if self.own:
            self.good = copies
        else:
            self.w, self.s = copies
        self.own = True

    def _some_epochs(self) -> tuple[Epoch, ...]:
        """Train to the end of an epoch, or of several short ones."""
        done, skip = divmod(self.at - self.began, self.batches.steps)
        count = 1 if skip else self._together(done)
        self.number, self.before, self.start = done + 1, 0, perf_counter()
        self.losses, self.rows = [0.0] * count, [0] * count
        if self.partial is not None:
            self.losses[0], self.rows[0] = self.partial.loss, self.partial.rows
            self.start -= self.partial.seconds
            self.partial = None
        with interrupts() if self.noted is None else nullcontext(self.noted) as interrupted:
            self.state = self.step.pack(self.w, self.s)
            self._train(count, skip, interrupted)
            self.w, self.s = self.step.unpack(*self.state)
            self.interrupted = self._agreed(interrupted)
        self.unchecked = self.unchecked and bool(skip)  # until every row was seen
        if not bool(self.to.xp.all(self.to.xp.isfinite(self.w))):
            raise self._diverged(of="a weight")
        if self.interrupted and not self.at_end:
            with resumable(self.w, self.s):
                if self.run is not None:
                    self.run.save(self.w, self.s, self.done())
                self.meet()
                raise stopped(self.at, self.run, interrupted)
        seconds = (perf_counter() - self.start) / count
        found = zip(self.losses, self.rows, strict=True)
        return tuple(
            Epoch(self.number + k, rows, loss / max(rows, 1), seconds, rows / seconds)
            for k, (loss, rows) in enumerate(found)
            if rows
        )

    @property
    def _judges(self) -> bool:
        """Whether the validation data are judged after this epoch."""
        return self.judge is not None and self.number % self.every == 0

    @property
    def at_end(self) -> bool:
        """Whether an epoch ends after the steps that are made."""
        return (self.at - self.began) % self.batches.steps == 0

    def done(self) -> Partial:
        """What is done of the epoch in progress."""
        return Partial(self.losses[0], self.rows[0], perf_counter() - self.start)

    def _length(self) -> int:
        """Steps in the next chunk."""
        return self.chunk.length if self.run is None else min(self.chunk.length, self.run.longest)

    def _save(self) -> None:
        """Save a checkpoint within an epoch."""
        assert self.run is not None
        asked = perf_counter()
        if self.pending and not self._read():
            self.stopped = True
        w, s = self.step.unpack(*self.state)
        if not bool(self.to.xp.all(self.to.xp.isfinite(w))):
            raise self._diverged(of="a weight")
        self.run.save(w, s, self.done())
        self.chunk.second += perf_counter() - asked

    def _ends(self, interrupted: list[int]) -> bool:
        """Whether to stop here; workers stop after the first step in which all learn that one wants to."""
        wish = self.stopped or bool(interrupted)
        if not isinstance(self.step, SharedStep):
            return wish
        self.step.wish = wish
        return self.step.ended

    def _agreed(self, interrupted: list[int]) -> list[int]:
        """The signals received; with workers, the first signal of any, and a stop of one stops all."""
        if self.workers is None:
            return list(interrupted)
        each = self.workers.gather([self.stopped, interrupted[:1]])
        self.stopped = any(stops for stops, _ in each)
        return next((signals for _, signals in each if signals), [])

    def meet(self) -> None:
        """Wait for the other workers, so that none exits while worker 0 is still writing."""
        if self.workers is not None:
            self.workers.gather(None)

    def _together(self, done: int) -> int:
        """How many epochs to pass at once: several only if they are short and need no separate records."""
        if self.each or self.batches.window < self.batches.n or not self.step.any_length:
            return 1
        return max(1, min(self.epochs - done, self.chunk.length // self.batches.steps))

    def _train(self, count: int, skip: int, interrupted: list[int]) -> None:
        with ReadAhead(self._read_pieces) as self.reader:
            self._steps(count, skip, interrupted)

    def _steps(self, count: int, skip: int, interrupted: list[int]) -> None:
        if self.batches.window == self.batches.n <= LARGEST_ORDER:
            self.before = skip * self.batches.size
            steps = self._short_epochs(count, skip)
        else:
            windows = self.batches.windows(self.at - skip, skip)
            self.before = self.batches.n - self.batches.left(windows)
            steps = self._long_epoch(windows)
        self.before -= self.rows[0]
        for rows, index, first, epochs in steps:
            *self.state, losses = self.step.scan(*self.state, *rows, index)
            del rows  # to free this window before the next is read
            self.at += losses.shape[0]
            self.pending.append((losses, index.shape[1], first, epochs))
            if self.chunk.due(self.at) and not self._read():
                self.stopped = True
            if self.run is not None and not self.at_end and self.run.due(self.at):
                self._save()
            if self._ends(interrupted):
                break
        if self.pending and not self._read():
            self.stopped = True

    def _short_epochs(self, count: int, skip: int) -> Iterator[tuple[Any, Array, int, int]]:
        """The steps of epochs that fit in memory: rows, their index, the first epoch, how many epochs."""
        size, n = self.batches.size, self.batches.n
        rows, orders = self._rows((n, ((0, 0, n),))), self.batches.epochs(self.at - skip, count)
        full = n // size * size
        if count > 1 and full == n:
            yield rows, orders.reshape(-1, size), 0, count
            return
        for k, order in enumerate(orders):
            index = order[:full].reshape(full // size, size if full else 0)
            while skip < len(index):
                part = index[skip : skip + self._length()]
                yield rows, part, k, 1
                skip += len(part)
            if full < n:
                yield rows, order[None, full:], k, 1
            skip = 0

    def _long_epoch(self, windows: list[Window]) -> Iterator[tuple[Any, Array, int, int]]:
        """The steps of an epoch that is read window by window, in the same form."""
        wanted: Wanted | None = self._wanted(windows[0])
        for k, window in enumerate(windows):
            asked = perf_counter()
            assert wanted is not None
            rows = self._rows(wanted)
            self.chunk.second += perf_counter() - asked
            self.own_rows = self.reader.on_host
            wanted = self._wanted(windows[k + 1]) if k + 1 < len(windows) else None
            if self._reads_ahead():
                self.reader.ahead(wanted)
            for index in self.batches.chunks(window, self._length):
                yield rows, index, 0, 1
            del rows  # before the next window is read

    def _reads_ahead(self) -> bool:
        """Whether to read the next window while this one is used.

        If every length of a scan has to be compiled, only after a window in which nothing was compiled,
        since a compiler takes as much memory as a window.
        """
        before, self.compiled = self.compiled, self.step.compilations
        return self.step.any_length or before == self.compiled

    def _wanted(self, window: Window) -> Wanted:
        """What to read of a window; workers read only their own shards, after they compared the first window.

        A short last window is given the length of the others where empty rows take no memory, so that
        nothing has to be compiled again.
        """
        shared = self.workers is not None and self.own_rows and self.batches.by_shard
        own = (self.workers.rank, self.workers.size) if shared and self.workers is not None else None
        pieces = self.batches.pieces(window, own)
        return self.batches.window if self.step.shares_pages and len(pieces) > 1 else window.n, pieces

    def _rows(self, wanted: Wanted) -> Any:
        """The wanted rows, on the device of the weights; the last ones are kept for the next epoch."""
        if self.data is None or self.data[0] != wanted:
            self.data = None
            like = leaves(self.state)[0]
            fresh = len(wanted[1]) > 1  # joined from pieces, so nobody else holds them
            batch = mapped(self.reader(wanted), lambda a: self.step.to_device(like, a, fresh=fresh))
            self.step.check(*self.good, *batch)  # not self.w, which is donated to the steps
            self.data = wanted, batch
        return self.data[1]

    def _read_pieces(self, wanted: Wanted) -> Any:
        """Read and check pieces of a source, and join them, each in its place among the wanted rows."""
        n, pieces = wanted
        parts = ((at, self._read_piece(start, stop)) for at, start, stop in pieces)
        begins, first = next(parts)
        _, start, stop = pieces[0]
        if stop - start == n:
            return first
        if any(backends.of(a).name != "numpy" for a in leaves(first)):
            return _joined([first, *(part for _, part in parts)])
        some = sum(stop - start for _, start, stop in pieces) < n
        made = pages if some or self.step.shares_pages else backends.get("numpy").xp.empty
        found = mapped(first, lambda a: made((n, *a.shape[1:]), a.dtype))
        for at, part in chain([(begins, first)], parts):
            _put(found, part, at)
        return found

    def _read_piece(self, start: int, stop: int) -> Any:
        part = read_rows(self.source, start, stop)
        if self.unchecked:  # now, since labels may lose bits on their way to a device
            self.learner.check_values(*part, first=start)
        return part

    def _read(self) -> bool:
        """Read the losses since the last read; only here does the host wait for the device.

        They are added up step by step, so that the sum does not depend on when they are read.
        """
        for losses, size, first, epochs in self.pending:
            values = self.to.to_host(losses)
            weight = size if self.learner.reduction == "mean" else 1
            self._smooth(values[-_RECENT:], weight / size)
            per_epoch = values.reshape(epochs, -1)
            for k, each in enumerate(per_epoch.tolist(), first):
                self.losses[k] = reduce(add, map(float(weight).__mul__, each), self.losses[k])
                self.rows[k] += size * len(each)
            self.rows_of_call += size * values.size
        self.pending = []
        if not isfinite(sum(self.losses)):
            raise self._diverged(of="the loss")
        self.seen = self.at
        self.chunk.read(self.at, perf_counter())
        if self.at_end and self._judges:
            return True  # the report follows with the figures of validation
        return self.show(self._report()) is not False

    def _smooth(self, losses: Any, share: float) -> None:
        """Update the smoothed loss, Σ_k d^k E_k / Σ_k d^k with k = 0 for the newest step."""
        decay, (total, weight) = _DECAY ** len(losses), self.smooth
        powers = _DECAY ** backends.get("numpy").xp.arange(len(losses) - 1, -1, -1)
        recent = share * float((powers * losses.astype("float64")).sum())
        self.smooth = total * decay + recent, weight * decay + float(powers.sum())

    def _report(self) -> Report:
        n, k = self.batches.n, max(k for k, rows in enumerate(self.rows) if rows)
        rows = self.before + self.rows[k]
        speed = self.rows_of_call / (perf_counter() - self.start_of_call)
        left = (self.epochs - self.number - k) * n + n - rows
        loss, smoothed = self.losses[k] / self.rows[k], self.smooth[0] / (self.smooth[1] or 1.0)
        memory = self.to.used_memory(self.to.device_of(self.good[0]))
        number = self.number + k
        return Report(number, self.epochs, rows, n, loss, speed, left / speed, smoothed, memory=memory)

    def _diverged(self, *, of: str) -> Diverged:
        rate, last = getattr(self.learner.update, "rate", None), self.number + len(self.losses) - 1
        several = last > self.number
        where = f"epochs {self.number} to {last}" if several else f"epoch {last}"
        begun = "these epochs" if several else "the epoch"
        smaller = f", such as {rate / 10:g}" if isinstance(rate, (int, float)) else ""
        msg = (
            f"training diverged: between steps {self.seen} and {self.at}, in {where}, {of} "
            f"is not finite; use a smaller rate{smaller}, or scale inputs and targets down "
            f"(the error's w and s are from the beginning of {begun})"
        )
        return Diverged(msg, *self.good)


@contextmanager
def resumable(w: Array, s: State) -> Iterator[None]:
    """Within the block, a Ctrl-C raises a `KeyboardInterrupt` with w and s, to resume from."""
    try:
        yield
    except KeyboardInterrupt as error:
        if not hasattr(error, "w"):
            error.w, error.s = w, s  # type: ignore[attr-defined]
        raise


def stopped(step: int, run: Run | None, noted: Sequence[int]) -> KeyboardInterrupt:
    """The error that ends a training which a signal stopped after this step; it holds the signal."""
    how = "the error has w and s" if run is None else run.stopped(step)
    error = KeyboardInterrupt(f"after step {step}; {how}")
    error.signal = noted[0]  # type: ignore[attr-defined]
    return error


@contextmanager
def interrupts(*others: str) -> Iterator[list[int]]:
    """Within the block, the first signal is only noted in the list, so that no step is left half done.

    After it, a Ctrl-C raises KeyboardInterrupt at once, and any other signal ends the process. A signal for
    which the program has a handler of its own is left to that.

    Args:
        others: names of signals that are noted besides Ctrl-C, if the system has them.
    """
    noted: list[int] = []
    usual = {signal.SIGINT: signal.default_int_handler}
    usual |= {getattr(signal, name): signal.SIG_DFL for name in others if hasattr(signal, name)}
    own = {number for number, handler in usual.items() if signal.getsignal(number) is handler}
    if current_thread() is not main_thread() or not own:
        yield noted
        return

    def note(number: int, _: Any) -> None:
        if noted and number == signal.SIGINT:
            msg = "at once; the error has w and s from the beginning of the epoch"
            raise KeyboardInterrupt(msg)
        noted.append(number)
        for each in own - {signal.SIGINT}:
            signal.signal(each, usual[each])

    try:
        for number in own:
            signal.signal(number, note)
        yield noted
    finally:
        for number in own:
            signal.signal(number, usual[number])


def _joined(parts: list[Any]) -> Any:
    """Batches joined along their rows."""
    xp = backends.of(leaves(parts)[0]).xp
    columns = iter([join(list(column), xp=xp) for column in zip(*map(leaves, parts), strict=True)])
    return mapped(parts[0], lambda _: next(columns))


def _put(into: Any, rows: Any, at: int) -> None:
    """Write NumPy rows into others, from row `at` on."""
    columns = list(zip(leaves(into), leaves(rows), strict=True))
    if any(a.dtype != b.dtype or a.shape[1:] != b.shape[1:] for a, b in columns):
        forms = [[f"{a.dtype}{list(a.shape[1:])}" for a in leaves(each)] for each in (into, rows)]
        msg = f"all rows of a source must have one shape and dtype, got {forms[0]} and {forms[1]}"
        raise BackpropError(msg)
    for a, b in columns:
        a[at : at + b.shape[0], ...] = b


def as_int(a: Array) -> int:
    """A 32-bit counter or seed, signed or unsigned, as an int from 0 to 2³² - 1."""
    return int(a) & 0xFFFFFFFF
