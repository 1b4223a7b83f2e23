"""Activations: the output o = f(net) of a layer, and delta = e ⊙ f′(net).

Every activation is a callable `f(net, *, xp) -> o` with a method `delta(e, net, o, *, xp)` that
turns e = ∂E/∂o into delta = ∂E/∂net. All shapes are (batch, units). An activation that, like ReLU, sets
about half of its outputs to 0 or near it has `rectified = True`: the weights before it start larger (He
initialization). Each class states its derivative at a kink; it is PyTorch's choice, except for the `gate`
of ReLU and LeakyReLU. `ALL` lists the activations; tests run over that list.
"""

from dataclasses import dataclass
from math import inf, pi, sqrt
from numbers import Real
from typing import Any, Literal, Protocol

from . import functions
from .arrays import Array, Namespace
from .errors import BackpropError

Gate = Literal[">=", ">"]

_LAMBDA, _ALPHA = 1.0507009873554805, 1.6732632423543772  # of SELU


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


def _number(value: Any, what: str, above: float = -inf) -> Any:
    """Check that a setting is a finite number above `above`; a NumPy scalar becomes a Python number.

    Python numbers do not change the dtype of the arrays that they are combined with.
    """
    if not (isinstance(value, Real) and above < float(value) < inf):
        msg = f"{what}, got {value!r}"
        raise BackpropError(msg)
    return value.item() if hasattr(value, "item") else value


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
        BackpropError: gate is neither of the two.

    >>> import numpy as np
    >>> e, net = np.asarray([[1.0, 1.0]]), np.asarray([[0.0, -2.0]])
    >>> relu.delta(e, net, net, xp=np).tolist(), ReLU(">").delta(e, net, net, xp=np).tolist()
    ([[1.0, 0.0]], [[0.0, 0.0]])
    """

    gate: Gate = ">="
    rectified = True

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
        slope: the slope of the negative side, a finite number.
        gate: '>=' or '>', as for ReLU.

    Raises:
        BackpropError: slope is not a finite number, or gate is neither of the two.

    >>> import numpy as np
    >>> LeakyReLU(0.1)(np.asarray([[2.0, -2.0]]), xp=np).tolist()
    [[2.0, -0.2]]
    """

    slope: Any = 0.01
    gate: Gate = ">="
    rectified = True

    def __post_init__(self) -> None:
        _check_gate(self.gate)
        slope = _number(self.slope, "the slope of a leaky ReLU must be a finite number such as 0.01")
        object.__setattr__(self, "slope", slope)

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = net where net >= 0, else slope · net."""
        return xp.where(net >= 0, net, net * self.slope)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e where net >= 0 (or > 0), else slope · e."""
        return xp.where(_gate(net, self.gate), e, e * self.slope)


@dataclass(frozen=True)
class ThresholdedReLU:
    """o = net where net > theta, else 0; f′ = 1 where net > theta, else 0.

    (Konda, Memisevic, Krueger: Zero-bias autoencoders and the benefits of co-adapting features, 2014.)
    f jumps at theta; there both o and f′ are 0.

    Args:
        theta: the threshold, a finite number.

    Raises:
        BackpropError: theta is not a finite number.

    >>> import numpy as np
    >>> ThresholdedReLU(0.5)(np.asarray([[0.5, 2.0]]), xp=np).tolist()
    [[0.0, 2.0]]
    """

    theta: Any = 1.0
    rectified = True

    def __post_init__(self) -> None:
        theta = _number(self.theta, "the theta of a thresholded ReLU must be a finite number such as 1.0")
        object.__setattr__(self, "theta", theta)

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = net where net > theta, else 0."""
        return xp.where(net > self.theta, net, 0)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e where net > theta, else 0."""
        return xp.where(net > self.theta, e, 0)


