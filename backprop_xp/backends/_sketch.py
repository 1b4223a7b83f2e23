"""A record made from shapes alone: no product is computed, and no large array is filled.

For a step on a device: what it computes there would take the host seconds and gigabytes to record.
"""

from typing import Any

import numpy as np

from ._record import CREATION, ELEMENTWISE, REDUCTIONS, VIEWS, Tape, Traced, apply, mapped

_LIKE = frozenset({"zeros_like", "ones_like"})


def hollow(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of this shape and dtype, all of whose elements are one zero in memory."""
    return np.broadcast_to(np.zeros((), dtype=dtype), shape)


class Sketch(Tape):
    """A tape of shapes and dtypes; made from constants alone, values are true.

    Args:
        word: the 32-bit integer type of random bits.

    >>> from backprop_xp.backends._record import record
    >>> x = hollow((1_000_000, 1_000_000), "float32")
    >>> record(lambda a, *, xp: xp.sum(xp.matmul(a, a), axis=0), x, tape=Sketch()).values[-1].shape
    (1000000,)
    """

    def __init__(self, word: Any = np.uint32) -> None:
        super().__init__()
        self.word = word

    def take_in(self, a: Any) -> Traced:
        """An input of the step, of which shape and dtype are read."""
        return self.new(hollow(a.shape, a.dtype))

    def change(self, name: str, target: Any, other: Any) -> None:
        """Nothing: shape and dtype stay."""

    def result(self, name: str, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        """The shape and dtype of what an operation makes."""
        if name in VIEWS or (name in CREATION and name not in _LIKE):
            return apply(name, args, kw)
        small = apply(name, mapped(args, lambda a: np.zeros((1,) * a.ndim, a.dtype)), kw)
        return hollow(_shape(name, args, kw), np.asarray(small).dtype)


def _shape(name: str, args: tuple[Any, ...], kw: dict[str, Any]) -> tuple[int, ...]:
    first = args[0]
    if name in _LIKE:
        return tuple(first.shape)
    if name in ELEMENTWISE:
        return np.broadcast_shapes(*(a.shape for a in args if isinstance(a, np.ndarray)))
    if name in REDUCTIONS:
        return _reduced(first.shape, kw.get("axis"), keepdims=kw.get("keepdims", False))
    if name == "matmul":
        return (*first.shape[:-1], args[1].shape[-1])
    axis = kw.get("axis", 0)
    if name == "take":
        return (*first.shape[:axis], *args[1].shape, *first.shape[axis + 1 :])
    shape = list(first[0].shape)
    if name == "concat":
        shape[axis] = sum(a.shape[axis] for a in first)
    else:
        shape.insert(axis, len(first))
    return tuple(shape)


def _reduced(shape: tuple[int, ...], axis: Any, *, keepdims: bool) -> tuple[int, ...]:
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    gone = {a % len(shape) for a in axes} if shape else set()
    kept = ((k, n) for k, n in enumerate(shape) if keepdims or k not in gone)
    return tuple(1 if k in gone else n for k, n in kept)
