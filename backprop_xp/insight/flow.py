"""Measures of a step, by layer, for large nets too: which weights could learn, and why others could not.

All are computed from the watched values of a step. `flow` needs row sums alone, since a sample pulls the
weight from input i to unit j up where −aᵢ δⱼ > 0, and Σᵢ Σⱼ [aᵢ > 0] [δⱼ < 0] is a product of two counts.
`votes` and `agreement` need two products of the size of the gradient's.
"""

from dataclasses import dataclass
from typing import Any

from .. import backends
from ..activations import LogSoftmax, Softmax
from ..arrays import Array, Namespace
from ..layers import Activate, Dense, Dropout, Layer
from ..learner import Learner
from ..net import Net
from ..printed import table
from ..step import State
from .trace import LayerTrace, Trace, trace


@dataclass(frozen=True)
class LayerFlow:
    """How the rows of a batch pull the weights of one Dense layer: counts of (row, weight) pairs.

    Attributes:
        name: of the layer.
        up: pairs that pull the weight up.
        down: pairs that pull it down.
        zero_input: pairs whose input is 0, while the unit's delta is not.
        blocked: pairs whose error (e ≠ 0) a closed activation blocks (delta = 0).
        nothing: pairs with nothing to learn (e = delta = 0).
        size: the mean |delta| of its units.
        dead: units whose activation is closed for every row.
    """

    name: str
    up: int
    down: int
    zero_input: int
    blocked: int
    nothing: int
    size: float
    dead: int


@dataclass(frozen=True)
class Flow:
    """The flow of a batch through a net, layer by layer, the first layer first.

    Attributes:
        layers: each layer with weights.
    """

    layers: tuple[LayerFlow, ...]

    def __str__(self) -> str:
        rows = [["layer", "up", "down", "input 0", "blocked", "nothing", "mean |δ|", "dead units"]]
        for each in self.layers:
            pairs = max(1, each.up + each.down + each.zero_input + each.blocked + each.nothing)
            counts = (each.up, each.down, each.zero_input, each.blocked, each.nothing)
            shares = [f"{count / pairs:.1%}" for count in counts]
            rows.append([each.name, *shares, f"{each.size:.3g}", str(each.dead)])
        return table(rows, right=range(1, 8))


def flow(learner: Learner, w: Array, s: State, *batch: Any) -> Flow:
    """How the learning flow (the backward pass) of a batch reaches the weights of each layer.

    >>> import numpy as np, backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1, bp.relu)))
    >>> w, s = learner.init(weights={"dense1.w": [[1], [1]], "dense1.b": [0]})
    >>> x, t = np.asarray([[1, 0], [-1, -1]], "float32"), np.asarray([[3], [3]], "float32")
    >>> print(flow(learner, w, s, x, t))
    layer      up  down  input 0  blocked  nothing  mean |δ|  dead units
    dense1  25.0%  0.0%    25.0%    50.0%     0.0%       0.5           0
    """
    xp, shown = backends.of(w).xp, trace(learner, w, s, *batch)
    return Flow(tuple(_layer(learner, shown, k, xp) for k in dense_layers(learner.net)))


def dense_layers(net: Net) -> list[int]:
    """The Dense layers that the learning flow reaches."""
    return [k for k, node in enumerate(net.nodes) if isinstance(node.layer, Dense) and k in net.path]


def _layer(learner: Learner, shown: Trace, k: int, xp: Any) -> LayerFlow:
    a, delta, e = _input(learner, shown, k), _delta(shown, k), _error(learner, shown, k)

    def count(mask: Array) -> Array:
        return xp.sum(xp.astype(mask, xp.float64 if xp.float64 is not None else a.dtype), axis=-1)

    rising, falling = count(delta < 0), count(delta > 0)
    plus, minus, zero = count(a > 0), count(a < 0), count(a == 0)
    shut = (delta == 0) & (e != 0)
    blocked, inputs = count(shut), a.shape[1]
    still = delta.shape[1] - rising - falling - blocked
    return LayerFlow(
        learner.net.nodes[k].name,
        up=whole(xp.sum(plus * rising + minus * falling)),
        down=whole(xp.sum(plus * falling + minus * rising)),
        zero_input=whole(xp.sum(zero * (rising + falling))),
        blocked=whole(xp.sum(blocked) * inputs),
        nothing=whole(xp.sum(still) * inputs),
        size=float(xp.mean(xp.abs(delta))),
        dead=_dead(learner, shown, k, xp),
    )


