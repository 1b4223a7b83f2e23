"""Layers: each is the four textbook equations, one method each.

    forward   net, o        from the inputs x and the parameters p
    delta     ∂E/∂net       from e = ∂E/∂o
    grad      ∂E/∂w         from delta, one for each parameter
    pull      ∂E/∂x         from delta, one for each input

A layer is a frozen dataclass of its settings. It knows nothing of traces, freezing or skip
connections: the forward and backward pass in `net` decide which of the four are needed. Arrays are
(batch, units). `ALL` lists the layers; tests run over that list.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple

from .activations import Activation, identity
from .arrays import Array, Namespace, Shape, as_integer
from .errors import BackpropError, got_instead
from .params import Param


class Flow(NamedTuple):
    """What a layer keeps of the forward pass: net input, output, and anything else it needs later."""

    net: Array
    o: Array
    aux: Any = ()


class Context(NamedTuple):
    """What a layer receives besides its inputs and parameters.

    Attributes:
        training: whether this is a training step.
        seed: of the run, a 32-bit integer (see `rng`).
        step: the number of updates made before this one, a 32-bit integer.
        stream: the number of the layer's own stream of random bits.
        state: the layer's running state, one array for each entry of `Layer.state`.
        first: where the rows begin in the whole batch, so that masks do not repeat in its parts.
    """

    training: bool
    seed: Array
    step: Array
    stream: int
    state: tuple[Array, ...]
    first: Array = 0


class Layer(ABC):
    """The base: no parameters, no state, one input of any number of units."""

    def shape(self, *inputs: Shape) -> Shape:
        """The shape of one sample's output, given those of its inputs."""
        return inputs[0]

    def params(self, *inputs: Shape) -> dict[str, Param]:
        """The parameters by name, in the order of `grad`."""
        return {}

    def state(self, *inputs: Shape) -> tuple[Param, ...]:
        """The arrays the layer carries from step to step, such as running means; here none."""
        return ()

    @abstractmethod
    def forward(self, p: Any, *x: Array, ctx: Context, xp: Namespace) -> tuple[Flow, tuple[Array, ...]]:
        """Net input and output as a `Flow`, and the new state.

        Args:
            p: the parameters as attributes: p.w, p.b.
            x: the inputs, each (batch, units).
            ctx: training or not, random bits, the layer's state.
            xp: the namespace of the arrays.
        """

    def delta(self, p: Any, flow: Flow, e: Array, *, xp: Namespace) -> Array:
        """delta = ∂E/∂net; here o = net, hence e."""
        return e

    def grad(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂w for each parameter; here there are none."""
        return ()

    def pull(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂x for each input; here net = x, hence delta."""
        return (delta,)


def units(shape: Shape, layer: str) -> int:
    """The number of units of a flat input.

    Raises:
        BackpropError: a sample has more than one axis.
    """
    if len(shape) != 1:
        msg = f"{layer} needs an input of shape (batch, units), got samples of shape {shape}"
        raise BackpropError(msg)
    return shape[0]


def check_count(n: Any, what: str) -> int:
    """A count as an int, if it is a positive integer."""
    found = as_integer(n)
    if found is None or found < 1:
        msg = f"{what} must be a positive integer, got {n!r}"
        raise BackpropError(msg)
    return found


def check_activation(f: Any) -> None:
    """Check that f is an activation."""
    if not hasattr(f, "delta") or isinstance(f, type):
        msg = f"the activation of a layer must be one such as bp.relu or bp.tanh, {got_instead(f)}"
        raise BackpropError(msg)


@dataclass(frozen=True)
class Input(Layer):
    """o = x: the first node of a net.

    Args:
        units: the number of features of a sample.

    Raises:
        BackpropError: it is not a positive integer.
    """

    units: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", check_count(self.units, "the number of features"))

    def shape(self, *inputs: Shape) -> Shape:
        """The shape of a sample."""
        return (self.units,)

    def forward(self, p: Any, *x: Array, ctx: Context, xp: Namespace) -> tuple[Flow, tuple[Array, ...]]:
        """net = o = x."""
        return Flow(x[0], x[0]), ()


@dataclass(frozen=True)
class Dense(Layer):
    """A weight for each pair of input and unit, a bias for each unit, and an activation.

    net = x w + b, o = f(net); delta = e f′(net); ∂E/∂w = xᵀ delta, ∂E/∂b = Σ_batch delta;
    ∂E/∂x = delta wᵀ (Rumelhart, Hinton, Williams: Learning representations by back-propagating
    errors, 1986).

    Initial weights are uniform in ±√(6 / n_in) before a ReLU or its like (`rectified`; He et al., 2015),
    else in ±√(6 / (n_in + n_out)) (Glorot and Bengio, 2010); biases are 0.

    Args:
        units: n_out.
        f: the activation.
        bias: whether there is a b.

    Raises:
        BackpropError: units that are not a positive integer, or f is no activation.

    >>> from backprop_xp import chain, relu
    >>> chain(3, Dense(4, relu), Dense(1)).shapes
    {'dense1.w': (3, 4), 'dense1.b': (4,), 'dense2.w': (4, 1), 'dense2.b': (1,)}
    """

    units: int
    f: Activation = identity
    bias: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", check_count(self.units, "the number of units of a Dense layer"))
        check_activation(self.f)

    def shape(self, *inputs: Shape) -> Shape:
        """The shape (units,)."""
        return (self.units,)

    def params(self, *inputs: Shape) -> dict[str, Param]:
        """w of shape (n_in, n_out), and b of shape (n_out,)."""
        n_in = units(inputs[0], "Dense")
        rectified = getattr(self.f, "rectified", False)
        w = Param((n_in, self.units), spread=sqrt(6 / (n_in if rectified else n_in + self.units)))
        return {"w": w, "b": Param((self.units,))} if self.bias else {"w": w}

    def forward(self, p: Any, *x: Array, ctx: Context, xp: Namespace) -> tuple[Flow, tuple[Array, ...]]:
        """net = x w + b, o = f(net)."""
        net = xp.matmul(x[0], p.w)
        net = net + p.b if self.bias else net
        return Flow(net, self.f(net, xp=xp)), ()

    def delta(self, p: Any, flow: Flow, e: Array, *, xp: Namespace) -> Array:
        """delta = e f′(net)."""
        return self.f.delta(e, flow.net, flow.o, xp=xp)

    def grad(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂w = xᵀ delta, ∂E/∂b = Σ_batch delta."""
        w = xp.matmul(xp.matrix_transpose(x[0]), delta)
        return (w, xp.sum(delta, axis=0)) if self.bias else (w,)

    def pull(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂x = delta wᵀ."""
        return (xp.matmul(delta, xp.matrix_transpose(p.w)),)


def Linear(units: int, *, bias: bool = True) -> Dense:  # noqa: N802 (used like a layer class)
    """A Dense layer without an activation: o = net = x w + b.

    >>> Linear(2) == Dense(2)
    True
    """
    return Dense(units, identity, bias)


@dataclass(frozen=True)
class Activate(Layer):
    """An activation as a layer of its own: net = x, o = f(net), delta = e f′(net)."""

    f: Activation

    def __post_init__(self) -> None:
        check_activation(self.f)

    def forward(self, p: Any, *x: Array, ctx: Context, xp: Namespace) -> tuple[Flow, tuple[Array, ...]]:
        """net = x, o = f(net)."""
        return Flow(x[0], self.f(x[0], xp=xp)), ()

    def delta(self, p: Any, flow: Flow, e: Array, *, xp: Namespace) -> Array:
        """delta = e f′(net)."""
        return self.f.delta(e, flow.net, flow.o, xp=xp)


@dataclass(frozen=True)
class Add(Layer):
    """o = x₁ + x₂ + …, all of one shape; ∂E/∂xᵢ = delta for every input."""

    def shape(self, *inputs: Shape) -> Shape:
        """The shape all inputs share.

        Raises:
            BackpropError: their shapes differ.
        """
        if len(set(inputs)) != 1:
            msg = f"Add needs inputs of one shape, got {listed_shapes(inputs)}"
            raise BackpropError(msg)
        return inputs[0]

    def forward(self, p: Any, *x: Array, ctx: Context, xp: Namespace) -> tuple[Flow, tuple[Array, ...]]:
        """o = x₁ + x₂ + …."""
        o = x[0]
        for other in x[1:]:
            o = o + other
        return Flow(o, o), ()

    def pull(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂x = delta, for each input."""
        return (delta,) * len(x)


@dataclass(frozen=True)
class Concat(Layer):
    """o = [x₁, x₂, …] side by side; ∂E/∂xᵢ is the columns of delta that xᵢ filled."""

    def shape(self, *inputs: Shape) -> Shape:
        """The units of all inputs together."""
        return (sum(units(shape, "Concat") for shape in inputs),)

    def forward(self, p: Any, *x: Array, ctx: Context, xp: Namespace) -> tuple[Flow, tuple[Array, ...]]:
        """o = [x₁, x₂, …]."""
        o = xp.concat(x, axis=1)
        return Flow(o, o), ()

    def pull(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂xᵢ = the columns of delta that xᵢ filled."""
        parts, start = [], 0
        for each in x:
            parts.append(delta[:, start : start + each.shape[1]])
            start += each.shape[1]
        return tuple(parts)


def listed_shapes(shapes: tuple[Shape, ...]) -> str:
    """Shapes separated by commas."""
    return ", ".join(str(shape) for shape in shapes)


ALL: dict[str, type[Layer]] = {
    "input": Input,
    "dense": Dense,
    "activate": Activate,
    "add": Add,
    "concat": Concat,
}
