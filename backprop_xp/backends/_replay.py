"""A plan bound to arrays: Python source with nothing left to decide, run step after step."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ._lower import Call
from ._plan import BLOCK, Plan
from ._record import Ref, leaves, mapped


class _Name(str):
    """A name in the source."""

    __slots__ = ()


class Replay:
    """A plan bound to weights and state: runs steps on them.

    Args:
        plan: what to run.
        w: the weights.
        s: the state; arrays are changed in place from now on.
    """

    def __init__(self, plan: Plan, w: Any, s: Any) -> None:
        self.plan = plan
        self.w, self.s = mapped((w, s), _writable)
        arrays: dict[int, Any] = dict(plan.buffers)
        arrays |= {r.value: a for r, a in zip(plan.state, leaves((self.w, self.s)), strict=True)}
        for value in plan.views:
            self._make(value, plan, arrays)
        self.x, self.t = (arrays[r.value] for r in plan.batch)
        self.loss = arrays[plan.loss.value]
        names: dict[str, Any] = {"take": np.take, "x": self.x, "t": self.t, "loss": self.loss}
        source = emit(plan, arrays, names)
        exec(compile(source, "<replay>", "exec"), names)  # made here, from the record
        self.run, self.scan = names["run"], names["scan"]

    def _make(self, value: int, plan: Plan, arrays: dict[int, Any]) -> Any:
        if value not in arrays:
            source, how = plan.views[value]
            arrays[value] = how(self._make(source, plan, arrays))
        return arrays[value]


def _writable(a: Any) -> Any:
    plain = isinstance(a, np.ndarray) and a.flags.writeable and a.flags.c_contiguous
    return a if plain else np.array(a)


def emit(plan: Plan, arrays: dict[int, Any], names: dict[str, Any]) -> str:
    """The source of `run()` and `scan(X, T, index, losses)`; `names` receives what it refers to."""
    body: list[str] = []
    k = 0
    while k < len(plan.calls):
        group = plan.groups[k]
        if group is None:
            body.append(_line(plan.calls[k], k, lambda v: arrays[v], names, ""))
            k += 1
            continue
        stop = k
        while stop < len(plan.calls) and plan.groups[stop] == group:
            stop += 1
        body += _blocks(plan, range(k, stop), arrays, names)
        k = stop
    rows = "take(X, rows, 0, x, 'clip'); take(T, rows, 0, t, 'clip')"
    run = "\n".join(["def run():", *(f"    {line}" for line in body)])
    scan = "\n".join(["def scan(X, T, index, losses):", "    for k, rows in enumerate(index):", f"        {rows}",
                      *(f"        {line}" for line in body), "        losses[k] = loss"])  # fmt: skip
    return f"{run}\n{scan}\n"


def _line(call: Call, k: int, array: Callable[[int], Any], names: dict[str, Any], prefix: str) -> str:
    """One call as source; arrays and functions go into names under names of their own."""

    def named(a: Any) -> str:
        if isinstance(a, _Name):
            return a
        if isinstance(a, Ref):
            label = f"{prefix}v{a.value}"
            names.setdefault(label, array(a.value))
        elif isinstance(a, (tuple, list)):
            return "(" + "".join(f"{named(each)}, " for each in a) + ")"
        else:
            label = f"c{len(names)}"
            names[label] = a
        return label

    names[f"f{k}"] = call.function
    parts = [named(a) for a in call.args]
    if call.by_name:
        parts.append(f"out={named(call.out)}")
    parts += [f"{key}={named(value)}" for key, value in call.kw.items()]
    return f"f{k}({', '.join(parts)})"


def _blocks(plan: Plan, calls: range, arrays: dict[int, Any], names: dict[str, Any]) -> list[str]:
    """A group of calls as a loop over blocks."""
    n = plan.values[plan.calls[calls[0]].out.value].shape[0]
    columns: dict[str, list[Any]] = {}
    lines = []
    for k in calls:
        call = plan.calls[k]
        args = []
        for a in call.args:
            whole = arrays[a.value] if isinstance(a, Ref) else a
            if np.ndim(whole) == 0:
                args.append(a)
                continue
            label = f"b{a.value}" if isinstance(a, Ref) else f"b_{id(a)}"
            columns.setdefault(label, _cut(whole, n))
            args.append(_Name(label))
        label = f"b{call.out.value}"
        columns.setdefault(label, _cut(arrays[call.out.value], n))
        lines.append(
            _line(
                call._replace(args=tuple(args), out=_Name(label)),
                k,
                lambda v: arrays[v],
                names,
                "",
            )
        )
    names[f"g{calls[0]}"] = list(zip(*columns.values(), strict=True))
    return [f"for {', '.join(columns)}, in g{calls[0]}:", *(f"    {line}" for line in lines)]


def _cut(whole: Any, n: int) -> list[Any]:
    """A vector in blocks; a buffer of one block serves them all."""
    starts = range(0, n, BLOCK)
    if whole.shape[0] < n:
        return [whole[: min(BLOCK, n - start)] for start in starts]
    return [whole[start : start + BLOCK] for start in starts]
