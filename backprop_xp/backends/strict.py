"""array-api-strict: only what the standard defines. It tests that formulas are portable; it is slow."""

from typing import Any

from ..arrays import Array
from ..errors import BackpropError
from .base import Backend

TYPES = ("array_api_strict",)
INSTALL = ("array-api-strict", "array_api_strict", "test")


class Strict(Backend):
    """The standard's own test library, with the flags the caller has set."""

    name = "strict"

    def __init__(self) -> None:
        import array_api_strict

        self.xp = array_api_strict

    def device(self, name: Any) -> Any:
        """A device of the library, such as "device1"."""
        if not isinstance(name, str) or name == "cpu":
            return None if name == "cpu" else name
        try:
            return self.xp.Device(name)
        except (ValueError, AssertionError, NotImplementedError) as error:  # which one depends on its version
            msg = f"an array-api-strict device must be 'CPU_DEVICE', 'device1' or 'device2', got {name!r}"
            raise BackpropError(msg) from error

    def device_of(self, a: Array) -> Any:
        """The array's device."""
        return a.device

    def asarray(self, data: Any, dtype: Any, device: Any) -> Array:
        """Lists, NumPy arrays or arrays of this library, as a copy."""
        return self.xp.asarray(data, dtype=dtype, device=device, copy=True)

    def to_host(self, a: Array) -> Any:
        """A NumPy array."""
        return self.xp.from_dlpack(a, device=self.xp.Device("CPU_DEVICE"), copy=True)._array  # noqa: SLF001


load = Strict
