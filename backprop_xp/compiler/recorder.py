"""The recorder: a function runs once on abstract arrays, and its operations are recorded as a program.

The function uses arrays and a namespace as usual. Shapes and dtypes are computed, values are not: no
matrix is multiplied and no large array is filled. What cannot be replayed or captured (reading a value on
the host, a shape that depends on data, a host array in the middle of a step) is an error. So each
formula is written once, in its layer, and the compiler needs no second version of it.
"""

from collections.abc import Callable, Iterator, Sequence
from inspect import getdoc
from math import prod
from typing import Any, NoReturn

import numpy as np

from ..arrays import CONCAT_AT_MOST
from ..errors import BackpropError
from . import ir
from .ir import Op, Program, Ref, abstract, apply, mapped

OPERATORS = frozenset({*ir.BINARY.values(), *ir.COMPARISON.values()})


class NotRecorded(BackpropError):
    """The function does something that cannot be replayed or captured."""


def record(
    function: Callable[..., Any], *inputs: Any, word: Any = np.uint32, names: Sequence[str] = ()
) -> Program:
    """Run function(*inputs, xp=namespace) once on abstract arrays, and write down what it does.

    Args:
        function: a pure function of arrays and a namespace.
        inputs: arrays or trees of arrays; only their shapes and dtypes are used.
        word: the 32-bit integer type of random bits.
        names: a name for each input, shown in listings.

    Raises:
        NotRecorded: the function reads a value, or does something else that cannot be replayed.

    >>> x = abstract((1_000_000, 1_000_000), "float32")
    >>> found = record(lambda a, *, xp: xp.sum(xp.matmul(a, a), axis=0), x)
    >>> [op.name for op in found.ops], found.values[-1].shape
    (['matmul', 'sum'], (1000000,))
    """
    recorder = Recorder(word)
    given = mapped(inputs, lambda a: recorder.new(abstract(a.shape, a.dtype)))
    for name, tree in zip(names, given, strict=False):
        for path, a in _paths(name, tree):
            recorder.label(a, path)
    with np.errstate(all="ignore"):
        returned = function(*given, xp=recorder)
    inputs, outputs = mapped(given, _ref), mapped(returned, _ref)
    return Program(tuple(recorder.ops), tuple(recorder.values), inputs, outputs, names=recorder.names)


def abstract_like(a: Any, rows: int | None = None) -> Any:
    """An abstract array with the shape and dtype of an array of any library; fractions count as float64.

    Args:
        a: the array.
        rows: how many rows the abstract array has; None for as many as `a`.
    """
    shape = tuple(a.shape) if rows is None or not a.ndim else (rows, *a.shape[1:])
    kind = getattr(np, str(a.dtype).rpartition(".")[2], np.float64)
    return abstract(shape, kind)


