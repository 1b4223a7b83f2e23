"""Which rows each step trains on: a function of (seed, step), so a stopped run can be resumed.

A source is divided into windows of rows. The windows of an epoch are shuffled, and so are the rows in
each window. The order is determined by the seed and the step at which the epoch begins.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import backends, rng
from ..arrays import Array

_SHUFFLE = 1 << 24  # the stream of random bits; the learner uses 0, and 1 << 16 onwards
_CHUNK = 1 << 16  # rows whose order is computed in one call


class Window(NamedTuple):
    """Rows start, …, stop - 1 of the source; its first `skip` batches are done already.

    Attributes:
        start, stop: which rows.
        key: of their order, two words.
        skip: batches done already.
    """

    start: int
    stop: int
    key: tuple[int, int]
    skip: int


@dataclass(frozen=True)
class Batches:
    """The batches of every epoch.

    Attributes:
        n: rows of the source.
        size: rows of a batch.
        window: rows of a window, a multiple of size, so that one batch an epoch at most is short.
        seed: of the run.
        shuffle: whether windows and rows are shuffled, or come in the order of the source.
    """

    n: int
    size: int
    window: int
    seed: int
    shuffle: bool

    @property
    def steps(self) -> int:
        """Batches in an epoch, including the short last one."""
        return -(-self.n // self.size)

    def windows(self, begin: int, skip: int) -> list[Window]:
        """The windows of the epoch that begins at step `begin`, without its first `skip` batches."""
        count = -(-self.n // self.window)
        keys = self._keys(begin, count)
        found = []
        for k in self._order(keys[count], count, 0, count).tolist():
            start = k * self.window
            stop = min(start + self.window, self.n)
            batches = -(-(stop - start) // self.size)
            if skip < batches:
                found.append(Window(start, stop, keys[k], skip))
            skip = max(0, skip - batches)
        return found

    def _keys(self, begin: int, count: int) -> list[tuple[int, int]]:
        """A key for the order of rows in each of `count` windows, and one for the order of windows."""
        if not self.shuffle:
            return [(0, 0)] * (count + 1)
        xp = backends.get("numpy").xp
        seed, stream = (int(a[0]) for a in rng.bits(self.seed, _SHUFFLE, begin, 1, xp=xp))
        first, second = rng.bits(seed, stream, 0, count + 1, xp=xp)
        return list(zip(first.tolist(), second.tolist(), strict=True))

    def left(self, windows: list[Window]) -> int:
        """The number of rows in these windows that are not done yet."""
        return sum(window.stop - window.start - window.skip * self.size for window in windows)

    def chunks(self, window: Window, length: Callable[[], int]) -> Iterator[Array]:
        """The rows of each batch, counted within the window: int64 arrays of shape (steps, batch).

        The short last batch comes in an array of its own.

        Args:
            window: from `windows`.
            length: returns how many steps the next array should have.
        """
        n = window.stop - window.start
        full = n // self.size
        chunk_steps = 1 << max(1, _CHUNK // self.size).bit_length() - 1
        for first in range(window.skip, full, chunk_steps):
            last = min(first + chunk_steps, full)
            order = self._order(window.key, n, first * self.size, last * self.size)
            rows, k = order.reshape(last - first, self.size), 0
            while k < last - first:
                chunk = rows[k : k + length()]
                k += chunk.shape[0]
                yield chunk
        if n % self.size:
            yield self._order(window.key, n, full * self.size, n)[None, :]

    def _order(self, key: tuple[int, int], n: int, start: int, stop: int) -> Any:
        xp = backends.get("numpy").xp
        if not self.shuffle or n == 1:
            return xp.arange(start, stop)
        return rng.permutation(*key, n, start, stop, xp=xp)
