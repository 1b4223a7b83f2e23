"""Settings of a unit: it is copied, pickled, compared and hashed by them, and they do not change."""

import pickle
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from io import BytesIO
from types import FunctionType
from typing import Any

from ..printed import settings
from .report import CheckFailed, told

FROZEN = "make the class a @dataclass(frozen=True) of its settings"


def settings_hold(unit: Any) -> str:
    """A unit equals a pickled copy of itself, has the same hash, and its settings cannot be changed.

    Compiled steps are cached by the settings of their units, and model files hold settings alone.

    Raises:
        CheckFailed: one of these does not hold.
    """
    try:
        copy = pickled(unit)
    except Exception as error:
        msg = f"its settings cannot be pickled ({told(error)}): keep numbers, text and named functions"
        raise CheckFailed(msg) from error
    own = {f.name: getattr(unit, f.name) for f in fields(unit)} if is_dataclass(unit) else {}
    hashed = not any(isinstance(value, Mapping) for value in own.values())  # such as rates by layer
    try:
        same = bool(copy == unit) and (not hashed or hash(copy) == hash(unit))
    except (TypeError, ValueError) as error:
        msg = f"its settings cannot be compared or hashed ({told(error)}): keep numbers, text and tuples"
        raise CheckFailed(msg) from error
    if not same:
        msg = f"a copy with the same settings is not equal to it: {FROZEN}"
        raise CheckFailed(msg)
    for name, value in own.items():
        try:
            setattr(copy, name, value)
        except (AttributeError, TypeError):
            continue
        msg = f"its setting '{name}' can be changed after a step was compiled with it: {FROZEN}"
        raise CheckFailed(msg)
    return f"equal and hashed as {settings(unit)}, pickled, unchangeable"


def pickled(unit: Any) -> Any:
    """A copy made by pickling; classes and named functions stay the same objects."""
    held: list[Any] = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> int | None:
            function = isinstance(value, FunctionType) and value.__name__ != "<lambda>"
            if not function and not isinstance(value, type):
                return None
            held.append(value)
            return len(held) - 1

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, k: int) -> Any:
            return held[k]

    memory = BytesIO()
    Pickler(memory).dump(unit)
    memory.seek(0)
    return Unpickler(memory).load()
