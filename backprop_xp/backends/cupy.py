"""CuPy: NumPy's functions on an NVIDIA GPU, a compiled step as CUDA graphs."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, BackendUnavailable, BackpropError, listed
from . import _rows, _scaling
from ._base import Backend, Compiled, Step, batch_size, check_rows, no_memory, unavailable
from ._cublaslt import PRECISIONS, Products
from ._graph import Bound, Feed, Lane
from ._program import Library, Program
from ._record import mapped, record
from ._sketch import Sketch, hollow
from ._stream import Streamed

TYPES = ("cupy",)


class CuPy(Backend):
    """The namespace of array-api-compat, with products that a CUDA graph can capture."""

    name = "cupy"
    precision = "float32"

    def __init__(self) -> None:
        import array_api_compat.cupy as compat
        import cupy

        if not cupy.cuda.is_available():
            msg = (
                "CuPy is installed, but no GPU was found: it needs an NVIDIA GPU and its driver "
                "(nvidia-smi shows both); use backend='numpy' on this machine"
            )
            raise BackendUnavailable(msg)
        self.cupy = cupy
        names = {n: getattr(compat, n) for n in dir(compat) if n[0] != "_"}
        self.xp = SimpleNamespace(**names | {"matmul": Products(cupy)})

    def owns(self, a: Any) -> bool:
        """CuPy arrays."""
        return isinstance(a, self.cupy.ndarray)

    def device(self, name: Any) -> Any:
        """A GPU by number or name: 0, "cuda", "cuda:1"."""
        if name is None:
            return None
        _, _, number = str(name).rpartition(":") if ":" in str(name) else ("", "", str(name))
        number = "0" if number in ("cuda", "gpu") else number
        count = self.cupy.cuda.runtime.getDeviceCount()
        if not number.isdigit() or int(number) >= count:
            msg = f"CuPy has GPUs 0 to {count - 1}, got {name!r}: write device='cuda:0'"
            raise BackpropError(msg)
        return self.cupy.cuda.Device(int(number))

    def device_of(self, a: Array) -> Any:
        """The array's GPU."""
        return a.device

    def asarray(self, data: Any, dtype: Any, device: Any) -> Array:
        """Lists, NumPy arrays or CuPy arrays, on the GPU."""
        with device or self.cupy.cuda.Device():
            return self.cupy.asarray(data, dtype=dtype)

    def to_host(self, a: Array) -> Any:
        """A NumPy copy."""
        return self.cupy.asnumpy(a)

    def synchronize(self) -> None:
        """Wait for the current stream."""
        self.cupy.cuda.get_current_stream().synchronize()

    def precise(self, precision: str | None, *, scaled: bool = True) -> "CuPy":
        """This backend, its products of float32 computed in another precision."""
        if precision in (None, self.precision):
            return self
        if precision not in PRECISIONS or (precision == "float16" and not scaled):
            known = [name for name in PRECISIONS if scaled or name != "float16"]
            msg = f"the precision of products is one of {listed(known)} here, got {precision!r}"
            raise BackpropError(msg)
        other = copy(self)
        other.precision = precision
        other.xp = SimpleNamespace(**vars(self.xp) | {"matmul": Products(self.cupy, precision)})
        return other

    def compile(self, step: Step, check: Step | None = None, layout: Any = None) -> Compiled:
        """The step captured once for each set of shapes, then launched."""
        return Captured(self, step, check)


