"""The errors that backprop_xp raises. A message says what was expected, what was given, what to do."""

from pathlib import Path
from typing import Any

from .arrays import Array


class BackpropError(ValueError):
    """An argument cannot be used. The base class of all errors raised here; a ValueError."""


class BackendUnavailable(BackpropError, ImportError):
    """The requested array library or device is not available on this machine."""


class Diverged(BackpropError):
    """Training produced a loss or a weight that is not finite.

    Attributes:
        w: the weights from the beginning of the epoch, the last known to be good.
        s: the state that belongs to them.
    """

    def __init__(self, message: str, w: Array, s: Any) -> None:
        super().__init__(message)
        self.w = w
        self.s = s


def no_memory(rows: int, error: Exception, *, usable: bool) -> BackpropError:
    """The error for a device that is out of memory.

    Args:
        rows: of the batch.
        error: the library's own error.
        usable: whether w and s are still valid, since no step has changed them half.
    """
    state = "can still be used" if usable else "may be changed or gone: go on from a snapshot"
    return BackpropError(
        f"the device has no memory left for a step of {rows} rows ({str(error).partition(chr(10))[0]}): use "
        "a smaller batch, a smaller net, float32 in place of float64, or fewer rows on the device at once; "
        f"w and s {state}"
    )


def unavailable(library: str, module: str, extra: str, error: ImportError) -> BackendUnavailable:
    """The error for a library that cannot be imported: what is missing, and how to install it.

    Args:
        library: its name in words.
        module: its name in Python.
        extra: of this package, which installs it.
        error: what the import raised.
    """
    missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    if missing.partition(".")[0] == module:
        return BackendUnavailable(f"{library} is not installed: {how_to_install(extra)}")
    if missing:
        return BackendUnavailable(
            f"{library} needs the module '{missing}', which is not installed: {how_to_install(extra)}"
        )
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalpha, line))]
    why = " ".join(lines[:2]) or type(error).__name__
    return BackendUnavailable(f"{library} cannot be imported ({why}): {how_to_install(extra)}")


def how_to_install(extra: str) -> str:
    """The command that installs an extra, for a clone if this is one, else from the package index."""
    root = Path(__file__).resolve().parent.parent
    if (root / "pyproject.toml").exists():
        return f"pip install -e '.[{extra}]' in {root}"
    return f"pip install 'backprop-xp[{extra}]'"


def listed(names: Any) -> str:
    """Names in quotes, separated by commas.

    >>> listed(["relu", "tanh"])
    "'relu', 'tanh'"
    """
    return ", ".join(repr(name) for name in names)
