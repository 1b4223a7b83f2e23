"""Exact shares: how much of the change of the loss each weight made.

A step changes many weights at once, and their effects multiply. The loss change of a sample is split
over the weights by one more learning flow (the backward pass): inputs and weights are replaced by the
mean of their values before and after the step, the slope of an activation by its secant Δo/Δnet, and
the error at the output by a vector ē with Σ ē Δo = ΔE. Then the shares

    share = Δw · mean input · mean delta

add up to ΔE, for a step of any size, also where a ReLU has opened or closed: for a product,
Δ(x w) = x̄ Δw + w̄ Δx holds exactly. Which part belongs to which weight is a convention, as in any split
of an effect of several causes; this one treats before and after
alike and does not depend on an order of the weights.

The four equations of the layers are used as they are; only `delta` is replaced by the secant. Layers
that mix units or samples by more than products (softmax as an activation, normalisation, products of
three) are not covered: there the residual is not 0.
"""

from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from ..arrays import Array, Namespace
from ..layers import Flow, Layer
from ..learner import Learner
from ..net import Net, learning_flow
from ..step import ForwardPass, State


@dataclass(frozen=True, eq=False)
class Shares:
    """The loss change of one sample, or of a batch, and what each weight contributed.

    Attributes:
        loss: E before the step.
        loss_after: E after it.
        first_order: Σ g Δw, what the gradient predicted for ΔE.
        blocks: by block the share of each of its weights, in its shape.
        residual: ΔE minus the sum of the shares: 0 on fractions, rounding elsewhere.
    """

    loss: Array
    loss_after: Array
    first_order: Array
    blocks: dict[str, Array]
    residual: Array


def _with_secant(layer: Layer, p: Any, before: Flow, after: Flow) -> Layer:
    """A layer whose delta is e Δo/Δnet between two forward passes, e f′(net) where net did not change."""

    def delta(_: Any, flow: Flow, e: Array, *, xp: Namespace) -> Array:  # noqa: ARG001
        if before.net is before.o:  # as in Add, Concat, and Dense without an activation
            return e
        moved = after.net - before.net
        still = moved == 0
        slope = (after.o - before.o) / xp.where(still, xp.ones_like(moved), moved)
        return xp.where(still, layer.delta(p, before, e, xp=xp), e * slope)

    other = copy(layer)
    object.__setattr__(other, "delta", delta)
    return other


def shares(learner: Learner, w: Array, w_after: Array, s: State, *batch: Any) -> Shares:
    """Each weight's share in the change of the loss of a batch, after a change of the weights.

    Args:
        learner: has the net and the loss.
        w: the weights before.
        w_after: the weights after.
        s: the state before the step, whose random masks both passes use.
        batch: x, t and, if wanted, sample weights; they may differ from what the step learnt from.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.layers.Linear(1, bias=False)))
    >>> w, s = learner.init(backend="exact", weights={"dense1.w": [[1], [0]]})
    >>> x, t = (bp.asarray(a, like=w) for a in ([[1, 2]], [[0]]))
    >>> after, *_ = learner.step(*learner.snapshot(w, s), x, t)
    >>> found = shares(learner, w, after, s, x, t)
    >>> found.loss, found.loss_after, found.blocks["dense1.w"], found.residual
    (exact.asarray(1/2), exact.asarray(1/8), exact.asarray([['-3/40'], ['-3/10']]), exact.asarray(0))
    """
    step, xp = learner.pure, learner.check(w, s, *batch).xp
    old, new = (step.forward_loss(each, s, *batch, xp=xp) for each in (w, w_after))
    params, flows = _means(old, new, xp=xp)
    net = _with_secants(learner.net, old, new)
    e = _secant_error(learner, old, new, batch, xp=xp)
    change = learner.net.layout.views(w_after - w, xp=xp)
    found, first = {}, {}
    for each in learning_flow(net, params, flows, e, xp=xp):
        for block, g in learner.net.named(each.k, each.grad).items():
            found[block] = g * change[block]
    for each in learning_flow(learner.net, old.params, old.flows, old.e, xp=xp):
        for block, g in learner.net.named(each.k, each.grad).items():
            first[block] = xp.sum(g * change[block])
    learning = {b.name for b in learner.net.layout.learning}
    found = {block: a for block, a in found.items() if block in learning}
    total = sum((xp.sum(a) for a in found.values()), start=xp.zeros_like(old.loss))
    predicted = sum((a for b, a in first.items() if b in learning), start=xp.zeros_like(old.loss))
    return Shares(old.loss, new.loss, predicted, found, new.loss - old.loss - total)


def _means(old: ForwardPass, new: ForwardPass, *, xp: Namespace) -> tuple[tuple[Any, ...], list[Flow]]:
    """Parameters and outputs halfway between two passes; integers, such as categories, are kept."""

    def mean(a: Array, b: Array) -> Array:
        return (a + b) / 2 if xp.isdtype(a.dtype, "real floating") else a

    params = tuple(
        type(p)(*(mean(a, b) for a, b in zip(p, q, strict=True)))
        for p, q in zip(old.params, new.params, strict=True)
    )
    pairs = zip(old.flows, new.flows, strict=True)
    return params, [Flow(mean(a.net, b.net), mean(a.o, b.o), a.aux) for a, b in pairs]


def _with_secants(net: Net, old: ForwardPass, new: ForwardPass) -> Net:
    """The net with a secant in place of each delta."""
    passes = zip(net.nodes, old.params, old.flows, new.flows, strict=True)
    return replace(net, nodes=tuple(n._replace(layer=_with_secant(n.layer, *each)) for n, *each in passes))


def _secant_error(
    learner: Learner, old: ForwardPass, new: ForwardPass, batch: tuple[Any, ...], *, xp: Namespace
) -> Array:
    """The error halfway, corrected along Δo so that Σ ē Δo is the change of each sample's loss."""
    loss, (a, b) = learner.loss, (old.flows[-1].o, new.flows[-1].o)
    t = loss.encode(batch[1], a, xp=xp)
    moved, middle = b - a, loss.error((a + b) / 2, t, xp=xp)
    change = loss.value(b, t, xp=xp) - loss.value(a, t, xp=xp)
    gap = change - xp.sum(middle * moved, axis=-1)
    square = xp.sum(moved * moved, axis=-1)
    correction = xp.where(
        square == 0, xp.zeros_like(gap), gap / xp.where(square == 0, xp.ones_like(gap), square)
    )
    e = middle + xp.expand_dims(correction, axis=-1) * moved
    if len(batch) > 2:
        e = e * xp.expand_dims(batch[2], axis=-1)
    return e / a.shape[0] if learner.reduction == "mean" else e
