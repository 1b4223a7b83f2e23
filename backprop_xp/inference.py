"""Inference: the outputs of layers, and gradients with respect to the inputs.

These are pure functions. The forward pass is that of evaluation (no dropout, running statistics), so no
row affects another; the backward pass is the net's own learning flow.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .arrays import Array, Namespace, leaves, mapped
from .errors import BackpropError, listed
from .layers import Flow, check_count
from .net import Net, learning_flow
from .params import join
from .step import State, Step


def outputs(
    step: Step, w: Array, s: State, x: Any, names: Sequence[str], *, net_input: bool, xp: Namespace
) -> dict[str, Array]:
    """The outputs, or net inputs, of the named layers."""
    flows = step.forward(w, s, x, training=False, xp=xp)[1]
    found = {node.name: flow for node, flow in zip(step.net.nodes, flows, strict=True)}
    return {name: found[name].net if net_input else found[name].o for name in names}


def input_gradient(
    step: Step, w: Array, s: State, x: Any, t: Array = None, *, unit: int | None, xp: Namespace
) -> Any:
    """∂E/∂x of each row's own loss; without t, ∂o/∂x of one output unit, or of all along a second axis."""
    params, flows, _ = step.forward(w, s, x, training=False, xp=xp)
    o, net = flows[-1].o, replace(step.net, frozen=frozenset(step.net.shapes))  # weights need no gradient
    if t is not None:
        e = step.loss.error(o, step.loss.encode(t, o, xp=xp), xp=xp)
        return _at_inputs(net, params, flows, e, xp=xp)
    k = xp.arange(o.shape[-1], dtype=xp.int32, device=getattr(o, "device", None))

    def of(each: int) -> Any:
        return _at_inputs(net, params, flows, xp.zeros_like(o) + xp.astype(k == each, o.dtype), xp=xp)

    if unit is not None:
        return of(unit)
    return _columns([of(each) for each in range(o.shape[-1])], lambda column: xp.stack(column, axis=1))


def _at_inputs(net: Net, params: Any, flows: list[Flow], e: Array, *, xp: Namespace) -> Any:
    """∂E/∂x from e = ∂E/∂o at the output; by name where there are several inputs."""
    inputs = {k: node.name for k, node in enumerate(net.nodes) if not node.inputs}
    way = learning_flow(net, params, flows, e, xp=xp, to_input=True)
    found = {inputs[each.k]: each.e for each in way if each.k in inputs}
    if not found:
        msg = (
            f"∂E/∂x exists only for inputs of numbers, got a net whose inputs, {listed(inputs.values())}, "
            "are integers: look at the outputs of its Embedding instead"
        )
        raise BackpropError(msg)
    return found if len(inputs) > 1 else found.popitem()[1]


def in_batches(function: Callable[[Any], Any], rows: Any, size: int | None, *, xp: Namespace) -> Any:
    """Call a function on batches of rows and join the results, so that memory stays bounded.

    Args:
        function: takes a tree of rows and returns a tree with as many rows.
        rows: a tree of arrays.
        size: the rows in a batch; None for all at once.
        xp: the namespace of the arrays.
    """
    n = leaves(rows)[0].shape[0]
    size = n if size is None else check_count(size, "the batch size")
    if n <= size:
        return function(rows)
    ends = [(k, min(k + size, n)) for k in range(0, n, size)]
    found = [function(mapped(rows, lambda a: a[i:j, ...])) for i, j in ends]  # noqa: B023 (used at once)
    return _columns(found, lambda parts: join(parts, xp=xp))


def _columns(results: list[Any], together: Callable[[list[Array]], Array]) -> Any:
    """Results of the same structure combined into one, array by array."""
    columns = iter([together(list(column)) for column in zip(*map(leaves, results), strict=True)])
    return mapped(results[0], lambda _: next(columns))
