"""A net: layers and the connections between them as data, and the two passes over it.

The forward pass visits every node. The learning flow (the backward pass) goes back over the nodes
that learning needs and stops at the earliest node that learns. It yields e, delta and grad of each
node, so a trace only has to keep them.
"""

from collections import namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

from .arrays import Array, Namespace, Shape, as_integer, label, mark
from .errors import BackpropError, got_instead, listed
from .layers import Add, Concat, Context, Embedding, Flow, Input, Layer, Multiply
from .layers.base import flow_and_state
from .params import Layout, Param
from .printed import abbreviated, settings, table

PREVIOUS = "<previous>"


class Node(NamedTuple):
    """A layer in a net, its name, and the names of the nodes whose outputs are its inputs."""

    layer: Layer
    name: str = ""
    inputs: tuple[str, ...] = (PREVIOUS,)


class Block(NamedTuple):
    """A residual block, from `residual`, which `chain` turns into nodes."""

    layers: tuple[Any, ...]
    skip: Any = None
    name: str = ""


class Learn(NamedTuple):
    """What the learning flow (the backward pass) computes at node k.

    Attributes:
        k: the number of the node; 0 is the first input.
        e: ∂E/∂o.
        delta: ∂E/∂net.
        grad: ∂E/∂w for each parameter; empty if none of them learns.
    """

    k: int
    e: Array
    delta: Array
    grad: tuple[Array, ...]


def named(label: str, layer: Any) -> Any:
    """The layer with this name, by which skips, freezing and traces refer to it.

    The name of a residual block is given to its sum; the name of an `Input` is its key in x, if x is a dict.

    >>> from backprop_xp import Dense
    >>> named("early", Dense(3)).name
    'early'
    """
    _check_name(label)
    if not isinstance(layer, Block):
        _check_layer(layer)
    node = layer if isinstance(layer, (Node, Block)) else Node(layer)
    return node._replace(name=label)


def _check_name(label: Any) -> None:
    """Check a layer's name: '.' separates it from a block's name, and '*', '?' and '[' are for patterns."""
    if not isinstance(label, str) or not label or any(mark in label for mark in ".*?["):
        msg = f"the name of a layer must be text without '.', '*', '?' and '[', got {label!r}"
        raise BackpropError(msg)


def add(*sources: str) -> Node:
    """A skip connection: o = the previous output + the outputs of the named nodes.

    >>> from backprop_xp import Dense
    >>> chain(2, Dense(2), add("input")).nodes[-1].inputs
    ('dense1', 'input')
    """
    return Node(Add(), inputs=(PREVIOUS, *sources))


def concat(*sources: str) -> Node:
    """A skip connection: o = [the previous output, the outputs of the named nodes], side by side.

    >>> from backprop_xp import Dense
    >>> chain(2, Dense(3), concat("input")).outputs[-1]
    (5,)
    """
    return Node(Concat(), inputs=(PREVIOUS, *sources))


def multiply(*sources: str) -> Node:
    """A gate: o = the previous output ⊙ the outputs of the named nodes.

    >>> from backprop_xp import Dense, sigmoid, tanh
    >>> gate = named("gate", Dense(3, sigmoid)), Node(Dense(3, tanh), inputs=("input",))
    >>> chain(2, *gate, multiply("gate")).nodes[-1].inputs
    ('dense1', 'gate')
    """
    return Node(Multiply(), inputs=(PREVIOUS, *sources))


def residual(*layers: Any, skip: Layer | Node | None = None) -> Block:
    """A residual block: o = the output of these layers for x, + x (He et al.: Deep residual learning, 2016).

    Args:
        layers: as for `chain`; blocks may be nested.
        skip: a layer on the skip connection, such as Dense(n) if the others change the number of units.

    Raises:
        BackpropError: there is no layer, or an item is not a layer.

    >>> from backprop_xp import Dense, relu
    >>> net = chain(2, residual(Dense(3, relu), residual(Dense(3)), skip=Dense(3)), Dense(1))
    >>> {node.name: node.inputs for node in net.nodes[3:-1]}
    {'add1': ('dense2', 'dense1'), 'dense3': ('input',), 'add2': ('add1', 'dense3')}
    """
    if not layers:
        msg = "a residual block needs at least one layer, as in bp.residual(bp.Dense(8, bp.relu))"
        raise BackpropError(msg)
    for each in layers:
        if not isinstance(each, Block):
            _check_layer(each)
    if skip is not None:
        _check_layer(skip)
    return Block(layers, skip)