def _dead(learner: Learner, shown: Trace, k: int, xp: Namespace) -> int:
    """Units of a layer whose activation is flat for every row."""
    same = same_units(learner.net, k)
    found = [slopes_of(learner.net.nodes[j].layer, shown.layers[j], xp) for j in same]
    flat = [xp.all(each == 0, axis=0) for each in found if each is not None]
    dead = flat[0] if flat else xp.zeros_like(shown.layers[k].net[0, :] == 0)
    for other in flat[1:]:
        dead = dead | other
    return whole(xp.sum(xp.astype(dead, shown.layers[k].net.dtype)))


def whole(a: Array) -> int:
    """A 0-d count as an int; fractions, too."""
    return int(float(a))


def _input(learner: Learner, shown: Trace, k: int) -> Array:
    return shown.layers[learner.net.wires[k][0]].o


def slopes_of(layer: Layer, found: LayerTrace, xp: Namespace) -> Array | None:
    """f′(net) of every unit: what an error of 1 becomes; None where f mixes units, or there is none."""
    f = getattr(layer, "f", None)
    if f is None or isinstance(f, (Softmax, LogSoftmax)):
        return None
    slopes: Array = f.delta(xp.ones_like(found.net), found.net, found.o, xp=xp)
    return slopes


def trains_otherwise(learner: Learner) -> bool:
    """Whether the net computes something else in training: random masks, statistics of a batch."""
    return any(learner.net.state) or any(isinstance(node.layer, Dropout) for node in learner.net.nodes)


def _delta(shown: Trace, k: int) -> Any:
    return shown.layers[k].delta


def same_units(net: Net, k: int) -> list[int]:
    """Node k, and the activations in layers of their own that follow it: all show the same units.

    >>> import backprop_xp as bp
    >>> same_units(bp.chain(2, bp.Dense(3), bp.layers.Activate(bp.relu), bp.Dense(1)), 1)
    [1, 2]
    """
    found = [k]
    while True:
        users = [j for j, own in enumerate(net.wires) if found[-1] in own]
        if len(users) != 1 or not isinstance(net.nodes[users[0]].layer, Activate):
            return found
        found += users


def _error(learner: Learner, shown: Trace, k: int) -> Array:
    """The error that reaches a layer's units, before their activation."""
    e: Array = shown.layers[same_units(learner.net, k)[-1]].e
    return e


def votes(learner: Learner, w: Array, s: State, *batch: Any) -> dict[str, tuple[Array, Array]]:
    """By block two arrays of its shape: how many rows pull each weight up, and how many down.

    With the signs S of the inputs and D of the deltas these are (|S|ᵀ|D| − SᵀD) / 2 and (|S|ᵀ|D| + SᵀD) / 2.

    >>> import numpy as np, backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(1, bp.layers.Linear(1, bias=False)))
    >>> w, s = learner.init(weights={"dense1.w": [[0]]}, dtype="float64")
    >>> votes(learner, w, s, np.asarray([[1.0], [2.0], [1.0]]), np.asarray([[3.0], [1.0], [-1.0]]))
    {'dense1.w': (array([[2.]]), array([[1.]]))}
    """
    xp, shown, found = backends.of(w).xp, trace(learner, w, s, *batch), {}
    for k in dense_layers(learner.net):
        signs, deltas = xp.sign(_input(learner, shown, k)), xp.sign(_delta(shown, k))
        both = xp.matmul(xp.matrix_transpose(xp.abs(signs)), xp.abs(deltas))
        apart = xp.matmul(xp.matrix_transpose(signs), deltas)
        found[f"{learner.net.nodes[k].name}.w"] = (both - apart) / 2, (both + apart) / 2
    return found


