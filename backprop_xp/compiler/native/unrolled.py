"""A program of a few hundred numbers as straight-line code: each element in a register of its own.

For so few, a kernel's call costs more than its arithmetic. The state stays in registers from step to step,
rows are read in place, and operations are those of the kernels, with one lane.
"""

from collections.abc import Callable, Mapping
from functools import partial, reduce
from math import prod
from typing import Any

import numpy as np

from ..ir import ASSIGN, ELEMENTWISE, VIEWS, Op, Program, apply, reads, refs
from ..simplify import simplify
from .function import Function, Index, Register, Target, Unknown
from .layouts import Layout, contiguous
from .operations import computed, converted
from .reductions import REDUCED, axes_of
from .rows import combined

MOST = 1000  # instructions of a step; beyond that, kernels are as fast and compile faster

Cells = Any  # an array of registers


class Unrolled:
    """A program as straight-line LLVM IR; it is bound and called as a `Module` is.

    Args:
        program: of f(*state, *held, *rows) -> (*new_state, *results).
        donate: how many of its arguments are state.
        hold: how many after them are held.
        batch: the batch size of a scan; None for no scan.
        target: what it is written for.

    Raises:
        Unknown: it is too long, or has an operation that is not unrolled, such as `take`.
    """

    def __init__(self, program: Program, donate: int, hold: int, batch: int | None, target: Target) -> None:
        if sum(like.size for like in program.values) > MOST:
            msg = "straight-line code of so many numbers"
            raise Unknown(msg)
        self.target, self.program = target, simplify(program)
        program, given = self.program, self.program.inputs
        self.values = program.values
        self.constants: Mapping[int, Any] = {}
        self.packed, self.multiplications = 0, 0
        self.calls: tuple[Any, ...] = ()
        self.state, self.held, self.rows = (
            [ref.value for ref in refs(part)]
            for part in (given[:donate], given[donate : donate + hold], given[donate + hold :])
        )
        self.new = refs(program.outputs[:donate]) if donate else []
        self.tree = program.outputs[donate:] if donate else program.outputs
        likes = [self.values[ref.value] for ref in refs(self.tree)]
        self.where = [
            Layout(-1 - k, 0, like.shape, contiguous(like.shape), like.dtype) for k, like in enumerate(likes)
        ]
        self.views = {op.out: op for op in program.ops if op.name in VIEWS}
        self.memories = [*self.state, *self.held, *self.rows, *(each.memory for each in self.where)]
        parts = [self._step(), *([] if batch is None else [self._scan()])]
        declared = {name: text for f, _ in parts for name, text in f.declared.items()}
        texts = [f"define void @{head} nounwind {{\n{f.text}\n}}" for f, head in parts]
        self.text = "\n\n".join([f'target triple = "{target.triple}"', *declared.values(), *texts, ""])

    def buffers(self) -> dict[int, Any]:
        """For each memory it needs a buffer for, besides those of the rows, an abstract array."""
        return {each.memory: np.broadcast_to(np.zeros((), each.dtype), each.shape) for each in self.where}

    # ------------------------------------------------------------ functions
    def _step(self) -> tuple[Function, str]:
        f = Function(self.target)
        pointers = _table(f, "%memory", self.memories)
        cells = {v: self._loaded(f, v, pointers[v], 0) for v in (*self.state, *self.held, *self.rows)}
        new, results = self._line(f, cells)
        for v, own in zip(self.state, new, strict=True):
            _store(f, own, pointers[v], 0)
        for like, own in zip(self.where, results, strict=True):
            _store(f, own, pointers[like.memory], 0)
        return f, "step(ptr %memory)"

    def _scan(self) -> tuple[Function, str]:
        f = Function(self.target)
        pointers = _table(f, "%memory", [*self.state, *self.held])
        sources, targets = _table(f, "%rows", self.rows), _table(f, "%results", range(len(self.where)))
        held = {v: self._loaded(f, v, pointers[v], 0) for v in self.held}
        slots = {v: [f.slot(self.values[v].dtype, 1) for _ in range(self.values[v].size)] for v in self.state}
        for v, own in slots.items():
            for slot, a in zip(own, self._loaded(f, v, pointers[v], 0).reshape(-1), strict=True):
                f.keep(slot, a)
        batch = self.values[self.rows[0]].shape[0]
        with f.loop("%steps") as s:
            numbers = [f.load("%index", f.plus(f.times(s, batch), r), np.int64).name for r in range(batch)]
            cells = dict(held)
            for v in self.rows:
                like = self.values[v]
                n = prod(like.shape[1:])
                rows = [self._loaded(f, v, sources[v], f.times(row, n), n) for row in numbers]
                cells[v] = np.concatenate(rows).reshape(like.shape)
            for v, own in slots.items():
                like = self.values[v]
                cells[v] = _array([f.kept(slot, like.dtype, 1) for slot in own], like.shape)
            new, results = self._line(f, cells)
            for v, own in zip(self.state, new, strict=True):
                for slot, a in zip(slots[v], own.reshape(-1), strict=True):
                    f.keep(slot, a)
            for k, own in enumerate(results):
                _store(f, own, targets[k], f.times(s, own.size))
        for v, own in slots.items():
            like = self.values[v]
            _store(f, _array([f.kept(slot, like.dtype, 1) for slot in own], like.shape), pointers[v], 0)
        return f, "scan(ptr %memory, ptr %rows, ptr %index, i64 %steps, ptr %results)"

    def _loaded(self, f: Function, v: int, pointer: str, start: Index, n: int | None = None) -> Cells:
        like = self.values[v]
        own = [f.load(pointer, f.plus(start, k), like.dtype) for k in range(like.size if n is None else n)]
        return _array(own, like.shape if n is None else (n,))

    # ------------------------------------------------------------ operations
    def _line(self, f: Function, cells: dict[int, Cells]) -> tuple[list[Cells], list[Cells]]:
        """Write all operations; return the new state, and the results beside it."""
        before = f.length
        for v, constant in self.program.constants.items():
            a = np.asarray(constant)
            cells[v] = _array([f.constant(e, a.dtype) for e in a.reshape(-1).tolist()], a.shape)
        for op in self.program.ops:
            if op.name not in VIEWS:
                self._do(f, op, cells)
            if f.length - before > MOST:
                msg = "straight-line code of so many instructions"
                raise Unknown(msg)
        found = [[self._of(ref.value, cells) for ref in part] for part in (self.new, refs(self.tree))]
        return found[0], found[1]

    def _of(self, value: int, cells: dict[int, Cells]) -> Cells:
        """The registers of a value; a view has those of its source."""
        if value in self.views:
            op = self.views[value]
            return apply(op.name, (self._of(op.args[0].value, cells), *op.args[1:]), op.kw)
        return cells[value]

    def _do(self, f: Function, op: Op, cells: dict[int, Cells]) -> None:
        like = self.values[op.out]
        given = [self._of(ref.value, cells) for ref in refs(op.args)]
        if op.name in ELEMENTWISE or op.name == ASSIGN:
            found = self._elementwise(f, op, cells)
        elif op.name == "matmul" and given[0].ndim == given[1].ndim == 2 and like.dtype.kind == "f":
            a, b = given
            found = _array([_chain(f, row, column) for row in a for column in b.T], like.shape)
        elif op.name in REDUCED:
            found = self._reduced(f, op, given[0])
        elif op.name in ("concat", "stack"):
            join: Callable[..., Any] = np.concatenate if op.name == "concat" else np.stack
            joined = join(given, **op.kw)
            found = _array([converted(f, a, like.dtype) for a in joined.reshape(-1)], like.shape)
        else:
            raise Unknown(op.name)
        if op.inplace:
            self._overwrite(op.out, found, cells)
        else:
            cells[op.out] = found

    def _elementwise(self, f: Function, op: Op, cells: dict[int, Cells]) -> Cells:
        shape = self.values[op.out].shape
        given = {v: np.broadcast_to(self._of(v, cells), shape) for v in reads(op)}
        found = np.empty(shape, dtype=object)
        for at in np.ndindex(shape):
            local: dict[int, Any] = {v: a[at] for v, a in given.items()}
            found[at] = computed(f, op, self.values, local.__getitem__, 1)
        return found

    def _reduced(self, f: Function, op: Op, source: Cells) -> Cells:
        like = self.values[op.out]
        axes = axes_of(op, source.ndim)
        rows = np.moveaxis(source, axes, range(-len(axes), 0)).reshape(max(1, like.size), -1)
        if not rows.shape[1] or (op.name == "mean" and like.dtype.kind != "f"):
            raise Unknown(op.name)
        found = []
        for row in rows:
            parts = [converted(f, a, like.dtype) for a in row]
            total = reduce(partial(combined, f, op.name), parts)
            if op.name == "mean":
                total = f.binary("fdiv", total, f.constant(rows.shape[1], like.dtype))
            found.append(total)
        return _array(found, like.shape)

    def _overwrite(self, value: int, new: Cells, cells: dict[int, Cells]) -> None:
        """Write into a value, or into what it is a view of."""
        steps = []
        while value in self.views:
            steps.append(self.views[value])
            value = steps[-1].args[0].value
        whole = cells[value] = cells[value].copy()
        places = np.arange(whole.size).reshape(whole.shape)
        for op in reversed(steps):
            places = apply(op.name, (places, *op.args[1:]), op.kw)
        whole.reshape(-1)[places.reshape(-1)] = np.broadcast_to(new, places.shape).reshape(-1)


def _chain(f: Function, row: Cells, column: Cells) -> Register:
    """A row times a column, as one chain of multiplications and additions."""
    total = f.binary("fmul", row[0], column[0])
    for a, b in zip(row[1:], column[1:], strict=True):
        total = f.fma(a, b, total)
    return total


def _array(registers: list[Register], shape: tuple[int, ...]) -> Cells:
    cells = np.empty(len(registers), dtype=object)
    for k, a in enumerate(registers):
        cells[k] = a
    return cells.reshape(shape)


def _store(f: Function, cells: Cells, pointer: str, start: Index) -> None:
    for k, a in enumerate(cells.reshape(-1)):
        f.store(a, pointer, f.plus(start, k))


def _table(f: Function, table: str, keys: Any) -> dict[Any, str]:
    """Load the pointers of a table; returned by key."""
    found = {}
    for k, key in enumerate(keys):
        found[key] = f.let(f"load ptr, ptr {f.pointer(table, 8 * k, np.uint8)}, align 8")
    return found
