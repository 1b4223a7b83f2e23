"""Data that stay on the host: double buffering through pinned memory.

While a graph trains on one staging buffer, the host gathers the rows of the next steps and copies them
to the other. The host waits for a buffer only where the device is the slower one.
"""

from math import prod
from typing import Any

import numpy as np

from ...arrays import Array
from .feed import BatchGather
from .graph import UPDATES, GraphInstance

_ROWS = 65536  # the most rows of a buffer, where a batch has fewer


class StagingBuffer(BatchGather):
    """The rows of a few steps on the device, and pinned memory through which the host fills them.

    Two events guard them: `filled` against reading too early, `read` against the write-after-read hazard.

    Args:
        cupy: the module.
        x: inputs on the host; only their row shape and dtype are looked at.
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
        self.filled, self.read = (cupy.cuda.Event(disable_timing=True) for _ in range(2))

    def fill(self, x: Array, t: Array, rows: Array, copy_stream: Any) -> None:
        """Copy rows of the host's data; returns while the copy is under way."""
        self.filled.synchronize()  # the last copy out of pinned memory is done
        copy_stream.wait_event(self.read)
        for data, pinned, on_device in zip((x, t), self.pinned, self.data, strict=True):
            np.take(data, rows, axis=0, out=pinned[: rows.size], mode="clip")
            on_device[: rows.size].set(pinned[: rows.size], stream=copy_stream)
        self.filled.record(copy_stream)

    def wait_for_data(self, stream: Any) -> None:
        """Make a stream wait until the copy is done."""
        stream.wait_event(self.filled)

    def record_read(self, stream: Any) -> None:
        """Mark the place in a stream where the buffer may be filled again."""
        self.read.record(stream)


class DoubleBuffer:
    """Two staging buffers and the stream that copies into them; arguments as for a staging buffer."""

    def __init__(self, cupy: Any, x: Array, t: Array, batch: int, dtype: Any) -> None:
        self.buffers = [StagingBuffer(cupy, x, t, batch, dtype) for _ in range(2)]
        self.copy_stream = cupy.cuda.Stream(non_blocking=True)

    def scan(self, instance: GraphInstance, x: Array, t: Array, index: Any) -> list[Array]:
        """One step for each row of an index on the host; the losses, in parts."""
        losses = []
        steps = self.buffers[0].steps
        for start in range(0, index.shape[0], steps):
            self.buffers.reverse()
            rows = index[start : start + steps]
            self.buffers[0].fill(x, t, rows.ravel(), self.copy_stream)
            losses.append(instance.scan(self.buffers[0], rows.shape[0]))
        return losses


def _pinned(cupy: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """An array in pinned memory, from which the device copies while the host goes on."""
    count = prod(shape)
    memory = cupy.cuda.alloc_pinned_memory(count * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, count).reshape(shape)
