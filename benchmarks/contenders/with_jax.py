"""JAX as its manual shows it: the gradient of a loss over a list of (w, b), a jitted step, a scan."""

from collections.abc import Iterator
from functools import cached_property, partial
from itertools import cycle, islice
from math import log
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..data import Data
from ..works import Work

_F = {"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid, "identity": lambda z: z}
_PRECISIONS = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "BF16_BF16_F32"}


def loss_of(work: Work, params: Any, x: Any, t: Any) -> Any:
    """The mean loss of a batch; bytes become numbers from 0 to 1."""
    x = x.astype(jnp.float32) * (1 / 255) if x.dtype == jnp.uint8 else x
    for (w, b), f in zip(params, work.activations, strict=True):
        x = _F[f](x @ w if b is None else x @ w + b)
    if not work.labels:
        return jnp.sum((x - t) ** 2) / (2 * x.shape[0])
    right = jnp.take_along_axis(jax.nn.log_softmax(x), t[:, None], axis=1)
    return -jnp.mean(right)


def step_of(work: Work, state: Any, batch: Any) -> Any:
    """The new (params, m, v, count), and the loss."""
    params, m, v, count = state
    loss, g = jax.value_and_grad(partial(loss_of, work))(params, *batch)
    tree = jax.tree.map
    if work.update == "gradient_descent":
        return (tree(lambda p, d: p - work.rate * d, params, g), m, v, count), loss
    count = count + 1
    m = tree(lambda a, d: 0.9 * a + 0.1 * d, m, g)
    v = tree(lambda a, d: 0.999 * a + 0.001 * d * d, v, g)
    first, second = (-jnp.expm1(count * log(beta)) for beta in (0.9, 0.999))

    def moved(p: Any, a: Any, b: Any) -> Any:
        return p - work.rate * (a / first) / (jnp.sqrt(b / second) + 1e-8)

    return (tree(moved, params, m, v), m, v, count), loss


class Jitted:
    """One call of a jitted step per batch; the losses are read at the end."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        if work.device == "cuda":  # where JAX uses tf32 by default
            jax.config.update("jax_default_matmul_precision", _PRECISIONS[work.precision])
        self.work = work
        params = [tuple(None if p is None else jnp.array(p) for p in pair) for pair in data.blocks]
        zeros = partial(jax.tree.map, jnp.zeros_like)
        adam = work.update == "adam"
        self.state = (params, zeros(params), zeros(params)) if adam else (params, (), ())
        self.state = (*self.state, jnp.zeros(()))
        self.step = jax.jit(partial(step_of, work), donate_argnums=0)
        self.load(data)

    def load(self, data: Data) -> None:
        x, t = data.batches(self.work)
        self.stored = [(jnp.array(a), jnp.array(b)) for a, b in zip(x, t, strict=True)]

    def batches(self, steps: int) -> Iterator[Any]:
        return islice(cycle(self.stored), steps)

    def run(self, steps: int) -> Any:
        losses = []
        for batch in self.batches(steps):
            self.state, loss = self.step(self.state, batch)
            losses.append(loss)
        return np.asarray(jax.device_get(losses))

    @cached_property
    def ab(self) -> list[Any]:
        return [jnp.array(a) for a in self.work.factors()]

    def gemm(self) -> Any:
        return jnp.matmul(*self.ab).block_until_ready()

    def facts(self) -> dict[str, Any]:
        """The peak of the GPU's memory."""
        found = jax.local_devices()[0].memory_stats() or {}  # nothing on the processor
        return {"megabytes": found["peak_bytes_in_use"] / 1e6} if "peak_bytes_in_use" in found else {}


class Scanned(Jitted):
    """All steps in one `lax.scan`, which takes the batches by their indices."""

    def load(self, data: Data) -> None:
        self.x, self.t = (jnp.array(a) for a in data.batches(self.work))
        self.numbers: dict[int, Any] = {}

        def scan(state: Any, x: Any, t: Any, numbers: Any) -> Any:
            return jax.lax.scan(lambda s, k: step_of(self.work, s, (x[k], t[k])), state, numbers)

        self.scan = jax.jit(scan, donate_argnums=0)

    def run(self, steps: int) -> Any:
        if steps not in self.numbers:
            self.numbers[steps] = jnp.arange(steps, dtype=jnp.int32) % self.work.batches
        self.state, losses = self.scan(self.state, self.x, self.t, self.numbers[steps])
        return np.asarray(losses)


class Sliced(Jitted):
    """The jitted step on slices of a file or of host memory; the next batch is copied while a step runs."""

    def load(self, data: Data) -> None:
        self.x, self.t = data.x, data.t
        if self.work.kind == "stream":
            self.x, self.t = np.array(self.x), np.array(self.t)

    def batches(self, steps: int) -> Iterator[Any]:
        coming = self.sent(0)
        for k in range(steps):
            batch, coming = coming, self.sent(k + 1) if k + 1 < steps else None
            yield batch

    def sent(self, k: int) -> Any:
        start = k % self.work.batches * self.work.batch
        return jax.device_put(tuple(np.asarray(a[start : start + self.work.batch]) for a in (self.x, self.t)))
