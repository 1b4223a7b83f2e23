"""Rules that give each weight a rate of its own, by the size or the sign of its gradients.

Where libraries differ, these follow Torch; Lion follows optax. All but Lion square the gradient, which
must stay below 1e19 in float32 (1e154 in float64): clip it if it may not.
"""

from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

from ..arrays import Array, Namespace
from ..functions import sign
from ..number import number, read_text
from .rule import Rate, RuleState, check_beta, check_decay, check_epsilon, check_rate, decay_now, rate_now


def correction(beta: Any, t: Array, *, xp: Namespace) -> Array:
    """1 − βᵗ as −expm1(t ln β), which keeps its digits in float32."""
    return -xp.expm1(t * log(beta)) if beta else xp.ones_like(t)


@dataclass(frozen=True)
class Adagrad:
    """v ← v + g², w ← w − η g / (√v + ε) (Duchi, Hazan and Singer: Adaptive subgradient methods, 2011).

    As in Torch v begins at 0, and ε is added to √v.

    Args:
        rate: η, as for GradientDescent.
        epsilon: ε.

    Raises:
        BackpropError: a rate or ε that is not positive and finite.

    >>> import numpy as np
    >>> g, w, v = np.asarray([3.0]), np.asarray([1.0]), np.asarray([16.0])
    >>> [a.tolist() for a in Adagrad(0.5).element(g, w, v, 0.5, xp=np)]
    [[0.70000000000...], [25.0]]
    """

    rate: Rate = 0.01
    epsilon: float = 1e-10
    moments: ClassVar[int] = 1

    def __post_init__(self) -> None:
        read_text(self, "rate")
        check_rate(self.rate)
        check_epsilon(self)

    def scalars(self, state: RuleState, *, dtype: Any, xp: Namespace) -> tuple[Array, ...]:
        """The rate."""
        return (rate_now(self.rate, state, dtype=dtype, xp=xp),)

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights and sums of squares."""
        v, rate = rest
        v += g * g
        w -= rate * g / (xp.sqrt(v) + self.epsilon)
        return w, v


@dataclass(frozen=True)
class RMSProp:
    """v ← v + (1 − α) (g² − v), w ← w − η g / (√v + ε) (Tieleman and Hinton: Lecture 6.5, 2012).

    As in Torch v begins at 0 without bias correction, and ε is added to √v (others add it to v).

    Args:
        rate: η, as for GradientDescent.
        alpha: α, 0 <= α < 1.
        epsilon: ε.

    Raises:
        BackpropError: a rate or ε that is not positive and finite, or an α outside [0, 1).

    >>> import numpy as np
    >>> g, w, v = np.asarray([3.0]), np.asarray([1.0]), np.asarray([23.0])
    >>> [a.tolist() for a in RMSProp(0.5, 0.5).element(g, w, v, 0.5, xp=np)]
    [[0.62500000...], [16.0]]
    """

    rate: Rate = 0.01
    alpha: float = 0.99
    epsilon: float = 1e-8
    moments: ClassVar[int] = 1

    def __post_init__(self) -> None:
        read_text(self, "rate")
        check_rate(self.rate)
        check_beta(self.alpha, "alpha")
        check_epsilon(self)

    def scalars(self, state: RuleState, *, dtype: Any, xp: Namespace) -> tuple[Array, ...]:
        """The rate."""
        return (rate_now(self.rate, state, dtype=dtype, xp=xp),)

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights and mean squares."""
        v, rate = rest
        v += (1 - self.alpha) * (g * g - v)
        w -= rate * g / (xp.sqrt(v) + self.epsilon)
        return w, v


