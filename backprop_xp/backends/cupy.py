"""CuPy: NumPy's functions on an NVIDIA GPU; compiled functions are CUDA graphs."""

from copy import copy
from types import SimpleNamespace
from typing import Any

from ..arrays import Array
from ..compiler.compiled import Compiled, Function
from ..compiler.cuda.compiled import Captured
from ..compiler.cuda.products import PRECISIONS, Products
from ..errors import BackendUnavailable, BackpropError, listed
from .base import Backend

TYPES = ("cupy",)
INSTALL = ("CuPy", "cupy", "cuda12")


class CuPy(Backend):
    """The namespace of array-api-compat, with products that a CUDA graph can capture."""

    name = "cupy"
    precision = "float32"

    def __init__(self) -> None:
        import array_api_compat.cupy as compat
        import cupy

        if not cupy.cuda.is_available():
            msg = (
                "CuPy is installed, but no GPU was found: it needs an NVIDIA GPU and its driver "
                "(nvidia-smi shows both); use backend='numpy' on this machine"
            )
            raise BackendUnavailable(msg)
        self.cupy = cupy
        names = {n: getattr(compat, n) for n in dir(compat) if n[0] != "_"}
        # cupy.rint is a ufunc, which cupy.fuse can take
        self.xp = SimpleNamespace(**names | {"matmul": Products(cupy), "round": cupy.rint})

    def owns(self, a: Any) -> bool:
        """Whether it is a CuPy array."""
        return isinstance(a, self.cupy.ndarray)

    def device(self, name: Any) -> Any:
        """A GPU by number or name: 0, "cuda", "cuda:1"."""
        if name is None:
            return None
        number = str(name).rpartition(":")[2]
        number = "0" if number in ("cuda", "gpu") else number
        count = self.cupy.cuda.runtime.getDeviceCount()
        if not number.isdigit() or int(number) >= count:
            msg = f"CuPy has GPUs 0 to {count - 1}, got {name!r}: write device='cuda:0'"
            raise BackpropError(msg)
        return self.cupy.cuda.Device(int(number))

    def device_of(self, a: Array) -> Any:
        """The array's GPU."""
        return a.device

    def asarray(self, data: Any, dtype: Any, device: Any) -> Array:
        """Lists, NumPy arrays or CuPy arrays, on the GPU."""
        with device or self.cupy.cuda.Device():
            return self.cupy.asarray(data, dtype=dtype)

    def to_host(self, a: Array) -> Any:
        """A NumPy copy."""
        return self.cupy.asnumpy(a)

    def with_precision(self, precision: str | None, *, scaled: bool = True) -> "CuPy":
        """This backend with products of float32 computed in another precision."""
        if precision in (None, self.precision):
            return self
        if precision not in PRECISIONS or (precision == "float16" and not scaled):
            known = [name for name in PRECISIONS if scaled or name != "float16"]
            msg = f"the precision of products on CuPy is one of {listed(known)}, got {precision!r}"
            raise BackpropError(msg)
        other = copy(self)
        other.precision = precision
        other.xp = SimpleNamespace(**vars(self.xp) | {"matmul": Products(self.cupy, precision)})
        return other

    def free_memory(self, device: Any) -> int | None:
        """None: CuPy itself reports when there is no memory left."""
        return None

    def used_memory(self, device: Any) -> int | None:
        """The bytes that CuPy's memory pool has in use on a GPU."""
        with device or self.cupy.cuda.Device():
            return int(self.cupy.get_default_memory_pool().used_bytes())

    def compile(self, function: Function, **settings: Any) -> Compiled:
        """The function captured once for each signature, then replayed."""
        return Captured(self, self.cupy, function, **settings)


load = CuPy
