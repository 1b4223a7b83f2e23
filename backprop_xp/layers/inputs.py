"""Where data enter a net: numbers, or integers such as categories."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ..arrays import Array, Namespace, Shape
from .base import Context, Flow, Layer, check_count


@dataclass(frozen=True)
class Input(Layer):
    """o = x: an input of a net, whose first node it is; a net may have several.

    A net with several inputs takes x as a dict with their names as keys.

    Args:
        units: the number of features of a sample.

    Raises:
        BackpropError: units is not a positive integer.

    >>> from backprop_xp import Dense, chain
    >>> chain(Input(3), Dense(1)) == chain(3, Dense(1))
    True
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

    def pull(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """Nothing: no layer is before it."""
        return ()


@dataclass(frozen=True)
class Integers(Input):
    """o = x: columns of integers, such as the categories of a table, for an `Embedding`.

    They are int32 or int64. There is no ∂E/∂x.

    Args:
        units: the number of columns.

    Raises:
        BackpropError: units is not a positive integer.

    >>> from backprop_xp import Dense, chain, layers, named
    >>> net = chain(named("city", Integers(1)), layers.Embedding(100, 3), Dense(1))
    >>> net.shapes["embedding1.w"], net.outputs
    ((100, 3), ((1,), (3,), (1,)))
    """

    integers: ClassVar[bool] = True
