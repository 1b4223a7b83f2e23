"""PyTorch: its tensors on CPU and GPU, without its autograd."""

from types import SimpleNamespace
from typing import Any

from ..arrays import Array, BackpropError
from ._base import Backend, unavailable

TYPES = ("torch",)


class Torch(Backend):
    """The namespace of array-api-compat; random words are signed, unsigned ones lack operations."""

    name = "torch"

    def __init__(self) -> None:
        import array_api_compat.torch as compat
        import torch

        self.torch = torch
        self.xp = SimpleNamespace(**{n: getattr(compat, n) for n in dir(compat) if n[0] != "_"})
        self.xp.word = torch.int32

    def owns(self, a: Any) -> bool:
        """Tensors."""
        return isinstance(a, self.torch.Tensor)

    def device(self, name: Any) -> Any:
        """A torch device by name, such as "cuda:0"."""
        try:
            device = self.torch.device(name or "cpu")
            self.torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            msg = f"Torch has no device {name!r} here: {str(error).splitlines()[0]}"
            raise BackpropError(msg) from error
        return device

    def device_of(self, a: Array) -> Any:
        """The tensor's device."""
        return a.device

    def asarray(self, data: Any, dtype: Any, device: Any) -> Array:
        """Lists, NumPy arrays or tensors, as a tensor outside any autograd graph."""
        if hasattr(data, "__array__") and not isinstance(data, self.torch.Tensor):
            data = data.copy()  # a tensor over foreign memory could be read-only
        return self.torch.as_tensor(data, dtype=dtype, device=device).detach()

    def to_host(self, a: Array) -> Any:
        """A NumPy array."""
        return a.detach().cpu().numpy()

    def synchronize(self) -> None:
        """Wait for the GPU, where there is one."""
        if self.torch.cuda.is_available():
            self.torch.cuda.synchronize()


def load() -> Backend:
    """The Torch backend."""
    try:
        return Torch()
    except ImportError as error:
        raise unavailable(library="PyTorch", extra="torch") from error
