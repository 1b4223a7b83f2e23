"""PyTorch: its tensors on CPU and GPU, without its autograd."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ..arrays import Array
from ..compiler.compiled import Compiled, Function
from ..compiler.torch import Detached
from ..errors import BackpropError
from .base import Backend

TYPES = ("torch",)
INSTALL = ("PyTorch", "torch", "torch")


class Torch(Backend):
    """The namespace of array-api-compat; random bits are int32, since uint32 lacks operations."""

    name = "torch"

    def __init__(self) -> None:
        import array_api_compat.torch as compat
        import torch

        self.torch = torch
        standard = {n: getattr(compat, n) for n in dir(compat) if n[0] != "_"}
        self.xp = SimpleNamespace(**standard | _native(torch), word=torch.int32)

    def owns(self, a: Any) -> bool:
        """Whether it is a tensor."""
        return isinstance(a, self.torch.Tensor)

    def device(self, name: Any) -> Any:
        """A torch device by name, such as "cuda:0"."""
        try:
            device = self.torch.device(name or "cpu")
            self.torch.empty(0, device=device)
        except (RuntimeError, AssertionError, TypeError) as error:
            msg = f"Torch has no device {name!r} here: {str(error).splitlines()[0]}"
            raise BackpropError(msg) from error
        return device

    def device_of(self, a: Array) -> Any:
        """The tensor's device."""
        return a.device

    def asarray(self, data: Any, dtype: Any, device: Any) -> Array:
        """Lists, NumPy arrays or tensors, as a tensor outside any autograd graph."""
        if hasattr(data, "__array__") and not isinstance(data, self.torch.Tensor):
            data = data.copy()  # the memory of a NumPy array may be read-only
        return self.torch.as_tensor(data, dtype=dtype, device=device).detach()

    def to_host(self, a: Array) -> Any:
        """A NumPy array."""
        return a.detach().cpu().numpy()

    def from_host(self, memory: Any, a: Array = None) -> Array:
        """A tensor in NumPy's memory: `a` itself, if that is its memory and autograd does not track it."""
        own = a is not None and not a.requires_grad and a.data_ptr() == memory.ctypes.data
        return a if own else self.torch.from_numpy(memory)

    def one_thread(self) -> None:
        """Limit Torch itself to one thread."""
        self.torch.set_num_threads(1)

    def free_memory(self, device: Any) -> int | None:
        """The free memory of the host, for tensors on the CPU; None for other devices."""
        return super().free_memory(device) if device is None or device.type == "cpu" else None

    def used_memory(self, device: Any) -> int | None:
        """The bytes that Torch's allocator has in use on a CUDA device; None for others."""
        there = device is not None and device.type == "cuda"
        return int(self.torch.cuda.memory_allocated(device)) if there else None

    def compile(self, function: Function, **settings: Any) -> Compiled:
        """The function outside autograd: on the CPU as a recorded plan, on a GPU as a CUDA graph."""
        return Detached(self, self.torch, function, **settings)


def _native(torch: Any) -> dict[str, Callable[..., Any]]:
    """Torch's own functions where they follow the standard; the wrapped ones take twice the time."""

    def reduction(function: Callable[..., Any]) -> Callable[..., Any]:
        def reduced(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
            return function(x, dim=axis, keepdim=keepdims) if axis is not None else function(x)

        return reduced

    def with_number(of_tensors: Callable[..., Any], of_number: Callable[..., Any]) -> Callable[..., Any]:
        def extremum(a: Any, b: Any) -> Any:
            return of_tensors(a, b) if isinstance(b, torch.Tensor) else of_number(a, b)

        return extremum

    same = ("matmul", "where", "exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos", "abs", "reshape",
            "isfinite", "zeros_like", "ones_like")  # fmt: skip
    return {
        **{name: getattr(torch, name) for name in same},
        "sum": reduction(torch.sum),
        "mean": reduction(torch.mean),
        "max": reduction(torch.amax),
        "maximum": with_number(torch.maximum, torch.clamp_min),
        "minimum": with_number(torch.minimum, torch.clamp_max),
        "concat": lambda arrays, *, axis=0: torch.cat(tuple(arrays), dim=axis),
        "matrix_transpose": lambda x: x.mT,
        "astype": lambda x, dtype, *, copy=True: x.to(dtype, copy=copy),
        "expand_dims": lambda x, *, axis=0: x.unsqueeze(axis),
    }


load = Torch
