"""Plain NumPy, written by hand as in a textbook. In float64 it is the reference for all contenders."""

from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from itertools import cycle, islice
from typing import Any

import numpy as np

from ..data import Blocks, Data
from ..works import Work

_AT_ONCE = 32_768  # weights updated together: their vectors fit into the cache


def slices(files: tuple[Any, Any], size: int, steps: int) -> Iterator[Any]:
    """Batches, as copies of slices of mapped files."""
    for start in range(0, steps * size, size):
        yield tuple(np.array(file[start : start + size]) for file in files)


class Plain:
    """Forward, backward and update over lists of weights and biases; with CuPy the same on the GPU."""

    def __init__(
        self, work: Work, data: Data, threads: int, dtype: str = "float32", library: str = "numpy"
    ) -> None:
        self.work, self.dtype, self.xp = work, dtype, import_module(library)
        self.begin(data.blocks)
        self.load(data)

    def begin(self, blocks: Blocks) -> None:
        """Weights, and the state of Adam before the first step."""
        flat = [p for pair in blocks for p in pair]
        self.params = [None if p is None else self.xp.asarray(p.astype(self.dtype)) for p in flat]
        self.m = [p if p is None else self.xp.zeros_like(p) for p in self.params]
        self.v = [p if p is None else self.xp.zeros_like(p) for p in self.params]
        self.count = 0

    def load(self, data: Data) -> None:
        if self.work.kind == "train":
            self.files = data.x, data.t
        else:
            self.batches = list(map(self.ready, *data.batches(self.work)))

    def ready(self, x: Any, t: Any) -> tuple[Any, Any]:
        """A batch in the dtype of the net; bytes become numbers from 0 to 1."""
        x = x.astype(self.dtype) / 255 if x.dtype == "uint8" else x.astype(self.dtype, copy=False)
        t = t if self.work.labels else t.astype(self.dtype, copy=False)
        return self.xp.asarray(x), self.xp.asarray(t)

    @cached_property
    def ab(self) -> list[Any]:
        return self.work.factors()

    def gemm(self) -> Any:
        return np.matmul(*self.ab)

    def run(self, steps: int) -> Any:
        if self.work.kind == "train":
            return [self.step(*self.ready(x, t)) for x, t in slices(self.files, self.work.batch, steps)]
        return [self.step(x, t) for x, t in islice(cycle(self.batches), steps)]

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
            outputs.append(self.activated(f, z))
        return outputs

    def activated(self, f: str, z: Any) -> Any:
        if f == "relu":
            return self.xp.maximum(z, 0)
        return 1 / (1 + self.xp.exp(-z)) if f == "sigmoid" else z

    @staticmethod
    def derivative(f: str, o: Any) -> Any:
        return o > 0 if f == "relu" else o * (1 - o)

    def error(self, o: Any, t: Any) -> tuple[Any, Any]:
        """The mean loss of the batch, and its derivative by the last layer's output."""
        xp, n = self.xp, len(o)
        if not self.work.labels:
            return ((o - t) ** 2).sum() / (2 * n), (o - t) / n
        e = xp.exp(o - o.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        rows = xp.arange(n)
        loss = -xp.log(p[rows, t]).mean()
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
        self.params[k] -= self.work.rate * m / (self.xp.sqrt(v) + 1e-8)


class Buffered(Plain):
    """The same without allocations in a step: results go into buffers, Adam runs on one flat vector."""

    def begin(self, blocks: Blocks) -> None:
        """Weights, gradients and moments as parts of flat vectors; a buffer for each result."""
        given = [p for pair in blocks for p in pair if p is not None]
        self.w = np.concatenate([p.ravel() for p in given]).astype(self.dtype)
        self.g, self.m, self.v, *self.spare = (np.zeros_like(self.w) for _ in range(5))
        ends = np.cumsum([p.size for p in given])[:-1]

        def parts(flat: Any) -> list[Any]:
            found = [a.reshape(p.shape) for a, p in zip(np.split(flat, ends), given, strict=True)]
            return found if self.work.bias else [a for w in found for a in (w, None)]

        self.params, self.grads = parts(self.w), parts(self.g)
        n, units = self.work.batch, self.work.widths[1:]
        self.o, self.d, self.slope = ([np.zeros((n, k), self.dtype) for k in units] for _ in range(3))
        self.positive = [np.zeros((n, k), bool) for k in units]
        self.column, self.at = np.zeros((n, 1), self.dtype), np.arange(n) * units[-1]
        self.count = 0

    def forward(self, x: Any) -> list[Any]:
        outputs = [x]
        for k, f in enumerate(self.work.activations):
            w, b, z = self.params[2 * k], self.params[2 * k + 1], self.o[k]
            np.matmul(outputs[-1], w, out=z)
            if b is not None:
                np.add(z, b, out=z)
            if f == "relu":
                np.maximum(z, 0, out=z)
            elif f == "sigmoid":
                np.negative(z, out=z)
                np.exp(z, out=z)
                np.add(z, 1, out=z)
                np.reciprocal(z, out=z)
            outputs.append(z)
        return outputs

    def times_derivative(self, f: str, k: int) -> None:
        """Multiply the k-th delta by f′."""
        o, d = self.o[k], self.d[k]
        if f == "relu":
            np.greater(o, 0, out=self.positive[k])
            np.multiply(d, self.positive[k], out=d)
        else:
            np.subtract(1, o, out=self.slope[k])
            np.multiply(self.slope[k], o, out=self.slope[k])
            np.multiply(d, self.slope[k], out=d)

    def error(self, o: Any, t: Any) -> tuple[Any, Any]:
        n, d = len(o), self.d[-1]
        if not self.work.labels:
            np.subtract(o, t, out=d)
            loss = np.vdot(d, d) / (2 * n)
            np.divide(d, n, out=d)
            return loss, d
        np.max(o, axis=1, keepdims=True, out=self.column)
        np.subtract(o, self.column, out=d)
        np.exp(d, out=d)
        np.sum(d, axis=1, keepdims=True, out=self.column)
        np.divide(d, self.column, out=d)
        right = self.at + t
        p = d.ravel()
        loss = -np.log(p[right]).sum() / n
        p[right] -= 1
        np.divide(d, n, out=d)
        return loss, d

    def step(self, x: Any, t: Any) -> Any:
        outputs = self.forward(x)
        loss, _ = self.error(outputs[-1], t)
        last = len(self.d) - 1
        if self.work.last != "identity":
            self.times_derivative(self.work.last, last)
        for k in range(last, -1, -1):
            np.matmul(outputs[k].T, self.d[k], out=self.grads[2 * k])
            if self.work.bias:
                np.sum(self.d[k], axis=0, out=self.grads[2 * k + 1])
            if k:
                np.matmul(self.d[k], self.params[2 * k].T, out=self.d[k - 1])
                self.times_derivative(self.work.hidden, k - 1)
        self.count += 1
        for start in range(0, self.w.size, _AT_ONCE):
            self.update_part(slice(start, start + _AT_ONCE))
        return loss

    def update_part(self, part: slice) -> None:
        """Update a part of the weights that fits into the cache."""
        w, g, m, v, a, b = (each[part] for each in (self.w, self.g, self.m, self.v, *self.spare))
        if self.work.update == "gradient_descent":
            np.multiply(g, self.work.rate, out=g)
            np.subtract(w, g, out=w)
            return
        np.multiply(m, 0.9, out=m)
        np.multiply(g, 0.1, out=a)
        np.add(m, a, out=m)
        np.multiply(v, 0.999, out=v)
        np.multiply(g, g, out=g)
        np.multiply(g, 0.001, out=g)
        np.add(v, g, out=v)
        np.multiply(v, 1 / (1 - 0.999**self.count), out=b)
        np.sqrt(b, out=b)
        np.add(b, 1e-8, out=b)
        np.multiply(m, self.work.rate / (1 - 0.9**self.count), out=a)
        np.divide(a, b, out=a)
        np.subtract(w, a, out=w)


class Epochs(Plain):
    """Epochs of a table, each in a new random order, from the first weights in every run."""

    def load(self, data: Data) -> None:
        self.blocks, self.draw = data.blocks, np.random.default_rng(0)
        self.x, self.t = self.ready(np.array(data.x), np.array(data.t))

    def run(self, steps: int, shuffle: bool = True) -> Any:
        self.begin(self.blocks)
        n, losses = self.work.rows, []
        for _ in range(steps):
            order = self.draw.permutation(n) if shuffle else np.arange(n)
            batches = (order[k : k + self.work.batch] for k in range(0, n, self.work.batch))
            losses += [self.step(self.x[rows], self.t[rows]) for rows in batches]
        return np.reshape(losses, (steps, -1)) @ self.work.shares

    def check(self, steps: int) -> Any:
        return self.run(steps, shuffle=False)


class Reading:
    """Only reads the slices; the 'loss' of a batch shows that the right rows were read."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        self.files, self.size = (data.x, data.t), work.batch

    def run(self, steps: int) -> Any:
        return [float(x[-1, -1]) + float(t[-1]) for x, t in slices(self.files, self.size, steps)]
