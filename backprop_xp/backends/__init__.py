"""The array libraries, one module each; to add one, add a module.

A module has `TYPES`, the modules of the library's array types; `load`, which makes the backend; and, for an
optional library, `INSTALL`, its name, its module and the extra that installs it.

The backend is that of the arrays a function receives. Where there is no array yet, it is chosen by
name, else by `with backend("jax"):`, else by the environment variable BACKPROP_XP_BACKEND, else NumPy.
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
from ..errors import BackendUnavailable, BackpropError, listed, refuse_half, unavailable
from .base import Backend, Standard

__all__ = ["Backend", "asarray", "backend", "copy", "get", "names", "of", "resolve"]

_chosen: ContextVar[str | None] = ContextVar("backend", default=None)
_by_type: dict[type, Backend] = {}


@cache
def names() -> tuple[str, ...]:
    """The names of all backends, installed or not.

    >>> names()
    ('cupy', 'exact', 'jax', 'numpy', 'strict', 'torch')
    """
    return tuple(sorted(m.name for m in iter_modules(__path__) if m.name != "base"))


@cache
def _open(name: str) -> Backend:
    module = import_module(f"{__name__}.{name}")
    try:
        return module.load()  # type: ignore[no-any-return]
    except BackendUnavailable:
        raise
    except ImportError as error:
        library, imported, extra = module.INSTALL
        raise unavailable(library, imported, extra, error) from error


def get(name: str | None = None) -> Backend:
    """The backend of this name; without a name the one chosen by `backend` or the environment, or NumPy.

    Raises:
        BackendUnavailable: the library is not installed, or finds no device.
        BackpropError: there is no backend of this name.

    >>> get("exact").name
    'exact'
    """
    name = name or _chosen.get() or os.environ.get("BACKPROP_XP_BACKEND") or "numpy"
    if name not in names():
        msg = f"a backend must be one of {listed(names())}, got {name!r}"
        raise BackpropError(msg)
    return _open(name)


@contextmanager
def backend(name: str) -> Iterator[Backend]:
    """A context manager: within it this backend is used where no array decides. Each thread has its own.

    Raises:
        BackendUnavailable: the library is not installed, or finds no device.
        BackpropError: there is no backend of this name.

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
        BackpropError: the value is not an array, or not of a library that follows the standard.

    >>> of(asarray([1, 2], backend="exact")).name
    'exact'
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
        "write bp.asarray(data, like=w), or pass an array of a library that follows the Array API standard"
    )
    raise BackpropError(msg)


def resolve(like: Array, name: str | None, device: Any, dtype: Any) -> tuple[Backend, Any, Any]:
    """Backend, device and dtype: those of the array `like`, else those named.

    Raises:
        BackpropError: `like` and a name contradict each other, or a name is unknown.
    """
    if like is None:
        to = get(name)
        return to, to.device(device), to.dtype(dtype)
    to = of(like)
    refuse_half(like.dtype)
    if name not in (None, to.name):
        msg = f"like= is a {to.name} array and backend={name!r} another library: give one of the two"
        raise BackpropError(msg)
    same = to.xp.isdtype(like.dtype, "real floating") and dtype is None
    return to, to.device(device) if device else to.device_of(like), like.dtype if same else to.dtype(dtype)


def asarray(
    data: Any, *, like: Array = None, backend: str | None = None, device: Any = None, dtype: Any = None
) -> Array:
    """Data as an array of a backend: from nested lists, NumPy arrays, or arrays of any backend.

    Args:
        data: numbers; their values are kept, and they become floats unless `dtype` says otherwise.
        like: an array whose library, device and, if it is a float, dtype are used.
        backend: the name of the library, where `like` is not given.
        device: a device of that library, such as "cuda:0".
        dtype: 'float32', 'float64'; 'int32' for labels; 'uint8' for bytes, which a net reads as x / 255.

    Raises:
        BackpropError: the data are not numbers, or a name is unknown.

    >>> asarray([[1, 2]], backend="exact", dtype="rational").tolist()
    [[Fraction(1, 1), Fraction(2, 1)]]
    """
    to, where, kind = resolve(like, backend, device, dtype)
    return convert(data, to, kind, where)


def convert(data: Any, to: Backend, dtype: Any, device: Any) -> Array:
    """Data as an array of this backend; dtype and device are the library's own objects.

    Raises:
        BackpropError: the data are neither an array nor nested lists of numbers.
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
    """A copy of a tree and of every array in it.

    >>> a = asarray([1.0], backend="numpy")
    >>> copy({"a": a})["a"] is a
    False
    """
    return mapped(value, lambda a: of(a).copy(a))
