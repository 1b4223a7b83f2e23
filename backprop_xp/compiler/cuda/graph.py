"""Steps as CUDA graphs: captured once at fixed addresses, then launched with no work on the host.

A graph holds bare addresses. So each compiled step has a stream and a memory pool of its own, state
lives in memory that only graphs write, and the data are gathered by the graph itself from where
they lie, along an index and a counter on the device.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from sys import getrefcount
from typing import Any

from ...arrays import Array
from ..ir import leaves
from .executable import Executable
from .feed import BatchGather, same_memory

UPDATES = 16  # steps of one graph in a long scan: the cost of a launch is shared
_WARM_UPS = 2  # kernels compile and products are planned, then memory is as it will be


class CaptureStream:
    """A stream and a memory pool of their own, on one device.

    Graphs of a stream never run at the same time, so they share the pool: what one graph needs only
    while it runs, the next may use too. Nothing else may, since CuPy takes memory that was freed
    during capture for free.
    """

    def __init__(self, cupy: Any) -> None:
        self.cupy, self.pool = cupy, cupy.cuda.MemoryPool()
        self.stream = cupy.cuda.Stream(non_blocking=True)

    @contextmanager
    def _inside(self) -> Iterator[None]:
        with self.stream, self.cupy.cuda.using_allocator(self.pool.malloc):
            yield

    @contextmanager
    def ordered_after_caller(self) -> Iterator[None]:
        """Within the block the stream follows what the caller's stream was given, and precedes the rest."""
        current = self.cupy.cuda.get_current_stream()
        self.stream.wait_event(current.record())
        try:
            yield
        finally:
            current.wait_event(self.stream.record())

    def warm_up(self, run: Callable[[], Any]) -> None:
        """Run as it is, so that nothing is left to be compiled, planned or allocated in a capture."""
        with self.ordered_after_caller(), self._inside():
            for _ in range(_WARM_UPS):
                run()
            self.stream.synchronize()

    def capture(self, run: Callable[[], Any]) -> tuple[Any, Any]:
        """The graph of what a function launches, and what it returns."""
        with self.ordered_after_caller(), self._inside():
            gc.collect()
            collecting = gc.isenabled()
            gc.disable()  # no finalizer may call CUDA while the stream is captured
            try:
                graph, made = self._captured(run)
            finally:
                if collecting:
                    gc.enable()
            graph.upload(self.stream)
        return graph, made

    def _captured(self, run: Callable[[], Any]) -> tuple[Any, Any]:
        self.stream.begin_capture()
        try:
            made = run()
        except BaseException:
            with suppress(Exception):  # leave the capture; the error in it is what counts
                self.stream.end_capture()
            raise
        return self.stream.end_capture(), made


class GraphInstance:
    """A program at fixed addresses, and the graphs that run it there.

    Args:
        stream: where graphs are captured and launched.
        executable: a step.
        w: the weights to begin with; they are copied.
        s: the state, likewise.
        hidden: state that is not handed out, likewise.
        batch: arrays for x and t.
    """

    def __init__(
        self, stream: CaptureStream, executable: Executable, w: Array, s: Any, hidden: tuple[Array, ...], batch: list[Array]
    ) -> None:
        self.stream, self.executable, self.batch = stream, executable, batch
        given = leaves((w, s))
        self.state = [a.copy() for a in (*given, *hidden)]
        self.graphs: dict[Any, tuple[Any, Any]] = {}
        stream.warm_up(self._step)
        for mine, first in zip(self.state[len(given) :], hidden, strict=True):
            mine[...] = first
        self.unheld = [getrefcount(a.data.mem) for a in self.state]

    def _step(self) -> Array:
        return self.executable.run(self.state, self.batch)

    def of(self, w: Array) -> bool:
        """Whether these are the weights that were handed out here."""
        return same_memory(w, self.state[0])

    def in_use(self) -> bool:
        """Whether somebody still holds what was handed out here, or a view of it."""
        return any(getrefcount(a.data.mem) > n for a, n in zip(self.state, self.unheld, strict=True))

    def take(self, w: Array, s: Any) -> None:
        """Go on from these weights and this state."""
        for mine, given in zip(self.state, leaves((w, s)), strict=False):
            if not same_memory(mine, given):
                mine[...] = given

    def handed_out(self) -> Iterator[Array]:
        """The weights and the leaves of the state, as new views."""
        return (a[...] for a in self.state)

    def graph(self, feed: BatchGather | None, updates: int) -> tuple[Any, Any]:
        """The graph of so many steps, and the loss it leaves; captured when first asked for."""

        def run() -> Array:
            for _ in range(updates):
                if feed is not None:
                    feed.gather(self.batch)
                loss = self._step()
                if feed is not None:
                    feed.keep(loss)
            return loss

        key = (feed, updates)
        if key not in self.graphs:
            self.graphs[key] = self.stream.capture(run)
        return self.graphs[key]

    def forget(self, feed: BatchGather) -> None:
        """Drop the graphs that gather from there."""
        self.graphs = {key: graph for key, graph in self.graphs.items() if key[0] is not feed}

    def step(self) -> Array:
        """One step on what is in `batch`."""
        graph, loss = self.graph(None, 1)
        with self.stream.ordered_after_caller():
            graph.launch(self.stream.stream)
        return loss.copy()

    def scan(self, feed: BatchGather, steps: int) -> Array:
        """One step for each of the first rows of the feed's index; the losses."""
        feed.at[...] = 0
        many, rest = divmod(steps, UPDATES)
        graphs = [self.graph(feed, n)[0] for n, times in ((UPDATES, many), (1, rest)) for _ in range(times)]
        with self.stream.ordered_after_caller():
            feed.begins(self.stream.stream)
            for graph in graphs:
                graph.launch(self.stream.stream)
            feed.ended(self.stream.stream)
        return feed.losses[:steps].copy()
