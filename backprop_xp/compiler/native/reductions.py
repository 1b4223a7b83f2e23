"""Kernels of a single operation: reductions, gathering, cumulative sums, concatenation."""

from math import prod
from typing import Any

import numpy as np

from ..ir import Op
from ..placement import copied_parts
from .elementwise import Parameter, copy, merged, nest
from .function import Function, Index, Register, Unknown
from .layouts import Layout, Layouts, contiguous
from .operations import compared, converted
from .rows import combined, horizontal

_BLOCK = 64  # how many registers are added up before their sum is added to the total
_WAYS = 4  # independent accumulators, so that no addition waits for the one before
REDUCED = frozenset({"sum", "mean", "max", "min", "prod", "all", "any"})


def axes_of(op: Op, ndim: int) -> tuple[int, ...]:
    """The axes over which an operation reduces."""
    axis = op.kw.get("axis")
    given = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return tuple(sorted(a % ndim for a in given)) if ndim else ()


class Reduction:
    """Sum, mean, max, min, prod, all or any over some axes.

    Where the last axis stays, the lanes run along it, and the other axes are reduced in order, as in NumPy;
    else the lanes run along the reduced axes, and are combined in pairs at the end.

    Args:
        f: the function being written.
        op: the operation.
        layouts: the layouts of the program's values.
        parameter: returns the pointer to a layout's first element.
    """

    def __init__(self, f: Function, op: Op, layouts: Layouts, parameter: Parameter) -> None:
        self.f, self.name = f, op.name
        self.source, self.out = layouts[op.args[0].value], layouts[op.out]
        if not prod(self.source.shape) or (op.name == "mean" and self.out.dtype.kind != "f"):
            msg = f"{op.name} of {self.source.dtype}{list(self.source.shape)}"
            raise Unknown(msg)
        shape, strides = self.source.shape, self.source.over(self.source.shape)
        gone = axes_of(op, len(shape))
        kept = [k for k in range(len(shape)) if k not in gone]
        self.kept, self.own = tuple(shape[k] for k in kept), tuple(strides[k] for k in kept)
        self.over, self.steps = tuple(shape[k] for k in gone), tuple(strides[k] for k in gone)
        self.lanes = f.target.lanes([self.source.dtype, self.out.dtype])
        self.given, self.result = parameter(self.source), parameter(self.out)

    def write(self) -> None:
        """Write the kernel."""
        f = self.f
        inner = [s for n, s in zip(self.kept, self.own, strict=True) if n > 1]
        along = not inner or any(0 < s < inner[-1] for s in self.steps)
        pieces = nest(f, self.kept, [self.own, contiguous(self.kept)], 1 if along else self.lanes)
        for (base, at), (stride, beyond), width in pieces:
            total = self._along(base) if along else self._down(base, stride, width)
            if self.name == "mean":
                count = f.constant(prod(self.over), total.dtype, total.lanes)
                total = f.binary("fdiv", total, count)
            f.store(total, self.result, at, beyond)

    def _slot(self, lanes: int) -> str:
        """A slot that holds the identity of the reduction: 0 for a sum, −∞ for a maximum."""
        first: Any = {"max": -np.inf, "min": np.inf, "prod": 1, "all": 1}.get(self.name, 0)
        if self.name in ("max", "min") and self.out.dtype.kind in "iu":
            ends = np.iinfo(self.out.dtype)
            first = ends.min if self.name == "max" else ends.max
        slot = self.f.slot(self.out.dtype, lanes)
        self.f.keep(slot, self.f.constant(first, self.out.dtype, lanes))
        return slot

    def _join(self, slot: str, a: Register) -> None:
        so_far = self.f.kept(slot, self.out.dtype, a.lanes)
        self.f.keep(slot, combined(self.f, self.name, so_far, converted(self.f, a, self.out.dtype)))

    def _load(self, at: Index, lanes: int, stride: int) -> Register:
        return self.f.load(self.given, at, self.source.dtype, lanes, stride)

    def _down(self, base: Index, stride: int, lanes: int) -> Register:
        """Several results, one in each lane; each combines its elements in order."""
        slot = self._slot(lanes)
        for (offset,), _, _ in nest(self.f, self.over, [self.steps], 1):
            self._join(slot, self._load(self.f.plus(base, offset), lanes, stride))
        return self.f.kept(slot, self.out.dtype, lanes)

    def _along(self, base: Index) -> Register:
        """One result; a long sum is a sum of sums of blocks, so that rounding errors stay small."""
        f, lanes = self.f, self.lanes
        shape, (steps,) = merged(self.over, [self.steps])
        n = shape[-1] if shape else 1
        block = lanes * _BLOCK
        blocks = n // block * block if len(shape) == 1 and n > block else 0
        slots = {w: self._slot(w) for w in (lanes if n >= lanes else 0, n % lanes) if w}
        if blocks:
            with f.loop(blocks, block) as i:
                inner = [self._slot(lanes) for _ in range(_WAYS)]
                with f.loop(block, _WAYS * lanes) as j:
                    for k, slot in enumerate(inner):
                        at = f.plus(base, f.times(f.plus(f.plus(i, j), k * lanes), steps[0]))
                        self._join(slot, self._load(at, lanes, steps[0]))
                for slot in inner:
                    self._join(slots[lanes], f.kept(slot, self.out.dtype, lanes))
            base, shape = f.plus(base, blocks * steps[0]), (n - blocks,)
        if n > blocks:
            for (offset,), (stride,), width in nest(f, shape, [steps], lanes):
                self._join(slots[width], self._load(f.plus(base, offset), width, stride))
        found = [horizontal(f, self.name, f.kept(slot, self.out.dtype, w)) for w, slot in slots.items()]
        return found[0] if len(found) == 1 else combined(f, self.name, *found)


