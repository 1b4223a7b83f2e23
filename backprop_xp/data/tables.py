"""Sources with named columns: data frames (through narwhals) and Parquet files (through pyarrow)."""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from .. import backends
from ..arrays import Array
from ..errors import BackpropError, listed, unavailable
from .adapters import Slices
from .generated import Task

_CLASSES = 20  # integers of at most so many different values are taken for classes
_MOST_CLASSES = 100_000
_NARWHALS = "narwhals, which reads data frames,"
_PYARROW = "pyarrow, which reads Parquet files,"


class Table(Slices):
    """The base class of sources with named columns, which become numbers of one dtype, or labels.

    Args:
        data: the data frame or file that has the columns.
        target: the name of the column to predict.
        features: the names of the columns to predict it from; None for all others.
        task: 'classification' turns the target's values into labels 0, 1, 2, … in ascending order;
            'regression' takes them as numbers. None: classification if they are text, booleans, or integers
            of at most 20 different values, else regression.
        dtype: the dtype of the inputs and numeric targets.
        window: the number of rows that are in memory, and shuffled, together.

    Attributes:
        target: the name of the target's column.
        names: the names of the features' columns, in the order of the inputs.
        task: 'classification' or 'regression'.
        classes: the values that labels 0, 1, 2, … stand for, in ascending order; () for regression.

    Raises:
        BackpropError: unknown columns, or columns that hold no numbers.
    """

    @abstractmethod
    def _open(self, data: Any) -> tuple[int, Sequence[str], int | None]:
        """Open the data; return the number of rows, the names of all columns, and the rows of a block."""

    @abstractmethod
    def _columns(self, names: Sequence[str], start: int, stop: int) -> list[Array]:
        """These columns of rows start, …, stop - 1, each as a NumPy array."""

    def __init__(
        self,
        data: Any,
        target: str,
        *,
        features: Sequence[str] | None = None,
        task: Task | None = None,
        dtype: Any = None,
        window: int | None = None,
    ) -> None:
        n, columns, block = self._open(data)
        if n < 1:
            msg = "there are no rows"
            raise BackpropError(msg)
        self.target, self.n = target, n
        others = (name for name in columns if name != target)
        self.names = tuple(others if features is None else features)
        if missing := [name for name in (target, *self.names) if name not in columns]:
            msg = f"there is no column {listed(missing)}; the columns are {listed(columns)}"
            raise BackpropError(msg)
        if not self.names:
            msg = f"no column is left as a feature beside the target {target!r}; there are {listed(columns)}"
            raise BackpropError(msg)
        if task not in (None, "classification", "regression"):
            msg = f"the task of a table must be 'classification', 'regression' or None, got {task!r}"
            raise BackpropError(msg)
        kinds = zip(self.names, self._columns(self.names, 0, 1), strict=True)
        if text := [name for name, column in kinds if column.dtype.kind not in "iufb"]:
            msg = f"columns that hold no numbers: {listed(text)}; leave them out, or make them numbers"
            raise BackpropError(msg)
        self._host = backends.get("numpy").xp
        self.classes = self._found_classes(task)
        self.task: Task = "classification" if self.classes else "regression"
        if task == "regression" and self._columns([target], 0, 1)[0].dtype.kind not in "iufb":
            msg = f"the target {target!r} holds no numbers, as regression needs: use task='classification'"
            raise BackpropError(msg)
        self._begin(n, len(self.classes) or None, dtype, window, block)

    def __repr__(self) -> str:
        kind = f"{len(self.classes)} classes" if self.classes else "numbers"
        rows = f"{self.n:,} rows, {self.features} features"
        return f"{type(self).__name__}({rows}, target {self.target!r}: {kind})"

    def _found_classes(self, task: Task | None) -> tuple[Any, ...]:
        kind = self._columns([self.target], 0, 1)[0].dtype.kind
        if task == "regression" or (task is None and kind == "f"):
            return ()
        most = _CLASSES if task is None and kind in "iu" else _MOST_CLASSES
        found: set[Any] = set()
        for start in range(0, self.n, _MOST_CLASSES):
            (column,) = self._columns([self.target], start, min(start + _MOST_CLASSES, self.n))
            found |= set(column.tolist())
            if len(found) > most and most == _CLASSES:
                return ()
            if len(found) > most:
                msg = f"the target {self.target!r} has more than {most:,} values, too many for classes"
                raise BackpropError(msg)
        missing = [value for value in found if value is None or value != value]  # noqa: PLR0124 (as NaN is)
        if missing or len({isinstance(value, str) for value in found}) > 1:
            msg = f"the target {self.target!r} has missing values, or text and numbers: fix them first"
            raise BackpropError(msg)
        return tuple(sorted(found))

    def _read(self, start: int, stop: int) -> tuple[Array, Array]:
        *columns, t = self._columns((*self.names, self.target), start, stop)
        x = self._host.empty((stop - start, len(columns)), dtype=self._dtype)
        for k, column in enumerate(columns):
            x[:, k] = column
        if not self.classes:
            return x, self._numbers(t)[:, None]
        known = self._host.asarray(self.classes, dtype=t.dtype)
        return x, self._host.searchsorted(known, t)


