"""Exact numbers: an array type over fractions, and its Array API namespace.

Thin, over NumPy object arrays of `fractions.Fraction`. On plain object arrays `z * 0.5`,
`maximum(z, 0)` or `zeros` leak floats and ints silently; here every result is checked. A float
handed in means the decimal that was written (its shortest repr): 0.01 is 1/100. Integer and boolean
arrays are NumPy's own, in the same wrapper. A function with no rational value is an error.
"""

import builtins
import operator
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from ..arrays import BackpropError

pi, newaxis = 3.141592653589793, None


class _RationalType:
    """The dtype of exact numbers."""

    def __repr__(self) -> str:
        return "rational"


rational = _RationalType()
bool, int32, int64, uint32 = (np.dtype(n) for n in ("bool", "int32", "int64", "uint32"))
float32 = float64 = None  # formulas compare dtypes with them; nothing here has either


def fraction(value: Any) -> Fraction:
    """One number as a fraction; a float means the decimal that was written.

    >>> fraction(0.01), fraction("-3000/11600000")
    (Fraction(1, 100), Fraction(-3, 11600))
    """
    try:
        if isinstance(value, (np.floating, np.integer)):
            return Fraction(str(value))
        if isinstance(value, float):
            return Fraction(repr(value))
        return Fraction(value)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        msg = f"an exact number is a finite int, float, Fraction or text such as '1/3', got {value!r}"
        raise BackpropError(msg) from error


_to_fractions = np.frompyfunc(fraction, 1, 1)


def _fractions(data: Any) -> Any:
    """A NumPy object array of fractions, whatever numbers came."""
    return np.asarray(_to_fractions(np.asarray(data)), dtype=object)


class ExactArray:
    """An array of fractions, of integers or of booleans. Values never change in place."""

    __slots__ = ("_data", "dtype")
    __array_ufunc__ = None  # NumPy leaves mixed expressions to us, and we refuse them

    def __init__(self, data: Any) -> None:
        data = np.asarray(data)
        if data.dtype == object:
            wrong = {type(v).__name__ for v in data.flat if type(v) is not Fraction}
            if wrong:
                msg = f"exact results hold fractions alone, got {sorted(wrong)}"
                raise BackpropError(msg)
        elif data.dtype.kind not in "biu":
            msg = f"exact arrays hold fractions, integers or booleans, got {data.dtype}"
            raise BackpropError(msg)
        self._data = data
        self.dtype = rational if data.dtype == object else data.dtype

    # ------------------------------------------------------------ what the standard asks for
    shape = property(lambda self: self._data.shape)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)
    device = property(lambda self: "cpu")

    @property
    def T(self) -> "ExactArray":  # noqa: N802 (the standard's name)
        """The transpose of a matrix."""
        return matrix_transpose(self)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """This module."""
        return __import__(__name__, fromlist=["asarray"])

    def __getitem__(self, key: Any) -> "ExactArray":
        keys = key if isinstance(key, tuple) else (key,)
        return _wrap(self._data[tuple(k._data if isinstance(k, ExactArray) else k for k in keys)])

    def __iter__(self) -> Iterator["ExactArray"]:
        return (self[k] for k in range(len(self)))

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> Any:
        return self._data.__bool__()

    def __int__(self) -> int:
        return int(self._data.item())

    def __index__(self) -> int:
        return operator.index(self._data.item())

    def __float__(self) -> float:
        return float(self._data.item())

    __hash__ = None  # type: ignore[assignment]

    # ------------------------------------------------------------ on the way out
    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self._data.tolist()

    def to_numpy(self) -> Any:
        """A NumPy array: rationals rounded to float64, others as they are."""
        return self._data.astype(np.float64) if self.dtype is rational else self._data

    def __repr__(self) -> str:
        shown = np.vectorize(str, otypes=[object])(self._data) if self._data.size else self._data
        return f"exact.asarray({shown.tolist()})"


