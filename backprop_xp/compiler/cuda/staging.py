"""Data that stay on the host: rows go to the device through two slots of pinned memory, used in turn.

While a graph learns from one slot, the rows of the next steps are gathered on the host and sent to the
other. The host waits for a slot only where the device is slower.
"""

from math import prod
from typing import Any

import numpy as np

from ...arrays import Array
from .feed import BatchGather
from .graph import UPDATES, GraphInstance

_ROWS = 65536  # of a slot, where batches are large


class StagingBuffer(BatchGather):
    """A feed for the steps of one graph, filled from the host.

    Args:
        cupy: the module.
        x: inputs on the host, whose row shape and dtype are read.
        t: targets, likewise.
        batch: rows of a step.
        dtype: of the losses.
    """

    def __init__(self, cupy: Any, x: Array, t: Array, batch: int, dtype: Any) -> None:
        steps = max(1, min(UPDATES, _ROWS // batch))
        inputs, targets = (cupy.zeros((steps * batch, *a.shape[1:]), dtype=a.dtype) for a in (x, t))
        super().__init__(cupy, inputs, targets, batch, dtype, steps)
        self.index[...] = cupy.reshape(cupy.arange(steps * batch, dtype=cupy.int32), self.index.shape)
        self.pinned = [_pinned(cupy, a.shape, a.dtype) for a in (inputs, targets)]
        self.landed, self.freed = (cupy.cuda.Event(disable_timing=True) for _ in range(2))

    def fill(self, x: Array, t: Array, rows: Array, copying: Any) -> None:
        """Send rows of the host's data; returns when they are on their way."""
        self.landed.synchronize()  # what was sent from this memory has arrived
        copying.wait_event(self.freed)
        for data, pinned, place in zip((x, t), self.pinned, self.data, strict=True):
            np.take(data, rows, axis=0, out=pinned[: rows.size], mode="clip")
            place[: rows.size].set(pinned[: rows.size], stream=copying)
        self.landed.record(copying)

    def begins(self, stream: Any) -> None:
        """The stream reads the data once they have landed."""
        stream.wait_event(self.landed)

    def ended(self, stream: Any) -> None:
        """The data may be replaced once the stream has read them."""
        self.freed.record(stream)


class DoubleBuffer:
    """Two slots and the stream that fills them; arguments as for a slot."""

    def __init__(self, cupy: Any, x: Array, t: Array, batch: int, dtype: Any) -> None:
        self.slots = [StagingBuffer(cupy, x, t, batch, dtype) for _ in range(2)]
        self.copying = cupy.cuda.Stream(non_blocking=True)

    def scan(self, bound: GraphInstance, x: Array, t: Array, index: Any) -> list[Array]:
        """One step for each row of an index on the host; the losses, in parts."""
        losses = []
        length = self.slots[0].steps
        for start in range(0, index.shape[0], length):
            self.slots.reverse()
            rows = index[start : start + length]
            self.slots[0].fill(x, t, rows.ravel(), self.copying)
            losses.append(bound.scan(self.slots[0], rows.shape[0]))
        return losses


def _pinned(cupy: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Host memory that a device reads while the host goes on."""
    count = prod(shape)
    memory = cupy.cuda.alloc_pinned_memory(count * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, count).reshape(shape)
