"""NumPy: the CPU, and the host of every other backend."""

from typing import Any

import numpy

from ._plan import Plan, Replay
from ._record import record

from ..arrays import Array, BackpropError
from ._base import Backend, Compiled, Step

TYPES = ("numpy",)


class NumPy(Backend):
    """NumPy 2 is its own Array API namespace."""

    name = "numpy"
    xp = numpy

    def owns(self, a: Any) -> bool:
        """Arrays and 0-d scalars; object arrays are refused."""
        if isinstance(a, (numpy.ndarray, numpy.generic)) and a.dtype == object:
            msg = (
                "an object array loses exact numbers silently: "
                "write bp.exact.asarray(data) for exact arithmetic"
            )
            raise BackpropError(msg)
        return isinstance(a, (numpy.ndarray, numpy.generic))

    def to_host(self, a: Array) -> Any:
        """The array itself."""
        return a

    def compile(self, step: Step, check: Step | None = None) -> Compiled:
        """The step recorded once for each set of shapes, then replayed."""
        return Replayed(self, step, check)


class Replayed(Compiled):
    """A step as recorded plans, one for each set of shapes."""

    def __init__(self, backend: Backend, step: Step, check: Step | None = None) -> None:
        super().__init__(backend, step, check)
        self.plans: dict[Any, Plan] = {}
        self.bound: dict[Any, Replay] = {}

    def _replay(self, w: Array, s: Any, x: Array, t: Array, rows: int) -> Replay:
        try:
            key = type(x), rows, x.shape[1:], x.dtype, t.shape[1:], t.dtype, w.shape, w.dtype
        except AttributeError:
            self.check(w, x, t)
            raise
        replay = self.bound.get(key)
        if replay is None or replay.w is not w or replay.s is not s:
            if key not in self.plans:
                self.check(w, x, t)
                first = numpy.zeros(rows, dtype=int)
                self.plans[key] = Plan(record(self.step, w, s, x[first], t[first]))
                self.compilations += 1
            replay = self.bound[key] = Replay(self.plans[key], w, s)
        return replay

    def __call__(self, w: Array, s: Any, x: Array, t: Array) -> tuple[Array, Any, Array]:
        """One step, replayed."""
        replay = self._replay(w, s, x, t, x.shape[0])
        replay.x[...], replay.t[...] = x, t
        replay.run()
        return replay.w, replay.s, replay.loss[()]

    def scan(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> tuple[Array, Any, Array]:
        """Many steps, replayed; the rows are gathered into the plan's own buffers."""
        replay = self._replay(w, s, x, t, index.shape[1])
        losses = numpy.empty(index.shape[0], dtype=replay.loss.dtype)
        replay.scan(x, t, index, losses)
        return replay.w, replay.s, losses


def load() -> Backend:
    """The NumPy backend."""
    return NumPy()