class Captured(Compiled):
    """A step as CUDA graphs, for each set of shapes.

    Attributes:
        kernels: the launches of a step, by the shapes it was compiled for.
    """

    def __init__(self, backend: CuPy, step: Step, check: Step | None = None) -> None:
        super().__init__(backend, step, check)
        self.cupy, self.scaled = backend.cupy, backend.precision == "float16"
        self.run = _scaling.scaled(step) if self.scaled else step
        self.lanes: dict[int, Lane] = {}
        self.programs: dict[Shapes, Program] = {}
        self.bounds: dict[Shapes, list[Bound]] = {}
        self.feeds: dict[Shapes, Feed] = {}
        self.streams: dict[Shapes, Streamed] = {}

    @property
    def kernels(self) -> list[int]:
        """The launches of a step, for each set of shapes it was compiled for."""
        return [program.kernels for program in self.programs.values()]

    def check(self, w: Array, s: Any, x: Array, t: Array) -> None:
        """Whether rows fit; for those on the host stands one zero, spread to their shape."""
        if self.backend.owns(w) and all(isinstance(a, np.ndarray) and a.dtype != object for a in (x, t)):
            with w.device:
                x, t = (self.cupy.broadcast_to(self.cupy.zeros((), a.dtype), a.shape) for a in (x, t))
        self.fits(w, s, x, t)

    def sent(self, w: Array, a: Array) -> Array:
        """The rows as they are: `scan` sends them while it runs."""
        return a

    def placed(self, w: Array, x: Array, index: Array) -> Array:
        """The index where x is; one of the host is looked at, and sent later."""
        if isinstance(x, np.ndarray) and not isinstance(index, np.ndarray):
            index = self.cupy.asnumpy(index)
        if isinstance(index, np.ndarray):
            check_rows(index, x)
        return index

    def __call__(self, w: Array, s: Any, x: Array, t: Array) -> tuple[Array, Any, Array]:
        """One step, one launch."""
        shapes = self._shapes(w, s, x, t)
        if isinstance(x, np.ndarray):
            self.fits(w, s, x, t)  # which refuses it: a single step sends nothing
        with self._room(w, shapes):
            bound = self._bound(shapes, w, s, x, t)
            bound.batch[0][...], bound.batch[1][...] = x, t
            return *_handed_out(bound, w, s), bound.step()

    def scan(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> tuple[Array, Any, Array]:
        """Many steps, several to a launch; the graph gathers the rows and keeps the losses.

        Data and index may be NumPy arrays: then rows are sent while the steps before them run. An
        index on the device is not read, unless data are on the host; on the device a row that is not
        there wraps around.
        """
        shapes = self._shapes(w, s, x, t, batch_size(index))
        index = self.placed(w, x, index)
        with self._room(w, shapes):
            bound = self._bound(shapes, w, s, x, t)
            if isinstance(x, np.ndarray):
                if shapes not in self.streams:
                    self.streams[shapes] = Streamed(self.cupy, x, t, shapes.rows, shapes.w_dtype)
                losses = self.streams[shapes].scan(bound, x, t, index)
            else:
                feed = self._feed(shapes, x, t)
                starts = range(0, max(1, index.shape[0]), feed.steps)
                losses = [bound.scan(feed, feed.name(index[k : k + feed.steps])) for k in starts]
            return *_handed_out(bound, w, s), losses[0] if len(losses) == 1 else self.cupy.concatenate(losses)

    # ------------------------------------------------------------ what was compiled
    def _shapes(self, w: Array, s: Any, x: Array, t: Array, rows: int | None = None) -> "Shapes":
        try:
            matched = x.shape[:1] == t.shape[:1]  # else there is no program, and the check tells why
            rows = x.shape[0] if rows is None else rows
            return Shapes(
                (type(x), type(t)),
                w.device.id,
                rows,
                matched,
                x.shape[1:],
                x.dtype,
                t.shape[1:],
                t.dtype,
                w.shape,
                w.dtype,
            )
        except AttributeError:
            self.check(w, s, x, t)
            raise

    def _bound(self, shapes: "Shapes", w: Array, s: Any, x: Array, t: Array) -> Bound:
        """The program of these shapes where w and s are; else where nobody holds what is there."""
        if shapes not in self.programs:
            self.check(w, s, x, t)
            self.programs[shapes] = self._program(shapes, w, s)
            self.compilations += 1
        found = self.bounds.setdefault(shapes, [])
        bound = next((b for b in found if b.of(w)), None) or next((b for b in found if not b.held()), None)
        if bound is None:
            batch = [self.cupy.zeros((shapes.rows, *a.shape[1:]), dtype=a.dtype) for a in (x, t)]
            if shapes.device not in self.lanes:
                self.lanes[shapes.device] = Lane(self.cupy)
            bound = Bound(self.lanes[shapes.device], self.programs[shapes], w, s, self._hidden(), batch)
            found.append(bound)
        bound.take(w, s)
        return bound

    def _program(self, shapes: "Shapes", w: Array, s: Any) -> Program:
        xp, cupy = self.backend.xp, self.cupy
        library = Library(
            xp,
            cupy.fuse,
            cupy.asarray,
            lambda shape, dtype: cupy.empty(shape, dtype=dtype),
            lambda launch, values: _rows.kernel(cupy, launch, values),
            xp.matmul.along,
        )
        x, t = (
            hollow((shapes.rows, *shapes.x), shapes.x_dtype),
            hollow((shapes.rows, *shapes.t), shapes.t_dtype),
        )
        given = (s, *self._hidden()) if self.scaled else s
        return Program(record(self.run, w, given, x, t, tape=Sketch()), library)

    def _hidden(self) -> tuple[Array, ...]:
        """The scale of float16 products, and how long it has been good."""
        first = ((_scaling.FIRST, self.cupy.float32), (0, self.cupy.int32)) if self.scaled else ()
        return tuple(self.cupy.full((), value, dtype=dtype) for value, dtype in first)

    def _feed(self, shapes: "Shapes", x: Array, t: Array) -> Feed:
        """Where graphs of these shapes gather: from the data that came first, then from copies."""
        key = shapes._replace(device=(shapes.device, x.shape[0]))
        feed = self.feeds.get(key)
        if feed is None:
            feed = self.feeds[key] = Feed(self.cupy, x, t, shapes.rows, shapes.w_dtype)
        elif not feed.holds(x, t):
            for bound in self.bounds[shapes]:
                bound.forget(feed)
            feed = self.feeds[key] = feed.moved(x, t)
        return feed

    # ------------------------------------------------------------ memory
    @contextmanager
    def _room(self, w: Array, shapes: "Shapes") -> Iterator[None]:
        """On the device of w; where its memory does not suffice, all that was compiled is given back."""
        try:
            with w.device:
                yield
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            self.bounds.clear()
            self.feeds.clear()
            self.streams.clear()
            self.lanes.clear()
            self.cupy.get_default_memory_pool().free_all_blocks()
            raise no_memory(shapes.rows, error, usable=True) from error


class Shapes(NamedTuple):
    """What a program is compiled for."""

    kind: tuple[type, type]
    device: Any
    rows: int
    matched: bool
    x: tuple[int, ...]
    x_dtype: Any
    t: tuple[int, ...]
    t_dtype: Any
    w: tuple[int, ...]
    w_dtype: Any


def _handed_out(bound: Bound, w: Array, s: Any) -> tuple[Array, Any]:
    """The weights and the state of a bound program, in the form of w and s."""
    arrays = bound.handed_out()
    w, s = mapped((w, s), lambda _: next(arrays))
    return w, s


def load() -> Backend:
    """The CuPy backend."""
    try:
        return CuPy()
    except BackendUnavailable:
        raise
    except ImportError as error:
        raise unavailable(library="CuPy", extra="cuda12") from error
