"""Layers with several inputs: skip connections and gates."""

from dataclasses import dataclass
from typing import Any

from ..arrays import Array, Namespace, Shape
from ..errors import BackpropError
from .base import Context, Flow, Layer, listed_shapes, units


@dataclass(frozen=True)
class Add(Layer):
    """o = x₁ + x₂ + …, all of one shape; ∂E/∂xᵢ = delta for every input.

    `add` and `residual` put it into a net.

    >>> Add().shape((3,), (3,))
    (3,)
    """

    def shape(self, *inputs: Shape) -> Shape:
        """The shape all inputs share.

        Raises:
            BackpropError: their shapes differ.
        """
        return _one_shape(inputs, "Add")

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
    """o = [x₁, x₂, …] side by side; ∂E/∂xᵢ is the columns of delta that xᵢ filled.

    `concat` puts it into a net.

    >>> Concat().shape((3,), (2,))
    (5,)
    """

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


@dataclass(frozen=True)
class Multiply(Layer):
    """o = x₁ ⊙ x₂ ⊙ …, all of one shape: a gate; ∂E/∂xᵢ = delta times the product of the others.

    `multiply` puts it into a net.

    >>> Multiply().shape((3,), (3,))
    (3,)
    """

    def shape(self, *inputs: Shape) -> Shape:
        """The shape all inputs share.

        Raises:
            BackpropError: their shapes differ.
        """
        return _one_shape(inputs, "Multiply")

    def forward(self, p: Any, *x: Array, ctx: Context, xp: Namespace) -> tuple[Flow, tuple[Array, ...]]:
        """o = x₁ ⊙ x₂ ⊙ …."""
        o = x[0]
        for other in x[1:]:
            o = o * other
        return Flow(o, o), ()

    def pull(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂xᵢ = delta times the product of the others."""
        pulled = []
        for i in range(len(x)):
            each = delta
            for other in (*x[:i], *x[i + 1 :]):
                each = each * other
            pulled.append(each)
        return tuple(pulled)


def _one_shape(inputs: tuple[Shape, ...], layer: str) -> Shape:
    if len(set(inputs)) != 1:
        msg = (
            f"{layer} needs inputs of one shape, got {listed_shapes(inputs)}: give the layers before it the "
            "same number of units, or write bp.residual(..., skip=bp.Dense(units)) to change it on the skip"
        )
        raise BackpropError(msg)
    return inputs[0]
