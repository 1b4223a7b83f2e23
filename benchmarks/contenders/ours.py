"""The library, through its one call: `learner.compile(w)`, then `scan` over the stored batches, or `fit`."""

from functools import cached_property
from typing import Any

import numpy as np

import backprop_xp as bp
from backprop_xp import backends

from ..data import Data, File
from ..works import Work

_WARM = 600_000  # steps after which the NumPy backend has called Numba, where it may


def first(work: Work, data: Data, backend: str) -> tuple[bp.Learner, Any, Any]:
    """The learner with the shared first weights."""
    learner = work.learner()
    weights = {}
    for k, (w, b) in enumerate(data.blocks, 1):
        weights |= {f"dense{k}.w": w} | ({} if b is None else {f"dense{k}.b": b})
    return learner, *learner.init(backend=backend, weights=weights)


class Ours:
    """One scan a round."""

    def __init__(
        self,
        work: Work,
        data: Data,
        threads: int,
        backend: str = "numpy",
        warm: bool = False,
        whole: bool = False,
    ) -> None:
        if backend == "torch":
            import torch

            torch.set_num_threads(threads)
        learner, self.w, self.s = first(work, data, backend)
        self.to = backends.of(self.w)
        x, t = data.batches(work)
        self.x = bp.asarray(x.reshape(-1, *x.shape[2:]), like=self.w)
        self.t = bp.asarray(t.reshape(-1, *t.shape[2:]), like=self.w, dtype="int32" if work.labels else None)
        self.index, self.work = {}, work
        self.step = learner.compile(self.w, whole=whole)
        if warm:
            w, s = learner.snapshot(self.w, self.s)
            for _ in range(-(-_WARM // work.steps)):
                w, s, _ = self.step.scan(w, s, self.x, self.t, self.rows(work.steps))

    def rows(self, steps: int) -> Any:
        if steps not in self.index:
            rows = np.arange(steps * self.work.batch).reshape(steps, -1)
            kind = "int64" if self.to.name == "numpy" else "int32"  # each library's own
            self.index[steps] = bp.asarray(rows, like=self.w, dtype=kind)
        return self.index[steps]

    def run(self, steps: int) -> Any:
        self.w, self.s, losses = self.step.scan(self.w, self.s, self.x, self.t, self.rows(steps))
        return self.to.to_host(losses)

    @cached_property
    def ab(self) -> list[Any]:
        return [bp.asarray(a, like=self.w) for a in self.work.factors()]

    def gemm(self) -> Any:
        return self.to.to_host(self.to.xp.matmul(*self.ab))


class OursFile:
    """`bp.fit` over the file, or over the same rows in memory; a run is an epoch of the first rows."""

    def __init__(self, work: Work, data: Data, threads: int, memory: bool = False) -> None:
        self.learner, self.w, self.s = first(work, data, "numpy")
        self.work, self.folder = work, data.folder
        self.stored = (np.array(data.x), np.array(data.t)) if memory else None

    def source(self, rows: int) -> Any:
        units = self.work.widths[-1]
        if self.stored is not None:
            return _Rows(*(a[:rows] for a in self.stored), units)
        source = File(self.folder, units)
        source.n = rows
        return source

    def run(self, steps: int) -> Any:
        source = self.source(steps * self.work.batch)
        done = bp.fit(
            self.learner, self.w, self.s, source, batch_size=self.work.batch, shuffle=False
        )  # in the file's order, as the others read it
        self.w, self.s = done.w, done.s
        return [done.history[-1].loss]


class _Rows:
    """`bp.Stored` without its check of all values, which would be timed in every run."""

    def __init__(self, x: Any, t: Any, outputs: int) -> None:
        self.x, self.t, self.outputs = x, t, outputs
        self.n, self.features = x.shape
        self.window = self.n

    def rows(self, start: int, stop: int) -> tuple[Any, Any]:
        return self.x[start:stop], self.t[start:stop]


class Reading:
    """Windows of the file, and batches gathered from them as `fit` does it."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        self.source, self.batch = File(data.folder, work.widths[-1]), work.batch
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
