"""Embedding: a row of a table for each category."""

from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

from ..arrays import Array, Namespace, Shape
from ..params import Param
from .base import Context, Flow, Layer, check_count, units


@dataclass(frozen=True)
class Embedding(Layer):
    """A table w with a learnt row for each category: o = the rows w[c] of the integers c, side by side.

    It equals a Dense layer without bias on one-hot rows, shared by all columns (Bengio et al.: A neural
    probabilistic language model, 2003): ∂E/∂w = hotᵀ delta, where hot[i, j] is 1 if c_i = j, else 0.
    Columns with different categories need an `Integers` and an Embedding each.

    Categories are 0 to categories − 1. Training and evaluation refuse others (`learner.check_values`);
    where values are not checked, a category out of range gives a row of zeros, on every backend.

    Initial weights are uniform in ±√3, so that their variance is 1.

    Args:
        categories: the number of categories.
        width: the number of units for each column; (batch, k) integers become (batch, k · width) numbers.

    Raises:
        BackpropError: a count that is not a positive integer.

    >>> from backprop_xp import Dense, chain, layers
    >>> chain(layers.Integers(2), Embedding(10, 3), Dense(1)).outputs
    ((2,), (6,), (1,))
    """

    categories: int
    width: int
    integers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, what in (
            ("categories", "the number of categories"),
            ("width", "the width of an Embedding"),
        ):
            object.__setattr__(self, name, check_count(getattr(self, name), what))

    def shape(self, *inputs: Shape) -> Shape:
        """The shape (columns · width,)."""
        return (units(inputs[0], "Embedding") * self.width,)

    def params(self, *inputs: Shape) -> dict[str, Param]:
        """The table w, of shape (categories, width)."""
        return {"w": Param((self.categories, self.width), spread=sqrt(3))}

    def forward(self, p: Any, *x: Array, ctx: Context, xp: Namespace) -> tuple[Flow, tuple[Array, ...]]:
        """net = o = the rows w[c], side by side."""
        flat = xp.reshape(x[0], (-1,))
        near = xp.minimum(xp.maximum(flat, 0), self.categories - 1)
        known = xp.expand_dims(near == flat, axis=1)
        rows = xp.where(known, xp.take(p.w, near, axis=0), 0)
        o = xp.reshape(rows, (-1, x[0].shape[1] * self.width))
        return Flow(o, o), ()

    def grad(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂w = hotᵀ delta."""
        flat = xp.reshape(x[0], (-1, 1))
        device = getattr(delta, "device", None)
        hot = xp.astype(flat == xp.arange(self.categories, dtype=flat.dtype, device=device), delta.dtype)
        return (xp.matmul(xp.matrix_transpose(hot), xp.reshape(delta, (-1, self.width))),)

    def pull(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """Nothing: integers have no ∂E/∂x."""
        return ()
