"""The checks of an update rule."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..updates import RuleState, Update
from .formula import CLOSE, Formula, compare, exactly
from .points import DTYPES, points
from .report import CheckFailed, Report, run
from .shared import check_made, family, finite

_WEIGHTS = 6
_STEPS = 50


def check_update(rule: Update) -> Report:
    """Check an update rule of one's own: that it descends, weight by weight, and that it runs everywhere.

    Args:
        rule: the rule.

    Returns:
        What was checked.

    Raises:
        CheckFailed: the first check that does not hold, in one sentence.
        BackpropError: it is no rule.

    >>> import backprop_xp as bp
    >>> check_update(bp.GradientDescent(0.1)).held("exact")
    True
    """
    check_made(rule, "a rule has moments, rate, scalars and element", fits=isinstance(rule, Update))
    return run(rule, _Checked(rule).checks())


class _Checked:
    """A rule, and what it is given."""

    def __init__(self, rule: Update) -> None:
        self.rule = rule
        self.rates = np.full(_WEIGHTS, 0.25) if isinstance(rule.rate, Mapping) else ()
        self.names = ("w", *(f"moments[{k}]" for k in range(rule.moments)))

    def stepped(self, given: Any, kept: Any, *, xp: Any) -> dict[str, Any]:
        """New weights and moments, by name."""
        (g, count, rates), (w, *moments) = given, kept
        scalars = self.rule.scalars(RuleState(count, rates, tuple(moments)), dtype=w.dtype, xp=xp)
        made = self.rule.element(g, w, *moments, *scalars, xp=xp)
        if not isinstance(made, tuple) or len(made) != len(self.names):
            got = len(made) if isinstance(made, tuple) else f"a {type(made).__name__}"
            msg = f"element must give a tuple of {', '.join(self.names)}, got {got}"
            raise CheckFailed(msg)
        return dict(zip(self.names, made, strict=True))

    def formula(self, part: slice = slice(None), *, count: Any = 4) -> Formula:
        """A step on some of the weights, the fifth one; moments are positive, as averages of squares are."""
        g, w = points((_WEIGHTS,), 0), points((_WEIGHTS,), 1, 2.0)
        moments = [abs(points((_WEIGHTS,), 2 + k)) + 1 for k in range(self.rule.moments)]
        counts = np.asarray(count, dtype=np.int32)
        rates = self.rates if isinstance(self.rates, tuple) else self.rates[part]
        given = (g[part], counts[part] if counts.ndim else counts, rates)
        return Formula(self.stepped, given, tuple(a[part] for a in (w, *moments)))

    def checks(self) -> Any:
        """The checks of this rule, in their order."""
        formula = self.formula()
        own = {
            "each weight": self.each_weight,
            "counts": self.counts,
            "descent": self.descent,
            "large inputs": self.ends,
        }
        shapes = dict.fromkeys(self.names, (_WEIGHTS,))
        return family(self.rule, formula, shapes, own, lambda: exactly(formula))

    def made(self, formula: Formula) -> Any:
        """The results of a step on copies."""
        return self.stepped(formula.given, tuple(a.copy() for a in formula.kept), xp=np)

    def each_weight(self) -> str:
        """A part of the weights changes in the same way alone as among all of them."""
        part = slice(1, 3)
        whole = {name: a[part] for name, a in self.made(self.formula()).items()}
        compare(
            self.made(self.formula(part)),
            whole,
            "of weights 1 and 2 alone",
            CLOSE["float64"],
            against="among others",
            look=": element is elementwise, and what weights share belongs into scalars",
        )
        return "a part of the weights is changed as among all"

    def counts(self) -> str:
        """A count for each weight, as after thawing, gives the same as one count for all."""
        each = self.made(self.formula(count=np.full(_WEIGHTS, 4)))
        look = ": state.count is 0-d, or has one entry for each weight, so scalars compute with xp alone"
        compare(
            each,
            self.made(self.formula()),
            "with a count for each weight",
            1e-12,
            against="with one",
            look=look,
        )
        return "one for all weights, or one for each"

    def descent(self) -> str:
        """Steps on E = ½ Σ w² make it smaller.

        Raises:
            CheckFailed: it grows.
        """
        w = points((_WEIGHTS,), 1, 2.0)
        first, moments = float(w @ w) / 2, [np.zeros_like(w) for _ in range(self.rule.moments)]
        for k in range(_STEPS):
            given = w.copy(), np.asarray(k, dtype=np.int32), self.rates
            w, *moments = self.stepped(given, (w, *moments), xp=np).values()
        last = float(w @ w) / 2
        if not last < first:
            msg = (
                f"{_STEPS} steps on E = ½ Σ w² take it from {first:.6g} to {last:.6g}: look at the sign "
                "of the change in element, w − η g, or take a smaller rate"
            )
            raise CheckFailed(msg)
        return f"{_STEPS} steps take ½ Σ w² from {first:.3g} to {last:.3g}"

    def ends(self) -> str:
        """First steps from moments of 0, with gradients of 0, tiny and large."""
        for dtype in DTYPES:
            g = np.asarray([0.0, 1e-30, -1e-8, 1e4, -1e4, 1.0], dtype=dtype)
            w = np.asarray([1.0, -1.0, 0.0, 1.0, 1e4, 0.5], dtype=dtype)
            kept = (w, *(np.zeros_like(w) for _ in range(self.rule.moments)))
            rates = self.rates if isinstance(self.rates, tuple) else self.rates.astype(dtype)
            given = (g, np.asarray(0, dtype=np.int32), rates)
            finite(Formula(self.stepped, given, kept), "in a first step with gradients from 0 to ±1e4")
        return "finite in a first step with gradients from 0 to ±1e4"
