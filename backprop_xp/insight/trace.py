"""Traces: every number of a training step, by layer.

A trace holds the watched values of a step; it computes nothing itself.
"""

from dataclasses import dataclass
from typing import Any

from .. import backends
from ..arrays import Array, is_array, leaves, mapped
from ..errors import BackpropError, got_instead, listed
from ..learner import Learner
from ..printed import abbreviated, numbers, short
from ..step import State
from ..watch import BY_PARAMETER, FIELDS, WHOLE


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """Every number of one layer in one step.

    Attributes:
        name: of the layer.
        net: net input, shape (batch, units).
        o: output, shape (batch, units).
        e: ∂E/∂o of the batch's loss E, so under 'mean' already divided by the rows; None before the
            earliest layer that learns.
        delta: ∂E/∂net, likewise.
        grad: ∂E/∂w by parameter ("w", "b"), empty where nothing learns.
        change: w_after − w_before, by parameter.
        w_before: each parameter before the update.
        w_after: each parameter after it.
        grad_used: by parameter the gradient that the rule was given: grad with the penalty, then clipped.
        scalars: by parameter what the rule computes once for the step, such as (rate,); see
            `scalars` and `element` of the rule, which made w_after from w_before and all this.
        moments_before: by parameter the rule's moments before the update, such as Adam's (m, v).
        moments_after: by parameter the same moments after it.
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
    grad_used: dict[str, Array]
    scalars: dict[str, tuple[Array, ...]]
    moments_before: dict[str, tuple[Array, ...]]
    moments_after: dict[str, tuple[Array, ...]]

    def __str__(self) -> str:
        rows = [row for what in FIELDS for row in _rows(what, getattr(self, what))]
        width = max(len(name) for name, _ in rows)
        return "\n".join([self.name, *(f"  {name:<{width}} {_text(a, width + 3)}" for name, a in rows)])

    def __repr__(self) -> str:
        return f"LayerTrace({self.name!r}: net {short(self.net)}, o {short(self.o)})"


@dataclass(frozen=True, eq=False)
class Trace:
    """Every number of one step.

    Attributes:
        x: the inputs.
        t: the targets.
        loss: E before the update.
        layers: the trace of each layer, the input first; `trace["dense1"]` finds one by name.
        clip_factor: what `clip` multiplied the whole gradient by, where it has a `factor`.
        loss_scale: what the errors were multiplied by, and the gradient divided by, in float16.
        applied: whether the update was made: one that is not finite is left out in float16.
    """

    x: Array
    t: Array
    loss: Array
    layers: tuple[LayerTrace, ...]
    clip_factor: Array | None = None
    loss_scale: Array | None = None
    applied: Array | None = None

    def __getitem__(self, name: str) -> LayerTrace:
        found = {layer.name: layer for layer in self.layers}
        if name not in found:
            msg = f"the net has no layer {name!r}; there are {listed(found)}"
            raise KeyError(msg)
        return found[name]

    def __str__(self) -> str:
        about = "e is ∂E/∂o of this loss E of the batch: under 'mean' it is divided by the rows"
        whole = [f"{what} {_text(a)}" for what in WHOLE if (a := getattr(self, what)) is not None]
        return "\n".join([f"loss {_text(self.loss)}  ({about})", *whole, *map(str, self.layers)])

    def __repr__(self) -> str:
        names = ", ".join(abbreviated([layer.name for layer in self.layers], "…"))
        return f"Trace(loss={_text(self.loss)}, x={short(self.x)}, t={short(self.t)}, layers: {names})"


def _rows(name: str, value: Any) -> list[tuple[str, Array]]:
    """What is shown of a field, each array with its name: by parameter, and by number of several."""
    if isinstance(value, dict):
        return [row for p, each in value.items() for row in _rows(f"{name} {p}", each)]
    if isinstance(value, tuple):
        return [(f"{name} {k + 1}" if len(value) > 1 else name, each) for k, each in enumerate(value)]
    return [] if value is None else [(name, value)]


def _text(a: Array, indent: int = 0) -> str:
    if is_array(a):
        a = a.tolist() if hasattr(a, "tolist") else backends.host(a).tolist()
    return numbers(a, indent)


def trace(learner: Learner, w: Array, s: State, *batch: Any) -> Trace:
    """Every number of the step that this batch would lead to; w and s are not changed.

    Raises:
        BackpropError: a batch that does not fit.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.layers.Linear(1, bias=False)), update=bp.GradientDescent(0.5))
    >>> w, s = learner.init(backend="exact", weights={"dense1.w": [["1/2"], ["1/4"]]})
    >>> x = bp.asarray([[1, 2]], like=w)
    >>> found = trace(learner, w, s, x, bp.asarray([[0]], like=w))
    >>> found["dense1"].delta, found["dense1"].change["w"]
    (exact.asarray([['1']]), exact.asarray([['-1/2'], ['-1']]))
    """
    check_learner(learner)
    *_, loss, watched = learner.step(*learner.snapshot(w, s), *batch, watch="*")
    return from_watched(learner, batch, loss, watched)


def check_learner(learner: Any) -> None:
    """Check that the first argument is a learner."""
    if not isinstance(learner, Learner):
        msg = f"a learner comes first, as in bp.trace(learner, w, s, x, t); {got_instead(learner)}"
        raise BackpropError(msg)


def trace_each(learner: Learner, w: Array, s: State, *batch: Any) -> tuple[Array, State, list[Trace]]:
    """Train on one sample at a time, in the given order, and trace every step.

    Args:
        learner: makes the steps.
        w: the weights; consumed.
        s: the state; consumed.
        batch: inputs, shape (n, features), and targets, shape (n, units), or labels (n,).

    Returns:
        The new weights, the new state, and a trace for each data input.
    """
    traces = []
    for k in range(leaves(batch)[0].shape[0]):
        rows = mapped(batch, lambda a: a[k : k + 1, ...])  # noqa: B023 (used at once)
        w, s, loss, watched = learner.step(w, s, *rows, watch="*")
        traces.append(from_watched(learner, rows, loss, watched))
    return w, s, traces


def from_watched(learner: Learner, batch: tuple[Any, ...], loss: Array, watched: dict[str, Any]) -> Trace:
    """A trace of what a step with `watch="*"` returned, be it eager, compiled, or one of a scan.

    Args:
        learner: made the step.
        batch: the batch it learnt from.
        loss: the loss it returned.
        watched: the watched values it returned.
    """

    def layer(name: str) -> LayerTrace:
        own = {field: watched.get(f"{name}.{field}") for field in FIELDS}
        return LayerTrace(name, **own | {field: own[field] or {} for field in BY_PARAMETER})

    layers = tuple(layer(node.name) for node in learner.net.nodes)
    return Trace(batch[0], batch[1], loss, layers, *(watched.get(f"step.{what}") for what in WHOLE))
