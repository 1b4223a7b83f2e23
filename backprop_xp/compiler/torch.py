"""A compiled step on Torch: on the CPU a recorded plan, on a GPU a CUDA graph at fixed addresses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..arrays import Array
from ..errors import no_memory
from ..library import Library
from .compiled import Step, batch_size, check_rows
from .cpu.compiled import CompiledStep
from .ir import leaves, mapped

_WARM_UPS = 3  # as in Torch's manual: libraries choose their algorithms before the capture


class GraphedStep:
    """A CUDA graph of a step, on tensors of its own: a scan copies the state in and out.

    Args:
        torch: the module.
        step: step(w, s, x, t) -> (w, s, loss).
        w: weights of the shape to come.
        s: a state of the shape to come.
        x: one row of inputs.
        t: one row of targets.
        rows: of a batch.

    Raises:
        RuntimeError: the step cannot be captured.
    """

    def __init__(
        self, torch: Any, step: Callable[..., Any], w: Array, s: Any, x: Array, t: Array, rows: int
    ) -> None:
        self.torch, self.step = torch, step
        self.state = mapped((w, s), lambda a: a.clone())
        self.batch = [a.repeat(rows, *(1 for _ in a.shape[1:])) for a in (x, t)]
        self.replay = self._captured()

    @staticmethod
    def runs_on(w: Array) -> bool:
        """Whether the device of w has CUDA graphs."""
        return bool(w.is_cuda)

    def _run(self) -> None:
        """One step; the new state is copied into the tensors of the old."""
        old = leaves(self.state)
        w, s, self.loss = self.step(*self.state, *self.batch)
        new = leaves((w, s))
        for k, a in enumerate(new):
            swapped = a is not old[k] and any(a is b for b in old)
            if swapped:  # the copies below would overwrite it before it is read
                new[k] = a.clone()
        for mine, a in zip(old, new, strict=True):
            if a is not mine:
                mine.copy_(a)

    def _captured(self) -> Callable[[], None]:
        """Capture one step; the function that replays it."""
        cuda = self.torch.cuda
        with cuda.device(self.batch[0].device):
            side = cuda.Stream()
            side.wait_stream(cuda.current_stream())
            with cuda.stream(side):
                for _ in range(_WARM_UPS):
                    self._run()
            cuda.current_stream().wait_stream(side)
            graph = cuda.CUDAGraph()
            with cuda.graph(graph):
                self._run()
        return graph.replay  # type: ignore[no-any-return]

    def scan(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> tuple[Array, Any, Array]:
        """One step for each row of index; the results are copies."""
        for mine, given in zip(leaves(self.state), leaves((w, s)), strict=True):
            mine.copy_(given)
        losses = []
        for rows in index.unbind():
            for buffer, data in zip(self.batch, (x, t), strict=True):
                self.torch.index_select(data, 0, rows, out=buffer)
            self.replay()
            losses.append(self.loss.clone())
        w, s = mapped(self.state, lambda a: a.clone())
        return w, s, self.torch.stack(losses)


class DetachedStep(CompiledStep):
    """A step outside autograd.

    On the CPU the recorded plan runs on the tensors' own memory; on a GPU a scan replays a CUDA graph.

    Args:
        library: Torch's tensors, and the namespace the step runs on.
        torch: the module.
        step: as for `Compiled`.
        check: likewise.

    Attributes:
        eager: why steps run eagerly, if they can be neither recorded nor captured.
    """

    def __init__(self, library: Library, torch: Any, step: Step, check: Step | None = None) -> None:
        super().__init__(library, step, check)
        self.torch = torch
        self.graphs: dict[Any, GraphedStep] = {}

    def _recorded(self, w: Array) -> bool:
        return self.eager is None and getattr(w, "is_cpu", False)

    def __call__(self, w: Array, s: Any, x: Array, t: Array) -> tuple[Array, Any, Array]:
        """One step."""
        with self._no_grad(w, x):
            if self._recorded(w):
                return super().__call__(w, s, x, t)
            self.check(w, s, x, t)
            return self._step(w, s, x, t)  # type: ignore[no-any-return]

    def scan(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> tuple[Array, Any, Array]:
        """Many steps."""
        with self._no_grad(w, x, index):
            if self._recorded(w):
                return super().scan(w, s, x, t, index)
            self.check(w, s, x, t)
            batch_size(index)
            if getattr(index, "is_cpu", False):
                check_rows(index.numpy(), x)
            index = self.index_to_device(w, x, index).to(w.device)
            graphed = self._graphed(w, s, x, t, index)
            if graphed is not None:
                return graphed.scan(w, s, x, t, index)
            losses = []
            for rows in index.unbind():
                w, s, loss = self._step(w, s, x[rows], t[rows])
                losses.append(loss)
            return w, s, self.torch.stack(losses)

    @contextmanager
    def _no_grad(self, w: Array, x: Array, index: Array = None) -> Iterator[None]:
        """Outside autograd; out of memory, w and s are usable only if graphs ran: eager steps change them."""
        try:
            with self.torch.no_grad():
                yield
        except self.torch.cuda.OutOfMemoryError as error:
            self.graphs.clear()
            graphed = index is not None and self.eager is None and GraphedStep.runs_on(w)
            rows = x.shape[0] if index is None else index.shape[1]
            raise no_memory(rows, error, usable=graphed) from error

    def _graphed(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> GraphedStep | None:
        """The captured step for these shapes; None off the GPU, and if Torch refused to capture it."""
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
        return self.step(w, s, x, t, xp=self.library.xp)
