"""Explained updates: why each weight moved, as data that text, table, picture and page are drawn from.

An explanation is one JSON document (`schema.json`). Its numbers are text, exact on the exact backend; its
sentences are keys of one table (`languages/*.json`), with slots that a view fills. All numbers come from
the library's own walks: a trace of each step, and further forward passes for what is claimed: that a
move alone changes the net input as meant, what the loss would be with this weight alone moved, and each
weight's exact share of the change (`shares`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

from .. import backends
from ..arrays import Array, leaves, mapped
from ..errors import BackpropError, listed
from ..groups import matches
from ..layers import Dense, check_count
from ..learner import Learner
from ..net import Net, Node
from ..printed import settings
from ..step import State
from .flow import same_units
from .notebook import as_html
from .page import TITLE, as_page
from .pictures import picture
from .shares import shares
from .situations import Weight, situation
from .text import as_text
from .trace import LayerTrace, Trace, trace
from .verdict import verdict

SCHEMA, VERSION = "backprop-xp/explained-updates", "1.0"
MOST = 64  # weights and samples that are explained one by one, unless more are asked for
SWEEP = ("-1", "-1/2", "0", "1/2", "1", "3/2", "2", "3", "4")  # multiples of a change

Json = dict[str, Any]
Batch = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Explained updates: a document, and its views.

    Attributes:
        data: the document; see `schema.json` in this package.
    """

    data: Json

    def to_json(self, *, indent: int | None = None) -> str:
        """The document as text."""
        return json.dumps(self.data, ensure_ascii=False, indent=indent)

    def text(self) -> str:
        """Every step as plain text: a table of the weights, why each moved, what became of every sample."""
        return as_text(self.data)

    def picture(self, kind: str = "diagram", path: str | Path | None = None, *, step: int = -1) -> Any:
        """A picture as a matplotlib figure: one of `pictures.PICTURES`; saved to `path`, if one is given."""
        figure = picture(self.data, kind, step)
        if path is not None:
            figure.savefig(path, dpi=160)
        return figure

    def _repr_html_(self) -> str:
        return as_html(self.data)

    def page(self, path: str | Path | None = None, title: str = TITLE) -> str:
        """The page, one HTML file that needs no network; written to `path`, if one is given."""
        found = as_page(self.data, title)
        if path is not None:
            Path(path).write_text(found, encoding="utf-8")
        return found

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        steps = sum(len(run["steps"]) for run in self.data["runs"])
        return f"Explanation({steps} steps; print it, or see .text(), .to_json())"


def sentences(language: str) -> dict[str, str]:
    """The table of sentences of a language.

    Raises:
        BackpropError: there is no such language.

    >>> sentences("en")["move.up"], sentences("de")["move.up"]
    ('So the weight increases by {change}.', 'Also wird das Gewicht um {change} größer.')
    """
    folder = files(__package__).joinpath("languages")
    there = sorted(
        each.name.removesuffix(".json") for each in folder.iterdir() if each.name.endswith(".json")
    )
    if language not in there:
        msg = f"there are no sentences in {language!r}; there are {listed(there)}"
        raise BackpropError(msg)
    return dict(json.loads(folder.joinpath(f"{language}.json").read_text(encoding="utf-8")))


def explain(
    learner: Learner,
    w: Array,
    s: State,
    *batch: Any,
    batch_size: int = 1,
    epochs: int = 1,
    labels: Mapping[str, Sequence[str]] | None = None,
    layers: str | Iterable[str] = "*",
    most: int = MOST,
    language: str = "en",
    title: str = "",
) -> Explanation:
    """Why each weight moves in the steps that learn from these rows, in their order; w and s are not changed.

    Args:
        learner: makes the steps.
        w: the weights.
        s: the state.
        batch: x, t and, if wanted, weights of rows.
        batch_size: rows of a step; with 1, each sample is explained by itself, with more, the samples vote.
        epochs: passes over the rows.
        labels: names of "inputs", "outputs" and "samples", each a list.
        layers: whose weights are explained: names or patterns of layers or blocks.
        most: how many weights of a step are explained, those that moved most; and how many samples are
            shown unit by unit.
        language: of the sentences, "en" or "de".
        title: of the page.

    Raises:
        BackpropError: a batch that does not fit, labels of the wrong number, an unknown language.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.layers.Linear(1, bias=False)), update=bp.GradientDescent("1/10"))
    >>> w, s = learner.init(backend="exact", weights={"dense1.w": [[1], [0]]})
    >>> x, t = (bp.asarray(a, like=w) for a in ([[1, -2]], [[3]]))
    >>> why = explain(learner, w, s, x, t).data["runs"][0]["steps"][0]["why"][1]
    >>> why["change"], why["says"][:4]
    ('-2/5', ['lower', 'want.up', 'input.-', 'move.down'])
    """
    batch_size = check_count(batch_size, "the batch size")
    most = check_count(most, "the number of weights")
    patterns = [layers] if isinstance(layers, str) else list(layers)
    learner.check(w, s, *batch)
    named = _Labels(learner, batch, labels or {})
    steps, n = [], leaves(batch)[0].shape[0]
    for start in list(range(0, n, batch_size)) * check_count(epochs, "the number of epochs"):
        rows = range(start, min(start + batch_size, n))
        part = _rows(batch, rows)
        found = trace(learner, w, s, *part)
        after, s_after, _ = learner.step(*learner.snapshot(w, s), *part)
        steps.append(_Step(learner, w, after, s, batch, part, rows, found, named, patterns, most).document())
        w, s = after, s_after
    run = {
        "id": "run",
        "title": title,
        "arithmetic": _arithmetic(w),
        "net": _net(learner, named),
        "rule": settings(learner.update),
        "frozen": sorted(learner.net.frozen),
        "samples": named.samples(batch),
        "steps": steps,
    }
    return Explanation(
        {
            "schema": SCHEMA,
            "version": VERSION,
            "language": language,
            "sentences": sentences(language),
            "runs": [run],
        }
    )


