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

_WARM_UPS = 3  # as Torch's manual has it: libraries choose their algorithms before the capture


class GraphedStep:
    """A step that is replayed on memory of its own: state is copied in and out of a scan.

    Args:
        torch: the module.
        step: step(w, s, x, t) -> (w, s, loss).
        w: weights of the shape that comes.
        s: a state likewise.
        x: one row of inputs.
        t: one of targets.
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
        """Whether there are graphs where w is."""
        return bool(w.is_cuda)

    def _run(self) -> None:
        """One step on the state, which stays where it is."""
        old = leaves(self.state)
        w, s, self.loss = self.step(*self.state, *self.batch)
        new = [a.clone() if any(a is b for b in old) and a is not mine else a
               for mine, a in zip(old, leaves((w, s)), strict=True)]  # fmt: skip
        for mine, a in zip(old, new, strict=True):
            if a is not mine:
                mine.copy_(a)

    def _captured(self) -> Callable[[], None]:
        """The replay of one step."""
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
        """One step for each row of index; what comes back is nobody else's."""
        for mine, given in zip(leaves(self.state), leaves((w, s)), strict=True):
            mine.copy_(given)
        losses = []
        for rows in index.unbind():
            for place, data in zip(self.batch, (x, t), strict=True):
                self.torch.index_select(data, 0, rows, out=place)
            self.replay()
            losses.append(self.loss.clone())
        w, s = mapped(self.state, lambda a: a.clone())
        return w, s, self.torch.stack(losses)


class DetachedStep(CompiledStep):
    """A step that no autograd graph is built for.

    On the CPU it is the recorded plan, run on the tensors' own memory; on a GPU a scan replays a
    CUDA graph.

    Attributes:
        eager: why steps run eagerly, where they can be neither recorded nor captured.
    """

    def __init__(self, library: Library, torch: Any, step: Step, check: Step | None = None) -> None:
        super().__init__(library, step, check)
        self.torch = torch
        self.graphs: dict[Any, GraphedStep] = {}

    def _recorded(self, w: Array) -> bool:
        return self.eager is None and getattr(w, "is_cpu", False)

    def __call__(self, w: Array, s: Any, x: Array, t: Array) -> tuple[Array, Any, Array]:
        """One step."""
        with self.on_device(w, x):
            if self._recorded(w):
                return super().__call__(w, s, x, t)
            self.check(w, s, x, t)
            return self._step(w, s, x, t)  # type: ignore[no-any-return]

    def scan(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> tuple[Array, Any, Array]:
        """Many steps."""
        with self.on_device(w, x, index):
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
    def on_device(self, w: Array, x: Array, index: Array = None) -> Iterator[None]:
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
        return self.step(w, s, x, t, xp=self.library.xp)
