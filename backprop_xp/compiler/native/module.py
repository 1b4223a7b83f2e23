"""The module of a program: its kernels, `step` and `scan`.

    step(memory)                               one call
    scan(memory, rows, index, steps, results)  many calls, each on the rows that its row of the index names

`memory` is a table of pointers: to the state, the held arguments, the rows of one step, constants and
buffers. Kernels that differ only in the memory they are given share one function.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..fusion import fuse
from ..ir import ASSIGN, CREATION, Op, Program, apply, mapped, refs
from ..kernel import Kernel
from . import reductions
from .elementwise import Parameter, copy, elementwise
from .function import Function, Index, Target, Unknown
from .layouts import Layout, Layouts, contiguous
from .products import Matrix, Product
from .reductions import REDUCED, Reduction
from .rows import rows

Memory = int | str  # the number of the value that owns it; or the name of what else a kernel is given

_PACK = "pack"
_SINGLE: Mapping[str, Callable[[Function, Op, Layouts, Parameter], None]] = {
    "take": reductions.take,
    "cumulative_sum": reductions.cumulative_sum,
    "concat": reductions.concat,
    "stack": reductions.stack,
    "argmax": reductions.arg_extremum,
    "argmin": reductions.arg_extremum,
}


class Place(NamedTuple):
    """An address: a memory, and an offset in bytes."""

    memory: Memory
    offset: int


class Call(NamedTuple):
    """The call of a kernel.

    Attributes:
        function: the function's name in the module.
        kernel: what it computes.
        given: the addresses it is given.
    """

    function: str
    kernel: Kernel
    given: tuple[Place, ...]


class Module:
    """A program as LLVM IR.

    Args:
        program: of f(*state, *held, *rows) -> (*new_state, *results).
        donate: how many of its arguments are state.
        hold: how many after them are held.
        batch: the batch size of a scan; None for no scan.
        target: what it is written for.
        gemm: for each dtype whose products can be left to BLAS, the integer type of its sizes.

    Attributes:
        fused: the program as kernels.
        calls: the calls of its kernels, in order.
        constants: arrays that depend on no input, by number of value.
        tree: the tree of the results beside the state.
        where: their layouts.
        packed: how many bytes packed panels take.
        memories: the memories in the order of the table.
        text: the IR.

    Raises:
        Unknown: there is no machine code for one of its operations.
    """

    def __init__(
        self,
        program: Program,
        donate: int,
        hold: int,
        batch: int | None,
        target: Target,
        gemm: Mapping[str, str],
    ) -> None:
        self.target, self.gemm = target, gemm
        self.fused = fuse(program, donate)
        self.layouts = Layouts(self.fused)
        self.values = self.layouts.values
        program = self.fused.program
        self.constants: dict[int, Any] = {
            v: np.ascontiguousarray(a, dtype=self.values[v].dtype) for v, a in program.constants.items()
        }
        self.state = [ref.value for ref in refs(program.inputs[:donate])]
        self.held = [ref.value for ref in refs(program.inputs[donate : donate + hold])]
        self.rows = [ref.value for ref in refs(program.inputs[donate + hold :])]
        self.tree = self.fused.results
        self.where = [self.layouts[ref.value] for ref in refs(self.tree)]
        self.packed = 0
        self._functions: dict[str, str] = {}  # by parameters and body, the whole text
        self._declared: dict[str, str] = {}
        self.calls = [call for kernel in self.fused.kernels if (call := self._call(kernel)) is not None]
        used = [place.memory for call in self.calls for place in call.given]
        given = [*self.state, *self.held, *self.rows, *(each.memory for each in self.where)]
        self.memories: list[Memory] = list(dict.fromkeys([*given, *used]))
        parts = [self._step(), *([] if batch is None else [self._scan(batch)])]
        self.text = "\n\n".join([
            f'target triple = "{target.triple}"', *self.declared,
            *self._functions.values(), *parts, "",
        ])  # fmt: skip

    def buffers(self) -> dict[int, Any]:
        """For each memory it needs a buffer for, besides those of the rows, an abstract array."""
        given = {*self.state, *self.held, *self.rows, *self.constants}
        return {v: self.layouts.values[v] for v in self.memories if isinstance(v, int) and v not in given}

    @property
    def multiplications(self) -> int:
        """How many the largest product has."""
        values, largest = self.layouts.values, 0
        for call in self.calls:
            op = call.kernel.ops[0]
            if op.name == "matmul":
                n = prod(values[op.args[0].value].shape) * values[op.out].shape[-1]
                largest = max(largest, int(n))
        return largest

    def function_text(self, name: str) -> str:
        """The IR of a kernel."""
        return next(text for text in self._functions.values() if f"@{name}(" in text.partition("\n")[0])

    @property
    def declared(self) -> list[str]:
        """The declarations of the external functions that are called."""
        return sorted(self._declared.values())

    # ------------------------------------------------------------ kernels
    def _call(self, kernel: Kernel) -> Call | None:
        """The call of a kernel; None for a concatenation whose parts are all in place."""
        f = Function(self.target)
        given: dict[Place, str] = {}

        def pointer(place: Place) -> str:
            return given.setdefault(place, f"%p{len(given)}")

        def parameter(layout: Layout) -> str:
            return pointer(Place(layout.memory, layout.offset * layout.dtype.itemsize))

        self._write(f, kernel, parameter, pointer)
        if not given:
            return None
        count: dict[Memory, int] = {}
        for place in given:
            count[place.memory] = count.get(place.memory, 0) + 1
        typed = [f"ptr{' noalias' if count[p.memory] == 1 else ''} {name}" for p, name in given.items()]
        body = f"({', '.join(typed)}) {self._attributes} {{\n{f.text}\n}}"
        name = f"k{len(self._functions)}_{kernel.kind}"
        text = self._functions.setdefault(body, f"define internal void @{name}{body}")
        self._declared |= f.declared
        return Call(text.partition("@")[2].partition("(")[0], kernel, tuple(given))

    @property
    def _attributes(self) -> str:
        bits = 8 * self.target.bytes
        return f'noinline nounwind "prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'

    def _write(
        self, f: Function, kernel: Kernel, parameter: Parameter, pointer: Callable[[Place], str]
    ) -> None:
        op, kind = kernel.ops[0], kernel.kind
        if kind in ("elementwise", ASSIGN):
            elementwise(f, kernel, self.layouts, parameter)
        elif kind == "rows" and len(kernel.ops) > 1:
            rows(f, kernel, self.layouts, parameter)
        elif kind == "matmul":
            self._product(f, kernel, parameter, pointer)
        elif op.name in REDUCED:
            Reduction(f, op, self.layouts, parameter).write()
        elif op.name in CREATION:
            self._constant(f, op, parameter, pointer)
        elif op.name in _SINGLE:
            _SINGLE[op.name](f, op, self.layouts, parameter)
        else:
            raise Unknown(op.name)

    def _constant(self, f: Function, op: Op, parameter: Parameter, pointer: Callable[[Place], str]) -> None:
        """Copy a constant that is changed later."""
        values = self.layouts.values
        like = self.layouts[op.out]
        number = -1 - len(self.constants)
        args = mapped(op.args, lambda r: values[r.value])
        self.constants[number] = np.ascontiguousarray(apply(op.name, args, op.kw), dtype=like.dtype)
        copy(f, pointer(Place(number, 0)), like, parameter(like), like.strides)

    def _product(
        self, f: Function, kernel: Kernel, parameter: Parameter, pointer: Callable[[Place], str]
    ) -> None:
        """A product with its epilogue; the product is stored where the epilogue's result goes."""
        op, *epilogue = kernel.ops
        if epilogue and op.out not in kernel.makes:
            self.layouts.lies_in(op.out, epilogue[-1].out)
        a, b, c = (self.layouts[v] for v in (*(ref.value for ref in refs(op.args)), op.out))
        if not len(a.shape) == len(b.shape) == 2 or not a.dtype == b.dtype == c.dtype or a.dtype.kind != "f":
            msg = f"a product of {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"
            raise Unknown(msg)
        shape = (a.shape[0], b.shape[1], a.shape[1])
        if not prod(shape):
            msg = f"a product of {list(a.shape)} and {list(b.shape)}"
            raise Unknown(msg)
        product = Product(f, a.dtype, shape, *(Matrix(parameter(x), *x.strides) for x in (a, b, c)))
        if product.for_blas and a.dtype.name in self.gemm:
            product.write_call(pointer(Place(f"gemm.{a.dtype.name}", 0)), self.gemm[a.dtype.name])
        else:
            self.packed = max(self.packed, product.packed * a.dtype.itemsize)
            product.write(pointer(Place(_PACK, 0)) if product.packed else "")
        if epilogue and epilogue[0].name == "sum":
            Reduction(f, epilogue[0], self.layouts, parameter).write()
        elif epilogue:
            elementwise(f, kernel.split_epilogue()[1], self.layouts, parameter)

    # ------------------------------------------------------------ calls
    def _pointers(self, f: Function) -> dict[Memory, str]:
        """Load the pointers of the table."""
        found = {}
        for k, memory in enumerate(self.memories):
            found[memory] = f.let(f"load ptr, ptr {f.pointer('%memory', 8 * k, np.uint8)}, align 8")
        return found

    def _step(self) -> str:
        f = Function(self.target)
        pointers = self._pointers(f)
        for call in self.calls:
            given = [f.pointer(pointers[p.memory], p.offset, np.uint8) for p in call.given]
            f.do(f"call void @{call.function}({', '.join(f'ptr {name}' for name in given)})")
        return f"define void @step(ptr %memory) {self._attributes} {{\n{f.text}\n}}"

    def _scan(self, batch: int) -> str:
        f = Function(self.target)
        memcpy = "llvm.memcpy.p0.p0.i64"
        self._declared[memcpy] = f"declare void @{memcpy}(ptr, ptr, i64, i1)"
        pointers = self._pointers(f)
        likes = [self.layouts[v] for v in self.rows]
        sources, targets = (
            [f.let(f"load ptr, ptr {f.pointer(table, 8 * k, np.uint8)}, align 8") for k in range(n)]
            for table, n in (("%rows", len(self.rows)), ("%results", len(self.where)))
        )
        with f.loop("%steps") as s:
            with f.loop(batch) as r:
                row = f.load("%index", f.plus(f.times(s, batch), r), np.int64).name
                for like, source in zip(likes, sources, strict=True):
                    size = prod(like.shape[1:]) * like.dtype.itemsize
                    given = f.pointer(source, f.times(row, size), np.uint8)
                    own = f.pointer(pointers[like.memory], f.times(r, size), np.uint8)
                    f.do(f"call void @{memcpy}(ptr {own}, ptr {given}, i64 {size}, i1 false)")
            f.do("call void @step(ptr %memory)")
            for like, target in zip(self.where, targets, strict=True):
                own = f.pointer(pointers[like.memory], like.offset, like.dtype)
                there: Index = f.times(s, prod(like.shape))
                copy(f, own, like, f.pointer(target, there, like.dtype), contiguous(like.shape))
        self._declared |= f.declared
        parameters = "ptr %memory, ptr %rows, ptr %index, i64 %steps, ptr %results"
        return f"define void @scan({parameters}) {self._attributes} {{\n{f.text}\n}}"