def text(a: Any) -> Any:
    """An array's numbers as nested lists of text, without loss: fractions as they are, floats by repr."""
    values = a.tolist() if backends.of(a).name == "exact" else backends.host(a).tolist()
    return _texts(values)


def _texts(values: Any) -> Any:
    if isinstance(values, list):
        return [_texts(each) for each in values]
    return repr(values) if isinstance(values, float) else str(values)


def _rows(batch: tuple[Any, ...], rows: range) -> tuple[Any, ...]:
    part: tuple[Any, ...] = mapped(batch, lambda a: a[rows.start : rows.stop, ...])
    return part


def _arithmetic(w: Array) -> Json:
    to = backends.of(w)
    kind = str(w.dtype).rpartition(".")[2]
    return {"backend": to.name, "dtype": kind, "exact": to.name == "exact"}


def _net(learner: Learner, named: "_Labels") -> Json:
    layers = []
    for node, shape in zip(learner.net.nodes, learner.net.outputs, strict=True):
        f = getattr(node.layer, "f", None)
        layers.append({
            "name": node.name,
            "kind": type(node.layer).__name__.lower(),
            "activation": None if f is None else settings(f),
            "units": shape[-1],
            "inputs": list(node.inputs),
            "labels": named.units[node.name],
            "blocks": [b for b in learner.net.shapes if b.rpartition(".")[0] == node.name],
        })  # fmt: skip
    return {"layers": layers, "loss": settings(learner.loss), "reduction": learner.reduction}


class _Labels:
    """The names of units and samples."""

    def __init__(self, learner: Learner, batch: tuple[Any, ...], given: Mapping[str, Sequence[str]]) -> None:
        if unknown := set(given) - {"inputs", "outputs", "samples"}:
            msg = f"labels are for 'inputs', 'outputs' and 'samples', got {listed(sorted(unknown))}"
            raise BackpropError(msg)
        net, n = learner.net, leaves(batch)[0].shape[0]
        self.units = {
            node.name: _unit_names(node.name, shape[-1], k == 0)
            for k, (node, shape) in enumerate(zip(net.nodes, net.outputs, strict=True))
        }
        for what, name in (("inputs", net.nodes[0].name), ("outputs", net.nodes[-1].name)):
            self.units[name] = _checked(given.get(what), self.units[name], what)
        passing = [n for n in net.nodes if len(n.inputs) == 1 and not n.layer.params(*_shapes(net, n))]
        given_names = {net.nodes[0].name}
        for node in passing:  # what only passes on the units of another layer has the same names: the inputs'
            if node.inputs[0] in given_names:
                self.units[node.name] = self.units[node.inputs[0]]
                given_names.add(node.name)
        for node in reversed(passing):  # … or those of what comes last
            if node.inputs[0] not in given_names:
                self.units[node.inputs[0]] = self.units[node.name]
        self.rows = _checked(given.get("samples"), [str(k + 1) for k in range(n)], "samples")
        self.net = net

    def samples(self, batch: tuple[Any, ...]) -> list[Json]:
        """Each sample's inputs and targets."""
        x, t = text(leaves(batch[0])[0]), text(batch[1])
        rows = zip(x, t, self.rows, strict=True)
        return [{"x": a, "t": b if isinstance(b, list) else [b], "label": name} for a, b, name in rows]

    def inputs(self, layer: str) -> list[str]:
        """The names of the units that a layer with one input reads."""
        return self.units[next(node.inputs[0] for node in self.net.nodes if node.name == layer)]


def _shapes(net: Net, node: Node) -> list[Any]:
    shapes = dict(zip((each.name for each in net.nodes), net.outputs, strict=True))
    return [shapes[name] for name in node.inputs]


def _unit_names(layer: str, units: int, first: bool) -> list[str]:
    if first:
        return [f"x{k + 1}" for k in range(units)]
    return [layer] if units == 1 else [f"{layer}.{k + 1}" for k in range(units)]


def _checked(given: Sequence[str] | None, usual: list[str], what: str) -> list[str]:
    if given is None:
        return usual
    if len(given) != len(usual):
        msg = f"there are {len(usual)} {what}, got {len(given)} labels: {listed(list(given))}"
        raise BackpropError(msg)
    return [str(each) for each in given]


