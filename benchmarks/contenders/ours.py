"""The library: `learner.compile(w)`, then `scan` over the stored batches, or `fit`."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

import backprop_xp as bp
from backprop_xp import backends
from backprop_xp.arrays import leaves

from .. import internals
from ..data import Data, mapped
from ..works import Work


def first(
    work: Work, data: Data, precision: str | None = None, dropout: bool = True, **where: Any
) -> tuple[bp.Learner, Any, Any]:
    """The learner with the shared first weights."""
    learner = replace(work.learner(dropout), precision=precision)
    weights = {}
    for k, (w, b) in enumerate(data.blocks, 1):
        weights |= {f"dense{k}.w": w} | ({} if b is None else {f"dense{k}.b": b})
    return learner, *learner.init(weights=weights, **where)


class Ours:
    """One scan per round.

    Args:
        work: the work.
        data: its data.
        threads: for Torch; the others read it from their environment.
        backend: 'numpy', 'cupy', 'torch' or 'jax'.
        eager: use `learner.step`, one call for each step.
        steps_of_a_graph: how many steps a CUDA graph has; 0 for the library's own number.
        resident: keep rows on the GPU, also those of a work that streams them.
        native: run machine code; without it NumPy calls run, to compare both.
        epilogues: fuse products on a GPU with their epilogue; without it that is a kernel of its own.
        timed: use the fastest algorithm for a product on a GPU, not the first that cuBLASLt offers.
    """

    def __init__(
        self, work: Work, data: Data, threads: int, backend: str = "numpy", eager: bool = False,
        steps_of_a_graph: int = 0, resident: bool = False, native: bool = False, epilogues: bool = True,
        timed: bool = False,
    ) -> None:  # fmt: skip
        if not epilogues:
            internals.without_epilogues()
        if timed:
            internals.time_algorithms()
        if steps_of_a_graph:
            internals.set_steps_of_a_graph(steps_of_a_graph)
        if backend == "torch":
            self.set_torch(work, threads)
        device = work.device if backend == "torch" else None
        settable = work.device == "cuda" and backend != "torch"
        precision, where = work.precision if settable else None, {"backend": backend, "device": device}
        self.learner, self.w, self.s = first(work, data, precision, **where)
        self.work, self.eager, self.to = work, eager, backends.of(self.w)
        self.on_host = work.kind == "stream" and not resident
        arrays = [np.array(data.x), np.array(data.t)] + [work.row_weights] * work.regular
        self.batch = [a if self.on_host else self.put(a) for a in arrays]
        self.index: dict[int, Any] = {}
        self.native = native
        self.compiled = self.learner.compile(self.w, native=native)
        self.w, self.s = self.compiled.pack(self.w, self.s)  # as rivals keep theirs between runs
        self.checked = first(work, data, dropout=False, **where) if work.regular else None

    @staticmethod
    def set_torch(work: Work, threads: int) -> None:
        """Set threads and precision by Torch's own switches."""
        import torch

        if work.precision == "bfloat16":
            msg = "the torch backend has no products of bfloat16"
            raise ValueError(msg)
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("high" if work.precision == "tf32" else "highest")

    def put(self, a: Any) -> Any:
        """An array on the device of the weights, in its own dtype."""
        return bp.asarray(a, like=leaves(self.w)[0], dtype=str(a.dtype))

    def rows(self, steps: int) -> Any:
        """The indices of the rows of each step."""
        if steps not in self.index:
            batch, stored = self.work.batch, self.work.batches
            kind = "int64" if self.to.name in ("numpy", "torch") else "int32"  # each library's own
            rows = (np.arange(steps)[:, None] % stored * batch + np.arange(batch)).astype(kind)
            self.index[steps] = rows if self.on_host else self.put(rows)
        return self.index[steps]

    def run(self, steps: int) -> Any:
        if self.eager:
            return self.step_by_step(steps)
        self.w, self.s, losses = self.compiled.scan(self.w, self.s, *self.batch, self.rows(steps))
        return self.to.to_host(losses)

    def check(self, steps: int) -> Any:
        """The losses of the first steps, without dropout."""
        if self.checked is None:
            return self.run(steps)
        learner, w, s = self.checked
        step = learner.compile(w, native=self.native)
        return self.to.to_host(step.scan(w, s, *self.batch, self.rows(steps))[2])

    def step_by_step(self, steps: int) -> Any:
        losses, size = [], self.work.batch
        for k in range(steps):
            start = k % self.work.batches * size
            batch = [a[start : start + size] for a in self.batch]
            self.w, self.s, loss = self.learner.step(self.w, self.s, *batch)
            losses.append(loss)
        return self.to.to_host(self.to.xp.stack(losses))

    @cached_property
    def ab(self) -> list[Any]:
        return [self.put(a) for a in self.work.factors()]

    def gemm(self) -> Any:
        return self.to.to_host(self.to.xp.matmul(*self.ab))

    def facts(self) -> dict[str, Any]:
        """Kernels of a step, memory of the GPU, and why Torch runs without a graph."""
        found: dict[str, Any] = {}
        if getattr(self.compiled, "eager", None):
            found["eager because"] = self.compiled.eager
        if self.native and self.compiled.not_native:
            found["not native because"] = ", ".join(self.compiled.not_native.values())
        if self.to.name == "cupy":
            import cupy

            pools = cupy.get_default_memory_pool().total_bytes() + internals.graph_bytes(self.compiled)
            found["megabytes"] = pools / 1e6
            if not self.eager:
                found["kernels"] = self.compiled.kernels[0]
        return found


