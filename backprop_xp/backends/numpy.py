"""NumPy: arrays on the CPU; also the host side of every other backend."""

from typing import Any

import numpy

from ..arrays import Array
from ..compiler.compiled import Compiled, Step
from ..compiler.cpu.compiled import CompiledStep
from ..errors import BackpropError
from .base import Backend

TYPES = ("numpy",)


class NumPy(Backend):
    """NumPy 2 is its own Array API namespace."""

    name = "numpy"
    xp = numpy

    def owns(self, a: Any) -> bool:
        """Whether it is a NumPy array or scalar.

        Raises:
            BackpropError: an object array.
        """
        if isinstance(a, (numpy.ndarray, numpy.generic)) and a.dtype == object:
            msg = (
                "a NumPy array must hold numbers, got an object array, whose fractions would silently become "
                "floats: write bp.exact.asarray(data) for exact arithmetic"
            )
            raise BackpropError(msg)
        return isinstance(a, (numpy.ndarray, numpy.generic))

    def to_host(self, a: Array) -> Any:
        """The array itself."""
        return a

    def compile(self, step: Step, check: Step | None = None, layout: Any = None) -> Compiled:
        """The step, recorded once for each set of shapes and then replayed."""
        return CompiledStep(self, step, check)


load = NumPy
