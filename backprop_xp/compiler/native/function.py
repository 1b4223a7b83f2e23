"""A function being written as LLVM IR: registers, loops and memory.

A register holds one element, or several (lanes). Counters and accumulators are written as stack slots,
which LLVM promotes to registers, so that no phi has to be written.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

Index = int | str  # a constant, or the name of an i64

_TYPES = {"float32": "float", "float64": "double", "bool": "i1", "int8": "i8", "uint8": "i8", "int16": "i16",
          "uint16": "i16", "int32": "i32", "uint32": "i32", "int64": "i64", "uint64": "i64"}  # fmt: skip


class Unknown(Exception):
    """There is no machine code for an operation, a dtype or a shape; the text says for which."""


class Register(NamedTuple):
    """A value of the function: its name in the IR, the dtype and the number of its elements.

    The register of a product also has its factors, so that an addition can be fused with it.
    """

    name: str
    dtype: np.dtype[Any]
    lanes: int
    factors: "tuple[Register, Register] | None" = None

    @property
    def type(self) -> str:
        """The type of the register in LLVM's notation."""
        return type_of(self.dtype, self.lanes)


@cache
def type_of(dtype: Any, lanes: int = 1) -> str:
    """The type of a register.

    >>> type_of("float32"), type_of("bool", 8)
    ('float', '<8 x i1>')
    """
    name = np.dtype(dtype).name
    if name not in _TYPES or not np.dtype(dtype).isnative:
        msg = f"values of {name}"
        raise Unknown(msg)
    return _TYPES[name] if lanes == 1 else f"<{lanes} x {_TYPES[name]}>"


@cache
def type_in_memory(dtype: Any, lanes: int = 1) -> str:
    """The type in memory, where a boolean takes a byte."""
    return type_of("uint8" if np.dtype(dtype) == np.bool_ else dtype, lanes)


@dataclass(frozen=True)
class Target:
    """What the code is written for.

    Attributes:
        triple: the platform, as LLVM names it.
        cpu: the processor, likewise.
        features: its features, likewise.
        bytes: the size of a vector register.
        registers: the number of vector registers.
        fused: whether there is fused multiply-add, which rounds once.
    """

    triple: str
    cpu: str
    features: str
    bytes: int
    registers: int
    fused: bool

    def lanes(self, dtypes: Iterable[Any]) -> int:
        """How many elements of the largest of these dtypes fit into a register; 4 bytes each at least."""
        return self.bytes // max(4, *(int(np.dtype(each).itemsize) for each in dtypes))


