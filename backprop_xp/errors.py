"""The errors that backprop_xp raises. A message says what was expected, what was given, and what to do."""

from inspect import signature
from pathlib import Path
from typing import Any

from .arrays import Array


class BackpropError(ValueError):
    """An argument that cannot be used. It is the base class of all errors of this library, and a ValueError.

    >>> import backprop_xp as bp
    >>> bp.Dense(0)
    Traceback (most recent call last):
        ...
    backprop_xp.errors.BackpropError: the number of units of a Dense layer must be a positive integer, got 0
    """


class BackendUnavailable(BackpropError, ImportError):
    """The requested array library or device is not available on this machine."""


class FileError(BackpropError):
    """A file cannot be read or written, is damaged, or is not what was expected."""


class Diverged(BackpropError):
    """Training produced a loss or a weight that is not finite.

    Attributes:
        w: the weights from the beginning of the epoch, the last that are known to be finite.
        s: the state that belongs to them.
    """

    def __init__(self, message: str, w: Array, s: Any) -> None:
        super().__init__(message)
        self.w = w
        self.s = s


def no_memory(rows: int, error: Exception, *, usable: bool) -> BackpropError:
    """The error for a device that is out of memory.

    Args:
        rows: the number of rows in the batch.
        error: the library's own error.
        usable: whether w and s are still valid, that is, no step was stopped while changing them.
    """
    state = "can still be used" if usable else "may be changed or gone: continue from a snapshot"
    return BackpropError(
        f"the device has no memory left for a step of {rows} rows ({str(error).partition(chr(10))[0]}): use "
        "a smaller batch, a smaller net, float32 instead of float64, or fewer rows on the device at once; "
        f"w and s {state}"
    )


def consumed() -> BackpropError:
    """The error for weights or a state that an earlier step consumed."""
    return BackpropError(
        "these arrays were consumed: an earlier step reused their memory; continue with the w and s that it "
        "returned, or keep copies by kept_w, kept_s = learner.snapshot(w, s) before a step"
    )


def too_large(numbers: int, parts: str, size: int, free: int | None) -> BackpropError:
    """The error for a net whose weights do not fit into memory.

    Args:
        numbers: the number of weights.
        parts: what else needs memory, in words.
        size: the bytes that all of it needs.
        free: the bytes that are free; None if unknown.
    """
    there = "" if free is None else f", and {in_bytes(free)} are free"
    return BackpropError(
        f"there is not enough memory for a net of {numbers:,} weights: with {parts} they take "
        f"{in_bytes(size)}{there}: use fewer units, float32 instead of float64, or a rule with fewer moments"
    )


def in_bytes(size: int) -> str:
    """A number of bytes in words.

    >>> in_bytes(2_500_000), in_bytes(1 << 66)
    ('2.5 MB', '73,786,976,294.8 GB')
    """
    unit, name = (10**9, "GB") if size >= 10**9 else (10**6, "MB")
    return f"{size // unit:,}.{size % unit * 10 // unit} {name}"


def got_instead(value: Any) -> str:
    """What was given instead, for a message; for a class, also how to make an instance of it.

    >>> from backprop_xp import Dense
    >>> got_instead(3), got_instead(Dense)
    ('got 3', 'got the class Dense: write Dense(units)')
    """
    if not isinstance(value, type):
        return f"got {value!r}"
    needed = [p.name for p in signature(value).parameters.values() if p.default is p.empty]
    return f"got the class {value.__name__}: write {value.__name__}({', '.join(needed)})"


def refuse_half(dtype: Any) -> None:
    """Refuse float16 and bfloat16, in which sums and updates would lose small terms.

    Args:
        dtype: a dtype of any library, or its name.

    Raises:
        BackpropError: it is one of the two.
    """
    if "float16" in str(dtype):
        msg = (
            "weights, inputs and targets cannot be of 16 bits, since small updates would be lost; "
            f"got {dtype}: write bp.asarray(a, dtype='float32'). Only matrix products can use float16: "
            "bp.Learner(..., precision='float16') on CuPy"
        )
        raise BackpropError(msg)


def unavailable(library: str, module: str, extra: str, error: ImportError) -> BackendUnavailable:
    """The error for a library that cannot be imported: what is missing, and how to install it.

    Args:
        library: the name of the library in prose.
        module: the name by which it is imported.
        extra: the extra of this package that installs it.
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
        return f'pip install -e ".[{extra}]" in {root}'
    return f'pip install "backprop-xp[{extra}]"'  # Windows knows double quotes only


def listed(names: Any) -> str:
    """Names in quotes, separated by commas.

    >>> listed(["relu", "tanh"])
    "'relu', 'tanh'"
    """
    return ", ".join(repr(name) for name in names)
