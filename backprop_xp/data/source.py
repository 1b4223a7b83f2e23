"""What a source of data is, and the one that holds arrays."""

from typing import Any, Protocol

from .. import backends
from ..arrays import Array
from ..checks import check_data, library
from ..errors import BackpropError
from ..losses import Loss


class Source(Protocol):
    """Rows of inputs x and targets t, any slice of them, as arrays of one backend.

    Attributes:
        n: rows there are.
        features: numbers in a row of inputs.
        outputs: output units a net needs for the targets.
        window: rows that are in memory, and shuffled, together.
    """

    @property
    def n(self) -> int:
        """Rows there are."""

    @property
    def features(self) -> int:
        """Numbers in a row of inputs."""

    @property
    def outputs(self) -> int:
        """Output units a net needs for the targets."""

    @property
    def window(self) -> int:
        """Rows shuffled together."""

    def rows(self, start: int, stop: int) -> tuple[Array, Array]:
        """The rows start, …, stop - 1: inputs (rows, features), targets (rows, outputs) or (rows,)."""


def check_slice(start: int, stop: int, n: int) -> None:
    """A slice has at least one row, and all of its rows are there."""
    if not 0 <= start < stop <= n:
        msg = f"rows are asked for as 0 <= start < stop <= {n}, got {start} to {stop}"
        raise BackpropError(msg)


class Stored:
    """Data in arrays, on whatever device they are. Values are checked once, here.

    Args:
        x: inputs, shape (rows, features), of any backend (`bp.asarray` makes them from lists);
            bytes, uint8, stay bytes: a net reads them as x / 255.
        t: targets, shape (rows, units), or integer labels (rows,).
        loss: the loss they are meant for; its targets are then checked too.
        units: output units; needed with labels to check their range, else seen in t.

    Raises:
        BackpropError: shapes that do not fit, NaN or infinity, labels or probabilities out of range.

    >>> import numpy as np
    >>> source = Stored(np.asarray([[1.0], [2.0], [3.0]]), np.asarray([[2.0], [4.0], [6.0]]))
    >>> source.n, source.features, source.outputs
    (3, 1, 1)
    >>> [a.tolist() for a in source.rows(1, 3)]
    [[[2.0], [3.0]], [[4.0], [6.0]]]
    """

    def __init__(self, x: Array, t: Array, loss: Loss | None = None, units: int | None = None) -> None:
        _check_pair(x, t)
        self.n: int = x.shape[0]
        self.features: int = x.shape[1]
        self.window = self.n
        self.outputs = _outputs(t, units)
        check_data(x, t, loss, self.outputs)
        self.x, self.t = x, t

    def rows(self, start: int, stop: int) -> tuple[Array, Array]:
        """The rows start, …, stop - 1; all of them are the arrays themselves, not copies."""
        check_slice(start, stop, self.n)
        if (start, stop) == (0, self.n):
            return self.x, self.t
        return self.x[start:stop, ...], self.t[start:stop, ...]


def _check_pair(x: Any, t: Any) -> None:
    if backends.of(x) is not backends.of(t):
        msg = f"inputs and targets are arrays of one library, got {library(x)} and {library(t)}"
        raise BackpropError(msg)
    if x.ndim != 2 or 0 in x.shape:
        hint = ": write x[:, None] for one feature" if x.ndim == 1 else ""
        msg = f"inputs have shape (rows, features), at least one of each, got {tuple(x.shape)}{hint}"
        raise BackpropError(msg)
    if t.ndim not in (1, 2) or t.shape[0] != x.shape[0] or 0 in t.shape:
        n = x.shape[0]
        msg = f"targets have shape ({n}, units), or ({n},) for labels, got {tuple(t.shape)}"
        raise BackpropError(msg)
    if t.ndim == 1 and not backends.of(t).xp.isdtype(t.dtype, "integral"):
        shape = tuple(t.shape)
        msg = f"targets of shape {shape} are integer labels, got {t.dtype}: write t[:, None] for numbers"
        raise BackpropError(msg)


def _outputs(t: Array, units: int | None) -> int:
    if t.ndim == 2 and units not in (None, t.shape[1]):
        msg = f"targets have one column for each of {units} units, got shape {tuple(t.shape)}"
        raise BackpropError(msg)
    if units is not None:
        return units
    return int(t.shape[1] if t.ndim == 2 else backends.of(t).xp.max(t) + 1)
