"""The array libraries, one small file each; adding one is adding a file.

A backend is found from an array in hand, else by name, by the environment variable
BACKPROP_XP_BACKEND, or by `with backend("jax"):`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from ..arrays import Array, mapped
from ..errors import BackpropError, listed
from .base import Backend, Standard

__all__ = ["Backend", "asarray", "backend", "copy", "get", "names", "of", "resolve"]

_chosen: ContextVar[str | None] = ContextVar("backend", default=None)
_by_type: dict[type, Backend] = {}


@cache
def names() -> tuple[str, ...]:
    """The backends there are, installed or not.

    >>> names()
    ('cupy', 'exact', 'jax', 'numpy', 'strict', 'torch')
    """
    return tuple(sorted(m.name for m in iter_modules(__path__) if m.name != "base"))


@cache
def _open(name: str) -> Backend:
    return import_module(f"{__name__}.{name}").load()  # type: ignore[no-any-return]


def get(name: str | None = None) -> Backend:
    """The backend of this name; without one, the chosen one, NumPy if none was chosen.

    Raises:
        BackendUnavailable: the library is not installed, or finds no device.
        BackpropError: there is no backend of this name.
    """
    name = name or _chosen.get() or os.environ.get("BACKPROP_XP_BACKEND") or "numpy"
    if name not in names():
        msg = f"a backend is one of {listed(names())}, got {name!r}"
        raise BackpropError(msg)
    return _open(name)


@contextmanager
def backend(name: str) -> Iterator[Backend]:
    """Within the block, this backend is used where no array decides; each thread has its own.

    >>> with backend("exact") as chosen:
    ...     get().name
    'exact'
    """
    found = get(name)
    token = _chosen.set(name)
    try:
        yield found
    finally:
        _chosen.reset(token)


def of(a: Array) -> Backend:
    """The backend of an array.

    Raises:
        BackpropError: what came is no array of a library known here.
    """
    found = _by_type.get(type(a))
    if found is None or not found.owns(a):
        found = _by_type[type(a)] = _find(a)
    return found


def _find(a: Any) -> Backend:
    root = type(a).__module__
    for name in names():
        roots = import_module(f"{__name__}.{name}").TYPES
        if any(root == each or root.startswith(f"{each}.") for each in roots):
            found = _open(name)
            if found.owns(a):
                return found
    if hasattr(a, "__array_namespace__"):
        return Standard(root.partition(".")[0], a.__array_namespace__())
    msg = (
        f"expected an array of {listed(names())}, got a {type(a).__name__}: "
        "write bp.asarray(data, like=w) or an array of your library"
    )
    raise BackpropError(msg)


def resolve(like: Array, name: str | None, device: Any, dtype: str | None) -> tuple[Backend, Any, Any]:
    """Backend, device and dtype from an array in hand, else from names."""
    if like is None:
        to = get(name)
        return to, to.device(device), to.dtype(dtype)
    to = of(like)
    if name not in (None, to.name):
        msg = f"give either like=, here a {to.name} array, or backend={name!r}"
        raise BackpropError(msg)
    same = to.xp.isdtype(like.dtype, "real floating") and dtype is None
    return to, to.device(device) if device else to.device_of(like), like.dtype if same else to.dtype(dtype)


def asarray(
    data: Any, *, like: Array = None, backend: str | None = None, device: Any = None, dtype: str | None = None
) -> Array:
    """Data as an array of a backend: lists, NumPy arrays, or arrays of any backend.

    The numbers stay, their type may change: bytes remain bytes only with dtype='uint8'.

    Args:
        data: numbers; they become floats of the default type unless `like` or `dtype` says otherwise.
        like: an array whose library, device and dtype are used.
        backend: else this library, by name.
        device: of that library.
        dtype: 'float32', 'float64'; 'int32' for labels; 'uint8' for bytes, which a net reads as x / 255.

    >>> asarray([[1, 2]], backend="exact", dtype="rational").tolist()
    [[Fraction(1, 1), Fraction(2, 1)]]
    """
    to, where, kind = resolve(like, backend, device, dtype)
    return convert(data, to, kind, where)


def convert(data: Any, to: Backend, dtype: Any, device: Any) -> Array:
    """Data as an array of this backend, of its own dtype and device.

    Raises:
        BackpropError: what came is no array and no nested list of numbers.
    """
    if not isinstance(data, (list, tuple, int, float)):
        data = host(data) if of(data) is not to else data
    try:
        return to.asarray(data, dtype, device)
    except BackpropError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"expected numbers, in nested lists of equal lengths or an array: {error}"
        raise BackpropError(msg) from error


def host(a: Array) -> Any:
    """A NumPy array of the same values."""
    return of(a).to_host(a)


def copy(value: Any) -> Any:
    """A copy of every array in a tree."""
    return mapped(value, lambda a: of(a).committed(of(a).xp.asarray(a, copy=True)))
