"""Lowering: operations as NumPy calls that write into buffers.

A call is `function(*args, out)`; every temporary is a value of its own, so that buffers can be allocated
in advance. Where NumPy has a slow and a fast way to the same numbers, the fast one is chosen here,
and nowhere else.
"""

from collections.abc import Iterable, Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..ir import ASSIGN, CREATION, ELEMENTWISE, Op, Ref, abstract, apply, mapped, refs

UFUNCS = {name: getattr(np, name) for name in ELEMENTWISE - {"where", "astype", "round"}}
UFUNCS["round"] = np.rint
REDUCTIONS = {
    "sum": np.add.reduce, "mean": np.add.reduce, "max": np.maximum.reduce, "min": np.minimum.reduce,
    "prod": np.multiply.reduce, "all": np.logical_and.reduce, "any": np.logical_or.reduce,
}  # fmt: skip
OTHERS = {"matmul": np.matmul, "concat": np.concatenate, "stack": np.stack, "argmax": np.argmax,
          "argmin": np.argmin, "cumulative_sum": np.cumulative_sum}  # fmt: skip
SPECIAL = frozenset({"where", "astype", "take", ASSIGN}) | CREATION  # lowered by methods of their own
_SMALL = 1 << 20  # elements; a larger constant is one row, broadcast: half as fast, but small in memory
_BITS = {4: np.int32, 8: np.int64}


class Call(NamedTuple):
    """One NumPy call: function(*args, out), then keyword arguments.

    Attributes:
        function: a NumPy function.
        args: Refs, constant arrays and plain values.
        out: the value it writes, as a Ref.
        kw: further keyword arguments.
        elementwise: whether out[i] depends on the i-th elements of the arguments alone.
        by_name: whether out is given by name.
        assigns: whether it copies new state over the old.
    """

    function: Any
    args: tuple[Any, ...]
    out: Any
    kw: dict[str, Any]
    elementwise: bool = False
    by_name: bool = True
    assigns: bool = False