def take(f: Function, op: Op, layouts: Layouts, parameter: Parameter) -> None:
    """Write the gathering of entries along an axis; an index out of range is clamped to the nearest entry."""
    source, index = (layouts[ref.value] for ref in op.args[:2])
    axis = op.kw.get("axis", 0) % len(source.shape)
    given, at, result = parameter(source), parameter(index), parameter(layouts[op.out])
    before, after = source.shape[:axis], source.shape[axis + 1 :]
    strides, lanes = source.over(source.shape), f.target.lanes([source.dtype])
    outer = tuple(s * prod(index.shape) * prod(after) for s in contiguous(before))
    others = [strides[:axis] + strides[axis + 1 :], outer + contiguous(after)]
    for (place, entry), _, _ in nest(f, index.shape, [index.over(index.shape), contiguous(index.shape)], 1):
        number = f.load(at, place, index.dtype)
        for bound, beyond in ((0, "less"), (source.shape[axis] - 1, "greater")):
            end = f.constant(bound, index.dtype)
            number = f.select(compared(f, beyond, number, end), end, number)
        here = f.times(converted(f, number, np.int64).name, strides[axis])
        there = f.times(entry, prod(after))
        for (a, b), (along, beside), width in nest(f, before + after, others, lanes):
            found = f.load(given, f.plus(here, a), source.dtype, width, along)
            f.store(found, result, f.plus(there, b), beside)


def cumulative_sum(f: Function, op: Op, layouts: Layouts, parameter: Parameter) -> None:
    """Write the sums of the first 1, 2, … entries of an axis."""
    source, out = layouts[op.args[0].value], layouts[op.out]
    axis = op.kw.get("axis", 0) % len(source.shape)
    given, result = parameter(source), parameter(out)
    n = source.shape[axis]
    if not n:
        msg = f"cumulative_sum of {source.dtype}{list(source.shape)}"
        raise Unknown(msg)
    rest = source.shape[:axis] + source.shape[axis + 1 :]
    step, own = source.over(source.shape), contiguous(out.shape)
    others = [each[:axis] + each[axis + 1 :] for each in (step, own)]
    lanes = f.target.lanes([source.dtype, out.dtype])
    for (a, b), (along, beyond), width in nest(f, rest, others, lanes):
        slot = f.slot(out.dtype, width)
        f.keep(slot, f.constant(0, out.dtype, width))
        with f.loop(n) as k:
            found = f.load(given, f.plus(a, f.times(k, step[axis])), source.dtype, width, along)
            total = combined(f, "sum", f.kept(slot, out.dtype, width), converted(f, found, out.dtype))
            f.keep(slot, total)
            f.store(total, result, f.plus(b, f.times(k, own[axis])), beyond)


