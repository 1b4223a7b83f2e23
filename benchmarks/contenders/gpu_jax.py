"""JAX on a GPU: the step of `with_jax` under `lax.scan`, or jitted on batches from the host."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..data import Data
from ..works import Work
from .gpu_precision import set_jax
from .with_jax import Jitted, step_of


class Scanned(Jitted):
    """All steps in one `lax.scan`, which takes the batches by their numbers."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        set_jax(work.precision)
        super().__init__(work, data, threads)

    def load(self, data: Data) -> None:
        self.x, self.t = (jnp.array(a) for a in data.batches(self.work))

        def many(state: Any, x: Any, t: Any, which: Any) -> Any:
            return jax.lax.scan(lambda s, k: step_of(self.work, s, (x[k], t[k])), state, which)

        self.scan = jax.jit(many, donate_argnums=0)
        self.which: dict[int, Any] = {}

    def run(self, steps: int) -> Any:
        if steps not in self.which:
            self.which[steps] = jnp.arange(steps, dtype=jnp.int32) % self.work.batches
        self.state, losses = self.scan(self.state, self.x, self.t, self.which[steps])
        return np.asarray(losses)


class Streamed(Jitted):
    """Jitted steps; the next batch is sent while a step runs."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        set_jax(work.precision)
        super().__init__(work, data, threads)
        if work.source == "uint8":

            def scaled(state: Any, batch: Any) -> Any:
                x, t = batch
                return step_of(work, state, (x.astype(jnp.float32) * (1 / 255), t))

            self.step = jax.jit(scaled, donate_argnums=0)
        else:
            self.step = jax.jit(partial(step_of, work), donate_argnums=0)

    def load(self, data: Data) -> None:
        self.x, self.t = data.batches(self.work)

    def run(self, steps: int) -> Any:
        losses, stored = [], self.work.batches
        coming = jax.device_put((self.x[0], self.t[0]))
        for k in range(steps):
            batch, following = coming, (k + 1) % stored
            coming = jax.device_put((self.x[following], self.t[following]))
            self.state, loss = self.step(self.state, batch)
            losses.append(loss)
        return np.asarray(jax.device_get(losses))
