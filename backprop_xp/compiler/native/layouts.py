"""Where each value is stored: the memory, the offset and the strides."""

from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..fusion import Fused
from ..ir import apply


class Layout(NamedTuple):
    """Where a value is stored.

    Attributes:
        memory: the number of the value that owns the memory.
        offset: where the first element is, in elements.
        shape: the value's shape.
        strides: its strides, in elements.
        dtype: its dtype.
    """

    memory: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def contiguous(self) -> bool:
        """Whether it is C-contiguous."""
        return all(
            n == 1 or s == own
            for n, s, own in zip(self.shape, self.strides, contiguous(self.shape), strict=True)
        )

    def shifts(self, other: "Layout") -> bool:
        """Whether it shares memory with another, but not element by element."""
        if self.memory != other.memory or self[1:4] == other[1:4]:
            return False
        (first, last), (start, stop) = self.span, other.span
        return first <= stop and start <= last

    @property
    def span(self) -> tuple[int, int]:
        """The numbers of the first and the last element of the memory that it covers."""
        steps = [s * (n - 1) for n, s in zip(self.shape, self.strides, strict=True)]
        return self.offset + sum(s for s in steps if s < 0), self.offset + sum(s for s in steps if s > 0)

    def over(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Its strides when it is broadcast to a shape: 0 along axes it lacks, or has with length 1."""
        own = [0 if n == 1 else s for n, s in zip(self.shape, self.strides, strict=True)]
        return (*[0] * (len(shape) - len(own)), *own)


class Layouts:
    """The layouts of a program's values.

    Args:
        fused: the program.
    """

    def __init__(self, fused: Fused) -> None:
        self.fused, self.values = fused, fused.program.values
        self._known: dict[int, Layout] = {}

    def memory(self, value: int) -> int:
        """The value that owns the memory of a view, or of a slice of a vector."""
        return self[value].memory

    def lies_in(self, value: int, other: int) -> None:
        """Store a value in the memory of another."""
        self._known[value] = self[other]

    def __getitem__(self, value: int) -> Layout:
        if value not in self._known:
            self._known[value] = self._found(value)
        return self._known[value]

    def _found(self, value: int) -> Layout:
        like = self.values[value]
        if value in self.fused.views:
            op = self.fused.views[value]
            source = self[op.args[0].value]
            whole = _at_zero(source.shape, source.strides, source.dtype)
            view = apply(op.name, (whole, *op.args[1:]), op.kw)
            moved = (view.ctypes.data - whole.ctypes.data) // source.dtype.itemsize if view.size else 0
            strides = tuple(s // source.dtype.itemsize for s in view.strides)
            return Layout(source.memory, source.offset + moved, view.shape, strides, source.dtype)
        where = self.fused.program.slices.get(value)
        whole, start = (value, 0) if where is None else (where.whole, where.start)
        memory, offset = (value, 0) if where is None else (self[whole].memory, self[whole].offset)
        return Layout(memory, offset + start, like.shape, contiguous(like.shape), like.dtype)


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a C-contiguous array, in elements.

    >>> contiguous((2, 3, 4))
    (12, 4, 1)
    """
    return tuple(prod(shape[k + 1 :]) for k in range(len(shape)))


def _at_zero(shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any) -> Any:
    """An array made for its strides: its elements must not be read."""
    steps = [s * dtype.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(np.zeros((), dtype), shape, steps)
