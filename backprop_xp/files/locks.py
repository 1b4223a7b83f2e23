"""A lock on an open file: held by one process, and released however that process ends.

It uses `flock`, or on Windows `msvcrt.locking`. Both are in the standard library.
"""

import os
import time
from pathlib import Path
from typing import Any

_SECONDS = 0.3  # how long to try, since `is_locked` in another process holds the lock for a moment


def _by_flock() -> tuple[Any, Any]:
    import fcntl

    def lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def look(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    return lock, look


def _by_msvcrt() -> tuple[Any, Any]:
    import msvcrt

    windows: Any = msvcrt

    def lock(descriptor: int) -> None:
        try:
            windows.locking(descriptor, windows.LK_NBLCK, 1)  # the first byte, even of an empty file
        except OSError as error:
            raise BlockingIOError from error

    def look(descriptor: int) -> None:
        lock(descriptor)
        windows.locking(descriptor, windows.LK_UNLCK, 1)

    return lock, look


_lock, _look = _by_msvcrt() if os.name == "nt" else _by_flock()


def locked(descriptor: int) -> bool:
    """Lock a file for this process; return whether that succeeded.

    Raises:
        OSError: the file system has no locks.
    """
    until = time.monotonic() + _SECONDS
    while True:
        try:
            _lock(descriptor)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        else:
            return True


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file; False if there is no file, or it cannot be determined."""
    try:
        with path.open("rb") as file:
            _look(file.fileno())
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
