"""What every backend has, and the plain way to do it."""

from collections.abc import Callable
from typing import Any

import numpy

from ..arrays import Array, BackendUnavailable, BackpropError, Namespace

Step = Callable[..., Any]


class Backend:
    """One array library: its namespace, devices and transfers, and how it runs a step.

    Attributes:
        name: as it is asked for.
        xp: the namespace layers receive.
        floats: the names of its real types, the default first.
    """

    name: str
    xp: Namespace
    floats: tuple[str, ...] = ("float32", "float64")

    def owns(self, a: Any) -> bool:
        """Whether this value is an array of the library."""
        return hasattr(a, "dtype") and hasattr(a, "shape")

    def device(self, name: Any) -> Any:
        """The device of this name, None for the default."""
        if name in (None, "cpu"):
            return None
        msg = f"the {self.name} backend runs on device 'cpu', got {name!r}"
        raise BackpropError(msg)

    def device_of(self, a: Array) -> Any:
        """Where an array lies; None where there is but one place."""
        return None

    def dtype(self, name: str | None) -> Any:
        """The type of this name; None is the default."""
        known = (*self.floats, *(n for n in ("int32", "int64", "uint8") if hasattr(self.xp, n)))
        if name is None:
            return getattr(self.xp, self.floats[0])
        if name not in known:
            msg = f"a dtype of the {self.name} backend is one of {known}, got {name!r}"
            raise BackpropError(msg)
        return getattr(self.xp, name)

    def asarray(self, data: Any, dtype: Any, device: Any) -> Array:
        """Lists, NumPy arrays or arrays of this library, as an array of this dtype, here."""
        return self.xp.asarray(data, dtype=dtype, device=device)

    def to_host(self, a: Array) -> Any:
        """A NumPy array of the same values, by DLPack, as the standard has it."""
        try:
            return numpy.from_dlpack(a, device="cpu", copy=True)
        except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
            msg = f"{self.name} does not hand its arrays to NumPy by DLPack: {error}"
            raise BackpropError(msg) from error

    def synchronize(self) -> None:
        """Wait until all work handed out is done."""

    def run(self, step: Step, *args: Any) -> Any:
        """A step or a part of it, on arrays of this library."""
        return step(*args, xp=self.xp)

    def precise(self, precision: str | None, *, scaled: bool = True) -> "Backend":
        """This backend, its products of float32 computed in another precision.

        Args:
            precision: of products; None is the library's own, here float32.
            scaled: whether the step can scale its errors, as float16 needs.
        """
        del scaled
        if precision in (None, "float32"):
            return self
        msg = f"the {self.name} backend multiplies in 'float32', got precision={precision!r}"
        raise BackpropError(msg)

    def whole(self) -> "Backend":
        """This backend, compiling whole steps; most do so always."""
        return self

    def compile(self, step: Step, check: Step | None = None, layout: Any = None) -> "Compiled":
        """A step(w, s, x, t, *, xp) in its fastest form on this library.

        Args:
            step: a pure function.
            check: called as check(w, s, x, t) before the step meets shapes for the first time.
            layout: of the weights, where the step takes them split too.
        """
        del layout
        return Compiled(self, step, check)


class Compiled:
    """A step to be called many times; here it runs as it is.

    Args:
        backend: of the arrays.
        step: a pure function step(w, s, x, t, *, xp) -> (w, s, loss).
        check: called as check(w, s, x, t) before the step meets shapes for the first time.

    Attributes:
        compilations: how often the step was compiled, once for each set of shapes.
    """

    def __init__(self, backend: Backend, step: Step, check: Step | None = None) -> None:
        self.backend, self.step = backend, step
        self.fits = check or (lambda *_: None)
        self.compilations = 0

    def check(self, w: Array, s: Any, x: Array, t: Array) -> None:
        """Whether rows fit the step, by what is static."""
        self.fits(w, s, x, t)

    def sent(self, w: Array, a: Array) -> Array:
        """Rows for many scans, on the device of w; those of NumPy are sent there."""
        if not isinstance(a, numpy.ndarray) or self.backend.owns(a):  # strict and exact leave it to the check
            return a
        sent = self.backend.asarray(a, None, self.backend.device_of(w))
        if a.dtype.kind == "f" and sent.dtype.itemsize != a.dtype.itemsize:
            msg = f"rows of {a.dtype} would be sent as {sent.dtype}: make them {sent.dtype} first"
            raise BackpropError(msg)
        return sent

    def __call__(self, w: Array, s: Any, x: Array, t: Array) -> tuple[Array, Any, Array]:
        """One step; consumes w and s."""
        self.check(w, s, x, t)
        return self.backend.run(self.step, w, s, x, t)  # type: ignore[no-any-return]

    def placed(self, w: Array, x: Array, index: Array) -> Array:
        """An index where w is; one of the host is looked at first."""
        if not isinstance(index, numpy.ndarray):
            return index
        check_rows(index, x)
        return self.backend.asarray(index, self.backend.xp.int32, self.backend.device_of(w))

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
            BackpropError: rows that do not fit; or that are not there, where the index lies on the
                host: one on a device is not read.
        """
        self.check(w, s, x, t)
        batch_size(index)
        xp, losses = self.backend.xp, []
        index = self.placed(w, x, index)
        for k in range(index.shape[0]):
            rows = index[k, :]
            w, s, loss = self(w, s, xp.take(x, rows, axis=0), xp.take(t, rows, axis=0))
            losses.append(loss)
        return w, s, xp.stack(losses)


class InHostMemory(Backend):
    """A library whose arrays lie in memory that NumPy can see."""

    def over(self, memory: Any, a: Array = None) -> Array:
        """An array of this library in the memory of a NumPy array: `a`, if that lies there."""
        return memory


class Standard(Backend):
    """Any other library that follows the Array API standard, met through an array of it."""

    def __init__(self, name: str, xp: Namespace) -> None:
        self.name = name
        self.xp = xp

    def device_of(self, a: Array) -> Any:
        """The array's own device."""
        return a.device


def batch_size(index: Array) -> int:
    """The rows of a step of an index; what has no such form is refused."""
    shape: tuple[Any, ...] = getattr(index, "shape", ())
    if len(shape) != 2 or "int" not in str(index.dtype):
        got = (
            f"shape {tuple(shape)} and dtype {index.dtype}"
            if hasattr(index, "dtype")
            else type(index).__name__
        )
        msg = f"an index is an array of integers of shape (steps, batch), got {got}"
        raise BackpropError(msg)
    return int(shape[1])


def check_rows(index: Array, x: Array) -> None:
    """The rows that an index on the host names are rows of x."""
    if index.size and not 0 <= index.min() <= index.max() < x.shape[0]:
        msg = f"rows are 0 to {x.shape[0] - 1}, got {index.min()} to {index.max()}"
        raise BackpropError(msg)


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
