"""Numbers as settings: floats, fractions, and text such as "1/100", which the exact backend keeps exact."""

import re
from collections.abc import Mapping
from fractions import Fraction
from math import inf
from numbers import Real
from typing import Any

from .arrays import Namespace
from .errors import BackpropError

_LARGEST_EXPONENT = 4000  # digits; Python itself reads integers of at most 4,300
_LONGEST = 60  # characters of a setting in an error


def from_text(text: str) -> Fraction:
    """A text such as "1/100", "0.01" or "1e-2" as a fraction.

    Raises:
        ValueError: the text is not a number, or has more than 4,000 digits, which would take hours.
        ZeroDivisionError: the denominator is 0.

    >>> from_text("-3/4"), from_text("1e-2")
    (Fraction(-3, 4), Fraction(1, 100))
    """
    exponent = re.search(r"[eE]([-+]?\d+)", text)
    if exponent and (len(exponent[1]) > 6 or abs(int(exponent[1])) > _LARGEST_EXPONENT):
        msg = f"an exponent beyond {_LARGEST_EXPONENT:,}"
        raise ValueError(msg)
    return Fraction(text)


def is_number(value: Any) -> bool:
    """Whether a setting is a real number; a boolean is not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def number(value: Any, *, xp: Namespace) -> Any:
    """A fraction as a float, except on the exact backend, which has no floats; other numbers unchanged.

    >>> import numpy as np, backprop_xp as bp
    >>> number(Fraction("1/4"), xp=np), number(Fraction("1/4"), xp=bp.exact.namespace)
    (0.25, Fraction(1, 4))
    """
    return float(value) if isinstance(value, Fraction) and xp.float32 is not None else value


def read_text(settings: Any, *names: str) -> None:
    """Replace settings of a frozen dataclass that are text, such as "1/100", by fractions; in mappings too.

    Raises:
        BackpropError: a text is not a number.
    """
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, Mapping):
            object.__setattr__(settings, name, {key: _read(each, name) for key, each in value.items()})
        else:
            object.__setattr__(settings, name, _read(value, name))


def _read(value: Any, name: str) -> Any:
    try:
        return from_text(value) if isinstance(value, str) else value
    except (ValueError, ZeroDivisionError) as error:
        msg = f"the text of a {name} must be a number such as '1/100' or '0.01', got {value!r}"
        raise BackpropError(msg) from error


def check_positive(value: Any, what: str, example: str) -> None:
    """Check that a setting is a positive finite number."""
    if not is_number(value) or not 0 < _as_float(value) < inf:
        msg = f"{what} must be a positive finite number such as {example}, got {_shown(value)}"
        raise BackpropError(msg)


def check_not_negative(value: Any, what: str) -> None:
    """Check that a setting is a finite number, 0 or more."""
    if not is_number(value) or not 0 <= _as_float(value) < inf:
        msg = f"{what} must be a number, 0 or more, got {_shown(value)}"
        raise BackpropError(msg)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # a fraction or an integer beyond the largest float
        return inf if value > 0 else -inf


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, Fraction) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
