"""Compiled functions on Torch: on the CPU a recorded plan, on a GPU a CUDA graph at fixed addresses."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..arrays import Array
from ..errors import no_memory
from ..library import Library
from .compiled import Compiled, Function, batch_size, check_rows, check_stack
from .cpu.compiled import Planned
from .ir import leaves, mapped, signature

_WARM_UPS = 3  # as in Torch's manual: libraries choose their algorithms before the capture


class Graphed:
    """A CUDA graph of a function on tensors of its own; a scan copies its arguments in and its results out.

    Args:
        torch: the module.
        function: f(*state, *held, *rows) -> (*new_state, *results).
        parts: state, held arguments and one row, with the shapes that later calls have.
        rows: the batch size of a step.

    Raises:
        RuntimeError: the function cannot be captured.
    """

    def __init__(self, torch: Any, function: Callable[..., Any], parts: Any, rows: int) -> None:
        self.torch, self.function = torch, function
        state, held, row = parts
        self.state, self.held = mapped((state, held), lambda a: a.clone())
        self.batch = mapped(row, lambda a: a.repeat(rows, *(1 for _ in a.shape[1:])))
        self.replay = self._captured()

    @staticmethod
    def runs_on(a: Array) -> bool:
        """Whether the device of a tensor has CUDA graphs."""
        return bool(a.is_cuda)

    def _run(self) -> None:
        """One call; the new state is copied into the tensors of the old."""
        found, donate = self.function(*self.state, *self.held, *self.batch), len(self.state)
        old, new = leaves(self.state), leaves(tuple(found[:donate]) if donate else ())
        results, own = found[donate:] if donate else found, set(map(_memory, old))
        self.results = mapped(results, lambda a: a.clone() if _memory(a) in own else a)
        for k, a in enumerate(new):
            swapped = a is not old[k] and any(a is b for b in old)
            if swapped:  # the copies below would overwrite it before it is read
                new[k] = a.clone()
        for mine, a in zip(old, new, strict=True):
            if a is not mine:
                mine.copy_(a)

    def _captured(self) -> Callable[[], None]:
        """Capture one call; return the function that replays it."""
        cuda = self.torch.cuda
        with cuda.device(leaves(self.batch)[0].device):
            side = cuda.Stream()
            side.wait_stream(cuda.current_stream())
            with cuda.stream(side):
                for _ in range(_WARM_UPS):
                    self._run()
            cuda.current_stream().wait_stream(side)
            graph = cuda.CUDAGraph()
            with cuda.graph(
                graph, capture_error_mode="thread_local"
            ):  # other threads may call CUDA meanwhile
                self._run()
        return graph.replay  # type: ignore[no-any-return]

    def scan(self, parts: Any, index: Array) -> Any:
        """One call for each row of index; returns copies."""
        state, held, rows = parts
        for mine, given in zip(leaves((self.state, self.held)), leaves((state, held)), strict=True):
            mine.copy_(given)
        results = leaves(self.results)
        check_stack(results, len(index))
        stacks = [a.new_empty((len(index), *a.shape)) for a in results]
        for k, at in enumerate(index.unbind()):
            for buffer, data in zip(leaves(self.batch), leaves(rows), strict=True):
                self.torch.index_select(data, 0, at, out=buffer)
            self.replay()
            for stack, a in zip(stacks, leaves(self.results), strict=True):
                stack[k] = a
        each = iter(stacks)
        out = mapped(self.results, lambda _: next(each))
        return (*mapped(self.state, lambda a: a.clone()), *out) if state else out


class Detached(Planned):
    """A function outside autograd.

    On the CPU the recorded plan runs on the tensors' own memory; on a GPU a scan replays a CUDA graph.

    Args:
        library: Torch's tensors, and the namespace the function runs on.
        torch: the module.
        function: as for `Compiled`.
        settings: likewise.

    Attributes:
        eager: why the function runs eagerly, if it can be neither recorded nor captured.
        refused: for each signature that Torch could not capture, why; others are still captured.
    """

    def __init__(self, library: Library, torch: Any, function: Function, **settings: Any) -> None:
        super().__init__(library, function, **settings)
        self.torch = torch
        self.graphs: dict[Any, Graphed] = {}
        self.refused: dict[Any, str] = {}

    def code_for(self, a: Array) -> str:
        """The name of the code; machine code runs only on tensors of the CPU."""
        return self.code if self._recorded((a,)) else Compiled.code

    def _recorded(self, args: Any) -> bool:
        return all(getattr(a, "is_cpu", False) for a in leaves(args)[:1])

    def __call__(self, *args: Any) -> Any:
        """One call."""
        with self._no_grad(args):
            return super().__call__(*args) if self._recorded(args) else Compiled.__call__(self, *args)

    def scan(self, *args: Any) -> Any:
        """Many calls."""
        *given, index = args
        with self._no_grad(given, index):
            if self._recorded(given):
                return super().scan(*args)
            self.check(*given)
            rows, parts = batch_size(index), self._parts(given)
            first = leaves(parts[2])[0]
            if getattr(index, "is_cpu", False):
                check_rows(index.numpy(), first)
            index = self.index_to_device(parts[2], index).to(first.device)
            graphed = self._graphed(parts, rows)
            return Compiled.scan(self, *given, index) if graphed is None else graphed.scan(parts, index)

    @contextmanager
    def _no_grad(self, args: Any, index: Array = None) -> Iterator[None]:
        """Run outside autograd; out of memory, the state is usable only if graphs ran, not eager calls."""
        try:
            with self.torch.no_grad():
                yield
        except self.torch.cuda.OutOfMemoryError as error:
            self.graphs.clear()
            rows = leaves(self._parts(args)[2])[:1] if index is None else [index[0]]
            graphed = index is not None and self.eager is None and Graphed.runs_on(leaves(args)[0])
            raise no_memory(len(rows[0]) if rows else 0, error, usable=graphed) from error

    def _graphed(self, parts: Any, rows: int) -> Graphed | None:
        """The captured function for this signature; None off the GPU, and if Torch refused to capture it."""
        state, held, data = parts
        key = rows, signature((state, held)), signature(data, skip=1)
        if key in self.refused or not Graphed.runs_on(leaves(data)[0]):
            return None
        try:
            if key not in self.graphs:
                one = state, held, mapped(data, lambda a: a[:1])
                self.graphs[key] = Graphed(self.torch, self._function, one, rows)
                self.compilations += 1
        except self.torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.refused[key] = self.eager = str(error).partition("\n")[0]
            msg = f"this step runs eagerly, since Torch could not capture it as a CUDA graph: {self.eager}"
            warnings.warn(msg, RuntimeWarning, stacklevel=3)
        return self.graphs.get(key)

    def _function(self, *args: Any) -> Any:
        return self.function(*args, xp=self.library.xp)


def _memory(a: Array) -> int:
    """The address of a tensor's storage."""
    return a.untyped_storage().data_ptr()  # type: ignore[no-any-return]