class _Step:
    """One step, explained."""

    def __init__(
        self, learner: Learner, w: Array, after: Array, s: State, data: Batch, part: Batch,
        rows: range, found: Trace, named: _Labels, patterns: list[str], most: int,
    ) -> None:  # fmt: skip
        self.learner, self.w, self.after, self.s = learner, w, after, s
        self.data, self.part, self.rows, self.trace = data, part, rows, found
        self.named, self.patterns, self.most = named, patterns, most
        self.layout, self.xp = learner.net.layout, backends.of(w).xp
        self.own = shares(learner, w, after, s, *part)

    def document(self) -> Json:
        """The step as data."""
        learner, own = self.learner, self.own
        needed = {node.name for k, node in enumerate(learner.net.nodes) if k in learner.net.path}
        chosen = [self.why(*each) for each in self.chosen()]
        return {
            "rows": list(self.rows),
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

    # ------------------------------------------------------------ unit by unit
    def sample(self, k: int) -> Json:
        """What each unit computed for one of the step's rows: forward, and backward."""
        forward, backward = {}, {}
        for n, (node, layer) in enumerate(zip(self.learner.net.nodes, self.trace.layers, strict=True)):
            forward[layer.name] = {"net": text(layer.net[k, ...]), "o": text(layer.o[k, ...])}
            if layer.delta is not None and layer.e is not None:
                backward[layer.name] = {"e": text(layer.e[k, ...]), "delta": text(layer.delta[k, ...])}
                if hasattr(node.layer, "f"):
                    backward[layer.name]["slope"] = text(self._slopes(n)[k, ...])
            if isinstance(node.layer, Dense):
                x = self._input(layer.name)[k, :]
                p = layer.w_before["w"]
                forward[layer.name]["terms"] = text(x[:, None] * p)
                if layer.delta is not None:
                    backward[layer.name]["terms"] = text(p * layer.delta[k, :][None, :])
        return {"row": self.rows[k], "forward": forward, "backward": backward}

    def _slopes(self, k: int) -> Array:
        """f′(net) of every unit of node k: what an error of 1 becomes; 1 where there is no activation."""
        f, found = getattr(self.learner.net.nodes[k].layer, "f", None), self.trace.layers[k]
        one = self.xp.ones_like(found.net)
        return one if f is None else f.delta(one, found.net, found.o, xp=self.xp)

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
        if not blocks:
            msg = f"the net has no {listed(self.patterns)}; there are {listed(self.learner.net.shapes)}"
            raise BackpropError(msg)
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
            row["slope"] = prod(self._slopes(k)[0, unit] for k in same)
            row["input"] = None if inputs is None else inputs[0, at[0]]
        votes = None
        if len(self.rows) > 1 and dense and layer.delta is not None:
            each = layer.delta[:, unit] * (1 if inputs is None else inputs[:, at[0]])
            signs = [_sign(each[k]) for k in range(len(self.rows))]
            votes = {"up": signs.count(-1), "down": signs.count(1), "stay": signs.count(0)}
        t = self.part[1]
        output = None
        if len(self.rows) == 1 and t.ndim == 2 and t.shape[1] == 1:
            output = self.trace.layers[-1].o[0, 0], t[0, 0]
        return Weight(
            unit=self.named.units[layer.name][unit],
            source="" if inputs is None else self.named.inputs(layer.name)[at[0]],
            bias=p == "b" and dense,
            learns=learns,
            activation=next((kind for kind in kinds if kind not in ("Identity", "NoneType")), "Identity"),
            grad=grad,
            change=change,
            output=output,
            votes=votes,
            **row,
        )

    def _claims(self, place: int, layer: LayerTrace, weight: Weight) -> Json:
        """What is measured of a weight's move: on its unit's net input, and on the loss, alone and swept."""
        found: Json = {}
        change = self.after[place] - self.w[place]
        alone = self._alone(place, change)
        found |= {"alone_loss": text(alone.loss), "worse": bool(alone.loss > self.own.loss)}
        if weight.delta is not None:
            k = next(k for k, node in enumerate(self.learner.net.nodes) if node.name == layer.name)
            unit = self.named.units[layer.name].index(weight.unit)
            found["own_net"] = text(alone.flows[k].net[0, unit] - layer.net[0, unit])
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
        part = _rows(self.data, range(row, row + 1))
        own = shares(self.learner, self.w, self.after, self.s, *part)
        outputs = [
            text(self.learner.pure.predict(w, self.s, part[0], xp=self.xp)[0, ...])
            for w in (self.w, self.after)
        ]
        small = self.layout.size <= self.most
        return {
            "sample": row,
            "output": outputs[0],
            "output_after": outputs[1],
            "loss": text(own.loss),
            "loss_after": text(own.loss_after),
            "change": text(own.loss_after - own.loss),
            "first_order": text(own.first_order),
            "shares": {block: text(a) for block, a in own.blocks.items()} if small else {},
            "residual": text(own.residual),
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
