"""Computes the examples of the articles and compares the results with the printed figures."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import isclose
from typing import Any, Literal

from ..errors import BackpropError, listed
from . import article_4, articles_1_2, articles_3_5, general
from .examples import Example, Printed
from .nets import Arithmetic, Inputs

Kind = Callable[[Inputs, Arithmetic], dict[str, Any]]
Mark = Literal[
    "equal", "equal after rounding", "erratum of the article", "differs: float branch", "WRONG: should agree"
]
EQUAL: Mark = "equal"
ROUNDED: Mark = "equal after rounding"
ERRATUM: Mark = "erratum of the article"
BRANCH: Mark = "differs: float branch"
WRONG: Mark = "WRONG: should agree"
MARKS: tuple[Mark, ...] = (EQUAL, ROUNDED, ERRATUM, BRANCH, WRONG)

KINDS: dict[str, Kind] = {
    "net": general.net,
    "broccoli_table": articles_1_2.table,
    "broccoli_step": articles_1_2.step,
    "broccoli_epoch": articles_1_2.epoch,
    "threshold": articles_1_2.threshold,
    "float_trap": articles_1_2.float_trap,
    "sign_flow": articles_1_2.sign_flow,
    "balance": articles_1_2.balance,
    "update_direction": articles_1_2.update_direction,
    "flow_skip": articles_1_2.flow_skip,
    "convexity": articles_1_2.convexity,
    "sugden": articles_3_5.step_of_article_3,
    "losses": articles_3_5.losses,
    "eq44": articles_3_5.formula_4_4,
    "eq410": articles_3_5.formula_4_10,
    "closer_look": articles_3_5.step_of_article_5,
    "ascii": article_4.ascii_net,
    "saturate": article_4.saturate,
    "weight_floor": article_4.weight_floor,
    "effective_rate": article_4.effective_rate,
    "effective_rate_general": article_4.effective_rate_general,
}
CLOSE = {"float64": 1e-12, "float32": 1e-5}


@dataclass(frozen=True)
class Figure:
    """A printed figure with ours beside it.

    Attributes:
        printed: the article's figure.
        ours: our value.
        mark: the result of the comparison.
    """

    printed: Printed
    ours: Any
    mark: Mark


@dataclass(frozen=True)
class Result:
    """The result of an example.

    Attributes:
        example: the example.
        arithmetic: the backend and dtype it was computed with.
        values: all its numbers, under the article's names; fractions or floats.
        figures: the printed figures, compared with ours.
    """

    example: Example
    arithmetic: Arithmetic
    values: dict[str, Any]
    figures: tuple[Figure, ...]

    @property
    def ok(self) -> bool:
        """Whether every figure agrees, except where the article or float rounding is known to differ."""
        return all(figure.mark != WRONG for figure in self.figures)

    @property
    def branch(self) -> str | None:
        """What happened, in words, if rounding made the example take the other branch; else None."""
        if all(figure.mark != BRANCH for figure in self.figures):
            return None
        text = f"{self.arithmetic.kind} takes the other branch"
        grads = self.values.get("dw2", [step["grad_W"] for step in self.values.get("steps", [])])
        if grads and not any(flat(grads)):
            text += ": nothing is learnt"
            if "after" in self.values:
                outputs = ", ".join(f"{float(o):g}" for o in flat(self.values["after"]["outputs"]))
                text += f"; outputs stay {outputs}"
        return f"{text} (the net input of a ReLU that is exactly 0 is not exactly 0 in floats)"


def flat(values: Any) -> list[Any]:
    """The leaves of nested lists.

    >>> flat([[1, 2], [[3]]])
    [1, 2, 3]
    """
    return [leaf for each in values for leaf in flat(each)] if isinstance(values, list) else [values]


def arithmetic_for(example: Example, backend: str | None, dtype: str | None = None) -> Arithmetic:
    """The arithmetic for an example: fractions by default, NumPy's float64 if values are irrational."""
    if backend in (None, "exact"):
        return Arithmetic("exact") if example.numbers != "floats" else Arithmetic("numpy", dtype)
    return Arithmetic(str(backend), dtype)


def run(example: Example, backend: str | None = None, dtype: str | None = None) -> Result:
    """Compute an example and compare the result with its printed figures.

    Args:
        example: from `load()`.
        backend: by name; without one, or with 'exact', fractions if the values are rational, else
            NumPy.
        dtype: of float backends; without one 'float64'.

    Raises:
        BackendUnavailable: the library is not installed.
        BackpropError: an example of an unknown kind.

    >>> from backprop_xp.articles import load
    >>> result = run(load(2)[0].examples[3])
    >>> result.values["dw2"], result.ok
    ([Fraction(0, 1), Fraction(-2000, 1), Fraction(-3000, 1)], True)
    """
    if example.kind not in KINDS:
        msg = f"the kind of an example must be one of {listed(KINDS)}, got {example.kind!r}"
        raise BackpropError(msg)
    arithmetic = arithmetic_for(example, backend, dtype)
    values = KINDS[example.kind](example.inputs, arithmetic)
    figures = tuple(_compared(printed, example, arithmetic, values) for printed in example.printed)
    return Result(example, arithmetic, values, figures)


def _compared(printed: Printed, example: Example, arithmetic: Arithmetic, values: dict[str, Any]) -> Figure:
    ours = _at(printed.path, {**values, "inputs": example.inputs})
    tolerance = None if arithmetic.exact else CLOSE[arithmetic.kind]
    if agrees(ours, printed.value, printed.how, tolerance) == printed.agrees:
        mark = ERRATUM if not printed.agrees else EQUAL if printed.how == "exact" else ROUNDED
    else:
        mark = BRANCH if example.numbers == "fractions alone" and not arithmetic.exact else WRONG
    return Figure(printed, ours, mark)


def _at(path: str, values: Any) -> Any:
    for key in path.split("."):
        values = values[int(key)] if isinstance(values, list) else values[key]
    return values


def agrees(ours: Any, printed: Any, how: str, tolerance: float | None = None) -> bool:
    """Whether our value agrees with the printed one.

    Args:
        ours: a number, a word, a boolean, or a list of these.
        printed: the same, numbers as text.
        how: 'exact', or 'rounded' to the decimals of the text.
        tolerance: relative, for floats; None requires equal fractions.

    >>> from fractions import Fraction
    >>> agrees(Fraction(9245, 100000), "0.092", "rounded"), agrees(Fraction(1, 3), "0.333", "exact")
    (True, False)
    """
    if isinstance(printed, list):
        pairs = zip(ours, printed, strict=True)
        return len(ours) == len(printed) and all(agrees(a, b, how, tolerance) for a, b in pairs)
    if isinstance(ours, bool) or isinstance(printed, bool) or not _is_number(printed):
        return bool(ours == printed)
    value, mine = Fraction(printed), Fraction(ours)
    if how == "rounded":
        return abs(mine - value) <= Fraction(1, 2 * 10 ** len(printed.partition(".")[2]))
    return mine == value if tolerance is None else isclose(mine, value, rel_tol=tolerance)


def _is_number(text: Any) -> bool:
    try:
        Fraction(text)
    except (TypeError, ValueError):
        return False
    return True
