"""The step of a training that workers share: gradients of shards, their sum, and the update from it."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from typing import Any

from .. import backends
from ..arrays import Array, leaves, mapped
from ..compiler.compiled import Compiled, batch_size
from ..compiler.cpu.blas_threads import fitted
from ..errors import BackpropError
from ..learner import Learner
from ..step import Gradient, State, cuts
from ..workers import Exchange, owned


def sharded(learner: Learner, workers: Exchange) -> Learner:
    """The learner with the number of shards that workers share out.

    Raises:
        BackpropError: fewer shards than workers, or a learner that sees whole batches alone.
    """
    if any(learner.net.state):
        msg = "layers with running state, such as BatchNorm, see whole batches alone: leave workers= out"
        raise BackpropError(msg)
    found = replace(learner, shards=workers.shards) if learner.shards == 1 else learner
    if found.shards < workers.size:
        msg = (
            f"{workers.size} workers need at least as many shards, got {found.shards}: use "
            f"fewer workers, or bp.workers.mpi(shards={workers.size})"
        )
        raise BackpropError(msg)
    return found


class SharedStep(Compiled):
    """A learner's step in its two halves, between which gradients are added up across workers.

    A vector holds a shard's gradient, its loss, and a word: 1 where a worker wants to stop. So all stop after
    the same step.

    Args:
        learner: with the number of shards.
        w: the weights; their library, and nothing else, is looked at.
        workers: how they share.

    Attributes:
        wish: this worker wants to stop.
        ended: the last step was told that one wants to, or its loss is not finite.
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

    def __call__(self, w: Array, s: State, *batch: Any) -> Any:
        """One update from a batch."""
        index = backends.get("numpy").xp.arange(leaves(batch)[0].shape[0])[None, :]
        w, s, losses = self.scan(w, s, *batch, index)
        return w, s, losses[0]

    def scan(self, *args: Any) -> Any:
        """Steps until the index ends, or until one was told to be the last."""
        w, s, *rows, index = args
        size, host = batch_size(index), backends.get("numpy").xp
        index, losses = self.index_to_device(tuple(rows), index), []
        if size not in self.gradients:
            self.gradients[size] = self.learner.compile_gradient(w, rows=size)
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
        learning = sum(b.stop - b.start for b in self.learner.net.layout.learning)
        out = backends.get("numpy").xp.empty(learning + 2, dtype=str(w.dtype).rpartition(".")[2])
        vectors = self._vectors(w, s, rows, index, [parts[k] for k in own], out)
        found = self.workers.sum(vectors, len(parts), out)
        g, loss = (to.asarray(a, w.dtype, to.device_of(w)) for a in (found[:-2], found[-2]))
        value = float(found[-2])
        self.ended = bool(found[-1] > 0) or not isfinite(value)
        w, s, _ = self.apply(w, s, Gradient(g, loss, s.layers))
        return w, s, value

    def _vectors(
        self, w: Array, s: State, rows: Any, index: Array, parts: list[tuple[int, int]], like: Array
    ) -> Iterator[Array]:
        """The gradient, loss and word of each of some shards."""
        to, xp, size = self.library, self.library.xp, index.shape[0]
        for k, (i, j) in enumerate(parts):
            part = _taken(rows, index[i:j], xp)
            g, loss, _ = self.gradients[size](w, s, self._first(i, w), *part)
            vector = backends.get("numpy").xp.empty_like(like)
            vector[:-2], vector[-2] = to.to_host(g), to.to_host(loss)
            vector[-1] = self.wish if k == 0 else 0
            yield vector

    def _first(self, i: int, w: Array) -> Array:
        """The number of a row as a 0-d array."""
        if i not in self.firsts:
            host = backends.get("numpy").xp
            number = host.asarray(i, dtype="int32")
            self.firsts[i] = self.library.asarray(number, self.library.xp.int32, self.library.device_of(w))
        return self.firsts[i]

    def _compare(self, w: Array, s: State, rows: Any, index: Array, cut: tuple[int, int]) -> None:
        """Refuse workers that would not get the same bits from the same rows."""
        to, xp, (i, j) = self.library, self.library.xp, cut
        like = backends.get("numpy").xp.empty(
            sum(b.stop - b.start for b in self.learner.net.layout.learning) + 2,
            dtype=str(w.dtype).rpartition(".")[2],
        )
        wish, self.wish = self.wish, False
        (vector,) = self._vectors(w, s, rows, index, [cut], like)
        self.wish = wish
        part = [to.to_host(a) for a in leaves(_taken(rows, index[i:j], xp))]
        facts = {
            "order of rows": _digest([to.to_host(index)]),
            "data": _digest(part),
            "weights": _digest([to.to_host(w)]),
            "gradient": _digest([vector]),
        }
        each = self.workers.gather(facts)
        for name, here in each[0].items():
            others = [str(k) for k, other in enumerate(each) if other[name] != here]
            if others:
                why = (
                    "; from the same rows they compute other bits, so their processors, libraries or numbers "
                    "of threads differ"
                ) * (name == "gradient")
                msg = f"workers {', '.join(others)} and worker 0 have another {name}{why}"
                raise BackpropError(msg)


def _taken(rows: Any, index: Array, xp: Any) -> Any:
    return mapped(tuple(rows), lambda a: xp.take(a, index, axis=0))


def _digest(arrays: list[Any]) -> str:
    found = hashlib.sha256()
    for a in arrays:
        found.update(a.tobytes())
    return found.hexdigest()
