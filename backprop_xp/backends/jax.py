"""JAX: compiled by XLA for CPU, GPU and TPU."""

from copy import copy
from typing import Any

import numpy

from ..arrays import Array, Namespace
from ..compiler.compiled import Compiled, Function
from ..compiler.jax import Jitted, sum_of_parts
from ..compiler.memory import buffer
from ..errors import BackpropError, listed
from ..library import dtype_name
from .base import Backend

TYPES = ("jax", "jaxlib")
INSTALL = ("JAX", "jax", "jax")
_PRECISIONS = {"float32": "highest", "tf32": "high", "bfloat16": "default"}  # JAX's own names


class Jax(Backend):
    """jax.numpy is its own Array API namespace."""

    name = "jax"

    def __init__(self) -> None:
        import jax

        self.jax = jax
        self.xp = jax.numpy

    def owns(self, a: Any) -> bool:
        """Whether it is a JAX array, or the tracer of one."""
        return isinstance(a, self.jax.Array)

    def device(self, name: Any) -> Any:
        """A platform ("cpu", "gpu"), one of its devices ("gpu:1"), or a JAX device."""
        if name is None or isinstance(name, (self.jax.Device, self.jax.sharding.Sharding)):
            return name
        name = str(name)
        platform, _, number = name.partition(":")
        try:
            return self.jax.devices(platform)[int(number or 0)]
        except (RuntimeError, IndexError, ValueError) as error:
            here = ", ".join(str(d) for d in self.jax.devices())
            msg = f"JAX has no device {name!r}; it has {here}"
            raise BackpropError(msg) from error

    def device_of(self, a: Array) -> Any:
        """The device; None while JAX traces."""
        return None if isinstance(a, self.jax.core.Tracer) else a.device

    def dtype(self, name: Any) -> Any:
        """The dtype of this name; 64 bits need JAX_ENABLE_X64."""
        name = None if name is None else dtype_name(name)
        if name in ("float64", "int64") and not self.jax.config.jax_enable_x64:
            msg = (
                f"JAX has {name} only with JAX_ENABLE_X64=1 in the environment; set it, or use {name[:-2]}32"
            )
            raise BackpropError(msg)
        return super().dtype(name)

    def asarray(self, data: Any, dtype: Any, device: Any) -> Array:
        """Lists, NumPy arrays or JAX arrays, as a JAX array."""
        if isinstance(data, self.jax.Array):
            return self.xp.asarray(data, dtype=dtype, device=device)
        data = numpy.asarray(data)
        kind = data.dtype if dtype is None else numpy.dtype(dtype)
        own = buffer(numpy.broadcast_to(numpy.zeros((), dtype=kind), data.shape))
        with numpy.errstate(all="ignore"):  # as JAX converts
            own[...] = (
                data  # a copy, since a NumPy step may write there; aligned, so that JAX makes no second
            )
        return self.jax.device_put(own, device)  # xp.asarray compiles a program for each shape

    def to_host(self, a: Array) -> Any:
        """A NumPy array; on the processor a read-only view."""
        return numpy.asarray(a)

    def copy(self, a: Array) -> Array:
        """A copy; on the processor no program is compiled for it, which would take a megabyte or two."""
        if not self._on_processor(a):
            return super().copy(a)
        return self.asarray(
            numpy.asarray(a), a.dtype, a.device
        )  # device_put of JAX 0.5 would share the memory

    def all_finite(self, a: Array) -> bool:
        """Whether no number is NaN or infinite; on the processor NumPy looks, and nothing is compiled."""
        return bool(numpy.isfinite(a).all()) if self._on_processor(a) else super().all_finite(a)

    def _on_processor(self, a: Array) -> bool:
        """Whether it is no tracer, and one device has it, which is the host's."""
        return getattr(self.device_of(a), "platform", "") == "cpu"

    def with_precision(self, precision: str | None, *, scaled: bool = True) -> "Jax":
        """This backend with products of float32 computed in another precision.

        With None JAX chooses: tf32 on a GPU that has it. On the CPU tf32 is float32.
        """
        if precision is None:
            return self
        if precision not in _PRECISIONS:
            msg = f"the precision of products on JAX is one of {listed(_PRECISIONS)}, got {precision!r}"
            raise BackpropError(msg)
        other = copy(self)
        other.xp = _Precise(self.xp, precision)
        return other

    def free_memory(self, device: Any) -> int | None:
        """The free memory of the host, for arrays on the CPU; None for other devices."""
        there = self.jax.devices()[0] if device is None else device
        return super().free_memory(device) if getattr(there, "platform", "") == "cpu" else None

    def used_memory(self, device: Any) -> int | None:
        """The bytes in use on a device that reports them; None for the CPU."""
        found = None if getattr(device, "platform", "cpu") == "cpu" else device.memory_stats()
        return None if found is None else int(found["bytes_in_use"])

    def mesh(self, count: int | None) -> Any:
        """A mesh of so many devices, or of all, which compute parts of a sum together.

        Raises:
            BackpropError: JAX lacks jax.shard_map, has fewer devices, or the number is no power of 2.
        """
        there = self.jax.devices()
        count = len(there) if count is None else count
        if not hasattr(self.jax, "shard_map"):
            msg = f"this needs jax.shard_map, which JAX {self.jax.__version__} lacks: pip install -U jax"
            raise BackpropError(msg)
        if count > len(there) or count & (count - 1):
            names = ", ".join(map(str, there))
            msg = f"the number of devices must be 1, 2, 4, … and at most {len(there)} ({names}), got {count}"
            raise BackpropError(msg)
        return self.jax.sharding.Mesh(there[:count], ("worker",))

    def on_all(self, mesh: Any, a: Array) -> Array:
        """An array with a copy on every device of a mesh."""
        return self.jax.device_put(
            a, self.jax.sharding.NamedSharding(mesh, self.jax.sharding.PartitionSpec())
        )

    def sum_of_parts(self, mesh: Any, function: Function, held: Any, parts: Any) -> Array:
        """The sum of f(*held, *part) over parts, which the devices of a mesh share out."""
        return sum_of_parts(self.jax, mesh, function, held, parts)

    def compile(self, function: Function, **settings: Any) -> Compiled:
        """`jax.jit` and `jax.lax.scan`, the state donated."""
        return Jitted(self, self.jax, function, **settings)

    def consumed(self, a: Array) -> bool:
        """Whether the array was donated, and so deleted."""
        return not isinstance(a, self.jax.core.Tracer) and a.is_deleted()

    def committed(self, a: Array) -> Array:
        """The array, committed to its device: `jax.jit` compiles again for one that is not."""
        return a if isinstance(a, self.jax.core.Tracer) else self.jax.device_put(a, a.device)


class _Precise:
    """jax.numpy with products of float32 in another precision; they are summed in float32."""

    def __init__(self, xp: Namespace, precision: str) -> None:
        self._xp, self._precision = xp, precision

    def __getattr__(self, name: str) -> Any:
        return getattr(self._xp, name)

    def matmul(self, a: Array, b: Array) -> Array:
        """The product a b."""
        xp = self._xp
        if a.dtype != xp.float32:
            return xp.matmul(a, b)
        if self._precision == "bfloat16":
            a, b = (xp.astype(factor, xp.bfloat16) for factor in (a, b))
        return xp.matmul(a, b, precision=_PRECISIONS[self._precision], preferred_element_type=xp.float32)


load = Jax
