"""A compiled step on CuPy: its program as fused kernels, captured in CUDA graphs."""

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
from .executable import DeviceLibrary, Executable
from .feed import BatchGather
from .graph import CaptureStream, GraphInstance
from .staging import DoubleBuffer


class Shapes(NamedTuple):
    """What a step is compiled for."""

    kinds: tuple[type, type]
    device: int
    rows: int
    matched: bool
    x: tuple[int, ...]
    x_dtype: Any
    t: tuple[int, ...]
    t_dtype: Any
    w: tuple[int, ...]
    w_dtype: Any


class CapturedStep(Compiled):
    """A step as CUDA graphs, for each set of shapes.

    Args:
        library: CuPy's arrays, and the namespace the step runs on.
        cupy: the module.
        step: as for `Compiled`.
        check: likewise.
        scaled: whether errors are scaled, as products in float16 need.
    """

    def __init__(
        self, library: Library, cupy: Any, step: Step, check: Step | None = None, *, scaled: bool = False
    ) -> None:
        super().__init__(library, step, check)
        self.cupy, self.scaled = cupy, scaled
        self.streams: dict[int, CaptureStream] = {}  # by device
        self.executables: dict[Shapes, Executable] = {}
        self.instances: dict[Shapes, list[GraphInstance]] = {}
        self.gathers: dict[tuple[Shapes, int], BatchGather] = {}  # by the rows of the data, too
        self.double_buffers: dict[Shapes, DoubleBuffer] = {}

    @property
    def kernels(self) -> list[int]:
        """The kernels of a step, for each set of shapes it was compiled for."""
        return [executable.kernels for executable in self.executables.values()]

    def check(self, w: Array, s: Any, x: Array, t: Array) -> None:
        """Whether rows fit; rows on the host are represented by a zero on the device, broadcast."""
        if self.library.owns(w) and all(isinstance(a, np.ndarray) and a.dtype != object for a in (x, t)):
            with w.device:
                x, t = (self.cupy.broadcast_to(self.cupy.zeros((), a.dtype), a.shape) for a in (x, t))
        super().check(w, s, x, t)

    def to_device(self, w: Array, a: Array) -> Array:
        """The rows as they are: `scan` copies them while it runs."""
        return a

    def index_to_device(self, w: Array, x: Array, index: Array) -> Array:
        """The index; copied to the host if x is there, and its rows checked if it is on the host."""
        if isinstance(x, np.ndarray) and not isinstance(index, np.ndarray):
            index = self.cupy.asnumpy(index)
        if isinstance(index, np.ndarray):
            check_rows(index, x)
        return index

    def __call__(self, w: Array, s: Any, x: Array, t: Array) -> tuple[Array, Any, Array]:
        """One step, one graph launch."""
        shapes = self._shapes(w, s, x, t)
        if isinstance(x, np.ndarray):
            super().check(w, s, x, t)  # refuses: only `scan` takes rows from the host
        with self._on_device(w, shapes):
            instance = self._instance(shapes, w, s, x, t)
            instance.batch[0][...], instance.batch[1][...] = x, t
            return *_state(instance, w, s), instance.step()

    def scan(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> tuple[Array, Any, Array]:
        """Many steps, several in one graph, which gathers the rows and stores the losses.

        Data and index may be NumPy arrays: rows are then copied while the steps before them run. An index
        on the device is read only if data are on the host; on the device, a row that does not exist wraps
        around.
        """
        shapes = self._shapes(w, s, x, t, batch_size(index))
        index = self.index_to_device(w, x, index)
        with self._on_device(w, shapes):
            instance = self._instance(shapes, w, s, x, t)
            if isinstance(x, np.ndarray):
                if shapes not in self.double_buffers:
                    self.double_buffers[shapes] = DoubleBuffer(self.cupy, x, t, shapes.rows, shapes.w_dtype)
                losses = self.double_buffers[shapes].scan(instance, x, t, index)
            else:
                gather, losses = self._gather(shapes, x, t), []
                for start in range(0, max(1, index.shape[0]), gather.steps):
                    steps = gather.set_index(index[start : start + gather.steps])
                    losses.append(instance.scan(gather, steps))
            together = losses[0] if len(losses) == 1 else self.cupy.concatenate(losses)
            return *_state(instance, w, s), together

    # ------------------------------------------------------------ what was compiled
    def _shapes(self, w: Array, s: Any, x: Array, t: Array, rows: int | None = None) -> Shapes:
        try:
            return Shapes(
                kinds=(type(x), type(t)),
                device=w.device.id,
                rows=x.shape[0] if rows is None else rows,
                matched=x.shape[:1] == t.shape[:1],  # else nothing is compiled: the check refuses
                x=x.shape[1:],
                x_dtype=x.dtype,
                t=t.shape[1:],
                t_dtype=t.dtype,
                w=w.shape,
                w_dtype=w.dtype,
            )
        except AttributeError:
            self.check(w, s, x, t)
            raise

    def _instance(self, shapes: Shapes, w: Array, s: Any, x: Array, t: Array) -> GraphInstance:
        """The instance that owns w, else one that no caller references; w and s are loaded into it."""
        if shapes not in self.executables:
            self.check(w, s, x, t)
            self.executables[shapes] = self._executable(shapes, w, s)
            self.compilations += 1
        instances = self.instances.setdefault(shapes, [])
        instance = next((each for each in instances if each.owns(w)), None)
        instance = instance or next((each for each in instances if not each.in_use()), None)
        if instance is None:
            batch = [self.cupy.zeros((shapes.rows, *a.shape[1:]), dtype=a.dtype) for a in (x, t)]
            if shapes.device not in self.streams:
                self.streams[shapes.device] = CaptureStream(self.cupy)
            stream, executable = self.streams[shapes.device], self.executables[shapes]
            instance = GraphInstance(stream, executable, w, s, self._loss_scale(), batch)
            instances.append(instance)
        instance.load(w, s)
        return instance

    def _executable(self, shapes: Shapes, w: Array, s: Any) -> Executable:
        xp, cupy = self.library.xp, self.cupy
        device = DeviceLibrary(
            xp,
            fuse=cupy.fuse,
            asarray=cupy.asarray,
            empty=lambda shape, dtype: cupy.empty(shape, dtype=dtype),
            row_kernel=lambda kernel, values: row_kernel.compiled(cupy, kernel, values),
            matmul_with_epilogue=xp.matmul.matmul_with_epilogue,
        )
        x = abstract((shapes.rows, *shapes.x), shapes.x_dtype)
        t = abstract((shapes.rows, *shapes.t), shapes.t_dtype)
        if self.scaled:
            program = record(loss_scale.scaled(self.step), w, (s, *self._loss_scale()), x, t)
        else:
            program = record(self.step, w, s, x, t)
        return Executable(program, device)

    def _loss_scale(self) -> tuple[Array, ...]:
        """The first state of the loss scale: the scale, and the good updates since it changed."""
        if not self.scaled:
            return ()
        xp = self.cupy
        return xp.full((), loss_scale.FIRST, dtype=xp.float32), xp.full((), 0, dtype=xp.int32)

    def _gather(self, shapes: Shapes, x: Array, t: Array) -> BatchGather:
        """Where graphs gather: the first data themselves; if others come, copies at a fixed address."""
        key = shapes, x.shape[0]
        gather = self.gathers.get(key)
        if gather is None:
            gather = self.gathers[key] = BatchGather(self.cupy, x, t, shapes.rows, shapes.w_dtype)
        elif not gather.load(x, t):
            for instance in self.instances[shapes]:
                instance.drop_graphs(gather)
            gather = self.gathers[key] = gather.with_own_data(x, t)
        return gather

    @contextmanager
    def _on_device(self, w: Array, shapes: Shapes) -> Iterator[None]:
        """On the device of w; if it runs out of memory, all that was compiled is freed."""
        try:
            with w.device:
                yield
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            self.instances.clear()
            self.gathers.clear()
            self.double_buffers.clear()
            self.streams.clear()
            self.cupy.get_default_memory_pool().free_all_blocks()
            raise no_memory(shapes.rows, error, usable=True) from error


def _state(instance: GraphInstance, w: Array, s: Any) -> tuple[Array, Any]:
    """The weights and the state of an instance, in the form of w and s."""
    views = instance.state_views()
    w, s = mapped((w, s), lambda _: next(views))
    return w, s
