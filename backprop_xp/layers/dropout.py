"""Dropout: outputs set to 0 at random, by masks that each part of a batch can compute by itself."""

from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from typing import Any

from .. import rng
from ..arrays import Array, Namespace, Shape
from ..errors import BackpropError
from .base import Context, Flow, Layer, units

_BITS = 16  # random bits for each number: four numbers a draw, and p to the nearest 2⁻¹⁶


@dataclass(frozen=True)
class Dropout(Layer):
    """o = x m / (1 − p) in training: each m is 0 with probability p, else 1; in evaluation o = x.

    delta = e m / (1 − p) (Srivastava et al.: Dropout, 2014; the division in training, so that o has
    the mean of x, is known as inverted dropout).

    The mask is a function of seed, layer, step, and the number of the row in the whole batch: it is the
    same on every backend and in every dtype, compiled or not, and for any number of shards and workers.
    The probability is rounded to the nearest multiple of 2⁻¹⁶. The weight of a row multiplies only its
    loss and its error; it does not affect the masks.

    Args:
        p: the probability that an output is set to 0, 0 <= p < 1.

    Raises:
        BackpropError: p is out of range.

    >>> from backprop_xp import Dense, chain, relu
    >>> print(chain(3, Dense(4, relu), Dropout(0.25), Dense(1)).nodes[2].layer)
    Dropout(p=0.25)
    """

    p: Any = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.p, Real) or not 0 <= float(self.p) < 1:
            msg = f"p of Dropout, a probability, must be a number with 0 <= p < 1, got {self.p!r}"
            raise BackpropError(msg)
        object.__setattr__(self, "p", float(self.p))

    def shape(self, *inputs: Shape) -> Shape:
        """The shape of the input."""
        return (units(inputs[0], "Dropout"),)

    def forward(self, p: Any, *x: Array, ctx: Context, xp: Namespace) -> tuple[Flow, tuple[Array, ...]]:
        """net = x, o = x m / (1 − p)."""
        if not ctx.training:
            return Flow(x[0], x[0]), ()
        kept = xp.astype(self._kept(x[0], ctx, xp=xp), x[0].dtype)
        mask = kept / float(1 - Fraction(str(self.p)))  # for p = 0.9 that is 0.1, not 0.0999…
        return Flow(x[0], x[0] * mask, mask), ()

    def delta(self, p: Any, flow: Flow, e: Array, *, xp: Namespace) -> Array:
        """delta = e m / (1 − p)."""
        return e if isinstance(flow.aux, tuple) else e * flow.aux

    def _kept(self, x: Array, ctx: Context, *, xp: Namespace) -> Array:
        """Which numbers are kept; each of the k draws for a row decides about four units."""
        (n, width), word = x.shape, ctx.step.dtype
        k = -(-width // 4)
        first = ctx.first if isinstance(ctx.first, int) else 0
        index = xp.arange(first * k, (first + n) * k, dtype=xp.int32, device=getattr(x, "device", None))
        index = xp.astype(index, word)
        if not isinstance(ctx.first, int):
            index = index + xp.astype(ctx.first, word) * k
        step = xp.zeros_like(index) + ctx.step  # not 0-d: NumPy warns where a single number overflows
        drawn = rng.threefry((ctx.seed, ctx.stream), (step, index), xp=xp)
        parts = [(w >> shift) & 0xFFFF for w in drawn for shift in (0, _BITS)]
        dropped = round(self.p * (1 << _BITS))
        kept = xp.concat([xp.reshape(part >= dropped, (n, k)) for part in parts], axis=1)
        return kept[:, :width]