@dataclass(frozen=True)
class Adadelta:
    """w ← w − η d, d = √(u + ε) / √(v + ε) g, with v and u the moving averages of g² and d².

    v ← v + (1 − ρ) (g² − v) comes before d, u ← u + (1 − ρ) (d² − u) after it (Zeiler: ADADELTA, 2012).
    The paper has no η; its default is 1, as in Torch.

    Args:
        rate: η, as for GradientDescent.
        rho: ρ, 0 <= ρ < 1.
        epsilon: ε.

    Raises:
        BackpropError: a rate or ε that is not positive and finite, or a ρ outside [0, 1).

    >>> import numpy as np
    >>> g, w, v, u = (np.asarray([a]) for a in (3.0, 1.0, 19.0, 2.0))
    >>> [a.tolist() for a in Adadelta(0.5, 0.5, 2.0).element(g, w, v, u, 0.5, xp=np)]
    [[0.25], [14.0], [2.125]]
    """

    rate: Rate = 1.0
    rho: float = 0.9
    epsilon: float = 1e-6
    moments: ClassVar[int] = 2

    def __post_init__(self) -> None:
        read_text(self, "rate")
        check_rate(self.rate)
        check_beta(self.rho, "rho")
        check_epsilon(self)

    def scalars(self, state: RuleState, *, dtype: Any, xp: Namespace) -> tuple[Array, ...]:
        """The rate."""
        return (rate_now(self.rate, state, dtype=dtype, xp=xp),)

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights and both averages."""
        v, u, rate = rest
        v += (1 - self.rho) * (g * g - v)
        change = xp.sqrt(u + self.epsilon) / xp.sqrt(v + self.epsilon) * g
        u += (1 - self.rho) * (change * change - u)
        w -= rate * change
        return w, v, u


@dataclass(frozen=True)
class Adam:
    """w ← w − η m̂ / (√v̂ + ε), with m and v the moving averages of g and g².

    m ← m + (1 − β₁) (g − m), v ← v + (1 − β₂) (g² − v), m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)
    (Kingma and Ba: Adam: a method for stochastic optimization, 2015). As in the paper's algorithm
    and in Torch, ε is added to √v̂. The two corrections are combined as in the paper's section 2:
    with c = √(1 − β₂ᵗ) the update is η c / (1 − β₁ᵗ) · m / (√v + ε c). They are computed as
    1 − βᵗ = −expm1(t ln β), which keeps its digits in float32.

    Args:
        rate: η, as for GradientDescent.
        beta1: β₁.
        beta2: β₂.
        epsilon: ε.

    Raises:
        BackpropError: a rate or ε that is not positive and finite, or a β outside [0, 1).

    >>> import backprop_xp as bp, numpy as np
    >>> learner = bp.Learner(bp.chain(1, bp.layers.Linear(1, bias=False)), update=Adam(0.5))
    >>> w, s = learner.init(dtype="float64", weights={"dense1.w": [[1]]})
    >>> w, s, _ = learner.step(w, s, np.ones((1, 1)), np.zeros((1, 1)))
    >>> round(float(w[0]), 6)
    0.5
    """

    rate: Rate = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    moments: ClassVar[int] = 2

    def __post_init__(self) -> None:
        read_text(self, "rate")
        check_rate(self.rate)
        check_beta(self.beta1)
        check_beta(self.beta2)
        check_epsilon(self)

    def scalars(self, state: RuleState, *, dtype: Any, xp: Namespace) -> tuple[Array, ...]:
        """η c / (1 − β₁ᵗ) and ε c, with c = √(1 − β₂ᵗ)."""
        t = xp.astype(state.count + 1, dtype)
        first, second = (correction(beta, t, xp=xp) for beta in (self.beta1, self.beta2))
        c = xp.sqrt(second)
        return rate_now(self.rate, state, dtype=dtype, xp=xp) * c / first, self.epsilon * c

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights and moments."""
        m, v, rate, epsilon = rest
        m += (1 - self.beta1) * (g - m)
        v += (1 - self.beta2) * (g * g - v)
        w -= rate * m / (xp.sqrt(v) + epsilon)
        return w, m, v