class Recorder:
    """The namespace passed to a recorded function: each call of a function of the standard is recorded.

    Args:
        word: the 32-bit integer type of random bits.
    """

    pi, newaxis, inf, nan = np.pi, None, np.inf, np.nan
    bool, int8, int32, int64 = np.bool_, np.int8, np.int32, np.int64
    uint8, uint32 = np.uint8, np.uint32
    float32, float64, isdtype = np.float32, np.float64, staticmethod(np.isdtype)

    def __init__(self, word: Any = np.uint32) -> None:
        self.word = word
        self.ops: list[Op] = []
        self.values: list[Any] = []
        self.names: dict[int, str] = {}
        self.origin = ("", "")
        self.layouts: dict[int, Any] = {}  # for each view an array with its strides; no element is read

    def mark(self, part: str, equation: Any) -> None:
        """Attribute the operations that follow to this equation of this part of the step."""
        text = equation if isinstance(equation, str) else (getdoc(equation) or "").partition("\n")[0]
        self.origin = (part, text.removesuffix(".").removeprefix("The error "))

    def label(self, a: Any, name: str) -> None:
        """Name an array for listings; the first name it is given stays."""
        if isinstance(a, AbstractArray):
            self.names.setdefault(a.number, name)

    def new(self, value: Any) -> "AbstractArray":
        """An abstract array that stands for a new value."""
        self.values.append(np.asarray(value))
        return AbstractArray(self, len(self.values) - 1)

    def run(self, name: str, *args: Any, **kw: Any) -> "AbstractArray":
        """Record an operation."""
        kw.pop("device", None)
        out = self.new(_result(name, mapped(args, self._value), kw))
        if name in ir.VIEWS:
            self.layouts[out.number] = apply(name, (self._layout(args[0]), *args[1:]), kw)
        self.ops.append(Op(name, mapped(args, _ref), kw, out.number, origin=self.origin))
        return out

    def write(self, name: str, into: "AbstractArray", other: Any) -> "AbstractArray":
        """Record an operation in place."""
        self._value(other)
        self.ops.append(
            Op(name, (_ref(into), _ref(other)), {}, into.number, inplace=True, origin=self.origin)
        )
        return into

    def _value(self, a: Any) -> Any:
        if isinstance(a, AbstractArray):
            return self.values[a.number]
        if isinstance(a, np.ndarray):
            _refuse("uses a host array")
        return _ref(a)

    def _layout(self, a: "AbstractArray") -> Any:
        return self.layouts[a.number] if a.number in self.layouts else _contiguous(a.shape, a.dtype)

    def asarray(self, a: Any, *, dtype: Any = None, device: Any = None, copy: Any = None) -> "AbstractArray":
        """A number as a 0-d array, a tuple of numbers as a constant; other data from the host are refused."""
        if isinstance(a, AbstractArray):
            return self.run("astype", a, dtype or a.dtype) if copy or dtype not in (None, a.dtype) else a
        if isinstance(a, tuple) and all(isinstance(each, (int, float)) for each in a):
            return self.run("asarray", a, dtype=dtype or np.asarray(a).dtype)
        if not isinstance(a, (int, float)):
            _refuse("makes an array from host data")
        return self.run("full", (), a, dtype=dtype or (np.float64 if isinstance(a, float) else np.int64))

    def concat(self, arrays: Any, *, axis: int = 0) -> "AbstractArray":
        """Arrays concatenated, at most eight at a time."""
        if len(arrays) > CONCAT_AT_MOST:
            _refuse(f"joins {len(arrays)} arrays at once; CUDA graphs take {CONCAT_AT_MOST}")
        return self.run("concat", tuple(arrays), axis=axis)

    def reshape(self, x: Any, shape: Any, *, copy: Any = None) -> Any:
        """A view; where the elements do not lie in that order, a view of a copy."""
        try:
            np.reshape(self._layout(x), shape, copy=False)
        except ValueError:
            copy = True
        return self.run("reshape", self.run("astype", x, x.dtype) if copy else x, shape)

    # ------------------------------------------------------------ composed of other operations
    def clip(self, x: Any, min: Any = None, max: Any = None) -> Any:
        """Each number limited to the range from min to max."""
        x = x if min is None else self.maximum(x, min)
        return x if max is None else self.minimum(x, max)

    def sign(self, x: Any) -> Any:
        """-1, 0 or 1; NaN stays."""
        found = self.astype(x > 0, x.dtype) - self.astype(x < 0, x.dtype)
        return self.where(self.isnan(x), x, found) if x.dtype.kind == "f" else found

    def round(self, x: Any) -> Any:
        """The nearest integer, halves to the even one; integers stay."""
        return self.run("round", x) if x.dtype.kind == "f" else self.run("positive", x)

    def var(self, x: Any, *, axis: Any = None, correction: float = 0.0, keepdims: Any = False) -> Any:
        """Σ (x − mean)² / (n − correction)."""
        mean = self.mean(x, axis=axis, keepdims=True)
        total = self.sum(self.square(x - mean), axis=axis, keepdims=keepdims)
        return total / (x.size // mean.size - correction)

    def std(self, x: Any, **settings: Any) -> Any:
        """The square root of the variance."""
        return self.sqrt(self.var(x, **settings))

    def cumulative_sum(self, x: Any, *, axis: int | None = None, include_initial: Any = False) -> Any:
        """The sums of the first 1, 2, … entries of an axis."""
        sums = self.run("cumulative_sum", x, axis=axis or 0)
        if not include_initial:
            return sums
        first = tuple(1 if k == (axis or 0) % x.ndim else n for k, n in enumerate(x.shape))
        return self.concat((self.zeros(first, dtype=sums.dtype), sums), axis=axis or 0)

    def flip(self, x: Any, *, axis: Any = None) -> Any:
        """The elements of these axes in reverse order."""
        gone = _axes(axis, x.ndim)
        return x[tuple(slice(None, None, -1 if k in gone else 1) for k in range(x.ndim))]

    def repeat(self, x: Any, repeats: Any, *, axis: int | None = None) -> Any:
        """Each entry of an axis repeated, the copies next to each other."""
        if not isinstance(repeats, int):
            _refuse("repeats entries by counts in an array")
        x, axis = (self.reshape(x, (-1,)), 0) if axis is None else (x, axis)
        return self.take(x, self.arange(x.shape[axis] * repeats) // repeats, axis=axis)

    def tile(self, x: Any, repetitions: tuple[int, ...]) -> Any:
        """The whole array repeated along each axis."""
        missing = len(repetitions) - x.ndim
        x = self.reshape(x, (1,) * missing + x.shape) if missing > 0 else x
        for axis, times in enumerate((1,) * -missing + tuple(repetitions)):
            if times != 1:
                n = x.shape[axis]
                x = self.take(x, self.arange(n * times) % n, axis=axis)
        return x

    def roll(self, x: Any, shift: Any, *, axis: Any = None) -> Any:
        """The entries shifted along axes; those shifted out at the end come in at the beginning."""
        if axis is None:
            return self.reshape(self.roll(self.reshape(x, (-1,)), shift, axis=0), x.shape)
        shifts, axes = (each if isinstance(each, tuple) else (each,) for each in (shift, axis))
        for by, each in zip(shifts * (len(axes) // len(shifts)), axes, strict=True):
            n = x.shape[each]
            x = self.take(x, (self.arange(n) - by) % n, axis=each)
        return x

    def take_along_axis(self, x: Any, indices: Any, *, axis: int = -1) -> Any:
        """out[…, i, …] = x[…, indices[…, i, …], …] along one axis."""
        own, places, stride = axis % x.ndim, 0, 1
        for k in reversed(range(x.ndim)):
            n = x.shape[k]
            at = self.reshape(self.arange(n), (n,) + (1,) * (x.ndim - 1 - k))
            places = (indices % n if k == own else at) * stride + places
            stride *= n
        return self.take(self.reshape(x, (-1,)), places, axis=0)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in ir.OPERATIONS:
            _refuse(f"uses xp.{name}")
        return lambda *args, **kw: self.run(name, *args, **kw)


class AbstractArray:
    """An array with a shape and a dtype, and without values a function could read."""

    device = "cpu"

    def __init__(self, recorder: Recorder, number: int) -> None:
        self.recorder, self.number = recorder, number
        value = recorder.values[number]
        self.shape, self.dtype, self.ndim, self.size = value.shape, value.dtype, value.ndim, value.size

    def __array_namespace__(self, *, api_version: str | None = None) -> Recorder:
        """The recorder."""
        return self.recorder

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kw: Any) -> "AbstractArray":
        """Record an operator between a NumPy number and an array, as np.float64(2) * a; refuse the rest."""
        name = ufunc.__name__
        if any(isinstance(a, np.ndarray) for a in inputs):
            _refuse("uses a host array")
        if (
            method != "__call__"
            or name not in OPERATORS
            or not any(isinstance(a, np.generic) for a in inputs)
        ):
            _refuse_numpy(ufunc)
        return self.recorder.run(name, *inputs)

    def __array_function__(self, function: Any, *_: Any) -> NoReturn:
        """Refuse a NumPy function."""
        _refuse_numpy(function)

    def __getitem__(self, key: Any) -> "AbstractArray":
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(k, (AbstractArray, np.ndarray, list)) for k in keys):
            _refuse("indexes with an array; xp.take does that")
        return self.recorder.run("getitem", self, key)

    def __pow__(self, other: Any) -> "AbstractArray":
        square = isinstance(other, (int, float)) and other == 2
        return self.recorder.run("square", self) if square else self.recorder.run("pow", self, other)

    def __rpow__(self, other: Any) -> "AbstractArray":
        return self.recorder.run("pow", other, self)

    def _no_value(self, *_: Any) -> NoReturn:
        _refuse("reads a value on the host (if, float, int, print)")

    __bool__ = __float__ = __int__ = __index__ = __array__ = __iter__ = __len__ = __setitem__ = _no_value
    __hash__ = None  # type: ignore[assignment]


def _operators() -> None:
    def binary(name: str) -> tuple[Any, Any, Any]:
        def forward(self: AbstractArray, other: Any) -> AbstractArray:
            return self.recorder.run(name, self, other)

        def reflected(self: AbstractArray, other: Any) -> AbstractArray:
            return self.recorder.run(name, other, self)

        def inplace(self: AbstractArray, other: Any) -> AbstractArray:
            return self.recorder.write(name, self, other)

        return forward, reflected, inplace

    for short, name in ir.BINARY.items():
        for prefix, method in zip(("", "r", "i"), binary(name), strict=True):
            setattr(AbstractArray, f"__{prefix}{short}__", method)
    for short, name in ir.COMPARISON.items():
        setattr(AbstractArray, f"__{short}__", binary(name)[0])
    for short, name in ir.UNARY.items():
        setattr(AbstractArray, f"__{short}__", lambda self, name=name: self.recorder.run(name, self))


_operators()


def _paths(name: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """The arrays of a tree, each with its path, such as 's.rule.count'."""
    if isinstance(tree, dict):
        parts = [(f"{name}.{key}", each) for key, each in tree.items()]
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        parts = [(f"{name}.{key}", each) for key, each in zip(tree._fields, tree, strict=True)]
    elif isinstance(tree, (tuple, list)):
        parts = [(f"{name}[{k}]", each) for k, each in enumerate(tree)]
    else:
        yield name, tree
        return
    for path, each in parts:
        yield from _paths(path, each)


def _ref(a: Any) -> Any:
    if isinstance(a, np.generic):  # a rate, say, from np.logspace
        return a.item()
    return Ref(a.number) if isinstance(a, AbstractArray) else a


def _refuse_numpy(function: Any) -> NoReturn:
    name = next((n for n in ir.OPERATIONS if getattr(np, n, None) is function), function.__name__)
    _refuse(f"uses np.{name}: write xp.{name}")


def _refuse(what: str) -> NoReturn:
    msg = (
        f"a step that is recorded or captured cannot do this: it {what}. Use whole arrays, "
        f"functions of the Array API standard with static shapes, and xp.where in place of if"
    )
    raise NotRecorded(msg)


# ---------------------------------------------------------------- shapes
def _contiguous(shape: tuple[int, ...], dtype: Any) -> Any:
    """A C-contiguous array, made for its strides: its elements must not be read."""
    strides = [dtype.itemsize * prod(shape[k + 1 :]) for k in range(len(shape))]
    return np.lib.stride_tricks.as_strided(np.zeros((), dtype), shape, strides)


def _result(name: str, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """The shape and dtype of a result; the dtype is the one NumPy computes from arrays of one element."""
    if name in ir.VIEWS or (name in ir.CREATION and name not in ir.LIKE):
        return apply(name, args, kw)
    small = apply(name, mapped(args, lambda a: np.zeros((1,) * a.ndim, a.dtype)), kw)
    return abstract(_shape(name, args, kw), np.asarray(small).dtype)


def _shape(name: str, args: tuple[Any, ...], kw: dict[str, Any]) -> tuple[int, ...]:
    first = args[0]
    if name in ir.LIKE or name == "cumulative_sum":
        return tuple(first.shape)
    if name in ir.ELEMENTWISE:
        return np.broadcast_shapes(*(a.shape for a in args if isinstance(a, np.ndarray)))
    if name in ir.REDUCTIONS:
        return _reduced(first.shape, kw.get("axis"), keepdims=kw.get("keepdims", False))
    if name == "matmul":
        return (*first.shape[:-1], args[1].shape[-1])
    many = first[0].ndim + (name == "stack") if name in ("concat", "stack") else first.ndim
    axis = kw.get("axis", 0) % many
    if name == "take":
        return (*first.shape[:axis], *args[1].shape, *first.shape[axis + 1 :])
    shape = list(first[0].shape)
    if name == "concat":
        shape[axis] = sum(a.shape[axis] for a in first)
    else:
        shape.insert(axis, len(first))
    return tuple(shape)


def _axes(axis: Any, ndim: int) -> set[int]:
    """Axes by number; None stands for all."""
    axes = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return {a % ndim for a in axes} if ndim else set()


def _reduced(shape: tuple[int, ...], axis: Any, *, keepdims: bool) -> tuple[int, ...]:
    gone = _axes(axis, len(shape))
    kept = ((k, n) for k, n in enumerate(shape) if keepdims or k not in gone)
    return tuple(1 if k in gone else n for k, n in kept)
