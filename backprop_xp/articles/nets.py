"""The nets of the articles: a learner built from an example's data, and the numbers of its steps.

Every example is described in one general form: layers in order, each with the article's weights (out ×
in there, in × out here). Node k of the net is the article's value k: "v0" is the input, "v1" the output
of the first layer. All results are plain Python numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

from .. import activations, backends, losses
from ..activations import LeakyReLU
from ..arrays import Array, Namespace
from ..errors import BackpropError, listed
from ..layers import Activate, Input, Layer, Linear
from ..learner import Learner
from ..losses import Loss
from ..net import Net, Node, add, chain, concat, named
from ..step import Reduction, State
from ..updates import GradientDescent
from ..watch import Watched

Inputs = Mapping[str, Any]
Number = Any  # a Fraction where the arithmetic is exact, else a float
Vector = list[Number]
Samples = Sequence[tuple[Sequence[Number], Sequence[Number]]]

LOSSES: dict[str, Loss] = {
    **losses.ALL,
    "squared_error_sum": losses.squared_error,
    "mse": losses.mean_squared_error,
    "mae": losses.mean_absolute_error,
}
REDUCTIONS: dict[str, Reduction] = {"per_sample": "mean", "batch_mean": "mean", "batch_sum": "sum"}


@dataclass(frozen=True)
class Arithmetic:
    """The backend and dtype an example is computed with.

    Args:
        backend: by name; 'exact' computes with fractions.
        dtype: of the backend; without one 'rational' on 'exact', else 'float64'.

    >>> Arithmetic("exact").number("-3000/11600000"), Arithmetic("numpy").number("1/8")
    (Fraction(-3, 11600), 0.125)
    """

    backend: str = "exact"
    dtype: str | None = None

    @property
    def exact(self) -> bool:
        """Whether numbers are fractions."""
        return self.backend == "exact"

    @property
    def kind(self) -> str:
        """The name of the dtype."""
        return self.dtype or ("rational" if self.exact else "float64")

    @property
    def xp(self) -> Namespace:
        """The namespace of the backend."""
        return backends.get(self.backend).xp

    def number(self, text: Any) -> Number:
        """One number, from text such as '1/3'; None stays None."""
        if text is None:
            return None
        return Fraction(text) if self.exact else float(Fraction(text))

    def numbers(self, data: Any) -> Any:
        """Nested lists of numbers, from nested lists of text."""
        return [self.numbers(each) for each in data] if isinstance(data, list) else self.number(data)

    def array(self, data: Any) -> Array:
        """An array of the backend, from nested lists of text or numbers."""
        return backends.asarray(self.numbers(list(data)), backend=self.backend, dtype=self.kind)

    def plain(self, a: Array) -> Any:
        """Nested lists of numbers, from an array."""
        return (a if self.exact else backends.host(a)).tolist()


class SampleValues(NamedTuple):
    """The numbers of one sample in a net, by the number of the node.

    Attributes:
        o: the output of each node.
        e: ∂E/∂o of each node the learning flow (the backward pass) visits, last first.
        delta: ∂E/∂net, likewise.
        grad: ∂E/∂w of each block, in × out.
        loss: E; None if the error e was given instead of a target.
    """

    o: list[Vector]
    e: dict[int, Vector]
    delta: dict[int, Vector]
    grad: dict[str, Any]
    loss: Number


@dataclass(frozen=True)
class Model:
    """A learner with its weights; immutable: a step returns a new model.

    Args:
        learner: net, loss and plain gradient descent.
        w: its weights.
        s: its state.
        arithmetic: the backend and dtype.
    """

    learner: Learner
    w: Array
    s: State
    arithmetic: Arithmetic

    @staticmethod
    def of(learner: Learner, weights: Mapping[str, Any], arithmetic: Arithmetic) -> "Model":
        """A model with these weights by block name, in × out."""
        values = {block: arithmetic.numbers(value) for block, value in weights.items()}
        w, s = learner.init(backend=arithmetic.backend, dtype=arithmetic.kind, weights=values)
        return Model(learner, w, s, arithmetic)

    @property
    def weights(self) -> dict[str, Any]:
        """The blocks by name, in × out."""
        return {block: self.arithmetic.plain(value) for block, value in self.learner.weights(self.w).items()}

    def sample(self, x: Sequence[Any], t: Sequence[Any], *, to_input: bool = True) -> SampleValues:
        """The numbers of one sample: forward pass, loss and learning flow, without an update."""
        step = replace(self.learner.pure, to_input=to_input)
        watched = Watched(step.net, "*", to_input=to_input)
        found = step.gradient(self.w, self.s, *self._rows([(x, t)]), xp=self.arithmetic.xp, watched=watched)
        seen = SampleValues([], {}, {}, {}, self.arithmetic.plain(found.loss))
        self._show(seen, watched)
        return seen

    def flow(self, x: Sequence[Any], e: Sequence[Any]) -> SampleValues:
        """The numbers of one sample if the error e = ∂E/∂o at the output is given."""
        xs, es = self._rows([(x, e)])
        step = replace(self.learner.pure, loss=_GivenError(), reduction="sum", to_input=True)
        watched = Watched(step.net, "*", to_input=True)
        step.gradient(self.w, self.s, xs, es, xp=self.arithmetic.xp, watched=watched)
        seen = SampleValues([], {}, {}, {}, None)
        self._show(seen, watched)
        return seen

    def _show(self, seen: SampleValues, watched: Watched) -> None:
        plain = self.arithmetic.plain
        for k in range(len(watched.net.nodes)):
            seen.o.append(plain(watched.seen[k, "o"])[0])
        for (k, field), value in sorted(watched.seen.items(), key=lambda item: -item[0][0]):
            if field in ("e", "delta"):
                getattr(seen, field)[k] = plain(value)[0]
            elif field == "grad":
                name = watched.net.nodes[k].name
                seen.grad.update((f"{name}.{p}", plain(grad)) for p, grad in value.items())

    def batch(self, samples: Samples) -> tuple[Number, dict[str, Any]]:
        """The loss of all samples as one batch, and ∂E/∂w by block."""
        x, t = self._rows(samples)
        loss = self.learner.pure.forward_loss(self.w, self.s, x, t, xp=self.arithmetic.xp).loss
        grads = self.learner.gradient(self.w, self.s, x, t)
        plain = self.arithmetic.plain
        return plain(loss), {block: plain(grad) for block, grad in grads.items()}

    def losses(self, samples: Samples) -> Vector:
        """The loss of each sample."""
        found: Vector = self.arithmetic.plain(self.learner.losses(self.w, self.s, *self._rows(samples)))
        return found

    def step(self, samples: Samples, frozen: Iterable[str] = ()) -> "Model":
        """The model after one update from all samples; the layers or blocks in `frozen` do not learn.

        The state is not updated: plain gradient descent does not depend on it.
        """
        learner, w, s = self.learner.freeze(list(frozen), *self.learner.snapshot(self.w, self.s))
        w, _, _ = learner.step(w, s, *self._rows(samples))
        return replace(self, w=w)

    def descend(self, grad: Mapping[str, Any]) -> "Model":
        """The model after one update from a given gradient."""
        xp = self.arithmetic.xp
        g = self.learner.net.layout.pack({b: self.arithmetic.array(v) for b, v in grad.items()}, xp=xp)
        w, s = self.learner.snapshot(self.w, self.s)
        return replace(self, w=self.learner.pure.updated(g, w, s.rule, xp=xp)[0])

    def _rows(self, samples: Samples) -> tuple[Array, Array]:
        array = self.arithmetic.array
        return array([list(x) for x, _ in samples]), array([list(t) for _, t in samples])


class _GivenError(Loss):
    """A loss whose error is the target: for samples whose error at the output is given."""

    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """E = Σ_k t_k o_k."""
        return xp.sum(o * t, axis=-1)

    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = t."""
        return t


