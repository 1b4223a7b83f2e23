"""Dense layers, and activations as layers of their own."""

from dataclasses import dataclass
from math import sqrt
from typing import Any

from ..activations import Activation, identity
from ..arrays import Array, Namespace, Shape
from ..params import Param
from .base import Context, Flow, Layer, check_activation, check_count, units


@dataclass(frozen=True)
class Dense(Layer):
    """A weight for each pair of input and unit, a bias for each unit, and an activation.

    net = x w + b, o = f(net); delta = e f′(net); ∂E/∂w = xᵀ delta, ∂E/∂b = Σ_batch delta;
    ∂E/∂x = delta wᵀ (Rumelhart, Hinton, Williams: Learning representations by back-propagating
    errors, 1986).

    Initial weights are uniform in ±√(6 / n_in) for activations like ReLU (those with `rectified`; He et
    al., 2015), else in ±√(6 / (n_in + n_out)) (Glorot and Bengio, 2010); biases are 0.

    Args:
        units: n_out.
        f: the activation.
        bias: whether there is a bias b.

    Raises:
        BackpropError: units is not a positive integer, or f is not an activation.

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
    """An activation as a layer of its own: net = x, o = f(net), delta = e f′(net).

    Args:
        f: the activation.

    Raises:
        BackpropError: f is not an activation.

    >>> from backprop_xp import chain, relu
    >>> chain(3, Dense(4), Activate(relu), Dense(1)).outputs
    ((3,), (4,), (4,), (1,))
    """

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
class PReLU(Layer):
    """A ReLU with a learnt slope a for each unit, 0.25 at first: o = x where x >= 0, else a x.

    net = o = max(x, 0) + a min(x, 0), delta = e; ∂E/∂a = Σ_batch delta min(x, 0);
    ∂E/∂x = delta where x >= 0, else a delta (He et al.: Delving deep into rectifiers, 2015). At 0 the
    derivative is 1, as that of `relu`.

    Args:
        shared: whether all units share one a.

    >>> from backprop_xp import Dense, chain
    >>> chain(2, Dense(3), PReLU(), Dense(2), PReLU(shared=True)).shapes["prelu2.a"]
    (1,)
    """

    shared: bool = False

    def params(self, *inputs: Shape) -> dict[str, Param]:
        """a of shape (units,), or (1,)."""
        n = units(inputs[0], "PReLU")
        return {"a": Param((1 if self.shared else n,), centre=0.25)}

    def forward(self, p: Any, *x: Array, ctx: Context, xp: Namespace) -> tuple[Flow, tuple[Array, ...]]:
        """net = o = max(x, 0) + a min(x, 0)."""
        o = xp.maximum(x[0], 0) + p.a * xp.minimum(x[0], 0)
        return Flow(o, o), ()

    def grad(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂a = Σ_batch delta min(x, 0); over the units too where they share it."""
        each = delta * xp.minimum(x[0], 0)
        return (xp.reshape(xp.sum(each), (1,)) if self.shared else xp.sum(each, axis=0),)

    def pull(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂x = delta where x >= 0, else a delta."""
        return (xp.where(x[0] >= 0, delta, p.a * delta),)