@dataclass(frozen=True)
class ELU:
    """o = net where net > 0, else α (e^net − 1); f′ = 1 where net > 0, else α e^net.

    (Clevert, Unterthiner, Hochreiter: Fast and accurate deep network learning by exponential linear
    units, 2016.) Unless α is 1 there is a kink at net = 0; f′ = α there. f′ is computed from e^net: o + α
    would lose all digits where net is far below 0.

    Args:
        alpha: α, a positive number.

    Raises:
        BackpropError: alpha is not a positive finite number.

    >>> import numpy as np
    >>> elu(np.asarray([[2.0, -1000.0]]), xp=np).tolist()
    [[2.0, -1.0]]
    """

    alpha: Any = 1.0
    rectified = True

    def __post_init__(self) -> None:
        alpha = _number(self.alpha, "the alpha of an ELU must be a positive number such as 1.0", above=0)
        object.__setattr__(self, "alpha", alpha)

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = net where net > 0, else α (e^net − 1)."""
        return xp.where(net > 0, net, self.alpha * xp.expm1(xp.minimum(net, 0)))

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e where net > 0, else e α e^net."""
        return e * xp.where(net > 0, 1, self.alpha * xp.exp(xp.minimum(net, 0)))


@dataclass(frozen=True)
class SELU:
    """o = λ net where net > 0, else λ α (e^net − 1); f′ = λ where net > 0, else λ α e^net.

    (Klambauer, Unterthiner, Mayr, Hochreiter: Self-normalizing neural networks, 2017.) λ ≈ 1.0507 and
    α ≈ 1.6733 keep a mean of 0 and a variance of 1 from layer to layer, if the weights have mean 0 and
    variance 1 / n_in (`initialization.LeCunNormal`). At the kink, net = 0, f′ = λ α. Above the largest
    float / λ the output is infinite.

    >>> import numpy as np
    >>> selu(np.asarray([[1.0, 0.0]]), xp=np).round(4).tolist()
    [[1.0507, 0.0]]
    """

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = λ net where net > 0, else λ α (e^net − 1)."""
        return _LAMBDA * xp.where(net > 0, net, _ALPHA * xp.expm1(xp.minimum(net, 0)))

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e λ where net > 0, else e λ α e^net."""
        return e * (_LAMBDA * xp.where(net > 0, 1, _ALPHA * xp.exp(xp.minimum(net, 0))))


@dataclass(frozen=True)
class CELU:
    """o = net where net > 0, else α (e^(net/α) − 1); f′ = 1 where net > 0, else e^(net/α).

    (Barron: Continuously differentiable exponential linear units, 2017.) There is no kink.

    Args:
        alpha: α, a positive number.

    Raises:
        BackpropError: alpha is not a positive finite number.

    >>> import numpy as np
    >>> CELU(0.5)(np.asarray([[2.0, -1000.0]]), xp=np).tolist()
    [[2.0, -0.5]]
    """

    alpha: Any = 1.0
    rectified = True

    def __post_init__(self) -> None:
        alpha = _number(self.alpha, "the alpha of a CELU must be a positive number such as 1.0", above=0)
        object.__setattr__(self, "alpha", alpha)

    def _left(self, net: Array, *, xp: Namespace) -> Array:
        """min(net, 0) / α, at least −800, where e^(net/α) is 0 already."""
        return xp.maximum(xp.minimum(net, 0), -800 * self.alpha) / self.alpha

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = net where net > 0, else α (e^(net/α) − 1)."""
        return xp.where(net > 0, net, self.alpha * xp.expm1(self._left(net, xp=xp)))

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e where net > 0, else e e^(net/α)."""
        return e * xp.exp(self._left(net, xp=xp))


@dataclass(frozen=True)
class Softplus:
    """o = log(1 + e^net), written so that no exponential overflows; f′ = σ(net) = 1 − e^(−o).

    (Dugas, Bengio, Bélisle, Nadeau, Garcia: Incorporating second-order functional knowledge for better
    option pricing, 2001.)

    >>> import numpy as np
    >>> softplus(np.asarray([[1000.0, -1000.0]]), xp=np).tolist()
    [[1000.0, 0.0]]
    """

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = log(1 + e^net)."""
        return functions.softplus(net, xp=xp)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e (1 − e^(−o))."""
        return -e * xp.expm1(-o)


