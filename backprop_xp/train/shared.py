"""The step of a training that workers share: gradients of shards, their sum, and the update from it."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from typing import Any

from .. import backends
from ..arrays import Array, Namespace, leaves, mapped
from ..compiler.compiled import Compiled, batch_size
from ..compiler.cpu.blas_threads import fitted
from ..errors import BackpropError
from ..learner import Learner
from ..step import Gradient, State, cuts
from ..workers import Devices, Exchange, owned


def sharded(learner: Learner, workers: Exchange) -> Learner:
    """The learner, with its batches cut into the shards that these workers share.

    Raises:
        BackpropError: fewer shards than workers, or layers that need whole batches.
    """
    if any(learner.net.state):
        msg = "layers with running state, such as BatchNorm, need whole batches: leave workers= out"
        raise BackpropError(msg)
    found = replace(learner, shards=workers.shards) if learner.shards == 1 else learner
    if found.shards < workers.size:
        msg = (
            f"{workers.size} workers need at least as many shards, got {found.shards}: use "
            f"fewer workers, or bp.workers.mpi(shards={workers.size})"
        )
        raise BackpropError(msg)
    return found


def compile_shared(learner: Learner, w: Array, workers: Exchange) -> Compiled:
    """The step of a learner whose shards are computed by these workers.

    Raises:
        BackpropError: numbers that workers cannot exchange.
    """
    if not isinstance(workers, Devices):
        return SharedStep(learner, w, workers)
    pure, shards = learner.pure, learner.shards
    if shards % workers.count:
        msg = f"{workers.count} devices need a number of shards that they can share out evenly, got {shards}"
        raise BackpropError(msg)
    layout = learner.net.layout

    def step(w: Array, s: State, *batch: Any, xp: Namespace) -> Any:
        rows = leaves(batch)[0].shape[0]

        def vector(w: Array, s: State, first: Array, *part: Any) -> Array:
            g, loss, _ = pure.gradient(w, s, *part, xp=xp, rows=rows, first=first)
            return xp.concat([xp.reshape(a, (-1,)) for a in (*leaves(g), loss)])

        parts = _of_equal_size(batch, cuts(rows, shards), shards, leaves(w)[0].dtype, xp=xp)
        found = workers.jax.sum_of_parts(workers.mesh, vector, (w, s), parts)
        g = layout.split_learning(found[:-1], xp=xp) if isinstance(w, tuple) else found[:-1]
        return pure.apply(w, s, Gradient(g, found[-1], s.layers), xp=xp)

    return learner.compile_step(w, step)


def _of_equal_size(
    batch: Any, parts: list[tuple[int, int]], shards: int, dtype: Any, *, xp: Namespace
) -> tuple[Array, ...]:
    """The number of each shard's first row, and its rows; short shards are padded with rows of weight 0."""
    host = backends.get("numpy").xp
    most = max(j - i for i, j in parts)
    parts = parts + [(0, 0)] * (shards - len(parts))
    firsts = xp.asarray(host.asarray([i for i, _ in parts], dtype="int32"))
    place = host.arange(most)
    index = host.stack([host.minimum(i + place, max(i, j - 1)) for i, j in parts])
    there = host.stack([i + place < j for i, j in parts])
    if not there.all():
        weight = xp.astype(xp.asarray(there.reshape(-1)), dtype)
        own = mapped(tuple(batch), lambda a: xp.take(a, xp.asarray(index.reshape(-1)), axis=0))
        batch = (*own[:2], weight if len(own) == 2 else weight * own[2])
    return (firsts, *mapped(tuple(batch), lambda a: xp.reshape(a, (shards, most, *a.shape[1:]))))


