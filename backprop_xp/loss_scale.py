"""A loss scale for products in float16, where small errors would become 0; it is part of the state.

The errors are multiplied by the scale before the backward pass, and the gradient is divided by it. An
update that is not finite is skipped and halves the scale; 2000 finite ones in a row double it
(Micikevicius et al.: Mixed precision training, 2018).
"""

from .arrays import Array, Namespace, mapped
from .updates import RuleState

FIRST = 65536.0
PATIENCE = 2000  # finite updates in a row until a larger scale is tried

Scale = tuple[Array, ...]  # (the scale, finite updates since it changed), or () if errors are not scaled


def first_scale(like: Array, *, xp: Namespace, device: object) -> Scale:
    """The scale to begin with, in the dtype and on the device of the weights."""
    return (
        xp.full((), FIRST, dtype=like.dtype, device=device),
        xp.zeros((), dtype=xp.int32, device=device),
    )


def kept(w: Array, rule: RuleState, *, xp: Namespace) -> tuple[Array, RuleState]:
    """Copies of what an update consumes, in case it is skipped."""
    return mapped((w, rule), lambda a: xp.asarray(a, copy=True))  # type: ignore[no-any-return]


def settled(
    old: tuple[Array, RuleState], new: tuple[Array, RuleState], scale: Scale, *, xp: Namespace
) -> tuple[Array, RuleState, Scale]:
    """The new weights and rule state if all are finite, else the old ones; and the next scale."""
    (w_old, rule_old), (w, rule) = old, new
    factor, good = scale
    fine = xp.all(xp.isfinite(w))
    for moment in rule.moments:
        fine = fine & xp.all(xp.isfinite(moment))
    moments = tuple(xp.where(fine, a, b) for a, b in zip(rule.moments, rule_old.moments, strict=True))
    rule = rule._replace(count=xp.where(fine, rule.count, rule_old.count), moments=moments)
    due = good + 1 >= PATIENCE
    grown = xp.where(due, factor * 2, factor)
    factor = xp.where(fine, grown, xp.maximum(factor / 2, 1))
    return xp.where(fine, w, w_old), rule, (factor, xp.where(fine & ~due, good + 1, 0))
