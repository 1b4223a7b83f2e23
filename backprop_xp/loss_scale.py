"""A loss scale for products in float16, where small errors would become zero; it lives in the state.

The errors are multiplied by the scale before the backward pass, the gradient is divided by it. An
update that is not finite is not made and halves the scale; many good ones double it (Micikevicius et
al.: Mixed precision training, 2018).
"""

from .arrays import Array, Namespace, mapped
from .updates import RuleState

FIRST = 65536.0
PATIENCE = 2000  # good updates until a larger scale is tried

Scale = tuple[Array, ...]  # (the scale, good updates since it changed), or () where errors are not scaled


def first_scale(like: Array, *, xp: Namespace, device: object) -> Scale:
    """The scale to begin with, in the dtype and on the device of the weights."""
    return (
        xp.full((), FIRST, dtype=like.dtype, device=device),
        xp.zeros((), dtype=xp.int32, device=device),
    )


def kept(w: Array, rule: RuleState, *, xp: Namespace) -> tuple[Array, RuleState]:
    """Copies of what an update consumes, to go back to."""
    return mapped((w, rule), lambda a: xp.asarray(a, copy=True))  # type: ignore[no-any-return]


def settled(
    old: tuple[Array, RuleState], new: tuple[Array, RuleState], scale: Scale, *, xp: Namespace
) -> tuple[Array, RuleState, Scale]:
    """The new weights and rule state where all of them are finite, else the old; and the next scale."""
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
