"""Launches run on the arrays of a device library, as they are or while a graph captures them."""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

from ..arrays import Array, Namespace
from ._launches import Launch, Schedule
from ._record import Op, Record, mapped, refs
from ._rows import ASSIGN

_IN_PLACE = {
    "add": "__iadd__", "subtract": "__isub__", "multiply": "__imul__", "divide": "__itruediv__",
    "bitwise_and": "__iand__", "bitwise_or": "__ior__", "bitwise_xor": "__ixor__",
}  # fmt: skip


class Library(NamedTuple):
    """What a program needs of a device library.

    Attributes:
        xp: its namespace; `matmul` and `sum` take out=.
        fuse: makes one kernel of an elementwise function.
        asarray: a host array on the device.
        empty: memory of a shape and dtype.
        rows: makes one kernel of a launch of rows, given the arrays of values.
        along: a product that takes along what follows it, as `Products.along`.
    """

    xp: Namespace
    fuse: Callable[[Callable[..., Any]], Callable[..., Any]]
    asarray: Callable[[Any], Array]
    empty: Callable[[Any, Any], Array]
    rows: Callable[[Launch, list[Any]], Callable[..., Any]] | None = None
    along: Callable[..., bool] = lambda *_: False


class Program:
    """A recorded step on a device.

    Args:
        record: of step(w, s, x, t) on arrays of the host.
        library: of the device.
    """

    def __init__(self, record: Record, library: Library) -> None:
        self.schedule, self.target = Schedule(record), library
        self.constants = {v: library.asarray(a) for v, a in self.schedule.constants.items()}
        self.calls = [(launch, self._function(launch)) for launch in self.schedule.launches]
        self.apart: set[int] = set()  # products that the library does not let take anything along

    @property
    def kernels(self) -> int:
        """The launches of a step; known when it has run, since that shows what the library can do."""
        joined = [each.reads for each in self.schedule.launches if each.kind == "concat"]
        return len(self.calls) - len(joined) + sum(map(len, joined)) + len(self.apart)

    def run(self, state: list[Array], batch: list[Array]) -> Array:
        """One step; changes the state in place.

        Args:
            state: the weights and the leaves of the state.
            batch: x and t.

        Returns:
            The loss.
        """
        numbers = (*self.schedule.state, *self.schedule.batch)
        memory = self.constants | dict(zip(numbers, (*state, *batch), strict=True))
        for launch, function in self.calls:
            function(memory)
            for value in launch.ends:
                memory.pop(value, None)
        return self._value(self.schedule.loss, memory)

    # ------------------------------------------------------------ values
    def _value(self, v: int, memory: dict[int, Array]) -> Array:
        """A value of the record: memory, or a view of it."""
        if v in memory:
            return memory[v]
        op = self.schedule.views[v]
        xp, source = self.target.xp, self._value(op.args[0].value, memory)
        return (
            source[op.args[1]]
            if op.name == "getitem"
            else getattr(xp, op.name)(source, *op.args[1:], **op.kw)
        )

    def _room(self, v: int, memory: dict[int, Array]) -> Array:
        """Memory for a value: its place in a larger vector, or its own."""
        if v not in memory:
            like, home = self.schedule.values[v], self.schedule.homes.get(v)
            if home is None:
                memory[v] = self.target.empty(like.shape, like.dtype)
            else:
                place = slice(home.start, home.start + prod(like.shape))
                memory[v] = self.target.xp.reshape(self._room(home.whole, memory)[place], like.shape)
        return memory[v]

    # ------------------------------------------------------------ launches
    def _function(self, launch: Launch) -> Callable[[dict[int, Array]], None]:
        op = launch.ops[0]
        if launch.kind == "concat":
            return lambda memory: self._join(op, memory)
        if launch.kind == "matmul" and len(launch.ops) > 1:
            return self._product(launch)
        if launch.kind in ("matmul", "sum"):
            return lambda memory: self._into(op, memory)
        fused = chain(launch, self.target.xp)
        if launch.kind == "rows" and self.target.rows:
            fused = self.target.rows(launch, self.schedule.values)
        elif len(launch.ops) > 1:
            fused = self.target.fuse(fused)

        def run(memory: dict[int, Array]) -> None:
            made = fused(*(self._value(v, memory) for v in launch.reads))
            memory.update(zip(launch.makes, made if isinstance(made, tuple) else (made,), strict=False))

        return run

    def _product(self, launch: Launch) -> Callable[[dict[int, Array]], None]:
        """A product with what it takes along; where the library cannot do that, one after the other."""
        parts = launch.parts()
        first, then = (self._function(part) for part in parts)
        names = " ".join(op.name for op in launch.ops[1:])
        (a, b), (other, *_) = refs(launch.ops[0].args), launch.ops[1:]
        made = launch.ops[0].out if names == "sum" else launch.ops[-1].out

        def run(memory: dict[int, Array]) -> None:
            out = self._room(made, memory)
            vector = (
                self._room(other.out, memory) if names == "sum" else self._value(other.args[1].value, memory)
            )
            if self.target.along(names, *(self._value(r.value, memory) for r in (a, b)), out, vector):
                return
            self.apart.add(made)
            first(memory)
            then(memory)
            if parts[0].makes[0] not in launch.makes:
                memory.pop(parts[0].makes[0])

        return run

    def _into(self, op: Op, memory: dict[int, Array]) -> None:
        args = mapped(op.args, lambda r: self._value(r.value, memory))
        getattr(self.target.xp, op.name)(*args, **op.kw, out=self._room(op.out, memory))

    def _join(self, op: Op, memory: dict[int, Array]) -> None:
        """Arrays joined; those that were computed in their place are there already."""
        strangers = self.schedule.strangers(op)
        if len(strangers) == len(op.args[0]):
            memory[op.out] = self.target.xp.concat(
                [self._value(r.value, memory) for r in op.args[0]], **op.kw
            )
            return
        whole = self._room(op.out, memory)
        for start, v in strangers.items():
            whole[start : start + prod(self.schedule.values[v].shape)] = self._value(v, memory)


def chain(launch: Launch, xp: Namespace) -> Callable[..., Any]:
    """The operations of a launch as a function of what it reads, in the order of `reads`."""

    def chain(*given: Any) -> Any:
        local = dict(zip(launch.reads, given, strict=True))
        for op in launch.ops:
            args = mapped(op.args, lambda r: local[r.value])
            if op.name == ASSIGN:
                args[0][...] = args[1]
            elif op.inplace:
                local[op.out] = getattr(args[0], _IN_PLACE[op.name])(args[1])
            else:
                local[op.out] = getattr(xp, op.name)(*args, **op.kw)
        made = tuple(local[v] for v in launch.makes)
        return made[0] if len(made) == 1 else made or None

    return chain
