"""Dynamic loss scaling for products in float16, where small errors would underflow; all on the device.

The errors are multiplied by the scale before the backward pass, the gradient is divided by it. An update
that is not finite is skipped and halves the scale; many good ones double it (Micikevicius et al.: Mixed
precision training, 2018).
"""

from typing import Any

from ...arrays import Array, Namespace
from ..compiled import Step

FIRST = 65536.0
PATIENCE = 2000  # good updates before a larger scale is tried


def scaled(step: Step) -> Step:
    """A step whose state is (s, scale, good updates since the scale changed).

    Args:
        step: takes `scale=`, as `Step.pure_step` does.
    """

    def run(w: Array, s: Any, x: Array, t: Array, *, xp: Namespace) -> tuple[Array, Any, Array]:
        s, scale, good = s
        w_old, *moments_old = (xp.asarray(a, copy=True) for a in (w, *s.rule.moments))  # a step consumes them
        count_old = s.rule.count
        w, s, loss = step(w, s, x, t, xp=xp, scale=scale)
        finite = xp.all(xp.isfinite(w))
        for moment in s.rule.moments:
            finite = finite & xp.all(xp.isfinite(moment))
        w = xp.where(finite, w, w_old)
        pairs = zip(s.rule.moments, moments_old, strict=True)
        moments = tuple(xp.where(finite, new, old) for new, old in pairs)
        rule = s.rule._replace(count=xp.where(finite, s.rule.count, count_old), moments=moments)
        due = good + 1 >= PATIENCE
        grown = xp.where(due, scale * 2, scale)
        scale = xp.where(finite, grown, xp.maximum(scale / 2, 1))
        good = xp.where(finite & ~due, good + 1, 0)
        return w, (s._replace(rule=rule), scale, good), loss

    return run