@dataclass(frozen=True)
class GELU:
    """o = net Φ(net), Φ the normal distribution function; f′ = Φ(net) + net φ(net), φ its density.

    (Hendrycks and Gimpel: Gaussian error linear units, 2016.) Φ(x) is (1 + erf(x/√2)) / 2; see
    `functions.normal_cdf`.

    >>> import numpy as np
    >>> gelu(np.asarray([[1.0, -1000.0]]), xp=np).round(4).tolist()
    [[0.8413, -0.0]]
    """

    rectified = True

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = net Φ(net)."""
        return net * functions.normal_cdf(net, xp=xp)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e (Φ(net) + net φ(net))."""
        return e * (functions.normal_cdf(net, xp=xp) + net * functions.normal_pdf(net, xp=xp))


@dataclass(frozen=True)
class GELUTanh:
    """o = net (1 + tanh u) / 2, u = √(2/π) (net + 0.044715 net³): GELU with an error of at most 0.0005.

    (Hendrycks and Gimpel: Gaussian error linear units, 2016.) It is PyTorch's GELU(approximate="tanh").
    (1 + tanh u) / 2 is computed as σ(2u), which keeps its digits where net is far below 0; so
    f′ = s + o (1 − s) 2u′, s = σ(2u).

    >>> import numpy as np
    >>> gelu_tanh(np.asarray([[1.0, -1000.0]]), xp=np).round(4).tolist()
    [[0.8412, -0.0]]
    """

    rectified = True

    def _u(self, net: Array, *, xp: Namespace) -> tuple[Array, Array]:
        """2u and 2u′, with net clipped to ±30: beyond, σ(2u) is 0 or 1, and net³ could overflow."""
        x = xp.minimum(xp.maximum(net, -30), 30)
        k = sqrt(8 / pi)
        return k * (x + 0.044715 * (x * x * x)), k * (1 + 3 * 0.044715 * (x * x))

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = net σ(2u)."""
        return net * functions.sigmoid(self._u(net, xp=xp)[0], xp=xp)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e (s + o (1 − s) 2u′), s = σ(2u)."""
        twice_u, slope = self._u(net, xp=xp)
        s = functions.sigmoid(twice_u, xp=xp)
        return e * (s + o * (1 - s) * slope)


@dataclass(frozen=True)
class SiLU:
    """o = net σ(net), also called swish; f′ = σ(net) + o (1 − σ(net)).

    (Elfwing, Uchibe, Doya: Sigmoid-weighted linear units for neural network function approximation in
    reinforcement learning, 2018.)

    >>> import numpy as np
    >>> silu(np.asarray([[0.0, 1000.0]]), xp=np).tolist()
    [[0.0, 1000.0]]
    """

    rectified = True

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = net σ(net)."""
        return net * functions.sigmoid(net, xp=xp)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e (s + o (1 − s)), s = σ(net)."""
        s = functions.sigmoid(net, xp=xp)
        return e * (s + o * (1 - s))


@dataclass(frozen=True)
class HardSwish:
    """o = net g, g = (net + 3) / 6 clipped to [0, 1]; f′ = g, plus net / 6 where |net| < 3.

    (Howard et al.: Searching for MobileNetV3, 2019.) At the kinks, net = −3 and 3, f′ is 0 and 1.

    >>> import numpy as np
    >>> hard_swish(np.asarray([[-3.0, 1.0, 5.0]]), xp=np).round(4).tolist()
    [[-0.0, 0.6667, 5.0]]
    """

    rectified = True

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = net g, g = (net + 3) / 6 clipped to [0, 1]."""
        return net * functions.hard_sigmoid(net, xp=xp)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e (g + net / 6 where |net| < 3), g = (net + 3) / 6 clipped to [0, 1]."""
        return e * (functions.hard_sigmoid(net, xp=xp) + xp.where(xp.abs(net) < 3, net, 0) / 6)


