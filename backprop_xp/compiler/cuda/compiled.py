"""A compiled step on CuPy: kernels fused from its program, captured in CUDA graphs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ...arrays import Array
from ...errors import no_memory
from ...library import Library
from ..compiled import Compiled, Step, batch_size, check_rows
from ..ir import abstract, mapped
from ..recorder import record
from . import loss_scale, row_kernel
from .executable import Device, Executable
from .feed import BatchGather
from .graph import CaptureStream, GraphInstance
from .staging import DoubleBuffer


class CapturedStep(Compiled):
    """A step as CUDA graphs, for each set of shapes.

    Attributes:
        kernels: the launches of a step, by the shapes it was compiled for.
    """

    def __init__(
        self, library: Library, cupy: Any, step: Step, check: Step | None = None, *, scaled: bool = False
    ) -> None:
        super().__init__(library, step, check)
        self.cupy, self.scaled = cupy, scaled
        self.run = loss_scale.scaled(step) if scaled else step
        self.streams: dict[int, CaptureStream] = {}
        self.executables: dict[Shapes, Executable] = {}
        self.instances: dict[Shapes, list[GraphInstance]] = {}
        self.feeds: dict[Shapes, BatchGather] = {}
        self.buffers: dict[Shapes, DoubleBuffer] = {}

    @property
    def kernels(self) -> list[int]:
        """The launches of a step, for each set of shapes it was compiled for."""
        return [executable.kernels for executable in self.executables.values()]

    def check(self, w: Array, s: Any, x: Array, t: Array) -> None:
        """Whether rows fit; for those on the host stands one zero, spread to their shape."""
        if self.library.owns(w) and all(isinstance(a, np.ndarray) and a.dtype != object for a in (x, t)):
            with w.device:
                x, t = (self.cupy.broadcast_to(self.cupy.zeros((), a.dtype), a.shape) for a in (x, t))
        self._check(w, s, x, t)

    def to_device(self, w: Array, a: Array) -> Array:
        """The rows as they are: `scan` sends them while it runs."""
        return a

    def index_to_device(self, w: Array, x: Array, index: Array) -> Array:
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
            self._check(w, s, x, t)  # which refuses it: a single step sends nothing
        with self.on_device(w, shapes):
            instance = self._bound(shapes, w, s, x, t)
            instance.batch[0][...], instance.batch[1][...] = x, t
            return *_handed_out(instance, w, s), instance.step()

    def scan(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> tuple[Array, Any, Array]:
        """Many steps, several to a launch; the graph gathers the rows and keeps the losses.

        Data and index may be NumPy arrays: then rows are sent while the steps before them run. An
        index on the device is not read, unless data are on the host; on the device a row that is not
        there wraps around.
        """
        shapes = self._shapes(w, s, x, t, batch_size(index))
        index = self.index_to_device(w, x, index)
        with self.on_device(w, shapes):
            instance = self._bound(shapes, w, s, x, t)
            if isinstance(x, np.ndarray):
                if shapes not in self.buffers:
                    self.buffers[shapes] = DoubleBuffer(self.cupy, x, t, shapes.rows, shapes.w_dtype)
                losses = self.buffers[shapes].scan(instance, x, t, index)
            else:
                feed = self._feed(shapes, x, t)
                starts = range(0, max(1, index.shape[0]), feed.steps)
                losses = [instance.scan(feed, feed.name(index[k : k + feed.steps])) for k in starts]
            return *_handed_out(instance, w, s), losses[0] if len(losses) == 1 else self.cupy.concatenate(losses)

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

    def _bound(self, shapes: "Shapes", w: Array, s: Any, x: Array, t: Array) -> GraphInstance:
        """The program of these shapes where w and s are; else where nobody holds what is there."""
        if shapes not in self.executables:
            self.check(w, s, x, t)
            self.executables[shapes] = self._executable(shapes, w, s)
            self.compilations += 1
        found = self.instances.setdefault(shapes, [])
        instance = next((b for b in found if b.of(w)), None) or next((b for b in found if not b.in_use()), None)
        if instance is None:
            batch = [self.cupy.zeros((shapes.rows, *a.shape[1:]), dtype=a.dtype) for a in (x, t)]
            if shapes.device not in self.streams:
                self.streams[shapes.device] = CaptureStream(self.cupy)
            instance = GraphInstance(self.streams[shapes.device], self.executables[shapes], w, s, self._hidden(), batch)
            found.append(instance)
        instance.take(w, s)
        return instance

    def _executable(self, shapes: "Shapes", w: Array, s: Any) -> Executable:
        xp, cupy = self.library.xp, self.cupy
        device = Device(
            xp,
            cupy.fuse,
            cupy.asarray,
            lambda shape, dtype: cupy.empty(shape, dtype=dtype),
            lambda kernel, values: row_kernel.compiled(cupy, kernel, values),
            xp.matmul.matmul_with_epilogue,
        )
        x, t = (
            abstract((shapes.rows, *shapes.x), shapes.x_dtype),
            abstract((shapes.rows, *shapes.t), shapes.t_dtype),
        )
        given = (s, *self._hidden()) if self.scaled else s
        return Executable(record(self.run, w, given, x, t), device)

    def _hidden(self) -> tuple[Array, ...]:
        """The scale of float16 products, and how long it has been good."""
        first = ((loss_scale.FIRST, self.cupy.float32), (0, self.cupy.int32)) if self.scaled else ()
        return tuple(self.cupy.full((), value, dtype=dtype) for value, dtype in first)

    def _feed(self, shapes: "Shapes", x: Array, t: Array) -> BatchGather:
        """Where graphs of these shapes gather: from the data that came first, then from copies."""
        key = shapes._replace(device=(shapes.device, x.shape[0]))
        feed = self.feeds.get(key)
        if feed is None:
            feed = self.feeds[key] = BatchGather(self.cupy, x, t, shapes.rows, shapes.w_dtype)
        elif not feed.holds(x, t):
            for instance in self.instances[shapes]:
                instance.forget(feed)
            feed = self.feeds[key] = feed.moved(x, t)
        return feed

    # ------------------------------------------------------------ memory
    @contextmanager
    def on_device(self, w: Array, shapes: "Shapes") -> Iterator[None]:
        """On the device of w; where its memory does not suffice, all that was compiled is given back."""
        try:
            with w.device:
                yield
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            self.instances.clear()
            self.feeds.clear()
            self.streams.clear()
            self.streams.clear()
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


def _handed_out(instance: GraphInstance, w: Array, s: Any) -> tuple[Array, Any]:
    """The weights and the state of a instance program, in the form of w and s."""
    arrays = instance.handed_out()
    w, s = mapped((w, s), lambda _: next(arrays))
    return w, s
