"""A compiled step for every library whose arrays are in memory that NumPy can use."""

import warnings
from typing import Any

import numpy as np

from ...arrays import Array
from ...library import Library
from ..compiled import Compiled, Step, batch_size, check_rows
from ..ir import mapped
from ..recorder import NotRecorded, record
from . import scalar_source
from .blas_threads import fitted
from .emit import BoundPlan
from .plan import Plan
from .scalar_scan import ScalarScan


class CompiledStep(Compiled):
    """A step as recorded plans, one for each set of shapes; they run on the arrays' own memory.

    Plans hold buffers: a compiled step is for one thread at a time.

    Attributes:
        eager: why the step runs eagerly, where it cannot be recorded.
    """

    def __init__(self, library: Library, step: Step, check: Step | None = None) -> None:
        super().__init__(library, step, check)
        self.plans: dict[Any, Plan] = {}
        self.bound: dict[Any, BoundPlan] = {}
        self.scalars: dict[Plan, ScalarScan | None] = {}
        self.eager: str | None = None

    def __call__(self, w: Array, s: Any, x: Array, t: Array) -> tuple[Array, Any, Array]:
        """One step, replayed."""
        plan = self._bind(w, s, x, t)
        if plan is None:
            return super().__call__(w, s, x, t)
        plan.x[...], plan.t[...] = map(self.library.to_host, (x, t))
        with np.errstate(all="ignore"):
            plan.run()
        return plan.w, plan.s, self.library.from_host(plan.loss.copy())[()]

    def scan(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> tuple[Array, Any, Array]:
        """Many steps, replayed; the rows are gathered into the plan's own buffers."""
        plan = self._bind(w, s, x, t, batch_size(index))
        if plan is None:
            return super().scan(w, s, x, t, index)
        x, t = (self.library.to_host(a) for a in (x, t))
        index = np.asarray(index, dtype=np.intp)
        check_rows(index, x)
        losses = np.empty(index.shape[0], dtype=plan.loss.dtype)
        with np.errstate(all="ignore"), fitted(plan.plan.multiplications):
            if not self._as_scalars(plan, x, t, index, losses):
                plan.scan(x, t, index, losses)
        return plan.w, plan.s, self.library.from_host(losses)

    def _bind(self, w: Array, s: Any, x: Array, t: Array, rows: int | None = None) -> BoundPlan | None:
        """The plan of these shapes, bound to w and s; None where there cannot be one."""
        if self.eager is not None:
            return None
        try:
            matched = x.shape[:1] == t.shape[:1]  # else there is no plan, and the check says why
            rows = x.shape[0] if rows is None else rows
            shapes = matched, x.shape[1:], t.shape[1:], w.shape
            key = rows, *shapes, type(x), x.dtype, t.dtype, w.dtype, x.device, t.device
        except AttributeError:
            self.check(w, s, x, t)
            raise
        bound = self.bound.get(key)
        if bound is None or not bound.holds(w, s):
            self.check(w, s, x, t)
            try:
                if key not in self.plans:
                    self.plans[key] = self._plan(w, s, x, t, rows)
                    self.compilations += 1
            except NotRecorded as why:
                self.eager = str(why)
                warnings.warn(f"{why}; this step runs eagerly", RuntimeWarning, stacklevel=3)
                return None
            bound = self.bound[key] = BoundPlan(self.plans[key], w, s, self.library)
        return bound

    def _plan(self, w: Array, s: Any, x: Array, t: Array, rows: int) -> Plan:
        w, s, x, t = mapped((w, s, x, t), self.library.to_host)
        first = np.zeros(rows, dtype=int)
        xp = self.library.xp
        word = self.library.to_host(xp.zeros((), dtype=getattr(xp, "word", xp.uint32)))
        return Plan(record(self.step, w, s, x[first], t[first], word=word.dtype))

    def _as_scalars(self, bound: BoundPlan, x: Array, t: Array, index: Array, losses: Array) -> bool:
        """The scan on single numbers, if the net is so small that this is faster; whether it was done.

        This depends on shapes alone, so that rounding does not depend on how a run is divided into scans.
        """
        steps = index.shape[0]
        if bound.state[0].size > scalar_source.MOST:
            return False
        plan = bound.plan
        if plan not in self.scalars:
            try:
                self.scalars[plan] = ScalarScan(plan.program)
            except scalar_source.NotUnrolled:
                self.scalars[plan] = None
        scalars = self.scalars[plan]
        if scalars is None:
            return False
        inputs, targets = (np.take(a, index, axis=0).reshape(steps, -1) for a in (x, t))
        return scalars.scan(bound.state, inputs, targets, losses)
