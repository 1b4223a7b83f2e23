"""Exact arithmetic: the same formulas on fractions, for small nets and for verification."""

from typing import Any

from ..arrays import Array
from ..exact import namespace
from .base import Backend

TYPES = ("backprop_xp.exact",)


class Exact(Backend):
    """The namespace and array type of the package `exact`."""

    name = "exact"
    xp = namespace
    floats = ("rational",)

    def to_host(self, a: Array) -> Any:
        """A NumPy array: fractions rounded to float64, integers and booleans unchanged."""
        return a.to_numpy()


load = Exact
