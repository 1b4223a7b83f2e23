"""Formulas, and the ways to run one that show where it breaks a rule.

By the standard alone, with every flag off and on a second device; on the recorder; compiled; on arrays that
cannot be changed; in float32; on fractions; on JAX and Torch. The results are compared with those on
NumPy.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from .. import backends
from ..arrays import Array, is_array, leaves, mapped
from ..backends import Backend
from ..compiler.ir import evaluate
from ..compiler.recorder import NotRecorded, record
from ..errors import BackendUnavailable, BackpropError
from ..rng import word
from .report import CheckFailed, NotApplicable, told

CLOSE = {"float64": 1e-12, "float32": 1e-5}  # between libraries: an ulp or two in each of a few operations


class Formula(NamedTuple):
    """A function of arrays, with arrays to run it on.

    Attributes:
        run: `run(given, kept, *, xp)`, which returns a tree of arrays; by name, where there are several.
        given: a tree of NumPy arrays that it only reads.
        kept: a tree of NumPy arrays that it may change, such as weights and moments.
    """

    run: Callable[..., Any]
    given: Any
    kept: Any = ()


# ---------------------------------------------------------------- what a formula makes, compared
def named(tree: Any, name: str = "") -> Iterator[tuple[str, Array]]:
    """The arrays of a tree by name, such as "delta" or "grad[1]"."""
    if is_array(tree):
        yield name or "the result", tree
    elif isinstance(tree, dict):
        for key, each in tree.items():
            yield from named(each, f"{name}.{key}" if name else str(key))
    elif isinstance(tree, (tuple, list)):
        for k, each in enumerate(tree):
            yield from named(each, f"{name}[{k}]")


def compare(
    found: Any, wanted: Any, where: str, close: float = 0.0, *, against: str = "on NumPy", look: str = ""
) -> None:
    """Check that two trees of arrays agree: shapes, dtypes, and numbers within a bound.

    Args:
        found: a tree of NumPy arrays.
        wanted: the tree it should equal.
        where: how `found` was made, in words for the message.
        close: the bound, as a share of the largest number of an array.
        against: how `wanted` was made.
        look: what to do where they differ.

    Raises:
        CheckFailed: with the name, the index and both figures.
    """
    others = dict(named(wanted))
    for name, a in named(found):
        b = others.pop(name)
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            one, other = (f"{each.dtype} of shape {each.shape}" for each in (a, b))
            msg = f"{name} {where} is {one}, and {other} {against}{look}"
            raise CheckFailed(msg)
        with np.errstate(all="ignore"):
            bad = (a != b) & ~(np.isnan(a) & np.isnan(b))
            if close and a.dtype.kind == "f":
                bad &= ~(abs(a - b) <= close * np.max(abs(b), initial=1.0, where=np.isfinite(b)))
        if np.any(bad):
            at = tuple(int(k) for k in np.argwhere(bad)[0])
            msg = f"{name}{place(at)} {where} is {a[at]:.9g}, and {b[at]:.9g} {against}{look}"
            raise CheckFailed(msg)
    if others:
        msg = f"{', '.join(others)} {where} is missing{look}"
        raise CheckFailed(msg)


def place(at: tuple[int, ...]) -> str:
    """An index as it is written after a name."""
    return f"[{', '.join(map(str, at))}]" if at else ""


# ---------------------------------------------------------------- on NumPy
def on_numpy(formula: Formula, *, writable: bool = True) -> Any:
    """The results of a formula on copies of its arrays."""
    given = mapped(formula.given, lambda a: _copied(a, writable=writable))
    kept = mapped(formula.kept, lambda a: _copied(a, writable=True))
    with np.errstate(all="ignore"):
        return mapped(formula.run(given, kept, xp=np), np.array)


def _copied(a: Any, *, writable: bool) -> Any:
    a = np.array(a)
    a.flags.writeable = writable
    return a


def on_read_only(formula: Formula) -> str:
    """A formula changes nothing that it only reads."""
    try:
        on_numpy(formula, writable=False)
    except (ValueError, TypeError) as error:
        if "read-only" not in str(error):
            raise
        msg = f"it changes an array that it may only read ({error}): write a = a + 1, not a += 1"
        raise CheckFailed(msg) from error
    return "no array that is only read is changed"


def twice(formula: Formula) -> str:
    """A formula gives the same bits for the same arrays."""
    first = on_numpy(formula)
    look = ": random bits come from ctx alone, by rng.threefry, and no call leaves anything behind"
    compare(
        on_numpy(formula), first, "in a second call", against="in the first, of the same arrays", look=look
    )
    return "two calls give the same bits"


def in_float32(formula: Formula) -> str:
    """Arrays of float32 give arrays of float32."""
    made = on_numpy(narrow(formula))
    for name, a in named(made):
        if a.dtype == np.float64:
            msg = (
                f"{name} is float64 where all that is given is float32: a number of NumPy or an array made "
                "without dtype= widens it; write Python's numbers, and dtype=x.dtype"
            )
            raise CheckFailed(msg)
    return "float32 and float64 are kept"


def narrow(formula: Formula) -> Formula:
    """A formula on the same numbers in float32."""

    def narrowed(a: Any) -> Any:
        return a.astype("float32") if a.dtype == "float64" else a

    return Formula(formula.run, *mapped((formula.given, formula.kept), narrowed))


# ---------------------------------------------------------------- recorded and compiled
def recorded(formula: Formula) -> str:
    """The recorded program of a formula gives the same bits as the formula."""
    program = record(formula.run, formula.given, formula.kept)
    compare(evaluate(program, formula.given, formula.kept), on_numpy(formula), "as recorded")
    return f"{len(program.ops)} operations, the same bits"


def compiled(formula: Formula) -> str:
    """A compiled formula gives the same bits as eagerly, in one compilation, in both dtypes."""
    to = backends.get("numpy")
    for each in (formula, narrow(formula)):
        _compiled(each, to, close=0.0)
    return "float32 and float64, bit for bit"


def _compiled(formula: Formula, to: Backend, close: float) -> None:
    """A formula compiled by a backend gives twice what it gives on NumPy, and is compiled once."""

    def function(given: Any, kept: Any, *, xp: Any) -> Any:
        return formula.run(given, mapped(kept, lambda a: xp.asarray(a, copy=True)), xp=xp)

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        made = to.compile(function, native=False)  # machine code differs in the last bits
        for _ in range(2):
            given, kept = (mapped(tree, lambda a: sent(a, to)) for tree in (formula.given, formula.kept))
            found = received(made(given, kept), to)
            compare(found, on_numpy(formula), f"compiled by {to.name}", close)
    if made.compilations != 1:
        msg = f"two calls with equal shapes were compiled {made.compilations} times on {to.name}"
        raise CheckFailed(msg)


# ---------------------------------------------------------------- on other libraries
def sent(a: Any, to: Backend, device: Any = None) -> Array:
    """A NumPy array in another library; words of random bits in the library's own type."""
    kind: Any = None if to.name == "exact" else getattr(to.xp, a.dtype.name, None)
    if a.dtype == np.uint32:
        kind = word(to.xp)
        a = a.astype(np.int32) if to.xp.isdtype(kind, "signed integer") else a
    return to.asarray(a, kind, device)


