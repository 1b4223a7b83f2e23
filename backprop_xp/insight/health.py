"""Health: what keeps a net from learning, in sentences, each with what usually helps."""

from math import isfinite
from typing import Any

from .. import backends
from ..arrays import Array
from ..learner import Learner
from ..step import State
from .flow import dense_layers, slopes_of, whole
from .trace import Trace, trace

SATURATED, VANISHED, EXPLODED = 1e-3, 1e-4, 1e4


def health(learner: Learner, w: Array, s: State, *batch: Any) -> list[str]:
    """What keeps a net from learning on this batch, in sentences with what usually helps; [] if nothing.

    Dead units: a ReLU closed for every row. Saturated ones: f′ < 1/1000 for every row. Vanishing or
    exploding flow: the mean |δ| of the first layer is 10⁻⁴ or 10⁴ times that of the last. Weights at their
    limit.

    >>> import numpy as np, backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(1, bp.Dense(1, bp.relu)))
    >>> w, s = learner.init(weights={"dense1.w": [[1]], "dense1.b": [-9]})
    >>> x, t = np.ones((2, 1), "float32"), np.ones((2, 1), "float32")
    >>> health(learner, w, s, x, t)[0].partition(":")[0::2]
    ('dense1', ' 1 of 1 units are closed for every row and cannot learn: a smaller rate, ...')
    """
    xp, shown = backends.of(w).xp, trace(learner, w, s, *batch)
    if not bool(xp.all(w - w == 0)) or not isfinite(float(shown.loss)):
        return ["weights or the loss are not finite: a smaller rate, or clip=bp.updates.ClipByNorm(1), helps"]
    return [*_units(learner, shown, xp), *_sizes(learner, shown, xp), *_limits(learner, w, xp)]


def _units(learner: Learner, shown: Trace, xp: Any) -> list[str]:
    """Units whose activation passes no gradient back, or almost none, for every row."""
    found = []
    for node, layer in zip(learner.net.nodes, shown.layers, strict=True):
        slopes = None if layer.delta is None else slopes_of(node.layer, layer, xp)
        if slopes is None:
            continue
        slope = xp.abs(slopes)
        dead, flat = (
            whole(xp.sum(xp.astype(xp.all(each, axis=0), layer.net.dtype)))
            for each in (slope == 0, slope < SATURATED)
        )
        units = layer.net.shape[-1]
        if dead:
            found.append(
                f"{node.name}: {dead} of {units} units are closed for every row and cannot learn: "
                "a smaller rate, a leaky ReLU, or inputs with mean 0 and variance 1 usually help"
            )
        if flat > dead:
            found.append(
                f"{node.name}: {flat - dead} of {units} units are saturated for every row: "
                "smaller initial weights, or inputs with mean 0 and variance 1 usually help"
            )
    return found


def _sizes(learner: Learner, shown: Trace, xp: Any) -> list[str]:
    """The size of δ in the first layer compared with that in the last."""
    reached = dense_layers(learner.net)
    sizes = [float(xp.mean(xp.abs(shown.layers[k].delta))) for k in reached]
    if len(sizes) < 2 or not sizes[-1]:
        return []
    ratio, (first, last) = sizes[0] / sizes[-1], (learner.net.nodes[reached[k]].name for k in (0, -1))
    what = f"the mean |δ| of {first} is {ratio:.1g} times that of {last}"
    if ratio < VANISHED:
        helps = "skip connections, ReLU in place of sigmoid, or larger initial weights usually help"
        return [f"the flow vanishes: {what}: {helps}"]
    if ratio > EXPLODED:
        helps = "smaller initial weights, normalisation, or clip=bp.updates.ClipByNorm(1) usually help"
        return [f"the flow explodes: {what}: {helps}"]
    return []


def _limits(learner: Learner, w: Array, xp: Any) -> list[str]:
    found = []
    for block, rule in zip(learner.net.layout.learning, learner.pure.rules, strict=True):
        limit = getattr(rule, "limit", None)
        if limit is None:
            continue
        own = w[block.start : block.stop]
        held = whole(xp.sum(xp.astype(xp.abs(own) >= float(limit), own.dtype)))
        if held:
            found.append(
                f"{block.name}: {held} of {own.shape[0]} weights are at their limit {limit}: "
                "a larger limit or a smaller rate usually helps"
            )
    return found
