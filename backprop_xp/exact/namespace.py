"""The Array API namespace of exact arrays.

On plain object arrays of fractions, `z * 0.5`, `maximum(z, 0)` or `zeros` silently produce floats and
ints; here every result is checked. A float stands for its shortest decimal (its repr): 0.01 is 1/100.
A function whose values are irrational, such as exp, raises an error.
"""

import builtins
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import BackpropError
from .array import ExactArray, fraction, fractions, pair, rational, raw, wrap

__all__ = ["ExactArray", "fraction", "rational"]

pi, newaxis = 3.141592653589793, None
bool, int32, int64, uint32 = (np.dtype(n) for n in ("bool", "int32", "int64", "uint32"))
float32 = float64 = None  # formulas compare dtypes with these; no exact array has either


def _power(a: Any, b: Any) -> Any:
    if b.denominator != 1:
        msg = f"an exact power needs an integer exponent, got {b}"
        raise BackpropError(msg)
    return a ** int(b)


def _binary(ufunc: Callable[..., Any], *, division: Any = False) -> Callable[[Any, Any], ExactArray]:
    def apply(a: Any, b: Any) -> ExactArray:
        try:
            return wrap(ufunc(*pair(a, b, division=division)))
        except ZeroDivisionError as error:
            msg = "an exact division by zero has no value"
            raise BackpropError(msg) from error

    return apply


def _powers(a: Any, b: Any) -> Any:
    exact = object in (getattr(a, "dtype", None), getattr(b, "dtype", None))
    return np.frompyfunc(_power, 2, 1)(a, b) if exact else np.power(a, b)


pow = _binary(_powers)
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
        return wrap(ufunc(raw(x)))

    return apply


negative, positive, abs = _unary(np.negative), _unary(lambda x: x), _unary(np.abs)
bitwise_invert = logical_not = _unary(np.invert)
square = _unary(lambda x: x * x)
sign = _unary(lambda x: x**0 * np.sign(x))  # x**0 keeps the type
isfinite = _unary(lambda x: np.ones(x.shape, dtype="bool"))
isnan = isinf = _unary(lambda x: np.zeros(x.shape, dtype="bool"))


def _operator(
    function: Callable[[Any, Any], ExactArray], *, swapped: Any = False
) -> Callable[..., ExactArray]:
    return lambda a, b: function(b, a) if swapped else function(a, b)


_BINARY = {
    "add": add, "sub": subtract, "mul": multiply, "truediv": divide, "pow": pow, "mod": remainder,
    "floordiv": floor_divide, "and": bitwise_and, "or": bitwise_or, "xor": bitwise_xor,
    "lshift": bitwise_left_shift, "rshift": bitwise_right_shift,
}  # fmt: skip
_COMPARISON = {
    "eq": equal, "ne": not_equal, "lt": less, "le": less_equal, "gt": greater, "ge": greater_equal,
}  # fmt: skip
_UNARY = {"neg": negative, "pos": positive, "abs": abs, "invert": bitwise_invert}
for _name, _function in (_BINARY | _COMPARISON).items():
    setattr(ExactArray, f"__{_name}__", _operator(_function))
for _name, _function in _BINARY.items():
    setattr(ExactArray, f"__r{_name}__", _operator(_function, swapped=True))
for _name, _unary_function in _UNARY.items():
    setattr(ExactArray, f"__{_name}__", _unary_function)


# ---------------------------------------------------------------- creation
def _of_type(values: Any, dtype: Any) -> ExactArray:
    """NumPy values converted to a dtype; without one, integers and booleans keep theirs."""
    if dtype is None:
        dtype = values.dtype if values.dtype.kind in "biu" else rational
    return ExactArray(fractions(values) if dtype is rational else values.astype(dtype))


def asarray(data: Any, *, dtype: Any = None, device: Any = None, copy: Any = None) -> ExactArray:
    """Numbers as an exact array; a float stands for its shortest decimal, so 0.1 is 1/10.

    Args:
        data: nested lists of numbers or of text such as "1/3", a NumPy array, or an exact array.
        dtype: `rational`, an integer dtype or bool. By default lists of numbers become fractions;
            integer and boolean NumPy arrays, and lists of booleans, stay what they are.
        device: ignored; there is only one.
        copy: ignored; exact arrays are immutable.

    Raises:
        BackpropError: the data are not finite numbers.

    >>> asarray([[0.5, 1, "1/3"]])
    exact.asarray([['1/2', '1', '1/3']])
    """
    if isinstance(data, ExactArray):
        return data if dtype in (None, data.dtype) else _of_type(raw(data), dtype)
    if isinstance(data, (np.ndarray, np.generic)):
        return _of_type(np.asarray(data), dtype)
    values = np.asarray(data, dtype=object)
    if dtype is None and values.size and builtins.all(isinstance(v, builtins.bool) for v in values.flat):
        dtype = bool
    return _of_type(values, rational if dtype is None else dtype)


def _creation(make: Callable[..., Any]) -> Callable[..., ExactArray]:
    def function(*args: Any, dtype: Any = None, device: Any = None) -> ExactArray:
        return _of_type(np.asarray(make(*args)), rational if dtype is None else dtype)

    return function


