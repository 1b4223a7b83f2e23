"""Write files atomically: whole or not at all, whenever the process or the machine stops."""

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from ..errors import FileError

SUFFIX = ".tmp"  # of temporary files, whose names also begin with a dot
_ADVICE: dict[int | None, str] = {
    errno.EACCES: "use a folder that you may write to",
    errno.EROFS: "use a folder on a disk that can be written to",
    errno.ENOENT: "make its folder first",
    errno.ENOTDIR: "a part of the path is a file: use another folder",
    errno.EEXIST: "a file has that name: use another one",
    errno.ENOSPC: "make room on the disk",
}


def write_whole(path: Path, chunks: Iterable[Any]) -> None:
    """Write a temporary file beside the path, flush it to the disk, and only then rename it to the path.

    Args:
        path: the path of the file; an existing regular file is replaced.
        chunks: bytes, or objects with a buffer.

    Raises:
        FileError: the file cannot be written, or the path exists and is not a regular file. An existing
            file is kept until the new one is written, and the temporary file is removed.
    """
    check_regular(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{token_hex(4)}{SUFFIX}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _KIND, 0o666)
    except OSError as error:
        raise not_written(path, error) from error
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for chunk in chunks:
                left = memoryview(chunk)
                while left:
                    left = left[file.write(left) :]
            os.fsync(descriptor)
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise not_written(path, error) from error
        raise


_CLOSED_ON_EXEC = getattr(os, "O_CLOEXEC", 0)
_KIND = _CLOSED_ON_EXEC | getattr(os, "O_BINARY", 0)  # without it Windows writes \n as \r\n


def check_regular(path: Path) -> None:
    """Check that a path does not exist, or is a regular file.

    Raises:
        FileError: it is something else, such as a folder, a link or a device.
    """
    with suppress(FileNotFoundError):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise not_written(path, error) from error
        if not stat.S_ISREG(mode):
            msg = f"{path} is not a regular file and is left as it is: choose another name"
            raise FileError(msg)


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk, if the system can; on Windows folders cannot be opened."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | _CLOSED_ON_EXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file system does not support it
            raise
    finally:
        os.close(descriptor)


def not_written(path: Path, error: Exception) -> FileError:
    """The error for a file that cannot be written."""
    why = getattr(error, "strerror", None) or error
    advice = _ADVICE.get(getattr(error, "errno", None))
    return FileError(f"{path} cannot be written: {why}" + (f"; {advice}" if advice else ""))
