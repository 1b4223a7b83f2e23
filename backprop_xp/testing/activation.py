"""The checks of an activation."""

from typing import Any

import numpy as np

from ..activations import Activation
from ..exact import namespace
from .formula import Formula, exactly, fractions
from .gradient import agree, agree_exactly, differences
from .points import LARGE, ROWS, large, points
from .report import Report, run
from .shared import check_made, family, finite, no_nan, rows_alone

_LOOK = "the derivative in delta"


def check_activation(f: Activation, *, up_to: float = LARGE) -> Report:
    """Check an activation of one's own: that delta is its derivative, and that it runs everywhere.

    Args:
        f: the activation.
        up_to: net inputs of this size must give finite numbers and no warning, in float32 too.

    Returns:
        What was checked.

    Raises:
        CheckFailed: the first check that does not hold, in one sentence.
        BackpropError: f is no activation.

    >>> from backprop_xp import activations
    >>> check_activation(activations.leaky_relu).held("exact")
    True
    """
    check_made(f, "an activation is called, and has a method delta", fits=callable(f) and hasattr(f, "delta"))
    x, e = points((ROWS, 5), 0), points((ROWS, 5), 1)

    def both(given: Any, kept: Any, *, xp: Any) -> Any:  # noqa: ARG001
        net, e = given
        o = f(net, xp=xp)
        return {"o": o, "delta": f.delta(e, net, o, xp=xp)}

    net = x.copy()
    net[0, :2] = 0.0, -0.0  # where most kinks are
    formula = Formula(both, (net, e))

    def gradient() -> str:
        wanted = differences(lambda y: f(y, xp=np), x, e)
        n = agree("delta", both((x, e), (), xp=np)["delta"], wanted, _LOOK)
        return f"delta at {n} points is the central difference of o"

    def exact() -> str:
        note = exactly(formula)
        at, weights = fractions((x, e))
        delta = both((at, weights), (), xp=namespace)["delta"]
        agree_exactly("delta", lambda y: f(y, xp=namespace), at, weights, delta, _LOOK)
        return note

    def ends() -> str:
        for each in large(up_to):
            finite(Formula(both, (each, np.ones_like(each))), f"at net inputs of ±{up_to:g}")
        for each in large():
            no_nan(Formula(both, (each, np.ones_like(each))), "at the largest net inputs there are")
        return f"finite up to ±{up_to:g}, no NaN up to the largest numbers there are"

    own = {"rows": lambda: rows_alone(formula), "gradient": gradient, "large inputs": ends}
    return run(f, family(f, formula, {"o": net.shape, "delta": net.shape}, own, exact))
