"""Nets, losses and rules as data: plain JSON in which every class is named from an allow-list.

A unit (a layer, activation, loss, schedule or update rule) is {"unit": name, setting: value, …}; a net, its
nodes and the learner are written in the same way. The name of one of this library's classes is its module
and class ("layers.Dense"). A class of your own is written by its class name alone, and must be given when
the file is read. Names are not looked up anywhere else, and nothing is imported. Fractions, infinity,
mappings and sets are written as objects with one entry; all numbers are restored exactly.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from functools import cache
from inspect import isabstract
from math import isfinite
from numbers import Integral, Rational, Real
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from .. import activations, layers, losses, schedules, updates
from ..errors import BackpropError, FileError, listed
from ..learner import Learner
from ..net import Net, Node
from .safetensors import parse_json

ROOMS = (activations, layers, losses, schedules, updates)  # a file may name the classes of these modules
_STRUCTURE = (Learner, Net, Node)
_DEEPEST = 32  # levels of units within units, at most
_ENTRIES = 256  # entries of a mapping, at most
_LETTERS = 256  # letters of a name in it, at most
_DIGITS = 1000  # digits of a numerator or denominator, at most
_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType)


@cache
def library_units() -> dict[str, type]:
    """The classes of this library that a file may name: the dataclasses in the modules of `ROOMS`.

    >>> library_units()["layers.Dense"]
    <class 'backprop_xp.layers.dense.Dense'>
    """
    found: dict[str, type] = {each.__name__: each for each in _STRUCTURE}
    for room in ROOMS:
        for name, each in vars(room).items():
            if _is_unit(each, room.__name__):
                found[f"{room.__name__.rpartition('.')[2]}.{name}"] = each
    return found


def _is_unit(value: Any, room: str) -> bool:
    """Whether an attribute of a module is a concrete dataclass that is defined in that module."""
    own = isinstance(value, type) and value.__module__.startswith(room)
    return own and is_dataclass(value) and not isabstract(value)


@cache
def _names() -> dict[type, str]:
    return {each: name for name, each in library_units().items()}


def encode(value: Any) -> Any:
    """A learner, or a part of one, as data for JSON.

    Raises:
        FileError: it cannot be written so that it can be read again, such as a function, or an object that
            is not described by its settings.

    >>> from backprop_xp import Dense, tanh
    >>> encode(Dense(3, tanh))
    {'unit': 'layers.Dense', 'units': 3, 'f': {'unit': 'activations.Tanh'}, 'bias': True}
    """
    own: dict[str, type] = {}
    found = _encoded(value, own, 0)
    try:
        again = _encoded(_decoded(found, library_units() | own, 0), {}, 0)
    except FileError as error:
        msg = f"this cannot be saved, since it could not be read again: {error}"
        raise FileError(msg) from error
    if again != found:
        msg = (
            "what is saved could not be restored: the attributes of a class differ from the settings that "
            "its constructor was given"
        )
        raise FileError(msg)
    return found


def decode(data: Any, known: Mapping[str, type] | None = None) -> Any:
    """The object that `encode` wrote as data.

    Args:
        data: the data, from JSON.
        known: classes of your own, by name.

    Raises:
        FileError: the data have another form, name a class that is not known, or settings that it refuses.
        BackpropError: `known` is not a mapping of new names to classes.
    """
    for name, each in (known or {}).items():
        if not isinstance(each, type) or name in library_units():
            msg = f"known= gives a class for each name, which is not the library's; got {name!r}: {each!r}"
            raise BackpropError(msg)
    return _decoded(data, library_units() | dict(known or {}), 0)


def _encoded(value: Any, own: dict[str, type], depth: int) -> Any:
    if depth > _DEEPEST:
        msg = f"units are nested more than {_DEEPEST} deep and cannot be saved"
        raise FileError(msg)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Real) or "bool" in str(getattr(value, "dtype", "")):
        return _encoded_number(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            msg = f"the names of a mapping must be text to be saved, got {listed(value)}"
            raise FileError(msg)
        return {"map": [[key, _encoded(each, own, depth + 1)] for key, each in value.items()]}
    if isinstance(value, frozenset):
        return {"set": sorted(_encoded(each, own, depth + 1) for each in value)}
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return [_encoded(each, own, depth + 1) for each in value]
    name = _name(value, own)
    settings = {each: getattr(value, each) for each in _settings(type(value))}
    return {"unit": name} | {key: _encoded(each, own, depth + 1) for key, each in settings.items()}


def _encoded_number(value: Any) -> Any:
    if hasattr(value, "dtype"):
        value = value.item()  # NumPy's numbers as Python's
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Rational):
        return {"fraction": f"{value.numerator}/{value.denominator}"}
    return float(value) if isfinite(value) else {"float": str(float(value))}


def _name(value: Any, own: dict[str, type]) -> str:
    if isinstance(value, _FUNCTIONS):
        msg = (
            f"{getattr(value, '__qualname__', value)!r} is a function, which cannot be saved, as files hold "
            "no code: write a frozen dataclass with the method __call__; bp.load takes its class in known="
        )
        raise FileError(msg)
    kind = type(value)
    if kind in _names():
        return _names()[kind]
    name = kind.__name__
    if (library_units() | own).get(name, kind) is not kind:
        msg = f"the class {name} has the name of another one that is saved: give it a name of its own"
        raise FileError(msg)
    told = is_dataclass(kind) or hasattr(kind, "_fields") or not getattr(value, "__dict__", {0: 0})
    if kind.__module__ == "builtins" or not told or "unit" in _settings(kind):
        msg = (
            f"{str(value)[:60]} cannot be saved, a {name}: units are frozen dataclasses, whose settings are "
            "numbers, strings, tuples, mappings and other units, none of them named 'unit'"
        )
        raise FileError(msg)
    own[name] = kind
    return name


def _settings(kind: type) -> tuple[str, ...]:
    if is_dataclass(kind):
        return tuple(each.name for each in fields(kind) if each.init)
    return tuple(getattr(kind, "_fields", ()))


def _decoded(data: Any, known: Mapping[str, type], depth: int) -> Any:
    if depth > _DEEPEST:
        msg = f"units are nested more than {_DEEPEST} deep"
        raise FileError(msg)
    if data is None or isinstance(data, (bool, str, int, float)):
        return data
    if isinstance(data, list):
        return tuple(_decoded(each, known, depth + 1) for each in data)
    if "unit" in data:
        return _unit(data, known, depth)
    if len(data) == 1:
        ((form, content),) = data.items()
        try:
            return _FORMS[form](content, lambda each: _decoded(each, known, depth + 1))
        except FileError:
            raise
        except (ArithmeticError, KeyError, TypeError, ValueError):
            pass
    msg = f"{str(data)[:60]} is no setting of a unit"
    raise FileError(msg)


def _unit(data: Mapping[str, Any], known: Mapping[str, type], depth: int) -> Any:
    name = data["unit"]
    kind = known.get(name) if isinstance(name, str) else None
    if kind is None:
        msg = (
            f"{str(name)[:60]!r} is none of this library's units: if the class is your own, write "
            f"bp.load(path, known={{{str(name)[:60]!r}: …}})"
        )
        raise FileError(msg)
    if strange := set(data) - {"unit", *_settings(kind)}:
        msg = f"{name} has no setting {listed(sorted(strange))[:60]}: the file may be of a newer version"
        raise FileError(msg)
    settings = {key: _decoded(each, known, depth + 1) for key, each in data.items() if key != "unit"}
    try:
        return kind(**settings)
    except Exception as error:  # the settings in the file may be anything, and so may the error
        msg = f"the settings of {name} cannot be used: {str(error)[:200] or type(error).__name__}"
        raise FileError(msg) from error


def _fraction(content: Any, _: Any) -> Fraction:
    top, bottom = (int(part) for part in content.split("/") if len(part) <= _DIGITS)
    return Fraction(top, bottom)


def _float(content: Any, _: Any) -> float:
    return {"inf": float("inf"), "-inf": -float("inf"), "nan": float("nan")}[content]


def _map(content: Any, decoded: Any) -> dict[str, Any]:
    found = {key: decoded(each) for key, each in content if isinstance(key, str) and len(key) <= _LETTERS}
    if not len(found) == len(content) <= _ENTRIES:
        raise ValueError
    return found


def _set(content: Any, _: Any) -> frozenset[str]:
    if not all(isinstance(each, str) for each in content):
        raise TypeError
    return frozenset(content)


_FORMS: dict[str, Any] = {"fraction": _fraction, "float": _float, "map": _map, "set": _set}


def parse_unit_json(text: str) -> Any:
    """The data in a text of JSON; see `parse_json`.

    Raises:
        FileError: the text is not such JSON.
    """
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        msg = f"the settings in the file are not strict JSON ({str(error)[:80]})"
        raise FileError(msg) from error