def _wrap(data: Any) -> ExactArray:
    """A result of a NumPy operation, whose sums of nothing may be plain ints."""
    data = np.asarray(data)
    if data.dtype == object:
        for k, value in enumerate(data.flat):
            if type(value) is int:
                data.flat[k] = Fraction(value)
    return ExactArray(data)


def _operand(value: Any) -> Any:
    if isinstance(value, ExactArray):
        return value
    if isinstance(value, (Fraction, float)) and not isinstance(value, np.generic):
        return ExactArray(_fractions(value))
    if isinstance(value, int):
        return value
    msg = f"exact arrays go with exact arrays and Python numbers, got {type(value).__name__}: write bp.exact.asarray(it)"
    raise BackpropError(msg)


def _pair(a: Any, b: Any, *, division: Any = False) -> tuple[Any, Any]:
    """The data of two operands, both of fractions or neither."""
    a, b = _operand(a), _operand(b)
    exact = division or builtins.any(isinstance(v, ExactArray) and v.dtype is rational for v in (a, b))

    def data(v: Any) -> Any:
        own = v._data if isinstance(v, ExactArray) else v  # noqa: SLF001
        return own if not exact or (isinstance(v, ExactArray) and v.dtype is rational) else _fractions(own)

    return data(a), data(b)


def _power(a: Any, b: Any) -> Any:
    if b.denominator != 1:
        msg = f"an exact power has an integer exponent, got {b}"
        raise BackpropError(msg)
    return a ** int(b)


def _binary(ufunc: Callable[..., Any], *, division: Any = False) -> Callable[[Any, Any], ExactArray]:
    def apply(a: Any, b: Any) -> ExactArray:
        try:
            return _wrap(ufunc(*_pair(a, b, division=division)))
        except ZeroDivisionError as error:
            msg = "an exact division by zero has no value"
            raise BackpropError(msg) from error

    return apply


def pow(a: Any, b: Any) -> ExactArray:
    """The power a^b, for integer exponents."""
    left, right = _pair(a, b)
    exact = getattr(left, "dtype", None) == object or getattr(right, "dtype", None) == object
    return _wrap(np.frompyfunc(_power, 2, 1)(left, right) if exact else np.power(left, right))


add, subtract, multiply = _binary(np.add), _binary(np.subtract), _binary(np.multiply)
divide = _binary(np.true_divide, division=True)
remainder, floor_divide = _binary(np.remainder), _binary(np.floor_divide)
bitwise_and, bitwise_or, bitwise_xor = (_binary(f) for f in (np.bitwise_and, np.bitwise_or, np.bitwise_xor))
bitwise_left_shift, bitwise_right_shift = _binary(np.left_shift), _binary(np.right_shift)
equal, not_equal = _binary(np.equal), _binary(np.not_equal)
less, less_equal = _binary(np.less), _binary(np.less_equal)
greater, greater_equal = _binary(np.greater), _binary(np.greater_equal)
maximum, minimum = _binary(np.maximum), _binary(np.minimum)
logical_and, logical_or = _binary(np.logical_and), _binary(np.logical_or)


def _unary(ufunc: Callable[[Any], Any]) -> Callable[[ExactArray], ExactArray]:
    def apply(x: ExactArray) -> ExactArray:
        return _wrap(ufunc(_data(x)))

    return apply


def _data(x: Any) -> Any:
    if not isinstance(x, ExactArray):
        msg = f"expected an exact array, got {type(x).__name__}: write bp.exact.asarray(it)"
        raise BackpropError(msg)
    return x._data  # noqa: SLF001


negative, positive, abs = _unary(np.negative), _unary(lambda x: x), _unary(np.abs)
bitwise_invert = logical_not = _unary(np.invert)
square = _unary(lambda x: x * x)
isfinite = _unary(lambda x: np.ones(x.shape, dtype="bool"))
isnan = isinf = _unary(lambda x: np.zeros(x.shape, dtype="bool"))