class Lowering:
    """Lowers operations to calls, and adds values for the temporaries these need.

    Attributes:
        values: for each value, by number, an abstract array.
        views: for each value that is a view: the value it is a view of, and a function that takes the view.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        self.values = list(values)
        self.views: dict[int, tuple[int, Any]] = {}

    def temporary(self, like: Any, dtype: Any) -> Ref:
        """A new value of the shape of another."""
        self.values.append(abstract(np.shape(like), dtype))
        return Ref(len(self.values) - 1)

    def bits(self, ref: Ref) -> Ref:
        """The same memory, seen as integers."""
        value = self.values[ref.value]
        kind = _BITS[value.dtype.itemsize]
        self.values.append(value.view(kind))
        self.views[len(self.values) - 1] = (ref.value, lambda a: a.view(kind))
        return Ref(len(self.values) - 1)

    def lower(self, op: Op) -> Iterator[Call]:
        """The calls that compute one operation."""
        out = Ref(op.out)
        if op.name == "where":
            yield from self._where(op, out)
        elif op.name == "astype":
            yield Call(
                np.copyto, (out, op.args[0]), out, {"casting": "unsafe"}, elementwise=True, by_name=False
            )
        elif op.name == ASSIGN:
            yield Call(np.copyto, op.args, out, {}, by_name=False, assigns=True)
        elif op.name in UFUNCS:
            args = tuple(self.operand(a, op) for a in op.args)
            if op.name in ("maximum", "minimum"):
                args = tuple(self.spread(a, op) for a in args)
            yield Call(UFUNCS[op.name], args, out, {}, elementwise=True)
        elif op.name in REDUCTIONS:
            yield from self._reduce(op, out)
        elif op.name in CREATION:
            args = mapped(op.args, lambda r: self.values[r.value])
            yield Call(np.copyto, (out, apply(op.name, args, op.kw)), out, {}, by_name=False)
        elif op.name == "take":
            yield Call(np.take, op.args, out, {**op.kw, "mode": "clip"})
        else:
            yield Call(OTHERS[op.name], op.args, out, op.kw)

    def _reduce(self, op: Op, out: Ref) -> Iterator[Call]:
        axis, keep = op.kw.get("axis"), op.kw.get("keepdims", False)
        yield Call(REDUCTIONS[op.name], (op.args[0],), out, {"axis": axis, "keepdims": keep})
        if op.name == "mean":
            result = self.values[op.out]
            count = self.values[op.args[0].value].size // max(1, result.size)
            yield Call(UFUNCS["divide"], (out, self.number(count, result.dtype)), out, {}, elementwise=True)

    def operand(self, a: Any, op: Op) -> Any:
        """A Python number as a 0-d array of the type it takes beside the arrays of the operation."""
        if isinstance(a, Ref):
            return a
        kinds = [self.values[r.value].dtype for r in refs(op.args)]
        return self.number(a, kinds[0]) if kinds else np.asarray(a)

    @staticmethod
    def number(a: Any, dtype: Any) -> Any:
        """A 0-d constant, by NumPy's rule for Python numbers beside arrays."""
        return np.asarray(a, dtype=np.result_type(dtype, a))

    def spread(self, a: Any, op: Op) -> Any:
        """A 0-d constant as a full array: NumPy's maximum and minimum are faster on two full arrays."""
        shape = self.values[op.out].shape
        if not isinstance(a, np.ndarray) or a.ndim or not shape:
            return a
        return np.full(shape if prod(shape) <= _SMALL else shape[-1:], a)

    def _where(self, op: Op, out: Ref) -> Iterator[Call]:
        """Select by arithmetic on bits: np.where branches for each element."""
        mask, result = op.args[0], self.values[op.out]
        a, b = (self._typed(v, result.dtype) for v in op.args[1:])
        same = np.shape(self._array(mask)) == result.shape and all(
            np.shape(self._array(v)) in (result.shape, ()) and self._array(v).dtype == result.dtype
            for v in (a, b)
        )
        if not same or result.dtype.itemsize not in _BITS or not result.shape:
            yield from self._where_plain(mask, a, b, out)
            return
        to_bits, chosen_type = self.bits(out), _BITS[result.dtype.itemsize]
        chosen = self.temporary(result, chosen_type)  # 0 or 1: two passes in one dtype beat one in two
        yield Call(np.copyto, (chosen, mask), chosen, {}, elementwise=True, by_name=False)
        if isinstance(b, np.ndarray) and b.ndim == 0 and b.view(_BITS[b.dtype.itemsize]) == 0:
            yield Call(np.multiply, (self._bits_of(a), chosen), to_bits, {}, elementwise=True)
            return
        select = self.temporary(result, chosen_type)
        yield Call(np.bitwise_xor, (self._bits_of(a), self._bits_of(b)), select, {}, elementwise=True)
        yield Call(np.multiply, (select, chosen), select, {}, elementwise=True)
        yield Call(np.bitwise_xor, (select, self._bits_of(b)), to_bits, {}, elementwise=True)

    def _where_plain(self, mask: Any, a: Any, b: Any, out: Ref) -> Iterator[Call]:
        chosen = self.temporary(self.values[out.value], self.values[out.value].dtype)
        yield Call(np.copyto, (chosen, b), chosen, {}, by_name=False)
        yield Call(np.copyto, (chosen, a), chosen, {"where": mask}, by_name=False)
        yield Call(np.copyto, (out, chosen), out, {}, by_name=False)

    def _typed(self, v: Any, dtype: Any) -> Any:
        return v if isinstance(v, Ref) else np.asarray(v, dtype=dtype)

    def _array(self, v: Any) -> Any:
        return self.values[v.value] if isinstance(v, Ref) else v

    def _bits_of(self, v: Any) -> Any:
        return self.bits(v) if isinstance(v, Ref) else v.view(_BITS[v.dtype.itemsize])
