"""Parts of a source: rows held out for validation, and standardized columns, read block by block."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from .. import backends, rng
from ..arrays import Array
from ..checks import check_finite
from ..errors import BackpropError
from .source import check_slice

_SPLIT = (1 << 25) + 16  # the stream of random bits
_BLOCKS = 1000  # blocks to choose from, at least, if there are as many rows


class Part:
    """A source made of some ranges of another one's rows, one after the other.

    >>> import numpy as np
    >>> from backprop_xp.data import Stored
    >>> rows = np.arange(10.0)[:, None]
    >>> Part(Stored(rows, rows), [(1, 3), (7, 9)]).rows(1, 4)[0].tolist()
    [[2.0], [7.0], [8.0]]
    """

    def __init__(self, source: Any, ranges: Sequence[tuple[int, int]]) -> None:
        self.source, self.ranges = source, tuple(ranges)
        self._ends = list(accumulate(stop - start for start, stop in self.ranges))
        self.n: int = self._ends[-1]
        self.features, self.outputs, self.block = source.features, source.outputs, source.block
        self.window = min(self.n, source.window)

    def rows(self, start: int, stop: int) -> tuple[Array, ...]:
        """The rows start, …, stop - 1 of this part."""
        check_slice(start, stop, self.n)
        found = []
        for k in range(bisect_right(self._ends, start), bisect_right(self._ends, stop - 1) + 1):
            (first, last), end = self.ranges[k], self._ends[k]
            shift = last - end  # from a row of this part to one of the source
            found.append(self.source.rows(max(first, start + shift), min(last, stop + shift)))
        host = backends.get("numpy").xp
        return found[0] if len(found) == 1 else tuple(map(host.concat, zip(*found, strict=True)))


def split(source: Any, rows: int, seed: int) -> tuple[Part, Part]:
    """Split a source at random: the part to train on, and about `rows` rows that are held out.

    Whole blocks are held out, each of at most a thousandth of the rows; in small data, single rows.
    """
    n, size = source.n, max(1, min(source.block, source.n // _BLOCKS))
    if not 0 < rows < n:
        msg = f"of {n} rows, {rows} cannot be held out: hold out one at least, and leave one to train on"
        raise BackpropError(msg)
    host, blocks = backends.get("numpy").xp, n // size
    chosen = (
        rng.permutation(seed, _SPLIT, blocks, 0, min(max(1, rows // size), blocks - 1), xp=host)
        if blocks > 1
        else [0]
    )
    out = _joined_ranges((k * size, (k + 1) * size) for k in sorted(map(int, chosen)))
    ends = [0, *(edge for pair in out for edge in pair), n]
    kept = [(a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if a < b]
    return Part(source, kept), Part(source, out)


def _joined_ranges(ranges: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, stop in ranges:
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], stop
        else:
            found.append((start, stop))
    return found


class Standardized:
    """A source whose inputs and numeric targets are standardized: (value − mean) / spread.

    Attributes:
        mean: the mean of each input, and of each numeric target: two arrays.
        spread: their standard deviations, 1 where a column is constant.
    """

    def __init__(self, source: Any, mean: tuple[Array, ...], spread: tuple[Array, ...]) -> None:
        self.source, self.mean, self.spread = source, mean, spread
        self.n, self.features, self.outputs = source.n, source.features, source.outputs
        self.window, self.block = source.window, source.block

    def rows(self, start: int, stop: int) -> tuple[Array, ...]:
        """The rows start, …, stop - 1, each column (value − mean) / spread; labels as they are."""
        rows = self.source.rows(start, stop)
        own = [
            ((a - mean) / spread).astype(a.dtype)
            for a, mean, spread in zip(rows, self.mean, self.spread, strict=False)
        ]
        return *own, *rows[len(own) :]


def statistics(part: Part) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """The mean and the standard deviation of inputs and numeric targets, in float64, in one pass.

    Raises:
        BackpropError: a value is NaN or infinite; the message names the first such row.
    """
    host, shift, n = backends.get("numpy").xp, None, 0
    for first, last in part.ranges:
        for start in range(first, last, part.source.window):
            rows = part.source.rows(start, min(start + part.source.window, last))
            check_finite(rows[0], "inputs", start)
            check_finite(rows[1], "targets", start)
            columns = [a.astype("float64") for a in rows if a.ndim == 2]
            if shift is None:  # near the mean, so that differences of squares do not cancel
                shift = [a.mean(axis=0) for a in columns]
                sums, squares = [[host.zeros_like(a) for a in shift] for _ in range(2)]
            away = [a - b for a, b in zip(columns, shift, strict=True)]
            sums = [total + a.sum(axis=0) for total, a in zip(sums, away, strict=True)]
            squares = [total + (a * a).sum(axis=0) for total, a in zip(squares, away, strict=True)]
            n += len(columns[0])
    means = tuple(b + total / n for total, b in zip(sums, shift or [], strict=True))
    spreads = tuple(
        host.sqrt(host.maximum(square / n - (total / n) ** 2, 0))
        for total, square in zip(sums, squares, strict=True)
    )
    return means, tuple(
        host.where(a > 1e-12 * host.abs(m), a, 1.0) for a, m in zip(spreads, means, strict=True)
    )


def first_rows(part: Part, rows: int) -> Part:
    """The first rows of a part."""
    found, left = [], rows
    for start, stop in part.ranges:
        if left > 0:
            found.append((start, min(stop, start + left)))
            left -= stop - start
    return Part(part.source, found)
