"""Checks that units of every kind share."""

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np

from ..arrays import Shape, leaves, mapped
from ..errors import BackpropError, got_instead
from .formula import (
    CLOSE,
    Formula,
    compare,
    in_float32,
    named,
    on_jax,
    on_numpy,
    on_read_only,
    on_standard,
    on_torch,
    planned,
    twice,
)
from .report import CheckFailed
from .settings import settings_hold

Checks = dict[str, Callable[[], str]]


def check_made(unit: Any, want: str, *, fits: bool) -> None:
    """Check that the argument is a unit of the right kind, and not its class.

    Raises:
        BackpropError: it is not; the message says what was expected.
    """
    if isinstance(unit, type) or not fits:
        msg = f"{want}, {got_instead(unit)}"
        raise BackpropError(msg)


def family(
    unit: Any, formula: Formula, shapes: Mapping[str, Shape], own: Checks, exact: Callable[[], str]
) -> Checks:
    """The checks of a unit in their order: cheap ones first, other libraries last.

    Args:
        unit: the unit.
        formula: all that it computes, by name.
        shapes: of what it computes, by name.
        own: the checks of its kind.
        exact: the check on fractions.
    """
    return {
        "settings": lambda: settings_hold(unit),
        "shapes": lambda: check_shapes(formula, shapes),
        "repeatable": lambda: twice(formula),
        "read-only": lambda: on_read_only(formula),
        "recorded": lambda: planned(formula),
        "dtype": lambda: in_float32(formula),
        **own,
        "exact": exact,
        "standard": lambda: on_standard(formula),
        "jax": lambda: on_jax(formula),
        "torch": lambda: on_torch(formula),
    }


def check_shapes(formula: Formula, wanted: Mapping[str, Shape]) -> str:
    """The results of a formula have these names and shapes.

    Raises:
        CheckFailed: with the name, the shape wanted and the one there is.
    """
    found = dict(named(on_numpy(formula)))
    for name, shape in wanted.items():
        if name not in found or found[name].shape != shape:
            got = f"got {found[name].shape}" if name in found else "there is none"
            msg = f"{name} must have shape {shape}, {got}"
            raise CheckFailed(msg)
    return ", ".join(f"{name} {shape}" for name, shape in wanted.items())


def rows_alone(formula: Formula) -> str:
    """Each row has the same results alone as among others.

    Raises:
        CheckFailed: a row depends on the others.
    """
    both = formula.given, on_numpy(formula)
    parts = [mapped(both, itemgetter(slice(k, k + 1))) for k in range(leaves(formula.given)[0].shape[0])]
    for k, (given, wanted) in enumerate(parts):
        compare(
            on_numpy(Formula(formula.run, given)),
            wanted,
            f"of row {k} alone",
            CLOSE["float64"],
            against=f"of row {k} among others",
            look=": a row must not depend on others, so reduce over axis=-1",
        )
    return "each row is what it is alone"


def finite(formula: Formula, where: str) -> None:
    """All results of a formula are finite, without a warning.

    Raises:
        CheckFailed: something overflows.
    """
    dtype, remedy = leaves(formula.given)[0].dtype, "write the formula so that no part of it overflows"
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            made = formula.run(formula.given, formula.kept, xp=np)
    except FloatingPointError as error:
        msg = f"{error} {where} in {dtype}: {remedy}"
        raise CheckFailed(msg) from error
    for name, a in named(made):
        if not np.all(np.isfinite(a)):
            msg = f"{name} is not finite {where} in {dtype}: {remedy}"
            raise CheckFailed(msg)


def no_nan(formula: Formula, where: str) -> None:
    """Results of a formula may be infinite, but not NaN.

    Raises:
        CheckFailed: there is a NaN.
    """
    for name, a in named(on_numpy(formula)):
        if np.any(np.isnan(a)):
            msg = f"{name} is NaN {where} in {a.dtype}: two parts of the formula overflow against each other"
            raise CheckFailed(msg)
