"""A whole step in a CUDA graph of Torch, at fixed addresses."""

from collections.abc import Callable
from typing import Any

from ..arrays import Array
from ._record import leaves, mapped

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
