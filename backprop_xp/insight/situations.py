"""The situation of a weight in one step, as keys of the table of sentences.

The situations are those of the article "Weights' Balancing", and those it leaves out: a unit whose error
is blocked, leaks or cancels, a weight that is frozen, moved by earlier samples, or moved too far.
"""

from dataclasses import dataclass
from typing import Any

from ..arrays import Array
from .words import sign_of

_GATES = ("ReLU", "LeakyReLU", "ThresholdedReLU")


@dataclass(frozen=True, eq=False)
class Weight:
    """One weight in one step; what is not known of it is None.

    Attributes:
        place: the number of its unit in its layer.
        last: whether its layer is the last.
        unit: the name of its unit.
        source: the name of what it multiplies; "" for biases and weights of other kinds.
        bias: whether it is added as it is.
        learns: whether it is not frozen.
        activation: the class of its layer's activation.
        grad: ∂E/∂w.
        change: after − before.
        output: the model's output and the target, where each is one number.
        votes: in a batch, how many samples pulled it up, down, or neither.
        input: what it multiplies.
        delta: of its unit.
        e: of its unit.
        net: of its unit.
        slope: f′(net) of its unit.
    """

    place: int
    last: bool
    unit: str
    source: str
    bias: bool
    learns: bool
    activation: str
    grad: Any
    change: Array
    output: tuple[Array, Array] | None = None
    votes: dict[str, int] | None = None
    input: Any = None
    delta: Any = None
    e: Any = None
    net: Any = None
    slope: Any = None


def situation(weight: Weight, found: dict[str, Any]) -> list[str]:
    """The sentences about a weight, in their order.

    Args:
        weight: in its step.
        found: what was measured: "own_net", "alone_loss", "share", as text.
    """
    says = _outcome(weight)
    if not weight.learns:
        return [*says, "frozen", "move.stay"]
    if weight.votes is not None:
        says.append("votes")
    elif weight.delta is not None:
        says += _wanted(weight)
    elif weight.grad is not None and bool(weight.grad != 0):
        says.append("want.more" if bool(weight.grad < 0) else "want.less")
    return [*says, *_moved(weight), *_measured(weight, found)]


def _outcome(weight: Weight) -> list[str]:
    if weight.output is None:
        return []
    o, t = weight.output
    return ["lower" if bool(o < t) else "higher" if bool(o > t) else "equal"]


def _wanted(weight: Weight) -> list[str]:
    """What the sample wanted of the unit, and what that asks of this weight."""
    closed = weight.slope is not None and bool(weight.slope == 0)
    if bool(weight.delta == 0):
        if bool(weight.e == 0):
            equal = weight.output is not None and bool(weight.output[0] == weight.output[1])
            return [] if equal else ["settled" if weight.last else "cancelled"]
        return ["blocked" if closed and weight.activation in _GATES else "flat"]
    says = ["want.up" if bool(weight.delta < 0) else "want.down"]
    if weight.activation in _GATES and bool(weight.net < 0):
        says.insert(0, "leaky")
    if weight.bias:
        return [*says, "input.bias"]
    if weight.input is None:
        return says
    sign = "0" if bool(weight.input == 0) else "+" if bool(weight.input > 0) else "-"
    return [*says, f"input.{sign}"]


def _moved(weight: Weight) -> list[str]:
    if not bool(weight.change != 0):
        return ["move.stay"]
    move = "move.up" if bool(weight.change > 0) else "move.down"
    g = weight.grad
    if g is not None and bool(g * weight.change >= 0):  # not the way of this gradient
        return ["earlier", move]
    return [move]


def _measured(weight: Weight, found: dict[str, Any]) -> list[str]:
    says = []
    own = found.get("own_net")
    if own is not None and sign_of(own) and bool(weight.delta != 0):
        says.append("proof.own" if (sign_of(own) > 0) == bool(weight.delta < 0) else "proof.own.no")
    if found.get("alone_loss") is not None:
        says.append("alone.worse" if found.get("worse") else "alone")
    if found.get("share") is not None:
        says.append("share" if sign_of(found["share"]) else "share.zero")
    return says
