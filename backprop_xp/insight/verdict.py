"""The float verdict: the same step in float16, float32 and float64 beside the exact one.

A rounding error of one unit in the last place can close a ReLU whose net input is exactly 0; then nothing
is learnt where the exact step learns. The verdict names the first place where a float takes another
branch, by how much it was off, and how many numbers of the step differ. Sums run from left to right, as
in the articles, so that the verdict is the same on every machine.
"""

from fractions import Fraction
from math import inf
from typing import Any

from .. import backends
from ..arrays import Array, mapped
from ..layers import Dense
from ..learner import Learner
from ..net import learning_flow
from ..step import State
from .flow import trains_otherwise

KINDS = ("float16", "float32", "float64")

Json = dict[str, Any]


class _LeftToRight:
    """NumPy, except that the sums in matrix products run from left to right."""

    def __init__(self) -> None:
        self._xp = _host()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._xp, name)

    def matmul(self, a: Any, b: Any) -> Any:
        """The product of two matrices."""
        return self._xp.add.accumulate(a[:, :, None] * b[None, :, :], axis=1)[:, -1, :]


def verdict(learner: Learner, w: Array, s: State, *batch: Any) -> Json:
    """What each type of float makes of the gradient of a step; {} where the step itself is not exact.

    Args:
        learner: has the net and the loss.
        w: the weights, fractions.
        s: the state.
        batch: x, t and, if wanted, sample weights.
    """
    if backends.of(w).name != "exact" or trains_otherwise(learner):
        return {}
    exact = _numbers(learner, w, s, batch, backends.of(w).xp)
    return {kind: _verdict(learner, exact, kind, w, batch) for kind in KINDS}


def _verdict(learner: Learner, exact: Json, kind: str, w: Array, batch: tuple[Any, ...]) -> Json:
    _, s = learner.init(backend="numpy", dtype="float64", weights=None)

    def rounded(a: Array) -> Any:
        values = _flat(a)
        if all(isinstance(each, int) for each in values):  # categories, labels
            return _host().asarray(values, dtype="int64").reshape(a.shape)
        return _host().asarray([_float(each) for each in values], dtype=kind).reshape(a.shape)

    with _host().errstate(all="ignore"):
        own = _numbers(learner, rounded(w), s, mapped(batch, rounded), _LeftToRight())
    branches = []
    for name, slopes in exact["slopes"].items():
        for k, (a, b) in enumerate(zip(_flat(slopes), _flat(own["slopes"][name]), strict=True)):
            if a != b:
                branches.append(_branch(exact, own, name, k, kind))
    pairs = [(a, b) for key in ("net", "delta") for a, b in _pairs(exact[key], own[key])]
    return {
        "branches": branches,
        "differ": sum(not _host().isfinite(float(b)) or Fraction(float(b)) != a for a, b in pairs),
        "numbers": len(pairs),
        "learns": any(g != 0 for g in _flat(own["g"])),
        "learns_exactly": any(g != 0 for g in _flat(exact["g"])),
    }


def _numbers(learner: Learner, w: Array, s: State, batch: tuple[Any, ...], xp: Any) -> Json:
    """Net inputs, slopes, deltas and the gradient of a step, by layer."""
    passed = learner.pure.forward_loss(w, s, *batch, xp=xp)
    nodes = learner.net.nodes
    found: Json = {"net": {}, "slopes": {}, "delta": {}, "terms": {}, "g": []}
    for k, (node, flow) in enumerate(zip(nodes, passed.flows, strict=True)):
        found["net"][node.name] = flow.net
        f = getattr(node.layer, "f", None)
        if f is not None and type(f).__name__ in ("ReLU", "LeakyReLU"):
            found["slopes"][node.name] = f.delta(xp.ones_like(flow.net), flow.net, flow.o, xp=xp)
            found["terms"][node.name] = _largest_terms(learner, passed, k)
    for each in learning_flow(learner.net, passed.params, passed.flows, passed.e, xp=xp):
        found["delta"][nodes[each.k].name] = each.delta
        found["g"] += each.grad
    return found


def _largest_terms(learner: Learner, passed: Any, k: int) -> list[float]:
    """For each row, the size of the largest term in the sums of a node's net inputs."""
    sizes = [max(abs(_float(v)) for v in _flat(row)) for row in passed.flows[k].net]
    while not isinstance(learner.net.nodes[k].layer, Dense) and len(learner.net.wires[k]) == 1:
        (k,) = learner.net.wires[k]
    if isinstance(learner.net.nodes[k].layer, Dense):
        largest = [max(abs(_float(v)) for v in _flat(row)) for row in passed.params[k].w]
        for n, x in enumerate(passed.flows[learner.net.wires[k][0]].o):
            terms = [abs(_float(a)) * b for a, b in zip(_flat(x), largest, strict=True)]
            sizes[n] = max(sizes[n], *terms)
    return sizes


def _branch(exact: Json, own: Json, name: str, k: int, kind: str) -> Json:
    a, b = (_flat(each["net"][name])[k] for each in (exact, own))
    units = exact["net"][name].shape[-1]
    ulp = float(_host().spacing(_host().asarray(exact["terms"][name][k // units], dtype=kind)))
    return {
        "layer": name,
        "row": k // units,
        "unit": k % units,
        "exact": str(a),
        "float": repr(float(b)),
        "ulps": repr(abs(_float(b) - _float(a)) / ulp) if ulp else None,
    }


def _pairs(exact: Json, own: Json) -> list[tuple[Any, Any]]:
    return [pair for name, a in exact.items() for pair in zip(_flat(a), _flat(own[name]), strict=True)]


def _host() -> Any:
    return backends.get("numpy").xp


def _float(value: Any) -> float:
    """A fraction as a float; one that is too large for it is infinite."""
    try:
        return float(value)
    except OverflowError:
        return inf if value > 0 else -inf


def _flat(a: Any) -> list[Any]:
    """The numbers of an array, or of several, in order: fractions, or floats."""
    if isinstance(a, list):
        return [v for each in a for v in _flat(each)]
    values: list[Any] = a.tolist() if hasattr(a, "to_numpy") else _host().asarray(a).tolist()
    return _in_one(values)


def _in_one(values: Any) -> list[Any]:
    return [v for each in values for v in _in_one(each)] if isinstance(values, list) else [values]
