"""The base of all backends: an array library, and how steps are compiled for it."""

from typing import Any

from ..arrays import Array, Namespace
from ..compiler.compiled import Compiled, Step
from ..errors import BackpropError
from ..library import Library


class Backend(Library):
    """An array library and its compiler; in this base class steps are not compiled."""

    def with_precision(self, precision: str | None, *, scaled: bool = True) -> "Backend":
        """This backend with matrix products of float32 computed in another precision.

        Args:
            precision: of products; None is the library's own, here float32.
            scaled: whether the step supports a loss scale, as float16 needs.

        Raises:
            BackpropError: the backend does not have this precision.
        """
        if precision in (None, "float32"):
            return self
        msg = f"the {self.name} backend has only precision='float32', got precision={precision!r}"
        raise BackpropError(msg)

    def compile(self, step: Step, check: Step | None = None, layout: Any = None) -> Compiled:
        """A function step(w, s, x, t, *, xp) in its fastest form on this library.

        Args:
            step: a pure function.
            check: called as check(w, s, x, t) before shapes are used for the first time.
            layout: of the weights, if the step also accepts them split.
        """
        return Compiled(self, step, check)


class Standard(Backend):
    """Any other library that follows the Array API standard, found through one of its arrays."""

    def __init__(self, name: str, xp: Namespace) -> None:
        self.name = name
        self.xp = xp

    def device_of(self, a: Array) -> Any:
        """The array's own device."""
        return a.device
