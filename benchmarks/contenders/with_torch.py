"""PyTorch as its manual shows it: nn.Sequential, a loss function, an optimiser; and as a CUDA graph."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import cached_property, partial
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..data import Data
from ..works import DECAY, DROPOUT, NORM, Work

_KEPT = 1 << 16  # the most losses of one run that a graph stores


def network(work: Work, data: Data) -> torch.nn.Sequential:
    """The net, with the shared first weights."""
    layers: list[torch.nn.Module] = []
    for (w, b), f in zip(data.blocks, work.activations, strict=True):
        layer = torch.nn.Linear(*w.shape, bias=b is not None)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            if b is not None:
                layer.bias.copy_(torch.from_numpy(b))
        layers.append(layer)
        layers += {"relu": [torch.nn.ReLU()], "sigmoid": [torch.nn.Sigmoid()]}.get(f, [])
    return torch.nn.Sequential(*layers).to(work.device)


class Torch:
    """One batch after another; the losses are read at the end."""

    capturable = False

    def __init__(
        self, work: Work, data: Data, threads: int, fused: bool = True, compiled: bool = False
    ) -> None:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest" if work.precision == "float32" else "high")
        self.work, self.on_gpu = work, work.device == "cuda"
        self.graphs_inside = compiled and self.on_gpu
        net, low = network(work, data), work.precision == "bfloat16"
        adam = partial(torch.optim.Adam, capturable=self.capturable)
        optimiser = {"adam": adam, "gradient_descent": torch.optim.SGD}[work.update]
        # Half the squared error is Torch's mean times this factor, which costs nothing in the learning rate.
        factor = 1.0 if work.labels else work.widths[-1] / 2
        self.factor = factor if work.update == "gradient_descent" else 1.0
        self.optimiser = optimiser(net.parameters(), lr=work.rate * self.factor, fused=fused or None)

        def loss(o: Any, t: Any) -> Any:
            if work.labels:
                return torch.nn.functional.cross_entropy(o, t)
            mean = torch.nn.functional.mse_loss(o, t)
            return mean if factor == self.factor else factor * mean

        def forward(x: Any, t: Any) -> Any:
            with torch.autocast(work.device, torch.bfloat16, cache_enabled=False) if low else nullcontext():
                o = net(x)
            return loss(o.float(), t)

        mode = "max-autotune" if self.on_gpu else "default"
        self.forward = torch.compile(forward, mode=mode) if compiled else forward
        self.load(data)

    def load(self, data: Data) -> None:
        self.x, self.t = (torch.from_numpy(a).to(self.work.device) for a in data.batches(self.work))
        self.t = self.t.long() if self.work.labels else self.t
        self.stored = list(zip(self.x, self.t, strict=True))

    def parameters(self) -> list[Any]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def batches(self, steps: int) -> Iterator[Any]:
        return islice(cycle(self.stored), steps)

    def step(self, x: Any, t: Any) -> Any:
        if self.graphs_inside:
            torch.compiler.cudagraph_mark_step_begin()
        self.optimiser.zero_grad()
        loss = self.forward(x, t)
        loss.backward()
        self.optimiser.step()
        return loss.detach().clone() if self.graphs_inside else loss.detach()

    def run(self, steps: int) -> Any:
        losses = torch.stack([self.step(*batch) for batch in self.batches(steps)])
        return self.factor * losses.cpu().numpy()

    @cached_property
    def ab(self) -> list[Any]:
        return [torch.from_numpy(a) for a in self.work.factors()]

    def gemm(self) -> Any:
        return torch.mm(*self.ab)

    def facts(self) -> dict[str, Any]:
        """The peak of the GPU's memory."""
        return {"megabytes": torch.cuda.max_memory_allocated() / 1e6} if self.on_gpu else {}


class Epochs(Torch):
    """Epochs of a table, each in a new random order, from the first weights in every run."""

    def load(self, data: Data) -> None:
        self.x, self.t = torch.from_numpy(np.array(data.x)), torch.from_numpy(np.array(data.t)).long()
        self.first = [p.detach().clone() for p in self.parameters()]

    def run(self, steps: int, shuffle: bool = True) -> Any:
        with torch.no_grad():
            for p, first in zip(self.parameters(), self.first, strict=True):
                p.copy_(first)
        self.optimiser.state.clear()
        n, losses = self.work.rows, []
        for _ in range(steps):
            order = torch.randperm(n) if shuffle else torch.arange(n)
            losses += [self.step(self.x[rows], self.t[rows]) for rows in order.split(self.work.batch)]
        return torch.stack(losses).numpy().reshape(steps, -1) @ self.work.shares

    def check(self, steps: int) -> Any:
        return self.run(steps, shuffle=False)


class Graphed(Torch):
    """The whole step in one `torch.cuda.graph`; a counter selects the batch and the place of the loss."""

    capturable = True

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        super().__init__(work, data, threads)
        self.at = torch.zeros(1, dtype=torch.int64, device=work.device)
        self.losses = torch.zeros(_KEPT, device=work.device)
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
        with torch.no_grad():  # undo the steps of the warm-up
            for p, first in zip(self.parameters(), kept, strict=True):
                p.copy_(first)
            for state in self.optimiser.state.values():
                for each in state.values():
                    each.zero_()

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
        return self.factor * self.losses[:steps].cpu().numpy()