def concat(f: Function, op: Op, layouts: Layouts, parameter: Parameter) -> None:
    """Write a concatenation; of a vector only the parts that are not computed in place."""
    fused, out = layouts.fused, layouts[op.out]
    if len(out.shape) == 1:
        parts = copied_parts(op, fused.program, fused.aliases)
        for start, part in parts.items():
            _part(f, layouts[part], out, 0, start, parameter)
        return
    axis = op.kw.get("axis", 0) % len(out.shape)
    start = 0
    for part in op.args[0]:
        _part(f, layouts[part.value], out, axis, start, parameter)
        start += layouts[part.value].shape[axis]


def stack(f: Function, op: Op, layouts: Layouts, parameter: Parameter) -> None:
    """Write arrays stacked along a new axis."""
    out = layouts[op.out]
    axis = op.kw.get("axis", 0) % len(out.shape)
    for k, part in enumerate(op.args[0]):
        like = layouts[part.value]
        expanded = like._replace(
            shape=(*like.shape[:axis], 1, *like.shape[axis:]),
            strides=(*like.strides[:axis], 0, *like.strides[axis:]),
        )
        _part(f, expanded, out, axis, k, parameter)


def _part(f: Function, part: Layout, out: Layout, axis: int, start: int, parameter: Parameter) -> None:
    """Copy an array into another, from `start` on along an axis."""
    own = contiguous(out.shape)
    target = f.pointer(parameter(out), start * own[axis], out.dtype)
    if part.dtype == out.dtype:
        copy(f, parameter(part), part, target, own)
        return
    given = parameter(part)
    lanes = f.target.lanes([part.dtype, out.dtype])
    for (a, b), (along, beyond), width in nest(f, part.shape, [part.over(part.shape), own], lanes):
        f.store(converted(f, f.load(given, a, part.dtype, width, along), out.dtype), target, b, beyond)


def arg_extremum(f: Function, op: Op, layouts: Layouts, parameter: Parameter) -> None:
    """Write the index of the first largest or smallest entry along an axis; NaN counts as either."""
    source, out = layouts[op.args[0].value], layouts[op.out]
    axis = op.kw.get("axis")
    shape, strides = source.shape, source.over(source.shape)
    if axis is None:
        if not source.contiguous:
            msg = f"{op.name} of all elements of a view"
            raise Unknown(msg)
        shape, strides, axis = (prod(shape),), (1,), 0
    axis %= len(shape)
    rest = shape[:axis] + shape[axis + 1 :]
    others = [strides[:axis] + strides[axis + 1 :], contiguous(rest)]
    given, result = parameter(source), parameter(out)
    for (a, b), _, _ in nest(f, rest, others, 1):
        best, place = f.slot(source.dtype, 1), f.slot(np.int64, 1)
        f.keep(best, f.load(given, a, source.dtype))
        f.keep(place, f.constant(0, np.int64))
        with f.loop(shape[axis]) as k:
            here = f.load(given, f.plus(a, f.times(k, strides[axis])), source.dtype)
            so_far = f.kept(best, source.dtype, 1)
            better = compared(f, "greater" if op.name == "argmax" else "less", here, so_far)
            if source.dtype.kind == "f":
                was_number = f.compare("fcmp ord", so_far, so_far)
                is_none = f.compare("fcmp uno", here, here)
                better = f.binary("or", better, f.binary("and", was_number, is_none))
            f.keep(best, f.select(better, here, so_far))
            at = f.emit(f"add i64 0, {k}", np.int64, 1)
            f.keep(place, f.select(better, at, f.kept(place, np.int64, 1)))
        f.store(converted(f, f.kept(place, np.int64, 1), out.dtype), result, b)
