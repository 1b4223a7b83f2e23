"""An estimator's inputs: numbers, dense or sparse, and the categories of a data frame as codes."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .. import backends
from ..arrays import Array
from ..data import Sparse, Stored
from ..errors import BackpropError, listed
from .place import HOST, moved, rows

DENSE = 1 << 24  # numbers that sparse rows may have when they are made dense together
NUMBERS = "numbers"  # the name of the input for numbers in a net with inputs for categories


class Table(NamedTuple):
    """Rows of inputs.

    Attributes:
        numbers: an array, or a sparse matrix of SciPy in compressed rows.
        codes: the codes of each column of categories, each of shape (rows, 1).
        scale: the mean and standard deviation of each column of numbers, if they are to be standardized.
    """

    numbers: Any
    codes: tuple[Array, ...] = ()
    scale: tuple[Array, Array] | None = None

    @property
    def n(self) -> int:
        """The number of rows."""
        return int(self.numbers.shape[0])

    @property
    def is_sparse(self) -> bool:
        """Whether numbers are a sparse matrix."""
        return hasattr(self.numbers, "tocsr")

    @property
    def like(self) -> Array:
        """An array in the library, on the device and in the dtype of the numbers."""
        return HOST.empty((0,), self.numbers.dtype) if self.is_sparse else self.numbers

    @property
    def x(self) -> Any:
        """The net's inputs: an array, or a dict of arrays if there are several."""
        numbers = self.numbers.toarray() if self.is_sparse else self.numbers
        if self.scale is not None:
            numbers = (numbers - self.scale[0]) / self.scale[1]
        named = {f"category{k}": code for k, code in enumerate(self.codes, 1)}
        if numbers.shape[1] or not named:
            named = {NUMBERS: numbers} | named
        return named if len(named) > 1 else named.popitem()[1]

    def split(self, index: Any) -> "Table":
        """Some of the rows."""
        some = self.numbers[index] if self.is_sparse else rows(self.numbers, index)
        return Table(some, tuple(rows(code, index) for code in self.codes), self.scale)

    def pieces(self) -> Iterator["Table"]:
        """All rows: together, or if sparse in pieces that are small enough to be made dense."""
        if not self.is_sparse:
            yield self
            return
        step = max(1, DENSE // self.numbers.shape[1])
        for start in range(0, self.n, step):
            yield self._replace(numbers=self.numbers[start : start + step])

    def source(self, t: Array, weight: Array | None, units: int) -> Any:
        """The rows as a source of data; sparse ones are made dense as they are read."""
        if not self.is_sparse:
            return Stored(self.x, t, weight=weight)
        settings = {"scale": self.scale, "weight": weight, "units": units, "dtype": self.numbers.dtype.name}
        return ScaledSparse(self.numbers, t, **settings)


class ScaledSparse(Sparse):
    """Sparse rows that are standardized as they are made dense."""

    def __init__(self, x: Any, t: Any, *, scale: tuple[Array, Array] | None, **settings: Any) -> None:
        self._scale = scale
        super().__init__(x, t, **settings)

    def _part(self, part: Any) -> Any:
        dense = super()._part(part)
        return dense if dense is part or self._scale is None else (dense - self._scale[0]) / self._scale[1]


# ---------------------------------------------------------------- frames
def frame_of(X: Any) -> Any:
    """A data frame of pandas, polars or pyarrow as one of narwhals; None for other inputs.

    Raises:
        BackpropError: it has columns of dates or times, which would become nanoseconds.
    """
    if not hasattr(X, "columns"):
        return None
    try:
        import narwhals
    except ImportError:  # scikit-learn then converts the frame to an array
        return None
    if not hasattr(X, "shape"):
        return None
    frame = narwhals.from_native(X, eager_only=True, pass_through=True)
    if dates := [name for name, kind in getattr(frame, "schema", {}).items() if kind.is_temporal()]:
        msg = f"columns of dates or times: {listed(dates)}; give numbers, such as days since one of them"
        raise BackpropError(msg)
    return frame


def categories_of(frame: Any) -> dict[str, list[str]]:
    """The categories of each column of text, sorted, by the column's name; missing values are left out.

    Columns of strings, categories and enumerations are text.

    Raises:
        BackpropError: there are such columns, and the name of a column is not text.
    """
    import narwhals

    kinds = (narwhals.String, narwhals.Categorical, narwhals.Enum)
    found = [name for name, kind in frame.schema.items() if isinstance(kind, kinds)]
    if found and not all(isinstance(name, str) for name in frame.columns):
        msg = f"columns of a frame with categories have names of text, got {listed(frame.columns)}"
        raise BackpropError(msg)
    return {name: sorted({text for text in _texts(frame, name) if text is not None}) for name in found}


def _texts(frame: Any, name: str) -> list[str | None]:
    import narwhals

    texts, missing = frame[name].cast(narwhals.String).to_list(), frame[name].is_null().to_list()
    return [None if none else text for text, none in zip(texts, missing, strict=True)]


def coded(frame: Any, categories: Mapping[str, list[str]]) -> tuple[Any, tuple[Array, ...]]:
    """The numbers of a frame, and for each column of categories the code of each row, shape (rows, 1).

    A code is the index among the categories; missing and unknown ones have the number of categories.
    """
    names = [name for name in frame.columns if name not in categories]
    numbers = frame.select(names).to_numpy() if names else HOST.empty((len(frame), 0))
    codes = []
    for name, known in categories.items():
        places = {text: k for k, text in enumerate(known)}
        column = [places.get(text, len(known)) for text in _texts(frame, name)]  # type: ignore[arg-type]
        codes.append(HOST.asarray(column, dtype="int64")[:, None])
    return numbers, tuple(codes)


def check_frame(X: Any, categories: Mapping[str, Any]) -> Any:
    """X as a narwhals frame.

    Raises:
        BackpropError: it is not a data frame, though `fit` had one with these columns of categories.
    """
    frame = frame_of(X)
    if frame is None:
        msg = f"X must be a frame with the columns {listed(categories)}, as in fit; got a {type(X).__name__}"
        raise BackpropError(msg)
    return frame


def host_values(a: Any) -> Any:
    """The values of an array of any library, as lists; NumPy arrays may be of text."""
    return (a if isinstance(a, HOST.ndarray) else backends.host(a)).tolist()


def moved_table(table: Table, like: Array) -> Table:
    """A table in the library and on the device of `like`; a sparse one stays, in the dtype of `like`."""
    if table.is_sparse:
        return table._replace(numbers=table.numbers.astype(str(like.dtype), copy=False))
    return table._replace(numbers=moved(table.numbers, like))
