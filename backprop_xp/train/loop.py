"""The training loop: how steps are passed to the backend, and when the losses are read.

Many steps are passed in one call. Values are read from the device only a few times a second, for the
progress report and to check that the loss is still finite.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from threading import get_ident
from time import perf_counter
from typing import NamedTuple, Protocol

from .. import backends
from ..arrays import Array
from ..backends import Backend
from ..compiler.compiled import Compiled
from ..errors import Diverged
from ..learner import Learner
from ..step import State
from .batches import Batches, Window
from .chunk_length import ChunkLength
from .progress import Report, Show


class Rows(Protocol):
    """What the loop needs of a source; `bp.data.Source` is the full protocol."""

    @property
    def n(self) -> int:
        """The number of rows."""

    @property
    def window(self) -> int:
        """The number of rows that are in memory, and shuffled, together."""

    def rows(self, start: int, stop: int) -> tuple[Array, Array]:
        """The inputs and targets of the rows start, …, stop - 1."""


class Epoch(NamedTuple):
    """The result of an epoch.

    Attributes:
        epoch: its number, from 1.
        rows: the rows trained on; fewer than the source has if the epoch began before this call, or
            was stopped.
        loss: the mean loss of these rows, each computed before the update it led to.
        seconds: wall-clock time.
        rows_per_second: rows / seconds.
    """

    epoch: int
    rows: int
    loss: float
    seconds: float
    rows_per_second: float


@dataclass
class Loop:
    """A training in progress: w and s after `at` steps."""

    learner: Learner
    source: Rows
    batches: Batches
    epochs: int
    show: Show
    w: Array
    s: State
    began: int
    at: int
    history: list[Epoch] = field(default_factory=list)
    chunk: ChunkLength = field(default_factory=ChunkLength)
    pending: list[tuple[Array, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.to = backends.of(self.w)
        self.step = compiled_step(self.learner, self.to)
        self.rows_of_call, self.start_of_call = 0, perf_counter()

    def epoch(self) -> bool:
        """Train until the end of the epoch; False if `show` stopped it."""
        self.good, self.seen = (self.w, self.s), self.at
        self.w, self.s = self.learner.snapshot(self.w, self.s)
        done, skip = divmod(self.at - self.began, self.batches.steps)
        self.number, self.start = done + 1, perf_counter()
        self.total, self.rows = 0.0, 0
        windows = self.batches.windows(self.at - skip, skip)
        self.before = self.batches.n - self.batches.left(windows)
        going = all(self._train(window) for window in windows) and (not self.pending or self._read())
        if not bool(self.to.xp.all(self.to.xp.isfinite(self.w))):
            raise self._diverged(of="a weight")
        seconds = perf_counter() - self.start
        loss = self.total / max(self.rows, 1)
        self.history.append(Epoch(self.number, self.rows, loss, seconds, self.rows / seconds))
        return going

    def _train(self, window: Window) -> bool:
        """Train on the rest of a window; False if `show` stopped it."""
        asked = perf_counter()
        x, t = (self.step.to_device(self.w, a) for a in self.source.rows(window.start, window.stop))
        self.chunk.second += perf_counter() - asked
        self.step.check(self.w, self.s, x, t)
        for rows in self.batches.chunks(window, lambda: self.chunk.length):
            self.w, self.s, losses = self.step.scan(self.w, self.s, x, t, rows)
            self.at += rows.shape[0]
            self.pending.append((losses, rows.shape[1]))
            if self.chunk.due(self.at) and not self._read():
                return False
        return True

    def _read(self) -> bool:
        """Read the losses since the last read; only here does the host wait for the device."""
        for losses, size in self.pending:
            values = self.to.to_host(losses).tolist()
            weight = size if self.learner.reduction == "mean" else 1
            self.total += weight * sum(values)
            self.rows += size * len(values)
            self.rows_of_call += size * len(values)
        self.pending = []
        if not isfinite(self.total):
            raise self._diverged(of="the loss")
        self.seen = self.at
        self.chunk.read(self.at, perf_counter())
        return self.show(self._report()) is not False

    def _report(self) -> Report:
        n, rows = self.batches.n, self.before + self.rows
        speed = self.rows_of_call / (perf_counter() - self.start_of_call)
        left = (self.epochs - self.number) * n + n - rows
        return Report(self.number, self.epochs, rows, n, self.total / self.rows, speed, left / speed)

    def _diverged(self, *, of: str) -> Diverged:
        rate = self.learner.update.rate
        smaller = f", such as {rate / 10:g}" if isinstance(rate, (int, float)) else ""
        msg = (
            f"training diverged: between steps {self.seen} and {self.at}, in epoch {self.number}, {of} "
            f"is not finite; use a smaller rate{smaller}, or scale inputs and targets down "
            "(the error's w and s are from the beginning of the epoch)"
        )
        return Diverged(msg, *self.good)


def as_int(a: Array) -> int:
    """A 32-bit counter or seed, signed or unsigned, as an int from 0 to 2³² - 1."""
    return int(a) & 0xFFFFFFFF


def compiled_step(learner: Learner, to: Backend) -> Compiled:
    """The compiled step of a learner; cached, unless the learner cannot be hashed."""
    try:
        hash(learner)
    except TypeError:
        return _compiled.__wrapped__(learner, to, 0)
    return _compiled(learner, to, get_ident())


@lru_cache(maxsize=16)
def _compiled(learner: Learner, to: Backend, thread: int) -> Compiled:  # noqa: ARG001
    """The cache of compiled steps: one per thread, since a compiled step may own buffers."""
    return to.compile(learner.pure_step, learner.check, learner.splits)
