"""The array type of the exact backend: fractions, integers or booleans, checked on every result."""

import operator
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import BackpropError


class _RationalType:
    """The dtype of exact numbers."""

    def __repr__(self) -> str:
        return "rational"


rational = _RationalType()


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


_each = np.frompyfunc(fraction, 1, 1)


def fractions(data: Any) -> Any:
    """A NumPy object array of fractions, whatever numbers came; floats of any width as written."""
    data = np.asarray(data)
    return np.asarray(_each(data.astype(str) if data.dtype.kind == "f" else data), dtype=object)


class ExactArray:
    """An array of fractions, of integers or of booleans. Values never change in place."""

    __slots__ = ("_data", "dtype")
    namespace: Any = None  # the module of that name, which sets it: it defines the operators on this type
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
    device = "cpu"

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return tuple(self._data.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return int(self._data.ndim)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(self._data.size)

    @property
    def T(self) -> "ExactArray":  # noqa: N802 (the standard's name)
        """The transpose of a matrix."""
        return ExactArray(self._data.T)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """The module `namespace`."""
        return ExactArray.namespace

    def __getitem__(self, key: Any) -> "ExactArray":
        keys = key if isinstance(key, tuple) else (key,)
        return wrap(self._data[tuple(k._data if isinstance(k, ExactArray) else k for k in keys)])

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


def wrap(data: Any) -> ExactArray:
    """A result of a NumPy operation, whose sums of nothing may be plain ints."""
    data = np.asarray(data, dtype=object if type(data) is int else None)
    if data.dtype == object:
        for k, value in enumerate(data.flat):
            if type(value) is int:
                data.flat[k] = Fraction(value)
    return ExactArray(data)


def _operand(value: Any) -> Any:
    if isinstance(value, ExactArray):
        return value
    if isinstance(value, (Fraction, float)) and not isinstance(value, np.generic):
        return ExactArray(fractions(value))
    if isinstance(value, int):
        return value
    msg = (
        f"exact arrays go with exact arrays and Python numbers, got {type(value).__name__}: "
        "write bp.exact.asarray(it)"
    )
    raise BackpropError(msg)


def pair(a: Any, b: Any, *, division: Any = False) -> tuple[Any, Any]:
    """The data of two operands, both of fractions or neither."""
    a, b = _operand(a), _operand(b)
    exact = division or any(isinstance(v, ExactArray) and v.dtype is rational for v in (a, b))

    def values(v: Any) -> Any:
        own = v._data if isinstance(v, ExactArray) else v
        return own if not exact or (isinstance(v, ExactArray) and v.dtype is rational) else fractions(own)

    return values(a), values(b)


def raw(x: Any) -> Any:
    """The NumPy array in which an exact array holds its numbers."""
    if not isinstance(x, ExactArray):
        msg = f"expected an exact array, got {type(x).__name__}: write bp.exact.asarray(it)"
        raise BackpropError(msg)
    return x._data
