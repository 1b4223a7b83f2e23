"""The recorder: a step run once on tracing arrays leaves the list of its operations.

The step sees arrays and a namespace like any other; every operation is done on NumPy and written
down. What cannot be replayed or captured (reading a value on the host, a shape that depends on
data, a host array in the middle of a step) is an error. The list serves the replayed plan, the
proof that a step can be captured, and whoever compiles it further: the layers stay the only text of
the mathematics.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..arrays import BackpropError

_BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "mod": "remainder",
    "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip
_COMPARISON = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal",
    "gt": "greater", "ge": "greater_equal",
}  # fmt: skip
_UNARY = {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}
VIEWS = frozenset(
    {"reshape", "getitem", "matrix_transpose", "permute_dims", "expand_dims", "broadcast_to", "squeeze"}
)
ELEMENTWISE = frozenset({
    *_BINARY.values(), *_COMPARISON.values(), *_UNARY.values(), "pow", "square", "exp", "expm1", "log",
    "log1p", "sqrt", "tanh", "sin", "cos", "maximum", "minimum", "where", "astype", "isfinite", "isnan",
    "logical_and", "logical_or", "logical_not",
})  # fmt: skip
REDUCTIONS = frozenset({"sum", "mean", "max", "min", "prod", "all", "any", "argmax"})
CREATION = frozenset({"zeros", "ones", "full", "arange", "zeros_like", "ones_like"})
_OTHER = frozenset({"matmul", "concat", "stack", "take"})
_ALLOWED = VIEWS | ELEMENTWISE | REDUCTIONS | CREATION | _OTHER
_CONCAT_AT_MOST = 8  # of CuPy under capture


class Op(NamedTuple):
    """One operation: out = name(*args, **kw), where a Ref stands for an array.

    Attributes:
        name: of the function in the standard.
        args: with Refs in the place of arrays, also inside tuples.
        kw: keyword arguments, static.
        out: the value it makes; for an operation in place, the value it changes.
        inplace: whether it writes into the value it was given.
    """

    name: str
    args: tuple[Any, ...]
    kw: dict[str, Any]
    out: int
    inplace: bool


class Ref(NamedTuple):
    """An array in a record, by number."""

    value: int


class Record(NamedTuple):
    """A step as data.

    Attributes:
        ops: in the order they ran.
        values: of each number the array it had while recording.
        inputs: what the step was given, Refs in the place of arrays.
        outputs: what it returned, likewise.
    """

    ops: list[Op]
    values: list[Any]
    inputs: Any
    outputs: Any


def record(step: Callable[..., Any], *inputs: Any, tape: "Tape | None" = None) -> Record:
    """Run step(*inputs, xp=namespace) once on copies of NumPy inputs, and write down what it does.

    Args:
        step: a pure function of arrays and a namespace.
        inputs: arrays, in tuples of tuples.
        tape: what to record on; without one, a tape that computes every value.

    Raises:
        NotRecorded: the step reads a value, or does what cannot be replayed.

    >>> import numpy as np
    >>> found = record(lambda a, b, *, xp: xp.sum(a * b), np.ones(3), np.ones(3))
    >>> [op.name for op in found.ops]
    ['multiply', 'sum']
    """
    tape = tape or Tape()
    given = mapped(inputs, tape.take_in)
    with np.errstate(all="ignore"):
        returned = step(*given, xp=tape)
    return Record(tape.ops, tape.values, mapped(given, _ref), mapped(returned, _ref))


def mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    """A tuple of tuples with the function applied to each array in it."""
    if isinstance(tree, Ref) or (hasattr(tree, "dtype") and not isinstance(tree, type)):
        return function(tree)
    if isinstance(tree, (tuple, list)):
        parts = [mapped(each, function) for each in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def leaves(tree: Any) -> list[Any]:
    """The arrays of a tuple of tuples, in order."""
    found: list[Any] = []
    mapped(tree, found.append)
    return found


def refs(tree: Any) -> list[Ref]:
    """The Refs in a tuple of tuples, in order; constants are left out."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, Ref)]


def _ref(a: Any) -> Any:
    if isinstance(a, np.generic):  # a rate, say, from np.logspace
        return a.item()
    return Ref(a.number) if isinstance(a, Traced) else a


