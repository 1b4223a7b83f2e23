"""PyTorch as its manual writes it: nn.Sequential, a loss function, an optimiser."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..data import Data
from ..works import Work


def network(work: Work, data: Data) -> torch.nn.Sequential:
    """The net with the shared first weights."""
    layers: list[torch.nn.Module] = []
    for (w, b), f in zip(data.blocks, work.activations, strict=True):
        layer = torch.nn.Linear(*w.shape, bias=b is not None)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            if b is not None:
                layer.bias.copy_(torch.from_numpy(b))
        layers.append(layer)
        layers += {"relu": [torch.nn.ReLU()], "sigmoid": [torch.nn.Sigmoid()]}.get(f, [])
    return torch.nn.Sequential(*layers)


def half_squared_error(o: Any, t: Any) -> Any:
    return torch.nn.functional.mse_loss(o, t, reduction="sum") / (2 * o.shape[0])


class Torch:
    """One batch after the other; the losses are read at the end."""

    def __init__(
        self, work: Work, data: Data, threads: int, fused: bool = True, compiled: bool = False
    ) -> None:
        torch.set_num_threads(threads)
        self.work, net = work, network(work, data)
        optimisers = {"adam": torch.optim.Adam, "gradient_descent": torch.optim.SGD}
        self.optimiser = optimisers[work.update](net.parameters(), lr=work.rate, fused=fused)
        loss = torch.nn.functional.cross_entropy if work.labels else half_squared_error

        def forward(x: Any, t: Any) -> Any:
            return loss(net(x), t)

        self.forward = torch.compile(forward) if compiled else forward
        self.load(data)

    def load(self, data: Data) -> None:
        self.x, self.t = (torch.from_numpy(a) for a in data.batches(self.work))
        self.t = self.t.long() if self.work.labels else self.t

    def step(self, x: Any, t: Any) -> Any:
        self.optimiser.zero_grad()
        loss = self.forward(x, t)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def run(self, steps: int) -> Any:
        losses = [self.step(self.x[k], self.t[k]) for k in range(steps)]
        return torch.stack(losses).numpy()

    @cached_property
    def ab(self) -> list[Any]:
        return [torch.from_numpy(a) for a in self.work.factors()]

    def gemm(self) -> Any:
        return torch.mm(*self.ab)


class Rows(Dataset[Any]):
    """A mapped file row by row, as data sets are written for a DataLoader."""

    def __init__(self, x: Any, t: Any) -> None:
        self.x, self.t = x, t

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, k: int) -> Any:
        return torch.from_numpy(np.array(self.x[k])), int(self.t[k])


def batches(data: Data, rows: int, size: int, *, rowwise: bool) -> Any:
    """The first rows of the file in batches: by a DataLoader, or as slices."""
    if rowwise:
        yield from DataLoader(Rows(data.x[:rows], data.t[:rows]), batch_size=size)
        return
    for start in range(0, rows, size):
        x, t = (torch.from_numpy(np.array(a[start : start + size])) for a in (data.x, data.t))
        yield x, t.long()


class TorchFile(Torch):
    """The same from a file."""

    def __init__(self, work: Work, data: Data, threads: int, rowwise: bool = False) -> None:
        self.rowwise = rowwise
        super().__init__(work, data, threads)

    def load(self, data: Data) -> None:
        self.data = data

    def run(self, steps: int) -> Any:
        size = self.work.batch
        each = batches(self.data, steps * size, size, rowwise=self.rowwise)
        return torch.stack([self.step(x, t) for x, t in each]).numpy()


class Reading:
    """A DataLoader over the file; the 'loss' of a batch says that the right rows came."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        torch.set_num_threads(threads)
        self.data, self.size = data, work.batch

    def run(self, steps: int) -> Any:
        each = batches(self.data, steps * self.size, self.size, rowwise=True)
        return [float(x[-1, -1]) + float(t[-1]) for x, t in each]
