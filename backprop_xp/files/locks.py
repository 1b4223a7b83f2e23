"""A lock on an open file: held by one process, and given back however that ends.

By `flock` where the system has it, else by `msvcrt.locking`, which is Windows' own. Both are of the standard
library, so no package is needed for them.
"""

import os
import time
from pathlib import Path
from typing import Any

_SECONDS = 0.3  # someone who only looks holds it for a moment


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
            windows.locking(descriptor, windows.LK_NBLCK, 1)  # the first byte; it need not be there
        except OSError as error:
            raise BlockingIOError from error

    def look(descriptor: int) -> None:
        lock(descriptor)
        windows.locking(descriptor, windows.LK_UNLCK, 1)

    return lock, look


_lock, _look = _by_msvcrt() if os.name == "nt" else _by_flock()


def locked(descriptor: int) -> bool:
    """Lock a file for this process; whether that could be done.

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
    """Whether a process holds the lock of a file; False where there is no file, or nobody can know."""
    try:
        with path.open("rb") as file:
            _look(file.fileno())
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
