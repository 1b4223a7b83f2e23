"""Batches gathered on the device, by an index and a step counter that are on the device too."""

from typing import Any

from ...arrays import Array

_INDEX_ROWS = 1 << 22  # the longest index that is kept on the device
_INDEX_STEPS = 4096

_GATHER = """
    const long long columns = x_columns > t_columns ? x_columns : t_columns;
    const long long row = i / columns, j = i % columns;
    long long source = index[step[0] * batch + row] % rows;
    if (source < 0) source += rows;
    if (j < x_columns) x_out[row * x_columns + j] = x[source * x_columns + j];
    if (j < t_columns) t_out[row * t_columns + j] = t[source * t_columns + j];"""
_STORE_LOSS = "losses[step[0]] = loss; step[0] += 1"


class BatchGather:
    """Data on the device, and what a graph needs to gather batches from them.

    Args:
        cupy: the module.
        x: inputs; not copied.
        t: targets; not copied.
        batch: rows of a step.
        dtype: of the losses.
        steps: the most steps of one index; 0 for as many as are sensible.
    """

    def __init__(self, cupy: Any, x: Array, t: Array, batch: int, dtype: Any, steps: int = 0) -> None:
        self.cupy, self.data, self.owns_data = cupy, (x, t), False
        self.steps = steps or max(1, min(_INDEX_STEPS, _INDEX_ROWS // batch))
        self.index = cupy.zeros((self.steps, batch), dtype=cupy.int32)
        self.losses = cupy.zeros((self.steps,), dtype=dtype)
        self.step = cupy.zeros((1,), dtype=cupy.int32)
        self._gather, self._store_loss = gather_kernel(cupy), store_loss_kernel(cupy)

    def gather(self, batch: list[Array]) -> None:
        """Copy the rows of this step into the arrays of a batch."""
        rows, columns = self.index.shape[1], [a.size // a.shape[0] for a in batch]
        self._gather(
            self.index, self.step, *self.data, rows, self.data[0].shape[0], *columns, *batch,
            size=rows * max(columns),
        )  # fmt: skip

    def store_loss(self, loss: Array) -> None:
        """Store the loss of this step, and go on to the next."""
        self._store_loss(loss, self.losses, self.step)

    def set_index(self, index: Array) -> int:
        """Set the rows of the next steps; the number of these steps."""
        self.index[: index.shape[0]] = self.cupy.asarray(index)
        return int(index.shape[0])

    def wait_for_data(self, stream: Any) -> None:
        """Make a stream wait until the data are there."""

    def record_read(self, stream: Any) -> None:
        """Mark the place in a stream where the data have been read."""

    def load(self, x: Array, t: Array) -> bool:
        """Whether graphs gather from these data from now on.

        Data at the same address are, others are copied to memory that this object owns.
        """
        if all(map(same_memory, self.data, (x, t))):
            return True
        if self.owns_data:
            for mine, given in zip(self.data, (x, t), strict=True):
                mine[...] = given
        return self.owns_data

    def with_own_data(self, x: Array, t: Array) -> "BatchGather":
        """The same for data whose address changes: they are copied."""
        own = BatchGather(self.cupy, x.copy(), t.copy(), self.index.shape[1], self.losses.dtype)
        own.owns_data = True
        return own


def gather_kernel(cupy: Any) -> Any:
    """Copies the rows of a step into the arrays of a batch."""
    return cupy.ElementwiseKernel(
        "raw int32 index, raw int32 step, raw X x, raw T t, "
        "int64 batch, int64 rows, int64 x_columns, int64 t_columns",
        "raw X x_out, raw T t_out", _GATHER, "gather",
    )  # fmt: skip


def store_loss_kernel(cupy: Any) -> Any:
    """Stores the loss of a step and counts the step."""
    return cupy.ElementwiseKernel("T loss", "raw L losses, raw int32 step", _STORE_LOSS, "store_loss")


def same_memory(a: Array, b: Array) -> bool:
    """Whether two arrays are the same elements in the same order."""
    return bool(a.data.ptr == b.data.ptr and a.shape == b.shape and a.strides == b.strides)
