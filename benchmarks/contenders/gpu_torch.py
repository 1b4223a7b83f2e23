"""PyTorch on a GPU: as its manual writes it, compiled, as one CUDA graph, and fed from the host."""

from contextlib import nullcontext
from typing import Any

import torch

from ..data import Data
from ..works import Work
from .with_torch import half_squared_error, network

_DEVICE = "cuda"
_KEPT = 1 << 16  # losses of one run at most


class Torch:
    """One batch after the other; the losses are read at the end."""

    capturable = False

    def __init__(
        self, work: Work, data: Data, threads: int, fused: bool = False, compiled: bool = False
    ) -> None:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest" if work.precision == "float32" else "high")
        self.work, self.compiled = work, compiled
        net = network(work, data).to(_DEVICE)
        self.optimiser = self.optimiser_of(net, fused=fused)
        loss = torch.nn.functional.cross_entropy if work.labels else half_squared_error
        low = work.precision == "bfloat16"

        def forward(x: Any, t: Any) -> Any:
            with torch.autocast(_DEVICE, torch.bfloat16, cache_enabled=False) if low else nullcontext():
                o = net(x)
            return loss(o.float(), t)

        self.forward = torch.compile(forward, mode="max-autotune") if compiled else forward
        self.load(data)

    def optimiser_of(self, net: Any, *, fused: bool) -> Any:
        more: dict[str, Any] = {"fused": True} if fused else {}
        if self.work.update == "gradient_descent":
            return torch.optim.SGD(net.parameters(), lr=self.work.rate, **more)
        more |= {"capturable": True} if self.capturable else {}
        return torch.optim.Adam(net.parameters(), lr=self.work.rate, **more)

    def load(self, data: Data) -> None:
        x, t = data.batches(self.work)
        self.x, self.t = torch.from_numpy(x).to(_DEVICE), torch.from_numpy(t).to(_DEVICE)
        self.t = self.t.long() if self.work.labels else self.t

    def batch(self, k: int) -> tuple[Any, Any]:
        """The batch of a step."""
        return self.x[k % self.work.batches], self.t[k % self.work.batches]

    def step(self, x: Any, t: Any) -> Any:
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()
        self.optimiser.zero_grad()
        loss = self.forward(x, t)
        loss.backward()
        self.optimiser.step()
        return loss.detach().clone() if self.compiled else loss.detach()

    def run(self, steps: int) -> Any:
        losses = [self.step(*self.batch(k)) for k in range(steps)]
        return torch.stack(losses).cpu().numpy()

    def facts(self) -> dict[str, Any]:
        """The most memory of the GPU."""
        return {"gpu_megabytes": torch.cuda.max_memory_allocated() / 1e6}


class Graphed(Torch):
    """The whole step in one `torch.cuda.graph`, which takes its batch and keeps its loss by a counter."""

    capturable = True

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        super().__init__(work, data, threads, fused=True)
        self.at = torch.zeros(1, dtype=torch.int64, device=_DEVICE)
        self.losses = torch.zeros(_KEPT, device=_DEVICE)
        kept = [p.detach().clone() for p in self.parameters()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.whole()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph):
            self.whole()
        with torch.no_grad():  # the warm-up was no training
            for p, first in zip(self.parameters(), kept, strict=True):
                p.copy_(first)
            for state in self.optimiser.state.values():
                for each in state.values():
                    each.zero_()

    def parameters(self) -> list[Any]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def whole(self) -> None:
        """A step, from the counter to the loss."""
        k = self.at % self.work.batches
        x, t = (a.index_select(0, k).squeeze(0) for a in (self.x, self.t))
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.forward(x, t)
        loss.backward()
        self.optimiser.step()
        self.losses.index_copy_(0, self.at, loss.detach().reshape(1))
        self.at += 1

    def run(self, steps: int) -> Any:
        self.at.zero_()
        for _ in range(steps):
            self.graph.replay()
        return self.losses[:steps].cpu().numpy()


class Streamed(Torch):
    """The fused step on batches from the host: slices that are sent, or pinned ones sent ahead."""

    def __init__(self, work: Work, data: Data, threads: int, pinned: bool = False) -> None:
        self.pinned = pinned
        super().__init__(work, data, threads, fused=True)

    def load(self, data: Data) -> None:
        self.x, self.t = (torch.from_numpy(a) for a in data.batches(self.work))
        if self.pinned:
            self.x, self.t = self.x.pin_memory(), self.t.pin_memory()
            self.copying = torch.cuda.Stream()

    def sent(self, k: int) -> tuple[Any, Any]:
        x, t = (a[k % self.work.batches].to(_DEVICE, non_blocking=self.pinned) for a in (self.x, self.t))
        return x.float() * (1 / 255) if x.dtype == torch.uint8 else x, t.long()

    def run(self, steps: int) -> Any:
        if not self.pinned:
            return torch.stack([self.step(*self.sent(k)) for k in range(steps)]).cpu().numpy()
        losses, here = [], torch.cuda.current_stream()
        coming = self.ahead(0)
        for k in range(steps):
            here.wait_stream(self.copying)
            batch, coming = coming, self.ahead(k + 1)
            for each in batch:
                each.record_stream(here)
            losses.append(self.step(*batch))
        return torch.stack(losses).cpu().numpy()

    def ahead(self, k: int) -> tuple[Any, Any]:
        with torch.cuda.stream(self.copying):
            return self.sent(k)
