"""Layers: each is the four textbook equations, one method a line.

    forward   net, o        from the inputs x and the parameters p
    delta     ∂E/∂net       from e = ∂E/∂o
    grad      ∂E/∂w         from delta, one for each parameter
    pull      ∂E/∂x         from delta, one for each input

A layer is a frozen table of its settings. It knows nothing of recording, freezing, skipping or
wiring: the walks in `net` decide which of the four are needed. Arrays are (batch, units). `ALL`
lists the layers: what is in the list is tested.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple

from .activations import Activation, LeakyReLU, ReLU, identity
from .arrays import Array, Namespace, Shape
from .errors import BackpropError
from .params import Param


class Flow(NamedTuple):
    """What a layer leaves behind on the way forward: net input, output, what else it remembers."""

    net: Array
    o: Array
    aux: Any = ()


class Context(NamedTuple):
    """What a layer may know besides its inputs.

    Attributes:
        training: whether this is a training step.
        seed: of the run, a word (see `rng`).
        step: updates made before this one, a word.
        stream: the layer's own stream of random bits.
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
        """What the layer carries from step to step."""
        return ()

    @abstractmethod
    def forward(self, p: Any, *x: Array, ctx: Context, xp: Namespace) -> tuple[Flow, tuple[Array, ...]]:
        """The flow and the new state."""

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
    """The number of units of a flat input."""
    if len(shape) != 1:
        msg = f"{layer} takes an input of shape (batch, units), got one sample of shape {shape}"
        raise BackpropError(msg)
    return shape[0]


def check_count(n: Any, what: str) -> None:
    """A count of units is a positive integer."""
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        msg = f"{what} is a positive integer, got {n!r}"
        raise BackpropError(msg)


def check_activation(f: Any) -> None:
    """An activation has the two methods of one."""
    if not hasattr(f, "delta"):
        msg = f"the activation of a layer is one such as bp.relu or bp.tanh, got {f!r}"
        raise BackpropError(msg)


@dataclass(frozen=True)
class Input(Layer):
    """o⁰ = x: where a net begins.

    Args:
        units: the number of features of a sample.
    """

    units: int

    def __post_init__(self) -> None:
        check_count(self.units, "the number of features")

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

    First weights are uniform in ±√(6 / n_in) before a ReLU (He et al., 2015), else in
    ±√(6 / (n_in + n_out)) (Glorot and Bengio, 2010); biases are 0.

    Args:
        units: n_out.
        f: the activation.
        bias: whether there is a b.
    """

    units: int
    f: Activation = identity
    bias: bool = True

    def __post_init__(self) -> None:
        check_count(self.units, "the number of units of a Dense layer")
        check_activation(self.f)

    def shape(self, *inputs: Shape) -> Shape:
        """The shape (units,)."""
        return (self.units,)

    def params(self, *inputs: Shape) -> dict[str, Param]:
        """w of shape (n_in, n_out), and b of shape (n_out,)."""
        n_in = units(inputs[0], "Dense")
        rectified = isinstance(self.f, (ReLU, LeakyReLU))
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


def Linear(units: int, *, bias: bool = True) -> Dense:  # noqa: N802 (it stands where a layer stands)
    """A Dense layer without an activation: net = o = x w + b."""
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
    """o = Σ x: where paths join and their outputs add; each path receives the whole delta."""

    def shape(self, *inputs: Shape) -> Shape:
        """The shape all inputs share."""
        if len(set(inputs)) != 1:
            msg = f"Add joins outputs of one shape, got {listed_shapes(inputs)}"
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
    """o = [x₁, x₂, …] side by side; each path receives its own columns of delta."""

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
    """Shapes as a sentence lists them."""
    return ", ".join(str(shape) for shape in shapes)


ALL: dict[str, type[Layer]] = {
    "input": Input,
    "dense": Dense,
    "activate": Activate,
    "add": Add,
    "concat": Concat,
}
