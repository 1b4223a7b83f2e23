"""One training step: forward pass, loss, learning flow (the backward pass) and update.

All are pure functions of arrays and their namespace. Nothing is checked and no value is read, so the
same code runs eagerly, is compiled by the libraries' compilers, and is recorded by ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

from .arrays import Array, Namespace
from .layers import Context, Flow
from .losses import Loss, half_squared_error
from .net import Learn, Net, forward, learning_flow
from .params import Layout, join
from .updates import GradientDescent, RuleState, Update

Reduction = Literal["mean", "sum"]
Order = Literal["together", "layer by layer"]
LAYER_STREAMS = 1 << 16  # layer k uses the stream of random bits LAYER_STREAMS + k


class State(NamedTuple):
    """What is carried from step to step besides the weights.

    Attributes:
        rule: the state of the update rule.
        layers: the state of each node's layer.
        step: the number of updates made, a 0-d 32-bit integer.
        seed: of the run, a 0-d 32-bit integer.
    """

    rule: RuleState
    layers: tuple[tuple[Array, ...], ...]
    step: Array
    seed: Array


class ForwardPass(NamedTuple):
    """The result of a forward pass over a batch, with its loss.

    Attributes:
        params: the parameters of each node.
        flows: the net input and output of each node.
        layers: the new state of each node's layer.
        loss: E, reduced over the batch.
        e: ∂E/∂o at the last node, shape (batch, units).
    """

    params: tuple[Any, ...]
    flows: list[Flow]
    layers: tuple[tuple[Array, ...], ...]
    loss: Array
    e: Array


Watch = Callable[[ForwardPass, Learn], None]


def decode_inputs(x: Array, dtype: Any, *, xp: Namespace) -> Array:
    """Inputs as the net reads them: bytes (uint8) as x / 255, numbers from 0 to 1; others unchanged.

    >>> import numpy as np
    >>> decode_inputs(np.asarray([0, 51, 255], dtype="uint8"), "float64", xp=np).tolist()
    [0.0, 0.2, 1.0]
    """
    return xp.astype(x, dtype) / 255 if xp.isdtype(x.dtype, "integral") else x


@dataclass(frozen=True)
class Step:
    """A net, a loss and an update rule, and the training step they define; see `Learner`."""

    net: Net
    loss: Loss = half_squared_error
    update: Update = GradientDescent(0.1)
    reduction: Reduction = "mean"
    order: Order = "together"
    to_input: bool = False

    def pure_step(
        self,
        w: Array,
        s: State,
        x: Array,
        t: Array,
        *,
        xp: Namespace,
        watch: Watch | None = None,
        scale: Array = None,
    ) -> tuple[Array, State, Array]:
        """One update from a batch, without checks.

        Args:
            w: the weights, one vector; or split by `Layout.split`, moments likewise. Consumed.
            s: the state; consumed.
            x: inputs, shape (batch, features), floats or uint8.
            t: targets.
            xp: the namespace of the arrays.
            watch: called with each result of the learning flow and the forward pass it belongs to.
            scale: a loss scale: errors are multiplied by it in the learning flow and the gradient is
                divided by it, so that small errors do not underflow; not with order 'layer by layer'.

        Returns:
            The new weights, the new state, and the loss E before the update (0-d).
        """
        if self.order == "layer by layer":
            w, layers, loss = self._layer_by_layer(w, s, x, t, xp=xp, watch=watch)
            rule = s.rule._replace(count=s.rule.count + 1)
        else:
            seen = self.forward_loss(w, s, x, t, xp=xp)
            if scale is not None:
                seen = seen._replace(e=seen.e * scale)
            g = self.gradient_of(seen, xp=xp, watch=watch, split=isinstance(w, tuple))
            g = g if scale is None else g / scale
            w, rule = self.apply(g, w, s.rule, xp=xp)
            layers, loss = seen.layers, seen.loss
        return w, State(rule, layers, s.step + 1, s.seed), loss

    def forward_loss(self, w: Array, s: State, x: Array, t: Array, *, xp: Namespace) -> ForwardPass:
        """The forward pass of a training step, its loss E and the error e at the output."""
        params, flows, layers = self.forward(w, s, x, training=True, xp=xp)
        o = flows[-1].o
        t = self.loss.encode(t, o, xp=xp)
        values, e = self.loss.value(o, t, xp=xp), self.loss.error(o, t, xp=xp)
        if self.reduction == "mean":
            return ForwardPass(params, flows, layers, xp.mean(values), e / o.shape[0])
        return ForwardPass(params, flows, layers, xp.sum(values), e)

    def forward(
        self, w: Array, s: State, x: Array, *, training: bool, xp: Namespace
    ) -> tuple[tuple[Any, ...], list[Flow], tuple[tuple[Array, ...], ...]]:
        """The forward pass: each node's parameters, flow and new state."""
        params = self.net.by_node(self.net.layout.views(w, xp=xp))
        contexts = tuple(
            Context(training, s.seed, s.step, LAYER_STREAMS + k, own) for k, own in enumerate(s.layers)
        )
        dtype = (w[0] if isinstance(w, tuple) else w).dtype
        flows, layers = forward(self.net, params, decode_inputs(x, dtype, xp=xp), contexts, xp=xp)
        return params, flows, layers

    def gradient_of(
        self, seen: ForwardPass, *, xp: Namespace, watch: Watch | None = None, split: bool = False
    ) -> Array:
        """∂E/∂w of the learning blocks, from the learning flow (the backward pass): one vector, or split."""
        grads: dict[str, Array] = {}
        for learn in learning_flow(self.net, seen.params, seen.flows, seen.e, xp=xp, to_input=self.to_input):
            if watch is not None:
                watch(seen, learn)
            grads |= self.net.named(learn.k, learn.grad)
        return self.net.layout.pack(grads, xp=xp, split=split)

    def apply(self, g: Array, w: Array, rule: RuleState, *, xp: Namespace) -> tuple[Array, RuleState]:
        """The update rule applied to the blocks of w that learn."""
        layout, vectors = self.net.layout, (g, *rule.moments)
        if isinstance(w, tuple):
            scalars = self.update.scalars(rule, dtype=w[0].dtype, xp=xp)
            w, moments = self._apply_split(vectors, w, scalars, xp=xp)
            return w, RuleState(rule.count + 1, rule.rates, tuple(moments))
        scalars = self.update.scalars(rule, dtype=w.dtype, xp=xp)
        if len(layout.learning) == len(layout.blocks):
            w, *moments = self.update.element(g, w, *rule.moments, *scalars, xp=xp)
        else:
            done = []
            for span in layout.spans:
                part = slice(span.first, span.last)
                grad, *own = (v[part] for v in vectors)
                each = (v[part] if getattr(v, "ndim", 0) else v for v in scalars)
                done.append(self.update.element(grad, w[span.start : span.stop], *own, *each, xp=xp))
            new, *columns = ([*column] for column in zip(*done, strict=True))
            w, moments = layout.merge(w, new, xp=xp), [join(column, xp=xp) for column in columns]
        return w, RuleState(rule.count + 1, rule.rates, tuple(moments))

    def _apply_split(
        self, vectors: tuple[Array, ...], w: tuple[Array, ...], scalars: tuple[Array, ...], *, xp: Namespace
    ) -> tuple[tuple[Array, ...], list[Array]]:
        """The update rule applied to each block that learns, where w is split."""
        layout, done, new = self.net.layout, [], []
        own = iter(zip(*vectors, strict=True))
        for block, old in zip(layout.blocks, w, strict=True):
            if block.learns:
                grad, *moments = next(own)
                part = layout.gradient_slices[block.name]
                each = (xp.reshape(v[part], block.shape) if getattr(v, "ndim", 0) else v for v in scalars)
                done.append(self.update.element(grad, old, *moments, *each, xp=xp))
                new.append(done[-1][0])
            else:
                new.append(old)
        return tuple(new), list(zip(*(each[1:] for each in done), strict=True))

    def _layer_by_layer(
        self, w: Array, s: State, x: Array, t: Array, *, xp: Namespace, watch: Watch | None
    ) -> tuple[Array, tuple[tuple[Array, ...], ...], Array]:
        first: ForwardPass | None = None
        for step, part in self._one_layer_each:
            seen = step.forward_loss(w, s, x, t, xp=xp)
            first = first or seen
            rates = s.rule.rates
            rule = s.rule if isinstance(rates, tuple) else s.rule._replace(rates=rates[part])
            w, _ = step.apply(step.gradient_of(seen, xp=xp, watch=watch), w, rule, xp=xp)
        assert first is not None
        return w, first.layers, first.loss

    @property
    def splits(self) -> Layout | None:
        """The layout by which the step accepts split weights; None if it does not."""
        return self.net.layout if self.order == "together" else None

    @cached_property
    def _one_layer_each(self) -> tuple[tuple["Step", slice], ...]:
        """For each layer that learns, last first: a step in which only that layer learns."""
        found, places = [], self.net.layout.gradient_slices
        for k in sorted(self.net.trainable, reverse=True):
            own = [b for b in places if b.rpartition(".")[0] == self.net.nodes[k].name]
            net = self.net.freeze(*(b for b in places if b not in own))
            part = slice(places[own[0]].start, places[own[-1]].stop)
            found.append((replace(self, net=net, order="together"), part))
        return tuple(found)
