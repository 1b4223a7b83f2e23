"""What an array library is: its namespace, its dtypes and devices, and how data reach it."""

from typing import Any

import numpy

from .arrays import Array, Namespace
from .errors import BackpropError


class Library:
    """An array library as compilers see it.

    Attributes:
        name: as it is asked for.
        xp: the namespace layers receive.
        floats: the names of its real types, the default first.
    """

    name: str
    xp: Namespace
    floats: tuple[str, ...] = ("float32", "float64")

    def owns(self, a: Any) -> bool:
        """Whether this value is an array of the library."""
        return hasattr(a, "dtype") and hasattr(a, "shape")

    def device(self, name: Any) -> Any:
        """The device of this name, None for the default."""
        if name in (None, "cpu"):
            return None
        msg = f"the {self.name} backend runs on device 'cpu', got {name!r}"
        raise BackpropError(msg)

    def device_of(self, a: Array) -> Any:
        """Where an array lies; None where there is but one place."""
        return None

    def dtype(self, name: str | None) -> Any:
        """The type of this name; None is the default."""
        known = (*self.floats, *(n for n in ("int32", "int64", "uint8") if hasattr(self.xp, n)))
        if name is None:
            return getattr(self.xp, self.floats[0])
        if name not in known:
            msg = f"a dtype of the {self.name} backend is one of {known}, got {name!r}"
            raise BackpropError(msg)
        return getattr(self.xp, name)

    def asarray(self, data: Any, dtype: Any, device: Any) -> Array:
        """Lists, NumPy arrays or arrays of this library, as an array of this dtype, on this device."""
        return self.xp.asarray(data, dtype=dtype, device=device)

    def to_host(self, a: Array) -> Any:
        """A NumPy array of the same values, by DLPack, as the standard has it."""
        try:
            return numpy.from_dlpack(a, device="cpu", copy=True)
        except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
            msg = f"{self.name} does not hand its arrays to NumPy by DLPack: {error}"
            raise BackpropError(msg) from error

    def from_host(self, memory: Any, a: Array = None) -> Array:
        """An array of this library in the memory of a NumPy array: `a`, if it lies there.

        Only for libraries whose arrays lie in memory that NumPy can see.
        """
        return memory

    def committed(self, a: Array) -> Array:
        """The same array, tied to the device it lies on, where a library has arrays that are not."""
        return a

    def synchronize(self) -> None:
        """Wait until all work handed out is done."""
