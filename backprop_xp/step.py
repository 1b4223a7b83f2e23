"""One training step: forward pass, loss, learning flow (the backward pass) and update.

A step has two halves: `gradient` and `apply`. Between them, gradients of parts of a batch can be added
up, wherever they were computed. All are pure functions of arrays and their namespace. Nothing is
checked and no value is read, so the same code runs eagerly, is compiled by the libraries' compilers,
and is recorded by our own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from . import groups, loss_scale
from .arrays import Array, Namespace, label, leaves, mapped, mark
from .groups import Part, Penalties, Updates
from .layers import Context, Flow
from .losses import Loss, half_squared_error
from .net import Learn, Net, forward, learning_flow
from .params import Block, Layout, Span, join
from .printed import short
from .schedules import Plateau
from .updates import Averaged, Clip, GradientDescent, RuleState, Update
from .watch import RULE, STEP, Watched

Reduction = Literal["mean", "sum"]
LAYER_STREAMS = 1 << 16  # layer k uses the stream of random bits LAYER_STREAMS + k


class State(NamedTuple):
    """What is carried from step to step besides the weights.

    Attributes:
        rule: the state of the update rule.
        layers: the state of each node's layer.
        step: the number of updates made, a 0-d 32-bit integer.
        seed: the seed of the run, a 0-d 32-bit integer.
        scale: the loss scale and the finite updates since it changed; () if errors are not scaled.
    """

    rule: RuleState
    layers: tuple[tuple[Array, ...], ...]
    step: Array
    seed: Array
    scale: tuple[Array, ...] = ()

    def __repr__(self) -> str:
        return short(self)


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


class Gradient(NamedTuple):
    """What the first half of a step passes to the second.

    Attributes:
        g: ∂E/∂w of the learning blocks, one vector (or split by block), times the loss scale if there is one.
        loss: E.
        layers: the new state of each node's layer.
    """

    g: Array
    loss: Array
    layers: tuple[tuple[Array, ...], ...]


def total(parts: Sequence[Gradient]) -> Gradient:
    """The gradient of a batch from those of its parts, added up along one fixed tree.

    Each was divided by the number of rows of the whole batch (`rows=`), so the sum is not divided again.
    The state of layers is that of the last part.

    >>> import numpy as np
    >>> total([Gradient(np.full(2, k), np.asarray(k), ()) for k in (1.0, 2.0, 4.0)]).g.tolist()
    [7.0, 7.0]
    """
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    first, second = total(parts[:half]), total(parts[half:])
    if isinstance(first.g, tuple):
        g: Array = tuple(a + b for a, b in zip(first.g, second.g, strict=True))
    else:
        g = first.g + second.g
    return Gradient(g, first.loss + second.loss, second.layers)


def cuts(rows: int, shards: int) -> list[tuple[int, int]]:
    """The shards of a batch, as (i, j) for rows i to j − 1; with fewer rows than shards, one row each.

    >>> cuts(20, 8)
    [(0, 2), (2, 5), (5, 7), (7, 10), (10, 12), (12, 15), (15, 17), (17, 20)]
    >>> cuts(2, 8)
    [(0, 1), (1, 2)]
    """
    ends = [rows * k // shards for k in range(shards + 1)]
    return [(i, j) for i, j in pairwise(ends) if i < j]


def decode_inputs(x: Any, dtype: Any, *, xp: Namespace) -> Any:
    """Inputs as the net reads them: bytes (uint8) as x / 255, numbers from 0 to 1; others unchanged.

    >>> import numpy as np
    >>> decode_inputs(np.asarray([0, 51, 255], dtype="uint8"), "float64", xp=np).tolist()
    [0.0, 0.2, 1.0]
    """

    def decoded(a: Array) -> Array:
        return xp.astype(a, dtype) / 255 if xp.isdtype(a.dtype, "unsigned integer") else a

    return mapped(x, decoded)


@dataclass(frozen=True)
class Step:
    """A net, a loss and an update rule, and the training step they define; see `Learner`.

    A batch is (x, t) or (x, t, weight): inputs, targets, and a weight for each row that multiplies
    its loss and its error. The reduction 'mean' divides by the number of rows, 'sum' by nothing.

    Attributes:
        net: the net.
        loss: the loss.
        update: the update rule, or rules by layer, block or pattern.
        reduction: loss and gradient of a batch are the 'mean' or the 'sum' over its samples.
        to_input: continue the learning flow to the input.
        penalty: added to the gradient before clipping; one for all, or a mapping by layer, block or pattern.
        clip: the bound on the whole gradient.
        shards: the number of parts of a batch, whose gradients are added up along a fixed tree.

    >>> import numpy as np
    >>> from backprop_xp import Dense, Learner, chain
    >>> learner = Learner(chain(1, Dense(1)))
    >>> w, s = learner.init(weights={"dense1.w": [[3]], "dense1.b": [0]})
    >>> gradient = learner.pure.gradient(w, s, np.ones((1, 1), "f4"), np.zeros((1, 1), "f4"), xp=np)
    >>> gradient.g.tolist(), float(gradient.loss)
    ([3.0, 3.0], 4.5)
    """

    net: Net
    loss: Loss = half_squared_error
    update: Updates = GradientDescent(0.1)
    reduction: Reduction = "mean"
    to_input: bool = False
    penalty: Penalties | None = None
    clip: Clip | None = None
    shards: int = 1

    def __call__(self, w: Array, s: State, *batch: Any, xp: Namespace, watch: Iterable[str] = ()) -> Any:
        """One update from a batch.

        Args:
            w: the weights, one vector; or split by `Layout.split`, with moments likewise. Consumed.
            s: the state; consumed.
            batch: x, t and, if wanted, weights.
            xp: the namespace of the arrays.
            watch: names of values to return as well, such as "dense1.delta" or "*.o".

        Returns:
            w, s and the loss; if something is watched, also a dict of it, by name.
        """
        if not watch:
            return self.apply(w, s, self.gradient(w, s, *batch, xp=xp), xp=xp)
        whole = ["clip_factor"] * hasattr(self.clip, "factor") + ["loss_scale", "applied"] * bool(s.scale)
        watched = Watched(self.net, watch, to_input=self.to_input, whole=whole)
        gradient = self.gradient(w, s, *batch, xp=xp, watched=watched)
        return *self.apply(w, s, gradient, xp=xp, watched=watched), watched.found

    # ------------------------------------------------------------ the first half
    def gradient(
        self,
        w: Array,
        s: State,
        *batch: Any,
        xp: Namespace,
        rows: int | None = None,
        first: Array = 0,
        watched: Watched | None = None,
    ) -> Gradient:
        """∂E/∂w from a batch, or from a part of one.

        Args:
            w: the weights.
            s: the state.
            batch: x, t and, if wanted, weights.
            xp: the namespace of the arrays.
            rows: the number of rows in the whole batch, if this is a part of it.
            first: the number of the part's first row in the whole batch, 0-d.
            watched: keeps the values that it wants.
        """
        if self.shards > 1 and rows is None:
            return self._in_shards(w, s, *batch, xp=xp, watched=watched)
        passed = self.forward_loss(w, s, *batch, xp=xp, rows=rows, first=first)
        e = passed.e * s.scale[0] if s.scale else passed.e
        grads: dict[str, Array] = {}
        for found in learning_flow(self.net, passed.params, passed.flows, e, xp=xp, to_input=self.to_input):
            grads |= self.net.named(found.k, found.grad)
            if watched is not None:
                self._see(watched, found, s)
        if watched is not None:
            for k, flow in enumerate(passed.flows):
                watched.see(k, "net", flow.net)
                watched.see(k, "o", flow.o)
        mark(xp, "gradient", "g, the gradients of all blocks in one vector")
        g = self.net.layout.pack(grads, xp=xp, split=isinstance(w, tuple)) if grads else ()
        if len(grads) > 1:
            label(xp, g, "g")
        return Gradient(g, passed.loss, passed.layers)

    def value_and_grad(self, w: Array, s: State, *batch: Any, xp: Namespace) -> tuple[Array, Array]:
        """E with the penalty, and its gradient over the learning weights; see `Learner.value_and_grad`."""
        found = self.gradient(w, s._replace(scale=()), *batch, xp=xp)
        if not self.net.layout.learning:
            return found.loss, w[:0]
        if self.penalty is None:
            return found.loss, found.g
        return found.loss + self.penalty_value(w, xp=xp), self._with_penalties(found.g, w, xp=xp)

    def _see(self, watched: Watched, found: Learn, s: State) -> None:
        def unscaled(a: Array) -> Array:
            return a / s.scale[0] if s.scale else a

        watched.see(found.k, "e", unscaled(found.e))
        watched.see(found.k, "delta", unscaled(found.delta))
        if found.grad:
            watched.see_blocks(
                "grad", {b: unscaled(a) for b, a in self.net.named(found.k, found.grad).items()}
            )

    def _in_shards(self, w: Array, s: State, *batch: Any, xp: Namespace, watched: Watched | None) -> Gradient:
        rows = leaves(batch)[0].shape[0]
        parts = cuts(rows, self.shards)
        seen = [] if watched is None else [watched.fresh() for _ in parts]

        def part(k: int, i: int, j: int) -> Gradient:
            own = mapped(batch, lambda a: a[i:j, ...])
            here = seen[k] if seen else None
            return self.gradient(w, s, *own, xp=xp, rows=rows, first=i, watched=here)

        found = total([part(k, i, j) for k, (i, j) in enumerate(parts)])
        if watched is not None:
            watched.see_parts(seen, xp=xp)
        return found

    def forward_loss(
        self,
        w: Array,
        s: State,
        x: Any,
        t: Array,
        weight: Array | None = None,
        *,
        xp: Namespace,
        rows: int | None = None,
        first: Array = 0,
    ) -> ForwardPass:
        """The forward pass of a training step, its loss and the error at the output."""
        params, flows, layers = self.forward(w, s, x, training=True, xp=xp, first=first)
        o = flows[-1].o
        mark(xp, "loss", self.loss.value)
        t = self.loss.encode(t, o, xp=xp)
        values = self.loss.value(o, t, xp=xp)
        mark(xp, "loss", self.loss.error)
        e = self.loss.error(o, t, xp=xp)
        if weight is not None:
            values, e = values * weight, e * xp.reshape(weight, (-1,) + (1,) * (e.ndim - 1))
        mark(xp, "loss", f"{self.reduction} over the batch")
        if self.reduction == "sum":
            return ForwardPass(params, flows, layers, xp.sum(values), e)
        if rows is None:
            return ForwardPass(params, flows, layers, xp.mean(values), e / o.shape[0])
        return ForwardPass(params, flows, layers, xp.sum(values) / rows, e / rows)

    def forward(
        self, w: Array, s: State, x: Any, *, training: bool, xp: Namespace, first: Array = 0
    ) -> tuple[tuple[Any, ...], list[Flow], tuple[tuple[Array, ...], ...]]:
        """The forward pass: each node's parameters, flow and new state."""
        mark(xp, "inputs", decode_inputs)
        blocks = self.net.layout.views(w, xp=xp)
        for name, block in blocks.items():
            label(xp, block, name)
        params = self.net.by_node(blocks)
        contexts = tuple(
            Context(training, s.seed, s.step, LAYER_STREAMS + k, own, first) for k, own in enumerate(s.layers)
        )
        dtype = (w[0] if isinstance(w, tuple) else w).dtype
        flows, layers = forward(self.net, params, decode_inputs(x, dtype, xp=xp), contexts, xp=xp)
        return params, flows, layers

    def predict(self, w: Array, s: State, x: Any, *, xp: Namespace) -> Array:
        """The predictions for x: the output of the net after the loss's `link`."""
        return self.loss.link(self.forward(w, s, x, training=False, xp=xp)[1][-1].o, xp=xp)

    def losses(
        self, w: Array, s: State, x: Any, t: Array, weight: Array | None = None, *, xp: Namespace
    ) -> Array:
        """The loss of each sample, times its weight, shape (batch,)."""
        o = self.forward(w, s, x, training=False, xp=xp)[1][-1].o
        values = self.loss.value(o, self.loss.encode(t, o, xp=xp), xp=xp)
        return values if weight is None else values * weight

    def evaluate(self, w: Array, s: State, *batch: Any, xp: Namespace) -> tuple[Array, ...]:
        """The sum of a batch's losses, and that of its weights if it has them."""
        return tuple(xp.sum(a) for a in (self.losses(w, s, *batch, xp=xp), *batch[2:]))

    # ------------------------------------------------------------ the second half
    def apply(
        self, w: Array, s: State, gradient: Gradient, *, xp: Namespace, watched: Watched | None = None
    ) -> tuple[Array, State, Array]:
        """The update from a gradient: unscale it, add penalties, clip it as a whole, then apply the rules.

        Args:
            w: the weights; consumed.
            s: the state; consumed.
            gradient: the gradient of the whole batch.
            xp: the namespace of the arrays.
            watched: keeps the values that it wants.
        """
        g, loss, layers = gradient
        mark(xp, "update", "the whole gradient")
        label(xp, loss, "loss")
        if not self.net.layout.learning:
            self._watch_after(self._watch_before(w, watched, xp=xp), w, watched, xp=xp)
            rule = s.rule._replace(count=s.rule.count + 1)
            return w, State(rule, layers, s.step + 1, s.seed, s.scale), loss
        before = self._watch_before(w, watched, xp=xp)
        if s.scale:
            g = _each(g, lambda a: a / s.scale[0])
        if self.penalty is not None:
            g = self._with_penalties(g, w, xp=xp)
        if self.clip is not None:
            given = g if isinstance(g, tuple) else (g,)
            if watched is not None and watched.wants("clip_factor"):
                watched.see(STEP, "clip_factor", self.clip.factor(given, xp=xp))  # type: ignore[attr-defined]
            clipped = self.clip(given, xp=xp)
            g = clipped if isinstance(g, tuple) else clipped[0]
        if watched is not None and watched.wants(*RULE):
            self._watch_rule(g, w, s.rule, watched, xp=xp)
        if s.scale:
            old = loss_scale.kept(w, s.rule, xp=xp)
            new = self.updated(g, w, s.rule, xp=xp)
            w, rule, scale = loss_scale.settled(old, new, s.scale, xp=xp)
            if watched is not None:
                watched.see(STEP, "loss_scale", xp.asarray(s.scale[0], copy=True))
                watched.see(STEP, "applied", xp.all(rule.count > s.rule.count))
        else:
            (w, rule), scale = self.updated(g, w, s.rule, xp=xp), ()
        self._watch_after(before, w, watched, xp=xp)
        if watched is not None and watched.wants("moments_after"):
            watched.see_blocks("moments_after", self._moments(rule, xp=xp))
        return w, State(rule, layers, s.step + 1, s.seed, scale), loss

    def _with_penalties(self, g: Array, w: Array, *, xp: Namespace) -> Array:
        """The gradient of the loss plus that of the penalties."""
        if isinstance(g, tuple):
            own = [a for block, a in zip(self.net.layout.blocks, w, strict=True) if block.learns]
            each = zip(self.penalties, g, own, strict=True)
            return tuple(a if p is None else a + p.gradient(b, xp=xp) for p, a, b in each)
        parts = []
        for penalty, span in groups.parts(self.penalties, self.net.layout, lambda p: p):
            here = g[span.first : span.last]
            own = w[span.start : span.stop]
            parts.append(here if penalty is None else here + penalty.gradient(own, xp=xp))
        return join(parts, xp=xp)

    def penalty_value(self, w: Array, *, xp: Namespace) -> Array:
        """The sum of the penalties on the weights that learn, 0-d; the loss E does not contain it."""
        value = xp.sum(w[:0])
        for penalty, span in groups.parts(self.penalties, self.net.layout, lambda p: p):
            if penalty is not None:
                value = value + penalty.value(w[span.start : span.stop], xp=xp)
        return value

    def averaged(self, w: Array, s: State, *, xp: Namespace) -> Array:
        """The weights, replaced by their averages if their rule keeps one and was used."""
        changed: list[tuple[Span, Array]] = []
        for rule, span in self.parts:
            if isinstance(rule, Averaged):
                own, here = w[span.start : span.stop], slice(span.first, span.last)
                count = s.rule.count[here] if s.rule.count.ndim else s.rule.count
                changed.append((span, xp.where(count > 0, s.rule.moments[rule.moments - 1][here], own)))
        return self.net.layout.merge(w, changed, xp=xp)

    def _watch_before(self, w: Array, watched: Watched | None, *, xp: Namespace) -> dict[str, Array]:
        if watched is None or not watched.wants("w_before", "w_after", "change"):
            return {}
        views = self.net.layout.views(w, xp=xp)
        return {b: xp.asarray(a, copy=True) for b, a in views.items()}

    def _watch_rule(self, g: Array, w: Array, state: RuleState, watched: Watched, *, xp: Namespace) -> None:
        """Keep what the rule of each block is given: gradient, scalars and moments."""
        layout, dtype = self.net.layout, (w[0] if isinstance(w, tuple) else w).dtype
        scalars = {
            b.name: tuple(_own(v, b, layout, xp=xp) for v in rule.scalars(state, dtype=dtype, xp=xp))
            for b, rule in zip(layout.learning, self.rules, strict=True)
        }
        watched.see_blocks("grad_used", self._blocks(g, xp=xp))
        watched.see_blocks("scalars", scalars)
        watched.see_blocks("moments_before", self._moments(state, xp=xp))

    def _moments(self, state: RuleState, *, xp: Namespace) -> dict[str, tuple[Array, ...]]:
        """Copies of the moments of each learning block, as many as its rule has."""
        each = [self._blocks(mapped(m, lambda a: xp.asarray(a, copy=True)), xp=xp) for m in state.moments]
        names = zip(self.net.layout.learning, self.rules, strict=True)
        return {b.name: tuple(m[b.name] for m in each[: rule.moments]) for b, rule in names}

    def _blocks(self, g: Array, *, xp: Namespace) -> dict[str, Array]:
        """A vector over the learning weights by block name."""
        layout = self.net.layout
        parts = g if isinstance(g, tuple) else layout.split_learning(g, xp=xp)
        return {b.name: a for b, a in zip(layout.learning, parts, strict=True)}

    def _watch_after(
        self, before: dict[str, Array], w: Array, watched: Watched | None, *, xp: Namespace
    ) -> None:
        if watched is not None and before:
            after = {b: xp.asarray(a, copy=True) for b, a in self.net.layout.views(w, xp=xp).items()}
            watched.see_blocks("w_before", before)
            watched.see_blocks("w_after", after)
            watched.see_blocks("change", {b: after[b] - before[b] for b in before})

    @cached_property
    def rules(self) -> tuple[Update, ...]:
        """The update rule of each learning block."""
        return groups.rules(self.update, self.net.layout)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Adjacent blocks of one kind of rule, merged."""
        return groups.parts(self.rules, self.net.layout, groups.kind)

    @cached_property
    def rates(self) -> tuple[Any, ...]:
        """The rate of each learning block if rates differ, else ()."""
        return groups.rates(self.update, self.rules)

    @cached_property
    def decays(self) -> tuple[Any, ...]:
        """The weight decay of each learning block if decays differ, else ()."""
        return groups.decays(self.rules)

    @cached_property
    def plateau(self) -> Plateau | None:
        """The Plateau that rules have as their rate; None if there is none."""
        return groups.plateau(self.rules)

    @cached_property
    def penalties(self) -> tuple[Any, ...]:
        """The penalty of each learning block, None for none."""
        return groups.penalties(self.penalty, self.net.layout)

    @cached_property
    def moments(self) -> int:
        """The number of moment vectors that the rules carry from step to step."""
        return max((rule.moments for rule in self.rules), default=0)

    def updated(self, g: Array, w: Array, state: RuleState, *, xp: Namespace) -> tuple[Array, RuleState]:
        """The update rules on the learning weights."""
        layout, split = self.net.layout, isinstance(w, tuple)
        mark(xp, "update", type(self.parts[0].rule) if self.parts else "")
        dtype = (w[0] if split else w).dtype
        scalars = {
            id(rule): rule.scalars(state, dtype=dtype, xp=xp)
            for rule in {id(part.rule): part.rule for part in self.parts}.values()
        }
        if split:
            w, moments = self._updated_blocks(g, w, state.moments, scalars, xp=xp)
        elif len(self.parts) == 1 and len(layout.learning) == len(layout.blocks):
            ((rule, _),) = self.parts
            w, *moments = rule.element(g, w, *state.moments, *scalars[id(rule)], xp=xp)
        else:
            new, columns = [], []
            for rule, span in self.parts:
                here = slice(span.first, span.last)
                own = [m[here] for m in state.moments]
                each = [v[here] if getattr(v, "ndim", 0) else v for v in scalars[id(rule)]]
                changed, own = _element(rule, g[here], w[span.start : span.stop], own, each, xp=xp)
                new.append((span, changed))
                columns.append(own)
            w = layout.merge(w, new, xp=xp)
            moments = [join(list(column), xp=xp) for column in zip(*columns, strict=True)]
        return w, state._replace(count=state.count + 1, moments=tuple(moments))

    def _updated_blocks(
        self,
        g: tuple[Array, ...],
        w: tuple[Array, ...],
        moments: tuple[tuple[Array, ...], ...],
        scalars: dict[int, tuple[Array, ...]],
        *,
        xp: Namespace,
    ) -> tuple[tuple[Array, ...], list[Any]]:
        """The update rules on split weights, block by block."""
        layout, new, columns = self.net.layout, [], []
        rule_of = {block: part.rule for part in self.parts for block in layout.within(part.span)}
        own = iter(zip(g, *moments, strict=True))
        for block, old in zip(layout.blocks, w, strict=True):
            if not block.learns:
                new.append(old)
                continue
            rule, (grad, *mine) = rule_of[block.name], next(own)
            here = layout.gradient_slices[block.name]
            each = [
                xp.reshape(v[here], block.shape) if getattr(v, "ndim", 0) else v for v in scalars[id(rule)]
            ]
            changed, mine = _element(rule, grad, old, mine, each, xp=xp)
            new.append(changed)
            columns.append(mine)
        return tuple(new), list(zip(*columns, strict=True))


def _element(
    rule: Update, g: Array, w: Array, moments: list[Array], scalars: list[Array], *, xp: Namespace
) -> tuple[Array, list[Array]]:
    """New weights and moments of a part; moments beyond those of its rule stay as they are."""
    changed, *own = rule.element(g, w, *moments[: rule.moments], *scalars, xp=xp)
    return changed, [*own, *moments[rule.moments :]]


def _own(v: Any, block: Block, layout: Layout, *, xp: Namespace) -> Any:
    """A block's part of one of a rule's scalars; a single number is for all blocks."""
    return xp.reshape(v[layout.gradient_slices[block.name]], block.shape) if getattr(v, "ndim", 0) else v


def _each(g: Array, function: Any) -> Array:
    """A function applied to a vector, or to each block of a split one."""
    return tuple(map(function, g)) if isinstance(g, tuple) else function(g)
