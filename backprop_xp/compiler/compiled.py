"""The interface of a compiled step. In this base class the step is not compiled: it runs eagerly."""

from collections.abc import Callable
from typing import Any

import numpy

from ..arrays import Array
from ..errors import BackpropError
from ..library import Library

Step = Callable[..., Any]


class Compiled:
    """A step to be called many times.

    Args:
        library: of the arrays.
        step: a pure function step(w, s, x, t, *, xp) -> (w, s, loss).
        check: called as check(w, s, x, t) before shapes are used for the first time.

    Attributes:
        compilations: the number of times the step was compiled, once for each set of shapes.
    """

    def __init__(self, library: Library, step: Step, check: Step | None = None) -> None:
        self.library, self.step = library, step
        self._check = check or (lambda *_: None)
        self.compilations = 0

    def check(self, w: Array, s: Any, x: Array, t: Array) -> None:
        """Check that rows fit the step; no value is read."""
        self._check(w, s, x, t)

    def to_device(self, w: Array, a: Array) -> Array:
        """Rows on the device of w, for many scans; NumPy arrays are sent there."""
        if not isinstance(a, numpy.ndarray) or self.library.owns(a):  # strict and exact leave it to the check
            return a
        sent = self.library.asarray(a, None, self.library.device_of(w))
        if a.dtype.kind == "f" and sent.dtype.itemsize != a.dtype.itemsize:
            msg = f"rows of {a.dtype} would be sent as {sent.dtype}: make them {sent.dtype} first"
            raise BackpropError(msg)
        return sent

    def __call__(self, w: Array, s: Any, x: Array, t: Array) -> tuple[Array, Any, Array]:
        """One step; consumes w and s."""
        self.check(w, s, x, t)
        return self.step(w, s, x, t, xp=self.library.xp)  # type: ignore[no-any-return]

    def index_to_device(self, w: Array, x: Array, index: Array) -> Array:
        """An index on the device of w; one on the host is checked first."""
        if not isinstance(index, numpy.ndarray):
            return index
        check_rows(index, x)
        return self.library.asarray(index, self.library.xp.int32, self.library.device_of(w))

    def scan(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> tuple[Array, Any, Array]:
        """One step for each row of index, in order, on those rows of x and t.

        Args:
            w: the weights; consumed.
            s: the state; consumed.
            x: inputs, any number of rows.
            t: their targets.
            index: shape (steps, batch), rows of x and t; of the library or NumPy's.

        Returns:
            The new w and s, and the losses, shape (steps,).

        Raises:
            BackpropError: rows that do not fit; or an index on the host with rows that do not exist
                (an index on a device is not read).
        """
        self.check(w, s, x, t)
        batch_size(index)
        xp, losses = self.library.xp, []
        index = self.index_to_device(w, x, index)
        for k in range(index.shape[0]):
            rows = index[k, :]
            w, s, loss = self(w, s, xp.take(x, rows, axis=0), xp.take(t, rows, axis=0))
            losses.append(loss)
        return w, s, xp.stack(losses)


def batch_size(index: Array) -> int:
    """The batch size of an index.

    Raises:
        BackpropError: the index is not an array of integers of shape (steps, batch).
    """
    shape: tuple[Any, ...] = getattr(index, "shape", ())
    if len(shape) != 2 or "int" not in str(index.dtype):
        got = (
            f"shape {tuple(shape)} and dtype {index.dtype}"
            if hasattr(index, "dtype")
            else type(index).__name__
        )
        msg = f"an index must be an array of integers of shape (steps, batch), got {got}"
        raise BackpropError(msg)
    return int(shape[1])


def check_rows(index: Array, x: Array) -> None:
    """Check that every row in an index on the host is a row of x."""
    if index.size and not 0 <= index.min() <= index.max() < x.shape[0]:
        msg = f"the rows of an index must be 0 to {x.shape[0] - 1}, got {index.min()} to {index.max()}"
        raise BackpropError(msg)
