"""JAX as its manual writes it: the gradient of a loss over a list of (w, b), a jitted step, a scan."""

from functools import cached_property, partial
from math import log
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..data import Data
from ..works import Work

_F = {"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid, "identity": lambda z: z}


def loss_of(work: Work, params: Any, x: Any, t: Any) -> Any:
    """The mean loss of a batch."""
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
    """One jitted step a batch; the losses are read at the end."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        self.work = work
        params = [tuple(None if p is None else jnp.array(p) for p in pair) for pair in data.blocks]
        zeros = partial(jax.tree.map, jnp.zeros_like)
        adam = work.update == "adam"
        self.state = (params, zeros(params), zeros(params)) if adam else (params, (), ())
        self.state = (*self.state, jnp.zeros(()))
        self.step = jax.jit(partial(step_of, work), donate_argnums=0)
        self.load(data)
        self.mm = jax.jit(jnp.matmul)

    def load(self, data: Data) -> None:
        x, t = data.batches(self.work)
        self.batches = [(jnp.array(a), jnp.array(b)) for a, b in zip(x, t, strict=True)]

    def run(self, steps: int) -> Any:
        losses = []
        for batch in self.batches[:steps]:
            self.state, loss = self.step(self.state, batch)
            losses.append(loss)
        return np.asarray(jax.device_get(losses))

    @cached_property
    def ab(self) -> list[Any]:
        return [jnp.array(a) for a in self.work.factors()]

    def gemm(self) -> Any:
        return self.mm(*self.ab).block_until_ready()


class Scanned(Jitted):
    """All steps in one `lax.scan`."""

    def load(self, data: Data) -> None:
        self.x, self.t = (jnp.array(a) for a in data.batches(self.work))
        self.parts: dict[int, Any] = {}
        self.scan = jax.jit(
            lambda state, batches: jax.lax.scan(partial(step_of, self.work), state, batches), donate_argnums=0
        )

    def run(self, steps: int) -> Any:
        if steps not in self.parts:
            self.parts[steps] = self.x[:steps], self.t[:steps]
        self.state, losses = self.scan(self.state, self.parts[steps])
        return np.asarray(losses)


class JaxFile(Jitted):
    """The jitted step on slices of a file."""

    def load(self, data: Data) -> None:
        self.files = data.x, data.t

    def run(self, steps: int) -> Any:
        size, losses = self.work.batch, []
        for start in range(0, steps * size, size):
            batch = tuple(jnp.array(a[start : start + size]) for a in self.files)
            self.state, loss = self.step(self.state, batch)
            losses.append(loss)
        return np.asarray(jax.device_get(losses))
