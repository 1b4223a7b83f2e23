"""Batches gathered on the device, along an index and a counter that lie there too."""

from typing import Any

from ...arrays import Array

_INDEX = 1 << 22  # rows named at once
_STEPS = 4096  # steps likewise

_GATHER = """
    const long long wide = wide_x > wide_t ? wide_x : wide_t, row = i / wide, j = i % wide;
    long long k = index[at[0] * batch + row] % rows;
    if (k < 0) k += rows;
    if (j < wide_x) x_out[row * wide_x + j] = x[k * wide_x + j];
    if (j < wide_t) t_out[row * wide_t + j] = t[k * wide_t + j];"""
_KEEP = "losses[at[0]] = loss; at[0] += 1"


class BatchGather:
    """Data on the device and what a graph needs to gather batches from them.

    Args:
        cupy: the module.
        x: inputs; gathered from where they lie.
        t: targets, likewise.
        batch: rows of a step.
        dtype: of the losses.
        steps: the most steps that are named at once; 0 for as many as is sensible.
    """

    def __init__(self, cupy: Any, x: Array, t: Array, batch: int, dtype: Any, steps: int = 0) -> None:
        self.cupy, self.data, self.own = cupy, (x, t), False
        self.steps = steps or max(1, min(_STEPS, _INDEX // batch))
        self.index = cupy.zeros((self.steps, batch), dtype=cupy.int32)
        self.losses = cupy.zeros((self.steps,), dtype=dtype)
        self.at = cupy.zeros((1,), dtype=cupy.int32)
        self.kernels(cupy)

    def kernels(self, cupy: Any) -> None:
        """One kernel takes the rows of a step, another keeps its loss and counts."""
        self.gathering = cupy.ElementwiseKernel(
            "raw int32 index, raw int32 at, raw X x, raw T t, "
            "int64 batch, int64 rows, int64 wide_x, int64 wide_t",
            "raw X x_out, raw T t_out", _GATHER, "gather",
        )  # fmt: skip
        self.keeping = cupy.ElementwiseKernel("T loss", "raw L losses, raw int32 at", _KEEP, "keep")

    def gather(self, batch: list[Array]) -> None:
        """The rows of this step, into the arrays of a batch."""
        count, wide = self.index.shape[1], [place.size // place.shape[0] for place in batch]
        self.gathering(
            self.index, self.at, *self.data, count, self.data[0].shape[0], *wide, *batch,
            size=count * max(wide),
        )  # fmt: skip

    def name(self, index: Array) -> int:
        """Take the rows of the next steps, from the first on; how many steps."""
        self.index[: index.shape[0]] = self.cupy.asarray(index)
        return int(index.shape[0])

    def keep(self, loss: Array) -> None:
        """The loss of this step, and on to the next."""
        self.keeping(loss, self.losses, self.at)

    def begins(self, stream: Any) -> None:
        """A stream is about to read the data."""

    def ended(self, stream: Any) -> None:
        """A stream has been told all that it reads."""

    def holds(self, x: Array, t: Array) -> bool:
        """Whether these data are where graphs look for them; of other data a copy is put there."""
        if all(map(same_memory, self.data, (x, t))):
            return True
        if self.own:
            for mine, theirs in zip(self.data, (x, t), strict=True):
                mine[...] = theirs
        return self.own

    def moved(self, x: Array, t: Array) -> "BatchGather":
        """A feed with data of its own: these come from another place each time."""
        feed = BatchGather(self.cupy, x.copy(), t.copy(), self.index.shape[1], self.losses.dtype)
        feed.own = True
        return feed


def same_memory(a: Array, b: Array) -> bool:
    return bool(a.data.ptr == b.data.ptr and a.shape == b.shape and a.strides == b.strides)
