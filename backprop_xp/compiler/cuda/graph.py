"""Steps as CUDA graphs: captured once at fixed addresses, then replayed with no work on the host.

A graph holds bare addresses. So each device has a stream and a memory pool for graphs alone, and state is in
memory that only graphs write. The graph itself gathers the rows of a batch from the data and stacks
what its steps return, by an index and a step counter on the device.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from sys import getrefcount
from typing import Any

from ...arrays import Array
from .executable import Executable
from .feed import BatchGather, same_memory
from .products import OWN_WORKSPACES, Workspace

OUT_OF_MEMORY = 2  # of cudaError_t, and of CUresult
UPDATES = 16  # steps in one graph of a long scan, which share the cost of its launch
WARM_UPS = 2  # the first run compiles kernels and plans products, the second allocates as a capture will


class CaptureStream:
    """A stream and a memory pool for graphs, on one device.

    Graphs of one stream never run at the same time, so they share the pool: the next graph may reuse what
    one needs only while it runs. Nothing else may use that memory: CuPy counts memory freed during capture
    as free, but the graph still uses it. So the pool never returns memory to the device, not even
    when none is left, and products have a workspace that lives as long as the stream.
    """

    def __init__(self, cupy: Any) -> None:
        self.cupy, self.pool = cupy, cupy.cuda.MemoryPool(self._malloc)
        self.cuda_stream, self.workspace = cupy.cuda.Stream(non_blocking=True), Workspace(cupy)
        OWN_WORKSPACES[cupy.cuda.Device().id, self.cuda_stream.ptr] = self.workspace

    def _malloc(self, size: int) -> Any:
        """New memory for the pool; if there is none, an error on which the pool does not free its blocks."""
        cuda = self.cupy.cuda
        try:
            return cuda.MemoryPointer(cuda.Memory(size), 0)
        except cuda.runtime.CUDARuntimeError as error:
            if error.status != OUT_OF_MEMORY:
                raise
            raise cuda.memory.OutOfMemoryError(size, 0) from error

    @contextmanager
    def as_current(self) -> Iterator[None]:
        """Within the block, kernels go to this stream and memory comes from its pool."""
        with self.cuda_stream, self.cupy.cuda.using_allocator(self.pool.malloc):
            yield

    @contextmanager
    def ordered_after_caller(self) -> Iterator[None]:
        """The block's work runs after earlier and before later work of the caller's stream."""
        caller = self.cupy.cuda.get_current_stream()
        self.cuda_stream.wait_event(caller.record())
        try:
            yield
        finally:
            caller.wait_event(self.cuda_stream.record())

    def warm_up(self, run: Callable[[], Any]) -> None:
        """Run without capture, so that a capture need not compile, plan or allocate anything."""
        with self.ordered_after_caller(), self.as_current():
            for _ in range(WARM_UPS):
                run()
            self.cuda_stream.synchronize()

    def capture(self, run: Callable[[], Any]) -> tuple[Any, Any]:
        """Capture a function; return the graph, and what the function returned."""
        with self.ordered_after_caller(), self.as_current():
            gc.collect()
            collecting = gc.isenabled()
            gc.disable()  # a finalizer that calls CUDA would break the capture
            try:
                graph, made = self._capture(run)
            finally:
                if collecting:
                    gc.enable()
            graph.upload(self.cuda_stream)
        return graph, made

    def _capture(self, run: Callable[[], Any]) -> tuple[Any, Any]:
        self.cuda_stream.begin_capture()
        try:
            made = run()
        except BaseException:
            with suppress(Exception):  # ending a broken capture may fail; the first error counts
                self.cuda_stream.end_capture()
            raise
        return self.cuda_stream.end_capture(), made


class GraphInstance:
    """A program at fixed addresses, and the graphs that run it there.

    Held arguments are read in place, and referenced so that their memory stays; or they are
    copied into memory of the instance's own.

    Args:
        stream: where graphs are captured and replayed.
        executable: the program.
        state: the first state; copied.
        held: the held arguments.
        copied: which of these are copied.
        batch: arrays for the rows.
    """

    def __init__(
        self,
        stream: CaptureStream,
        executable: Executable,
        state: list[Array],
        held: list[Array],
        copied: list[bool],
        batch: list[Array],
    ) -> None:
        self.stream, self.executable, self.batch = stream, executable, batch
        self.state, self.copied = [a.copy() for a in state], copied
        self.held = [a.copy() if own else a for a, own in zip(held, copied, strict=True)]
        self.graphs: dict[Any, tuple[Any, list[Array]]] = {}
        stream.warm_up(self._run)
        self._own_references = [getrefcount(a.data.mem) for a in self.state]

    def _run(self) -> list[Array]:
        return self.executable.run([*self.state, *self.held, *self.batch])

    def owns(self, state: list[Array]) -> bool:
        """Whether this state is the one of this instance."""
        return all(map(same_memory, self.state, state))

    def in_use(self) -> list[bool]:
        """For each array of the state, whether a caller still references it, or a view of it."""
        counts = zip(self.state, self._own_references, strict=True)
        return [getrefcount(a.data.mem) > own for a, own in counts]

    def can_load(self, state: list[Array]) -> bool:
        """Whether no caller references what this state would overwrite."""
        columns = zip(self.state, state, self.in_use(), strict=True)
        return all(same_memory(mine, given) or not used for mine, given, used in columns)

    def to_copy(self, held: list[Array]) -> list[bool]:
        """Which held arguments must be copied: those copied already, and those at another address."""
        columns = zip(self.held, held, self.copied, strict=True)
        return [copied or not same_memory(mine, given) for mine, given, copied in columns]

    def load(self, state: list[Array], held: list[Array]) -> None:
        """Go on from this state, with these held arguments."""
        for mine, given in zip(self.state, state, strict=True):
            if not same_memory(mine, given):
                mine[...] = given
        for mine, given, copied in zip(self.held, held, self.copied, strict=True):
            if copied:
                mine[...] = given

    def state_views(self) -> Iterator[Array]:
        """The arrays of the state, as new views."""
        return (a[...] for a in self.state)

    def graph(self, gather: BatchGather | None, steps: int) -> tuple[Any, list[Array]]:
        """The graph of this many steps, and the results of its last step; captured when first asked for."""

        def run() -> list[Array]:
            results: list[Array] = []
            for _ in range(steps):
                if gather is not None:
                    gather.gather(self.batch)
                results = self._run()
                if gather is not None:
                    gather.store(results)
            return results

        key = (gather, steps)
        if key not in self.graphs:
            self.graphs[key] = self.stream.capture(run)
        return self.graphs[key]

    def drop_graphs(self, gather: BatchGather) -> None:
        """Drop the graphs that use this gather."""
        self.graphs = {key: graph for key, graph in self.graphs.items() if key[0] is not gather}

    def step(self) -> list[Array]:
        """One step on what is in `batch`; returns its results, which the next step overwrites."""
        graph, results = self.graph(None, 1)
        with self.stream.ordered_after_caller():
            graph.launch(self.stream.cuda_stream)
        return results

    def scan(self, gather: BatchGather, steps: int) -> list[Array]:
        """The first steps of the index; returns their results, which the next scan overwrites."""
        gather.step[...] = 0
        full, rest = divmod(steps, UPDATES)
        graphs = [self.graph(gather, n)[0] for n, times in ((UPDATES, full), (1, rest)) for _ in range(times)]
        with self.stream.ordered_after_caller():
            gather.wait_for_data(self.stream.cuda_stream)
            for graph in graphs:
                graph.launch(self.stream.cuda_stream)
            gather.record_read(self.stream.cuda_stream)
        return [a[:steps] for a in gather.stacks]
