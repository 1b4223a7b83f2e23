"""The program: what a function of arrays does, as operations on numbered values.

A program has no branches and no loops. Each value is an input or the result of one operation; a view
shares the memory of another value, and operations in place change a value. The names of operations are
those of the Array API standard; each target has one table that says how it computes them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .. import arrays

BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "mod": "remainder",
    "floordiv": "floor_divide",
    "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip
COMPARISON = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal",
    "gt": "greater", "ge": "greater_equal",
}  # fmt: skip
UNARY = {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}
VIEWS = frozenset(
    {"reshape", "getitem", "matrix_transpose", "permute_dims", "expand_dims", "broadcast_to", "squeeze"}
)
OTHER_ELEMENTWISE = frozenset({  # no formula here uses them, a user's layer may
    "floor", "ceil", "trunc", "round", "log2", "log10", "logaddexp", "tan", "asin", "acos", "atan", "atan2",
    "sinh", "cosh", "asinh", "acosh", "atanh", "hypot", "isinf", "signbit", "copysign", "logical_xor",
})  # fmt: skip
ELEMENTWISE = frozenset({
    *BINARY.values(), *COMPARISON.values(), *UNARY.values(), "pow", "square", "exp", "expm1", "log",
    "log1p", "sqrt", "tanh", "sin", "cos", "maximum", "minimum", "where", "astype", "isfinite", "isnan",
    "logical_and", "logical_or", "logical_not", *OTHER_ELEMENTWISE,
})  # fmt: skip
REDUCTIONS = frozenset({"sum", "mean", "max", "min", "prod", "all", "any", "argmax", "argmin"})
LIKE = frozenset({"zeros_like", "ones_like", "full_like"})
CREATION = frozenset({"zeros", "ones", "full", "arange", "asarray"}) | LIKE
OTHER = frozenset({"matmul", "concat", "stack", "take", "cumulative_sum"})
OPERATIONS = VIEWS | ELEMENTWISE | REDUCTIONS | CREATION | OTHER
ASSIGN = "assign"  # old[...] = new: no function records it, the pass `write_back` adds it


class Ref(NamedTuple):
    """A value of a program, by number."""

    value: int


class Op(NamedTuple):
    """One operation: out = name(*args, **kw), where a Ref stands for an array.

    Attributes:
        name: the function's name in the Array API standard.
        args: its arguments, with a Ref for each array, also inside tuples.
        kw: keyword arguments, static.
        out: the value it computes; for an operation in place, the value it changes.
        inplace: whether it writes into the value it was given.
        origin: the part of the step and the equation it comes from, such as ("dense1", "delta = e f′(net)").
    """

    name: str
    args: tuple[Any, ...]
    kw: dict[str, Any]
    out: int
    inplace: bool = False
    origin: tuple[str, str] = ("", "")


class Slice(NamedTuple):
    """Where a value is stored: in the vector `whole`, beginning at `start`."""

    whole: int
    start: int


@dataclass(frozen=True)
class Program:
    """A function of arrays as data.

    Attributes:
        ops: the operations, in the order they run.
        values: for each value, by number, an abstract array (its shape and dtype).
        inputs: the arguments of the function, with a Ref for each array.
        outputs: what it returns, likewise.
        constants: the arrays of values that depend on no input.
        slices: for each value that is computed inside a larger vector, its place there.
        names: names of values for people to read, such as "w".
    """

    ops: tuple[Op, ...]
    values: tuple[Any, ...]
    inputs: Any
    outputs: Any
    constants: dict[int, Any] = field(default_factory=dict)
    slices: dict[int, Slice] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)


class Aliases:
    """For each value, the value that owns its memory; the two differ only for a view."""

    def __init__(self, ops: Iterable[Op]) -> None:
        self._of: dict[int, int] = {}
        for op in ops:
            if op.name in VIEWS:
                self._of[op.out] = self[op.args[0].value]

    def __getitem__(self, value: int) -> int:
        return self._of.get(value, value)


def abstract(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of this shape and dtype that needs no memory: all elements are the same zero."""
    return np.broadcast_to(np.zeros((), dtype=dtype), shape)


def mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    """A tree with the function applied to each array and each Ref in it."""
    return arrays.mapped(tree, function, _is_leaf)


