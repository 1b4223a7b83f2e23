"""Kernels that run row by row, with one row in each lane of the registers.

The operations are ordered in phases, each a loop over the columns; a reduction's result is used in later
phases. Scalars of the whole batch (the mean loss, those of an update rule) come last. The result of a row
does not depend on the rows in the other lanes.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..ir import REDUCTIONS, Op, reads
from ..kernel import Kernel
from .elementwise import Parameter
from .function import Function, Index, Register, Unknown
from .layouts import Layouts
from .operations import computed, extremum

_UNROLLED = 320  # up to so many operations times columns, loops over columns are unrolled into registers

Local = dict[int, Register]


def rows(f: Function, kernel: Kernel, layouts: Layouts, parameter: Parameter) -> None:
    """Write a kernel of operations that run row by row.

    Args:
        f: the function being written.
        kernel: the kernel.
        layouts: the layouts of the program's values.
        parameter: returns the pointer to a layout's first element.
    """
    _Rows(f, kernel, layouts, parameter).write()


class _Rows:
    def __init__(self, f: Function, kernel: Kernel, layouts: Layouts, parameter: Parameter) -> None:
        self.f, self.layouts, self.values = f, layouts, layouts.values
        self.shape: tuple[int, int] = next(
            s
            for op in kernel.ops
            if op.name in REDUCTIONS and len(s := self.values[op.args[0].value].shape) == 2
        )
        changed = [op.out for op in kernel.ops if op.inplace]
        if any(self.values[v].ndim for v in changed):
            msg = "rows changed in place"
            raise Unknown(msg)
        self.stored = list(dict.fromkeys((*kernel.makes, *changed)))
        self.made = {op.out for op in kernel.ops if not op.inplace}
        loaded = dict.fromkeys(v for op in kernel.ops for v in reads(op) if v not in self.made)
        self.pointers = {v: parameter(layouts[v]) for v in (*loaded, *self.stored)}
        by_row = [op for op in kernel.ops if self.values[op.out].ndim]
        self.of_batch = [op for op in kernel.ops if not self.values[op.out].ndim]
        self.sums = [op for op in self.of_batch if op.name in REDUCTIONS]
        self.lanes = f.target.lanes(
            self.values[v].dtype for v in (*self.made, *loaded) if self.values[v].ndim
        )
        self.unrolled = self.shape[1] * len(by_row) <= _UNROLLED
        self._order(by_row)

    # ------------------------------------------------------------ phases
    def _order(self, ops: list[Op]) -> None:
        """Assign the operations to phases: before the loop over the columns, or in it."""
        ready: dict[int, int] = {}
        self.before: list[list[Op]] = []
        self.inside: list[list[Op]] = []
        self.first: dict[int, int] = {}
        self.last: dict[int, int] = {}
        for op in ops:
            phase = max((ready.get(v, 0) for v in reads(op)), default=0)
            while len(self.inside) <= phase:
                self.before.append([])
                self.inside.append([])
            reduces, has_columns = op.name in REDUCTIONS, self._has_columns(op.out)
            (self.inside if reduces or has_columns else self.before)[phase].append(op)
            ready[op.out] = phase + reduces
            self.first[op.out] = phase
            for v in reads(op):
                self.first.setdefault(v, phase)
                self.last[v] = phase

    def _has_columns(self, v: int) -> bool:
        return bool(self.values[v].shape == self.shape)

    def crossing(self) -> list[int]:
        """The values with columns that are used in a later phase than the one that computes or loads them."""
        return [v for v, k in self.first.items() if self.last.get(v, 0) > k and self.spans_columns(v)]

    # ------------------------------------------------------------ the code
    def write(self) -> None:
        """Write all rows, then the scalars of the batch."""
        n, lanes = self.shape[0], self.lanes
        full = n // lanes * lanes
        widths = [w for w in (lanes if full else 0, n - full) if w]
        totals = {op.out: [self._zero(op, w) for w in widths] for op in self.sums}
        if full:
            with self.f.loop(full, lanes) as r:
                self._block(r, lanes, {v: own[0] for v, own in totals.items()})
        if n > full:
            self._block(full, n - full, {v: own[-1] for v, own in totals.items()})
        self._batch(widths, totals)

    def _zero(self, op: Op, width: int) -> str:
        dtype = self.values[op.out].dtype
        slot = self.f.slot(dtype, width)
        self.f.keep(slot, self.f.constant(0, dtype, width))
        return slot

    def _block(self, r: Index, width: int, totals: dict[int, str]) -> None:
        """A block of rows, one in each lane, phase after phase."""
        f, values, block = self.f, self.values, _Block(self, r, width)
        for phase, (before, inside) in enumerate(zip(self.before, self.inside, strict=True)):
            for op in before:
                ndim = values[op.out].ndim
                get = partial(block.of_row, ndim=ndim)
                block.known[op.out] = computed(f, op, values, get, width)
            for op in inside:  # what is the same in every column is loaded before the loop
                for v in reads(op):
                    if not self.spans_columns(v):
                        block.of_row(v, 2)
            reductions = [op for op in inside if op.name in REDUCTIONS]
            slots = {op.out: self._start(op, width) for op in reductions}
            for j, local in self._columns(block.cells):
                for op in inside:
                    if op.out in slots:
                        self._combine(op, slots[op.out], block.of_column(op.args[0].value, j, local, phase))
                    else:
                        get = partial(block.of_column, j=j, local=local, phase=phase)
                        block.made(op.out, computed(f, op, values, get, width), j, local)
            for op in reductions:
                total = f.kept(slots[op.out], values[op.out].dtype, width)
                block.known[op.out] = self._end(op, total, self.shape[1])
        block.store_rows()
        for op in self.sums:
            total = f.kept(totals[op.out], values[op.out].dtype, width)
            f.keep(totals[op.out], f.binary("fadd", total, block.known[op.args[0].value]))

    def _columns(self, cells: list[Local]) -> Iterator[tuple[Index, Local]]:
        """The columns: unrolled, or in a loop."""
        if self.unrolled:
            yield from enumerate(cells)
            return
        with self.f.loop(self.shape[1]) as j:
            yield j, {}

    def strides(self, v: int, ndim: int) -> tuple[int, int]:
        """The strides over rows and over columns, in an operation whose result has `ndim` axes."""
        if ndim == 0:
            return 0, 0
        if ndim == 1:
            return self.layouts[v].over(self.shape[:1])[0], 0
        down, across = self.layouts[v].over(self.shape)
        return down, across

    def spans_columns(self, v: int) -> bool:
        """Whether a value differs from column to column."""
        if v in self.made:
            return self._has_columns(v)
        return self.values[v].ndim > 0 and self.strides(v, 2)[1] != 0

    # ------------------------------------------------------------ reductions
    def _start(self, op: Op, width: int) -> str:
        dtype = self.values[op.out].dtype
        slot = self.f.slot(dtype, width)
        first = {"max": -np.inf, "min": np.inf}.get(op.name, 0)
        self.f.keep(slot, self.f.constant(first, dtype, width))
        return slot

    def _combine(self, op: Op, slot: str, a: Register) -> None:
        so_far = self.f.kept(slot, a.dtype, a.lanes)
        if op.name in ("sum", "mean"):
            self.f.keep(slot, self.f.binary("fadd", so_far, a))
        else:
            self.f.keep(slot, extremum(self.f, f"{op.name}imum", so_far, a))

    def _end(self, op: Op, total: Register, count: int) -> Register:
        if op.name != "mean":
            return total
        return self.f.binary("fdiv", total, self.f.constant(count, total.dtype, total.lanes))

    def _batch(self, widths: list[int], totals: dict[int, list[str]]) -> None:
        """The scalars of the batch; the lanes of a sum are added up in pairs."""
        f, values, local = self.f, self.values, dict[int, Register]()

        def get(v: int) -> Register:
            if v not in local:
                local[v] = f.load(self.pointers[v], 0, values[v].dtype)
            return local[v]

        for op in self.of_batch:
            if op.name not in REDUCTIONS:
                local[op.out] = computed(f, op, values, get, 1)
                continue
            parts = [
                horizontal(f, op.name, f.kept(slot, values[op.out].dtype, w))
                for slot, w in zip(totals[op.out], widths, strict=True)
            ]
            total = parts[0] if len(parts) == 1 else f.binary("fadd", *parts)
            local[op.out] = self._end(op, total, self.shape[0])
        for v in self.stored:
            if not values[v].ndim:
                f.store(local[v], self.pointers[v], 0)


class _Block:
    """The registers of a block of rows, one row in each lane.

    Args:
        rows: the kernel.
        r: the number of the first row.
        width: how many rows.

    Attributes:
        known: registers that are the same in every column: computed ones by value, loaded ones by value
            and number of axes.
        cells: for each column its registers by value, if the columns are unrolled.
    """

    def __init__(self, rows: _Rows, r: Index, width: int) -> None:
        self.rows, self.r, self.width = rows, r, width
        self.f, self.values = rows.f, rows.values
        self.known: dict[Any, Register] = {}
        self.cells: list[Local] = [{} for _ in range(rows.shape[1] if rows.unrolled else 0)]
        crossing = [] if rows.unrolled else rows.crossing()
        self.rooms = {v: self.f.slot(self.values[v].dtype, width, rows.shape[1]) for v in crossing}

    def _at(self, v: int, ndim: int, j: Index) -> tuple[Index, int]:
        down, across = self.rows.strides(v, ndim)
        return self.f.plus(self.f.times(self.r, down), self.f.times(j, across)), down

    def _loaded(self, v: int, ndim: int, j: Index = 0) -> Register:
        offset, down = self._at(v, ndim, j)
        return self.f.load(self.rows.pointers[v], offset, self.values[v].dtype, self.width, down)

    def of_row(self, v: int, ndim: int) -> Register:
        """A value that is the same in every column."""
        key = v if v in self.rows.made else (v, ndim)
        if key not in self.known:
            self.known[key] = self._loaded(v, ndim)
        return self.known[key]

    def of_column(self, v: int, j: Index, local: Local, phase: int) -> Register:
        """A value in a column; one of an earlier phase is loaded from the stack."""
        if not self.rows.spans_columns(v):
            return self.of_row(v, 2)
        if v not in local:
            if v in self.rooms and self.rows.first[v] < phase:
                local[v] = self.f.kept(self.rooms[v], self.values[v].dtype, self.width, j)
            else:
                local[v] = self._loaded(v, 2, j)
                if v in self.rooms:
                    self.f.keep(self.rooms[v], local[v], j)
        return local[v]

    def made(self, v: int, a: Register, j: Index, local: Local) -> None:
        """Keep a result in a column: in a register, on the stack for later phases, in memory if stored."""
        local[v] = a
        if v in self.rooms:
            self.f.keep(self.rooms[v], a, j)
        if v in self.rows.stored:
            offset, down = self._at(v, 2, j)
            self.f.store(a, self.rows.pointers[v], offset, down)

    def store_rows(self) -> None:
        """Store the values that have one number in each row."""
        for v in self.rows.stored:
            ndim = self.values[v].ndim
            if ndim and self.values[v].shape != self.rows.shape:
                offset, down = self._at(v, ndim, 0)
                self.f.store(self.known[v], self.rows.pointers[v], offset, down)


def horizontal(f: Function, name: str, a: Register) -> Register:
    """The reduction of all lanes, in pairs."""
    lanes = 1 << (a.lanes - 1).bit_length()
    if lanes != a.lanes:
        if name not in ("sum", "mean"):
            parts = [f.lane(a, q) for q in range(a.lanes)]
            total = parts[0]
            for part in parts[1:]:
                total = combined(f, name, total, part)
            return total
        a = f.padded(a, lanes)
    while lanes > 1:
        lanes //= 2
        low, high = (
            (f.first(a, lanes), f.shuffled(a, a, range(lanes, 2 * lanes)))
            if lanes > 1
            else (f.lane(a, 0), f.lane(a, 1))
        )
        a = combined(f, name, low, high)
    return a


def combined(f: Function, name: str, a: Register, b: Register) -> Register:
    """Combine two partial results of a reduction."""
    if name in ("sum", "mean"):
        return f.binary("fadd" if a.dtype.kind == "f" else "add", a, b)
    if name == "prod":
        return f.binary("fmul" if a.dtype.kind == "f" else "mul", a, b)
    if name in ("all", "any"):
        return f.binary("and" if name == "all" else "or", a, b)
    return extremum(f, f"{name}imum", a, b)
