"""The protocol of a data source, and `Stored`, a source that holds arrays."""

from typing import Any, Protocol

from .. import backends
from ..arrays import Array, as_integer, leaves, mapped
from ..checks import check_data, check_range, check_row_weights, described, without_ignored
from ..errors import BackpropError, got_instead, refuse_half
from ..layers import check_count
from ..losses import Loss
from ..printed import short

WINDOW = 1 << 16  # rows that are in memory, and shuffled, together, where not all are


class Source(Protocol):
    """Rows of inputs x and targets t, of which any slice can be read, as arrays of one backend."""

    @property
    def n(self) -> int:
        """The number of rows."""

    @property
    def features(self) -> int:
        """The number of features, the columns of x."""

    @property
    def outputs(self) -> int:
        """The number of output units a net needs for the targets."""

    @property
    def window(self) -> int:
        """The number of rows that are in memory, and shuffled, together."""

    def rows(self, start: int, stop: int) -> tuple[Array, ...]:
        """The rows start, …, stop - 1: inputs, targets and, if there are some, weights of rows.

        Their shapes are (rows, features), (rows, outputs) or (rows,) for labels, and (rows,).

        Training and evaluation check the values of the rows they read. A source that answers for its
        values has a method `check_for(loss, units)`, as `Stored` has, which is called in place of that.
        """


def check_slice(start: int, stop: int, n: int) -> None:
    """Check that a slice has at least one row and stays within n rows."""
    whole = as_integer(start), as_integer(stop)
    if None in whole or not 0 <= start < stop <= n:
        msg = f"a slice of rows needs 0 <= start < stop <= {n}, got {start} to {stop}"
        raise BackpropError(msg)


class Stored:
    """Data in arrays, on any device. Their values are checked once: here, and targets for each loss.

    Args:
        x: inputs, shape (rows, features), of any backend (`bp.asarray` converts lists). Bytes (uint8)
            stay bytes: a net reads them as x / 255. For a net with several inputs a dict of such arrays.
        t: targets, shape (rows, units), or integer labels (rows,).
        loss: the loss they are meant for; with it the range of the targets is checked here, else when
            the source is first used with a loss.
        units: the number of output units. Without it: the columns of t, or the largest label + 1.
        weight: a weight for each row, shape (rows,), in the dtype of x; None for 1.

    Arrays that are mapped from a file (np.load(..., mmap_mode="r")) are read a window at a time.

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
        self.window = min(self.n, WINDOW) if mapped_from_file else self.n
        self.outputs = _outputs(t, loss, None if units is None else check_count(units, "the number of units"))
        check_data(x, t, loss, self.outputs)
        self._fits: set[tuple[Any, ...]] = set()  # kinds of losses and units the targets were found to fit
        self._batch = (x, t) if weight is None else (x, t, _checked(weight, self.n))

    def check_for(self, loss: Loss, units: int) -> None:
        """Check, once, that the targets are in the range of a loss on so many output units.

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
        """The rows start, …, stop - 1; for all rows the arrays themselves, not copies."""
        check_slice(start, stop, self.n)
        if (start, stop) == (0, self.n):
            return self._batch
        return mapped(self._batch, lambda a: a[start:stop, ...])  # type: ignore[no-any-return]


def _checked(weight: Array, n: int) -> Array:
    xp = backends.of(weight).xp
    refuse_half(weight.dtype)
    if tuple(weight.shape) != (n,) or not xp.isdtype(weight.dtype, "real floating"):
        msg = f"weights of rows must be numbers of shape ({n},), got {described(weight)}"
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
