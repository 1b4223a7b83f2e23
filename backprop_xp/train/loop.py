"""The training loop: how steps are passed to the backend, and when the losses are read.

Many steps are passed in one call. Values are read from the device only a few times a second, for the
progress report and to check that the loss is still finite.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from signal import SIGINT, default_int_handler, getsignal, signal
from threading import current_thread, main_thread
from time import perf_counter
from typing import Any, NamedTuple

from .. import backends
from ..arrays import Array, leaves, mapped
from ..compiler.compiled import Compiled
from ..errors import Diverged
from ..learner import Learner
from ..params import join
from ..step import State
from .batches import LARGEST_ORDER, Batches, Window
from .chunk_length import ChunkLength
from .evaluate import read_rows
from .progress import Report, Show


class Epoch(NamedTuple):
    """The figures of an epoch.

    Attributes:
        epoch: its number, from 1.
        rows: the rows trained on; fewer than the source has if the epoch began before this call, or
            was stopped.
        loss: the mean loss of these rows, each computed before the update it led to.
        seconds: wall-clock time; epochs that were passed to the backend in one call share it evenly.
        rows_per_second: rows / seconds.
        validation: the mean loss of the validation rows after this epoch, None where there are none.
    """

    epoch: int
    rows: int
    loss: float
    seconds: float
    rows_per_second: float
    validation: float | None = None


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


@dataclass
class Loop:
    """A training in progress: w and s after `at` steps.

    Attributes:
        learner: the net, its loss and its update rule.
        step: the learner's step, compiled.
        source: the data.
        batches: their order.
        epochs: how many there are, counted from step `began`.
        show: is given a report a few times a second; False stops the training.
        each: whether each epoch is wanted by itself.
        judge: the loss of the validation data, from w and s; None where there are none.
    """

    learner: Learner
    step: Compiled
    source: Any
    batches: Batches
    epochs: int
    show: Show
    each: bool
    judge: Callable[..., float] | None
    w: Array
    s: State
    began: int
    at: int
    chunk: ChunkLength = field(default_factory=ChunkLength)
    stopped: bool = False
    interrupted: bool = False

    def __post_init__(self) -> None:
        self.to = backends.of(self.w)
        self.total, self.rows_of_call, self.start_of_call = 0.0, 0, perf_counter()
        self.pending: list[tuple[Array, int, int, int]] = []
        self.data: tuple[Any, Any] | None = None
        self.unchecked = not hasattr(self.source, "check_for")

    def records(self) -> Iterator[Trained]:
        """Train, epoch by epoch or a few at a time, until the end or until `show` stops it."""
        while not self.stopped and self.at < self.began + self.epochs * self.batches.steps:
            with resumable(self.w, self.s):
                found = self._some_epochs()
            with resumable(self.w, self.s):
                found = self._judged(found)
            yield Trained(self.w, self.s, found)

    def _judged(self, found: tuple[Epoch, ...]) -> tuple[Epoch, ...]:
        """The figures with the validation loss; a rate that waits on a plateau is told of the loss."""
        whole = not (self.at - self.began) % self.batches.steps
        observes = whole and self.learner.pure.plateau is not None
        if self.interrupted and not observes:
            raise self._interrupt()
        *before, last = found
        if self.judge is not None:
            last = last._replace(validation=self.judge(w=self.w, s=self.s))
        if observes:
            self.s = self.learner.observe(self.s, last.loss if last.validation is None else last.validation)
        if self.interrupted:
            raise self._interrupt()
        return (*before, last)

    def _interrupt(self) -> KeyboardInterrupt:
        error = KeyboardInterrupt(f"after step {self.at}; the error has w and s")
        error.w, error.s = self.w, self.s  # type: ignore[attr-defined]
        return error

    def _some_epochs(self) -> tuple[Epoch, ...]:
        """Train to the end of an epoch, or of several short ones."""
        self.good, self.seen = (self.w, self.s), self.at
        done, skip = divmod(self.at - self.began, self.batches.steps)
        count = 1 if skip else self._together(done)
        self.number, self.before, start = done + 1, 0, perf_counter()
        self.losses, self.rows = [0.0] * count, [0] * count
        w, s = self.learner.snapshot(self.w, self.s)
        with _interrupts() as interrupted:
            self.state = self.step.pack(w, s)
            self._train(count, skip, interrupted)
            self.w, self.s = self.step.unpack(*self.state)
        self.unchecked = self.unchecked and bool(skip)  # until every row was seen
        if not bool(self.to.xp.all(self.to.xp.isfinite(self.w))):
            raise self._diverged(of="a weight")
        self.interrupted = bool(interrupted)
        seconds = (perf_counter() - start) / count
        found = zip(self.losses, self.rows, strict=True)
        return tuple(
            Epoch(self.number + k, rows, loss / max(rows, 1), seconds, rows / seconds)
            for k, (loss, rows) in enumerate(found)
            if rows
        )

    def _together(self, done: int) -> int:
        """How many epochs to pass at once: some only where they are short and not wanted by themselves."""
        if self.each or self.batches.window < self.batches.n or not self.step.any_length:
            return 1
        return max(1, min(self.epochs - done, self.chunk.length // self.batches.steps))

    def _train(self, count: int, skip: int, interrupted: list[bool]) -> None:
        if self.batches.window == self.batches.n <= LARGEST_ORDER:
            self.before = skip * self.batches.size
            steps = self._short_epochs(count, skip)
        else:
            windows = self.batches.windows(self.at - skip, skip)
            self.before = self.batches.n - self.batches.left(windows)
            steps = (part for window in windows for part in self._window(window))
        for rows, index, first, epochs in steps:
            *self.state, losses = self.step.scan(*self.state, *rows, index)
            self.at += index.shape[0]
            self.pending.append((losses, index.shape[1], first, epochs))
            if self.chunk.due(self.at) and not self._read():
                self.stopped = True
            if self.stopped or interrupted:
                break
        if self.pending and not self._read():
            self.stopped = True

    def _short_epochs(self, count: int, skip: int) -> Iterator[tuple[Any, Array, int, int]]:
        """The steps of epochs whose orders are drawn ahead: rows, their index, and which epochs these are."""
        size, n = self.batches.size, self.batches.n
        rows, orders = self._rows(((0, n),)), self.batches.epochs(self.at - skip, count)
        full = n // size * size
        if count > 1 and full == n:
            yield rows, orders.reshape(-1, size), 0, count
            return
        for k, order in enumerate(orders):
            index = order[:full].reshape(-1, size)
            while skip < len(index):
                part = index[skip : skip + self.chunk.length]
                yield rows, part, k, 1
                skip += len(part)
            if full < n:
                yield rows, order[None, full:], k, 1
            skip = 0

    def _window(self, window: Window) -> Iterator[tuple[Any, Array, int, int]]:
        """The steps of what is left of a window."""
        asked = perf_counter()
        rows = self._rows(window.blocks)
        self.chunk.second += perf_counter() - asked
        for index in self.batches.chunks(window, lambda: self.chunk.length):
            yield rows, index, 0, 1

    def _rows(self, blocks: tuple[tuple[int, int], ...]) -> Any:
        """The rows of a source in these ranges, on the device of the weights; kept for the next epoch."""
        if self.data is None or self.data[0] != blocks:
            parts = [read_rows(self.source, start, stop) for start, stop in blocks]
            if self.unchecked:  # where they lie: sent to a device, labels may get fewer bits
                for (start, _), part in zip(blocks, parts, strict=True):
                    self.learner.check_values(*part, first=start)
            batch = parts[0] if len(parts) == 1 else _joined(parts)
            like = leaves(self.w)[0]
            batch = mapped(batch, lambda a: self.step.to_device(like, a))
            self.step.check(self.w, self.s, *batch)
            self.data = blocks, batch
        return self.data[1]

    def _read(self) -> bool:
        """Read the losses since the last read; only here does the host wait for the device."""
        for losses, size, first, epochs in self.pending:
            values = self.to.to_host(losses)
            weight = size if self.learner.reduction == "mean" else 1
            per_epoch = values.reshape(epochs, -1)
            for k, each in enumerate(per_epoch.tolist(), first):
                self.losses[k] += weight * sum(each)
                self.rows[k] += size * len(each)
            self.rows_of_call += size * values.size
        self.pending = []
        if not isfinite(sum(self.losses)):
            raise self._diverged(of="the loss")
        self.seen = self.at
        self.chunk.read(self.at, perf_counter())
        return self.show(self._report()) is not False

    def _report(self) -> Report:
        n, k = self.batches.n, max(k for k, rows in enumerate(self.rows) if rows)
        rows = self.before + self.rows[k]
        speed = self.rows_of_call / (perf_counter() - self.start_of_call)
        left = (self.epochs - self.number - k) * n + n - rows
        loss = self.losses[k] / self.rows[k]
        return Report(self.number + k, self.epochs, rows, n, loss, speed, left / speed)

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
    """Within the block Ctrl-C raises a `KeyboardInterrupt` that has w and s, to go on from."""
    try:
        yield
    except KeyboardInterrupt as error:
        if not hasattr(error, "w"):
            error.w, error.s = w, s  # type: ignore[attr-defined]
        raise


@contextmanager
def _interrupts() -> Iterator[list[bool]]:
    """Within the block Ctrl-C is noted in the list, so that a step is never left half done; once alone."""
    noted: list[bool] = []
    if current_thread() is not main_thread() or getsignal(SIGINT) is not default_int_handler:
        yield noted
        return

    def note(*_: Any) -> None:
        if noted:
            msg = "at once; the error has w and s from the beginning of the epoch"
            raise KeyboardInterrupt(msg)
        noted.append(True)

    signal(SIGINT, note)
    try:
        yield noted
    finally:
        signal(SIGINT, default_int_handler)


def _joined(parts: list[Any]) -> Any:
    """Batches one after the other."""
    columns = iter([
        join(list(column), xp=backends.of(column[0]).xp)
        for column in zip(*map(leaves, parts), strict=True)
    ])  # fmt: skip
    return mapped(parts[0], lambda _: next(columns))


def as_int(a: Array) -> int:
    """A 32-bit counter or seed, signed or unsigned, as an int from 0 to 2³² - 1."""
    return int(a) & 0xFFFFFFFF
