"""The inputs of an estimator: numbers, dense or sparse, and the categories of a frame as integer codes."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .. import backends
from ..arrays import Array
from ..data import Sparse, Stored
from ..errors import BackpropError, listed
from .place import HOST, moved, rows

DENSE = 1 << 24  # numbers that are made dense at a time
NUMBERS = "numbers"  # the name of the input for numbers in a net with categories


class Table(NamedTuple):
    """Rows of inputs.

    Attributes:
        numbers: an array, or a SciPy sparse matrix in CSR format; shape (rows, columns).
        codes: for each text column the codes of its categories, shape (rows, 1).
        scale: the mean and the standard deviation of each column, if `numbers` is still to be standardized.
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
        """The input of the net, standardized: an array, or a dict of arrays if the net has several inputs."""
        numbers = self.numbers.toarray() if self.is_sparse else self.numbers
        if self.scale is not None:
            numbers = (numbers - self.scale[0]) / self.scale[1]
        named = {f"category{k}": code for k, code in enumerate(self.codes, 1)}
        if numbers.shape[1] or not named:
            named = {NUMBERS: numbers} | named
        return named if len(named) > 1 else named.popitem()[1]

    def split(self, index: Any) -> "Table":
        """The rows with these numbers."""
        some = self.numbers[index] if self.is_sparse else rows(self.numbers, index)
        return Table(some, tuple(rows(code, index) for code in self.codes), self.scale)

    def pieces(self) -> Iterator["Table"]:
        """All rows: at once, or if they are sparse in pieces small enough to be made dense."""
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
    """Sparse rows that are standardized when they are made dense."""

    def __init__(self, x: Any, t: Any, *, scale: tuple[Array, Array] | None, **settings: Any) -> None:
        self._scale = scale
        super().__init__(x, t, **settings)

    def _part(self, part: Any) -> Any:
        dense = super()._part(part)
        return dense if dense is part or self._scale is None else (dense - self._scale[0]) / self._scale[1]


# ---------------------------------------------------------------- frames
def frame_of(X: Any) -> Any:
    """A frame of pandas, polars or pyarrow as a narwhals frame; None if X is no frame.

    Raises:
        BackpropError: it has columns of dates or times, which would become counts of nanoseconds.
    """
    if not hasattr(X, "columns"):
        return None
    try:
        import narwhals
    except ImportError:  # scikit-learn then turns a frame into an array by itself
        return None
    if not hasattr(X, "shape"):
        return None
    frame = narwhals.from_native(X, eager_only=True, pass_through=True)
    if dates := [name for name, kind in getattr(frame, "schema", {}).items() if kind.is_temporal()]:
        msg = f"columns of dates or times: {listed(dates)}; give numbers, such as days since one of them"
        raise BackpropError(msg)
    return frame


def categories_of(frame: Any) -> dict[str, list[str]]:
    """The sorted categories of each text column, by the name of the column, without missing values.

    Text columns are those of strings, categoricals and enumerations.

    Raises:
        BackpropError: there are text columns, and the name of a column is not text.
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
    """The numbers of a frame, and for each text column the code of each row, shape (rows, 1).

    The code of a category is its position in the list; a missing or unknown one has the length of the list.
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

    Args:
        X: the inputs.
        categories: the text columns that `fit` found, by name, for the message.

    Raises:
        BackpropError: X is no frame.
    """
    frame = frame_of(X)
    if frame is None:
        msg = f"X must be a frame with the columns {listed(categories)}, as in fit; got a {type(X).__name__}"
        raise BackpropError(msg)
    return frame


def host_values(a: Any) -> Any:
    """The values of an array of any library as lists; text in NumPy arrays too."""
    return (a if isinstance(a, HOST.ndarray) else backends.host(a)).tolist()


def moved_table(table: Table, like: Array) -> Table:
    """A table in the library, on the device and in the dtype of `like`; sparse numbers stay with SciPy."""
    if table.is_sparse:
        return table._replace(numbers=table.numbers.astype(str(like.dtype), copy=False))
    return table._replace(numbers=moved(table.numbers, like))