def transposed(matrix: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The transpose of a matrix in nested lists: out × in to in × out, or back.

    >>> transposed([[1, 2, 3]])
    [[1], [2], [3]]
    """
    return [list(column) for column in zip(*matrix, strict=True)]


def linear(weights: Sequence[Sequence[Any]], bias: Sequence[Any] | None = None) -> dict[str, Any]:
    """A linear layer in the general form, with weights out × in."""
    return {"kind": "linear", "W": weights, "b": bias}


def rectifier(slope: Any = "0") -> dict[str, Any]:
    """A ReLU in the general form, leaky if the slope is not 0."""
    return {"kind": "leaky_relu", "slope": slope} if Fraction(slope) else {"kind": "relu"}


def make(layer: Inputs, arithmetic: Arithmetic) -> Layer | Node:
    """The library's layer for a layer in the general form.

    Raises:
        BackpropError: there is no layer of this kind.
    """
    kind = layer["kind"]
    if kind == "linear":
        return Linear(len(layer["W"]), bias=layer["b"] is not None)
    if kind == "leaky_relu":
        return Activate(LeakyReLU(arithmetic.number(layer["slope"])))
    if kind in activations.ALL:
        return Activate(activations.ALL[kind])
    if kind in ("add_skip", "concat_skip"):
        return (add if kind == "add_skip" else concat)(f"v{layer['from']}")
    known = listed(["linear", "add_skip", "concat_skip", *activations.ALL])
    msg = f"a layer of an article must be one of {known}, got {kind!r}"
    raise BackpropError(msg)


def weighted(layers: Sequence[Inputs]) -> dict[str, Inputs]:
    """The layers that have weights, by the name of their node."""
    return {f"v{k}": layer for k, layer in enumerate(layers, 1) if layer["kind"] == "linear"}


def build(layers: Sequence[Inputs], arithmetic: Arithmetic) -> Net:
    """The library's net for the general form; its nodes are named v0, v1, …."""
    features = len(next(iter(weighted(layers).values()))["W"][0])
    nodes = [named(f"v{k}", make(layer, arithmetic)) for k, layer in enumerate(layers, 1)]
    return chain(named("v0", Input(features)), *nodes)


def model(inputs: Inputs, arithmetic: Arithmetic) -> Model:
    """The model of an example in the general form.

    Args:
        inputs: layers and loss; optionally rate or rate_per_layer, saturation, mode.
        arithmetic: the backend and dtype.

    >>> m = model({"layers": [linear([["1/2", "3"]])], "loss": "half_squared_error"}, Arithmetic())
    >>> seen = m.sample(["2", "1"], ["5"])
    >>> seen.o[1], seen.grad["v1.w"]
    ([Fraction(4, 1)], [[Fraction(-2, 1)], [Fraction(-1, 1)]])
    """
    layers = weighted(inputs["layers"])
    rate = arithmetic.number(inputs.get("rate", "1"))
    if "rate_per_layer" in inputs:
        rate = dict(zip(layers, arithmetic.numbers(inputs["rate_per_layer"]), strict=True))
    update = GradientDescent(rate, limit=arithmetic.number(inputs.get("saturation")))
    reduction = REDUCTIONS[inputs.get("mode", "per_sample")]
    learner = Learner(build(inputs["layers"], arithmetic), LOSSES[inputs["loss"]], update, reduction)
    weights = {f"{v}.w": transposed(layer["W"]) for v, layer in layers.items()}
    weights |= {f"{v}.b": layer["b"] for v, layer in layers.items() if layer["b"] is not None}
    return Model.of(learner, weights, arithmetic)
