"""Derivatives against central differences, off the kinks.

Each entry x is moved by h and 2h to both sides, and a difference of fourth order,

    D(h) = (8 (E(x + h) − E(x − h)) − (E(x + 2h) − E(x − 2h))) / 12h,

is formed for h and for h/2. Where a function is smooth the two agree to about h⁴; where a kink lies within
2h of x they do not, and the entry is left out. An entry *at* a kink would not be noticed, so the points have
a fifth decimal, which kinks at 0, ½, 1, 3, … do not have. On fractions nothing is rounded, so one
difference with h = 10⁻⁹ tells a derivative to 10⁻¹⁵.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from .. import backends
from ..arrays import Array
from .formula import place, sent
from .report import CheckFailed

_H = 2.0**-8
_BOUND = 1e-8  # of the largest entry: rounding leaves about 1e-12, a wrong formula far more
_KINK = 1e-4


class Differences(NamedTuple):
    """Central differences d, their uncertainty (`doubt`), and where the function is smooth."""

    d: Any
    doubt: Any
    smooth: Any


def differences(f: Callable[[Any], Any], x: Any, e: Any) -> Differences:
    """∂/∂x of Σ e f(x), entry by entry.

    Args:
        f: of an array like x, which gives one like e.
        x: a point, float64.
        e: the weights of the sum.
    """
    d, half = np.zeros_like(x), np.zeros_like(x)
    for at in np.ndindex(x.shape):

        def moved(by: float, at: tuple[int, ...] = at) -> Any:
            y = x.copy()
            y[at] += by
            return f(y)

        near, far, nearest = (moved(h) - moved(-h) for h in (_H, 2 * _H, _H / 2))
        d[at] = np.sum(e * (8 * near - far)) / (12 * _H)
        half[at] = np.sum(e * (8 * nearest - near)) / (6 * _H)
    doubt = abs(d - half)
    return Differences(half, doubt, doubt <= _KINK * max(1.0, float(np.max(abs(half), initial=0.0))))


def agree(name: str, found: Any, wanted: Differences, look: str) -> int:
    """Check a derivative against differences; the number of entries that were compared.

    Args:
        name: of the derivative.
        found: the derivative by the unit.
        wanted: that by differences.
        look: what to look at where they differ.

    Raises:
        CheckFailed: at the entry where they differ most.
    """
    d, doubt, smooth = wanted
    if 2 * np.sum(smooth) < d.size:
        msg = f"{name} cannot be compared: {d.size - np.sum(smooth)} of {d.size} entries lie at a kink"
        raise CheckFailed(msg)
    largest = float(np.max(abs(d), initial=0.0, where=smooth)) or 1.0
    off = np.where(smooth, abs(found - d) - 2 * doubt - _BOUND * largest, -np.inf)
    off = np.where(np.isnan(found) & smooth, np.inf, off)
    if np.any(off > 0):
        at = tuple(int(k) for k in np.unravel_index(np.argmax(off), off.shape))
        msg = (
            f"{name}{place(at)} is {found[at]:.9g}, and central differences give {d[at]:.9g}"
            f"{_pattern(found, d, smooth)}: look at {look}"
        )
        raise CheckFailed(msg)
    return int(np.sum(smooth))


def _pattern(found: Any, d: Any, smooth: Any) -> str:
    """The factor by which all entries are off, where it is the same for all."""
    used = smooth & (abs(d) > 1e-3 * np.max(abs(d), initial=1e-300))
    ratio = found[used] / d[used]
    if not ratio.size or not np.all(abs(ratio - ratio[0]) < 1e-6 * abs(ratio[0])):
        return ""
    return " (the sign is wrong)" if abs(ratio[0] + 1) < 1e-6 else f" (all are {ratio[0]:.6g} times as large)"


def agree_exactly(
    name: str, f: Callable[[Array], Array], x: Array, e: Array, found: Array, look: str
) -> None:
    """Check a derivative on fractions, along one direction and without rounding.

    Args:
        name: of the derivative.
        f: of an exact array like x, which gives one like e.
        x: a point, exact.
        e: the weights of the sum, exact.
        found: the derivative by the unit, exact.
        look: what to look at where they differ.
    """
    to = backends.get("exact")
    h, v = Fraction(1, 10**9), np.round(np.arange(1.0, 1.0 + x.size) / 7 % 1 - 0.5, 3)
    v = sent(v.reshape(x.shape), to)
    d = to.xp.sum(e * (f(x + h * v) - f(x - h * v))) / (2 * h)
    one, other = (float(a.to_numpy()) for a in (to.xp.sum(found * v), d))
    if abs(one - other) > 1e-14 * max(1.0, abs(one)):
        msg = (
            f"{name} along a direction is {one:.17g} on fractions, and differences give {other:.17g}: "
            f"look at {look}"
        )
        raise CheckFailed(msg)
