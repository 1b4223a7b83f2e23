"""Compiled functions for every library whose arrays lie in memory that NumPy can see."""

import operator
import warnings
from typing import Any

import numpy as np

from ...errors import BackpropError
from ..compiled import Compiled, batch_size, check_rows, check_stack
from ..ir import leaves, mapped, signature
from ..native import machine
from ..native.bound import NativeBound, NativePlan
from ..recorder import NotRecorded, record
from . import scalar_source
from .blas_threads import fitted
from .emit import BoundPlan
from .plan import Plan
from .scalar_source import NotUnrolled, Unrolled


class Planned(Compiled):
    """A function as recorded plans, one for each signature; they run on the arrays' own memory.

    Plans own buffers, so only one thread at a time may call a compiled function.

    Attributes:
        plans: the plan of each signature: machine code, or NumPy calls.
        not_native: for each signature that has no machine code, why.
        eager: why the function runs eagerly, where it cannot be recorded.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        if self.native:
            self.code = machine.rounding() or self.code
        self.plans: dict[Any, Plan | NativePlan] = {}
        self.not_native: dict[Any, str] = {}
        self.bound: dict[Any, BoundPlan | NativeBound] = {}
        self.last: dict[int | None, tuple[Any, Any, BoundPlan | NativeBound]] = {}
        self.unrolled: dict[Plan, Unrolled | None] = {}
        self.eager: str | None = None

    def __call__(self, *args: Any) -> Any:
        """One call, replayed."""
        bound = self._given(args)
        if bound is None:
            return super().__call__(*args)
        with np.errstate(all="ignore"):
            bound.run()
        return self._returned(bound, [a.copy() for a in bound.out])

    def into(self, out: Any, *args: Any) -> None:
        """One call, whose one result is written to an array of NumPy's, by machine code directly."""
        bound = self._given(args)
        if bound is None:
            super().into(out, *args)
            return
        with np.errstate(all="ignore"):
            bound.into(out)

    def _given(self, args: Any) -> BoundPlan | NativeBound | None:
        """The plan of a call, with its rows in place; None where there cannot be one."""
        bound = self._bind(args, None)
        if bound is not None:
            for buffer, a in zip(bound.rows, leaves(args[self.donate + self.hold :]), strict=True):
                buffer[...] = self.library.to_host(a)
        return bound

    def scan(self, *args: Any) -> Any:
        """Many calls, replayed; the rows are gathered into the plan's own buffers."""
        *given, index = args
        bound = self._bind(given, batch_size(index))
        if bound is None:
            return super().scan(*args)
        rows = [self.library.to_host(a) for a in leaves(self._parts(given)[2])]
        index = np.asarray(index, dtype=np.intp)
        check_rows(index, rows[0])
        check_stack(bound.out, len(index))
        out = [np.empty((len(index), *a.shape), dtype=a.dtype) for a in bound.out]
        with np.errstate(all="ignore"), fitted(bound.plan.multiplications):
            unrolled = self._unrolled(bound)
            if unrolled is None or not unrolled.scan(
                bound.memory, [np.take(a, index, axis=0) for a in rows], out
            ):
                bound.scan(rows, index, out)
        return self._returned(bound, out)

    def _bind(self, args: Any, batch: int | None) -> BoundPlan | NativeBound | None:
        """The plan of this signature, bound to state and held arguments; None if it cannot be recorded.

        Args:
            args: state, held arguments, rows.
            batch: the batch size of a scan; None for a call, which takes all rows.
        """
        if self.eager is not None:
            return None
        n = self.donate + self.hold
        rows = [(a.shape, a.dtype) if hasattr(a, "dtype") else None for a in args[n:]]
        before, like, bound = self.last.get(batch, ((), (), None))
        if len(before) == n and like == rows and all(map(operator.is_, before, args)):
            return bound  # the very same state, as in most scans of a run
        bound = self._bind_new(args, batch)
        if bound is not None and None not in rows and bound.holds(args[: self.donate], args[self.donate : n]):
            self.last[batch] = tuple(args[:n]), rows, bound
        return bound

    def _bind_new(self, args: Any, batch: int | None) -> BoundPlan | NativeBound | None:
        """As `_bind`, for arguments that are not those of the last call."""
        state, held, rows = self._parts(args)
        if batch is not None and len({a.shape[0] for a in leaves(rows)}) > 1:
            self.check(*args)
            lengths = ", ".join(str(a.shape[0]) for a in leaves(rows))
            msg = f"all arrays of rows must have the same length, got {lengths}"
            raise BackpropError(msg)
        key = batch, signature((state, held)), signature(rows, skip=batch is not None)
        bound = self.bound.get(key)
        if bound is not None and bound.holds(state, held):
            return bound
        self.last.clear()
        self.check(*args)
        if key not in self.plans:
            try:
                self.plans[key] = self._plan(args, batch, key)
            except NotRecorded as why:
                self.eager = str(why)
                warnings.warn(f"{why}; this step runs eagerly", RuntimeWarning, stacklevel=3)
                return None
            self.compilations += 1
        plan = self.plans[key]
        if isinstance(plan, NativePlan):
            bound = NativeBound(plan, state, held, self.library)
        else:
            bound = BoundPlan(plan, state, held, self.library)
        self.bound[key] = bound
        return bound

    def _plan(self, args: Any, batch: int | None, key: Any) -> Plan | NativePlan:
        state, held, rows = mapped(self._parts(args), self.library.to_host)
        if batch is not None:
            first = np.zeros(batch, dtype=int)
            rows = mapped(rows, lambda a: a[first])
        xp = self.library.xp
        word = self.library.to_host(xp.zeros((), dtype=getattr(xp, "word", xp.uint32)))
        program = record(self.function, *state, *held, *rows, word=word.dtype)
        if not self.native:
            self.not_native[key] = "it is turned off"
        else:
            try:
                return NativePlan(program, self.donate, self.hold, batch)
            except Exception as why:  # whatever fails there, NumPy calls compute the same
                self.not_native[key] = f"{type(why).__name__}: {why}"
        return Plan(program, self.donate, self.hold)

    def _returned(self, bound: BoundPlan | NativeBound, out: list[Any]) -> Any:
        """State and results in the structure that the function returns."""
        each = iter(self.library.from_host(a)[()] if a.ndim == 0 else self.library.from_host(a) for a in out)
        results = mapped(bound.plan.results, lambda _: next(each))
        return (*bound.state, *results) if self.donate else results

    def _unrolled(self, bound: BoundPlan | NativeBound) -> Unrolled | None:
        """The unrolled scan, where the net is small enough for it to be faster.

        The choice depends on shapes alone: how a run is cut into scans must not change its rounding.
        """
        plan = bound.plan
        if (
            isinstance(plan, NativePlan)
            or self.hold
            or sum(a.size for a in bound.memory[:1]) > scalar_source.MOST
        ):
            return None
        if plan not in self.unrolled:
            try:
                self.unrolled[plan] = Unrolled(plan.program, self.donate)
            except NotUnrolled:
                self.unrolled[plan] = None
        return self.unrolled[plan]
