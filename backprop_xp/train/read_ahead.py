"""One thread that reads the rows wanted next, while the caller uses those it has."""

import mmap
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from math import prod
from typing import Any

from .. import backends
from ..arrays import Array, leaves


class ReadAhead:
    """Calls `read(place)`, and reads one place ahead in a thread of its own.

    A context manager: the thread ends with the block, even after an error. What `read` raises in the thread
    is raised when its place is asked for, so errors come in the order of places. Only rows of NumPy arrays
    are read ahead: in other libraries, devices and streams belong to a thread.

    Attributes:
        on_host: whether the rows that were read last are NumPy arrays.

    >>> with ReadAhead(lambda k: backends.get("numpy").xp.full(2, k)) as reader:
    ...     for k in range(3):
    ...         rows = reader(k)
    ...         reader.ahead(k + 1)  # while the rows are used
    ...         print(rows.tolist())
    [0, 0]
    [1, 1]
    [2, 2]
    """

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self._read = read
        self.on_host = False
        self._pool: ThreadPoolExecutor | None = None
        self._next: tuple[Any, Future[Any]] | None = None

    def __enter__(self) -> "ReadAhead":
        return self

    def __exit__(self, *_: object) -> None:
        self._next = None
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __call__(self, place: Hashable) -> Any:
        """What `read` returns for a place, from the thread if it was read ahead."""
        there, self._next = self._next, None
        found = there[1].result() if there is not None and there[0] == place else self._read(place)
        self.on_host = all(backends.of(a).name == "numpy" for a in leaves(found))
        return found

    def ahead(self, place: Hashable | None) -> None:
        """Begin to read a place, if there is one; call it when the rows before the present ones are freed."""
        if place is None or not self.on_host:
            return
        self._pool = self._pool or ThreadPoolExecutor(1, "backprop-xp-reader")
        self._next = place, self._pool.submit(copy_context().run, self._read, place)


def pages(shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros in memory mapped for this array alone: taken when first written, returned when it is freed.

    malloc may keep freed memory instead of returning it to the system.

    >>> pages((2, 3), "float32").tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    host = backends.get("numpy").xp
    size = prod(shape) * host.dtype(dtype).itemsize
    if not size or not hasattr(mmap, "MAP_ANONYMOUS"):
        return host.zeros(shape, dtype=dtype)
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # not every kernel has huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return host.frombuffer(memory, dtype=dtype).reshape(shape)