def _operator(
    function: Callable[[Any, Any], ExactArray], *, swapped: Any = False
) -> Callable[..., ExactArray]:
    return lambda a, b: function(b, a) if swapped else function(a, b)


for _name, _function in {
    "add": add,
    "sub": subtract,
    "mul": multiply,
    "truediv": divide,
    "pow": pow,
    "mod": remainder,
    "floordiv": floor_divide,
    "and": bitwise_and,
    "or": bitwise_or,
    "xor": bitwise_xor,
    "lshift": bitwise_left_shift,
    "rshift": bitwise_right_shift,
}.items():
    setattr(ExactArray, f"__{_name}__", _operator(_function))
    setattr(ExactArray, f"__r{_name}__", _operator(_function, swapped=True))
for _name, _function in {
    "eq": equal,
    "ne": not_equal,
    "lt": less,
    "le": less_equal,
    "gt": greater,
    "ge": greater_equal,
}.items():
    setattr(ExactArray, f"__{_name}__", _operator(_function))
for _name, _unary_function in {
    "neg": negative,
    "pos": positive,
    "abs": abs,
    "invert": bitwise_invert,
}.items():
    setattr(ExactArray, f"__{_name}__", _unary_function)


# ---------------------------------------------------------------- making arrays
def _of_type(data: Any, dtype: Any) -> ExactArray:
    """NumPy data as the dtype asked for; without one, numbers that are no integers are fractions."""
    if dtype is None:
        dtype = data.dtype if data.dtype.kind in "biu" else rational
    if dtype is rational:
        return ExactArray(
            data
            if data.dtype == object and builtins.all(type(v) is Fraction for v in data.flat)
            else _fractions(data)
        )
    return ExactArray(data.astype(dtype))


def asarray(data: Any, *, dtype: Any = None, device: Any = None, copy: Any = None) -> ExactArray:
    """Numbers as an exact array: nested lists, NumPy arrays; floats mean the decimal written.

    >>> asarray([[0.5, 1]], dtype=rational)
    exact.asarray([['1/2', '1']])
    """
    if isinstance(data, ExactArray):
        return data if dtype in (None, data.dtype) else _of_type(data._data, dtype)
    if isinstance(data, np.ndarray) and data.dtype == object:
        return ExactArray(_fractions(data))
    if not isinstance(data, (np.ndarray, np.generic)):
        whole = np.asarray(data, dtype=object)
        kinds = {type(v) for v in whole.flat}
        integers = kinds and kinds <= {int}
        data = np.asarray(data) if integers or kinds == {type(True)} else _fractions(whole)
    return _of_type(np.asarray(data), dtype)


def _made(make: Callable[..., Any]) -> Callable[..., ExactArray]:
    def function(*args: Any, dtype: Any = None, device: Any = None) -> ExactArray:
        return _of_type(np.asarray(make(*args)), rational if dtype is None else dtype)

    return function


zeros, ones = _made(lambda shape: np.zeros(shape, dtype=int)), _made(lambda shape: np.ones(shape, dtype=int))
full = _made(
    lambda shape, value: np.full(
        shape,
        value._data if isinstance(value, ExactArray) else value,
        dtype=None if type(value) is int else object,
    )
)
eye = _made(lambda n: np.eye(n, dtype=int))


def arange(
    start: int, stop: int | None = None, step: int = 1, *, dtype: Any = None, device: Any = None
) -> ExactArray:
    """Integers in a range."""
    data = np.arange(0 if stop is None else start, start if stop is None else stop, step)
    return _of_type(data, int64 if dtype is None else dtype)


def zeros_like(x: ExactArray, *, dtype: Any = None, device: Any = None) -> ExactArray:
    """Zeros of the shape and dtype of x."""
    return zeros(x.shape, dtype=dtype or x.dtype)


def ones_like(x: ExactArray, *, dtype: Any = None, device: Any = None) -> ExactArray:
    """Ones of the shape and dtype of x."""
    return ones(x.shape, dtype=dtype or x.dtype)


