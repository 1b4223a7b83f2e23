"""An array library: its namespace, its dtypes and devices, and transfers to and from the host."""

from typing import Any

import numpy

from .arrays import Array, Namespace
from .errors import BackpropError, refuse_half


class Library:
    """An array library, as the compilers see it.

    Attributes:
        name: the name it is selected by, such as "numpy".
        xp: its Array API namespace, which layers receive.
        floats: the names of its floating-point dtypes, the default first.
    """

    name: str
    xp: Namespace
    floats: tuple[str, ...] = ("float32", "float64")

    def owns(self, a: Any) -> bool:
        """Whether this value is an array of the library."""
        return hasattr(a, "dtype") and hasattr(a, "shape")

    def device(self, name: Any) -> Any:
        """The device of this name; None for the default device.

        Raises:
            BackpropError: the library has no such device.
        """
        if name in (None, "cpu"):
            return None
        msg = f"the {self.name} backend runs on device 'cpu', got {name!r}"
        raise BackpropError(msg)

    def device_of(self, a: Array) -> Any:
        """The device of an array; None where the library has only one."""
        return None

    def dtype(self, name: str | None) -> Any:
        """The dtype of this name; without a name the default.

        Raises:
            BackpropError: the library has no such dtype.
        """
        refuse_half(name)
        known = (*self.floats, *(n for n in ("int32", "int64", "uint8") if hasattr(self.xp, n)))
        if name is None:
            return getattr(self.xp, self.floats[0])
        if name not in known:
            msg = f"a dtype of the {self.name} backend must be one of {known}, got {name!r}"
            raise BackpropError(msg)
        return getattr(self.xp, name)

    def asarray(self, data: Any, dtype: Any, device: Any) -> Array:
        """Nested lists, a NumPy array or an array of this library, as an array of this dtype and device."""
        return self.xp.asarray(data, dtype=dtype, device=device)

    def to_host(self, a: Array) -> Any:
        """A NumPy array of the same values, transferred by DLPack as the standard defines it.

        Raises:
            BackpropError: the library does not support it.
        """
        try:
            return numpy.from_dlpack(a, device="cpu", copy=True)
        except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
            msg = f"{self.name} does not hand its arrays to NumPy by DLPack: {error}"
            raise BackpropError(msg) from error

    def from_host(self, memory: Any, a: Array = None) -> Array:
        """An array of this library that shares the memory of a NumPy array; `a` itself if it already does.

        Only for libraries whose arrays are in host memory.
        """
        return memory

    def committed(self, a: Array) -> Array:
        """The same array, tied to the device it lies on, where a library has arrays that are not."""
        return a

    def synchronize(self) -> None:
        """Wait until all work submitted to the device is done."""