class Rows(Dataset[Any]):
    """A mapped file row by row, as a data set for a DataLoader usually is."""

    def __init__(self, x: Any, t: Any, rows: int) -> None:
        self.x, self.t = x[:rows], t[:rows]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, k: int) -> Any:
        return torch.from_numpy(np.array(self.x[k])), int(self.t[k])


class Loaded(Torch):
    """The same with a DataLoader over the file."""

    def load(self, data: Data) -> None:
        self.x, self.t = data.x, data.t

    def batches(self, steps: int) -> Iterator[Any]:
        size = self.work.batch
        return iter(DataLoader(Rows(self.x, self.t, steps * size), batch_size=size))


class Regular(Torch):
    """The same with AdamW, the gradient clipped by its norm, dropout, and a weight for each row.

    Args:
        double: compute in float64, for the reference.
    """

    def __init__(self, work: Work, data: Data, threads: int, double: bool = False, **settings: Any) -> None:
        self.dtype = torch.float64 if double else torch.float32
        super().__init__(work, data, threads, **settings)
        layers: list[torch.nn.Module] = []
        for k, layer in enumerate(network(work, data).to(self.dtype)):
            layers += [torch.nn.Dropout(DROPOUT)] if k and isinstance(layer, torch.nn.Linear) else []
            layers.append(layer)
        self.net = torch.nn.Sequential(*layers)
        groups = [
            {"params": [p for p in self.net.parameters() if p.ndim > 1], "weight_decay": DECAY},
            {"params": [p for p in self.net.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ]
        fused = settings.get("fused", True) or None
        self.optimiser = torch.optim.AdamW(groups, lr=work.rate, fused=fused)

        def forward(x: Any, t: Any, weight: Any) -> Any:
            losses = torch.nn.functional.cross_entropy(self.net(x), t, reduction="none")
            return torch.mean(losses * weight)

        self.forward = torch.compile(forward) if settings.get("compiled") else forward

    def load(self, data: Data) -> None:
        x, t = (torch.from_numpy(a) for a in data.batches(self.work))
        weight = torch.from_numpy(self.work.row_weights).reshape(t.shape)
        self.stored = list(zip(x.to(self.dtype), t.long(), weight.to(self.dtype), strict=True))

    def step(self, *batch: Any) -> Any:
        self.optimiser.zero_grad()
        loss = self.forward(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters(), NORM)
        self.optimiser.step()
        return loss.detach()

    def check(self, steps: int) -> Any:
        """The losses without dropout."""
        self.net.eval()
        losses = self.run(steps)
        self.net.train()
        return losses


class Sliced(Torch):
    """The same on slices of a file, or of the host's memory."""

    pinned = False

    def load(self, data: Data) -> None:
        self.x, self.t = data.x, data.t
        if self.work.kind == "stream":
            self.x, self.t = (torch.from_numpy(np.array(a)) for a in (data.x, data.t))

    def sent(self, k: int) -> tuple[Any, Any]:
        """A batch on the device; bytes become numbers there."""
        start = k % self.work.batches * self.work.batch
        part = slice(start, start + self.work.batch)
        if self.work.kind == "stream":
            x, t = (a[part].to(self.work.device, non_blocking=self.pinned) for a in (self.x, self.t))
        else:
            x, t = (torch.from_numpy(np.array(a[part])) for a in (self.x, self.t))
        return x.float() * (1 / 255) if x.dtype == torch.uint8 else x, t.long()

    def batches(self, steps: int) -> Iterator[Any]:
        return map(self.sent, range(steps))


class Pinned(Sliced):
    """The same on slices of pinned memory; the next batch is copied while a step runs."""

    pinned = True

    def load(self, data: Data) -> None:
        super().load(data)
        self.x, self.t = self.x.pin_memory(), self.t.pin_memory()
        self.copying = torch.cuda.Stream()

    def batches(self, steps: int) -> Iterator[Any]:
        here = torch.cuda.current_stream()
        coming = self.ahead(0)
        for k in range(steps):
            here.wait_stream(self.copying)
            batch, coming = coming, self.ahead(k + 1)
            for each in batch:
                each.record_stream(here)
            yield batch

    def ahead(self, k: int) -> tuple[Any, Any]:
        with torch.cuda.stream(self.copying):
            return self.sent(k)


class Reading:
    """Only reads the file by a DataLoader; the 'loss' of a batch shows that the right rows were read."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        torch.set_num_threads(threads)
        self.x, self.t, self.size = data.x, data.t, work.batch

    def run(self, steps: int) -> Any:
        loader = DataLoader(Rows(self.x, self.t, steps * self.size), batch_size=self.size)
        return [float(x[-1, -1]) + float(t[-1]) for x, t in loader]