def chain(first: Any, *rest: Any) -> "Net":
    """A net of layers in order, each with the output of the previous one as its input.

    Layers without a name are named by kind and number: input, dense1, dense2, add1. Another `Input` starts a
    new branch: the layer after it takes that input, and the branch before it is taken by name, as by
    `concat`. x is then a dict.

    Args:
        first: the number of features, or an Input layer.
        rest: layers, nodes from `named`, `add`, `concat` and `multiply`, or blocks from `residual`.

    Raises:
        BackpropError: an item is not a layer; or as for `Net`.

    >>> from backprop_xp import Dense, named
    >>> net = chain(2, named("early", Dense(3)), Dense(3), add("early"), Dense(1))
    >>> [node.name for node in net.nodes], net.layout.size
    (['input', 'early', 'dense1', 'add1', 'dense2'], 25)
    >>> from backprop_xp.layers import Embedding, Input, Integers
    >>> city = named("city", Integers(1)), Embedding(50, 2)
    >>> net = chain(named("numbers", Input(4)), *city, concat("numbers"), Dense(1))
    >>> list(net.inputs), net.nodes[3].inputs
    (['numbers', 'city'], ('embedding1', 'numbers'))
    """
    nodes: list[Node] = []
    counts: dict[str, int] = {}
    for item in (first if as_integer(first) is None else Input(first), *rest):
        _append(item, nodes, counts)
    return Net(tuple(nodes))


def _append(item: Any, nodes: list[Node], counts: dict[str, int]) -> None:
    """Append a layer to the nodes of a chain, or those of a block."""
    before = nodes[-1].name if nodes else ""
    if isinstance(item, Block):
        for each in item.layers:
            _append(each, nodes, counts)
        sources = nodes[-1].name, before
        if item.skip is not None:
            skip = item.skip if isinstance(item.skip, Node) else Node(item.skip)
            _append(skip._replace(inputs=(before,)), nodes, counts)
            sources = sources[0], nodes[-1].name
        item = Node(Add(), item.name, sources)
    _check_layer(item)
    node = item if isinstance(item, Node) else Node(item)
    begins = isinstance(node.layer, Input)
    if not node.name:
        kind = "input" if begins else type(node.layer).__name__.lower()
        counts[kind] = counts.get(kind, 0) + 1
        node = node._replace(name=kind if begins and counts[kind] == 1 else f"{kind}{counts[kind]}")
    inputs = tuple(before if source == PREVIOUS else source for source in node.inputs)
    nodes.append(node._replace(inputs=() if begins or not nodes else inputs))


def _check_layer(item: Any) -> None:
    layer = item.layer if isinstance(item, Node) else item
    if not isinstance(layer, Layer):
        msg = f"a net is built from layers such as bp.Dense(10, bp.relu), {got_instead(layer)}"
        raise BackpropError(msg)


