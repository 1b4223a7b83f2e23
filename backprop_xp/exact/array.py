"""The array type of the exact backend. It holds fractions, integers or booleans; every result is checked."""

import operator
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np

from ..errors import BackpropError
from ..number import from_text


class _RationalType:
    """The dtype of exact numbers."""

    def __repr__(self) -> str:
        return "rational"

    def __reduce__(self) -> str:
        return "rational"  # the only instance: code compares dtypes by `is`


rational = _RationalType()


def fraction(value: Any) -> Fraction:
    """One number as a fraction; a float stands for its shortest decimal, so 0.01 is 1/100.

    Raises:
        BackpropError: the value is not a finite number, nor the text of one.

    >>> fraction(0.01), fraction("-3000/11600000")
    (Fraction(1, 100), Fraction(-3, 11600))
    """
    try:
        if isinstance(value, (np.floating, np.integer)):
            return Fraction(str(value))
        if isinstance(value, float):
            return Fraction(repr(value))
        return from_text(value) if isinstance(value, str) else Fraction(value)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        msg = f"an exact number must be a finite int, float, Fraction or text such as '1/3', got {value!r}"
        raise BackpropError(msg) from error


_each = np.frompyfunc(fraction, 1, 1)


def fractions(data: Any) -> Any:
    """Numbers of any kind as a NumPy object array of fractions; floats as in `fraction`."""
    data = np.asarray(data)
    return np.asarray(_each(data.astype(str) if data.dtype.kind == "f" else data), dtype=object)


class ExactArray:
    """An immutable array of fractions, of integers or of booleans.

    Raises:
        BackpropError: the data are of another kind.

    >>> from backprop_xp import exact
    >>> third = exact.asarray(["1/3", 2])
    >>> third * 0.5, third.to_numpy().dtype
    (exact.asarray(['1/6', '1']), dtype('float64'))
    """

    __slots__ = ("_data", "dtype")
    namespace: Any = None  # set by the module `namespace`, which defines the operators of this type

    def __init__(self, data: Any) -> None:
        data = np.asarray(data)
        if data.dtype == object:
            wrong = {type(v).__name__ for v in data.flat if type(v) is not Fraction}
            if wrong:
                msg = (
                    f"exact arrays of objects must hold fractions alone, got {sorted(wrong)}: "
                    "convert them with bp.exact.asarray(...)"
                )
                raise BackpropError(msg)
        elif data.dtype.kind not in "biu":
            msg = (
                f"exact arrays must hold fractions, integers or booleans, got {data.dtype}: "
                "convert it with bp.exact.asarray(...)"
            )
            raise BackpropError(msg)
        self._data = data
        self.dtype = rational if data.dtype == object else data.dtype

    # ------------------------------------------------------------ required by the standard
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

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> NoReturn:
        """Refuse expressions that mix exact and NumPy arrays, and NumPy's functions."""
        for each in inputs:
            _operand(each)
        refuse_numpy(ufunc)

    def __array_function__(self, function: Any, *_: Any) -> NoReturn:
        refuse_numpy(function)

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

    # ------------------------------------------------------------ conversion
    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self._data.tolist()

    def to_numpy(self) -> Any:
        """A NumPy array: fractions rounded to float64, integers and booleans unchanged."""
        return self._data.astype(np.float64) if self.dtype is rational else self._data

    def __repr__(self) -> str:
        shown = np.vectorize(_text, otypes=[object])(self._data) if self._data.size else self._data
        return f"exact.asarray({shown.tolist()})"


def _text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes integers of at most 4,300 digits
        digits = max(value.numerator.bit_length(), value.denominator.bit_length()) * 0.30103
        return f"a fraction of some {digits:,.0f} digits"


def refuse_numpy(function: Any) -> NoReturn:
    """Refuse a NumPy function.

    Raises:
        BackpropError: always; it names the function to write.
    """
    known = vars(ExactArray.namespace)
    name = next((n for n in known if getattr(np, n, None) is function), function.__name__)
    msg = f"np.{name} does not take exact arrays: write xp.{name}, of the namespace that a layer receives"
    raise BackpropError(msg)


def wrap(data: Any) -> ExactArray:
    """The result of a NumPy operation as an exact array; plain ints in it (empty sums) become fractions."""
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
        f"exact arrays combine only with exact arrays and Python numbers, got {type(value).__name__}: "
        "convert it with bp.exact.asarray(...)"
    )
    raise BackpropError(msg)


def pair(a: Any, b: Any, *, division: Any = False) -> tuple[Any, Any]:
    """The NumPy data of two operands; as fractions if one of them holds fractions, or for a division."""
    a, b = _operand(a), _operand(b)
    exact = division or any(isinstance(v, ExactArray) and v.dtype is rational for v in (a, b))

    def values(v: Any) -> Any:
        own = v._data if isinstance(v, ExactArray) else v
        return own if not exact or (isinstance(v, ExactArray) and v.dtype is rational) else fractions(own)

    return values(a), values(b)


def raw(x: Any) -> Any:
    """The NumPy data of an exact array.

    Raises:
        BackpropError: x is not an exact array.
    """
    if not isinstance(x, ExactArray):
        msg = f"expected an exact array, got {type(x).__name__}: convert it with bp.exact.asarray(...)"
        raise BackpropError(msg)
    return x._data
