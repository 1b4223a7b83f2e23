"""The errors the library raises: what was expected, what came, and what to do."""

from typing import Any

from .arrays import Array


class BackpropError(ValueError):
    """What the caller gave cannot be used; the message says what was expected and what to write."""


class BackendUnavailable(BackpropError, ImportError):
    """The array library or the device asked for is not on this machine."""


class Diverged(BackpropError):
    """Training produced a loss that is not finite.

    Attributes:
        w: the weights last seen with a finite loss.
        s: the state that belongs to them.
    """

    def __init__(self, message: str, w: Array, s: Any) -> None:
        super().__init__(message)
        self.w = w
        self.s = s


def no_memory(rows: int, error: Exception, *, usable: bool) -> BackpropError:
    """The error for a device without memory; `usable`: no step has left w and s half changed."""
    state = "can still be used" if usable else "may be changed or gone: go on from a snapshot"
    return BackpropError(
        f"the device has no memory left for a step of {rows} rows ({str(error).partition(chr(10))[0]}): take "
        "a smaller batch, a smaller net, float32 in place of float64, or fewer rows on the device at once; "
        f"w and s {state}"
    )


def unavailable(library: str, extra: str, reason: str = "is not installed") -> BackendUnavailable:
    """The error for a library that is not here: it names the extra to install."""
    return BackendUnavailable(f"{library} {reason}: pip install 'backprop-xp[{extra}]'")


def listed(names: Any) -> str:
    """Names as a sentence lists them.

    >>> listed(["relu", "tanh"])
    "'relu', 'tanh'"
    """
    return ", ".join(repr(name) for name in names)