@dataclass(frozen=True, repr=False)
class Net:
    """Nodes in the order they run: the first is an input, the last the output.

    Attributes:
        nodes: each takes the outputs of earlier nodes, except an `Input`, which takes none.
        frozen: names of layers ("dense1") or parameter blocks ("dense1.b") that do not learn.

    Raises:
        BackpropError: duplicate names; unknown names, here or in `freeze` and `thaw`; outputs that no
            node uses; shapes that do not fit.

    >>> from backprop_xp import Dense, tanh
    >>> print(chain(2, named("early", Dense(3, tanh)), Dense(3), add("early"), Dense(1)).freeze("dense1.w"))
    layer   made as           inputs         output  parameters  learns
    input   Input(2)                         (2,)             0
    early   Dense(3, Tanh())  input          (3,)             9  w, b
    dense1  Dense(3)          early          (3,)            12  b
    add1    Add()             dense1, early  (3,)             0
    dense2  Dense(1)          add1           (1,)             4  w, b
    all                                                      25  16
    """

    nodes: tuple[Node, ...]
    frozen: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        names = [node.name for node in self.nodes]
        for name in names:
            _check_name(name)
        if not names or not isinstance(self.nodes[0].layer, Input):
            msg = "a net must begin with its number of features, as in bp.chain(8, bp.Dense(1))"
            raise BackpropError(msg)
        if len(set(names)) < len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            msg = f"the names of a net's layers must be unique, got {listed(twice)} more than once"
            raise BackpropError(msg)
        for k, node in enumerate(self.nodes):
            if isinstance(node.layer, Input) == bool(node.inputs):
                want = "takes the output of no other node" if node.inputs else "needs the output of another"
                msg = f"'{node.name}', {settings(node.layer)}, {want}; got the inputs {node.inputs}"
                raise BackpropError(msg)
            for source in node.inputs:
                if source not in names[:k]:
                    msg = (
                        f"'{node.name}' needs the output of an earlier node, one of {listed(names[:k])}; "
                        f"got {source!r}"
                    )
                    raise BackpropError(msg)
                self._check_kind(node, self.nodes[names.index(source)])
        taken = {source for node in self.nodes for source in node.inputs}
        if left := [n for n in names[:-1] if n not in taken]:
            msg = f"every output but the last must be used by a layer; nothing uses {listed(left)}"
            raise BackpropError(msg)
        self._check_frozen()

    @staticmethod
    def _check_kind(node: Node, source: Node) -> None:
        """Check that integers go only to layers that take integers, and numbers only to the others."""
        given = isinstance(source.layer, Input) and source.layer.integers
        if given != node.layer.integers:
            kinds = ("numbers", "integers")
            msg = (
                f"'{node.name}', {settings(node.layer)}, takes {kinds[not given]}, and '{source.name}' has "
                f"{kinds[given]}: columns of categories go from bp.layers.Integers to bp.layers.Embedding"
            )
            raise BackpropError(msg)

    def summary(self, width: int | None = None) -> str:
        """A table of the layers: how each is made, its inputs, its output for one sample, what learns.

        Args:
            width: characters of a line; a table that is wider is printed as a block of lines for each layer.
        """
        rows = [["layer", "made as", "inputs", "output", "parameters", "learns"]]
        learning = {block.name for block in self.layout.learning}
        for node, shape, own in zip(self.nodes, self.outputs, self._params, strict=True):
            size = sum(prod(param.shape) for param in own.values())
            learns = ", ".join(p for p in own if f"{node.name}.{p}" in learning)
            inputs = ", ".join(node.inputs)
            rows.append(
                [node.name, settings(node.layer), inputs, str(shape), str(size), learns or "–" * bool(own)]
            )
        count = sum(prod(block.shape) for block in self.layout.learning)
        rows.append(["all", "", "", "", str(self.layout.size), str(count)])
        return table(rows, right=[4], width=width)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        shapes = abbreviated([f"{n.name} {s}" for n, s in zip(self.nodes, self.outputs, strict=True)], "…")
        return f"Net({' → '.join(shapes)}: {self.layout.size} parameters)"

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: the settings, from which all else is computed again."""
        return {"nodes": self.nodes, "frozen": self.frozen}

    def _check_frozen(self) -> None:
        known = {node.name for node in self.nodes} | set(self.shapes)
        if unknown := sorted(self.frozen - known):
            msg = f"there is no layer or block {listed(unknown)} to freeze; there are {listed(self.shapes)}"
            raise BackpropError(msg)

    def freeze(self, *names: str) -> "Net":
        """This net with the named layers or blocks frozen: they do not learn."""
        return replace(self, frozen=self.frozen | set(names))

    def thaw(self, *names: str) -> "Net":
        """This net with the named layers or blocks learning again."""
        below = {n for n in self.frozen for name in names if n == name or n.startswith(f"{name}.")}
        above = {n.rpartition(".")[0] for n in names} & self.frozen
        siblings = {b for b in self.shapes if b.rpartition(".")[0] in above} - set(names)
        if unknown := sorted(set(names) - {*self.shapes, *(node.name for node in self.nodes)}):
            msg = f"there is no layer or block {listed(unknown)} to thaw; there are {listed(self.shapes)}"
            raise BackpropError(msg)
        return replace(self, frozen=(self.frozen - below - above) | siblings)

    @cached_property
    def wires(self) -> tuple[tuple[int, ...], ...]:
        """For each node the numbers of the nodes whose outputs are its inputs."""
        number = {node.name: k for k, node in enumerate(self.nodes)}
        return tuple(tuple(number[source] for source in node.inputs) for node in self.nodes)

    @cached_property
    def inputs(self) -> dict[str, Layer]:
        """The inputs by name; if there are several, x is a dict with these keys."""
        return {node.name: node.layer for node in self.nodes if not node.inputs}

    @cached_property
    def categories(self) -> dict[str, int]:
        """The number of categories of each input of integers; that of its smallest Embedding."""
        found: dict[str, int] = {}
        for node in self.nodes:
            if isinstance(node.layer, Embedding):
                for name in node.inputs:
                    found[name] = min(node.layer.categories, found.get(name, node.layer.categories))
        return found

    @cached_property
    def outputs(self) -> tuple[Shape, ...]:
        """The shape of one sample's output at each node."""
        shapes: list[Shape] = []
        for node, wires in zip(self.nodes, self.wires, strict=True):
            shapes.append(node.layer.shape(*(shapes[j] for j in wires)))
        return tuple(shapes)

    @cached_property
    def _params(self) -> tuple[dict[str, Param], ...]:
        return tuple(
            node.layer.params(*(self.outputs[j] for j in wires))
            for node, wires in zip(self.nodes, self.wires, strict=True)
        )

    @cached_property
    def params(self) -> dict[str, Param]:
        """The parameters of all layers, by block name ("dense1.w")."""
        named = zip(self.nodes, self._params, strict=True)
        return {f"{node.name}.{p}": param for node, own in named for p, param in own.items()}

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each block of parameters, by name."""
        return {block: param.shape for block, param in self.params.items()}

    @cached_property
    def state(self) -> tuple[tuple[Param, ...], ...]:
        """The state each node's layer carries from step to step."""
        return tuple(
            node.layer.state(*(self.outputs[j] for j in wires))
            for node, wires in zip(self.nodes, self.wires, strict=True)
        )

    @cached_property
    def layout(self) -> Layout:
        """The layout of the flat vector of parameters."""
        fixed = [b for b in self.shapes if b in self.frozen or b.rpartition(".")[0] in self.frozen]
        return Layout.of(self.shapes, fixed)

    @cached_property
    def trainable(self) -> frozenset[int]:
        """The nodes with a block that learns."""
        owners = {block.name.rpartition(".")[0] for block in self.layout.learning}
        return frozenset(k for k, node in enumerate(self.nodes) if node.name in owners)

    @cached_property
    def path(self) -> frozenset[int]:
        """The nodes the learning flow visits: those that learn, and all that depend on them."""
        found: set[int] = set()
        for k, wires in enumerate(self.wires):
            if k in self.trainable or any(j in found for j in wires):
                found.add(k)
        return frozenset(found)

    @cached_property
    def path_to_input(self) -> frozenset[int]:
        """The nodes the learning flow visits on its way to the inputs: all but those of integers."""
        return frozenset(k for k, node in enumerate(self.nodes) if node.inputs or not node.layer.integers)

    @cached_property
    def _tuples(self) -> tuple[Any, ...]:
        return tuple(namedtuple("P", own) for own in self._params)

    def named(self, k: int, values: tuple[Array, ...]) -> dict[str, Array]:
        """Values for the parameters of node k, given in the layer's order, by block name."""
        return dict(zip(self._blocks[k], values, strict=False))

    @cached_property
    def _blocks(self) -> tuple[tuple[str, ...], ...]:
        named = zip(self.nodes, self._params, strict=True)
        return tuple(tuple(f"{node.name}.{p}" for p in own) for node, own in named)

    def by_node(self, blocks: Mapping[str, Array]) -> tuple[Any, ...]:
        """Each node's parameters as the named tuple its layer reads: p.w, p.b."""
        each = iter(blocks.values())
        return tuple(make(*(next(each) for _ in make._fields)) for make in self._tuples)