class Frame(Table):
    """Rows of a data frame of pandas, polars, pyarrow, or another library that narwhals supports.

    Args:
        data: the data frame.
        target: the name of the column to predict. This and all further arguments are those of `Table`.

    Raises:
        BackpropError: unknown columns, or columns that hold no numbers.
        BackendUnavailable: narwhals is not installed.
    """

    def _open(self, data: Any) -> tuple[int, Sequence[str], None]:
        try:
            import narwhals
        except ImportError as error:
            raise unavailable(_NARWHALS, "narwhals", "data", error) from error
        try:
            self._frame = narwhals.from_native(data, eager_only=True)
        except TypeError as error:
            msg = f"a data frame of pandas, polars or pyarrow was expected, got a {type(data).__name__}"
            raise BackpropError(msg) from error
        return len(self._frame), self._frame.columns, None

    def _columns(self, names: Sequence[str], start: int, stop: int) -> list[Array]:
        part = self._frame[start:stop]
        return [part[name].to_numpy() for name in names]


class Parquet(Table):
    """Rows of a Parquet file, read one row group at a time.

    A row group is in memory as a whole, and is shuffled as one block: a file with row groups of a few
    thousand rows (`row_group_size=` when it is written) takes less memory, and is shuffled better, than one
    with row groups of a million.

    Args:
        data: the path of the file.
        target: the name of the column to predict. This and all further arguments are those of `Table`.

    Raises:
        BackpropError: unknown columns, columns that hold no numbers, or a file that cannot be read.
        BackendUnavailable: pyarrow is not installed.
    """

    def _open(self, data: Any) -> tuple[int, Sequence[str], int | None]:
        self._file = _parquet_file(data)
        about = self._file.metadata
        sizes = [about.row_group(k).num_rows for k in range(about.num_row_groups)]
        self._ends = list(accumulate(sizes))
        self._group: tuple[Any, dict[str, Array]] = (None, {})
        return about.num_rows, self._file.schema_arrow.names, max(sizes, default=None)

    @staticmethod
    def names_in(path: Any) -> list[str]:
        """The names of the columns of a file."""
        return list(_parquet_file(path).schema_arrow.names)

    def _columns(self, names: Sequence[str], start: int, stop: int) -> list[Array]:
        host, parts = backends.get("numpy").xp, []
        for k in range(bisect_right(self._ends, start), bisect_right(self._ends, stop - 1) + 1):
            first = self._ends[k - 1] if k else 0
            group = self._read_group(k, names)
            parts.append([group[name][max(start - first, 0) : stop - first] for name in names])
        return [each[0] if len(each) == 1 else host.concat(each) for each in zip(*parts, strict=True)]

    def _read_group(self, k: int, names: Sequence[str]) -> dict[str, Array]:
        """The columns of a row group, decoded; the group that was read last is kept."""
        if self._group[0] != (k, tuple(names)):
            self._group = (None, {})
            table = self._file.read_row_group(k, columns=list(names))
            self._group = (k, tuple(names)), {name: table.column(name).to_numpy() for name in names}
        return self._group[1]


def _parquet_file(path: Any) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise unavailable(_PYARROW, "pyarrow", "data", error) from error
    try:
        return parquet.ParquetFile(path)
    except (OSError, ArrowException) as error:
        msg = f"{path} cannot be read as a Parquet file: {error}"
        raise BackpropError(msg) from error