class Rows:
    """Rows for `bp.fit`, without the check of all values that `bp.data.Stored` makes.

    Args:
        arrays: returns inputs and targets: always the same arrays, or a file that it maps anew each time,
            so that memory stays small.
        n: the number of rows.
        units: the number of output units of the net.
        window: how many rows are read, and shuffled, together.
    """

    def __init__(self, arrays: Callable[[], tuple[Any, Any]], n: int, units: int, window: int) -> None:
        self.arrays, self.n, self.outputs, self.window = arrays, n, units, min(window, n)
        self.features = arrays()[0].shape[1]

    def check_for(self, loss: Any, units: int) -> None:
        """Checks nothing; `bp.data.Stored` would check all values once, before the first run."""

    def rows(self, start: int, stop: int) -> tuple[Any, Any]:
        """The rows start, …, stop - 1, as views."""
        x, t = self.arrays()
        return np.asarray(x[start:stop]), np.asarray(t[start:stop])


class FromFile:
    """`bp.fit` over the file, or over the same rows in memory; a run is an epoch of the first rows."""

    window = 4096

    def __init__(
        self, work: Work, data: Data, threads: int, memory: bool = False, native: bool = False
    ) -> None:
        self.learner, self.w, self.s = first(work, data, backend="numpy")
        self.work, self.step = work, self.learner.compile(self.w, native=native)
        self.arrays: Callable[[], tuple[Any, Any]] = lambda: mapped(data.folder)
        if memory:
            stored, self.window = (np.array(data.x), np.array(data.t)), work.rows
            self.arrays = lambda: stored

    def run(self, steps: int) -> Any:
        batch, units = self.work.batch, self.work.widths[-1]
        source = Rows(self.arrays, steps * batch, units, self.window)
        done = bp.fit(self.learner, self.w, self.s, source, batch_size=batch, shuffle=False,
                      step=self.step)  # fmt: skip  # in order, as others read
        self.w, self.s = done.w, done.s
        return [done.history[-1].loss]


class Fit:
    """One `bp.fit` of many epochs, from the first weights in every run; the step is compiled in advance."""

    def __init__(self, work: Work, data: Data, threads: int, native: bool = False) -> None:
        self.learner, self.w, self.s = first(work, data, backend="numpy")
        self.work, self.step = work, self.learner.compile(self.w, native=native)
        self.source = bp.data.Stored(np.array(data.x), np.array(data.t), units=work.widths[-1])

    def run(self, steps: int, shuffle: bool = True) -> Any:
        batch = self.work.batch
        done = bp.fit(self.learner, self.w, self.s, self.source, epochs=steps, batch_size=batch,
                      shuffle=shuffle, step=self.step)  # fmt: skip
        return [epoch.loss for epoch in done.history]

    def check(self, steps: int) -> Any:
        """The same in the rows' own order, the one order that all contenders have in common."""
        return self.run(steps, shuffle=False)


class Scans(Fit):
    """The same epochs as few scans in one order that is drawn in advance: without what `fit` adds."""

    def __init__(self, work: Work, data: Data, threads: int, native: bool = False) -> None:
        super().__init__(work, data, threads, native)
        self.made: dict[tuple[int, bool], list[Any]] = {}

    def orders(self, steps: int, shuffle: bool) -> list[Any]:
        """The rows of every scan: one for all epochs, or two for each where its last batch is short."""
        if (steps, shuffle) not in self.made:
            n, batch = self.work.rows, self.work.batch
            order, full = np.random.default_rng(0).permutation(n) if shuffle else np.arange(n), n - n % batch
            index = order[:full].reshape(-1, batch)
            each = [index, order[None, full:]] * steps
            self.made[steps, shuffle] = each if full < n else [np.tile(index, (steps, 1))]
        return self.made[steps, shuffle]

    def run(self, steps: int, shuffle: bool = True) -> Any:
        rows, losses = self.source.rows(0, self.work.rows), []
        state = self.step.pack(*self.learner.snapshot(self.w, self.s))
        for index in self.orders(steps, shuffle):
            *state, found = self.step.scan(*state, *rows, index)
            losses.append(found)
        return np.concatenate(losses).reshape(steps, -1) @ self.work.shares


class Reading:
    """Reads windows of the file and gathers batches from them, as `fit` does."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        self.batch, units = work.batch, work.widths[-1]
        self.source = Rows(lambda: mapped(data.folder), work.rows, units, FromFile.window)
        self.x = np.empty((work.batch, work.widths[0]), dtype="float32")
        self.t = np.empty(work.batch, dtype="int32")

    def run(self, steps: int) -> Any:
        signs, rows = [], steps * self.batch
        for start in range(0, rows, self.source.window):
            stop = min(start + self.source.window, rows)
            x, t = self.source.rows(start, stop)
            for at in np.arange(stop - start).reshape(-1, self.batch):
                np.take(x, at, 0, self.x, "clip")
                np.take(t, at, 0, self.t, "clip")
                signs.append(float(self.x[-1, -1]) + float(self.t[-1]))
        return signs