@dataclass(frozen=True)
class AdamW(Adam):
    """w ← w − η λ w, then Adam: Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    As in Torch λ is multiplied by the rate of the step. To leave out biases, give them a group, at no
    cost: {"*.b": AdamW(decay=0), "*": AdamW(decay=0.01)}. (For decay that goes through the moments, use
    the penalty L2.)

    Args:
        rate: η, as for GradientDescent.
        beta1: β₁.
        beta2: β₂.
        epsilon: ε.
        decay: λ, 0 or more.

    Raises:
        BackpropError: a rate or ε that is not positive and finite, a β outside [0, 1), a λ below 0.

    >>> import numpy as np
    >>> g, w, m, v = (np.asarray([a]) for a in (1.0, 1.0, 1.0, 1.0))
    >>> AdamW(0.5, decay=0.5).element(g, w, m, v, 0.5, 0.0, 0.25, xp=np)[0].tolist()
    [0.25]
    """

    decay: Any = 0.01
    numbers: ClassVar[tuple[str, ...]] = ("rate", "decay")

    def __post_init__(self) -> None:
        super().__post_init__()
        read_text(self, "decay")
        check_decay(self.decay)

    def scalars(self, state: RuleState, *, dtype: Any, xp: Namespace) -> tuple[Array, ...]:
        """Those of Adam, and η λ."""
        rate = rate_now(self.rate, state, dtype=dtype, xp=xp)
        return *super().scalars(state, dtype=dtype, xp=xp), rate * decay_now(self.decay, state, xp=xp)

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights and moments."""
        *rest_of_adam, decay = rest
        w -= decay * w
        return super().element(g, w, *rest_of_adam, xp=xp)


@dataclass(frozen=True)
class NAdam:
    """Adam with Nesterov momentum (Dozat: Incorporating Nesterov momentum into Adam, 2016).

    w ← w − η ((1 − μ) g / c + μ′ m / c′) / (√v̂ + ε), with m, v and v̂ as in Adam. The momentum grows:
    μ = β₁ (1 − ½ · 0.96^(t ψ)), μ′ is that of the next step, c = 1 − Π μ over all steps, c′ = 1 − μ′ Π μ.
    (Torch's NAdam.) c is kept for each weight, as a moment, so that a thawed block starts with its own.

    Args:
        rate: η, as for GradientDescent.
        beta1: β₁.
        beta2: β₂.
        epsilon: ε.
        momentum_decay: ψ, 0 or more.

    Raises:
        BackpropError: a rate or ε that is not positive and finite, a β outside [0, 1), a ψ below 0.

    >>> import numpy as np
    >>> g, w, m, v, c = (np.asarray([a]) for a in (1.0, 1.0, 1.0, 1.0, 0.0))
    >>> [a.tolist() for a in NAdam().element(g, w, m, v, c, 0.5, 0.0, 0.5, 0.5, xp=np)]
    [[0.166666666666666...], [1.0], [1.0], [0.5]]
    """

    rate: Rate = 0.002
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum_decay: float = 0.004
    moments: ClassVar[int] = 3

    def __post_init__(self) -> None:
        read_text(self, "rate")
        check_rate(self.rate)
        check_beta(self.beta1)
        check_beta(self.beta2)
        check_epsilon(self)
        check_decay(self.momentum_decay, "the momentum decay of NAdam")

    def scalars(self, state: RuleState, *, dtype: Any, xp: Namespace) -> tuple[Array, ...]:
        """η √(1 − β₂ᵗ), ε √(1 − β₂ᵗ), μ and μ′."""
        t = xp.astype(state.count + 1, dtype)
        root = xp.sqrt(correction(self.beta2, t, xp=xp))
        speed = self.momentum_decay * log(0.96)
        now, after = (self.beta1 * (1 - 0.5 * xp.exp(each * speed)) for each in (t, t + 1))
        return rate_now(self.rate, state, dtype=dtype, xp=xp) * root, self.epsilon * root, now, after

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights and moments."""
        m, v, c, rate, epsilon, now, after = rest
        m += (1 - self.beta1) * (g - m)
        v += (1 - self.beta2) * (g * g - v)
        c *= now
        c += 1 - now
        ahead = (1 - now) / c * g + after / (1 - after * (1 - c)) * m
        w -= rate * ahead / (xp.sqrt(v) + epsilon)
        return w, m, v, c


@dataclass(frozen=True)
class Lion:
    """w ← w − η (sign(β₁ m + (1 − β₁) g) + λ w), m ← β₂ m + (1 − β₂) g.

    (Chen et al.: Symbolic discovery of optimization algorithms, 2023; optax's lion.) Every weight moves
    by η, so η should be three to ten times smaller than Adam's, and λ as much larger. The sign of 0 is 0.

    Args:
        rate: η, as for GradientDescent.
        beta1: β₁, a number, or text such as "9/10", which the exact backend keeps exact.
        beta2: β₂, a number or text.
        decay: λ, 0 or more, multiplied by the rate as for AdamW; a number or text.

    Raises:
        BackpropError: a rate that is not positive and finite, a β outside [0, 1), a λ below 0.

    >>> import numpy as np
    >>> g, w, m = np.asarray([4.0]), np.asarray([1.0]), np.asarray([-1.0])
    >>> [a.tolist() for a in Lion(0.5, 0.5, 0.75).element(g, w, m, 0.5, 0.25, xp=np)]
    [[0.25], [0.25]]
    """

    rate: Rate = 0.0001
    beta1: Any = 0.9
    beta2: Any = 0.99
    decay: Any = 0.001
    moments: ClassVar[int] = 1
    numbers: ClassVar[tuple[str, ...]] = ("rate", "decay")

    def __post_init__(self) -> None:
        read_text(self, "rate", "beta1", "beta2", "decay")
        check_rate(self.rate)
        check_beta(self.beta1)
        check_beta(self.beta2)
        check_decay(self.decay)

    def scalars(self, state: RuleState, *, dtype: Any, xp: Namespace) -> tuple[Array, ...]:
        """The rate η, and η λ."""
        rate = rate_now(self.rate, state, dtype=dtype, xp=xp)
        return rate, rate * decay_now(self.decay, state, xp=xp)

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights and moment."""
        m, rate, decay = rest
        beta1, beta2 = (number(beta, xp=xp) for beta in (self.beta1, self.beta2))
        w -= rate * sign(beta1 * m + (1 - beta1) * g, xp=xp) + decay * w
        m *= beta2
        m += (1 - beta2) * g
        return w, m
