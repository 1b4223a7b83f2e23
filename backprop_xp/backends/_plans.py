"""A compiled step made of recorded plans, for every library whose arrays lie in NumPy's memory."""

import warnings
from typing import Any

import numpy as np

from ..arrays import Array
from . import _unroll
from ._base import Compiled, InHostMemory, Step, batch_size, check_rows
from ._plan import Plan
from ._record import NotRecorded, mapped, record
from ._replay import Replay
from ._scalars import Scalars
from ._sketch import Sketch
from ._threads import fitted


class Replayed(Compiled):
    """A step as recorded plans, one for each set of shapes; they run on the arrays' own memory.

    Plans hold buffers: a compiled step is for one thread at a time.

    Attributes:
        eager: why the step runs eagerly, where it cannot be recorded.
    """

    def __init__(self, backend: InHostMemory, step: Step, check: Step | None = None) -> None:
        super().__init__(backend, step, check)
        self.backend: InHostMemory = backend
        self.plans: dict[Any, Plan] = {}
        self.bound: dict[Any, Replay] = {}
        self.scalars: dict[Plan, Scalars | None] = {}
        self.eager: str | None = None

    def __call__(self, w: Array, s: Any, x: Array, t: Array) -> tuple[Array, Any, Array]:
        """One step, replayed."""
        replay = self._bind(w, s, x, t)
        if replay is None:
            return super().__call__(w, s, x, t)
        replay.x[...], replay.t[...] = map(self.backend.to_host, (x, t))
        with np.errstate(all="ignore"):
            replay.run()
        return replay.w, replay.s, self.backend.over(replay.loss.copy())[()]

    def scan(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> tuple[Array, Any, Array]:
        """Many steps, replayed; the rows are gathered into the plan's own buffers."""
        replay = self._bind(w, s, x, t, batch_size(index))
        if replay is None:
            return super().scan(w, s, x, t, index)
        x, t = (self.backend.to_host(a) for a in (x, t))
        index = np.asarray(index, dtype=np.intp)
        check_rows(index, x)
        losses = np.empty(index.shape[0], dtype=replay.loss.dtype)
        with np.errstate(all="ignore"), fitted(replay.plan.multiplications):
            if not self._as_scalars(replay, x, t, index, losses):
                replay.scan(x, t, index, losses)
        return replay.w, replay.s, self.backend.over(losses)

    def _bind(self, w: Array, s: Any, x: Array, t: Array, rows: int | None = None) -> Replay | None:
        """The plan of these shapes, bound to w and s; None where there cannot be one."""
        if self.eager is not None:
            return None
        try:
            matched = x.shape[:1] == t.shape[:1]  # else there is no plan, and the check tells why
            rows = x.shape[0] if rows is None else rows
            shapes = matched, x.shape[1:], t.shape[1:], w.shape
            key = rows, *shapes, type(x), x.dtype, t.dtype, w.dtype, x.device, t.device
        except AttributeError:
            self.check(w, s, x, t)
            raise
        replay = self.bound.get(key)
        if replay is None or not replay.holds(w, s):
            self.check(w, s, x, t)
            try:
                if key not in self.plans:
                    self.plans[key] = self._plan(w, s, x, t, rows)
                    self.compilations += 1
            except NotRecorded as why:
                self.eager = str(why)
                warnings.warn(f"{why}; this step runs eagerly", RuntimeWarning, stacklevel=3)
                return None
            replay = self.bound[key] = Replay(self.plans[key], w, s, self.backend)
        return replay

    def _plan(self, w: Array, s: Any, x: Array, t: Array, rows: int) -> Plan:
        w, s, x, t = mapped((w, s, x, t), self.backend.to_host)
        first = np.zeros(rows, dtype=int)
        xp = self.backend.xp
        word = self.backend.to_host(xp.zeros((), dtype=getattr(xp, "word", xp.uint32)))
        return Plan(record(self.step, w, s, x[first], t[first], tape=Sketch(word.dtype)))

    def _as_scalars(self, replay: Replay, x: Array, t: Array, index: Array, losses: Array) -> bool:
        """The scan in single numbers, where the net is small enough for them to be faster.

        It depends on shapes alone: a run must not round otherwise when it is cut into other scans.
        """
        steps = index.shape[0]
        if replay.state[0].size > _unroll.MOST:
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
        inputs, targets = (np.take(a, index, axis=0).reshape(steps, -1) for a in (x, t))
        return scalars.scan(replay.state, inputs, targets, losses)
