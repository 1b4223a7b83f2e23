"""Plain NumPy: what one writes by hand from the textbook. In float64 it is everybody's reference."""

from functools import cached_property
from typing import Any

import numpy as np

from ..data import Data
from ..works import Work


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


class Plain:
    """Forward, backward and update over lists of weights and biases."""

    def __init__(self, work: Work, data: Data, threads: int, dtype: str = "float32") -> None:
        self.work = work
        self.params = [None if p is None else p.astype(dtype) for pair in data.blocks for p in pair]
        self.m = [p if p is None else np.zeros_like(p) for p in self.params]
        self.v = [p if p is None else np.zeros_like(p) for p in self.params]
        self.count = 0
        self.load(data, dtype)

    def load(self, data: Data, dtype: str) -> None:
        self.x, self.t = data.batches(self.work)
        self.x = self.x.astype(dtype, copy=False)
        self.t = self.t if self.work.labels else self.t.astype(dtype, copy=False)

    @cached_property
    def ab(self) -> list[Any]:
        return self.work.factors()

    def gemm(self) -> Any:
        return np.matmul(*self.ab)

    def run(self, steps: int) -> Any:
        return [self.step(self.x[k], self.t[k]) for k in range(steps)]

    def step(self, x: Any, t: Any) -> Any:
        outputs = self.forward(x)
        loss, delta = self.error(outputs[-1], t)
        if self.work.last != "identity":
            delta = delta * self.derivative(self.work.last, outputs[-1])
        grads: list[Any] = [None] * len(self.params)
        for k in reversed(range(len(outputs) - 1)):
            w, b = self.params[2 * k], self.params[2 * k + 1]
            grads[2 * k] = outputs[k].T @ delta
            if b is not None:
                grads[2 * k + 1] = delta.sum(axis=0)
            if k:
                delta = (delta @ w.T) * self.derivative(self.work.hidden, outputs[k])
        self.count += 1
        for k, g in enumerate(grads):
            if g is not None:
                self.update(k, g)
        return loss

    def forward(self, x: Any) -> list[Any]:
        outputs = [x]
        for k, f in enumerate(self.work.activations):
            w, b = self.params[2 * k], self.params[2 * k + 1]
            z = outputs[-1] @ w if b is None else outputs[-1] @ w + b
            outputs.append({"relu": lambda z: np.maximum(z, 0), "sigmoid": sigmoid}.get(f, lambda z: z)(z))
        return outputs

    @staticmethod
    def derivative(f: str, o: Any) -> Any:
        return o > 0 if f == "relu" else o * (1 - o)

    def error(self, o: Any, t: Any) -> tuple[Any, Any]:
        """The mean loss of the batch, and its derivative by the last layer's output."""
        n = len(o)
        if not self.work.labels:
            return ((o - t) ** 2).sum() / (2 * n), (o - t) / n
        e = np.exp(o - o.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        rows = np.arange(n)
        loss = -np.log(p[rows, t]).mean()
        p[rows, t] -= 1
        return loss, p / n

    def update(self, k: int, g: Any) -> None:
        if self.work.update == "gradient_descent":
            self.params[k] -= self.work.rate * g
            return
        self.m[k] = 0.9 * self.m[k] + 0.1 * g
        self.v[k] = 0.999 * self.v[k] + 0.001 * g**2
        m = self.m[k] / (1 - 0.9**self.count)
        v = self.v[k] / (1 - 0.999**self.count)
        self.params[k] -= self.work.rate * m / (np.sqrt(v) + 1e-8)


class PlainFile(Plain):
    """The same, its batches slices of a mapped file."""

    def load(self, data: Data, dtype: str) -> None:
        self.x_file, self.t_file = data.x, data.t

    def run(self, steps: int) -> Any:
        size, losses = self.work.batch, []
        for start in range(0, steps * size, size):
            x, t = (np.array(file[start : start + size]) for file in (self.x_file, self.t_file))
            losses.append(self.step(x.astype(self.params[0].dtype, copy=False), t))
        return losses


class Reading:
    """Batches as slices of a mapped file; the 'loss' of a batch says that the right rows came."""

    def __init__(self, work: Work, data: Data, threads: int, dtype: str = "float32") -> None:
        self.size, self.x, self.t = work.batch, data.x, data.t

    def run(self, steps: int) -> Any:
        signs = []
        for start in range(0, steps * self.size, self.size):
            x, t = (np.array(file[start : start + self.size]) for file in (self.x, self.t))
            signs.append(float(x[-1, -1]) + float(t[-1]))
        return signs