class Tape:
    """The namespace a step is recorded on: standard functions that write themselves down."""

    pi, newaxis, inf, nan = np.pi, None, np.inf, np.nan
    bool, int8, int32, int64, uint32 = np.bool_, np.int8, np.int32, np.int64, np.uint32
    float32, float64, isdtype = np.float32, np.float64, staticmethod(np.isdtype)

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.values: list[Any] = []

    def new(self, value: Any) -> "Traced":
        """A traced array for a value."""
        self.values.append(np.asarray(value))
        return Traced(self, len(self.values) - 1)

    def take_in(self, a: Any) -> "Traced":
        """An input of the step, as a copy."""
        return self.new(np.array(a, copy=True))

    def result(self, name: str, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        """The value an operation makes."""
        return apply(name, args, kw)

    def run(self, name: str, *args: Any, **kw: Any) -> "Traced":
        """Do an operation and write it down."""
        kw.pop("device", None)
        out = self.new(self.result(name, mapped(args, self._value), kw))
        self.ops.append(Op(name, mapped(args, _ref), kw, out.number, inplace=False))
        return out

    def write(self, name: str, into: "Traced", other: Any) -> "Traced":
        """Do an operation in place and write it down."""
        self.change(name, self.values[into.number], self._value(other))
        self.ops.append(Op(name, (_ref(into), _ref(other)), {}, into.number, inplace=True))
        return into

    def change(self, name: str, target: Any, other: Any) -> None:
        """Do an operation in place."""
        target[...] = apply(name, (target, other), {})

    def _value(self, a: Any) -> Any:
        if isinstance(a, Traced):
            return self.values[a.number]
        if isinstance(a, np.ndarray):
            _refuse("uses a host array")
        return _ref(a)

    def asarray(self, a: Any, *, dtype: Any = None, device: Any = None, copy: Any = None) -> "Traced":
        """A number as a 0-d array; data from the host are refused."""
        if isinstance(a, Traced):
            return self.run("astype", a, dtype or a.dtype) if copy or dtype not in (None, a.dtype) else a
        if not isinstance(a, (int, float)):
            _refuse("makes an array from host data")
        return self.run("full", (), a, dtype=dtype or (np.float64 if isinstance(a, float) else np.int64))

    def concat(self, arrays: Any, *, axis: int = 0) -> "Traced":
        """Arrays joined, at most eight at a time."""
        if len(arrays) > _CONCAT_AT_MOST:
            _refuse(f"joins {len(arrays)} arrays at once; CUDA graphs take {_CONCAT_AT_MOST}")
        return self.run("concat", tuple(arrays), axis=axis)

    def __getattr__(self, name: str) -> Callable[..., "Traced"]:
        if name not in _ALLOWED:
            _refuse(f"uses xp.{name}")
        return lambda *args, **kw: self.run(name, *args, **kw)


class NotRecorded(BackpropError):
    """The step does what cannot be replayed or captured."""


def _refuse(what: str) -> NoReturn:
    msg = (
        f"a step that is recorded or captured cannot do this: it {what}. Use whole arrays, "
        f"functions of the standard with static shapes, and xp.where in place of if"
    )
    raise NotRecorded(msg)


def apply(name: str, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """An operation of a record on NumPy arrays."""
    if name == "getitem":
        return args[0][args[1]]
    if name == "astype":
        return args[0].astype(args[1])
    return getattr(np, name)(*args, **kw)


class Traced:
    """An array of a record: it has a shape and a dtype, and no value a step could read."""

    __array_ufunc__ = None
    device = "cpu"

    def __init__(self, tape: Tape, number: int) -> None:
        self.tape, self.number = tape, number
        value = tape.values[number]
        self.shape, self.dtype, self.ndim, self.size = value.shape, value.dtype, value.ndim, value.size

    def __array_namespace__(self, *, api_version: str | None = None) -> Tape:
        """The tape."""
        return self.tape

    def __getitem__(self, key: Any) -> "Traced":
        if any(
            isinstance(k, (Traced, np.ndarray, list)) for k in (key if isinstance(key, tuple) else (key,))
        ):
            _refuse("indexes with an array; xp.take does that")
        return self.tape.run("getitem", self, key)

    def __pow__(self, other: Any) -> "Traced":
        return self.tape.run("square", self) if other == 2 else self.tape.run("pow", self, other)

    def __rpow__(self, other: Any) -> "Traced":
        return self.tape.run("pow", other, self)

    def _no_value(self, *_: Any) -> NoReturn:
        _refuse("reads a value on the host (if, float, int, print, a NumPy function)")

    __bool__ = __float__ = __int__ = __index__ = __array__ = __iter__ = __len__ = __setitem__ = _no_value
    __hash__ = None  # type: ignore[assignment]


def _operators() -> None:
    def binary(name: str) -> tuple[Any, Any, Any]:
        def forward(self: Traced, other: Any) -> Traced:
            return self.tape.run(name, self, other)

        def reflected(self: Traced, other: Any) -> Traced:
            return self.tape.run(name, other, self)

        def inplace(self: Traced, other: Any) -> Traced:
            return self.tape.write(name, self, other)

        return forward, reflected, inplace

    for short, name in _BINARY.items():
        for prefix, method in zip(("", "r", "i"), binary(name), strict=True):
            setattr(Traced, f"__{prefix}{short}__", method)
    for short, name in _COMPARISON.items():
        setattr(Traced, f"__{short}__", binary(name)[0])
    for short, name in _UNARY.items():
        setattr(Traced, f"__{short}__", lambda self, name=name: self.tape.run(name, self))


_operators()
