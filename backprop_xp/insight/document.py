"""One step of an explanation as data: unit by unit, weight by weight, sample by sample."""

from fractions import Fraction
from math import prod
from typing import Any

from .. import backends
from ..arrays import Array, leaves, mapped
from ..groups import matches
from ..layers import Dense
from ..learner import Learner
from ..step import State
from .flow import same_units, slopes_of, trains_otherwise
from .labels import Labels, text
from .shares import shares
from .situations import Weight, situation
from .trace import LayerTrace, trace
from .verdict import verdict

SWEEP = ("-1", "-1/2", "0", "1/2", "1", "3/2", "2", "3", "4")  # multiples of a change

Json = dict[str, Any]
Batch = tuple[Any, ...]


def of_rows(batch: Batch, rows: range) -> Batch:
    """Some rows of a batch."""
    part: Batch = mapped(batch, lambda a: a[rows.start : rows.stop, ...])
    return part


class ExplainedStep:
    """One step, explained.

    Args:
        learner: made the step.
        w: the weights before it.
        after: the weights after it.
        s: the state before it.
        data: all rows.
        rows: those of the step.
        named: the names of units and samples.
        patterns: of the layers and blocks whose weights are explained.
        most: weights that are explained, samples that are shown, numbers of a block that is shown.
    """

    def __init__(
        self, learner: Learner, w: Array, after: Array, s: State, data: Batch, rows: range,
        named: Labels, patterns: list[str], most: int,
    ) -> None:  # fmt: skip
        self.learner, self.w, self.after, self.s = learner, w, after, s
        self.data, self.part, self.rows = data, of_rows(data, rows), rows
        self.named, self.patterns, self.most = named, patterns, most
        self.layout, self.xp = learner.net.layout, backends.of(w).xp
        self.trace = trace(learner, w, s, *self.part)
        self.own = shares(learner, w, after, s, *self.part)
        self.outcome = self._outcome()

    def document(self) -> Json:
        """The step as data."""
        learner, own = self.learner, self.own
        needed = {node.name for k, node in enumerate(learner.net.nodes) if k in learner.net.path}
        chosen = [self.why(*each) for each in self.chosen()]
        return {
            "rows": list(self.rows),
            "outcome": None
            if self.outcome is None
            else dict(zip("ot", map(text, self.outcome), strict=True)),
            "loss": text(own.loss),
            "loss_after": text(own.loss_after),
            "first_order": text(own.first_order),
            "residual": text(own.residual),
            "samples": [self.sample(k) for k in range(min(len(self.rows), self.most))],
            "weights": self.weights(),
            "not_needed": [node.name for node in learner.net.nodes if node.name not in needed],
            "why": chosen,
            "effect": [self.effect(k) for k in range(min(leaves(self.data)[0].shape[0], self.most))],
            "verdict": verdict(learner, self.w, self.s, *self.part),
        }

    def _outcome(self) -> tuple[Array, Array] | None:
        """What the model gave, as `predict` returns it, and what was expected, where both are one number."""
        loss, t = self.learner.loss, self.part[1]
        if len(self.rows) > 1 or t.ndim != 2 or t.shape[1] != 1 or loss.targets == "signs":
            return None
        return loss.link(self.trace.layers[-1].o, xp=self.xp)[0, 0], t[0, 0]

    # ------------------------------------------------------------ unit by unit
    def sample(self, k: int) -> Json:
        """What each unit computed for one of the step's rows: forward, and backward."""
        forward, backward = {}, {}
        for node, layer in zip(self.learner.net.nodes, self.trace.layers, strict=True):
            forward[layer.name] = {"net": text(layer.net[k, ...]), "o": text(layer.o[k, ...])}
            if layer.delta is not None and layer.e is not None:
                backward[layer.name] = {"e": text(layer.e[k, ...]), "delta": text(layer.delta[k, ...])}
                slopes = slopes_of(node.layer, layer, self.xp)
                if slopes is not None:
                    backward[layer.name]["slope"] = text(slopes[k, ...])
            if isinstance(node.layer, Dense):
                x = self._input(layer.name)[k, :]
                p = layer.w_before["w"]
                forward[layer.name]["terms"] = text(x[:, None] * p)
                if layer.delta is not None:
                    backward[layer.name]["terms"] = text(p * layer.delta[k, :][None, :])
        return {"row": self.rows[k], "forward": forward, "backward": backward}

    def _input(self, layer: str) -> Array:
        """The input of a layer that has one."""
        node = next(node for node in self.learner.net.nodes if node.name == layer)
        return self.trace[node.inputs[0]].o

    def weights(self) -> Json:
        """Every block before, its gradient, its change, after; large blocks are left out."""
        found = {}
        for layer in self.trace.layers:
            for p, before in layer.w_before.items():
                if prod(before.shape) <= self.most:
                    grad = layer.grad.get(p)
                    found[f"{layer.name}.{p}"] = {
                        "before": text(before),
                        "grad": None if grad is None else text(grad),
                        "change": text(layer.change[p]),
                        "after": text(layer.w_after[p]),
                    }
        return found

    # ------------------------------------------------------------ weight by weight
    def chosen(self) -> list[tuple[str, int]]:
        """The weights to explain: a block and a position in it, the largest moves if there are many."""
        blocks = [b for b in self.layout.blocks if any(matches(each, b.name) for each in self.patterns)]
        places = [(b.name, k) for b in blocks for k in range(b.stop - b.start)]
        if len(places) <= self.most:
            return places
        host = backends.host(self.after - self.w)
        moved = {b.name: abs(host[b.start : b.stop]) for b in blocks}
        largest = sorted(places, key=lambda each: -float(moved[each[0]][each[1]]))[: self.most]
        return sorted(largest, key=places.index) if len(places) < 1 << 16 else largest

    def why(self, block: str, k: int) -> Json:
        """Why one weight moved, or did not."""
        own = next(b for b in self.layout.blocks if b.name == block)
        name, _, p = block.rpartition(".")
        layer = self.trace[name]
        at = _position(k, own.shape)
        before, after = self.w[own.start + k], self.after[own.start + k]
        change = after - before
        weight = self._weight(layer, p, at, learns=own.learns, change=change)
        found: Json = {
            "block": block, "at": list(at), "before": text(before), "change": text(change),
            "after": text(after), "grad": text(weight.grad) if own.learns else None,
            "unit": weight.unit, "from": weight.source, "input": _text(weight.input),
            "delta": _text(weight.delta), "e": _text(weight.e), "net": _text(weight.net),
            "slope": _text(weight.slope), "votes": weight.votes,
        }  # fmt: skip
        if own.learns and bool(change != 0):
            found |= self._claims(own.start + k, layer, weight)
            share = self.own.blocks[block][at]
            found |= {"share": text(share), "percent": _percent(share, self.own.loss_after - self.own.loss)}
        return found | {"says": situation(weight, found)}

    def _weight(
        self, layer: LayerTrace, p: str, at: tuple[int, ...], *, learns: bool, change: Array
    ) -> Weight:
        """What a weight's sentences are about."""
        net = self.learner.net
        place = next(k for k, node in enumerate(net.nodes) if node.name == layer.name)
        same = same_units(net, place)
        e: Any = self.trace.layers[same[-1]].e
        kinds = [type(getattr(net.nodes[k].layer, "f", None)).__name__ for k in same]
        dense = isinstance(net.nodes[place].layer, Dense)
        unit = at[-1] if at and at[-1] < layer.net.shape[-1] else 0
        inputs = self._input(layer.name) if dense and p == "w" else None
        grad = layer.grad[p][at] if learns else None
        one = len(self.rows) == 1 and dense
        row: Json = {}
        if one and layer.delta is not None:
            row = {"delta": layer.delta[0, unit], "e": e[0, unit], "net": layer.net[0, unit]}
            found = [slopes_of(net.nodes[k].layer, self.trace.layers[k], self.xp) for k in same]
            known = [each[0, unit] for each in found if each is not None]
            row["slope"] = prod(known) if known else None
            row["input"] = None if inputs is None else inputs[0, at[0]]
        votes = None
        if len(self.rows) > 1 and dense and layer.delta is not None:
            each = layer.delta[:, unit] * (1 if inputs is None else inputs[:, at[0]])
            signs = [_sign(each[k]) for k in range(len(self.rows))]
            votes = {"up": signs.count(-1), "down": signs.count(1), "stay": signs.count(0)}
        return Weight(
            place=unit,
            last=same[-1] == len(net.nodes) - 1,
            unit=self.named.units[layer.name][unit],
            source="" if inputs is None else self.named.inputs(layer.name)[at[0]],
            bias=p == "b" and dense,
            learns=learns,
            activation=next((kind for kind in kinds if kind not in ("Identity", "NoneType")), "Identity"),
            grad=grad,
            change=change,
            output=self.outcome,
            votes=votes,
            **row,
        )

    def _claims(self, place: int, layer: LayerTrace, weight: Weight) -> Json:
        """What a weight's move does alone: to its unit's net input and, whole and scaled, to the loss."""
        found: Json = {}
        change = self.after[place] - self.w[place]
        alone = self._alone(place, change)
        found |= {"alone_loss": text(alone.loss), "worse": bool(alone.loss > self.own.loss)}
        if weight.delta is not None:
            k = next(k for k, node in enumerate(self.learner.net.nodes) if node.name == layer.name)
            found["own_net"] = text(alone.flows[k].net[0, weight.place] - layer.net[0, weight.place])
        exact = backends.of(self.w).name == "exact"
        factors = backends.asarray([v if exact else float(Fraction(v)) for v in SWEEP], like=self.w)
        swept = [self._alone(place, change * factors[j]).loss for j in range(len(SWEEP))]
        return found | {"sweep": [[factor, text(loss)] for factor, loss in zip(SWEEP, swept, strict=True)]}

    def _alone(self, place: int, change: Array) -> Any:
        """The forward pass with one weight moved alone."""
        xp = self.xp
        moved = xp.concat([self.w[:place], xp.reshape(self.w[place] + change, (1,)), self.w[place + 1 :]])
        return self.learner.pure.forward_loss(moved, self.s, *self.part, xp=xp)

    # ------------------------------------------------------------ sample by sample
    def effect(self, row: int) -> Json:
        """What the step did to the loss of one sample of the data, by weight."""
        part, pure = of_rows(self.data, range(row, row + 1)), self.learner.pure
        outputs = [pure.predict(w, self.s, part[0], xp=self.xp)[0, ...] for w in (self.w, self.after)]
        found: Json = {"sample": row, "output": text(outputs[0]), "output_after": text(outputs[1])}
        if trains_otherwise(self.learner):  # a row alone would have another loss in training
            loss, after = (pure.losses(w, self.s, *part, xp=self.xp)[0] for w in (self.w, self.after))
            found |= {"loss": text(loss), "loss_after": text(after), "change": text(after - loss)}
            return found | {"shares": {}}
        own = shares(self.learner, self.w, self.after, self.s, *part)
        small = self.layout.size <= self.most
        return found | {
            "loss": text(own.loss),
            "loss_after": text(own.loss_after),
            "change": text(own.loss_after - own.loss),
            "first_order": text(own.first_order),
            "residual": text(own.residual),
            "shares": {block: text(a) for block, a in own.blocks.items()} if small else {},
        }


def _text(a: Any) -> Any:
    return None if a is None else text(a)


def _sign(a: Any) -> int:
    return int(bool(a > 0)) - int(bool(a < 0))


def _percent(share: Any, change: Any) -> str | None:
    return None if not bool(change != 0) else text(share / change * 100)


def _position(k: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The indices of the k-th number of an array, in order.

    >>> _position(5, (2, 3))
    (1, 2)
    """
    found: list[int] = []
    for n in reversed(shape):
        k, last = divmod(k, n)
        found.insert(0, last)
    return tuple(found)
