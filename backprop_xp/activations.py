"""Activations: the output o = f(net) of a layer, and delta = e ⊙ f′(net).

Every activation is a callable `f(net, *, xp) -> o` with a method `delta(e, net, o, *, xp)` that
turns e = ∂E/∂o into delta = ∂E/∂net. All shapes are (batch, units). `ALL` lists the activations;
tests run over that list.
"""

from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any, Literal, Protocol

from . import functions
from .arrays import Array, Namespace
from .errors import BackpropError

Gate = Literal[">=", ">"]


class Activation(Protocol):
    """The two methods of an activation."""

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = f(net), shape (batch, units)."""

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e · ∂o/∂net, shape (batch, units)."""


def _gate(net: Array, gate: Gate) -> Array:
    return net >= 0 if gate == ">=" else net > 0


def _check_gate(gate: str) -> None:
    if gate not in (">=", ">"):
        msg = f"the gate of a ReLU must be '>=' (as in the articles) or '>', got {gate!r}"
        raise BackpropError(msg)


@dataclass(frozen=True)
class Identity:
    """o = net, f′ = 1.

    >>> import numpy as np
    >>> identity(np.asarray([[1.0, -2.0]]), xp=np).tolist()
    [[1.0, -2.0]]
    """

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = net."""
        return net

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e."""
        return e


@dataclass(frozen=True)
class ReLU:
    """o = max(net, 0); f′ = 1 where the gate is open, else 0.

    At net = 0 the derivative is a choice: the gate `>=` takes 1 (as the articles do), `>` takes 0
    (as most libraries do). A unit whose net input is exactly 0 learns with `>=` and not with `>`.

    Args:
        gate: '>=' or '>'.

    Raises:
        BackpropError: another gate.

    >>> import numpy as np
    >>> e, net = np.asarray([[1.0, 1.0]]), np.asarray([[0.0, -2.0]])
    >>> relu.delta(e, net, net, xp=np).tolist(), ReLU(">").delta(e, net, net, xp=np).tolist()
    ([[1.0, 0.0]], [[0.0, 0.0]])
    """

    gate: Gate = ">="

    def __post_init__(self) -> None:
        _check_gate(self.gate)

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = max(net, 0)."""
        return xp.maximum(net, 0)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e where net >= 0 (or > 0), else 0."""
        return xp.where(_gate(net, self.gate), e, 0)


@dataclass(frozen=True)
class LeakyReLU:
    """o = net where net >= 0, else slope · net; f′ = 1 where the gate is open, else slope.

    (Maas, Hannun, Ng: Rectifier nonlinearities improve neural network acoustic models, 2013.)

    Args:
        slope: of the negative side, a finite number.
        gate: '>=' or '>', as for ReLU.

    Raises:
        BackpropError: another gate, or a slope that is not finite.

    >>> import numpy as np
    >>> LeakyReLU(0.1)(np.asarray([[2.0, -2.0]]), xp=np).tolist()
    [[2.0, -0.2]]
    """

    slope: Any = 0.01
    gate: Gate = ">="

    def __post_init__(self) -> None:
        _check_gate(self.gate)
        if not isinstance(self.slope, Real) or not isfinite(self.slope):
            msg = f"the slope of a leaky ReLU must be a finite number such as 0.01, got {self.slope!r}"
            raise BackpropError(msg)

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = net where net >= 0, else slope · net."""
        return xp.where(net >= 0, net, net * self.slope)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e where net >= 0 (or > 0), else slope · e."""
        return xp.where(_gate(net, self.gate), e, e * self.slope)


@dataclass(frozen=True)
class Sigmoid:
    """o = 1 / (1 + e^(−net)), written so that no exponential overflows; f′ = o (1 − o).

    >>> import numpy as np
    >>> sigmoid(np.asarray([[0.0, -1000.0]]), xp=np).tolist()
    [[0.5, 0.0]]
    """

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = σ(net)."""
        return functions.sigmoid(net, xp=xp)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e o (1 − o)."""
        return e * (o * (1 - o))


@dataclass(frozen=True)
class Tanh:
    """o = tanh(net); f′ = 1 − o².

    >>> import numpy as np
    >>> tanh(np.asarray([[0.0]]), xp=np).tolist()
    [[0.0]]
    """

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = tanh(net)."""
        return xp.tanh(net)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e (1 − o²)."""
        return e * (1 - o * o)


@dataclass(frozen=True)
class Softmax:
    """o_k = e^(net_k) / Σ_j e^(net_j) over the units of each sample.

    (Bridle: Probabilistic interpretation of feedforward classification network outputs, 1990.)
    ∂o_k/∂net_j = o_k ([k = j] − o_j), hence delta = o ⊙ (e − Σ_k e_k o_k).

    >>> import numpy as np
    >>> softmax(np.asarray([[0.0, 0.0]]), xp=np).tolist()
    [[0.5, 0.5]]
    """

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o, each row of which sums to 1."""
        return functions.softmax(net, xp=xp)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = o ⊙ (e − Σ_k e_k o_k)."""
        return o * (e - xp.sum(e * o, axis=-1, keepdims=True))


identity = Identity()
relu = ReLU()
leaky_relu = LeakyReLU()
sigmoid = Sigmoid()
tanh = Tanh()
softmax = Softmax()

ALL: dict[str, Activation] = {
    "identity": identity,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "softmax": softmax,
}
