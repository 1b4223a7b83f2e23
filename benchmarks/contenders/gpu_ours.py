"""The library on a GPU: `scan` over data that are there, or that come from the host; or `step` by step."""

from typing import Any

import numpy as np

from backprop_xp import backends
from backprop_xp.backends import _graph

from ..data import Data
from ..works import Work


class Ours:
    """One scan a round; batches come one after the other and again from the first.

    Args:
        work: the work.
        data: its data.
        threads: no matter.
        backend: 'cupy', 'torch', 'jax', or 'numpy' to try the rest without a GPU.
        eager: by `learner.step`.
        updates: steps of one graph, other than the library's own number.
        resident: the data of a work that streams are on the GPU.
    """

    def __init__(
        self, work: Work, data: Data, threads: int, backend: str = "cupy", eager: bool = False,
        updates: int = 0, resident: bool = False,
    ) -> None:  # fmt: skip
        _graph.UPDATES = updates or _graph.UPDATES
        self.work, self.learner, self.eager = work, work.learner(), eager
        weights = {}
        for k, (w, b) in enumerate(data.blocks, 1):
            weights |= {f"dense{k}.w": w, f"dense{k}.b": b}
        device = "cuda" if backend == "torch" else None
        precision = self.prepared(backend, work.precision)
        self.w, self.s = self.learner.init(backend=backend, device=device, weights=weights)
        self.to = backends.of(self.w)
        self.compiled = self.learner.compile(self.w, precision=precision)
        self.load(data, streams=work.name.startswith("G5") and not resident and backend == "cupy")
        self.index: dict[int, Any] = {}

    @staticmethod
    def prepared(backend: str, precision: str) -> str | None:
        """The precision for `compile`; Torch has a switch of its own."""
        if backend == "torch":
            import torch

            if precision == "bfloat16":
                msg = "the torch backend has no products of bfloat16"
                raise ValueError(msg)
            torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        return None if backend == "torch" else precision

    def load(self, data: Data, *, streams: bool) -> None:
        x, t = np.array(data.x), np.array(data.t)
        self.streams = streams
        if streams:
            self.x, self.t = x, t
            return
        to, device = self.to, self.to.device_of(self.w)
        self.x, self.t = (to.asarray(a, None, device) for a in (x, t))

    def rows(self, steps: int) -> Any:
        if steps not in self.index:
            batch, stored = self.work.batch, self.work.batches
            rows = np.arange(steps)[:, None] % stored * batch + np.arange(batch)
            rows = rows.astype("int64" if self.to.name in ("numpy", "torch") else "int32")
            here = self.streams or self.to.name == "numpy"
            self.index = {steps: rows if here else self.to.asarray(rows, None, self.to.device_of(self.w))}
        return self.index[steps]

    def run(self, steps: int) -> Any:
        if self.eager:
            return self.step_by_step(steps)
        self.w, self.s, losses = self.compiled.scan(self.w, self.s, self.x, self.t, self.rows(steps))
        return self.to.to_host(losses)

    def step_by_step(self, steps: int) -> Any:
        losses, size = [], self.work.batch
        for k in range(steps):
            start = k % self.work.batches * size
            x, t = self.x[start : start + size], self.t[start : start + size]
            self.w, self.s, loss = self.learner.step(self.w, self.s, x, t)
            losses.append(loss)
        return self.to.to_host(self.to.xp.stack(losses))

    def facts(self) -> dict[str, Any]:
        """Kernels a step, memory of the GPU, whether Torch refused a graph."""
        told: dict[str, Any] = {}
        kernels = getattr(self.compiled, "kernels", None)
        if kernels and not self.eager:
            told["kernels"] = kernels[0]
        if getattr(self.compiled, "eager", None):
            told["eager because"] = self.compiled.eager
        if self.to.name == "cupy":
            lanes = [lane.pool.total_bytes() for lane in getattr(self.compiled, "lanes", {}).values()]
            told["gpu_megabytes"] = (sum(lanes) + self.to.cupy.get_default_memory_pool().total_bytes()) / 1e6
        return told
