"""The gradient of a net checked, weight by weight, against central differences of its loss."""

from dataclasses import dataclass
from typing import Any

from .. import backends
from ..arrays import Array, leaves
from ..learner import Learner
from ..step import State


@dataclass(frozen=True)
class CheckedWeight:
    """One weight of a gradient check.

    Attributes:
        block: its block.
        at: where in it.
        grad: ∂E/∂w by the learning flow.
        difference: (E(w + h) − E(w − h)) / 2h.
        kink: whether a gate opens or closes between w − h and w + h, where the two may differ.
    """

    block: str
    at: int
    grad: Any
    difference: Any
    kink: bool

    @property
    def error(self) -> float:
        """|grad − difference|, as a share of the larger where that is above 1."""
        gap = abs(float(self.grad) - float(self.difference))
        return gap / max(1.0, abs(float(self.grad)), abs(float(self.difference)))


def check_gradient(learner: Learner, w: Array, s: State, *batch: Any, most: int = 256) -> list[CheckedWeight]:
    """The gradient beside central differences of the loss, weight by weight.

    On the exact backend the two are equal wherever the loss is quadratic in each single weight, as for
    half_squared_error with piecewise linear activations, away from kinks. In float64 the difference has
    an error of its own, about 10⁻¹⁰.

    Args:
        learner: has the net and the loss.
        w: the weights.
        s: the state.
        batch: x, t and, if wanted, weights of rows.
        most: weights that are checked, spread over all of them.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1, bp.relu)))
    >>> w, s = learner.init(backend="exact", weights={"dense1.w": [[1], [2]], "dense1.b": [0]})
    >>> x, t = (bp.asarray(a, like=w) for a in ([[1, 1]], [[1]]))
    >>> [(each.grad == each.difference, each.kink) for each in check_gradient(learner, w, s, x, t)]
    [(True, False), (True, False), (True, False)]
    """
    to = backends.of(w)
    xp, step = to.xp, learner.pure
    g = step.gradient(w, s._replace(scale=()), *batch, xp=xp).g
    places = [(b, k) for b in learner.net.layout.learning for k in range(b.stop - b.start)]
    found = []
    for n in range(0, len(places), max(1, -(-len(places) // most))):
        block, k = places[n]
        h = _h(w, block.start + k, to.name)
        passes = [step.forward_loss(_moved(w, block.start + k, d, xp), s, *batch, xp=xp) for d in (h, -h)]
        difference = (passes[0].loss - passes[1].loss) / (2 * h)
        kink = any(_gates(learner, p) != _gates(learner, q) for p, q in [passes])
        own = g[learner.net.layout.gradient_slices[block.name]][k]
        found.append(CheckedWeight(block.name, k, _plain(own), _plain(difference), kink))
    return found


def _h(w: Array, place: int, backend: str) -> Any:
    if backend == "exact":
        return leaves(backends.asarray(["1/1000"], like=w))[0][0]
    return 6e-6 * max(1.0, abs(float(w[place])))  # the cube root of a float64's ε


def _moved(w: Array, place: int, by: Any, xp: Any) -> Array:
    return xp.concat([w[:place], xp.reshape(w[place] + by, (1,)), w[place + 1 :]])


def _gates(learner: Learner, passed: Any) -> list[Any]:
    """Which of the piecewise linear units are open."""
    nodes = zip(learner.net.nodes, passed.flows, strict=True)
    kinds = ("ReLU", "LeakyReLU", "ThresholdedReLU", "HardSigmoid", "HardSwish")
    return [
        (flow.net >= 0).tolist()
        for node, flow in nodes
        if type(getattr(node.layer, "f", None)).__name__ in kinds
    ]


def _plain(a: Array) -> Any:
    return a.tolist() if backends.of(a).name == "exact" else float(a)
