"""One operation of a program on registers, in the types in which NumPy computes it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..ir import ASSIGN, Op, Ref
from . import math
from .function import Function, Register, Unknown

_INTEGERS = {"add": "add", "subtract": "sub", "multiply": "mul"}
_BITS = {"bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor"}
_LOGICAL = {"logical_and": "and", "logical_or": "or", "logical_xor": "xor",
            "logical_not": "xor"}  # fmt: skip
_SHIFTS = frozenset({"bitwise_left_shift", "bitwise_right_shift"})
_COMPARISONS = {"equal": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt",
                "greater_equal": "ge"}  # fmt: skip
_TESTS = frozenset({"isnan", "isinf", "isfinite", "signbit"})
_OF_LLVM = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "rint",
            "copysign": "copysign", "abs": "fabs"}  # fmt: skip
_OF_LIBRARY = {
    "pow": "pow", "sin": "sin", "cos": "cos", "tan": "tan", "asin": "asin", "acos": "acos", "atan": "atan",
    "atan2": "atan2", "sinh": "sinh", "cosh": "cosh", "asinh": "asinh", "acosh": "acosh", "atanh": "atanh",
    "hypot": "hypot", "log2": "log2", "log10": "log10",
}  # fmt: skip

Get = Callable[[int], Register]


def computed(f: Function, op: Op, values: Sequence[Any], get: Get, lanes: int) -> Register:
    """The result of an elementwise operation.

    Args:
        f: the function being written.
        op: the operation.
        values: for each value, by number, an abstract array.
        get: returns the register of a value.
        lanes: the lanes of the registers.

    Raises:
        Unknown: there is no machine code for it.
    """
    out, name = values[op.out].dtype, op.name
    args = op.args[:1] if name == "astype" else op.args[1:] if name == ASSIGN else op.args
    given = [get(a.value) if isinstance(a, Ref) else a for a in args]

    def typed(dtype: Any, of: Sequence[Any] = given) -> list[Register]:
        return [
            converted(f, a, dtype) if isinstance(a, Register) else f.constant(a, dtype, lanes) for a in of
        ]

    if name in ("astype", ASSIGN, "positive"):
        return typed(out)[0]
    if name == "where":
        return f.select(*typed(np.bool_, given[:1]), *typed(out, given[1:]))
    mixed = np.result_type(*(a.dtype if isinstance(a, Register) else a for a in given))
    if name in _COMPARISONS:
        return compared(f, name, *typed(mixed))
    if name in _LOGICAL:
        return f.binary(_LOGICAL[name], *[*typed(np.bool_), f.constant(1, np.bool_, lanes)][:2])
    if name in _TESTS:
        return _test(f, name, typed(mixed)[0])
    found = _changed(f, name, typed(mixed)) if op.inplace else _computed(f, name, typed(out))
    return converted(f, found, out)


def _changed(f: Function, name: str, args: list[Register]) -> Register:
    """An operation in place; w ± a b, as in w − η g, is rounded once where there is fused multiply-add."""
    factors = args[-1].factors
    if name not in ("add", "subtract") or not factors or not f.target.fused:
        return _computed(f, name, args)
    a, b = factors
    return f.fma(a if name == "add" else _negative(f, a), b, args[0])


def _computed(f: Function, name: str, args: list[Register]) -> Register:
    """An operation whose arguments and result have one dtype."""
    if name in ("maximum", "minimum"):
        return extremum(f, name, *args)
    if name == "square":
        name, args = "multiply", [args[0], args[0]]
    kind = args[0].dtype.kind
    of_kind = _of_floats if kind == "f" else _of_integers if kind in "iu" else _of_truth
    found = of_kind(f, name, args)
    if found is None:
        msg = f"{name} of {args[0].dtype}"
        raise Unknown(msg)
    return found


def _of_floats(f: Function, name: str, args: list[Register]) -> Register | None:
    a = args[0]
    if name in _ARITHMETIC:
        return _ARITHMETIC[name](f, *args)
    if name in math.FORMULAS:
        return math.function_of(f, name, a)
    if name in _OF_LLVM:
        return f.intrinsic(f"llvm.{_OF_LLVM[name]}", *args)
    if name in _OF_LIBRARY:
        return f.library(_OF_LIBRARY[name], *args)
    return _divided_floats(f, name, *args) if name in ("remainder", "floor_divide") else None


def _negative(f: Function, a: Register) -> Register:
    return f.emit(f"fneg {a.type} {a.name}", a.dtype, a.lanes)


def _product(f: Function, a: Register, b: Register) -> Register:
    return f.binary("fmul", a, b)._replace(factors=(a, b))


_ARITHMETIC: dict[str, Callable[..., Register]] = {
    "add": lambda f, a, b: f.binary("fadd", a, b),
    "subtract": lambda f, a, b: f.binary("fsub", a, b),
    "divide": lambda f, a, b: f.binary("fdiv", a, b),
    "multiply": _product,
    "negative": _negative,
}


def _of_integers(f: Function, name: str, args: list[Register]) -> Register | None:
    a = args[0]
    if name in _INTEGERS:
        return f.binary(_INTEGERS[name], *args)
    if name in _SHIFTS:
        return _shifted(f, name, *args)
    if name in ("remainder", "floor_divide"):
        return _divided(f, name, *args)
    if name in ("negative", "abs"):
        minus = f.binary("sub", f.constant(0, a.dtype, a.lanes), a)
        positive = a if a.dtype.kind == "u" else extremum(f, "maximum", a, minus)
        return minus if name == "negative" else positive
    return _of_truth(f, name, args)


def _of_truth(f: Function, name: str, args: list[Register]) -> Register | None:
    a = args[0]
    if name in _BITS:
        return f.binary(_BITS[name], *args)
    all_bits = f.constant(1 if a.dtype == np.bool_ else -1, a.dtype, a.lanes)
    return f.binary("xor", a, all_bits) if name == "bitwise_invert" else None


def converted(f: Function, a: Register, dtype: Any) -> Register:
    """A register in another dtype; a float out of the range of an integer dtype becomes the nearest end."""
    to = np.dtype(dtype)
    if a.dtype == to:
        return a
    if to == np.bool_:
        zero = f.constant(0, a.dtype, a.lanes)
        return f.compare("fcmp une" if a.dtype.kind == "f" else "icmp ne", a, zero)
    if a.dtype.kind == "f" and to.kind != "f":
        return f.intrinsic(f"llvm.fpto{'s' if to.kind == 'i' else 'u'}i.sat", a, dtype=to)
    wider = to.itemsize > a.dtype.itemsize or a.dtype == np.bool_
    if to.kind != "f" and not wider and to.itemsize == a.dtype.itemsize:
        return Register(a.name, to, a.lanes)
    if a.dtype.kind == "f":
        instruction = "fpext" if wider else "fptrunc"
    elif to.kind == "f":
        instruction = "sitofp" if a.dtype.kind == "i" else "uitofp"
    else:
        instruction = "trunc" if not wider else "sext" if a.dtype.kind == "i" else "zext"
    return f.convert(instruction, a, to)


def compared(f: Function, name: str, a: Register, b: Register) -> Register:
    """A comparison; with NaN it is false, except 'not equal', which is true."""
    short, kind = _COMPARISONS[name], a.dtype.kind
    if kind == "f":
        return f.compare(f"fcmp {'u' if short == 'ne' else 'o'}{short}", a, b)
    sign = "" if short in ("eq", "ne") else "s" if kind == "i" else "u"
    return f.compare(f"icmp {sign}{short}", a, b)


def extremum(f: Function, name: str, a: Register, b: Register) -> Register:
    """The larger or the smaller of two; NaN if either is NaN."""
    greater = name == "maximum"
    if a.dtype.kind == "f":
        first = f.compare("fcmp uge" if greater else "fcmp ule", a, b)  # also where one of them is NaN
        found = f.select(first, a, b)
        if not b.name.startswith("%"):  # a constant, which is not NaN
            return found
        return f.select(f.compare("fcmp uno", b, b), b, found)
    kept = compared(f, "greater_equal" if greater else "less_equal", a, b)
    return f.select(kept, a, b)


def _test(f: Function, name: str, a: Register) -> Register:
    if a.dtype.kind != "f":
        msg = f"{name} of {a.dtype}"
        raise Unknown(msg)
    if name == "isnan":
        return f.compare("fcmp uno", a, a)
    if name == "signbit":
        whole = np.dtype(f"int{8 * a.dtype.itemsize}")
        bits = f.convert("bitcast", a, whole)
        return f.compare("icmp slt", bits, f.constant(0, whole, a.lanes))
    bound = f.constant(np.inf, a.dtype, a.lanes)
    return f.compare("fcmp oeq" if name == "isinf" else "fcmp one", f.intrinsic("llvm.fabs", a), bound)


def _shifted(f: Function, name: str, a: Register, by: Register) -> Register:
    """A shift; by as many bits as the dtype has, or more, it gives 0; −1 for negative ones shifted right."""
    bits = 8 * a.dtype.itemsize
    last = f.constant(bits - 1, a.dtype, a.lanes)
    fits = f.compare("icmp ule", by, last)
    capped = f.select(fits, by, last)
    if name == "bitwise_right_shift" and a.dtype.kind == "i":
        return f.binary("ashr", a, capped)
    shifted = f.binary("shl" if name == "bitwise_left_shift" else "lshr", a, capped)
    return f.select(fits, shifted, f.constant(0, a.dtype, a.lanes))


def _divided_floats(f: Function, name: str, a: Register, b: Register) -> Register:
    """⌊a / b⌋ and a − b ⌊a / b⌋ of floats, as Python and NumPy compute them from the exact remainder."""
    zero, half = (f.constant(v, a.dtype, a.lanes) for v in (0, 0.5))
    rest = f.library("fmod", a, b)
    there = f.compare("fcmp une", rest, zero)
    signs = [f.compare("fcmp olt", each, zero) for each in (b, rest)]
    opposite = f.binary("and", there, f.binary("xor", *signs))
    if name == "remainder":
        moved = f.select(opposite, f.binary("fadd", rest, b), rest)
        moved = f.select(there, moved, f.intrinsic("llvm.copysign", zero, b))
        return f.select(f.compare("fcmp oeq", b, zero), rest, moved)
    whole = f.binary("fdiv", f.binary("fsub", a, rest), b)
    whole = f.select(opposite, f.binary("fsub", whole, f.constant(1, a.dtype, a.lanes)), whole)
    floor = f.intrinsic("llvm.floor", whole)
    above = f.compare("fcmp ogt", f.binary("fsub", whole, floor), half)
    floor = f.select(above, f.binary("fadd", floor, f.constant(1, a.dtype, a.lanes)), floor)
    quotient = f.binary("fdiv", a, b)
    floor = f.select(f.compare("fcmp une", whole, zero), floor, f.intrinsic("llvm.copysign", zero, quotient))
    return f.select(f.compare("fcmp oeq", b, zero), quotient, floor)


def _divided(f: Function, name: str, a: Register, b: Register) -> Register:
    """⌊a / b⌋ and a − b ⌊a / b⌋ of integers; 0 where b is 0."""
    signed = a.dtype.kind == "i"
    zero, one = (f.constant(v, a.dtype, a.lanes) for v in (0, 1))
    by_zero = f.compare("icmp eq", b, zero)
    by = f.select(by_zero, one, b)
    if signed:  # the smallest integer divided by −1 does not fit
        by_minus_one = f.compare("icmp eq", b, f.constant(-1, a.dtype, a.lanes))
        by = f.select(by_minus_one, one, by)
    rest = f.binary("srem" if signed else "urem", a, by)
    quotient = f.binary("sdiv" if signed else "udiv", a, by)
    if signed:
        there = f.compare("icmp ne", rest, zero)
        opposite = f.compare("icmp slt", f.binary("xor", rest, by), zero)
        both = f.binary("and", there, opposite)
        rest = f.select(both, f.binary("add", rest, by), rest)
        quotient = f.select(both, f.binary("sub", quotient, one), quotient)
        quotient = f.select(by_minus_one, f.binary("sub", zero, a), quotient)
    return f.select(by_zero, zero, rest if name == "remainder" else quotient)
