"""Compiled functions on CuPy: programs as fused kernels, captured in CUDA graphs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...arrays import Array
from ...errors import BackpropError, no_memory
from ...library import Library
from ..compiled import Compiled, Function, batch_size, check_rows, check_stack
from ..ir import abstract, leaves, mapped, signature
from ..recorder import record
from . import cublaslt, row_kernel
from .executable import DeviceLibrary, Executable
from .feed import BatchGather
from .graph import OUT_OF_MEMORY, CaptureStream, GraphInstance
from .staging import DoubleBuffer


class Captured(Compiled):
    """A function as CUDA graphs, captured for each signature.

    Args:
        library: CuPy's arrays, and the namespace the function runs on.
        cupy: the module.
        function: as for `Compiled`.
        settings: likewise.
    """

    def __init__(self, library: Library, cupy: Any, function: Function, **settings: Any) -> None:
        super().__init__(library, function, **settings)
        self.cupy = cupy
        self._check_on_device = self.check
        self.check = _with_host_rows(self.check, library, cupy, self.donate + self.hold)
        self.streams: dict[int, CaptureStream] = {}  # by device
        self.executables: dict[Any, Executable] = {}  # by signature, as in the dicts below
        self.instances: dict[Any, list[GraphInstance]] = {}
        self.gathers: dict[tuple[Any, int], BatchGather] = {}  # and by the length of the data
        self.double_buffers: dict[Any, DoubleBuffer] = {}

    @property
    def kernels(self) -> list[int]:
        """How many kernels a call runs, for each signature it was compiled for."""
        return [executable.kernels for executable in self.executables.values()]

    def to_device(self, like: Array, a: Array, *, fresh: bool = False) -> Array:
        """The rows as they are: `scan` copies them while it runs."""
        return a

    def index_to_device(self, rows: Any, index: Array) -> Array:
        """The index; copied to the host if the rows are there, and checked if it is on the host."""
        first = leaves(rows)[0]
        if isinstance(first, np.ndarray) and not isinstance(index, np.ndarray):
            index = self.cupy.asnumpy(index)
        if isinstance(index, np.ndarray):
            check_rows(index, first)
        return index

    def __call__(self, *args: Any) -> Any:
        """One call, one graph launch."""
        rows = leaves(self._parts(args)[2])
        if any(isinstance(a, np.ndarray) for a in rows):
            self._check_on_device(*args)  # refuses: only `scan` takes rows from the host
        with self._on_device(args, rows[0].shape[:1] if rows else ()):
            instance = self._instance(self._signature(args, None), args)
            for mine, given in zip(instance.batch, rows, strict=True):
                mine[...] = given
            return self._returned(args, instance, [a.copy() for a in instance.step()])

    def scan(self, *args: Any) -> Any:
        """Many calls, several in one graph, which gathers the rows and stacks the results.

        Rows and index may be NumPy arrays: rows are then copied while earlier steps run. An index on the
        device is checked only if the rows are on the host; else a row number out of range wraps around.
        """
        *given, index = args
        key, data = self._signature(given, batch_size(index)), self._rows(given)
        index = self.index_to_device(data, index)
        with self._on_device(given, index.shape[1:]):
            instance, start = self._instance(key, given), 0
            like, steps = instance.executable.results, index.shape[0]
            check_stack(like, steps)
            out = [self.cupy.empty((steps, *a.shape), dtype=a.dtype) for a in like]
            scanned = self._scan_host if isinstance(data[0], np.ndarray) else self._scan_device
            for part in scanned(key, instance, data, index):
                for whole, some in zip(out, part, strict=True):
                    whole[start : start + some.shape[0]] = some
                start += part[0].shape[0] if part else 0
            return self._returned(given, instance, out)

    def _scan_device(
        self, key: Any, instance: GraphInstance, data: list[Array], index: Array
    ) -> Iterator[list[Array]]:
        gather = self._gather(key, instance, data)
        for start in range(0, index.shape[0], gather.steps):
            steps = gather.set_index(index[start : start + gather.steps])
            yield instance.scan(gather, steps)

    def _scan_host(
        self, key: Any, instance: GraphInstance, data: list[Array], index: Array
    ) -> Iterator[list[Array]]:
        if key not in self.double_buffers:
            results = instance.executable.results
            self.double_buffers[key] = DoubleBuffer(self.cupy, data, index.shape[1], results)
        return self.double_buffers[key].scan(instance, data, index)

    # ------------------------------------------------------------ what was compiled
    def _signature(self, args: Any, batch: int | None) -> Any:
        """The batch size (None in a call), and the signature of the arguments: a key of the caches."""
        state, held, rows = self._parts(args)
        return batch, signature((state, held)), signature(rows, skip=batch is not None)

    def _rows(self, args: Any) -> list[Array]:
        """The rows of a scan.

        Raises:
            BackpropError: they are not arrays of equal length.
        """
        rows = leaves(self._parts(args)[2])
        lengths = {a.shape[:1] for a in rows}
        if len(lengths) != 1 or lengths == {()}:
            self.check(*args)
            msg = f"a scan gathers from arrays of equally many rows, got {[tuple(a.shape) for a in rows]}"
            raise BackpropError(msg)
        return rows

    def _instance(self, key: Any, args: Any) -> GraphInstance:
        """The instance that owns the state, else one whose own state no caller references."""
        if key not in self.executables:
            self.check(*args)
            self.executables[key] = self._executable(key[0], args)
            self.compilations += 1
        state, held, rows = map(leaves, self._parts(args))
        instances = self.instances.setdefault(key, [])
        instance = next((each for each in instances if each.owns(state)), None)
        instance = instance or next((each for each in instances if each.can_load(state)), None)
        copied = instance.to_copy(held) if instance else [False] * len(held)
        # Where held arguments lie at another address than before, they are copied from now on.
        if instance is None or copied != instance.copied:
            if instance is not None:
                instances.remove(instance)
            shapes = [self._shape(a, key[0]) for a in rows]
            batch = [self.cupy.zeros(shape, dtype=a.dtype) for shape, a in zip(shapes, rows, strict=True)]
            instance = GraphInstance(self._stream(), self.executables[key], state, held, copied, batch)
            instances.append(instance)
        instance.load(state, held)
        return instance

    def _stream(self) -> CaptureStream:
        device = self.cupy.cuda.Device().id
        if device not in self.streams:
            self.streams[device] = CaptureStream(self.cupy)
        return self.streams[device]

    @staticmethod
    def _shape(a: Array, batch: int | None) -> tuple[int, ...]:
        """The shape that a step is given: that of the array, or of a batch of its rows."""
        return tuple(a.shape) if batch is None else (batch, *a.shape[1:])

    def _executable(self, batch: int | None, args: Any) -> Executable:
        xp, cupy = self.library.xp, self.cupy
        device = DeviceLibrary(
            xp,
            fuse=cupy.fuse,
            asarray=cupy.asarray,
            empty=lambda shape, dtype: cupy.empty(shape, dtype=dtype),
            row_kernel=lambda kernel, values: row_kernel.compiled(cupy, kernel, values),
            matmul_with_epilogue=xp.matmul.matmul_with_epilogue,
            operand=xp.matmul.operand if xp.matmul.narrow else None,
        )
        state, held, rows = self._parts(args)
        rows = mapped(rows, lambda a: abstract(self._shape(a, batch), a.dtype))
        return Executable(record(self.function, *state, *held, *rows), self.donate, device)

    def _gather(self, key: Any, instance: GraphInstance, data: list[Array]) -> BatchGather:
        """What graphs gather from: the data themselves; once other data come, copies at a fixed address."""
        where = key, data[0].shape[0]
        gather = self.gathers.get(where)
        if gather is None:
            results = instance.executable.results
            gather = self.gathers[where] = BatchGather(self.cupy, data, key[0], results)
        elif not gather.load(data):
            for each in self.instances[key]:
                each.drop_graphs(gather)
            gather = self.gathers[where] = gather.with_own_data(data)
        return gather

    def _returned(self, args: Any, instance: GraphInstance, out: list[Array]) -> Any:
        """State and results in the structure that the function returns."""
        each, views = iter(out), instance.state_views()
        results = mapped(instance.executable.fused.results, lambda _: next(each))
        if not self.donate:
            return results
        return *mapped(tuple(args[: self.donate]), lambda _: next(views)), *results

    @contextmanager
    def _on_device(self, args: Any, rows: Any) -> Iterator[None]:
        """Run on the device of the arguments; if it runs out of memory, free all graphs and buffers."""
        device = next((a.device for a in leaves(tuple(args)) if self.library.owns(a)), None)
        try:
            with device or self.cupy.cuda.Device():
                yield
        except Exception as error:
            if not self._no_memory(error):
                raise
            self.instances.clear()
            self.gathers.clear()
            self.double_buffers.clear()
            self.streams.clear()
            self.cupy.get_default_memory_pool().free_all_blocks()
            raise no_memory(rows[0] if rows else 0, error, usable=True) from error

    def _no_memory(self, error: Exception) -> bool:
        """Whether the device had no memory left: for an array, a product, a kernel's code or a graph."""
        cuda = self.cupy.cuda
        if isinstance(error, (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError)):
            return bool(error.status == OUT_OF_MEMORY)
        return isinstance(error, (cuda.memory.OutOfMemoryError, cublaslt.OutOfMemory))


def _with_host_rows(check: Function, library: Library, cupy: Any, before: int) -> Function:
    """A check of host rows too: a broadcast zero on the device stands in for each of their arrays.

    Args:
        check: the check, of arrays on the device.
        library: CuPy's arrays.
        cupy: the module.
        before: how many arguments come before the rows.
    """

    def checked(*args: Any) -> Any:
        first, rows = leaves(args)[:1], args[before:]
        on_host = all(isinstance(a, np.ndarray) and a.dtype != object for a in leaves(rows))
        if on_host and first and library.owns(first[0]):
            with first[0].device:
                rows = mapped(rows, lambda a: cupy.broadcast_to(cupy.zeros((), a.dtype), a.shape))
        return check(*args[:before], *rows)

    return checked
