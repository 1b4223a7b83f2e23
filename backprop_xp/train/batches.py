"""Which rows each step learns from: a function of (seed, step), so that a stopped run can be resumed.

The rows of a source that is not in memory come in windows, each made of many small blocks at random
places, so that even a file sorted by label is mixed. The rows of a window come in a random order; each
shard of a batch has its own part of the window to take its rows from. The order of an epoch is determined
by the seed and the step at which it begins.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from math import lcm
from typing import Any, NamedTuple

from .. import backends, rng
from ..arrays import Array
from ..step import cuts
from ..workers import owned

ORDER = 2  # the version of these orders: a run made with another version cannot be resumed
_SHUFFLE = 1 << 24  # the stream of random bits; 0 and 1 << 16 onwards are the learner's
LARGEST_ORDER = 1 << 16  # rows whose order is computed in one call
_EPOCHS = 64  # whose orders are computed in one call, at most


Piece = tuple[int, int, int]


class Window(NamedTuple):
    """Rows that are in memory together; the first `skip` batches of it are done already.

    Attributes:
        blocks: ranges (start, stop) of the source, in the order in which they are read.
        n: rows in all of them.
        key: the random key of their order, two words of shape (1, 1).
        skip: batches done already.
    """

    blocks: tuple[tuple[int, int], ...]
    n: int
    key: tuple[Any, Any]
    skip: int


def window_and_block(n: int, size: int, window: int, block: int) -> tuple[int, int]:
    """Rows of a window and of its blocks, such that at most one batch of an epoch is short.

    A window is a whole number of batches and of blocks. Where no such window has at least three quarters
    of the rows asked for, blocks are made smaller.

    Args:
        n: rows of the source.
        size: rows of a batch.
        window: rows that may be in memory together.
        block: rows that are cheap to read together.

    >>> window_and_block(1_000_000, 128, 65_536, 1024), window_and_block(1_000_000, 33, 65_536, 1024)
    ((65536, 1024), (65472, 1023))
    >>> window_and_block(300, 100, 65_536, 1024)
    (300, 300)
    """
    if window >= n:
        return n, n
    window = max(window, size)
    blocks = range(min(block, window), 0, -1)
    whole = {b: window // lcm(b, size) * lcm(b, size) for b in blocks}
    block = next((b for b in blocks if whole[b] >= 0.75 * window), 1)
    return whole[block] or size, block


@dataclass
class Batches:
    """The batches of every epoch.

    Attributes:
        n: rows of the source.
        size: rows of a batch.
        window: rows of a window, whole batches and whole blocks; n for one window.
        block: rows of a block.
        seed: the seed of the run.
        shuffle: whether rows come in random order; otherwise in the source's.
        forwards: windows are neighbouring rows in their own order, as a stream is read; only the rows of
            each are shuffled.
        shards: parts of a batch, each of which takes its rows from a part of a window of its own, so that
            whoever computes a shard need not read the others' rows.
    """

    n: int
    size: int
    window: int
    block: int
    seed: int
    shuffle: bool
    forwards: bool = False
    shards: int = 1
    _orders: dict[int, Array] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Batches in an epoch, including the short one."""
        return -(-self.n // self.size)

    @property
    def by_shard(self) -> bool:
        """Whether shards have parts of a window of their own."""
        return self.shards > 1 and self.shuffle and not self.forwards and self.window < self.n

    def windows(self, begin: int, skip: int) -> list[Window]:
        """The windows of the epoch that begins at step `begin`, without its first `skip` batches."""
        count = -(-self.n // self.window)
        keys, blocks = self._keys(begin, count), self._blocks(begin, count)
        found = []
        for k in range(count):
            n = min(self.window, self.n - k * self.window)
            batches = -(-n // self.size)
            if skip < batches:
                found.append(Window(blocks[k], n, keys[k], skip))
            skip = max(0, skip - batches)
        return found

    def _blocks(self, begin: int, count: int) -> list[tuple[tuple[int, int], ...]]:
        """The blocks of each window: full ones in random order, what is left over in the last window."""
        if not self.shuffle or self.forwards or count == 1:
            starts = range(0, self.n, self.window)
            return [((start, min(start + self.window, self.n)),) for start in starts]
        full, each = self.n // self.block, self.window // self.block
        order = rng.permutation(*self._keys(begin, count)[count], full, 0, full, xp=_host())
        starts = (order[0] * self.block).tolist()
        blocks = [(start, start + self.block) for start in starts]
        blocks += [(full * self.block, self.n)] if full * self.block < self.n else []
        found = [blocks[k * each : (k + 1) * each] for k in range(count)]
        found[-1] += blocks[count * each :]
        return [_merged(own) for own in found]

    def _keys(self, begin: Any, count: int) -> list[tuple[Any, Any]]:
        """Keys for the order of rows in each of `count` windows, and one for the order of blocks.

        For an array of steps at which epochs begin, each key is two columns of words.
        """
        if not self.shuffle:
            return [(0, 0)] * (count + 1)
        host = _host()
        steps = host.asarray(begin, dtype="uint64").reshape(-1, 1)
        low, high = (steps & 0xFFFFFFFF).astype("uint32"), (steps >> 32).astype("uint32")
        seed, stream = rng.threefry((self.seed, _SHUFFLE), (low, high), xp=host)
        first, second = rng.bits(seed, stream, 0, count + 1, xp=host)
        return [(first[:, k : k + 1], second[:, k : k + 1]) for k in range(count + 1)]

    def left(self, windows: list[Window]) -> int:
        """The rows in these windows that are not done."""
        return sum(window.n - window.skip * self.size for window in windows)

    def epochs(self, begin: int, count: int) -> Array:
        """The orders of `count` epochs of one window, the first beginning at step `begin`: (count, n)."""
        begins = [begin + k * self.steps for k in range(count)]
        if any(each not in self._orders for each in begins):
            ahead = max(count, min(_EPOCHS, LARGEST_ORDER // self.n))
            begins_ahead = begin + self.steps * _host().arange(ahead)
            orders = self._order(self._keys(begins_ahead, 1)[0], self.n, 0, self.n)
            orders = _host().broadcast_to(orders, (ahead, self.n))
            self._orders = dict(zip(begins_ahead.tolist(), orders, strict=True))
        return _host().stack([self._orders[each] for each in begins])

    def chunks(self, window: Window, length: Callable[[], int]) -> Iterator[Array]:
        """The rows of each batch, within the window: int64 arrays (steps, batch), the short batch alone.

        Args:
            window: from `windows`.
            length: returns how many steps are wanted next, at most. While that does not change, full batches
                come in chunks of one length and the rest one by one, so that few lengths are compiled.
        """
        full = window.n // self.size
        steps = 1 << max(1, LARGEST_ORDER // self.size).bit_length() - 1
        for first in range(window.skip, full, steps):
            last = min(first + steps, full)
            rows, k, count, wanted = self._full(window, first, last), 0, last - first, 0
            while k < count:
                if wanted != (now := length()):
                    wanted, left = now, count - k
                    each = left // -(-left // wanted)
                chunk = rows[k : k + (each if k + each <= count else 1)]
                k += chunk.shape[0]
                yield chunk
        if window.n % self.size and self.by_shard:
            yield _host().arange(full * self.size, window.n)[None, :]
        elif window.n % self.size:
            yield self._order(window.key, window.n, full * self.size, window.n)[None, :]

    def _full(self, window: Window, first: int, last: int) -> Any:
        """The rows of full batches, shape (last - first, batch)."""
        if not self.by_shard:
            order = self._order(window.key, window.n, first * self.size, last * self.size)
            return order.reshape(last - first, self.size)
        parts = cuts(self.size, self.shards)
        high, low = rng.bits(*window.key, 0, len(parts), xp=_host())
        full, found = window.n // self.size, []
        for k, (i, j) in enumerate(parts):
            key, each = (high[:, k : k + 1], low[:, k : k + 1]), j - i
            order = self._order(key, full * each, first * each, last * each)
            found.append(full * i + order.reshape(last - first, each))
        return _host().concatenate(found, axis=1)

    def pieces(self, window: Window, own: tuple[int, int] | None = None) -> tuple[Piece, ...]:
        """The pieces to read for a window: (place in the window, start and stop in the source).

        Args:
            window: from `windows`.
            own: the rank of a worker and the number of workers, to read only the rows of its shards and
                the short last batch; only for batches that are `by_shard`. None for all rows.

        >>> batches = Batches(20, 4, 8, 4, seed=0, shuffle=True, shards=2)
        >>> window = Window(((0, 4), (12, 16)), 8, (0, 0), 0)
        >>> batches.pieces(window), batches.pieces(window, (1, 2))
        (((0, 0, 4), (4, 12, 16)), ((4, 12, 16),))
        """
        ends = list(accumulate((stop - start for start, stop in window.blocks), initial=0))
        whole = tuple((at, *block) for at, block in zip(ends, window.blocks, strict=False))
        if own is None:
            return whole
        full, parts = window.n // self.size, cuts(self.size, self.shards)
        mine = [parts[k] for k in owned(*own, len(parts))] or [(0, 0)]
        wanted = ((full * mine[0][0], full * mine[-1][1]), (full * self.size, window.n))
        found = (
            (max(at, i), start + max(0, i - at), min(stop, start + j - at))
            for i, j in wanted
            for at, start, stop in whole
        )
        return tuple(piece for piece in found if piece[1] < piece[2]) or whole

    def _order(self, key: tuple[Any, Any], n: int, start: int, stop: int) -> Any:
        if not self.shuffle or n == 1:
            return _host().arange(start, stop)
        order = rng.permutation(*key, n, start, stop, xp=_host())
        return order if len(order) > 1 else order[0]


def _host() -> Any:
    return backends.get("numpy").xp


def _merged(blocks: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The ranges sorted, with adjacent ones joined, so that a file is read forwards."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(blocks):
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], stop
        else:
            found.append((start, stop))
    return tuple(found)
