"""Tiny nets on NumPy: scans of unrolled steps, in plain Python or compiled by Numba."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ..ir import Program
from .scalar_source import Unrolled

SOON = 500_000  # steps after which Numba, where installed, has saved the second it needs to compile


class ScalarScan:
    """Scans of one step as unrolled loops; weights and state are changed in place.

    Args:
        program: simplified.

    Raises:
        NotUnrolled: it cannot be unrolled, or would not be faster.
    """

    def __init__(self, program: Program) -> None:
        self.unrolled = Unrolled(program)
        self.python, self.steps = self.unrolled.python(), 0
        self.numba: Callable[..., Any] | None = None

    def scan(self, arrays: list[Any], x: Any, t: Any, losses: Any) -> bool:
        """One step for each row of x and t; False, and nothing changed, if a number ran out of range.

        Args:
            arrays: weights and state.
            x: inputs, shape (steps, numbers a step).
            t: targets, likewise.
            losses: receives one loss a step.
        """
        state = [v for a in arrays for v in a.reshape(-1).tolist()]
        self.steps += len(x)
        try:
            if self.steps >= SOON and (jit := _numba()) is not None:
                self.numba = self.numba or self.unrolled.compiled(jit)
                numbers = np.asarray(state, dtype=np.float64)
                self.numba(numbers, x, t, losses)
                state = numbers.tolist()
            else:
                state, values = self.python(state, x.tolist(), t.tolist())
                losses[:] = values
        except (ArithmeticError, ValueError):
            return False
        start = 0
        for a in arrays:
            a.reshape(-1)[:] = state[start : start + a.size]
            start += a.size
        return True


@cache
def _numba() -> Callable[..., Any] | None:
    try:
        import numba
    except ImportError:
        return None
    return numba.njit(error_model="numpy")  # type: ignore[no-any-return]
