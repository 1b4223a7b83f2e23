"""NumPy: the CPU, and the host of every other backend."""

from typing import Any

import numpy

from ..arrays import Array, BackpropError
from . import _unroll
from ._base import Backend, Compiled, Step, check_rows
from ._plan import Plan
from ._record import leaves, record
from ._replay import Replay
from ._scalars import Scalars
from ._sketch import Sketch
from ._threads import fitted

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

    def compile(self, step: Step, check: Step | None = None, layout: Any = None) -> Compiled:
        """The step recorded once for each set of shapes, then replayed."""
        return Replayed(self, step, check)


class Replayed(Compiled):
    """A step as recorded plans, one for each set of shapes."""

    def __init__(self, backend: Backend, step: Step, check: Step | None = None) -> None:
        super().__init__(backend, step, check)
        self.plans: dict[Any, Plan] = {}
        self.bound: dict[Any, Replay] = {}
        self.scalars: dict[Plan, Scalars | None] = {}

    def _replay(self, w: Array, s: Any, x: Array, t: Array, rows: int | None = None) -> Replay:
        try:
            matched = x.shape[:1] == t.shape[:1]  # else there is no plan, and the check tells why
            rows = x.shape[0] if rows is None else rows
            key = type(x), rows, matched, x.shape[1:], x.dtype, t.shape[1:], t.dtype, w.shape, w.dtype
        except AttributeError:
            self.check(w, x, t)
            raise
        replay = self.bound.get(key)
        if replay is None or replay.w is not w or replay.s is not s:
            if key not in self.plans:
                self.check(w, x, t)
                first = numpy.zeros(rows, dtype=int)
                self.plans[key] = Plan(record(self.step, w, s, x[first], t[first], tape=Sketch()))
                self.compilations += 1
            replay = self.bound[key] = Replay(self.plans[key], w, s)
        return replay

    def __call__(self, w: Array, s: Any, x: Array, t: Array) -> tuple[Array, Any, Array]:
        """One step, replayed."""
        replay = self._replay(w, s, x, t)
        replay.x[...], replay.t[...] = x, t
        with numpy.errstate(all="ignore"):
            replay.run()
        return replay.w, replay.s, replay.loss[()]

    def scan(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> tuple[Array, Any, Array]:
        """Many steps, replayed; the rows are gathered into the plan's own buffers."""
        replay = self._replay(w, s, x, t, index.shape[1])
        index = numpy.asarray(index, dtype=numpy.intp)
        check_rows(index, x)
        losses = numpy.empty(index.shape[0], dtype=replay.loss.dtype)
        with numpy.errstate(all="ignore"), fitted(replay.plan.multiplications):
            if not self._as_scalars(replay, x, t, index, losses):
                replay.scan(x, t, index, losses)
        return replay.w, replay.s, losses

    def _as_scalars(self, replay: Replay, x: Array, t: Array, index: Array, losses: Array) -> bool:
        """The scan in single numbers, where the net is small enough for them to be faster.

        It depends on shapes alone: a run must not round otherwise when it is cut into other scans.
        """
        steps = index.shape[0]
        if replay.w.size > _unroll.MOST:
            return False
        plan = replay.plan
        if plan not in self.scalars:
            try:
                self.scalars[plan] = Scalars(plan.record, plan.constants)
            except _unroll.NotUnrolled:
                self.scalars[plan] = None
        scalars = self.scalars[plan]
        if scalars is None:
            return False
        inputs, targets = (numpy.take(a, index, axis=0).reshape(steps, -1) for a in (x, t))
        return scalars.scan(leaves((replay.w, replay.s)), inputs, targets, losses)


def load() -> Backend:
    """The NumPy backend."""
    return NumPy()
