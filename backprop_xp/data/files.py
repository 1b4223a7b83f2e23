"""A person's own file: CSV, Parquet, .npy or .npz as a table, split and standardized, all block by block."""

import csv
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from .. import backends, rng
from ..arrays import Array
from ..checks import check_finite
from ..errors import BackpropError, listed
from .generated import Task
from .source import check_slice
from .tables import Parquet, Table

KINDS = (".csv", ".tsv", ".txt", ".parquet", ".npy", ".npz")
_MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}
_SPLIT = (1 << 25) + 16  # the stream of random bits
_BLOCKS = 1000  # at least, of which some are held out, where there are as many rows


class Columns(Table):
    """A table of columns that are in memory, or mapped from a file.

    >>> import numpy as np
    >>> Columns({"a": np.asarray([1.0, 2.0]), "b": np.asarray(["yes", "no"])}, "b")
    Columns(2 rows, 1 features, target 'b': 2 classes)
    """

    def _open(self, data: Mapping[str, Array]) -> tuple[int, Sequence[str], None]:
        self._data = data
        return len(next(iter(data.values()))), list(data), None

    def _columns(self, names: Sequence[str], start: int, stop: int) -> list[Array]:
        return [self._data[name][start:stop] for name in names]


def open_table(
    path: str,
    target: str | None = None,
    *,
    drop: Sequence[str] = (),
    task: Task | None = None,
    dtype: Any = None,
) -> Table:
    """The table in a file, by its ending.

    - .csv, .tsv, .txt: the first line names the columns, unless there is a number in it; else they are
      named 0, 1, 2, …
    - .parquet
    - .npy: two axes; columns are named 0, 1, 2, …
    - .npz: arrays x and t, or X and y; columns of x are named x0, x1, …

    Args:
        path: of the file.
        target: the name of the column to predict; None for the last one.
        drop: names of columns that are not used.
        task: 'classification', 'regression', or None, as for `bp.data.Frame`; numbers that are all whole
            count as integers.
        dtype: of the inputs and numeric targets.

    Raises:
        BackpropError: the file cannot be read, or not be used.
    """
    read: dict[str, Callable[[str], dict[str, Array]]] = {".npy": _npy, ".npz": _npz}
    kind = Path(path).suffix.lower()
    if kind not in KINDS:
        msg = f"a file of data ends in {listed(KINDS)}, got {path!r}"
        raise BackpropError(msg)
    if not Path(path).is_file():
        msg = f"there is no file {path!r}"
        raise BackpropError(msg)
    settings: dict[str, Any] = {"task": task, "dtype": dtype}
    if kind == ".parquet":
        names = Parquet.names_in(path)
        target, features = _chosen(names, target, drop)
        return Parquet(path, target, features=features, **settings)
    try:
        columns = read.get(kind, _csv)(path)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        msg = f"{path} cannot be read: {error}"
        raise BackpropError(msg) from error
    target, features = _chosen(list(columns), target, drop)
    columns[target] = _whole(columns[target])
    return Columns(columns, target, features=features, **settings)


def _chosen(names: Sequence[str], target: str | None, drop: Sequence[str]) -> tuple[str, list[str]]:
    """The target's column, the last one if none is named, and those of the features."""
    kept = [name for name in names if name not in drop]
    target = kept[-1] if target is None and kept else target or ""
    for name in (*drop, target):
        if name not in names:
            msg = f"there is no column {name!r}; the columns are {listed(names)}"
            raise BackpropError(msg)
    return target, [name for name in kept if name != target]


def _whole(column: Array) -> Array:
    """A column of numbers as integers, if all are whole."""
    host = backends.get("numpy").xp
    if column.dtype.kind != "f" or not bool(host.all(host.abs(column) < 1 << 31)):
        return column
    return column.astype("int64") if bool(host.all(column == host.floor(column))) else column


