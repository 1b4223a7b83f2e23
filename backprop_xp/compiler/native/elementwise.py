"""Kernels of elementwise operations, and copies: a nest of loops, the innermost over lanes."""

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

from ..ir import reads
from ..kernel import Kernel
from .function import Function, Index, Register, Unknown
from .layouts import Layout, Layouts
from .operations import computed

Strides = tuple[int, ...]
Parameter = Callable[[Layout], str]  # returns the pointer to a value's first element


def nest(
    f: Function, shape: tuple[int, ...], strides: Sequence[Strides], lanes: int
) -> Iterator[tuple[list[Index], list[int], int]]:
    """Loops over all elements of a shape.

    Axes that all operands traverse as one are merged. The innermost axis is cut into registers of `lanes`
    elements, and one shorter register for the tail.

    Args:
        f: the function being written.
        shape: the shape of the result.
        strides: those of each operand over this shape, 0 along axes it is broadcast along.
        lanes: how many elements a register has.

    Yields:
        For the body of each loop: the offset of each operand, its stride along the lanes, and the lanes.
    """
    if not prod(shape):
        return
    shape, strides = merged(shape, strides)
    if not shape:
        yield [0] * len(strides), [0] * len(strides), 1
        return
    *outer, n = shape
    inner = [own[-1] for own in strides]

    def within(axis: int, bases: list[Index]) -> Iterator[tuple[list[Index], list[int], int]]:
        if axis < len(outer):
            with f.loop(outer[axis]) as i:
                each = [f.plus(b, f.times(i, own[axis])) for b, own in zip(bases, strides, strict=True)]
                yield from within(axis + 1, each)
            return
        full = n // lanes * lanes
        if full:
            with f.loop(full, lanes) as j:
                yield [f.plus(b, f.times(j, s)) for b, s in zip(bases, inner, strict=True)], inner, lanes
        if n > full:
            yield [f.plus(b, full * s) for b, s in zip(bases, inner, strict=True)], inner, n - full

    yield from within(0, [0] * len(strides))


def merged(shape: tuple[int, ...], strides: Sequence[Strides]) -> tuple[tuple[int, ...], list[Strides]]:
    """A shape and strides without axes of one element, and with axes merged where all strides allow it.

    >>> merged((2, 1, 3, 4), [(12, 0, 4, 1), (0, 0, 0, 0)])
    ((24,), [(1,), (0,)])
    >>> merged((2, 3), [(3, 1), (0, 1)])
    ((2, 3), [(3, 1), (0, 1)])
    """
    axes: list[tuple[int, tuple[int, ...]]] = []
    for k, n in enumerate(shape):
        own = tuple(s[k] for s in strides)
        if n == 1:
            continue
        if axes and all(before == s * n for before, s in zip(axes[-1][1], own, strict=True)):
            axes[-1] = axes[-1][0] * n, own
        else:
            axes.append((n, own))
    return tuple(n for n, _ in axes), [tuple(own[k] for _, own in axes) for k in range(len(strides))]


def elementwise(f: Function, kernel: Kernel, layouts: Layouts, parameter: Parameter) -> None:
    """Write a kernel of elementwise operations of one shape.

    Args:
        f: the function being written.
        kernel: the kernel.
        layouts: the layouts of the program's values.
        parameter: returns the pointer to a layout's first element.
    """
    values = layouts.values
    shape = values[kernel.ops[0].out].shape
    made = {op.out for op in kernel.ops if not op.inplace}
    changed = dict.fromkeys(op.out for op in kernel.ops if op.inplace)
    stored = [*kernel.makes, *(v for v in changed if v not in kernel.makes)]
    loaded = [v for v in dict.fromkeys(v for op in kernel.ops for v in reads(op)) if v not in made]
    if any(layouts[v].shifts(layouts[u]) for v in stored for u in loaded):
        msg = "an operation that reads elements it also writes, at other places"
        raise Unknown(msg)
    used = list(dict.fromkeys((*loaded, *stored)))
    pointers = {v: parameter(layouts[v]) for v in used}
    lanes = f.target.lanes(values[v].dtype for v in (*used, *made))
    for offsets, along, width in nest(f, shape, [layouts[v].over(shape) for v in used], lanes):
        place = {v: (o, s) for v, o, s in zip(used, offsets, along, strict=True)}
        local: dict[int, Register] = {}

        def get(v: int, place: Any = place, local: Any = local, width: int = width) -> Register:
            if v not in local:
                offset, stride = place[v]
                local[v] = f.load(pointers[v], offset, values[v].dtype, width, stride)
            return local[v]  # type: ignore[no-any-return]

        for op in kernel.ops:
            local[op.out] = computed(f, op, values, get, width)
        for v in stored:
            offset, stride = place[v]
            f.store(local[v], pointers[v], offset, stride)


def copy(f: Function, source: str, of: Layout, target: str, to: Strides) -> None:
    """Copy a value to memory with other strides."""
    lanes = f.target.lanes([of.dtype])
    for (a, b), (along, beyond), width in nest(f, of.shape, [of.over(of.shape), to], lanes):
        f.store(f.load(source, a, of.dtype, width, along), target, b, beyond)
