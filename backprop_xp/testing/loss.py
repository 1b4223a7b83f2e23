"""The checks of a loss."""

from typing import Any, Literal

import numpy as np

from ..exact import namespace
from ..losses import Loss
from .formula import Formula, exactly, fractions
from .gradient import agree, agree_exactly, differences
from .points import LARGE, ROWS, large, nearly_certain, points, shares, targets
from .report import Report, run
from .shared import check_made, family, finite, no_nan, rows_alone

Outputs = Literal["numbers", "probabilities"]
_LOOK = "the derivative in error"


def check_loss(loss: Loss, *, outputs: Outputs = "numbers", up_to: float = LARGE) -> Report:
    """Check a loss of one's own: that error is the derivative of value, and that it runs everywhere.

    Args:
        loss: the loss.
        outputs: what the loss reads: any 'numbers', or 'probabilities', as a sigmoid or a softmax gives them.
        up_to: outputs of this size must give finite numbers and no warning, in float32 too.

    Returns:
        What was checked.

    Raises:
        CheckFailed: the first check that does not hold, in one sentence.
        BackpropError: it is no loss.

    >>> from backprop_xp import losses
    >>> check_loss(losses.squared_error).held("exact")
    True
    """
    check_made(loss, "a loss derives from bp.losses.Loss", fits=isinstance(loss, Loss))
    shape = (ROWS, 3)
    o, given = points(shape, 0) if outputs == "numbers" else shares(shape, 0), targets(loss, shape)

    def one(o: Any, t: Any, *, xp: Any) -> Any:
        t = loss.encode(t, o, xp=xp)
        return {"value": loss.value(o, t, xp=xp), "error": loss.error(o, t, xp=xp)}

    def each(given: Any, kept: Any, *, xp: Any) -> Any:  # noqa: ARG001
        o, by_kind = given
        made = {f"for {kind}": one(o, t, xp=xp) for kind, t in by_kind.items()}
        return made | {"link": loss.link(o, xp=xp)}

    formula = Formula(each, (o, given))

    def gradient() -> str:
        n = 0
        for kind, t in given.items():

            def value(y: Any, t: Any = t) -> Any:
                return one(y, t, xp=np)["value"]

            wanted = differences(value, o, 1.0)
            n += agree(f"error for {kind}", one(o, t, xp=np)["error"], wanted, _LOOK)
        return f"error at {n} points is the central difference of value"

    def exact() -> str:
        note = exactly(formula)
        at, ones = fractions((o, np.ones(ROWS)))
        for kind, t in fractions(given).items():
            error = one(at, t, xp=namespace)["error"]

            def value(y: Any, t: Any = t) -> Any:
                return one(y, t, xp=namespace)["value"]

            agree_exactly(f"error for {kind}", value, at, ones, error, _LOOK)
        return note

    def ends() -> str:
        for a in large(up_to) if outputs == "numbers" else nearly_certain():
            finite(Formula(each, (a, _like(a, targets(loss, a.shape)))), f"for outputs of ±{up_to:g}")
        for a in large() if outputs == "numbers" else ():
            no_nan(Formula(each, (a, _like(a, targets(loss, a.shape)))), "for the largest outputs there are")
        return f"finite up to ±{up_to:g}" if outputs == "numbers" else "finite close to 0 and 1"

    shapes = {f"for {kind}.{name}": s for kind in given for name, s in (("value", (ROWS,)), ("error", shape))}
    own = {"rows": lambda: rows_alone(formula), "gradient": gradient, "large inputs": ends}
    return run(loss, family(loss, formula, shapes | {"link": shape}, own, exact))


def _like(a: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Targets in the dtype of an output; labels stay."""
    return {kind: t if t.dtype.kind == "i" else t.astype(a.dtype) for kind, t in given.items()}
