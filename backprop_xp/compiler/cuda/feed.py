"""Gathering rows and stacking results on the device, by an index and a step counter that are there too."""

from collections.abc import Sequence
from math import prod
from typing import Any

from ...arrays import Array

_INDEX_ROWS = 1 << 22  # the most row numbers in an index on the device
_INDEX_STEPS = 4096
_STACK_BYTES = 1 << 26  # the most results that are stacked before they are copied

_FIND_ROW = """
    const long long row = i / widest, j = i % widest;
    long long source = index[step[0] * batch + row] % rows;
    if (source < 0) source += rows;"""
_COPY_ROW = "\n    if (j < columns{k}) to{k}[row * columns{k} + j] = from{k}[source * columns{k} + j];"
_STACK = "if (i < size{k}) to{k}[step[0] * size{k} + i] = from{k}[i];\n"
_STORE = "to{k}[step[0]] = from{k}[0];\n"
_COUNT = "step[0] += 1;"


class BatchGather:
    """Data on the device, and what a graph needs to gather rows from them and to stack its results.

    Args:
        cupy: the module.
        data: arrays of equal length; not copied.
        batch: the batch size.
        results: for each result of a step, an array of its shape and dtype.
        steps: the most steps of one index; 0 for as many as memory allows.
    """

    def __init__(
        self, cupy: Any, data: Sequence[Array], batch: int, results: Sequence[Any], steps: int = 0
    ) -> None:
        self.cupy, self.data, self.results, self.owns_data = cupy, list(data), results, False
        self.steps = steps or steps_at_once(batch, results, _INDEX_STEPS)
        self.index = cupy.zeros((self.steps, batch), dtype=cupy.int32)
        self.stacks = [cupy.zeros((self.steps, *a.shape), dtype=a.dtype) for a in results]
        self.step = cupy.zeros((1,), dtype=cupy.int32)
        self._gather = gather_kernel(cupy, [a.dtype for a in data])
        self._small = [k for k, a in enumerate(results) if a.size == 1]
        self._large = [k for k, a in enumerate(results) if a.size > 1]
        self._store = store_kernel(cupy, [results[k].dtype for k in self._small])
        self._stack = stack_kernel(cupy, [results[k].dtype for k in self._large]) if self._large else None

    def gather(self, batch: Sequence[Array]) -> None:
        """Copy the rows of this step into the arrays of a batch."""
        rows, columns = self.index.shape[1], [prod(a.shape[1:]) for a in batch]
        self._gather(
            self.index, self.step, *self.data, rows, self.data[0].shape[0], max(columns), *columns, *batch,
            size=rows * max(columns),
        )  # fmt: skip

    def store(self, results: Sequence[Array]) -> None:
        """Store the results of this step after those of the steps before, and count the step."""
        if self._stack is not None:
            large, sizes = [results[k] for k in self._large], [results[k].size for k in self._large]
            self._stack(self.step, *large, *sizes, *(self.stacks[k] for k in self._large), size=max(sizes))
        small = self._small
        self._store(*(results[k] for k in small), *(self.stacks[k] for k in small), self.step, size=1)

    def set_index(self, index: Array) -> int:
        """Set the rows of the next steps; return the number of steps."""
        self.index[: index.shape[0]] = self.cupy.asarray(index)
        return int(index.shape[0])

    def wait_for_data(self, stream: Any) -> None:
        """Make a stream wait until the data are there; here they are."""

    def record_read(self, stream: Any) -> None:
        """Record in a stream that the data have been read; here nobody waits for it."""

    def load(self, data: Sequence[Array]) -> bool:
        """Whether graphs gather from these data from now on.

        They do if the data are at the same address, or could be copied into memory that this object owns.
        """
        if all(map(same_memory, self.data, data)):
            return True
        if self.owns_data:
            for mine, given in zip(self.data, data, strict=True):
                mine[...] = given
        return self.owns_data

    def with_own_data(self, data: Sequence[Array]) -> "BatchGather":
        """A gather whose data are copied into memory of its own, for data whose address changes."""
        own = BatchGather(self.cupy, [a.copy() for a in data], self.index.shape[1], self.results)
        own.owns_data = True
        return own


def steps_at_once(batch: int, results: Sequence[Any], most: int) -> int:
    """The steps of one index: as many as the memory of their index and of their results allows."""
    size: int = sum(a.nbytes for a in results)
    return max(1, min(most, _INDEX_ROWS // max(1, batch), _STACK_BYTES // max(1, size)))


def gather_kernel(cupy: Any, dtypes: Sequence[Any]) -> Any:
    """The kernel that copies the rows of a step into the arrays of a batch."""
    return cupy.ElementwiseKernel(
        f"raw int32 index, raw int32 step, {_raw(dtypes, 'from')}, "
        f"int64 batch, int64 rows, int64 widest, {_named('int64 columns', dtypes)}",
        _raw(dtypes, "to"), gather_source(len(dtypes)), "gather",
    )  # fmt: skip


def stack_kernel(cupy: Any, dtypes: Sequence[Any]) -> Any:
    """The kernel that stores results of several numbers, each at its step's place."""
    return cupy.ElementwiseKernel(
        f"raw int32 step, {_raw(dtypes, 'from')}, {_named('int64 size', dtypes)}", _raw(dtypes, "to"),
        stack_source(len(dtypes)), "stack",
    )  # fmt: skip


def store_kernel(cupy: Any, dtypes: Sequence[Any]) -> Any:
    """The kernel that stores results of one number at their step's place, and counts the step."""
    into = ", ".join([_raw(dtypes, "to")] * bool(dtypes) + ["raw int32 step"])
    return cupy.ElementwiseKernel(_raw(dtypes, "from"), into, store_source(len(dtypes)), "store")


def gather_source(n: int) -> str:
    """The body of the kernel that gathers from n arrays."""
    return _FIND_ROW + _repeated(_COPY_ROW, n)


def stack_source(n: int) -> str:
    """The body of the kernel that stacks n results."""
    return _repeated(_STACK, n)


def store_source(n: int) -> str:
    """The body of the kernel that stores n numbers and counts the step."""
    return _repeated(_STORE, n) + _COUNT


def _repeated(statement: str, n: int) -> str:
    return "".join(statement.format(k=k) for k in range(n))


def _raw(dtypes: Sequence[Any], name: str) -> str:
    return ", ".join(f"raw {dtype} {name}{k}" for k, dtype in enumerate(dtypes))


def _named(name: str, dtypes: Sequence[Any]) -> str:
    return ", ".join(f"{name}{k}" for k in range(len(dtypes)))


def same_memory(a: Array, b: Array) -> bool:
    """Whether two arrays are the same elements in the same order."""
    return bool(a.data.ptr == b.data.ptr and a.shape == b.shape and a.strides == b.strides)
