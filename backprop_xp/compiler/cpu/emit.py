"""A plan bound to arrays: straight-line Python source, run once for each step.

The source is written and compiled once for a plan. Binding assigns arrays to the names in it: the
caller's own arrays for the held arguments and for the state, which changes in place.
"""

from itertools import groupby
from typing import Any

import numpy as np

from ...library import Library
from ..bound import Bound
from ..ir import Ref
from .lower import Call
from .plan import BLOCK, Plan


class BoundPlan(Bound):
    """A plan bound to a state and to held arguments.

    Args:
        plan: what to run.
        state, held, library: as for `Bound`.
    """

    def __init__(self, plan: Plan, state: Any, held: Any, library: Library) -> None:
        super().__init__(state, held, library)
        self.plan = plan
        arrays: dict[int, Any] = dict(plan.buffers)
        own = (*self.memory, *self.read)
        arrays |= {
            r.value: a.reshape(plan.values[r.value].shape)
            for r, a in zip((*plan.state, *plan.held), own, strict=True)
        }
        for value in plan.views:
            self._make(value, arrays)
        self.rows = [arrays[r.value] for r in plan.rows]
        self.out = [arrays[r.value] for r in plan.out]
        if plan.source is None:
            plan.source = Source(plan, arrays)
        names = plan.source.bound(arrays)
        exec(plan.source.code, names)  # made here, from the program
        self.run, self.scan = names.pop("run"), names.pop("scan")  # no cycle: buffers are freed with it

    def _make(self, value: int, arrays: dict[int, Any]) -> Any:
        if value not in arrays:
            source, view = self.plan.views[value]
            arrays[value] = view(self._make(source, arrays))
        return arrays[value]


class Source:
    """The Python source of a plan: `run()` does one call, `scan(R, index, O)` many.

    All bindings have arrays of the same shapes and strides, so it is written from those of the first.

    Args:
        plan: the plan.
        arrays: the array of each value in the first binding.

    Attributes:
        text: the source.
        code: the same, compiled.
        constants: the constants and functions it refers to, by name.
        values: the values it refers to, by name.
        blocks: for each loop over blocks, by the name of its iterable: the vectors and their length.
    """

    def __init__(self, plan: Plan, arrays: dict[int, Any]) -> None:
        self._plan, self._arrays = plan, arrays
        self.constants: dict[str, Any] = {"take": np.take}
        self.values: dict[str, int] = {f"r{k}": ref.value for k, ref in enumerate(plan.rows)}
        self.values |= {f"o{k}": ref.value for k, ref in enumerate(plan.out)}
        self.blocks: dict[str, tuple[list[Any], int]] = {}
        body: list[str] = []
        for group, run in groupby(range(len(plan.calls)), lambda k: plan.groups[k]):
            numbers = list(run)
            body += [self._line(k) for k in numbers] if group is None else self._blocks(numbers)
        rows, out = range(len(plan.rows)), range(len(plan.out))
        gathers = [f"take(R{k}, rows, 0, r{k}, 'clip')" for k in rows]
        stacks = [f"O{k}[k] = o{k}" for k in out]
        self.text = "\n".join([
            "def run():", *(f"    {line}" for line in body or ["pass"]),
            "def scan(R, index, O):",
            *(f"    R{k} = R[{k}]" for k in rows), *(f"    O{k} = O[{k}]" for k in out),
            "    for k, rows in enumerate(index):",
            *(f"        {line}" for line in (*gathers, *body, *stacks, "pass")), "",
        ])  # fmt: skip
        self.code = compile(self.text, "<plan>", "exec")
        del self._plan, self._arrays  # the plan holds its source: no cycle, so that its buffers go with it

    def bound(self, arrays: dict[int, Any]) -> dict[str, Any]:
        """The global names of the source in a binding, given the array of each value."""
        names = self.constants | {name: arrays[value] for name, value in self.values.items()}
        for name, (vectors, n) in self.blocks.items():
            cut = [_cut(arrays[v.value] if isinstance(v, Ref) else v, n) for v in vectors]
            names[name] = list(zip(*cut, strict=True))
        return names

    def _line(self, k: int, vectors: dict[str, Any] | None = None) -> str:
        """A call as source; in a loop over blocks, the name of a block stands for each long vector."""
        call = self._plan.calls[k]
        plain = call.function is np.matmul and self._is_plain(call)
        self.constants[f"f{k}"] = np.dot if plain else call.function
        parts = [self._named(a, vectors) for a in call.args]
        if call.by_name:
            parts.append(f"out={self._named(call.out, vectors)}")
        parts += [f"{key}={self._named(value, vectors)}" for key, value in call.kw.items()]
        return f"f{k}({', '.join(parts)})"

    def _named(self, a: Any, vectors: dict[str, Any] | None) -> str:
        if isinstance(a, (tuple, list)) and not isinstance(a, Ref):
            return "(" + "".join(f"{self._named(each, vectors)}, " for each in a) + ")"
        label = f"v{a.value}" if isinstance(a, Ref) else f"c{len(self.constants)}"
        if vectors is not None and np.ndim(self._array(a)) == 1:
            vectors.setdefault(f"b{label}", a)
            return f"b{label}"
        if isinstance(a, Ref):
            self.values[label] = a.value
        else:
            self.constants[label] = a
        return label

    def _blocks(self, numbers: list[int]) -> list[str]:
        """Neighbouring calls on long vectors as a loop over blocks."""
        n = self._plan.values[self._plan.calls[numbers[0]].out.value].shape[0]
        vectors: dict[str, Any] = {}
        lines = [self._line(k, vectors) for k in numbers]
        self.blocks[f"g{numbers[0]}"] = list(vectors.values()), n
        return [f"for {', '.join(vectors)}, in g{numbers[0]}:", *(f"    {line}" for line in lines)]

    def _is_plain(self, call: Call) -> bool:
        """Whether np.matmul and np.dot hand the product to the same function of the BLAS."""
        each = [self._array(a) for a in (*call.args, call.out)]
        return each[2].flags.c_contiguous and all(
            a.ndim == 2 and min(a.shape) > 1 and a.flags.forc and a.dtype == each[2].dtype for a in each
        )

    def _array(self, a: Any) -> Any:
        return self._arrays[a.value] if isinstance(a, Ref) else a


def _cut(whole: Any, n: int) -> list[Any]:
    """The blocks of a vector; a buffer of one block's length is used for every block."""
    starts = range(0, n, BLOCK)
    if whole.shape[0] < n:
        return [whole[: min(BLOCK, n - start)] for start in starts]
    return [whole[start : start + BLOCK] for start in starts]
