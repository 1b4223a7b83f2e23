"""Buffers: aligned memory, shared by values that do not live at the same time."""

import ctypes
import sys
from typing import Any

import numpy as np

_LINE = 64  # bytes of a cache line


class Pool:
    """A pool of buffers: values whose live ranges do not overlap share one."""

    def __init__(self) -> None:
        self.free: list[Any] = []
        self.used: dict[int, Any] = {}

    def take(self, value: int, like: Any) -> Any:
        """A buffer for a value of this shape and dtype: a free one that fits, else a new one."""
        fits = [k for k, b in enumerate(self.free) if like.nbytes <= b.nbytes <= 2 * like.nbytes + _LINE]
        raw = self.free.pop(min(fits, key=lambda k: self.free[k].nbytes)) if fits else aligned(like.nbytes)
        self.used[value] = raw
        return _shaped(raw, like)

    def reuse_buffer(self, old: int, value: int, like: Any) -> Any:
        """Pass the buffer of a value whose live range ends to one whose live range begins."""
        raw = self.used[value] = self.used.pop(old)
        return _shaped(raw, like)

    def release(self, value: int) -> None:
        """Return the buffer of a value that is no longer needed."""
        self.free.append(self.used.pop(value))


def aligned(size: int) -> Any:
    """Uninitialised bytes that begin at a cache line."""
    raw = np.empty(size + _LINE, dtype=np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size]


def buffer(like: Any) -> Any:
    """An uninitialised array of this shape and dtype."""
    return _shaped(aligned(like.nbytes), like)


def give_back() -> None:
    """Return freed memory that malloc keeps to the system; only glibc has a call for that."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(ctypes.c_size_t(0))


def _shaped(raw: Any, like: Any) -> Any:
    return raw[: like.nbytes].view(like.dtype).reshape(like.shape)
