"""Averages of the weights over the updates, which often predict better than the last weights."""

from dataclasses import dataclass
from typing import Any

from ..arrays import Array, Namespace
from ..errors import BackpropError, got_instead
from .adaptive import correction
from .rule import Rate, RuleState, Update, check_beta


@dataclass(frozen=True)
class Averaged:
    """A rule that keeps an average a of the weights: a ← a + k (w − a) after each of its updates.

    Without `decay` k = 1 / t: a is the mean of all weights so far (Polyak and Juditsky: Acceleration of
    stochastic approximation by averaging, 1992). With it k = (1 − d) / (1 − dᵗ): a is the exponential
    moving average with bias correction. Training is the same as without it; `learner.averaged(w, s)`
    returns the averages, to predict with. They are the rule's last moment.

    Args:
        rule: any update rule.
        decay: d, 0 <= d < 1, such as 0.999, or None for the mean.

    Raises:
        BackpropError: rule is not an update rule, or decay is outside [0, 1).

    >>> import backprop_xp as bp
    >>> rule = Averaged(bp.GradientDescent("1/2"))
    >>> learner = bp.Learner(bp.chain(1, bp.layers.Linear(1, bias=False)), update=rule)
    >>> w, s = learner.init(backend="exact", weights={"dense1.w": [[1]]})
    >>> x = bp.asarray([[1]], like=w)
    >>> for _ in range(2):  # the weights are 1/2, then 1/4
    ...     w, s, _ = learner.step(w, s, x, 0 * x)
    >>> learner.averaged(w, s)
    exact.asarray(['3/8'])
    """

    rule: Update
    decay: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Update) or isinstance(self.rule, type):
            msg = f"Averaged needs an update rule such as bp.Adam(), {got_instead(self.rule)}"
            raise BackpropError(msg)
        if self.decay is not None:
            check_beta(self.decay, "decay")

    @property
    def moments(self) -> int:
        """The number of moments of the rule, and one for the average."""
        return self.rule.moments + 1

    @property
    def rate(self) -> Rate:
        """The rate of the rule."""
        return self.rule.rate

    def scalars(self, state: RuleState, *, dtype: Any, xp: Namespace) -> tuple[Array, ...]:
        """The factor k, and the scalars of the rule."""
        t = xp.astype(state.count + 1, dtype)
        k = 1 / t if self.decay is None else (1 - self.decay) / correction(self.decay, t, xp=xp)
        return k, *self.rule.scalars(state, dtype=dtype, xp=xp)

    def element(self, g: Array, w: Array, *rest: Array, xp: Namespace) -> tuple[Array, ...]:
        """The new weights, the moments of the rule, and the average."""
        own = self.rule.moments
        average, k = rest[own : own + 2]
        w, *moments = self.rule.element(g, w, *rest[:own], *rest[own + 2 :], xp=xp)
        average += k * (w - average)
        return w, *moments, average
