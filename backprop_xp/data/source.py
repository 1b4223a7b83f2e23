"""The protocol of a data source, and `Stored`, a source that holds arrays."""

from typing import Any, Protocol

from .. import backends
from ..arrays import Array, as_integer, leaves, mapped
from ..checks import check_data, check_range, check_row_weights, described, without_ignored
from ..errors import BackpropError, got_instead, refuse_half
from ..layers import check_count
from ..losses import Loss
from ..printed import short

WINDOW = 1 << 16  # rows in a window, by default at most: they are in memory, and shuffled, together
_NUMBERS = 1 << 23  # numbers in a window, by default at most: 32 MiB of float32
_BLOCKS = 64  # blocks in a window, at random places of the source
BLOCK = 1024  # rows in a block, which are read together, unless a source has blocks of its own


class Source(Protocol):
    """The protocol of a data source: any slice of its rows can be read, as arrays of one backend."""

    @property
    def n(self) -> int:
        """The number of rows."""

    @property
    def features(self) -> int:
        """The number of features, the columns of x."""

    @property
    def outputs(self) -> int:
        """The number of output units that a net needs for the targets."""

    @property
    def window(self) -> int:
        """The number of rows that are in memory, and shuffled, together."""

    @property
    def block(self) -> int:
        """The number of rows that are cheap to read together: a window is made of many such blocks."""

    def rows(self, start: int, stop: int) -> tuple[Array, ...]:
        """The rows start, …, stop - 1: inputs, targets and, if there are any, row weights.

        Their shapes are (rows, features), (rows, outputs) or (rows,) for labels, and (rows,).

        Training and evaluation check the values of the rows they read. If a source has a method
        `check_for(loss, units)`, as `Stored` has, they call that instead, and rely on its checks.
        If rows are NumPy arrays, `rows` is called in another thread while steps run, but never in two
        threads at once. A source that can only be read forwards has an attribute `forwards = True`.
        """


def check_slice(start: int, stop: int, n: int) -> None:
    """Check that a slice has at least one row and stays within n rows."""
    whole = as_integer(start), as_integer(stop)
    if None in whole or not 0 <= start < stop <= n:
        msg = f"a slice of rows needs 0 <= start < stop <= {n}, got {start} to {stop}"
        raise BackpropError(msg)


