"""Data that stay on the host: double buffering through pinned memory.

While a graph trains on one staging buffer, the host gathers the rows of the next steps and copies them
to the other. The host waits for a buffer only where the device is slower than the host.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from ...arrays import Array
from .feed import BatchGather, steps_at_once
from .graph import UPDATES, GraphInstance

_ROWS = 65536  # the most rows of a buffer, where a batch has fewer
_THREADS = min(8, os.cpu_count() or 1)  # the most threads that gather rows
_PIECE = 1 << 20  # bytes of rows that are worth a thread


class StagingBuffer(BatchGather):
    """The rows of a few steps on the device, and pinned memory through which the host fills them.

    Two events order the accesses: `filled` prevents reading too early, `read` the write-after-read hazard.

    Args:
        cupy: the module.
        like: arrays on the host; only the shapes of their rows and their dtypes are used.
        batch: the batch size.
        results: for each result of a step, an array of its shape and dtype.
    """

    def __init__(self, cupy: Any, like: Sequence[Array], batch: int, results: Sequence[Any]) -> None:
        steps = steps_at_once(batch, results, max(1, min(UPDATES, _ROWS // max(1, batch))))
        data = [cupy.empty((steps * batch, *a.shape[1:]), dtype=a.dtype) for a in like]
        super().__init__(cupy, data, batch, results, steps)
        self.index[...] = cupy.reshape(cupy.arange(steps * batch, dtype=cupy.int32), self.index.shape)
        self.pinned = [_pinned(cupy, a.shape, a.dtype) for a in data]
        self.filled, self.read = (cupy.cuda.Event(disable_timing=True) for _ in range(2))
        self.read.record(cupy.cuda.get_current_stream())  # it may still use this memory

    def fill(self, given: Sequence[Array], rows: Array, copy_stream: Any) -> None:
        """Start copying rows of the host's data; returns before the copy is done."""
        self.filled.synchronize()  # the last copy out of pinned memory is done
        copy_stream.wait_event(self.read)
        for data, pinned, on_device in zip(given, self.pinned, self.data, strict=True):
            gather(data, rows, pinned[: rows.size])
            on_device[: rows.size].set(pinned[: rows.size], stream=copy_stream)
        self.filled.record(copy_stream)

    def wait_for_data(self, stream: Any) -> None:
        """Make a stream wait until the copy is done."""
        stream.wait_event(self.filled)

    def record_read(self, stream: Any) -> None:
        """Record in a stream that the buffer may be filled again."""
        self.read.record(stream)


class DoubleBuffer:
    """Two staging buffers and the stream that copies into them; arguments as for a staging buffer."""

    def __init__(self, cupy: Any, like: Sequence[Array], batch: int, results: Sequence[Any]) -> None:
        self.buffers = [StagingBuffer(cupy, like, batch, results) for _ in range(2)]
        self.copy_stream = cupy.cuda.Stream(non_blocking=True)

    def scan(self, instance: GraphInstance, data: Sequence[Array], index: Any) -> Iterator[list[Array]]:
        """One step for each row of an index on the host; yields results that later steps overwrite."""
        steps = self.buffers[0].steps
        for start in range(0, index.shape[0], steps):
            self.buffers.reverse()
            rows = index[start : start + steps]
            self.buffers[0].fill(data, rows.ravel(), self.copy_stream)
            yield instance.scan(self.buffers[0], rows.shape[0])


def gather(data: Array, rows: Array, out: Array) -> None:
    """Copy rows of an array, large ones by several threads: one thread is slower than the bus.

    Consecutive rows are copied as one piece.

    >>> out = np.zeros((3, 1))
    >>> gather(np.arange(9.0)[:, None], np.asarray([4, 5, 6]), out)
    >>> out.ravel().tolist()
    [4.0, 5.0, 6.0]
    """
    contiguous = rows.size > 0 and bool((np.diff(rows) == 1).all())

    def copy(part: slice) -> None:
        if contiguous:
            start = int(rows[0])
            np.copyto(out[part], data[start + part.start : start + part.stop])
        else:
            np.take(data, rows[part], axis=0, out=out[part], mode="clip")

    pieces = min(_THREADS, max(1, out.nbytes // _PIECE))
    bounds = [k * rows.size // pieces for k in range(pieces + 1)]
    parts = [slice(*pair) for pair in pairwise(bounds)]
    if pieces == 1:
        copy(parts[0])
    else:
        list(_threads().map(copy, parts))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, "backprop_xp gather")


def _pinned(cupy: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """An array in pinned memory, from which the device copies asynchronously."""
    count = prod(shape)
    memory = cupy.cuda.alloc_pinned_memory(count * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, count).reshape(shape)
