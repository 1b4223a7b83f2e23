"""Normalization to a mean of 0 and a variance of 1, followed by a learnt gain and bias."""

from dataclasses import dataclass
from numbers import Real
from typing import Any

from ..arrays import Array, Namespace, Shape
from ..errors import BackpropError
from ..params import Param
from .base import Context, Flow, Layer, check_positive, units


@dataclass(frozen=True)
class LayerNorm(Layer):
    """Each row normalized over its units: x̂ = (x − μ) / σ, net = o = g x̂ + b, with σ² = variance + ε.

    delta = e; ∂E/∂g = Σ_batch delta x̂, ∂E/∂b = Σ_batch delta; with d = g delta,
    ∂E/∂x = (d − mean(d) − x̂ mean(d x̂)) / σ, means over the units (Ba, Kiros, Hinton: Layer
    normalization, 2016). At first g is 1 and b is 0.

    Args:
        eps: ε, a positive number.

    Raises:
        BackpropError: eps is not a positive finite number.

    >>> from backprop_xp import Dense, chain
    >>> chain(3, Dense(4), LayerNorm(), Dense(1)).layout.size
    29
    """

    eps: float = 1e-5

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", check_positive(self.eps, "eps of LayerNorm"))

    def params(self, *inputs: Shape) -> dict[str, Param]:
        """The gain g and the bias b, each of shape (units,)."""
        return _gain_and_bias(inputs[0], "LayerNorm")

    def forward(self, p: Any, *x: Array, ctx: Context, xp: Namespace) -> tuple[Flow, tuple[Array, ...]]:
        """net = o = g x̂ + b, x̂ = (x − μ) / σ over the units."""
        centred = x[0] - xp.mean(x[0], axis=1, keepdims=True)
        sigma = xp.sqrt(xp.mean(xp.square(centred), axis=1, keepdims=True) + self.eps)
        hat = centred / sigma
        o = p.g * hat + p.b
        return Flow(o, o, (hat, sigma)), ()

    def grad(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂g = Σ_batch delta x̂, ∂E/∂b = Σ_batch delta."""
        return xp.sum(delta * flow.aux[0], axis=0), xp.sum(delta, axis=0)

    def pull(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂x = (d − mean(d) − x̂ mean(d x̂)) / σ over the units, d = g delta."""
        return (_through_statistics(p.g * delta, *flow.aux, axis=1, xp=xp),)


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Each unit normalized over the batch: x̂ = (x − μ) / σ, net = o = g x̂ + b, with σ² = variance + ε.

    delta = e; ∂E/∂g = Σ_batch delta x̂, ∂E/∂b = Σ_batch delta; with d = g delta,
    ∂E/∂x = (d − mean(d) − x̂ mean(d x̂)) / σ, means over the batch (Ioffe and Szegedy: Batch
    normalization, 2015). At first g is 1 and b is 0.

    Predictions and evaluations use running statistics, which each training step updates:
    running ← (1 − momentum) running + momentum · the batch's, with the unbiased variance
    Σ (x − μ)² / (n − 1), as in PyTorch. A batch of one row has a variance of 0 and gives o = b.

    μ and σ are of all rows of a batch, whatever their weights: the weight of a row multiplies only its
    loss and its error. A row of weight 0 adds nothing to the loss, but counts in the statistics.

    Args:
        eps: ε, a positive number.
        momentum: the share of the batch in the running statistics, from 0 to 1.

    Raises:
        BackpropError: a setting is out of range.

    >>> from backprop_xp import Dense, chain
    >>> net = chain(3, Dense(4, bias=False), BatchNorm(), Dense(1))
    >>> net.layout.size, [param.shape for param in net.state[2]]
    (25, [(4,), (4,)])
    """

    eps: float = 1e-5
    momentum: Any = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", check_positive(self.eps, "eps of BatchNorm"))
        if not isinstance(self.momentum, Real) or not 0 <= float(self.momentum) <= 1:
            msg = f"momentum of BatchNorm must be a number from 0 to 1, such as 0.1; got {self.momentum!r}"
            raise BackpropError(msg)
        object.__setattr__(self, "momentum", float(self.momentum))

    def params(self, *inputs: Shape) -> dict[str, Param]:
        """The gain g and the bias b, each of shape (units,)."""
        return _gain_and_bias(inputs[0], "BatchNorm")

    def state(self, *inputs: Shape) -> tuple[Param, ...]:
        """The running mean, 0 at first, and the running variance, 1 at first."""
        return Param(inputs[0]), Param(inputs[0], centre=1.0)

    def forward(self, p: Any, *x: Array, ctx: Context, xp: Namespace) -> tuple[Flow, tuple[Array, ...]]:
        """net = o = g x̂ + b, x̂ = (x − μ) / σ over the batch."""
        if not ctx.training:
            mean, variance = ctx.state
            sigma = xp.sqrt(variance + self.eps)
            hat = (x[0] - mean) / sigma
            o = p.g * hat + p.b
            return Flow(o, o, (hat, sigma, False)), ctx.state
        n = x[0].shape[0]
        mean = xp.mean(x[0], axis=0)
        centred = x[0] - mean
        variance = xp.mean(xp.square(centred), axis=0)
        sigma = xp.sqrt(variance + self.eps)
        hat = centred / sigma
        o = p.g * hat + p.b
        unbiased = variance * (n / max(n - 1, 1))
        return Flow(o, o, (hat, sigma, True)), (
            (1 - self.momentum) * ctx.state[0] + self.momentum * mean,
            (1 - self.momentum) * ctx.state[1] + self.momentum * unbiased,
        )

    def grad(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂g = Σ_batch delta x̂, ∂E/∂b = Σ_batch delta."""
        return xp.sum(delta * flow.aux[0], axis=0), xp.sum(delta, axis=0)

    def pull(self, p: Any, flow: Flow, delta: Array, *x: Array, xp: Namespace) -> tuple[Array, ...]:
        """∂E/∂x = (d − mean(d) − x̂ mean(d x̂)) / σ over the batch, d = g delta; d / σ in evaluation."""
        hat, sigma, of_batch = flow.aux
        d = p.g * delta
        return (_through_statistics(d, hat, sigma, axis=0, xp=xp) if of_batch else d / sigma,)


def _gain_and_bias(shape: Shape, layer: str) -> dict[str, Param]:
    n = units(shape, layer)
    return {"g": Param((n,), centre=1.0), "b": Param((n,))}


def _through_statistics(d: Array, hat: Array, sigma: Array, *, axis: int, xp: Namespace) -> Array:
    """∂E/∂x = (d − mean(d) − x̂ mean(d x̂)) / σ, where μ and σ are of x along this axis."""
    mean, along = (xp.mean(a, axis=axis, keepdims=True) for a in (d, d * hat))
    return (d - mean - hat * along) / sigma