class SharedStep(Compiled):
    """A learner's step in its two halves, between which gradients are added up across workers.

    The vector that is summed holds a shard's gradient, its loss, and a flag that is 1 if a worker wants to
    stop. So all workers stop after the same step.

    Args:
        learner: with the number of shards.
        w: weights; only their library, device and dtype matter.
        workers: how the workers exchange vectors.

    Attributes:
        wish: whether this worker wants to stop.
        ended: whether any worker wanted to stop at the last step, or its loss is not finite.
    """

    any_length = False

    def __init__(self, learner: Learner, w: Array, workers: Exchange) -> None:
        to = backends.of(w)
        if "rational" in to.floats:
            msg = f"workers exchange floating-point numbers, which the {to.name} backend does not have"
            raise BackpropError(msg)
        to.one_thread()
        super().__init__(to, learner.pure, donate=2, check=learner.check)
        self.learner, self.workers = learner, workers
        self.apply = learner.compile_apply(w)
        self.gradients: dict[int, Compiled] = {}
        self.firsts: dict[int, Array] = {}
        self.wish = self.ended = False
        self.compared = workers.size == 1
        self.memory = workers.memory(w)
        self.dtype = getattr(self.memory.xp, str(w.dtype).rpartition(".")[2])
        self.length = sum(b.stop - b.start for b in learner.net.layout.learning) + 2

    def __call__(self, w: Array, s: State, *batch: Any) -> Any:
        """One update from a batch."""
        index = backends.get("numpy").xp.arange(leaves(batch)[0].shape[0])[None, :]
        w, s, losses = self.scan(w, s, *batch, index)
        return w, s, losses[0]

    def scan(self, *args: Any) -> Any:
        """Steps over the rows of the index, until a worker wants to stop or a loss is not finite."""
        w, s, *rows, index = args
        size, host = batch_size(index), backends.get("numpy").xp
        index, losses = self.index_to_device(tuple(rows), index), []
        if size not in self.gradients:
            self.gradients[size] = self.learner.compile_gradient(w, rows=size, packed=True)
        with fitted(0):
            for k in range(index.shape[0]):
                w, s, loss = self._step(w, s, rows, index[k, :])
                losses.append(loss)
                if self.ended:
                    break
        to = self.library
        found = host.asarray(losses, dtype=str(w.dtype).rpartition(".")[2])
        return w, s, to.asarray(found, w.dtype, to.device_of(w))

    def _step(self, w: Array, s: State, rows: Any, index: Array) -> tuple[Array, State, float]:
        to, parts = self.library, cuts(index.shape[0], self.learner.shards)
        if not self.compared:
            self.compared = True
            self._compare(w, s, rows, index, parts[0])
        own = owned(self.workers.rank, self.workers.size, len(parts))
        vectors = self._vectors(w, s, rows, index, [parts[k] for k in own])
        out = self.memory.xp.empty(self.length, dtype=self.dtype)  # a rule may keep the gradient
        found = self.workers.sum(vectors, len(parts), out)
        value, word = map(float, self.memory.to_host(found[-2:]))
        g, loss = (to.asarray(a, w.dtype, to.device_of(w)) for a in (found[:-2], found[-2]))
        self.ended = word > 0 or not isfinite(value)
        w, s, _ = self.apply(w, s, Gradient(g, loss, s.layers))
        return w, s, value

    def _vectors(
        self, w: Array, s: State, rows: Any, index: Array, parts: list[tuple[int, int]]
    ) -> Iterator[Array]:
        """The gradient, loss and stop flag of each of these shards, as one vector each."""
        to, compute = self.library, self.gradients[index.shape[0]]
        for k, (i, j) in enumerate(parts):
            vector = compute(w, s, self._first(i, w), *_taken(rows, index[i:j], to.xp))
            if self.memory is not to:
                vector = to.to_host(vector)
            if self.wish and k == 0:
                vector = self.memory.xp.asarray(vector, copy=True)
                vector[-1] = 1
            yield vector

    def _first(self, i: int, w: Array) -> Array:
        """The number of a row as a 0-d array."""
        if i not in self.firsts:
            host = backends.get("numpy").xp
            number = host.asarray(i, dtype="int32")
            self.firsts[i] = self.library.asarray(number, self.library.xp.int32, self.library.device_of(w))
        return self.firsts[i]

    def _compare(self, w: Array, s: State, rows: Any, index: Array, cut: tuple[int, int]) -> None:
        """Raise an error if workers have other data, or compute other bits from the same data."""
        to, xp, (i, j) = self.library, self.library.xp, cut
        wish, self.wish = self.wish, False
        (vector,) = self._vectors(w, s, rows, index, [cut])
        self.wish = wish
        part = [to.to_host(a) for a in leaves(_taken(rows, index[i:j], xp))]
        facts = {
            "order of rows": _digest([to.to_host(index)]),
            "data": _digest(part),
            "weights": _digest([to.to_host(w)]),
            "gradient": _digest([self.memory.to_host(vector)]),
        }
        each = self.workers.gather(facts)
        for name, here in each[0].items():
            others = [str(k) for k, other in enumerate(each) if other[name] != here]
            if others:
                why = (
                    "; from the same rows they compute other bits, so their processors, libraries or numbers "
                    "of threads differ"
                ) * (name == "gradient")
                msg = f"workers {', '.join(others)} and worker 0 differ in their {name}{why}"
                raise BackpropError(msg)


def _taken(rows: Any, index: Array, xp: Any) -> Any:
    return mapped(tuple(rows), lambda a: xp.take(a, index, axis=0))


def _digest(arrays: list[Any]) -> str:
    found = hashlib.sha256()
    for a in arrays:
        found.update(a.tobytes())
    return found.hexdigest()