def agreement(learner: Learner, w: Array, s: State, *batch: Any) -> dict[str, Array]:
    """By block |aᵀδ| / (|a|ᵀ|δ|): 1 where all rows pull a weight the same way, 0 where they cancel.

    >>> import numpy as np, backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(1, bp.layers.Linear(1, bias=False)))
    >>> w, s = learner.init(weights={"dense1.w": [[0]]}, dtype="float64")
    >>> agreement(learner, w, s, np.asarray([[1.0], [1.0]]), np.asarray([[3.0], [-1.0]]))
    {'dense1.w': array([[0.5]])}
    """
    xp, shown, found = backends.of(w).xp, trace(learner, w, s, *batch), {}
    for k in dense_layers(learner.net):
        a, delta = _input(learner, shown, k), _delta(shown, k)
        pull = xp.abs(xp.matmul(xp.matrix_transpose(a), delta))
        most = xp.matmul(xp.matrix_transpose(xp.abs(a)), xp.abs(delta))
        there = most > 0
        ratio = pull / xp.where(there, most, xp.ones_like(most))
        found[f"{learner.net.nodes[k].name}.w"] = xp.where(there, ratio, xp.zeros_like(most))
    return found


# ---------------------------------------------------------------- two descents
@dataclass(frozen=True, eq=False)
class Descents:
    """What a step does to the loss if all layers move, and if each moves alone.

    Attributes:
        loss: before the step.
        together: the loss after it.
        alone: by layer the loss if this layer alone had moved.
        effective: the change of the loss by all moves, divided by the change by the last layer's move alone.
            The article "backpropagation further backwards" estimates it by the number of layers.
        estimate: the number of layers that learn.
    """

    loss: float
    together: float
    alone: dict[str, float]
    effective: float
    estimate: int


def descents(learner: Learner, w: Array, s: State, *batch: Any) -> Descents:
    """What a step does to the loss if each layer moves alone, and if all move: the effective rate, measured.

    >>> import backprop_xp as bp
    >>> layers = [bp.layers.Linear(1, bias=False)] * 2
    >>> learner = bp.Learner(bp.chain(1, *layers), bp.losses.squared_error, bp.GradientDescent("1/100"))
    >>> w, s = learner.init(backend="exact", weights={"dense1.w": [[1]], "dense2.w": [[1]]})
    >>> x, t = (bp.asarray([[v]], like=w) for v in (1, 0))
    >>> found = descents(learner, w, s, x, t)
    >>> found.estimate, found.loss, round(found.effective, 3)
    (2, 1.0, 1.96)
    """
    xp, layout = backends.of(w).xp, learner.net.layout
    after, *_ = learner.step(*learner.snapshot(w, s), *batch)
    owners = list(dict.fromkeys(b.name.rpartition(".")[0] for b in layout.learning))

    def loss(moved: set[str]) -> Array:
        parts = [
            (after if b.name.rpartition(".")[0] in moved else w)[b.start : b.stop] for b in layout.blocks
        ]
        return learner.pure.forward_loss(xp.concat(parts), s, *batch, xp=xp).loss

    before, together = float(loss(set())), float(loss(set(owners)))
    alone = {owner: float(loss({owner})) for owner in owners}
    last = alone[owners[-1]] - before
    effective = (together - before) / last if last else float("nan")
    return Descents(before, together, alone, effective, len(owners))


# ---------------------------------------------------------------- what was not needed
def multiplications(learner: Learner, rows: int) -> tuple[int, int]:
    """The multiplications in a step's matrix products, and how many of a full backward pass were left out.

    The learning flow stops at the earliest layer that learns; a pass that went on to the input would
    compute ∂E/∂x there, and everything below.

    >>> import backprop_xp as bp
    >>> multiplications(bp.Learner(bp.chain(784, bp.Dense(10))), rows=1)
    (15680, 7840)
    """
    done, left_out = 0, 0
    for k, node in enumerate(learner.net.nodes):
        if not isinstance(node.layer, Dense):
            continue
        source = learner.net.wires[k][0]
        size = rows * learner.net.outputs[source][-1] * learner.net.outputs[k][-1]
        needs_grad, needs_pull = k in learner.net.trainable, source in learner.net.path or learner.to_input
        done += size * (1 + needs_grad + needs_pull)
        left_out += size * ((not needs_grad) + (not needs_pull))
    return done, left_out