zeros = _creation(lambda shape: np.zeros(shape, dtype=int))
ones = _creation(lambda shape: np.ones(shape, dtype=int))
full = _creation(lambda shape, value: np.full(shape, raw(value) if isinstance(value, ExactArray) else value))
eye = _creation(lambda n: np.eye(n, dtype=int))


def arange(
    start: int, stop: int | None = None, step: int = 1, *, dtype: Any = None, device: Any = None
) -> ExactArray:
    """Integers in a range."""
    values = np.arange(0 if stop is None else start, start if stop is None else stop, step)
    return _of_type(values, int64 if dtype is None else dtype)


def zeros_like(x: ExactArray, *, dtype: Any = None, device: Any = None) -> ExactArray:
    """Zeros of the shape and dtype of x."""
    return zeros(x.shape, dtype=dtype or x.dtype)


def ones_like(x: ExactArray, *, dtype: Any = None, device: Any = None) -> ExactArray:
    """Ones of the shape and dtype of x."""
    return ones(x.shape, dtype=dtype or x.dtype)


def astype(x: ExactArray, dtype: Any, *, copy: Any = True) -> ExactArray:
    """The same numbers in another dtype; fractions become integers by rounding towards zero."""
    return _of_type(raw(x), dtype)


def isdtype(dtype: Any, kind: Any) -> Any:
    """Whether a dtype is of a kind of the Array API standard; rational counts as 'real floating'."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if dtype is rational:
        return builtins.any(k in ("real floating", "numeric") or k is rational for k in kinds)
    return builtins.any(np.isdtype(dtype, k) for k in kinds if k is not rational)


# ---------------------------------------------------------------- shapes
def reshape(x: ExactArray, shape: Any, *, copy: Any = None) -> ExactArray:
    """The same elements in another shape."""
    return ExactArray(raw(x).reshape(shape))


def _shaping(function: Callable[..., Any]) -> Callable[..., ExactArray]:
    def apply(x: ExactArray, *args: Any, **kw: Any) -> ExactArray:
        return ExactArray(function(raw(x), *args, **kw))

    return apply


permute_dims, expand_dims = _shaping(np.transpose), _shaping(np.expand_dims)
squeeze, broadcast_to, flip = _shaping(np.squeeze), _shaping(np.broadcast_to), _shaping(np.flip)
matrix_transpose = _shaping(lambda x: np.swapaxes(x, -1, -2))


def _joining(function: Callable[..., Any]) -> Callable[..., ExactArray]:
    def apply(arrays: Any, *, axis: int | None = 0) -> ExactArray:
        parts = [raw(a) for a in arrays]
        mixed = builtins.any(p.dtype == object for p in parts)
        return ExactArray(
            function([fractions(p) if mixed and p.dtype != object else p for p in parts], axis=axis)
        )

    return apply


concat, stack = _joining(np.concatenate), _joining(np.stack)


def take(x: ExactArray, indices: ExactArray, *, axis: int | None = None) -> ExactArray:
    """The entries of an axis at these indices."""
    return ExactArray(np.take(raw(x), raw(indices), axis=axis))


# ---------------------------------------------------------------- products, reductions, selection
def matmul(a: ExactArray, b: ExactArray) -> ExactArray:
    """The matrix product, without rounding."""
    return wrap(np.matmul(*pair(a, b)))


for _name, _swapped in (("matmul", False), ("rmatmul", True)):
    setattr(ExactArray, f"__{_name}__", _operator(matmul, swapped=_swapped))


def _reduction(function: Callable[..., Any]) -> Callable[..., ExactArray]:
    def apply(x: ExactArray, *, axis: Any = None, keepdims: Any = False) -> ExactArray:
        return wrap(function(raw(x), axis=axis, keepdims=keepdims))

    return apply


sum, max, min, prod = _reduction(np.sum), _reduction(np.max), _reduction(np.min), _reduction(np.prod)
all, any = _reduction(np.all), _reduction(np.any)
argmax, argmin = _reduction(np.argmax), _reduction(np.argmin)


def mean(x: ExactArray, *, axis: Any = None, keepdims: Any = False) -> ExactArray:
    """Σ x / n."""
    total = sum(x, axis=axis, keepdims=keepdims)
    return divide(total, x.size // total.size)


def where(condition: ExactArray, a: Any, b: Any) -> ExactArray:
    """Entries of a where the condition holds, else of b."""
    return wrap(np.where(raw(condition), *pair(a, b)))


ExactArray.namespace = sys.modules[__name__]


def _irrational(name: str) -> Callable[..., ExactArray]:
    def function(*args: Any, **kw: Any) -> ExactArray:
        msg = (
            f"{name} of a fraction is not a fraction: on the exact backend the activations must be "
            "rational, such as identity, relu or softsign, the loss a squared or absolute error, Huber, "
            "Quantile or Hinge; else use backend='numpy' with dtype='float64'"
        )
        raise BackpropError(msg)

    return function


exp, expm1, log, log1p, sqrt, tanh, sin, cos = (
    _irrational(n) for n in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos")
)
