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
        """Arrays and 0-d scalars; object arrays, masked ones and matrices are refused."""
        if isinstance(a, (numpy.ndarray, numpy.generic)) and a.dtype == object:
            msg = (
                "an object array loses exact numbers silently: "
                "write bp.exact.asarray(data) for exact arithmetic"
            )
            raise BackpropError(msg)
        if isinstance(a, (numpy.ma.MaskedArray, numpy.matrix)):
            kind, way = type(a).__name__, "numpy.asarray(a)"
            if isinstance(a, numpy.ma.MaskedArray):
                way = "a.filled(value), or leave the masked rows out"
            msg = (
                f"expected a plain numpy array, got a {kind}, which computes by rules of its own: write {way}"
            )
            raise BackpropError(msg)
        return isinstance(a, (numpy.ndarray, numpy.generic))

    def to_host(self, a: Array) -> Any:
        """The array itself."""
        if type(a) is not numpy.ndarray:
            self.owns(a)
        return a

    def writable(self, a: Array) -> bool:
        """Whether NumPy lets it be written to."""
        return bool(a.flags.writeable)

    def compile(self, function: Function, **settings: Any) -> Compiled:
        """The function recorded once for each signature, then replayed."""
        return Planned(self, function, **settings)


load = NumPy