def rows_of_window(n: int, numbers: int, *, asked: Any = None) -> int:
    """The rows of a window: as many as asked for, else 65,536, or fewer if they exceed 32 MiB in float32.

    Args:
        n: rows of the source.
        numbers: numbers in a row.
        asked: the rows asked for; None for the default.

    >>> rows_of_window(1_000_000, 10), rows_of_window(1_000_000, 1000), rows_of_window(10, 1000)
    (65536, 8388, 10)
    """
    if asked is not None:
        return min(n, check_count(asked, "the window of rows shuffled together"))
    return max(1, min(n, WINDOW, _NUMBERS // numbers))


def rows_of_block(window: int) -> int:
    """The rows of a block: 1,024, or fewer so that a window has 64 blocks.

    >>> rows_of_block(65536), rows_of_block(8388)
    (1024, 131)
    """
    return max(1, min(BLOCK, window // _BLOCKS))


class Stored:
    """Data in arrays, on any device. Values are checked once, here; the range of targets once for each loss.

    Args:
        x: inputs, shape (rows, features), of any backend (`bp.asarray` converts lists). Bytes (uint8)
            stay bytes: a net reads them as x / 255. For a net with several inputs, a dict of such arrays.
        t: targets, shape (rows, units), or integer labels (rows,).
        loss: the loss that the targets are for: their range is checked here. None: it is checked when the
            source is first used with a loss.
        units: the number of output units; None for the number of columns of t, or the largest label + 1.
        weight: a weight for each row, shape (rows,), in the dtype of x; None for 1.

    Arrays that are mapped from a file (np.load(..., mmap_mode="r")) are read one window at a time.

    Raises:
        BackpropError: shapes that do not fit, NaN or infinity, targets out of the loss's range.

    >>> import numpy as np
    >>> source = Stored(np.asarray([[1.0], [2.0], [3.0]]), np.asarray([[2.0], [4.0], [6.0]]))
    >>> source.n, source.features, source.outputs
    (3, 1, 1)
    >>> [a.tolist() for a in source.rows(1, 3)]
    [[[2.0], [3.0]], [[4.0], [6.0]]]
    """

    def __init__(
        self,
        x: Any,
        t: Array,
        loss: Loss | None = None,
        units: int | None = None,
        *,
        weight: Array | None = None,
    ) -> None:
        _check_pair(x, t)
        if loss is not None and (isinstance(loss, type) or not isinstance(loss, Loss)):
            msg = f"the loss must be one such as bp.softmax_cross_entropy, {got_instead(loss)}"
            raise BackpropError(msg)
        self.n: int = t.shape[0]
        self.features: int = sum(a.shape[1] for a in leaves(x))
        mapped_from_file = any(hasattr(a, "filename") for a in leaves((x, t)))  # as numpy.memmap has
        width = self.features + (t.shape[1] if t.ndim == 2 else 1)
        self.window = rows_of_window(self.n, width) if mapped_from_file else self.n
        self.block = rows_of_block(self.window) if mapped_from_file else BLOCK
        self.outputs = _outputs(t, loss, None if units is None else check_count(units, "the number of units"))
        check_data(x, t, loss, self.outputs)
        self._fits: set[tuple[Any, ...]] = set()  # what the targets were checked for: kind of loss, units
        self._batch = (x, t) if weight is None else (x, t, _checked(weight, self.n))

    def check_for(self, loss: Loss, units: int) -> None:
        """Check, once, that the targets are in the range of a loss with this number of output units.

        Raises:
            BackpropError: labels or probabilities out of range.
        """
        fit = loss.targets, loss.ignored, units
        if fit not in self._fits:
            check_range(self._batch[1], loss, units)
            self._fits.add(fit)

    def __repr__(self) -> str:
        names = ("x", "t", "weight")
        parts = ", ".join(f"{name}={short(a)}" for name, a in zip(names, self._batch, strict=False))
        return f"Stored({parts} on {backends.of(self._batch[1]).name}, for {self.outputs} output units)"

    def rows(self, start: int, stop: int) -> tuple[Array, ...]:
        """The rows start, …, stop - 1; all rows are the arrays themselves, not copies."""
        check_slice(start, stop, self.n)
        if (start, stop) == (0, self.n):
            return self._batch
        return mapped(self._batch, lambda a: a[start:stop, ...])  # type: ignore[no-any-return]


def _checked(weight: Array, n: int) -> Array:
    xp = backends.of(weight).xp
    refuse_half(weight.dtype)
    if tuple(weight.shape) != (n,) or not xp.isdtype(weight.dtype, "real floating"):
        msg = f"sample weights must be numbers of shape ({n},), got {described(weight)}"
        raise BackpropError(msg)
    check_row_weights(weight)
    return weight


def _check_pair(inputs: Any, t: Any) -> None:
    for x in inputs.values() if isinstance(inputs, dict) and inputs else (inputs,):
        _check_input(x, t)
    if t.ndim == 1 and not backends.of(t).xp.isdtype(t.dtype, "integral"):
        shape = tuple(t.shape)
        msg = f"targets of shape {shape} must be integer labels, got {t.dtype}: write t[:, None] for numbers"
        raise BackpropError(msg)


def _check_input(x: Any, t: Any) -> None:
    for a in (x, t):
        refuse_half(getattr(a, "dtype", None))
    if backends.of(x) is not backends.of(t):
        msg = f"inputs and targets must be arrays of one library, got {described(x)} and {described(t)}"
        raise BackpropError(msg)
    if x.ndim != 2 or 0 in x.shape:
        hint = ": write x[:, None] for one feature" if x.ndim == 1 else ""
        msg = f"inputs must have shape (rows, features), at least one of each; got {tuple(x.shape)}{hint}"
        raise BackpropError(msg)
    if t.ndim not in (1, 2) or t.shape[0] != x.shape[0] or 0 in t.shape:
        n = x.shape[0]
        msg = f"targets must have shape ({n}, units), or ({n},) for labels; got {tuple(t.shape)}"
        raise BackpropError(msg)


def _outputs(t: Array, loss: Loss | None, units: int | None) -> int:
    if t.ndim == 2 and units not in (None, t.shape[1]):
        msg = f"targets must have one column for each of {units} units, got shape {tuple(t.shape)}"
        raise BackpropError(msg)
    if units is not None:
        return units
    return int(t.shape[1] if t.ndim == 2 else backends.of(t).xp.max(without_ignored(t, loss)) + 1)
