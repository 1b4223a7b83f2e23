"""The names of units and samples in an explanation."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from .. import backends
from ..arrays import leaves
from ..errors import BackpropError, listed
from ..learner import Learner
from ..net import Net, Node


def text(a: Any) -> Any:
    """An array's numbers as nested lists of text, without loss: fractions as they are, floats by repr.

    Raises:
        BackpropError: a fraction has more than 4,300 digits.
    """
    values = a.tolist() if backends.of(a).name == "exact" else backends.host(a).tolist()
    return _texts(values)


def _texts(values: Any) -> Any:
    if isinstance(values, list):
        return [_texts(each) for each in values]
    try:
        return repr(values) if isinstance(values, float) else str(values)
    except ValueError as error:  # Python writes integers of at most 4,300 digits
        msg = (
            "a fraction has become too long to be written: explain fewer or earlier steps, or floats, by "
            "learner.init(dtype='float64')"
        )
        raise BackpropError(msg) from error


class Labels:
    """The names of units and samples.

    Args:
        learner: has the net.
        batch: the rows.
        given: names of "inputs" (of all inputs, in the net's order), "outputs" and "samples".

    Raises:
        BackpropError: other keys, or another number of names.
    """

    def __init__(self, learner: Learner, batch: tuple[Any, ...], given: Mapping[str, Sequence[str]]) -> None:
        if unknown := set(given) - {"inputs", "outputs", "samples"}:
            msg = f"labels are for 'inputs', 'outputs' and 'samples', got {listed(sorted(unknown))}"
            raise BackpropError(msg)
        self.net, n = learner.net, leaves(batch)[0].shape[0]
        shapes = dict(zip((node.name for node in self.net.nodes), self.net.outputs, strict=True))
        self.units = {name: _unit_names(name, shape[-1]) for name, shape in shapes.items()}
        inputs = list(self.net.inputs)
        first = [f"x{k + 1}" for k in range(sum(shapes[name][-1] for name in inputs))]
        first = _checked(given.get("inputs"), first, "inputs")
        for name in inputs:
            self.units[name], first = first[: shapes[name][-1]], first[shapes[name][-1] :]
        last = self.net.nodes[-1].name
        self.units[last] = _checked(given.get("outputs"), self.units[last], "outputs")
        self._pass_on(inputs)
        self.rows = _checked(given.get("samples"), [str(k + 1) for k in range(n)], "samples")

    def _pass_on(self, inputs: list[str]) -> None:
        """A layer without parameters takes the names of the units it passes on, inputs or outputs."""
        passing = [
            n for n in self.net.nodes if len(n.inputs) == 1 and not n.layer.params(*_shapes(self.net, n))
        ]
        named = set(inputs)
        for node in passing:
            if node.inputs[0] in named:
                self.units[node.name] = self.units[node.inputs[0]]
                named.add(node.name)
        for node in reversed(passing):
            if node.inputs[0] not in named:
                self.units[node.inputs[0]] = self.units[node.name]

    def samples(self, batch: tuple[Any, ...]) -> list[dict[str, Any]]:
        """Each sample's inputs, of all inputs in the net's order, and targets."""
        each = [batch[0][name] for name in self.net.inputs] if isinstance(batch[0], dict) else [batch[0]]
        x = [list(chain.from_iterable(row)) for row in zip(*map(text, each), strict=True)]
        t = text(batch[1])
        rows = zip(x, t, self.rows, strict=True)
        return [{"x": a, "t": b if isinstance(b, list) else [b], "label": name} for a, b, name in rows]

    def inputs(self, layer: str) -> list[str]:
        """The names of the units that a layer with one input reads."""
        return self.units[next(node.inputs[0] for node in self.net.nodes if node.name == layer)]


def _shapes(net: Net, node: Node) -> list[Any]:
    shapes = dict(zip((each.name for each in net.nodes), net.outputs, strict=True))
    return [shapes[name] for name in node.inputs]


def _unit_names(layer: str, units: int) -> list[str]:
    return [layer] if units == 1 else [f"{layer}.{k + 1}" for k in range(units)]


def _checked(given: Sequence[str] | None, usual: list[str], what: str) -> list[str]:
    if given is None:
        return usual
    if len(given) != len(usual):
        msg = f"there are {len(usual)} {what}, got {len(given)} labels: {listed(list(given))}"
        raise BackpropError(msg)
    return [str(each) for each in given]
