"""Checks of the shapes that layers, activations, losses and update rules return.

No number is computed: a step is recorded once, on a batch of abstract arrays.
"""

from copy import copy
from dataclasses import replace
from typing import Any

from .arrays import Array, Namespace, Shape, leaves, mapped
from .compiler.compiled import Function
from .compiler.recorder import NotRecorded, abstract_like, record
from .errors import BackpropError
from .layers.base import flow_and_state
from .losses import Loss
from .net import Net, Node
from .step import State, Step

_ROWS = 11  # of the abstract batch; with 1, a wrong shape could broadcast


def check_shapes(step: Step, w: Any, s: State, batch: tuple[Any, ...], unpack: Function) -> None:
    """Check that the parts of a step return arrays of the right shapes; no value is read.

    A step that cannot be recorded is not checked; errors then come from the library that runs it.

    Args:
        step: the step.
        w: the weights, or what a compiler packed them into.
        s: the state, or what a compiler packed it into.
        batch: inputs, targets and, if given, weights.
        unpack: turns packed weights and a packed state back into a vector and a state.

    Raises:
        BackpropError: an output, a delta, a gradient, a loss, an error or a new weight has a wrong shape;
            the message names the layer, the loss or the rule that returned it.
    """
    state = mapped((w, s), abstract_like)
    rows = [mapped(each, lambda a: abstract_like(a, _ROWS)) for each in batch]
    word = leaves(state[1].step)[0].dtype
    try:
        record(lambda w, s, *b, xp: _checked(step, *unpack(w, s, xp=xp), *b, xp=xp), *state, *rows, word=word)
    except NotRecorded:
        return
    except BackpropError:
        raise
    except Exception:  # the user's own function may not work on abstract arrays
        return


def _checked(step: Step, w: Array, s: State, *batch: Any, xp: Namespace) -> None:
    """Run a step, checking the shapes that its parts return."""
    loss: Any = _CheckedLoss(step.loss)
    g = replace(step, net=_checked_net(step.net), loss=loss).gradient(w, s, *batch, xp=xp, rows=_ROWS).g
    for rule, span in step.parts:
        here, name = slice(span.first, span.last), type(rule).__name__
        scalars = rule.scalars(s.rule, dtype=w.dtype, xp=xp)
        each = [v[here] if getattr(v, "ndim", 0) else v for v in scalars]
        own = [m[here] for m in s.rule.moments[: rule.moments]]
        found = rule.element(g[here], w[span.start : span.stop], *own, *each, xp=xp)
        if not isinstance(found, (tuple, list)) or len(found) != 1 + rule.moments:
            want = f"a tuple of the new weights and {rule.moments} moments"
            msg = f"the method element of the rule {name} must return {want}, got {found!r}"
            raise BackpropError(msg)
        for a in found:
            _fits(a, (span.stop - span.start,), f"what element of the rule {name} returns")


def _fits(a: Any, want: Shape, what: str) -> None:
    got = getattr(a, "shape", ())
    if tuple(got) != tuple(want):
        shown = tuple("batch" if k == 0 and n == _ROWS else n for k, n in enumerate(want))
        was = tuple("batch" if k == 0 and n == _ROWS else n for k, n in enumerate(got))
        msg = (
            f"{what} must have shape {shown}, got {was}: activations and rules return one number for each "
            "that they are given, losses one for each row"
        )
        raise BackpropError(msg.replace("'batch'", "batch"))


def _checked_net(net: Net) -> Net:
    other = copy(net)
    layers: list[Any] = [_CheckedLayer(*each) for each in zip(net.nodes, net.outputs, strict=True)]
    nodes = [node._replace(layer=layer) for node, layer in zip(net.nodes, layers, strict=True)]
    object.__setattr__(other, "nodes", tuple(nodes))
    return other


class _CheckedLayer:
    """A layer whose four methods check the shapes that they return."""

    def __init__(self, node: Node, output: Shape) -> None:
        self._layer, self._output = node.layer, output
        self._name = f"'{node.name}', {node.layer!r},"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def forward(self, p: Any, *x: Array, **rest: Any) -> Any:
        flow, state = flow_and_state(self._layer.forward(p, *x, **rest), self._layer)
        if hasattr(flow.o, "shape"):
            _fits(flow.o, (_ROWS, *self._output), f"the output of {self._name}")
        return flow, state

    def delta(self, p: Any, flow: Any, e: Array, **rest: Any) -> Array:
        delta = self._layer.delta(p, flow, e, **rest)
        if hasattr(flow.net, "shape"):
            _fits(delta, flow.net.shape, f"delta of {self._name}")
        return delta

    def grad(self, p: Any, flow: Any, delta: Array, *x: Array, **rest: Any) -> Any:
        grads = self._layer.grad(p, flow, delta, *x, **rest)
        for name, own, grad in zip(getattr(p, "_fields", ()), p, grads, strict=True):
            _fits(grad, own.shape, f"the gradient of '{name}' of {self._name}")
        return grads

    def pull(self, p: Any, flow: Any, delta: Array, *x: Array, **rest: Any) -> Any:
        pulled = self._layer.pull(p, flow, delta, *x, **rest)
        for each, back in zip(x, pulled, strict=True):
            if hasattr(each, "shape"):
                _fits(back, each.shape, f"what pull of {self._name} returns")
        return pulled


class _CheckedLoss:
    """A loss whose value and error check the shapes that they return."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loss, name)

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        found = self._loss.value(o, t, xp=xp)
        _fits(found, (_ROWS,), f"the value of the loss {type(self._loss).__name__}")
        return found

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        found = self._loss.error(o, t, xp=xp)
        _fits(found, o.shape, f"the error of the loss {type(self._loss).__name__}")
        return found
