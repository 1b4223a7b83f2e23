"""What every backend has: an array library, and how steps are compiled for it."""

from typing import Any

from ..arrays import Array, Namespace
from ..compiler.compiled import Carry, Compiled, Function
from ..errors import BackpropError
from ..library import Library


class Backend(Library):
    """An array library and its compiler; in this base class steps run eagerly."""

    def with_precision(self, precision: str | None, *, scaled: bool = True) -> "Backend":
        """This backend with products of float32 computed in another precision.

        Args:
            precision: the precision of products; None for the library's own, here float32.
            scaled: whether the step uses loss scaling, which float16 needs.

        Raises:
            BackpropError: the library does not have this precision.
        """
        if precision in (None, "float32"):
            return self
        msg = (
            f"the {self.name} backend multiplies in 'float32', got precision={precision!r}: "
            "leave it out, or use backend='cupy' or 'jax'"
        )
        raise BackpropError(msg)

    def compile(
        self,
        function: Function,
        *,
        donate: int = 0,
        hold: int = 0,
        carry: Carry | None = None,
        check: Function | None = None,
        native: bool | None = None,
    ) -> Compiled:
        """A function f(*state, *held, *rows, xp=…) in its fastest form on this library; see `Compiled`."""
        return Compiled(self, function, donate=donate, hold=hold, carry=carry, check=check, native=native)


class Standard(Backend):
    """Any other library that follows the Array API standard, met through an array of it."""

    def __init__(self, name: str, xp: Namespace) -> None:
        self.name = name
        self.xp = xp

    def device_of(self, a: Array) -> Any:
        """The array's own device."""
        return a.device