def leaves(tree: Any) -> list[Any]:
    """The arrays and Refs of a tree, in order."""
    return arrays.leaves(tree, _is_leaf)


def _is_leaf(value: Any) -> bool:
    return isinstance(value, Ref) or arrays.is_array(value)


def refs(tree: Any) -> list[Ref]:
    """The Refs in a tree, in order; constants are left out."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, Ref)]


def signature(tree: Any, *, skip: int = 0) -> Any:
    """What a function is compiled for: the structure of its arguments, their shapes, dtypes, devices.

    Args:
        tree: arguments.
        skip: how many leading axes of each array to ignore; 1 for the rows that a scan gathers from.

    >>> signature((np.zeros((2, 3)), 1.5), skip=1)
    (<class 'tuple'>, ((3,), dtype('float64'), 'cpu'), 1.5)
    """
    if hasattr(tree, "dtype"):
        return tuple(tree.shape[skip:]), tree.dtype, str(getattr(tree, "device", None))  # CuPy's has no hash
    if isinstance(tree, (tuple, list)):
        return type(tree), *(signature(each, skip=skip) for each in tree)
    if isinstance(tree, dict):
        return dict, *((key, signature(each, skip=skip)) for key, each in tree.items())
    return tree


def reads(op: Op) -> list[int]:
    """The values an operation is given, in order."""
    return [ref.value for ref in refs(op.args)]


def apply(name: str, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """An operation on NumPy arrays."""
    if name == "getitem":
        keys = args[1] if isinstance(args[1], tuple) else (args[1],)
        return args[0][keys if Ellipsis in keys else (*keys, ...)]  # a view, also of one element
    if name == "astype":
        return args[0].astype(args[1])
    return getattr(np, name)(*args, **kw)


def evaluate(program: Program, *inputs: Any, xp: Any = np, floating: Any = None) -> Any:
    """What a program returns on any namespace; its inputs are not changed.

    Args:
        program: the program.
        inputs: the arguments of the function, arrays of the namespace.
        xp: the namespace.
        floating: a dtype to use for every floating-point dtype of the program; None keeps them.

    >>> x, y = Ref(0), Ref(1)
    >>> double = Program((Op("add", (x, x), {}, 1),), (abstract((2,), "float64"),) * 2, (x,), y)
    >>> evaluate(double, np.asarray([1.0, 2.0])).tolist()
    [2.0, 4.0]
    """
    memory = {v: xp.asarray(a, dtype=_dtype(a.dtype, floating)) for v, a in program.constants.items()}
    given = zip(refs(program.inputs), leaves(inputs), strict=True)
    memory |= {ref.value: xp.asarray(a, copy=True) for ref, a in given}
    views = {op.out: op for op in program.ops if op.name in VIEWS}

    def read(ref: Ref) -> Any:
        if ref.value in memory:
            return memory[ref.value]
        op = views[ref.value]
        source = read(op.args[0])
        return (
            source[op.args[1]]
            if op.name == "getitem"
            else getattr(xp, op.name)(source, *op.args[1:], **op.kw)
        )

    def write(value: int, new: Any) -> None:
        """Write a value; a view by a new array for the whole: some namespaces have immutable arrays."""
        if value not in views:
            memory[value] = new
            return
        op = views[value]
        whole = read(op.args[0])
        assert (op.name, whole.ndim) == ("getitem", 1), "only a part of a vector is written in place"
        start, stop, _ = op.args[1].indices(whole.shape[0])
        write(op.args[0].value, xp.concat([whole[:start], new, whole[stop:]]))

    for op in program.ops:
        if op.name in VIEWS:
            continue
        args = [_dtype(a, floating) for a in mapped(op.args, read)]
        kw = {key: _dtype(a, floating) for key, a in op.kw.items()}
        if op.name == ASSIGN:
            write(op.out, args[1])
        else:
            write(op.out, xp.asarray(getattr(xp, op.name)(*args, **kw)))
    return mapped(program.outputs, read)


def _dtype(a: Any, floating: Any) -> Any:
    """`floating` in place of a floating-point dtype; anything else unchanged."""
    kind = isinstance(a, (np.dtype, type)) and np.dtype(a).kind == "f"
    return floating if kind and floating is not None else a
