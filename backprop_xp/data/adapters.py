"""Sources that read a slice at a time, from arrays on disk, sparse matrices, data sets of items, streams."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

from .. import backends
from ..arrays import Array
from ..errors import BackpropError
from ..layers import check_count
from .source import check_slice, rows_of_block, rows_of_window

_HELP = "give x of shape (rows, features) and t of shape (rows, units), or (rows,)"


class Adapter(ABC):
    """The base class of sources that read rows on demand, as NumPy arrays of one dtype.

    An adapter calls `_begin` once it is ready to read. Inputs of more than two axes are flattened, and are
    converted to `dtype` unless they are bytes (uint8). Integer targets of one axis are labels; other targets
    of one axis are a single column. Values are checked while the first epoch reads them.
    """

    n: int
    features: int
    outputs: int
    window: int
    block: int

    @abstractmethod
    def _arrays(self, start: int, stop: int) -> tuple[Array, ...]:
        """The rows start, …, stop - 1, in the shapes and dtypes used for training."""

    def _classes(self) -> int:
        """The number of classes, for labels without `units`."""
        msg = "targets are labels: say how many classes there are, with units="
        raise BackpropError(msg)

    def _begin(
        self, n: Any, units: int | None = None, dtype: Any = None, window: Any = None, block: Any = None
    ) -> None:
        """Determine the shapes from the first row; `block` is the number of rows cheap to read together."""
        self.n = check_count(n, "the number of rows")
        self._host = backends.get("numpy").xp
        self._dtype = backends.get("numpy").dtype(dtype)
        x, t = self._arrays(0, 1)[:2]
        self.features = x.shape[1]
        self.window = rows_of_window(self.n, self.features + t[0:1].size, asked=window)
        self.block = min(self.n, block or rows_of_block(self.window))
        if block and window is None:  # a block is in memory as a whole anyway
            self.window = min(self.n, max(self.window, block))
        columns = t.shape[1] if t.ndim == 2 else units or self._classes()
        self.outputs = check_count(columns, "the number of units")
        if units not in (None, self.outputs):
            msg = f"targets must have one column for each of {units} units, got {self.outputs}"
            raise BackpropError(msg)

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"{kind}({self.n:,} rows, {self.features} features, for {self.outputs} output units)"

    def rows(self, start: int, stop: int) -> tuple[Array, ...]:
        """The rows start, …, stop - 1, read now."""
        check_slice(start, stop, self.n)
        return self._arrays(start, stop)

    def _numbers(self, a: Any) -> Array:
        try:
            return self._host.asarray(a).astype(self._dtype, copy=False)
        except (TypeError, ValueError) as error:
            msg = f"rows must be numbers: {error}"
            raise BackpropError(msg) from error

    def _inputs(self, x: Any) -> Array:
        x = self._host.asarray(x)
        x = x if x.dtype == self._host.uint8 else self._numbers(x)
        return x if x.ndim == 2 else x.reshape(x.shape[0], -1)

    def _targets(self, t: Any) -> Array:
        t = self._host.asarray(t)
        if t.ndim == 1 and t.dtype.kind in "iub":
            return self._labels(t)
        return self._numbers(t if t.ndim == 2 else t.reshape(t.shape[0], -1))

    def _labels(self, t: Array) -> Array:
        if t.dtype.kind != "b" and (t.min() < 0 or t.max() > 1 << 30):
            msg = f"labels must be 0, 1, 2, …; got {t.min()} to {t.max()}"
            raise BackpropError(msg)
        return t.astype("int32", copy=False)


class Slices(Adapter):
    """The base class of adapters that can read any slice."""

    @abstractmethod
    def _read(self, start: int, stop: int) -> tuple[Any, ...]:
        """Inputs, targets and, if there are any, weights of rows start, …, stop - 1, not yet converted."""

    def _arrays(self, start: int, stop: int) -> tuple[Array, ...]:
        x, t, *weight = self._read(start, stop)
        return self._inputs(x), self._targets(t), *(self._numbers(each) for each in weight)


class Sliced(Slices):
    """Rows of anything that can be sliced: memory-mapped files, h5py data sets, zarr arrays, and the like.

    Args:
        x: inputs, shape (rows, features); further axes are flattened.
        t: targets: shape (rows, units), or (rows,) for integer labels or for one column of numbers.
        target: without t, the index of the column of x that is the target; a negative one counts from the
            end.
        weight: a weight for each row, shape (rows,); None for 1.
        units: the number of output units; None for the number of columns of t, or the largest label + 1,
            for which all labels are read.
        dtype: the dtype to which numbers are converted.
        window: the number of rows that are in memory, and shuffled, together; None for 65,536, or fewer if
            they would take more than 32 MiB.
        block: the number of rows that are cheap to read together; None for a chunk of x, if it has chunks.
            Chunks of a few thousand rows take less memory, and are shuffled better, than chunks of a million.

    Raises:
        BackpropError: shapes that do not fit, or values that are not numbers.

    >>> import numpy as np
    >>> source = Sliced(np.arange(12).reshape(4, 3), target=-1, dtype="float64")
    >>> source
    Sliced(4 rows, 2 features, for 1 output units)
    >>> [a.tolist() for a in source.rows(1, 3)]
    [[[3.0, 4.0], [6.0, 7.0]], [[5.0], [8.0]]]
    """

    def __init__(
        self,
        x: Any,
        t: Any = None,
        *,
        target: int | None = None,
        weight: Any = None,
        units: int | None = None,
        dtype: Any = None,
        window: int | None = None,
        block: int | None = None,
    ) -> None:
        parts = [part for part in (x, t, weight) if part is not None]
        counts = {part.shape[0] for part in parts if getattr(part, "shape", None)}
        if (t is None) == (target is None) or len(counts) != 1:
            shapes = ", ".join(str(getattr(part, "shape", type(part).__name__)) for part in parts)
            msg = f"{_HELP}; the target must be given either as t, or as target=, a column of x; got {shapes}"
            raise BackpropError(msg)
        self._parts, self._target = parts, target
        if target is not None and not (len(x.shape) == 2 and -x.shape[1] <= target < x.shape[1] > 1):
            msg = f"target must be the number of a column of x, of shape {tuple(x.shape)}; got {target!r}"
            raise BackpropError(msg)
        self._begin(x.shape[0], units, dtype, window, block or _chunk(x))

    def _read(self, start: int, stop: int) -> tuple[Any, ...]:
        x, *others = (self._part(part[start:stop]) for part in self._parts)
        if self._target is None:
            return x, *others
        x = self._host.asarray(x)
        column = self._numbers(x[:, self._target])
        return self._host.delete(x, self._target, axis=1), column[:, None], *others

    def _part(self, part: Any) -> Any:
        return part

    def _classes(self) -> int:
        """The largest label + 1, found by reading all labels."""
        starts = range(0, self.n, self.window)
        return 1 + max(
            int(self._arrays(start, min(start + self.window, self.n))[1].max()) for start in starts
        )


def _chunk(x: Any) -> int | None:
    """The rows of a chunk, from the attribute `chunks` of h5py, zarr and dask."""
    rows = (getattr(x, "chunks", None) or (None,))[0]
    return max(rows) if isinstance(rows, tuple) else rows


class Sparse(Sliced):
    """Rows of a SciPy sparse matrix; each slice is made dense when it is read.

    Args:
        x: inputs, shape (rows, features); converted to compressed rows (CSR).
        t: dense targets. All further arguments are those of `Sliced`.
    """

    def __init__(self, x: Any, t: Any, **settings: Any) -> None:
        if not hasattr(x, "tocsr"):
            msg = f"inputs must be a SciPy sparse matrix, got a {type(x).__name__}: use bp.data.Sliced"
            raise BackpropError(msg)
        super().__init__(x.tocsr(), t, **settings)

    def _part(self, part: Any) -> Any:
        return part.toarray() if hasattr(part, "toarray") else part


class Rows(Slices):
    """Rows of a map-style data set, of Hugging Face, Torch or your own: `len(items)` and `items[k]`.

    An item is a tuple (inputs, target), or a mapping of names to values. Many items are read in one call if
    the set has `__getitems__`, else one by one.

    Args:
        items: the data set.
        x: the index or name of the inputs in an item.
        t: the index or name of the target.
        units: the number of output units; needed for labels, since finding the largest would read all items.
        dtype: the dtype to which numbers are converted.
        window: the number of rows that are in memory, and shuffled, together.
        block: the number of rows that are cheap to read together.

    Raises:
        BackpropError: `items` is no data set, or its items lack x or t or differ in shape.

    >>> source = Rows([([0.5, 1.0], 1), ([1.5, 2.0], 0)], units=2)
    >>> [a.tolist() for a in source.rows(0, 2)]
    [[[0.5, 1.0], [1.5, 2.0]], [1, 0]]
    """

    def __init__(
        self,
        items: Any,
        x: Any = 0,
        t: Any = 1,
        *,
        units: int | None = None,
        dtype: Any = None,
        window: int | None = None,
        block: int | None = None,
    ) -> None:
        self._items, self._names = items, (x, t)
        if not hasattr(items, "__len__") or not hasattr(items, "__getitem__"):
            msg = f"a data set must have len(items) and items[k]; got a {type(items).__name__}"
            raise BackpropError(msg)
        self._begin(len(items), units, dtype, window, block)

    def _read(self, start: int, stop: int) -> tuple[Any, ...]:
        at = list(range(start, stop))
        many = getattr(self._items, "__getitems__", None)
        found = many(at) if many else [self._items[k] for k in at]
        try:
            columns = ([self._host.asarray(item[k]) for item in found] for k in self._names)
            return tuple(map(self._host.stack, columns))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            x, t = self._names
            msg = f"each item must have inputs at {x!r} and a target at {t!r}, all of one shape: {error!r}"
            raise BackpropError(msg) from error


class Stream(Adapter):
    """Rows that can only be read forwards, from an iterator of batches (x, t) or (x, t, weight).

    Windows come in the order of the stream; only the rows within a window are shuffled.

    Args:
        factory: a function that makes a new iterator for each epoch. If it needs an argument, that is the
            row at which to begin; only then can a training that was stopped within an epoch be resumed.
        n: the number of rows to read; the stream may have more.
        units: the number of output units; needed for labels.
        dtype: the dtype to which numbers are converted.
        window: the number of rows that are in memory, and shuffled, together.

    Raises:
        BackpropError: batches of another form; while reading, fewer than n rows, or rows that are not the
            next ones, if the factory cannot begin at a row.

    >>> import numpy as np
    >>> def batches():
    ...     for k in range(3):
    ...         yield np.full((4, 2), k), np.full(4, 1.0 * k)
    >>> source = Stream(batches, n=12)
    >>> source.rows(3, 6)[1].tolist()
    Traceback (most recent call last):
    backprop_xp.errors.BackpropError: this stream cannot begin at row 3: ...
    >>> source.rows(0, 3)[1].tolist(), source.rows(3, 6)[1].tolist()
    ([[0.0], [0.0], [0.0]], [[0.0], [1.0], [1.0]])
    """

    forwards = True  # windows are read in the order of the stream

    def __init__(
        self,
        factory: Callable[..., Any],
        n: int,
        *,
        units: int | None = None,
        dtype: Any = None,
        window: int | None = None,
    ) -> None:
        given: Any = factory
        if not callable(given):
            msg = f"a stream needs a function that makes the iterator, got a {type(given).__name__}"
            raise BackpropError(msg)
        needed = [each for each in signature(factory).parameters.values() if each.default is each.empty]
        self._factory, self._begins_anywhere = factory, bool(needed)
        self._open(0)
        self._begin(n, units, dtype, window)
        self.block = self.window

    def _open(self, start: int) -> None:
        made: Iterator[Any] = iter(self._factory(start) if self._begins_anywhere else self._factory())
        self._batches, self._at, self._left = made, start, ()

    def _arrays(self, start: int, stop: int) -> tuple[Array, ...]:
        peek = (start, stop) == (0, 1) and not hasattr(self, "features")  # keep the first row
        if start != self._at:
            if start and not self._begins_anywhere:
                msg = (
                    f"this stream cannot begin at row {start}: give a factory that takes the row at which "
                    "the iterator is to begin"
                )
                raise BackpropError(msg)
            self._open(start)
        self._at = -1  # no known row, in case reading fails
        parts, wanted = [], stop - start
        while wanted:
            batch = self._left or self._next(stop - wanted)
            parts.append(tuple(a[:wanted] for a in batch))
            taken = parts[-1][0].shape[0]
            self._left = batch if peek else tuple(a[taken:] for a in batch) if taken < len(batch[0]) else ()
            wanted -= taken
        self._at = start if peek else stop
        joined = (self._host.concat(each) if len(each) > 1 else each[0] for each in zip(*parts, strict=True))
        return tuple(joined)

    def _next(self, at: int) -> tuple[Array, ...]:
        batch = next(self._batches, None)
        if batch is None:
            msg = f"the stream ended after {at:,} of {self.n:,} rows"
            raise BackpropError(msg)
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            msg = f"a stream yields batches (x, t) or (x, t, weight), got a {type(batch).__name__}"
            raise BackpropError(msg)
        x, t, *weight = batch
        found = self._inputs(x), self._targets(t), *(self._numbers(each) for each in weight)
        if len({a.shape[0] for a in found}) != 1 or not len(found[0]):
            msg = f"{_HELP}, equally many and at least one; got {[a.shape for a in found]}"
            raise BackpropError(msg)
        return found
