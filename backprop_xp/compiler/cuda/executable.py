"""Kernels run on the arrays of a device library, as they are or while a graph captures them."""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

from ...arrays import Array, Namespace
from ..ir import ASSIGN, Op, Program, mapped, refs
from .fusion import Fused, Kernel

_IN_PLACE = {
    "add": "__iadd__", "subtract": "__isub__", "multiply": "__imul__", "divide": "__itruediv__",
    "bitwise_and": "__iand__", "bitwise_or": "__ior__", "bitwise_xor": "__ixor__",
}  # fmt: skip


class Device(NamedTuple):
    """What an executable needs of a device library.

    Attributes:
        xp: its namespace; `matmul` and `sum` take out=.
        fuse: makes one kernel of an elementwise function.
        asarray: a host array on the device.
        empty: memory of a shape and dtype.
        rows: makes one kernel of operations that run row by row, given the arrays of values.
        matmul_with_epilogue: as `Products.matmul_with_epilogue`.
    """

    xp: Namespace
    fuse: Callable[[Callable[..., Any]], Callable[..., Any]]
    asarray: Callable[[Any], Array]
    empty: Callable[[Any, Any], Array]
    rows: Callable[[Kernel, list[Any]], Callable[..., Any]] | None = None
    matmul_with_epilogue: Callable[..., bool] = lambda *_: False


class Executable:
    """A program on a device.

    Args:
        program: of step(w, s, x, t) -> (w, s, loss).
        device: its library.
    """

    def __init__(self, program: Program, device: Device) -> None:
        self.fused, self.device = Fused(program), device
        self.constants = {v: device.asarray(a) for v, a in self.fused.program.constants.items()}
        self.calls = [(kernel, self._function(kernel)) for kernel in self.fused.kernels]
        self.apart: set[int] = set()  # products that the library does not let take anything along

    @property
    def kernels(self) -> int:
        """The kernels of a step; known when it has run, since that shows what the library can do."""
        joined = [each.reads for each in self.fused.kernels if each.kind == "concat"]
        return len(self.calls) - len(joined) + sum(map(len, joined)) + len(self.apart)

    def run(self, state: list[Array], batch: list[Array]) -> Array:
        """One step; changes the state in place.

        Args:
            state: the weights and the leaves of the state.
            batch: x and t.

        Returns:
            The loss.
        """
        numbers = (*self.fused.state, *self.fused.batch)
        memory = self.constants | dict(zip(numbers, (*state, *batch), strict=True))
        for kernel, function in self.calls:
            function(memory)
            for value in kernel.ends:
                memory.pop(value, None)
        return self._value(self.fused.loss, memory)

    # ------------------------------------------------------------ values
    def _value(self, v: int, memory: dict[int, Array]) -> Array:
        """A value of the record: memory, or a view of it."""
        if v in memory:
            return memory[v]
        op = self.fused.views[v]
        xp, source = self.device.xp, self._value(op.args[0].value, memory)
        return (
            source[op.args[1]]
            if op.name == "getitem"
            else getattr(xp, op.name)(source, *op.args[1:], **op.kw)
        )

    def _allocated(self, v: int, memory: dict[int, Array]) -> Array:
        """Memory for a value: its place in a larger vector, or its own."""
        if v not in memory:
            like, place = self.fused.values[v], self.fused.program.slices.get(v)
            if place is None:
                memory[v] = self.device.empty(like.shape, like.dtype)
            else:
                part = slice(place.start, place.start + like.size)
                memory[v] = self.device.xp.reshape(self._allocated(place.whole, memory)[part], like.shape)
        return memory[v]

    # ------------------------------------------------------------ kernels
    def _function(self, kernel: Kernel) -> Callable[[dict[int, Array]], None]:
        op = kernel.ops[0]
        if kernel.kind == "concat":
            return lambda memory: self._join(op, memory)
        if kernel.kind == "matmul" and len(kernel.ops) > 1:
            return self._product(kernel)
        if kernel.kind in ("matmul", "sum"):
            return lambda memory: self._into(op, memory)
        fused = chain(kernel, self.device.xp)
        if kernel.kind == "rows" and self.device.rows:
            fused = self.device.rows(kernel, self.fused.values)
        elif len(kernel.ops) > 1:
            fused = self.device.fuse(fused)

        def run(memory: dict[int, Array]) -> None:
            made = fused(*(self._value(v, memory) for v in kernel.reads))
            memory.update(zip(kernel.makes, made if isinstance(made, tuple) else (made,), strict=False))

        return run

    def _product(self, kernel: Kernel) -> Callable[[dict[int, Array]], None]:
        """A product with what it takes along; where the library cannot do that, one after the other."""
        parts = kernel.parts()
        first, then = (self._function(part) for part in parts)
        names = " ".join(op.name for op in kernel.ops[1:])
        (a, b), (other, *_) = refs(kernel.ops[0].args), kernel.ops[1:]
        made = kernel.ops[0].out if names == "sum" else kernel.ops[-1].out

        def run(memory: dict[int, Array]) -> None:
            out = self._allocated(made, memory)
            vector = (
                self._allocated(other.out, memory) if names == "sum" else self._value(other.args[1].value, memory)
            )
            if self.device.matmul_with_epilogue(names, *(self._value(r.value, memory) for r in (a, b)), out, vector):
                return
            self.apart.add(made)
            first(memory)
            then(memory)
            if parts[0].makes[0] not in kernel.makes:
                memory.pop(parts[0].makes[0])

        return run

    def _into(self, op: Op, memory: dict[int, Array]) -> None:
        args = mapped(op.args, lambda r: self._value(r.value, memory))
        getattr(self.device.xp, op.name)(*args, **op.kw, out=self._allocated(op.out, memory))

    def _join(self, op: Op, memory: dict[int, Array]) -> None:
        """Arrays joined; those that were computed in their place are there already."""
        copied = self.fused.copied_parts(op)
        if len(copied) == len(op.args[0]):
            memory[op.out] = self.device.xp.concat(
                [self._value(r.value, memory) for r in op.args[0]], **op.kw
            )
            return
        whole = self._allocated(op.out, memory)
        for start, v in copied.items():
            whole[start : start + prod(self.fused.values[v].shape)] = self._value(v, memory)


def chain(kernel: Kernel, xp: Namespace) -> Callable[..., Any]:
    """The operations of a kernel as a function of what it reads, in the order of `reads`."""

    def chain(*given: Any) -> Any:
        local = dict(zip(kernel.reads, given, strict=True))
        for op in kernel.ops:
            args = mapped(op.args, lambda r: local[r.value])
            if op.name == ASSIGN:
                args[0][...] = args[1]
            elif op.inplace:
                local[op.out] = getattr(args[0], _IN_PLACE[op.name])(args[1])
            else:
                local[op.out] = getattr(xp, op.name)(*args, **op.kw)
        made = tuple(local[v] for v in kernel.makes)
        return made[0] if len(made) == 1 else made or None

    return chain
