"""Tables in files: CSV, Parquet, .npy and .npz."""

import csv
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from .. import backends
from ..arrays import Array
from ..errors import BackpropError, listed
from .generated import Task
from .tables import Parquet, Table

KINDS = (".csv", ".tsv", ".txt", ".parquet", ".npy", ".npz")
_MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}


class Columns(Table):
    """A table of columns that are in memory, or memory-mapped from a file.

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
    """Open the table in a file, whose format follows from its ending.

    - .csv, .tsv, .txt, separated by commas, semicolons, tabs or bars: the first line names the columns,
      unless it contains a number; then they are named 0, 1, 2, …
    - .parquet
    - .npy: an array of two axes; columns are named 0, 1, 2, …
    - .npz: arrays x and t, or X and y; columns of x are named x0, x1, …

    Args:
        path: the path of the file.
        target: the name of the column to predict; None for the last one.
        drop: names of columns that are not used.
        task: 'classification', 'regression', or None, as for `bp.data.Frame`; a target column whose numbers
            are all whole counts as integers.
        dtype: the dtype of the inputs and numeric targets.

    Raises:
        BackpropError: the file cannot be read, or is no table that can be trained on.
    """
    settings: dict[str, Any] = {"task": task, "dtype": dtype}
    if _kind(path) == ".parquet":
        names = Parquet.names_in(path)
        target, features = _chosen(names, target, drop)
        return Parquet(path, target, features=features, **settings)
    columns = _in_memory(path)
    target, features = _chosen(list(columns), target, drop)
    columns[target] = _whole(columns[target])
    return Columns(columns, target, features=features, **settings)


def open_features(path: str, features: Sequence[str], dtype: Any = None) -> Table:
    """The inputs in a file, in the order of `features`; other columns are ignored.

    A table needs a target, so the first feature serves as one.

    Args:
        path: the path of the file, as for `open_table`; an .npz file needs no t.
        features: the names of the columns.
        dtype: the dtype of the inputs.

    Raises:
        BackpropError: the file cannot be read, or lacks a column, or has text in one.
    """
    parquet = _kind(path) == ".parquet"
    columns: Any = path if parquet else _in_memory(path, targets=False)
    names = Parquet.names_in(path) if parquet else list(columns)
    if missing := [name for name in features if name not in names]:
        msg = (
            f"{path} has no column {listed(missing)}, which the net was trained on; its columns are "
            f"{listed(names)} (columns without names are numbered, the target's among them)"
        )
        raise BackpropError(msg)
    table = Parquet if parquet else Columns
    return table(columns, features[0], features=features, task="regression", dtype=dtype)


def _kind(path: str) -> str:
    """The ending of a file; an error if it is not one of `KINDS`, or there is no such file."""
    kind = Path(path).suffix.lower()
    if kind not in KINDS:
        msg = f"a file of data ends in {listed(KINDS)}, got {path!r}"
        raise BackpropError(msg)
    if not Path(path).is_file():
        msg = f"there is no file {path!r}"
        raise BackpropError(msg)
    return kind


def _in_memory(path: str, *, targets: bool = True) -> dict[str, Array]:
    """The columns of a file that is not Parquet."""
    read: dict[str, Callable[[str], dict[str, Array]]] = {".npy": _npy, ".npz": partial(_npz, needed=targets)}
    try:
        return read.get(Path(path).suffix.lower(), _csv)(path)
    except UnicodeDecodeError as error:
        msg = f"{path} cannot be read: it is not text in UTF-8 (byte {error.start}); save it as UTF-8"
        raise BackpropError(msg) from error
    except (OSError, csv.Error, ValueError, BadZipFile) as error:
        objects = any(word in str(error) for word in ("pickle", "Python objects"))
        msg = f"{path} cannot be read: {'it is no array of numbers, or damaged' if objects else error}"
        raise BackpropError(msg) from error


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
    """A column of numbers, as integers if all are whole."""
    host = backends.get("numpy").xp
    if column.dtype.kind != "f" or not bool(host.all(host.abs(column) < 1 << 31)):
        return column
    return column.astype("int64") if bool(host.all(column == host.floor(column))) else column


def _npy(path: str) -> dict[str, Array]:
    table = backends.get("numpy").xp.load(path, mmap_mode="r", allow_pickle=False)
    if table.ndim != 2:
        msg = f"it has shape {table.shape}, but rows and columns are needed"
        raise BackpropError(msg)
    return {str(k): table[:, k] for k in range(table.shape[1])}


def _npz(path: str, *, needed: bool) -> dict[str, Array]:
    with Path(path).open("rb") as raw:  # numpy.load leaves a file open if it fails
        file = backends.get("numpy").xp.load(raw, allow_pickle=False)
        if not hasattr(file, "files"):
            msg = "it is a single array: name it .npy"
            raise BackpropError(msg)
        x, t = (next((name for name in pair if name in file), "") for pair in (("x", "X"), ("t", "y")))
        if not x or (needed and not t):
            msg = f"it holds {listed(file)}, but arrays x and t, or X and y, are needed"
            raise BackpropError(msg)
        inputs, targets = file[x], file[t] if t else None
    if not inputs.ndim:
        msg = f"{x} is a single number, and rows are needed"
        raise BackpropError(msg)
    inputs = inputs.reshape(len(inputs), -1)
    columns = {f"{x}{k}": inputs[:, k] for k in range(inputs.shape[1])}
    if targets is None:
        return columns
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.shape != inputs.shape[:1]:
        msg = f"one target for each row is needed, got shapes {inputs.shape} and {targets.shape}"
        raise BackpropError(msg)
    return columns | {t: targets}


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
            msg = f"line {number} has {len(cells)} cells, but there are {len(names)} columns"
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
    """The number and the cells of each line that is not empty, except the first if it is a header."""
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        start = next((line for line in file if line.strip()), "")
        file.seek(0)
        mark = max(",;\t", key=start.count)
        reader = csv.reader(file, delimiter=mark if mark in start else "|")
        told = ((reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells)
        yield from islice(told, int(headed), None)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.lower() != "nan"
