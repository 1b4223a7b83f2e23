"""Exact arithmetic: the same formulas on fractions. For small nets, and for trust."""

from typing import Any

from ..arrays import Array
from . import _rational
from ._base import Backend

TYPES = ("backprop_xp.backends._exact_array",)


class Exact(Backend):
    """The namespace and array type of `_rational`."""

    name = "exact"
    xp = _rational
    floats = ("rational",)

    def to_host(self, a: Array) -> Any:
        """A NumPy array: float64 for rationals (rounded), else as they are."""
        return a.to_numpy()


def load() -> Backend:
    """The exact backend."""
    return Exact()
