"""A plan bound to arrays: straight-line Python source that runs step after step."""

import operator
from itertools import groupby
from typing import Any

import numpy as np

from ...library import Library
from ..ir import Ref, leaves, mapped
from .lower import Call
from .plan import BLOCK, Plan


class BoundPlan:
    """A plan bound to weights and state: runs steps on them.

    Args:
        plan: what to run.
        w: the weights.
        s: the state.
        library: of their arrays.

    Attributes:
        w: the weights, changed in place from now on.
        s: the state, likewise.
        given: the arrays of both.
        state: the same, as NumPy sees them.
    """

    def __init__(self, plan: Plan, w: Any, s: Any, library: Library) -> None:
        self.plan = plan
        self.state: list[Any] = []
        self.w, self.s = mapped((w, s), lambda a: library.from_host(self._memory(library.to_host(a)), a))
        self.given = leaves((self.w, self.s))
        arrays: dict[int, Any] = dict(plan.buffers)
        arrays |= {r.value: a for r, a in zip(plan.state, self.state, strict=True)}
        for value in plan.views:
            self._make(value, plan, arrays)
        self.x, self.t = (arrays[r.value] for r in plan.batch)
        self.loss = arrays[plan.loss.value]
        source = Source(plan, arrays)
        names = source.names | {"take": np.take, "x": self.x, "t": self.t, "loss": self.loss}
        exec(compile(source.text, "<plan>", "exec"), names)  # made here, from the program
        self.run, self.scan = names.pop("run"), names.pop("scan")  # no cycle: buffers go when it goes

    def holds(self, w: Any, s: Any) -> bool:
        """Whether these are the weights and the state that it runs on."""
        if w is self.w and s is self.s:
            return True
        given = leaves((w, s))
        return len(given) == len(self.given) and all(map(operator.is_, given, self.given))

    def _memory(self, a: Any) -> Any:
        plain = isinstance(a, np.ndarray) and a.flags.writeable and a.flags.c_contiguous
        self.state.append(a if plain else np.array(a))
        return self.state[-1]

    def _make(self, value: int, plan: Plan, arrays: dict[int, Any]) -> Any:
        if value not in arrays:
            source, view = plan.views[value]
            arrays[value] = view(self._make(source, plan, arrays))
        return arrays[value]


class Source:
    """The Python source of a plan: `run()` does a step, `scan(X, T, index, losses)` many.

    Args:
        plan: what to do.
        arrays: of every value.

    Attributes:
        text: the source.
        names: the arrays, constants and functions it refers to.
    """

    def __init__(self, plan: Plan, arrays: dict[int, Any]) -> None:
        self.plan, self.arrays = plan, arrays
        self.names: dict[str, Any] = {}
        body: list[str] = []
        for group, run in groupby(range(len(plan.calls)), lambda k: plan.groups[k]):
            numbers = list(run)
            body += [self._line(k) for k in numbers] if group is None else self._blocks(numbers)
        rows = ["take(X, rows, 0, x, 'clip')", "take(T, rows, 0, t, 'clip')"]
        self.text = "\n".join([
            "def run():", *(f"    {line}" for line in body or ["pass"]),
            "def scan(X, T, index, losses):", "    for k, rows in enumerate(index):",
            *(f"        {line}" for line in (*rows, *body, "losses[k] = loss")), "",
        ])  # fmt: skip

    def _line(self, k: int, blocks: dict[str, list[Any]] | None = None) -> str:
        """A call as source; in a loop over blocks, long vectors go by the names of their blocks."""
        call = self.plan.calls[k]
        plain = call.function is np.matmul and self._is_plain(call)
        self.names[f"f{k}"] = np.dot if plain else call.function
        parts = [self._named(a, blocks) for a in call.args]
        if call.by_name:
            parts.append(f"out={self._named(call.out, blocks)}")
        parts += [f"{key}={self._named(value, blocks)}" for key, value in call.kw.items()]
        return f"f{k}({', '.join(parts)})"

    def _named(self, a: Any, blocks: dict[str, list[Any]] | None) -> str:
        if isinstance(a, (tuple, list)) and not isinstance(a, Ref):
            return "(" + "".join(f"{self._named(each, blocks)}, " for each in a) + ")"
        array = self.arrays[a.value] if isinstance(a, Ref) else a
        label = f"v{a.value}" if isinstance(a, Ref) else f"c{len(self.names)}"
        if blocks is not None and np.ndim(array) == 1:
            blocks.setdefault(f"b{label}", array)
            return f"b{label}"
        self.names[label] = array
        return label

    def _blocks(self, numbers: list[int]) -> list[str]:
        """Neighbouring calls on long vectors as a loop over blocks."""
        n = self.plan.values[self.plan.calls[numbers[0]].out.value].shape[0]
        vectors: dict[str, Any] = {}
        lines = [self._line(k, vectors) for k in numbers]
        self.names[f"g{numbers[0]}"] = list(zip(*(_cut(v, n) for v in vectors.values()), strict=True))
        return [f"for {', '.join(vectors)}, in g{numbers[0]}:", *(f"    {line}" for line in lines)]

    def _is_plain(self, call: Call) -> bool:
        """Whether np.matmul and np.dot hand the product to the same function of the BLAS."""
        each = [self.arrays[r.value] if isinstance(r, Ref) else r for r in (*call.args, call.out)]
        return each[2].flags.c_contiguous and all(
            a.ndim == 2 and min(a.shape) > 1 and a.flags.forc and a.dtype == each[2].dtype for a in each
        )


def _cut(whole: Any, n: int) -> list[Any]:
    """A vector in blocks; a buffer of one block serves them all."""
    starts = range(0, n, BLOCK)
    if whole.shape[0] < n:
        return [whole[: min(BLOCK, n - start)] for start in starts]
    return [whole[start : start + BLOCK] for start in starts]
