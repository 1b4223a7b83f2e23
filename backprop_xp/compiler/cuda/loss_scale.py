"""A loss scale for products in float16, where small errors would become zero; all of it on the device.

The errors are multiplied by the scale before the learning flow, the gradient is divided by it. An
update that is not finite is not made and halves the scale; many good ones double it (Micikevicius
et al.: Mixed precision training, 2018).
"""

from typing import Any

from ...arrays import Array, Namespace
from ..compiled import Step

FIRST = 65536.0
PATIENCE = 2000  # good updates until a larger scale is tried


def scaled(step: Step) -> Step:
    """A step of which the state is (s, scale, good updates since the scale changed).

    Args:
        step: takes `scale=`, as `Step.pure_step` does.
    """

    def run(w: Array, s: Any, x: Array, t: Array, *, xp: Namespace) -> tuple[Array, Any, Array]:
        s, scale, good = s
        w_old, *old = (xp.asarray(a, copy=True) for a in (w, *s.rule.moments))  # a step consumes them
        count = s.rule.count
        w, s, loss = step(w, s, x, t, xp=xp, scale=scale)
        fine = xp.all(xp.isfinite(w))
        for moment in s.rule.moments:
            fine = fine & xp.all(xp.isfinite(moment))
        w = xp.where(fine, w, w_old)
        moments = tuple(xp.where(fine, new, v) for new, v in zip(s.rule.moments, old, strict=True))
        rule = s.rule._replace(count=xp.where(fine, s.rule.count, count), moments=moments)
        due = good + 1 >= PATIENCE
        grown = xp.where(due, scale * 2, scale)
        scale = xp.where(fine, grown, xp.maximum(scale / 2, 1))
        good = xp.where(fine & ~due, good + 1, 0)
        return w, (s._replace(rule=rule), scale, good), loss

    return run
