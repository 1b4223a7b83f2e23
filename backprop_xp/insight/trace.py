"""Traces: every number of a training step, by layer.

A trace keeps what the forward pass and the learning flow (the backward pass) of the step compute; it
has no formula of its own.
"""

from dataclasses import dataclass

from .. import backends
from ..arrays import Array
from ..learner import Learner
from ..net import Learn
from ..step import ForwardPass, State


@dataclass(frozen=True)
class LayerTrace:
    """Every number of one layer in one step.

    Attributes:
        name: of the layer.
        net: net input, shape (batch, units).
        o: output, shape (batch, units).
        e: ∂E/∂o, None before the earliest layer that learns.
        delta: ∂E/∂net, likewise.
        grad: ∂E/∂w by parameter ("w", "b"), empty where nothing learns.
        change: w_after − w_before, by parameter.
        w_before: each parameter before the update.
        w_after: each parameter after it.
    """

    name: str
    net: Array
    o: Array
    e: Array | None
    delta: Array | None
    grad: dict[str, Array]
    change: dict[str, Array]
    w_before: dict[str, Array]
    w_after: dict[str, Array]


@dataclass(frozen=True)
class Trace:
    """Every number of one step.

    Attributes:
        x: the inputs.
        t: the targets.
        loss: E before the update.
        layers: the trace of each layer, the input first; `trace["dense1"]` finds one by name.
    """

    x: Array
    t: Array
    loss: Array
    layers: tuple[LayerTrace, ...]

    def __getitem__(self, name: str) -> LayerTrace:
        return next(layer for layer in self.layers if layer.name == name)

    def __str__(self) -> str:
        lines = [f"loss {_text(self.loss)}"]
        for layer in self.layers:
            lines.append(f"{layer.name}")
            rows = [(what, getattr(layer, what)) for what in ("net", "o", "e", "delta")]
            for what in ("grad", "change", "w_before", "w_after"):
                rows += [(f"{what} {p}", value) for p, value in getattr(layer, what).items()]
            lines += [f"  {what:<11} {_text(value)}" for what, value in rows if value is not None]
        return "\n".join(lines)


def _text(a: Array) -> str:
    values = a.tolist() if hasattr(a, "tolist") else backends.asarray(a, backend="numpy").tolist()

    def each(v: object) -> str:
        if isinstance(v, list):
            return "[" + ", ".join(each(part) for part in v) + "]"
        return f"{v:.6g}" if isinstance(v, float) else str(v)

    return each(values)


def trace(learner: Learner, w: Array, s: State, x: Array, t: Array) -> Trace:
    """Every number of the step that this batch would lead to; w and s are not changed.

    Args:
        learner: whose step is traced.
        w: the weights.
        s: the state.
        x: inputs, shape (batch, features).
        t: targets, shape (batch, units), or labels (batch,).

    Raises:
        BackpropError: a batch that does not fit.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.layers.Linear(1, bias=False)), update=bp.GradientDescent(0.5))
    >>> w, s = learner.init(backend="exact", weights={"dense1.w": [["1/2"], ["1/4"]]})
    >>> found = bp.trace(learner, w, s, bp.exact.asarray([[1, 2]]), bp.exact.asarray([[0]]))
    >>> found["dense1"].delta, found["dense1"].change["w"]
    (exact.asarray([['1']]), exact.asarray([['-1/2'], ['-1']]))
    """
    return _step(learner, *learner.snapshot(w, s), x, t)[2]


def trace_each(learner: Learner, w: Array, s: State, x: Array, t: Array) -> tuple[Array, State, list[Trace]]:
    """Train on one sample at a time, in the given order, and trace every step.

    Args:
        learner: makes the steps.
        w: the weights; consumed.
        s: the state; consumed.
        x: inputs, shape (samples, features).
        t: targets, shape (samples, units), or labels (samples,).

    Returns:
        The new weights, the new state, and a trace for each sample.

    Raises:
        BackpropError: data that do not fit.
    """
    traces = []
    for k in range(x.shape[0]):
        w, s, found = _step(learner, w, s, x[k : k + 1], t[k : k + 1])
        traces.append(found)
    return w, s, traces


def _step(learner: Learner, w: Array, s: State, x: Array, t: Array) -> tuple[Array, State, Trace]:
    xp = learner.check(w, s, x, t).xp
    found: dict[int, tuple[ForwardPass, Learn]] = {}

    def watch(seen: ForwardPass, learn: Learn) -> None:
        if learn.k not in found or learn.grad:  # order 'layer by layer': the pass in which a layer learns
            found[learn.k] = seen, learn

    before = {name: backends.copy(block) for name, block in learner.weights(w).items()}
    w, s, loss = learner.pure_step(w, s, x, t, xp=xp, watch=watch)
    after = {name: backends.copy(block) for name, block in learner.weights(w).items()}
    last, _ = next(iter(found.values()))
    layers = []
    for k, node in enumerate(learner.net.nodes):
        seen, learn = found.get(k, (last, None))
        own = [b for b in before if b.rpartition(".")[0] == node.name]
        short = {b: b.rpartition(".")[2] for b in own}
        grads = learner.net.named(k, learn.grad) if learn else {}
        layers.append(
            LayerTrace(
                node.name,
                seen.flows[k].net,
                seen.flows[k].o,
                learn.e if learn else None,
                learn.delta if learn else None,
                grad={short[b]: grad for b, grad in grads.items()},
                change={short[b]: after[b] - before[b] for b in own},
                w_before={short[b]: before[b] for b in own},
                w_after={short[b]: after[b] for b in own},
            )
        )
    return w, s, Trace(x, t, loss, tuple(layers))