def received(tree: Any, to: Backend) -> Any:
    """A tree of a library's arrays as NumPy's."""
    return mapped(tree, lambda a: np.asarray(to.to_host(a)))


def opened(name: str) -> Backend:
    """A backend, where it is installed."""
    try:
        return backends.get(name)
    except BackendUnavailable as why:
        raise NotApplicable(str(why).partition(":")[0]) from why


@contextmanager
def every_flag_off() -> Iterator[Any]:
    """array-api-strict without what the standard makes optional."""
    strict = opened("strict").xp
    off = strict.ArrayAPIStrictFlags(
        boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
    )
    with off:
        yield strict


def on_standard(formula: Formula) -> str:
    """By the standard alone, on a second device; all results lie there."""
    to = opened("strict")
    with every_flag_off() as strict, np.errstate(all="ignore"):
        there = strict.Device("device1")
        given, kept = mapped((formula.given, formula.kept), lambda a: sent(a, to, there))
        made = formula.run(given, kept, xp=strict)
        for name, a in named(made):
            if a.device != there:
                msg = f"{name} was made on the first device: write device=x.device where an array is made"
                raise CheckFailed(msg)
        compare(received(made, to), on_numpy(formula), "on array-api-strict", CLOSE["float64"])
    return "the standard's functions alone, every flag off, on a second device"


def on_jax(formula: Formula) -> str:
    """Under `jax.jit`, in one compilation; there `w -= g` makes another array."""
    to = opened("jax")
    wide = bool(to.jax.config.jax_enable_x64)  # type: ignore[attr-defined]
    _compiled(formula if wide else narrow(formula), to, CLOSE["float64" if wide else "float32"])
    return "jit, one compilation"


def on_replaced(formula: Formula) -> str:
    """Where `w -= g` makes another array, and the old one keeps its numbers."""
    to = opened("jax")
    given, kept = mapped((formula.given, formula.kept), lambda a: sent(a, to))
    made = received(formula.run(given, kept, xp=to.xp), to)
    compare(made, on_numpy(formula), "where no array changes", CLOSE["float64"])
    return "the same where no array changes"


def on_torch(formula: Formula) -> str:
    """On Torch's tensors: eagerly as on NumPy within rounding, compiled bit for bit as NumPy's plan."""
    to = opened("torch")
    given, kept = mapped((formula.given, formula.kept), lambda a: sent(a, to))
    made = received(formula.run(given, kept, xp=to.xp), to)
    compare(made, on_numpy(formula), "on Torch", CLOSE["float64"])
    _compiled(formula, to, close=0.0)
    return "eagerly within rounding, compiled bit for bit"


def fractions(tree: Any) -> Any:
    """A tree of NumPy arrays as exact ones; floats by their shortest decimals."""
    return mapped(tree, lambda a: sent(a, backends.get("exact")))


def exactly(formula: Formula) -> str:
    """On fractions, without rounding, a formula gives what it gives in float64.

    Raises:
        NotApplicable: it uses a function whose values are not fractions.
    """
    given, kept = fractions((formula.given, formula.kept))
    try:
        made = formula.run(given, kept, xp=backends.get("exact").xp)
    except (BackpropError, AttributeError) as why:
        raise NotApplicable(str(why).partition(":")[0]) from why
    found = mapped(made, lambda a: a.to_numpy())
    compare(found, on_numpy(formula), "on fractions", CLOSE["float64"])
    return f"{sum(a.size for a in leaves(made))} fractions"


def planned(formula: Formula) -> str:
    """Both `recorded` and `compiled`."""
    try:
        note = recorded(formula)
    except NotRecorded as why:
        raise CheckFailed(told(why).partition(": ")[2]) from why
    compiled(formula)
    return note