def astype(x: ExactArray, dtype: Any, *, copy: Any = True) -> ExactArray:
    """Integers and booleans as fractions, or fractions as integers (towards zero)."""
    return _of_type(_data(x), dtype)


def isdtype(dtype: Any, kind: Any) -> Any:
    """Whether a dtype is of a kind, in the standard's words; rational counts as 'real floating'."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if dtype is rational:
        return builtins.any(k in ("real floating", "numeric") or k is rational for k in kinds)
    return builtins.any(np.isdtype(dtype, k) for k in kinds if k is not rational)


# ---------------------------------------------------------------- shapes
def reshape(x: ExactArray, shape: Any, *, copy: Any = None) -> ExactArray:
    """The same elements in another shape."""
    return ExactArray(_data(x).reshape(shape))


def _shaping(function: Callable[..., Any]) -> Callable[..., ExactArray]:
    def apply(x: ExactArray, *args: Any, **kw: Any) -> ExactArray:
        return ExactArray(function(_data(x), *args, **kw))

    return apply


permute_dims, expand_dims = _shaping(np.transpose), _shaping(np.expand_dims)
squeeze, broadcast_to, flip = _shaping(np.squeeze), _shaping(np.broadcast_to), _shaping(np.flip)
matrix_transpose = _shaping(lambda x: np.swapaxes(x, -1, -2))


def _joining(function: Callable[..., Any]) -> Callable[..., ExactArray]:
    def apply(arrays: Any, *, axis: int | None = 0) -> ExactArray:
        parts = [_data(a) for a in arrays]
        mixed = builtins.any(p.dtype == object for p in parts)
        return ExactArray(
            function([_fractions(p) if mixed and p.dtype != object else p for p in parts], axis=axis)
        )

    return apply


concat, stack = _joining(np.concatenate), _joining(np.stack)


def take(x: ExactArray, indices: ExactArray, *, axis: int | None = None) -> ExactArray:
    """The entries of an axis at these indices."""
    return ExactArray(np.take(_data(x), _data(indices), axis=axis))


# ---------------------------------------------------------------- products, sums, choices
def matmul(a: ExactArray, b: ExactArray) -> ExactArray:
    """The matrix product, without rounding."""
    return _wrap(np.matmul(*_pair(a, b)))


ExactArray.__matmul__ = _operator(matmul)  # type: ignore[attr-defined]


def _reduction(function: Callable[..., Any]) -> Callable[..., ExactArray]:
    def apply(x: ExactArray, *, axis: Any = None, keepdims: Any = False) -> ExactArray:
        return _wrap(function(_data(x), axis=axis, keepdims=keepdims))

    return apply


sum, max, min, prod = _reduction(np.sum), _reduction(np.max), _reduction(np.min), _reduction(np.prod)
all, any = _reduction(np.all), _reduction(np.any)
argmax, argmin = _reduction(np.argmax), _reduction(np.argmin)


def mean(x: ExactArray, *, axis: Any = None, keepdims: Any = False) -> ExactArray:
    """Σ x / n."""
    total = sum(x, axis=axis, keepdims=keepdims)
    return total / (x.size // total.size)


def where(condition: ExactArray, a: Any, b: Any) -> ExactArray:
    """Entries of a where the condition holds, else of b."""
    return _wrap(np.where(_data(condition), *_pair(a, b)))


def _irrational(name: str) -> Callable[..., ExactArray]:
    def function(*args: Any, **kw: Any) -> ExactArray:
        msg = (
            f"{name} of a fraction is no fraction: the exact backend runs nets of identity, relu and "
            "leaky_relu with squared or absolute errors; use backend='numpy' with dtype='float64'"
        )
        raise BackpropError(msg)

    return function


exp, expm1, log, log1p, sqrt, tanh, sin, cos = (
    _irrational(n) for n in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos")
)
