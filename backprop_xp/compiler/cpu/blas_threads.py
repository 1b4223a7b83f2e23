"""BLAS threads fitted to the size of the work, where threadpoolctl is installed.

A second thread does not make a small product faster, and on a busy machine makes it a hundred times
slower, since both threads wait for each other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

ALONE = 600_000  # up to so many multiplications in the largest product one thread is as fast

_lock = Lock()
_inside = 0
_before: list[int] = []


@cache
def _libraries() -> tuple[Any, ...]:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return ()
    return tuple(lib for lib in ThreadpoolController().lib_controllers if lib.user_api == "blas")


@contextmanager
def fitted(multiplications: int) -> Iterator[None]:
    """Within the block BLAS uses one thread if the largest product is small."""
    if multiplications > ALONE or not _libraries():
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _before
    with _lock:
        _inside += 1
        if _inside == 1:
            _before = [lib.get_num_threads() for lib in _libraries()]
            for lib in _libraries():
                lib.set_num_threads(1)


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            for lib, number in zip(_libraries(), _before, strict=True):
                lib.set_num_threads(number)