def forward(
    net: Net, params: tuple[Any, ...], x: Any, contexts: tuple[Context, ...], *, xp: Namespace
) -> tuple[list[Flow], tuple[tuple[Array, ...], ...]]:
    """The forward pass: the flow of every node and the layers' new state.

    Args:
        net: the net.
        params: the parameters of each node, from `Net.by_node`.
        x: samples, shape (batch, features); a dict by name if there are several inputs.
        contexts: one for each node.
        xp: the namespace of the arrays.
    """
    flows: list[Flow] = []
    states = []
    for k, node in enumerate(net.nodes):
        inputs = [flows[j].o for j in net.wires[k]] or [x[node.name] if isinstance(x, dict) else x]
        mark(xp, node.name, node.layer.forward)
        found = node.layer.forward(params[k], *inputs, ctx=contexts[k], xp=xp)
        flow, state = flow_and_state(found, node.layer)
        label(xp, flow.net, f"{node.name}.net")
        label(xp, flow.o, f"{node.name}.o")
        flows.append(flow)
        states.append(state)
    return flows, tuple(states)


def learning_flow(
    net: Net, params: tuple[Any, ...], flows: list[Flow], e: Array, *, xp: Namespace, to_input: bool = False
) -> Iterator[Learn]:
    """The learning flow (the backward pass): e, delta and grad of each node on the path, last first.

    If an output is used by several nodes, their ∂E/∂o are added. The pass stops at the earliest
    node that learns; with `to_input` it continues to the input, although no update needs that.

    Args:
        net: the net.
        params: the parameters of each node.
        flows: the flow of each node, from `forward`.
        e: ∂E/∂o at the last node, shape (batch, units).
        xp: the namespace of the arrays.
        to_input: continue to ∂E/∂x at each input of numbers.

    >>> import numpy as np, backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(3, bp.relu), bp.Dense(1)))
    >>> x, t = np.ones((1, 2), "float32"), np.ones((1, 1), "float32")
    >>> there = learner.pure.forward_loss(*learner.init(), x, t, xp=np)
    >>> back = learning_flow(learner.net, there.params, there.flows, there.e, xp=np)
    >>> [(learner.net.nodes[each.k].name, each.delta.shape) for each in back]
    [('dense2', (1, 1)), ('dense1', (1, 3))]
    """
    path = net.path_to_input if to_input else net.path
    errors = {len(net.nodes) - 1: e}
    for k in sorted(path, reverse=True):
        layer, wires, error = net.nodes[k].layer, net.wires[k], errors.pop(k)
        inputs, name = [flows[j].o for j in wires], net.nodes[k].name
        label(xp, error, f"{name}.e")
        mark(xp, name, layer.delta)
        delta = layer.delta(params[k], flows[k], error, xp=xp)
        label(xp, delta, f"{name}.delta")
        mark(xp, name, layer.grad)
        learns = k in net.trainable
        grad = layer.grad(params[k], flows[k], delta, *inputs, xp=xp) if learns else ()
        for block, each in net.named(k, grad).items():
            label(xp, each, f"{block}.grad")
        yield Learn(k, error, delta, grad)
        if any(j in path for j in wires):
            mark(xp, name, layer.pull)
            pulled = layer.pull(params[k], flows[k], delta, *inputs, xp=xp)
            for j, more in zip(wires, pulled, strict=True):
                if j in path:
                    errors[j] = errors[j] + more if j in errors else more
