"""The gradient of a net checked, weight by weight, against central differences of its loss."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .. import backends
from ..arrays import Array
from ..errors import BackpropError
from ..layers import check_count
from ..learner import Learner
from ..step import State
from .trace import check_learner

H = 6e-6  # the cube root of a float64's ε, at which differences have the fewest errors
NOISE = 1e-15  # of a loss of 1 in float64


@dataclass(frozen=True)
class CheckedWeight:
    """One weight of a gradient check.

    Attributes:
        block: its block.
        at: where in it, counted in its flat order.
        grad: ∂E/∂w by the learning flow.
        difference: (E(w + h) − E(w − h)) / 2h.
        kink: whether the loss has a kink between w − h and w + h, where the two may differ: then its second
            differences do not shrink fourfold from h to h / 2.
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
        batch: x, t and, if wanted, sample weights.
        most: weights that are checked, spread over all of them.

    Raises:
        BackpropError: weights in float32, for which differences have no digits; a batch that does not fit.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1, bp.relu)))
    >>> w, s = learner.init(backend="exact", weights={"dense1.w": [[1], [2]], "dense1.b": [0]})
    >>> x, t = (bp.asarray(a, like=w) for a in ([[1, 1]], [[1]]))
    >>> [(each.grad == each.difference, each.kink) for each in check_gradient(learner, w, s, x, t)]
    [(True, False), (True, False), (True, False)]
    """
    check_learner(learner)
    to, most = learner.check(w, s, *batch), check_count(most, "the number of weights")
    if to.name != "exact" and not str(w.dtype).endswith("float64"):
        msg = (
            f"differences need float64 or fractions, got weights of {w.dtype}: learner.init(dtype='float64')"
        )
        raise BackpropError(msg)
    xp, step = to.xp, learner.pure
    g = step.gradient(w, s._replace(scale=()), *batch, xp=xp).g

    def loss(place: int, by: Any) -> Any:
        moved = xp.concat([w[:place], xp.reshape(w[place] + by, (1,)), w[place + 1 :]])
        return _plain(step.forward_loss(moved, s, *batch, xp=xp).loss)

    places = [(b, k) for b in learner.net.layout.learning for k in range(b.stop - b.start)]
    at = _plain(step.forward_loss(w, s, *batch, xp=xp).loss)
    found = []
    for n in range(0, len(places), max(1, -(-len(places) // most))):
        block, k = places[n]
        place = block.start + k
        h = Fraction(1, 1000) if to.name == "exact" else H * max(1.0, abs(float(w[place])))
        ahead, behind, near, far = (loss(place, by) for by in (h, -h, h / 2, -h / 2))
        second, nearer = ahead - 2 * at + behind, near - 2 * at + far  # of a smooth loss a quarter of it
        noise = 0 if to.name == "exact" else NOISE * (1 + abs(at))
        kink = abs(nearer - second / 4) > abs(second) / 100 + noise
        own = g[learner.net.layout.gradient_slices[block.name]][k]
        found.append(CheckedWeight(block.name, k, _plain(own), (ahead - behind) / (2 * h), bool(kink)))
    return found


def _plain(a: Array) -> Any:
    return a.tolist() if backends.of(a).name == "exact" else float(a)
