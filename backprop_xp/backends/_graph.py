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

from ..arrays import Array
from ._program import Program
from ._record import leaves

UPDATES = 16  # steps of one graph in a long scan: the cost of a launch is shared
_WARM_UPS = 2  # kernels compile and products are planned, then memory is as it will be
_INDEX = 1 << 22  # rows named at once
_STEPS = 4096  # steps likewise


class Lane:
    """A stream and a memory pool of their own, on one device.

    Graphs of a lane never run at the same time, so they share the pool: what one graph needs only
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
    def turn(self) -> Iterator[None]:
        """Within the block the lane follows what the caller's stream was given, and precedes the rest."""
        current = self.cupy.cuda.get_current_stream()
        self.stream.wait_event(current.record())
        try:
            yield
        finally:
            current.wait_event(self.stream.record())

    def warm_up(self, run: Callable[[], Any]) -> None:
        """Run as it is, so that nothing is left to be compiled, planned or allocated in a capture."""
        with self.turn(), self._inside():
            for _ in range(_WARM_UPS):
                run()
            self.stream.synchronize()

    def capture(self, run: Callable[[], Any]) -> tuple[Any, Any]:
        """The graph of what a function launches, and what it returns."""
        with self.turn(), self._inside():
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


_GATHER = """
    const long long wide = wide_x > wide_t ? wide_x : wide_t, row = i / wide, j = i % wide;
    long long k = index[at[0] * batch + row] % rows;
    if (k < 0) k += rows;
    if (j < wide_x) x_out[row * wide_x + j] = x[k * wide_x + j];
    if (j < wide_t) t_out[row * wide_t + j] = t[k * wide_t + j];"""
_KEEP = "losses[at[0]] = loss; at[0] += 1"


class Feed:
    """Data on the device and what a graph needs to gather batches from them.

    Args:
        cupy: the module.
        x: inputs; gathered from where they lie.
        t: targets, likewise.
        batch: rows of a step.
        dtype: of the losses.
        steps: the most steps that are named at once; 0 for as many as is sensible.
    """

    def __init__(self, cupy: Any, x: Array, t: Array, batch: int, dtype: Any, steps: int = 0) -> None:
        self.cupy, self.data, self.own = cupy, (x, t), False
        self.steps = steps or max(1, min(_STEPS, _INDEX // batch))
        self.index = cupy.zeros((self.steps, batch), dtype=cupy.int32)
        self.losses = cupy.zeros((self.steps,), dtype=dtype)
        self.at = cupy.zeros((1,), dtype=cupy.int32)
        self.kernels(cupy)

    def kernels(self, cupy: Any) -> None:
        """One kernel takes the rows of a step, another keeps its loss and counts."""
        self.gathering = cupy.ElementwiseKernel(
            "raw int32 index, raw int32 at, raw X x, raw T t, "
            "int64 batch, int64 rows, int64 wide_x, int64 wide_t",
            "raw X x_out, raw T t_out", _GATHER, "gather",
        )  # fmt: skip
        self.keeping = cupy.ElementwiseKernel("T loss", "raw L losses, raw int32 at", _KEEP, "keep")

    def gather(self, batch: list[Array]) -> None:
        """The rows of this step, into the arrays of a batch."""
        count, wide = self.index.shape[1], [place.size // place.shape[0] for place in batch]
        self.gathering(
            self.index, self.at, *self.data, count, self.data[0].shape[0], *wide, *batch,
            size=count * max(wide),
        )  # fmt: skip

    def name(self, index: Array) -> int:
        """Take the rows of the next steps, from the first on; how many steps."""
        self.index[: index.shape[0]] = self.cupy.asarray(index)
        return int(index.shape[0])

    def keep(self, loss: Array) -> None:
        """The loss of this step, and on to the next."""
        self.keeping(loss, self.losses, self.at)

    def begins(self, stream: Any) -> None:
        """A stream is about to read the data."""

    def ended(self, stream: Any) -> None:
        """A stream has been told all that it reads."""

    def holds(self, x: Array, t: Array) -> bool:
        """Whether these data are where graphs look for them; of other data a copy is put there."""
        if all(map(_same_memory, self.data, (x, t))):
            return True
        if self.own:
            for mine, theirs in zip(self.data, (x, t), strict=True):
                mine[...] = theirs
        return self.own

    def moved(self, x: Array, t: Array) -> "Feed":
        """A feed with data of its own: these come from another place each time."""
        feed = Feed(self.cupy, x.copy(), t.copy(), self.index.shape[1], self.losses.dtype)
        feed.own = True
        return feed


class Bound:
    """A program at fixed addresses, and the graphs that run it there.

    Args:
        lane: where graphs are captured and launched.
        program: a step.
        w: the weights to begin with; they are copied.
        s: the state, likewise.
        hidden: state that is not handed out, likewise.
        batch: arrays for x and t.
    """

    def __init__(
        self, lane: Lane, program: Program, w: Array, s: Any, hidden: tuple[Array, ...], batch: list[Array]
    ) -> None:
        self.lane, self.program, self.batch = lane, program, batch
        given = leaves((w, s))
        self.state = [a.copy() for a in (*given, *hidden)]
        self.graphs: dict[Any, tuple[Any, Any]] = {}
        lane.warm_up(self._step)
        for mine, first in zip(self.state[len(given) :], hidden, strict=True):
            mine[...] = first
        self.unheld = [getrefcount(a.data.mem) for a in self.state]

    def _step(self) -> Array:
        return self.program.run(self.state, self.batch)

    def of(self, w: Array) -> bool:
        """Whether these are the weights that were handed out here."""
        return _same_memory(w, self.state[0])

    def held(self) -> bool:
        """Whether somebody still holds what was handed out here, or a view of it."""
        return any(getrefcount(a.data.mem) > n for a, n in zip(self.state, self.unheld, strict=True))

    def take(self, w: Array, s: Any) -> None:
        """Go on from these weights and this state."""
        for mine, given in zip(self.state, leaves((w, s)), strict=False):
            if not _same_memory(mine, given):
                mine[...] = given

    def handed_out(self) -> Iterator[Array]:
        """The weights and the leaves of the state, as new views."""
        return (a[...] for a in self.state)

    def graph(self, feed: Feed | None, updates: int) -> tuple[Any, Any]:
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
            self.graphs[key] = self.lane.capture(run)
        return self.graphs[key]

    def forget(self, feed: Feed) -> None:
        """Drop the graphs that gather from there."""
        self.graphs = {key: graph for key, graph in self.graphs.items() if key[0] is not feed}

    def step(self) -> Array:
        """One step on what is in `batch`."""
        graph, loss = self.graph(None, 1)
        with self.lane.turn():
            graph.launch(self.lane.stream)
        return loss.copy()

    def scan(self, feed: Feed, steps: int) -> Array:
        """One step for each of the first rows of the feed's index; the losses."""
        feed.at[...] = 0
        many, rest = divmod(steps, UPDATES)
        graphs = [self.graph(feed, n)[0] for n, times in ((UPDATES, many), (1, rest)) for _ in range(times)]
        with self.lane.turn():
            feed.begins(self.lane.stream)
            for graph in graphs:
                graph.launch(self.lane.stream)
            feed.ended(self.lane.stream)
        return feed.losses[:steps].copy()


def _same_memory(a: Array, b: Array) -> bool:
    return bool(a.data.ptr == b.data.ptr and a.shape == b.shape and a.strides == b.strides)
