"""The executable: the kernels of a program as calls of a device library.

They run eagerly, or while a stream captures them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...arrays import Array, Namespace
from ..fusion import fuse
from ..ir import ASSIGN, BINARY, OPERATIONS, Op, Program, mapped, refs
from ..kernel import Kernel
from ..placement import copied_parts

IN_PLACE = {name: f"__i{operator}__" for operator, name in BINARY.items()}
INDEXING = frozenset({"getitem", ASSIGN})  # written as a[key] and a[...] = b
FROM_LIBRARY = OPERATIONS - INDEXING  # by their own names: the namespace is that of the standard

Memory = dict[int, Array]  # the arrays of values
Call = Callable[[Memory], None]


class DeviceLibrary(NamedTuple):
    """What an executable needs of a device library.

    Attributes:
        xp: its namespace; `matmul` and `sum` take out=.
        fuse: makes one kernel of an elementwise function.
        asarray: puts a host array on the device.
        empty: returns an uninitialised array of a shape and dtype.
        row_kernel: makes one kernel of operations that run row by row; if None, they run one by one.
        matmul_with_epilogue: as `Products.matmul_with_epilogue`.
        operand: rounds a factor of products to 16 bits; None if factors are not rounded.
    """

    xp: Namespace
    fuse: Callable[[Callable[..., Any]], Callable[..., Any]]
    asarray: Callable[[Any], Array]
    empty: Callable[[Any, Any], Array]
    row_kernel: Callable[[Kernel, Sequence[Any]], Callable[..., Any]] | None = None
    matmul_with_epilogue: Callable[..., bool] = lambda *_: False
    operand: Callable[[Array], Array] | None = None


class Executable:
    """A program on a device.

    Args:
        program: of f(*state, *held, *rows) -> (*new_state, *results).
        donate: how many of its arguments are state.
        library: the device library.

    Attributes:
        results: for each array that it returns beside the state, an abstract array.
    """

    def __init__(self, program: Program, donate: int, library: DeviceLibrary) -> None:
        self.fused, self.library = fuse(program, donate), library
        self.program = self.fused.program
        self.inputs = [ref.value for ref in refs(self.program.inputs)]
        self._state = {ref.value for ref in refs(self.program.inputs[:donate])}
        self._results = [ref.value for ref in refs(self.fused.results)]
        self.results = [self.program.values[v] for v in self._results]
        self.constants = {v: library.asarray(a) for v, a in self.program.constants.items()}
        self.calls = [(kernel, self._call(kernel)) for kernel in self.fused.kernels]
        self.roundings, self.stale = self._rounded_factors()
        self.without_epilogue: set[int] = set()  # results of products whose epilogue ran as a second kernel

    @property
    def kernels(self) -> int:
        """How many kernels a call runs; known after the first, which shows what epilogues cuBLASLt has."""
        copies = sum(len(kernel.reads) for kernel in self.fused.kernels if kernel.kind == "concat")
        others = sum(kernel.kind != "concat" for kernel in self.fused.kernels)
        state_copies = sum(map(self._is_state, self._results))
        return others + copies + self.roundings + len(self.without_epilogue) + state_copies

    def run(self, inputs: list[Array]) -> list[Array]:
        """One call; changes the state in place.

        Args:
            inputs: the arrays of state, held arguments and rows.

        Returns:
            The arrays beside the state; those that share its memory are copied.
        """
        memory = self.constants | dict(zip(self.inputs, inputs, strict=True))
        for (kernel, call), stale in zip(self.calls, self.stale, strict=True):
            call(memory)
            for value in (*kernel.ends, *stale):
                memory.pop(value, None)
        found = [self._value(v, memory) for v in self._results]
        return [a.copy() if self._is_state(v) else a for v, a in zip(self._results, found, strict=True)]

    def _is_state(self, value: int) -> bool:
        return self.fused.aliases[value] in self._state

    # ------------------------------------------------------------ values
    def _value(self, value: int, memory: Memory) -> Array:
        """The array of a value; a view is taken each time."""
        if value in memory:
            return memory[value]
        op = self.fused.views[value]
        source = self._value(op.args[0].value, memory)
        if op.name == "getitem":
            return source[op.args[1]]
        return getattr(self.library.xp, op.name)(source, *op.args[1:], **op.kw)

    def _allocated(self, value: int, memory: Memory) -> Array:
        """The array a value is computed into: its slice of a larger vector, else an array of its own."""
        if value not in memory:
            like, where = self.program.values[value], self.program.slices.get(value)
            if where is None:
                memory[value] = self.library.empty(like.shape, like.dtype)
            else:
                part = self._allocated(where.whole, memory)[where.start : where.start + like.size]
                memory[value] = self.library.xp.reshape(part, like.shape)
        return memory[value]

    # ------------------------------------------------------------ factors of 16 bits
    def _rounded_factors(self) -> tuple[int, list[list[int]]]:
        """How many factors a call rounds, and for each kernel those that are unused or outdated after it."""
        of_kernels = [{self._base(v)[0] for v in _factors(kernel)} for kernel in self.fused.kernels]
        if self.library.operand is None:
            return 0, [[] for _ in of_kernels]
        last = {base: k for k, bases in enumerate(of_kernels) for base in bases}
        aliases, known, count, stale = self.fused.aliases, set[int](), 0, []
        for k, (kernel, bases) in enumerate(zip(self.fused.kernels, of_kernels, strict=True)):
            count += len(bases - known)
            known |= bases
            written = {aliases[op.out] for op in kernel.ops if op.inplace}
            gone = {base for base in known if last[base] == k or aliases[base] in written}
            known -= gone
            stale.append([~base for base in gone])
        return count, stale

    def _base(self, value: int) -> tuple[int, bool]:
        """The matrix of a factor as it lies in memory, and whether the factor is its transpose."""
        view = self.fused.views.get(value)
        if view is None or view.name != "matrix_transpose":
            return value, False
        return view.args[0].value, True

    def _factor(self, value: int, memory: Memory) -> Array:
        """A factor of a product; if it is rounded, then once for all products of it and of its transpose."""
        if self.library.operand is None:
            return self._value(value, memory)
        base, turned = self._base(value)
        if ~base not in memory:  # no value has this number
            memory[~base] = self.library.operand(self._value(base, memory))
        rounded = memory[~base]
        return self.library.xp.matrix_transpose(rounded) if turned else rounded

    # ------------------------------------------------------------ calls
    def _call(self, kernel: Kernel) -> Call:
        op = kernel.ops[0]
        if kernel.kind == "concat":
            return lambda memory: self._concat(op, memory)
        if kernel.kind == "matmul" and len(kernel.ops) > 1:
            return self._with_epilogue(kernel)
        if kernel.kind in ("matmul", "sum"):
            return lambda memory: self._into(op, memory)
        function = chain(kernel, self.library.xp)
        if kernel.kind == "rows" and self.library.row_kernel:
            function = self.library.row_kernel(kernel, self.program.values)
        elif len(kernel.ops) > 1:
            function = self.library.fuse(function)

        def call(memory: Memory) -> None:
            made = function(*(self._value(v, memory) for v in kernel.reads))
            memory.update(zip(kernel.makes, made if isinstance(made, tuple) else (made,), strict=False))

        return call

    def _with_epilogue(self, kernel: Kernel) -> Call:
        """A product with its epilogue; as two kernels where cuBLASLt cannot do both in one."""
        product, *epilogue = kernel.ops
        names = " ".join(op.name for op in epilogue)
        left, right = (ref.value for ref in refs(product.args))
        result = product.out if names == "sum" else epilogue[-1].out
        separate = kernel.split_epilogue()
        run_product, run_epilogue = map(self._call, separate)

        def call(memory: Memory) -> None:
            out = self._allocated(result, memory)
            if names == "sum":
                vector = self._allocated(epilogue[0].out, memory)
            else:
                vector = self._value(epilogue[0].args[1].value, memory)
            a, b = self._factor(left, memory), self._factor(right, memory)
            if self.library.matmul_with_epilogue(names, a, b, out, vector):
                return
            self.without_epilogue.add(result)
            run_product(memory)
            run_epilogue(memory)
            if product.out not in kernel.makes:
                memory.pop(product.out)

        return call

    def _into(self, op: Op, memory: Memory) -> None:
        of = self._factor if op.name == "matmul" else self._value
        args = mapped(op.args, lambda ref: of(ref.value, memory))
        getattr(self.library.xp, op.name)(*args, **op.kw, out=self._allocated(op.out, memory))

    def _concat(self, op: Op, memory: Memory) -> None:
        """Copy the parts of a vector that were not computed inside it."""
        copied = copied_parts(op, self.program, self.fused.aliases)
        if len(copied) == len(op.args[0]):
            parts = [self._value(ref.value, memory) for ref in op.args[0]]
            memory[op.out] = self.library.xp.concat(parts, **op.kw)
            return
        whole = self._allocated(op.out, memory)
        for start, value in copied.items():
            whole[start : start + self.program.values[value].size] = self._value(value, memory)


def _factors(kernel: Kernel) -> list[int]:
    """The factors of a kernel's product."""
    return [ref.value for op in kernel.ops if op.name == "matmul" for ref in refs(op.args)]


def chain(kernel: Kernel, xp: Namespace) -> Callable[..., Any]:
    """The operations of a kernel as a function of the values it reads, in the order of `reads`."""

    def chain(*given: Any) -> Any:
        local = dict(zip(kernel.reads, given, strict=True))
        for op in kernel.ops:
            args = mapped(op.args, lambda ref: local[ref.value])
            if op.name == ASSIGN:
                args[0][...] = args[1]
            elif op.inplace:
                local[op.out] = getattr(args[0], IN_PLACE[op.name])(args[1])
            else:
                local[op.out] = getattr(xp, op.name)(*args, **op.kw)
        made = tuple(local[v] for v in kernel.makes)
        return made[0] if len(made) == 1 else made or None

    return chain
