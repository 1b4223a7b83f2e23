"""PyTorch: its tensors on CPU and GPU, without its autograd."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from ..arrays import Array, BackpropError
from ._base import Backend, Compiled, InHostMemory, Step, batch_size, check_rows, no_memory, unavailable
from ._plans import Replayed
from ._record import mapped
from ._torch_graph import GraphedStep

TYPES = ("torch",)


class Torch(InHostMemory):
    """The namespace of array-api-compat; random words are signed, unsigned ones lack operations."""

    name = "torch"

    def __init__(self, *, inductor: bool = False) -> None:
        import array_api_compat.torch as compat
        import torch

        self.torch = torch
        self.inductor = inductor
        standard = {n: getattr(compat, n) for n in dir(compat) if n[0] != "_"}
        self.xp = SimpleNamespace(**standard | _native(torch), word=torch.int32)

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

    def whole(self) -> "Torch":
        """This backend, handing whole steps to `torch.compile`."""
        return Torch(inductor=True)

    def over(self, memory: Any, a: Array = None) -> Array:
        """A tensor in NumPy's memory: `a`, if that lies there and is in no autograd graph."""
        own = a is not None and not a.requires_grad and a.data_ptr() == memory.ctypes.data
        return a if own else self.torch.from_numpy(memory)

    def compile(self, step: Step, check: Step | None = None, layout: Any = None) -> Compiled:
        """The step outside autograd: on the CPU as a recorded plan, on a GPU as a graph."""
        return Detached(self, _inductor(self.torch, step) if self.inductor else step, check)

    def synchronize(self) -> None:
        """Wait for the GPU, where there is one."""
        if self.torch.cuda.is_available():
            self.torch.cuda.synchronize()


class Detached(Replayed):
    """A step that no autograd graph is built for.

    On the CPU it is the recorded plan, run on the tensors' own memory; on a GPU a scan replays a
    CUDA graph.

    Attributes:
        eager: why steps run eagerly, where they can be neither recorded nor captured.
    """

    def __init__(self, backend: Torch, step: Step, check: Step | None = None) -> None:
        super().__init__(backend, step, check)
        self.torch, self.whole = backend.torch, backend.inductor
        self.graphs: dict[Any, GraphedStep] = {}

    def _recorded(self, w: Array) -> bool:
        return not self.whole and self.eager is None and getattr(w, "is_cpu", False)

    def __call__(self, w: Array, s: Any, x: Array, t: Array) -> tuple[Array, Any, Array]:
        """One step."""
        with self._room(w, x):
            if self._recorded(w):
                return super().__call__(w, s, x, t)
            self.check(w, s, x, t)
            return self._step(w, s, x, t)  # type: ignore[no-any-return]

    def scan(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> tuple[Array, Any, Array]:
        """Many steps."""
        with self._room(w, x, index):
            if self._recorded(w):
                return super().scan(w, s, x, t, index)
            self.check(w, s, x, t)
            batch_size(index)
            if getattr(index, "is_cpu", False):
                check_rows(index.numpy(), x)
            index = self.placed(w, x, index).to(w.device)
            graphed = self._graphed(w, s, x, t, index)
            if graphed is not None:
                return graphed.scan(w, s, x, t, index)
            losses = []
            for rows in index.unbind():
                w, s, loss = self._step(w, s, x[rows], t[rows])
                losses.append(loss)
            return w, s, self.torch.stack(losses)

    @contextmanager
    def _room(self, w: Array, x: Array, index: Array = None) -> Iterator[None]:
        """Outside autograd; eager steps change w and s, graphs leave those that they are given."""
        try:
            with self.torch.no_grad():
                yield
        except self.torch.cuda.OutOfMemoryError as error:
            self.graphs.clear()
            graphed = index is not None and self.eager is None and GraphedStep.runs_on(w)
            rows = x.shape[0] if index is None else index.shape[1]
            raise no_memory(rows, error, usable=graphed) from error

    def _graphed(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> GraphedStep | None:
        """The captured step for these shapes; None off the GPU and where Torch refused to capture it."""
        if self.eager is not None or not GraphedStep.runs_on(w):
            return None
        rows = index.shape[1]
        key = w.device, w.dtype, rows, x.shape[1:], x.dtype, t.shape[1:], t.dtype
        try:
            if key not in self.graphs:
                self.graphs[key] = GraphedStep(self.torch, self._step, w, s, x[:1], t[:1], rows)
                self.compilations += 1
        except self.torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.eager = str(error).partition("\n")[0]
        return self.graphs.get(key)

    def _step(self, w: Array, s: Any, x: Array, t: Array) -> Any:
        return self.step(w, s, x, t, xp=self.backend.xp)


def _inductor(torch: Any, step: Step) -> Step:
    """The step under `torch.compile`, after it ran once: what a net works out once takes locks."""
    compiled, ran = torch.compile(step, fullgraph=True), False

    def run(w: Array, s: Any, x: Array, t: Array, *, xp: Any) -> Any:
        nonlocal ran
        if not ran:
            step(*mapped((w, s), lambda a: a.clone()), x, t, xp=xp)
            ran = True
        return compiled(w, s, x, t, xp=xp)

    return run


def _native(torch: Any) -> dict[str, Callable[..., Any]]:
    """Torch's own functions where they do what the standard asks; the wrapped ones cost twice."""

    def reduction(function: Callable[..., Any]) -> Callable[..., Any]:
        def reduced(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
            return function(x, dim=axis, keepdim=keepdims) if axis is not None else function(x)

        return reduced

    def bounded(two: Callable[..., Any], one: Callable[..., Any]) -> Callable[..., Any]:
        def bound(a: Any, b: Any) -> Any:
            return two(a, b) if isinstance(b, torch.Tensor) else one(a, b)

        return bound

    same = ("matmul", "where", "exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos", "abs", "reshape",
            "isfinite", "zeros_like", "ones_like")  # fmt: skip
    return {
        **{name: getattr(torch, name) for name in same},
        "sum": reduction(torch.sum),
        "mean": reduction(torch.mean),
        "max": reduction(torch.amax),
        "maximum": bounded(torch.maximum, torch.clamp_min),
        "minimum": bounded(torch.minimum, torch.clamp_max),
        "concat": lambda arrays, *, axis=0: torch.cat(tuple(arrays), dim=axis),
        "matrix_transpose": lambda x: x.mT,
        "astype": lambda x, dtype, *, copy=True: x.to(dtype, copy=copy),
        "expand_dims": lambda x, *, axis=0: x.unsqueeze(axis),
    }


def load() -> Backend:
    """The Torch backend."""
    try:
        return Torch()
    except ImportError as error:
        raise unavailable(library="PyTorch", extra="torch") from error