class Function:
    """The body of a function.

    Args:
        target: what it is written for.

    Attributes:
        declared: functions it calls, with their types.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.declared: dict[str, str] = {}
        self._head: list[str] = []
        self._body: list[str] = []
        self._count = 0

    @property
    def text(self) -> str:
        """The text between the braces."""
        return "\n".join(["entry:", *self._head, *self._body, "  ret void"])

    @property
    def length(self) -> int:
        """How many instructions there are so far."""
        return len(self._body)

    # ------------------------------------------------------------ lines
    def name(self) -> str:
        """A new name."""
        self._count += 1
        return f"%t{self._count}"

    def do(self, text: str) -> None:
        """Add an instruction without a result."""
        self._body.append(f"  {text}")

    def let(self, text: str) -> str:
        """Add an instruction; return the name of its result."""
        name = self.name()
        self.do(f"{name} = {text}")
        return name

    def emit(self, text: str, dtype: Any, lanes: int) -> Register:
        """Add an instruction; return the register of its result."""
        return Register(self.let(text), np.dtype(dtype), lanes)

    def slot(self, dtype: Any, lanes: int, count: int = 1) -> str:
        """A stack slot for `count` registers."""
        name, of = self.name(), type_of(dtype, lanes)
        self._head.append(f"  {name} = alloca {of if count == 1 else f'[{count} x {of}]'}, align 64")
        return name

    def keep(self, slot: str, a: Register, at: Index = 0) -> None:
        """Store a register into a slot."""
        self.do(f"store {a.type} {a.name}, ptr {self._of_slot(slot, a.type, at)}, align {self._align(a)}")

    def kept(self, slot: str, dtype: Any, lanes: int, at: Index = 0) -> Register:
        """Load a register from a slot."""
        of = type_of(dtype, lanes)
        found = Register("", np.dtype(dtype), lanes)
        pointer = self._of_slot(slot, of, at)
        return self.emit(f"load {of}, ptr {pointer}, align {self._align(found)}", dtype, lanes)

    def _of_slot(self, slot: str, of: str, at: Index) -> str:
        return slot if at == 0 else self.let(f"getelementptr inbounds {of}, ptr {slot}, i64 {at}")

    @staticmethod
    def _align(a: Register) -> int:
        size = a.dtype.itemsize * a.lanes  # a power of two divides it if it is a multiple of one
        return min(64, size & -size)

    @contextmanager
    def loop(self, stop: Index, step: int = 1, start: int = 0) -> Iterator[Index]:
        """A loop over start, start + step, … below stop; its body runs at least once."""
        if isinstance(stop, int) and stop - start <= step:
            yield start
            return
        counter, label = self.slot("int64", 1), self.name()[1:]
        self.do(f"store i64 {start}, ptr {counter}")
        self.do(f"br label %loop.{label}")
        self._body.append(f"loop.{label}:")
        i = self.let(f"load i64, ptr {counter}")
        yield i
        following = self.let(f"add nuw nsw i64 {i}, {step}")
        self.do(f"store i64 {following}, ptr {counter}")
        more = self.let(f"icmp slt i64 {following}, {stop}")
        self.do(f"br i1 {more}, label %loop.{label}, label %end.{label}")
        self._body.append(f"end.{label}:")

    # ------------------------------------------------------------ indices
    def plus(self, a: Index, b: Index) -> Index:
        """a + b."""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if 0 in (a, b):
            return b if a == 0 else a
        return self.let(f"add nsw i64 {a}, {b}")

    def times(self, a: Index, b: Index) -> Index:
        """a · b."""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if 0 in (a, b):
            return 0
        if 1 in (a, b):
            return b if a == 1 else a
        return self.let(f"mul nsw i64 {a}, {b}")

    def dot(self, indices: Iterable[Index], strides: Iterable[int]) -> Index:
        """Σ index · stride."""
        total: Index = 0
        for i, stride in zip(indices, strides, strict=True):
            total = self.plus(total, self.times(i, stride))
        return total

    # ------------------------------------------------------------ memory
    def pointer(self, base: str, offset: Index, dtype: Any) -> str:
        """The address of an element."""
        if offset == 0:
            return base
        return self.let(f"getelementptr inbounds {type_in_memory(dtype)}, ptr {base}, i64 {offset}")

    def load(self, base: str, offset: Index, dtype: Any, lanes: int = 1, stride: int = 1) -> Register:
        """Load elements: consecutive ones, one for all lanes (stride 0), or some a stride apart."""
        dtype = np.dtype(dtype)
        if lanes > 1 and stride == 0:
            return self.splat(self.load(base, offset, dtype), lanes)
        if lanes > 1 and stride != 1:
            parts = [self.load(base, self.plus(offset, q * stride), dtype) for q in range(lanes)]
            return self.joined(parts)
        of, pointer = type_in_memory(dtype, lanes), self.pointer(base, offset, dtype)
        name = self.let(f"load {of}, ptr {pointer}, align {dtype.itemsize}")
        if dtype == np.bool_:
            name = self.let(f"icmp ne {of} {name}, zeroinitializer" if lanes > 1 else f"icmp ne i8 {name}, 0")
        return Register(name, dtype, lanes)

    def store(self, a: Register, base: str, offset: Index, stride: int = 1) -> None:
        """The reverse of `load`."""
        if a.lanes > 1 and stride != 1:
            for q in range(a.lanes):
                self.store(self.lane(a, q), base, self.plus(offset, q * stride))
            return
        name, of = a.name, type_in_memory(a.dtype, a.lanes)
        if a.dtype == np.bool_:
            name = self.let(f"zext {a.type} {name} to {of}")
        pointer = self.pointer(base, offset, a.dtype)
        self.do(f"store {of} {name}, ptr {pointer}, align {a.dtype.itemsize}")

    # ------------------------------------------------------------ lanes
    def splat(self, a: Register, lanes: int) -> Register:
        """Broadcast one element to every lane."""
        if lanes == 1:
            return a
        of = type_of(a.dtype, lanes)
        first = self.let(f"insertelement {of} poison, {a.type} {a.name}, i64 0")
        return self.emit(
            f"shufflevector {of} {first}, {of} poison, <{lanes} x i32> zeroinitializer", a.dtype, lanes
        )

    def lane(self, a: Register, q: int) -> Register:
        """One lane."""
        if a.lanes == 1:
            return a
        return self.emit(f"extractelement {a.type} {a.name}, i64 {q}", a.dtype, 1)

    def joined(self, parts: list[Register]) -> Register:
        """Single elements as the lanes of one register."""
        lanes, dtype = len(parts), parts[0].dtype
        if lanes == 1:
            return parts[0]
        of, name = type_of(dtype, lanes), "poison"
        for q, part in enumerate(parts):
            name = self.let(f"insertelement {of} {name}, {part.type} {part.name}, i64 {q}")
        return Register(name, dtype, lanes)

    def shuffled(self, a: Register, b: Register, lanes: Iterable[int]) -> Register:
        """Chosen lanes of a (from 0 on) and b (from a.lanes on)."""
        chosen = list(lanes)
        mask = ", ".join(f"i32 {q}" for q in chosen)
        text = f"shufflevector {a.type} {a.name}, {b.type} {b.name}, <{len(chosen)} x i32> <{mask}>"
        return self.emit(text, a.dtype, len(chosen))

    def first(self, a: Register, lanes: int) -> Register:
        """Its first lanes."""
        if lanes == a.lanes:
            return a
        return self.lane(a, 0) if lanes == 1 else self.shuffled(a, a, range(lanes))

    def padded(self, a: Register, lanes: int) -> Register:
        """The register, extended by lanes of zero."""
        if lanes == a.lanes:
            return a
        zero = self.constant(0, a.dtype, lanes)
        if a.lanes == 1:
            text = f"insertelement {zero.type} {zero.name}, {a.type} {a.name}, i64 0"
            return self.emit(text, a.dtype, lanes)
        own = Register("zeroinitializer", a.dtype, a.lanes)
        return self.shuffled(a, own, [q if q < a.lanes else a.lanes for q in range(lanes)])

    # ------------------------------------------------------------ values
    def constant(self, value: Any, dtype: Any, lanes: int = 1) -> Register:
        """A number in every lane."""
        dtype = np.dtype(dtype)
        if dtype.kind == "f":
            bits = np.asarray(np.asarray(value, dtype=dtype), dtype="float64").view("uint64")
            text = f"0x{int(bits):016X}"
        elif dtype == np.bool_:
            text = "true" if value else "false"
        else:
            text = str(int(np.asarray(value).astype(dtype)))
        if lanes == 1:
            return Register(text, dtype, 1)
        return Register(f"splat ({type_of(dtype)} {text})", dtype, lanes)

    def binary(self, instruction: str, a: Register, b: Register) -> Register:
        """An instruction on two registers of one type."""
        return self.emit(f"{instruction} {a.type} {a.name}, {b.name}", a.dtype, a.lanes)

    def compare(self, condition: str, a: Register, b: Register) -> Register:
        """A comparison, such as 'fcmp olt'."""
        return self.emit(f"{condition} {a.type} {a.name}, {b.name}", np.bool_, a.lanes)

    def select(self, which: Register, a: Register, b: Register) -> Register:
        """a where `which` is true, else b."""
        text = f"select {which.type} {which.name}, {a.type} {a.name}, {b.type} {b.name}"
        return self.emit(text, a.dtype, a.lanes)

    def convert(self, instruction: str, a: Register, dtype: Any) -> Register:
        """A conversion, such as 'fpext'."""
        to = type_of(dtype, a.lanes)
        return self.emit(f"{instruction} {a.type} {a.name} to {to}", dtype, a.lanes)

    def intrinsic(self, name: str, *args: Register, dtype: Any = None) -> Register:
        """Call an intrinsic of LLVM on registers of one type; its name is given without the types."""
        out, of = args[0] if dtype is None else Register("", np.dtype(dtype), args[0].lanes), args[0]
        kinds = (out, of) if dtype is not None else (of,)
        full = ".".join([name, *map(_suffix, kinds)])
        self.declared[full] = f"declare {out.type} @{full}({', '.join(a.type for a in args)})"
        given = ", ".join(f"{a.type} {a.name}" for a in args)
        return self.emit(f"call {out.type} @{full}({given})", out.dtype, out.lanes)

    def library(self, name: str, *args: Register) -> Register:
        """Call a function of the C library, lane by lane; the one for float32 has an f at the end."""
        of = type_of(args[0].dtype)
        full = name + ("f" if of == "float" else "")
        self.declared[full] = f"declare {of} @{full}({', '.join([of] * len(args))}) nounwind"
        parts = []
        for q in range(args[0].lanes):
            given = ", ".join(f"{of} {self.lane(a, q).name}" for a in args)
            parts.append(self.emit(f"call {of} @{full}({given})", args[0].dtype, 1))
        return self.joined(parts)

    def fma(self, a: Register, b: Register, c: Register) -> Register:
        """a b + c, rounded once where the processor has fused multiply-add."""
        if self.target.fused:
            return self.intrinsic("llvm.fma", a, b, c)
        return self.binary("fadd", self.binary("fmul", a, b), c)


def _suffix(a: Register) -> str:
    kind = {"float": "f32", "double": "f64"}.get(type_of(a.dtype), type_of(a.dtype))
    return kind if a.lanes == 1 else f"v{a.lanes}{kind}"
