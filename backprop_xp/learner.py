"""The learner: a net, a loss and an update rule in one pure step.

`step(w, s, x, t) -> (w, s, loss)` consumes w and s: after it, use what it returned. Keep old ones
with `snapshot`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

from . import backends, rng
from .arrays import Array, BackpropError, Namespace, listed
from .backends import Backend
from .checks import check_batch, check_block, check_inputs, check_vector, check_weights
from .layers import Context, Flow
from .losses import Loss, half_squared_error
from .net import Net, forward, learning_flow
from .params import Block, Param, join
from .updates import GradientDescent, RuleState, Update

Reduction = Literal["mean", "sum"]
Order = Literal["together", "layer by layer"]
_WEIGHTS, _LAYERS = 0, 1 << 16  # streams of random bits: first weights, then one a layer


class State(NamedTuple):
    """What lives from step to step besides the weights.

    Attributes:
        rule: of the update rule.
        layers: of each node's layer.
        step: updates made, a word.
        seed: of the run, a word.
    """

    rule: RuleState
    layers: tuple[tuple[Array, ...], ...]
    step: Array
    seed: Array


class Pass(NamedTuple):
    """What one walk forward over a batch finds.

    Attributes:
        params: of each node.
        flows: of each node.
        layers: the new state of each node's layer.
        loss: E, reduced over the batch.
        e: ∂E/∂o at the last node.
    """

    params: tuple[Any, ...]
    flows: list[Flow]
    layers: tuple[tuple[Array, ...], ...]
    loss: Array
    e: Array


@dataclass(frozen=True)
class Learner:
    """A net that learns: `init` once, then `step` for every batch.

    Args:
        net: from `chain`.
        loss: one of `losses.ALL`.
        update: the update rule.
        reduction: what the batch does to loss and gradient: their 'mean' or their 'sum'.
        order: 'together' takes all gradients from the old weights; 'layer by layer' begins at the
            last layer that learns and goes down, with a walk forward, a learning flow and an update
            of that layer alone each time (plain gradient descent only).
        to_input: let the learning flow go on to the input, as the articles do.

    Raises:
        BackpropError: a setting that is unknown, or a net in which nothing learns.

    >>> import numpy as np, backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)), bp.half_squared_error, bp.GradientDescent(0.1))
    >>> w, s = learner.init(dtype="float64", weights={"dense1.w": [[1], [2]]})
    >>> w, s, loss = learner.step(w, s, np.asarray([[1.0, 1.0]]), np.asarray([[1.0]]))
    >>> float(loss), [round(float(each), 6) for each in w]
    (2.0, [0.8, 1.8, -0.2])
    """

    net: Net
    loss: Loss = half_squared_error
    update: Update = GradientDescent(0.1)
    reduction: Reduction = "mean"
    order: Order = "together"
    to_input: bool = False

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.reduction, ("mean", "sum"), "the reduction over the batch"),
            (self.order, ("together", "layer by layer"), "the order of updates"),
        ):
            if value not in known:
                msg = f"{what} is one of {listed(known)}, got {value!r}"
                raise BackpropError(msg)
        for value, kind, example in (
            (self.net, Net, "the net is one such as bp.chain(8, bp.Dense(1))"),
            (self.loss, Loss, "the loss is one such as bp.softmax_cross_entropy"),
        ):
            if not isinstance(value, kind):
                msg = f"{example}, got {value!r}"
                raise BackpropError(msg)
        if not self.net.layout.learning:
            msg = "nothing learns in this net: give it a layer with weights, or thaw one"
            raise BackpropError(msg)
        if self.order == "layer by layer" and not isinstance(self.update, GradientDescent):
            msg = "'layer by layer' goes with GradientDescent alone; write order='together'"
            raise BackpropError(msg)
        if isinstance(self.update.rate, Mapping):
            for block in self.net.layout.learning:
                self._rate_of(block)

    def _rate_of(self, block: Block) -> Any:
        rates, layer = self.update.rate, block.name.rpartition(".")[0]
        if block.name not in rates and layer not in rates:
            msg = f"a mapping of rates names every layer that learns; '{layer}' is not in {listed(rates)}"
            raise BackpropError(msg)
        return rates.get(block.name, rates.get(layer))

    # -------------------------------------------------------------- before and between steps

    def init(
        self,
        seed: int = 0,
        *,
        like: Array = None,
        backend: str | None = None,
        device: Any = None,
        dtype: str | None = None,
        weights: Mapping[str, Any] | None = None,
    ) -> tuple[Array, State]:
        """First weights and state, the same on every backend.

        Args:
            seed: of first weights, shuffles and dropout; 0 <= seed < 2³².
            like: an array whose library, device and dtype are used.
            backend: else this library, by name; else the one of `with bp.backend(...)`.
            device: of that library.
            dtype: 'float32' (the default), 'float64'; 'rational' on the exact backend.
            weights: values by block name ("dense1.w"), shape in × out, in place of random ones.

        Returns:
            The flat vector w of all parameters, and the state s.

        Raises:
            BackpropError: unknown names, wrong shapes, values that are not finite.
        """
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 32:
            msg = f"a seed is an integer with 0 <= seed < 2**32, got {seed!r}"
            raise BackpropError(msg)
        to, device, dtype = backends.place(like, backend, device, dtype)
        given = weights or {}
        check_weights(given, self.net.shapes)
        values = _draw(self.net.params, seed, _WEIGHTS)
        parts = []
        for block, shape in self.net.shapes.items():
            part = to.asarray(given[block] if block in given else values[block], dtype, device)
            check_block(block, part, shape)
            parts.append(to.xp.reshape(part, (-1,)))
        w = join(parts, xp=to.xp)
        return w, self._first_state(seed, w, to)

    def _first_state(self, seed: int, w: Array, to: Backend) -> State:
        xp, device = to.xp, to.device_of(w)
        word = rng.word(xp)
        learning = self.net.layout.learning_part(w, xp=xp)
        moments = tuple(xp.zeros_like(learning) for _ in range(self.update.moments))
        count = xp.zeros((), dtype=xp.int32, device=device)
        layers = []
        for k, params in enumerate(self.net.state):
            drawn = _draw({str(i): p for i, p in enumerate(params)}, seed, _LAYERS + k)
            layers.append(tuple(to.asarray(value, w.dtype, device) for value in drawn.values()))
        return State(
            rule=RuleState(count, self._rates(w, xp=xp), moments),
            layers=tuple(layers),
            step=xp.zeros((), dtype=word, device=device),
            seed=xp.full((), rng.constant(seed, word, xp=xp), dtype=word, device=device),
        )

    def _rates(self, w: Array, *, xp: Namespace) -> Array:
        """One rate for each learning weight where rates differ by layer, else ()."""
        if not isinstance(self.update.rate, Mapping):
            return ()
        blocks = self.net.layout.learning
        return join([xp.ones_like(w[b.start : b.stop]) * self._rate_of(b) for b in blocks], xp=xp)

    def snapshot(self, w: Array, s: State) -> tuple[Array, State]:
        """Copies of w and s that no later step touches."""
        return backends.copy(w), backends.copy(s)

    def weights(self, w: Array) -> dict[str, Array]:
        """The blocks of w by name, each in its shape."""
        check_vector(w, self.net.layout)
        return self.net.layout.views(w, xp=backends.of(w).xp)

    def freeze(self, names: str | list[str], w: Array, s: State) -> tuple["Learner", Array, State]:
        """The learner in which the named layers or blocks learn no more, with w and s that fit it."""
        return self._carried(self.net.freeze(*_names(names)), w, s)

    def thaw(self, names: str | list[str], w: Array, s: State) -> tuple["Learner", Array, State]:
        """The learner in which the named layers or blocks learn again, with w and s that fit it.

        Moments and counts of blocks that learned before are kept; new ones start at 0.
        """
        return self._carried(self.net.thaw(*_names(names)), w, s)

    def _carried(self, net: Net, w: Array, s: State) -> tuple["Learner", Array, State]:
        learner = replace(self, net=net)
        xp = backends.of(w).xp
        old = {}
        for block, (first, last) in self._places.items():
            old[block] = slice(first, last)

        def carried(vector: Array, fresh: Array) -> Array:
            return join(
                [
                    vector[old[b.name]] if b.name in old else fresh[b.start : b.stop]
                    for b in net.layout.learning
                ],
                xp=xp,
            )

        rule = s.rule._replace(
            moments=tuple(carried(m, xp.zeros_like(w)) for m in s.rule.moments),
            rates=learner._rates(w, xp=xp),
        )
        if s.rule.moments:
            fresh = xp.zeros(w.shape, dtype=s.rule.count.dtype, device=backends.of(w).device_of(w))
            ran = xp.zeros_like(self.net.layout.learning_part(fresh, xp=xp)) + s.rule.count
            rule = rule._replace(count=carried(ran, fresh))
        return learner, w, s._replace(rule=rule)

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Where the gradient of each learning block lies."""
        places, first = {}, 0
        for block in self.net.layout.learning:
            last = first + block.stop - block.start
            places[block.name] = (first, last)
            first = last
        return places

    # -------------------------------------------------------------- the step

    def step(self, w: Array, s: State, x: Array, t: Array) -> tuple[Array, State, Array]:
        """One update from a batch; consumes w and s.

        Args:
            w: the weights, from `init` or the step before.
            s: the state, likewise.
            x: inputs, shape (batch, features), in the library and dtype of w.
            t: targets, shape (batch, units), or integer labels (batch,) for categorical losses.

        Returns:
            The new weights, the new state, and the loss E before the update (0-d).

        Raises:
            BackpropError: shapes, dtypes, libraries or devices that do not fit; nothing is changed.
        """
        return self.pure_step(w, s, x, t, xp=self.check(w, x, t).xp)

    def check(self, w: Array, x: Array, t: Array) -> Backend:
        """Whether a batch fits, by what is static: the check that `step` makes."""
        check_vector(w, self.net.layout)
        return check_batch(x, t, w, self.net.outputs[0], self.net.outputs[-1], self.loss)

    def pure_step(
        self, w: Array, s: State, x: Array, t: Array, *, xp: Namespace
    ) -> tuple[Array, State, Array]:
        """The step itself, unchecked: what `compile` compiles and the recorder records."""
        if self.order == "layer by layer":
            w, layers, loss = self._layer_by_layer(w, s, x, t, xp=xp)
            rule = s.rule._replace(count=s.rule.count + 1)
        else:
            seen = self.look(w, s, x, t, xp=xp)
            g = self.gradient_of(seen, xp=xp)
            w, rule = self.apply(g, w, s.rule, xp=xp)
            layers, loss = seen.layers, seen.loss
        return w, State(rule, layers, s.step + 1, s.seed), loss

    def look(self, w: Array, s: State, x: Array, t: Array, *, xp: Namespace) -> Pass:
        """The walk forward of a training step, its loss and the error at the output."""
        params, flows, layers = self.walk(w, s, x, training=True, xp=xp)
        o = flows[-1].o
        t = self.loss.encode(t, o, xp=xp)
        values, e = self.loss.value(o, t, xp=xp), self.loss.error(o, t, xp=xp)
        if self.reduction == "mean":
            return Pass(params, flows, layers, xp.mean(values), e / o.shape[0])
        return Pass(params, flows, layers, xp.sum(values), e)

    def walk(
        self, w: Array, s: State, x: Array, *, training: bool, xp: Namespace
    ) -> tuple[tuple[Any, ...], list[Flow], tuple[tuple[Array, ...], ...]]:
        """The walk forward: each node's parameters, flow and new state."""
        params = self.net.by_node(self.net.layout.views(w, xp=xp))
        contexts = tuple(
            Context(training, s.seed, s.step, _LAYERS + k, own) for k, own in enumerate(s.layers)
        )
        flows, layers = forward(self.net, params, x, contexts, xp=xp)
        return params, flows, layers

    def gradient_of(self, seen: Pass, *, xp: Namespace) -> Array:
        """∂E/∂w of the learning blocks, one vector, from the learning flow."""
        grads: dict[str, Array] = {}
        for learn in learning_flow(self.net, seen.params, seen.flows, seen.e, xp=xp, to_input=self.to_input):
            fields = seen.params[learn.k]._fields
            owner = self.net.nodes[learn.k].name
            grads |= {f"{owner}.{p}": grad for p, grad in zip(fields, learn.grad, strict=False)}
        return self.net.layout.pack(grads, xp=xp)

    def apply(self, g: Array, w: Array, rule: RuleState, *, xp: Namespace) -> tuple[Array, RuleState]:
        """The update rule on the learning runs of w."""
        layout, vectors = self.net.layout, (g, *rule.moments)
        scalars = self.update.scalars(rule, xp=xp)
        if len(layout.learning) == len(layout.blocks):
            w, *moments = self.update.element(g, w, *rule.moments, *scalars, xp=xp)
        else:
            done = []
            for run in layout.runs:
                part = slice(run.first, run.last)
                grad, *own = (v[part] for v in vectors)
                each = (v[part] if getattr(v, "ndim", 0) else v for v in scalars)
                done.append(self.update.element(grad, w[run.start : run.stop], *own, *each, xp=xp))
            new, *moments = ([*column] for column in zip(*done, strict=True))
            w, moments = layout.merge(w, new, xp=xp), [join(column, xp=xp) for column in moments]
        return w, RuleState(rule.count + 1, rule.rates, tuple(moments))

    def _layer_by_layer(
        self, w: Array, s: State, x: Array, t: Array, *, xp: Namespace
    ) -> tuple[Array, tuple[tuple[Array, ...], ...], Array]:
        first: Pass | None = None
        for learner, (start, stop) in self._one_layer_each:
            seen = learner.look(w, s, x, t, xp=xp)
            first = first or seen
            rates = s.rule.rates
            rule = s.rule if isinstance(rates, tuple) else s.rule._replace(rates=rates[start:stop])
            w, _ = learner.apply(learner.gradient_of(seen, xp=xp), w, rule, xp=xp)
        assert first is not None
        return w, first.layers, first.loss

    @cached_property
    def _one_layer_each(self) -> tuple[tuple["Learner", tuple[int, int]], ...]:
        """For each layer that learns, the last first: the learner of that layer alone."""
        found = []
        for k in sorted(self.net.trainable, reverse=True):
            own = [b for b in self._places if b.rpartition(".")[0] == self.net.nodes[k].name]
            others = [b for b in self._places if b not in own]
            learner = replace(self, net=self.net.freeze(*others), order="together")
            found.append((learner, (self._places[own[0]][0], self._places[own[-1]][1])))
        return tuple(found)

    # -------------------------------------------------------------- looking, without learning

    def predict(self, w: Array, s: State, x: Array, *, net_input: bool = False) -> Array:
        """What the net makes of x, as the loss reads it: probabilities for losses on net input.

        Args:
            w: the weights.
            s: the state.
            x: inputs, shape (batch, features).
            net_input: give the last layer's output itself.

        Returns:
            Shape (batch, units).
        """
        check_vector(w, self.net.layout)
        xp = check_inputs(x, w, self.net.outputs[0]).xp
        _, flows, _ = self.walk(w, s, x, training=False, xp=xp)
        return flows[-1].o if net_input else self.loss.link(flows[-1].o, xp=xp)

    def losses(self, w: Array, s: State, x: Array, t: Array) -> Array:
        """The loss of each sample, shape (batch,), without learning."""
        xp = self.check(w, x, t).xp
        _, flows, _ = self.walk(w, s, x, training=False, xp=xp)
        o = flows[-1].o
        return self.loss.value(o, self.loss.encode(t, o, xp=xp), xp=xp)

    def gradient(self, w: Array, s: State, x: Array, t: Array) -> dict[str, Array]:
        """∂E/∂w of each learning block by name, without learning."""
        xp = self.check(w, x, t).xp
        g = self.gradient_of(self.look(w, s, x, t, xp=xp), xp=xp)
        return {
            b.name: xp.reshape(g[slice(*self._places[b.name])], b.shape) for b in self.net.layout.learning
        }


def _names(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _draw(params: Mapping[str, Param], seed: int, stream: int) -> dict[str, Array]:
    """First values, uniform in centre ± spread, made on the host in float64."""
    xp, values, start = backends.get("numpy").xp, {}, 0
    for block, param in params.items():
        size = 1
        for n in param.shape:
            size *= n
        u = rng.uniform(rng.bits(seed, stream, start, size, xp=xp), xp.float64, xp=xp)
        values[block] = xp.reshape(param.centre + param.spread * (2 * u - 1), param.shape)
        start += size
    return values
