"""An array library: its namespace, its dtypes and devices, and transfers to and from the host."""

from pathlib import Path
from typing import Any

import numpy

from .arrays import Array, Namespace
from .errors import BackpropError, refuse_half


def dtype_name(dtype: Any) -> str:
    """The name of a dtype of any library, or of a NumPy scalar type; a name stays as it is.

    >>> [dtype_name(each) for each in ("float32", numpy.float32, numpy.dtype("int32"))]
    ['float32', 'float32', 'int32']
    """
    if isinstance(dtype, str):
        return dtype
    if isinstance(dtype, type) and issubclass(dtype, numpy.generic):
        return dtype.__name__
    return str(getattr(dtype, "dtype", dtype)).rpartition(".")[2]  # JAX's types have a dtype


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

    def dtype(self, name: Any) -> Any:
        """This library's dtype with a name, or with the name of any library's dtype; None is the default.

        Raises:
            BackpropError: the library has no such dtype.
        """
        refuse_half(name)
        known = (*self.floats, *(n for n in ("int32", "int64", "uint8") if hasattr(self.xp, n)))
        if name is None:
            return getattr(self.xp, self.floats[0])
        found = dtype_name(name)
        if found not in known:
            msg = f"a dtype of the {self.name} backend must be one of {known}, got {name!r}"
            raise BackpropError(msg)
        return getattr(self.xp, found)

    def asarray(self, data: Any, dtype: Any, device: Any) -> Array:
        """Nested lists, a NumPy array or an array of this library as an array with this dtype and device."""
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

    def copy(self, a: Array) -> Array:
        """A copy on the device of the array."""
        return self.committed(self.xp.asarray(a, copy=True))

    def all_finite(self, a: Array) -> bool:
        """Whether no number is NaN or infinite; this reads the array."""
        return bool(self.xp.all(self.xp.isfinite(a)))

    def writable(self, a: Array) -> bool:
        """Whether the array may be changed in place; here always."""
        return True

    def consumed(self, a: Array) -> bool:
        """Whether a step took over the memory of the array; here never."""
        return False

    def committed(self, a: Array) -> Array:
        """The same array, committed to its device; only JAX has arrays that are not."""
        return a

    def one_thread(self) -> None:
        """Use one thread for matrix products from now on, if the library has threads of its own."""

    def free_memory(self, device: Any) -> int | None:
        """The free bytes of the host, from Linux's /proc/meminfo; None if unknown.

        It is also None for a device with memory of its own, whose library raises an error when it is full.
        """
        try:
            text = Path("/proc/meminfo").read_text(encoding="ascii")
            return 1024 * int(text.partition("MemAvailable:")[2].split(maxsplit=1)[0])
        except (OSError, ValueError, IndexError):
            return None

    def used_memory(self, device: Any) -> int | None:
        """The bytes of a device's own memory in use by arrays; None for the host, or if unknown."""
        return None