@dataclass(frozen=True)
class Mish:
    """o = net tanh(softplus(net)); with t = tanh(softplus(net)), f′ = t + net σ(net) (1 − t²).

    (Misra: Mish: a self regularized non-monotonic activation function, 2020.)

    >>> import numpy as np
    >>> mish(np.asarray([[0.0, 1000.0]]), xp=np).tolist()
    [[0.0, 1000.0]]
    """

    rectified = True

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = net tanh(softplus(net))."""
        return net * xp.tanh(functions.softplus(net, xp=xp))

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e (t + net σ(net) (1 − t²)), t = tanh(softplus(net))."""
        t = xp.tanh(functions.softplus(net, xp=xp))
        return e * (t + net * functions.sigmoid(net, xp=xp) * (1 - t * t))


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
class HardSigmoid:
    """o = net / 6 + 1/2 clipped to [0, 1]; f′ = 1/6 where |net| < 3, else 0.

    (Howard et al.: Searching for MobileNetV3, 2019.) At the kinks, net = ±3, f′ is 0.

    >>> import numpy as np
    >>> hard_sigmoid(np.asarray([[-5.0, 0.0, 3.0]]), xp=np).tolist()
    [[0.0, 0.5, 1.0]]
    """

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = net / 6 + 1/2 clipped to [0, 1]."""
        return functions.hard_sigmoid(net, xp=xp)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e / 6 where |net| < 3, else 0."""
        return xp.where(xp.abs(net) < 3, e / 6, 0)


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
class Softsign:
    """o = net / (1 + |net|); f′ = 1 / (1 + |net|)².

    (Bergstra, Desjardins, Lamblin, Bengio: Quadratic polynomials learn better image features, 2009.)

    >>> import numpy as np
    >>> softsign(np.asarray([[1.0, -3.0]]), xp=np).tolist()
    [[0.5, -0.75]]
    """

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o = net / (1 + |net|)."""
        return net / (1 + xp.abs(net))

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e / (1 + |net|)², divided twice since the square could overflow."""
        return e / (1 + xp.abs(net)) / (1 + xp.abs(net))


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


@dataclass(frozen=True)
class LogSoftmax:
    """o_k = net_k − log Σ_j e^(net_j) over the units of each sample: the logarithm of softmax.

    ∂o_k/∂net_j = [k = j] − e^(o_j), hence delta = e − e^o Σ_k e_k.

    >>> import numpy as np
    >>> log_softmax(np.asarray([[1000.0, 0.0]]), xp=np).tolist()
    [[0.0, -1000.0]]
    """

    def __call__(self, net: Array, *, xp: Namespace) -> Array:
        """The output o; e^o sums to 1 in each row."""
        return functions.log_softmax(net, xp=xp)

    def delta(self, e: Array, net: Array, o: Array, *, xp: Namespace) -> Array:
        """The rule delta = e − e^o Σ_k e_k."""
        return e - xp.exp(o) * xp.sum(e, axis=-1, keepdims=True)


identity = Identity()
relu = ReLU()
leaky_relu = LeakyReLU()
thresholded_relu = ThresholdedReLU()
elu = ELU()
selu = SELU()
celu = CELU()
softplus = Softplus()
gelu = GELU()
gelu_tanh = GELUTanh()
silu = SiLU()
hard_swish = HardSwish()
mish = Mish()
sigmoid = Sigmoid()
hard_sigmoid = HardSigmoid()
tanh = Tanh()
softsign = Softsign()
softmax = Softmax()
log_softmax = LogSoftmax()

ALL: dict[str, Activation] = {
    "identity": identity,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "thresholded_relu": thresholded_relu,
    "elu": elu,
    "selu": selu,
    "celu": celu,
    "softplus": softplus,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "hard_swish": hard_swish,
    "mish": mish,
    "sigmoid": sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "tanh": tanh,
    "softsign": softsign,
    "softmax": softmax,
    "log_softmax": log_softmax,
}