def _npy(path: str) -> dict[str, Array]:
    table = backends.get("numpy").xp.load(path, mmap_mode="r", allow_pickle=False)
    if table.ndim != 2:
        msg = f"it has shape {table.shape}, and rows and columns are needed"
        raise BackpropError(msg)
    return {str(k): table[:, k] for k in range(table.shape[1])}


def _npz(path: str) -> dict[str, Array]:
    with backends.get("numpy").xp.load(path, allow_pickle=False) as file:
        x, t = (next((name for name in pair if name in file), "") for pair in (("x", "X"), ("t", "y")))
        if not x or not t:
            msg = f"it holds {listed(file)}, and arrays x and t, or X and y, are needed"
            raise BackpropError(msg)
        inputs, targets = file[x], file[t]
    inputs = inputs.reshape(len(inputs), -1)
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.shape != inputs.shape[:1]:
        msg = f"one target for each row is needed, got shapes {inputs.shape} and {targets.shape}"
        raise BackpropError(msg)
    return {f"{x}{k}": inputs[:, k] for k in range(inputs.shape[1])} | {t: targets}


def _csv(path: str) -> dict[str, Array]:
    """The columns of a text file: numbers as float64, where all are numbers or missing (NaN); else text."""
    host = backends.get("numpy").xp
    _, first = next(_lines(path), (0, None))
    if first is None:
        msg = "it is empty"
        raise BackpropError(msg)
    headed = not any(_is_number(cell) for cell in first)
    names = first if headed else [str(k) for k in range(len(first))]
    if len(set(names)) < len(names):
        msg = f"two columns have the same name: {listed(names)}"
        raise BackpropError(msg)
    numeric = [True] * len(names)
    for number, cells in _lines(path, headed):
        if len(cells) != len(names):
            msg = f"line {number} has {len(cells)} cells, and there are {len(names)} columns"
            raise BackpropError(msg)
        numeric = [
            known and (_is_number(cell) or cell.lower() in _MISSING)
            for known, cell in zip(numeric, cells, strict=True)
        ]
    columns: list[Any] = [array("d") if each else [] for each in numeric]
    for _, cells in _lines(path, headed):
        for column, cell, number in zip(columns, cells, numeric, strict=True):
            column.append((float("nan") if cell.lower() in _MISSING else float(cell)) if number else cell)
    if not len(columns[0]):
        msg = "it has no rows"
        raise BackpropError(msg)
    return dict(zip(names, map(host.asarray, columns), strict=True))


def _lines(path: str, headed: bool = False) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line that is not empty, with its number; without the first if that names them."""
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        start = next((line for line in file if line.strip()), "")
        file.seek(0)
        reader = csv.reader(file, delimiter=max(",;\t", key=start.count))
        told = ((reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells)
        yield from islice(told, int(headed), None)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.lower() != "nan"


# ---------------------------------------------------------------- parts, standardized
class Part:
    """Some ranges of rows of a source, one after the other.

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
    """Two parts of a source: what is trained on, and about so many rows at random places that are not.

    Whole blocks are held out, of a thousandth of the rows or less; single rows of small data.
    """
    n, size = source.n, max(1, min(source.block, source.n // _BLOCKS))
    if not 0 < rows < n:
        msg = f"two rows or more are needed, of which some are held out; got {n}"
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
    """A source with inputs, and numeric targets, shifted and scaled to the mean and spread given.

    Attributes:
        mean: of each input, and of each numeric target: two arrays.
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
        BackpropError: NaN or infinity; which row of the source is the first.
    """
    host, shift, n = backends.get("numpy").xp, None, 0
    for first, last in part.ranges:
        for start in range(first, last, part.source.window):
            rows = part.source.rows(start, min(start + part.source.window, last))
            check_finite(rows[0], "inputs", start)
            check_finite(rows[1], "targets", start)
            columns = [a.astype("float64") for a in rows if a.ndim == 2]
            if shift is None:  # near the mean, so that squares lose nothing
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
