"""The base class of layers: its four methods, what they receive, and what they keep."""

from abc import ABC, abstractmethod
from math import inf
from numbers import Real
from typing import Any, ClassVar, NamedTuple

from ..arrays import Array, Namespace, Shape, as_integer
from ..errors import BackpropError, got_instead
from ..params import Param


class Flow(NamedTuple):
    """What a layer keeps of the forward pass: net input, output, and anything else it needs later."""

    net: Array
    o: Array
    aux: Any = ()


class Context(NamedTuple):
    """What a layer receives besides its inputs and parameters.

    Attributes:
        training: whether this is a training step.
        seed: the seed of the run, a 32-bit integer (see `rng`).
        step: the number of updates made before this one, a 32-bit integer.
        stream: the number of the layer's own stream of random bits.
        state: the layer's running state, one array for each entry of `Layer.state`.
        first: the number of the first row in the whole batch, so that its parts do not repeat masks.
    """

    training: bool
    seed: Array
    step: Array
    stream: int
    state: tuple[Array, ...]
    first: Array = 0


class Layer(ABC):
    """The base class of layers, by itself without parameters and state, and with one input.

    Attributes:
        integers: whether it takes columns of integers, such as those of `Integers`; else it takes numbers.

    >>> class Double(Layer):
    ...     def forward(self, p, *x, ctx, xp):
    ...         return Flow(2 * x[0], 2 * x[0]), ()
    ...
    ...     def pull(self, p, flow, delta, *x, xp):
    ...         return (2 * delta,)
    >>> import backprop_xp as bp
    >>> bp.chain(2, bp.Dense(3), Double(), bp.Dense(1))
    Net(input (2,) → dense1 (3,) → double1 (3,) → dense2 (1,): 13 parameters)
    """

    integers: ClassVar[bool] = False

    def shape(self, *inputs: Shape) -> Shape:
        """The shape of one sample's output, from the shapes of its inputs."""
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
    """The number of units of an input whose samples have one axis.

    Raises:
        BackpropError: a sample has another number of axes.

    >>> units((3,), "Dense")
    3
    """
    if len(shape) != 1:
        msg = f"{layer} needs an input of shape (batch, units), got samples of shape {shape}"
        raise BackpropError(msg)
    return shape[0]


def check_count(n: Any, what: str) -> int:
    """A count as an int, if it is a positive integer.

    Args:
        n: the count.
        what: its name in the message.

    Raises:
        BackpropError: it is not a positive integer.

    >>> import numpy as np
    >>> check_count(np.int64(3), "the number of units")
    3
    """
    found = as_integer(n)
    if found is None or found < 1:
        msg = f"{what} must be a positive integer, got {n!r}"
        raise BackpropError(msg)
    return found


def check_positive(value: Any, what: str) -> float:
    """A setting as a float, if it is a positive finite number."""
    if not isinstance(value, Real) or not 0 < float(value) < inf:
        msg = f"{what} must be a positive finite number such as 1e-5, got {value!r}"
        raise BackpropError(msg)
    return float(value)


def check_activation(f: Any) -> None:
    """Check that f is an activation.

    Raises:
        BackpropError: it is not.
    """
    if not hasattr(f, "delta") or isinstance(f, type):
        msg = f"the activation of a layer must be one such as bp.relu or bp.tanh, {got_instead(f)}"
        if callable(f) and not isinstance(f, type):
            msg += ": one of your own needs the method delta(e, net, o, *, xp) too"
        raise BackpropError(msg)


def flow_and_state(found: Any, layer: Any) -> tuple[Any, Any]:
    """Check that what `forward` of a layer returned is a Flow and the new state, and return the two.

    Raises:
        BackpropError: it is something else.
    """
    if not isinstance(found, tuple) or len(found) != 2 or not hasattr(found[0], "o"):
        msg = (
            f"forward of {type(layer).__name__} must return a Flow and the new state, got a "
            f"{type(found).__name__}: write return Flow(net, o), ()"
        )
        raise BackpropError(msg)
    return found[0], found[1]


def listed_shapes(shapes: tuple[Shape, ...]) -> str:
    """Shapes separated by commas."""
    return ", ".join(str(shape) for shape in shapes)
