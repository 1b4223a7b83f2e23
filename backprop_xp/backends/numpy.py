"""NumPy: the CPU, and the host of every other backend."""

from typing import Any

import numpy

from ..arrays import Array
from ..compiler.compiled import Compiled, Function
from ..compiler.cpu.compiled import Planned
from ..errors import BackpropError
from .base import Backend

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

    def compile(self, function: Function, **settings: Any) -> Compiled:
        """The function recorded once for each signature, then replayed."""
        return Planned(self, function, **settings)


load = NumPy
