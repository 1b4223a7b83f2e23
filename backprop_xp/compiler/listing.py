"""Programs as text: one operation a line, under the part of the step and the equation it comes from.

Views cost nothing and are written where they are used: `x.T`, `w[0:6]`. Types are written as in XLA:
f32[32,64] is an array of float32 of shape (32, 64), f32[] a single number.
"""

from collections.abc import Iterable, Mapping
from textwrap import wrap
from typing import Any

import numpy as np

from .ir import ASSIGN, VIEWS, Op, Program, Ref, reads, refs

_INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "remainder": "%", "pow": "**",
    "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">",
    "greater_equal": ">=", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^",
    "bitwise_left_shift": "<<", "bitwise_right_shift": ">>",
}  # fmt: skip
_SHORT = {"f": "f", "i": "i", "u": "u", "b": "bool"}


def type_of(a: Any) -> str:
    """The type of an array.

    >>> type_of(np.zeros((2, 3), dtype="float32")), type_of(np.asarray(True))
    ('f32[2,3]', 'bool[]')
    """
    kind = _SHORT[a.dtype.kind] + ("" if a.dtype.kind == "b" else str(8 * a.dtype.itemsize))
    return f"{kind}[{','.join(map(str, a.shape))}]"


class Listing:
    """The lines of a program, under the equations they come from.

    Args:
        program: the program to show.
        columns: further columns by title; each has a text for some values, shown beside their operation.
    """

    def __init__(self, program: Program, columns: Mapping[str, Mapping[int, str]] | None = None) -> None:
        self.program, self.columns = program, columns or {}
        self.views = {op.out: op for op in program.ops if op.name in VIEWS}
        self.names = dict(program.names)
        for op in program.ops:
            if op.name not in VIEWS:
                self.names.setdefault(op.out, f"%{op.out}")

    def __str__(self) -> str:
        ops = [op for op in self.program.ops if op.name not in VIEWS]
        rows = [(self.statement(op), type_of(self.program.values[op.out]), *self._beside(op)) for op in ops]
        table = aligned([("", "", *self.columns), *rows])
        lines = [self._head()]
        if self.columns:
            lines.append(f"    {table[0]}".rstrip())
        before = ("", "")
        for op, line in zip(ops, table[1:], strict=True):
            if op.origin != before:
                lines.append(f"  # {op.origin[0]}: {op.origin[1]}")
                before = op.origin
            lines.append(f"    {line}")
        returned = ", ".join(self.name(ref.value) for ref in refs(self.program.outputs))
        return "\n".join([*lines, f"  return {returned}"])

    def _beside(self, op: Op) -> list[str]:
        return [column.get(op.out, "") for column in self.columns.values()]

    def name(self, value: int) -> str:
        """How a value is written: by its name, as a view of another, as a constant, or by its number."""
        if value in self.names:
            return self.names[value]
        if value in self.program.constants:
            return _constant(self.program.constants[value])
        if value in self.views:
            return self._view(self.views[value])
        return f"%{value}"

    def _head(self) -> str:
        given = [(ref.value, self.name(ref.value)) for ref in refs(self.program.inputs)]
        used = {v for op in self.program.ops for v in reads(op)} | {
            r.value for r in refs(self.program.outputs)
        }
        typed = [f"{name}: {type_of(self.program.values[v])}" for v, name in given if v in used]
        return "\n".join(wrap(f"step({', '.join(typed)}):", 100, subsequent_indent="     "))

    def statement(self, op: Op) -> str:
        """What an operation does, as Python would write it."""
        if op.name == ASSIGN:
            return f"{self.name(op.out)}[...] = {self._operand(op.args[1])}"
        if op.inplace:
            return f"{self.name(op.out)} {_INFIX[op.name]}= {self._operand(op.args[1])}"
        return f"{self.name(op.out)} = {self.operation(op)}"

    def operation(self, op: Op) -> str:
        """An operation on its operands, as Python would write it."""
        if op.name in _INFIX:
            a, b = (self._operand(a, inside=True) for a in op.args)
            return f"{a} {_INFIX[op.name]} {b}"
        args = [self._operand(a) for a in op.args]
        args += [f"{key}={value}" for key, value in op.kw.items()]
        return f"{op.name}({', '.join(args)})"

    def _operand(self, a: Any, *, inside: bool = False) -> str:
        if isinstance(a, Ref):
            return self.name(a.value)
        if isinstance(a, (tuple, list)):
            return "[" + ", ".join(self._operand(each) for each in a) + "]"
        if isinstance(a, (np.dtype, type)):
            return np.dtype(a).name
        return f"({a})" if inside and isinstance(a, (int, float)) and a < 0 else str(a)

    def _view(self, op: Op) -> str:
        source, shape = self.name(op.args[0].value), self.program.values[op.out].shape
        if op.name == "matrix_transpose":
            return f"{source}.T"
        if op.name == "getitem":
            return f"{source}[{_key(op.args[1])}]"
        if op.name == "reshape" and len(shape) == 1:
            return source  # flat: its elements, in order
        return f"{source} as {shape}"


def aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """The rows of a table as lines, with its columns aligned.

    >>> aligned([("a", "b"), ("long", "c")])
    ['a     b', 'long  c']
    """
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]


def _constant(a: Any) -> str:
    values = np.unique(a)
    return str(values[0]) if values.size == 1 else f"constant {type_of(a)}"


def _key(key: Any) -> str:
    def one(k: Any) -> str:
        if isinstance(k, slice):
            return ":".join("" if part is None else str(part) for part in (k.start, k.stop))
        return "..." if k is ... else str(k)

    return ", ".join(one(k) for k in (key if isinstance(key, tuple) else (key,)))
