"""Checks of arguments, before anything is changed.

A step checks only what is static and costs nothing: library, shape, dtype, device. Values (NaN,
infinity, labels out of range) are checked once, where data enter.
"""

from collections.abc import Iterable
from typing import Any

from . import backends
from .arrays import Array, Shape, leaves
from .backends import Backend
from .errors import BackpropError, listed
from .losses import Loss
from .params import Layout


def described(a: Any) -> str:
    """An array in words, for a message: its library, shape and dtype."""
    try:
        return f"{_a(backends.of(a).name)} array of shape {tuple(a.shape)} and dtype {a.dtype}"
    except BackpropError:
        return f"{_a(type(a).__name__)} object"


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _same_library(a: Any, to: Backend) -> bool:
    return hasattr(a, "dtype") and backends.of(a) is to


def check_inputs(x: Any, w: Array, sample: Shape) -> Backend:
    """Check inputs x: shape (batch, *sample), the library and device of w, its dtype or uint8.

    A tree of inputs is for a net that takes one. Its arrays may be integers too; they have their
    number of rows in common.

    Returns:
        The backend of w.

    Raises:
        BackpropError: one of these does not hold.
    """
    to = backends.of(w)
    if isinstance(x, (tuple, dict)):
        _check_tree(x, w, to)
        return to
    want = f"inputs must be {_a(to.name)} array of shape {('batch', *sample)}".replace("'", "")
    allowed = [to.xp.uint8] if hasattr(to.xp, "uint8") else []
    if not _same_library(x, to):
        kind = ", dtype='uint8'" if allowed and str(getattr(x, "dtype", None)).endswith("uint8") else ""
        msg = f"{want}, like the weights; got {described(x)}: write bp.asarray(x, like=w{kind})"
        raise BackpropError(msg)
    if tuple(x.shape[1:]) != sample or x.ndim != 1 + len(sample):
        hint = ": write x[None, :] for a single sample" if tuple(x.shape) == sample else ""
        msg = f"{want}, got shape {tuple(x.shape)}{hint}"
        raise BackpropError(msg)
    if x.shape[0] == 0:
        msg = f"{want} with at least one row, got an empty batch"
        raise BackpropError(msg)
    if x.dtype not in (w.dtype, *allowed):
        also = ", or uint8, which is read as x / 255" if allowed else ""
        msg = (
            f"inputs must have the weights' dtype {w.dtype}{also}; got {x.dtype}: "
            "write bp.asarray(x, like=w), or learner.init(like=x)"
        )
        raise BackpropError(msg)
    _check_device(x, w, to, "inputs")
    return to


def _check_tree(x: Any, w: Array, to: Backend) -> None:
    arrays = leaves(x)
    rows = {tuple(a.shape[:1]) for a in arrays}
    if len(rows) != 1 or rows <= {(), (0,)} or not all(_same_library(a, to) for a in arrays):
        got = ", ".join(described(a) for a in arrays) or "none"
        msg = f"inputs in a tree must be {to.name} arrays with equally many rows, at least one; got {got}"
        raise BackpropError(msg)
    for a in arrays:
        if a.dtype != w.dtype and not to.xp.isdtype(a.dtype, "integral"):
            msg = f"inputs have the weights' dtype {w.dtype}, or are integers; got {a.dtype}"
            raise BackpropError(msg)
        _check_device(a, w, to, "inputs")


def _check_device(a: Array, w: Array, to: Backend, what: str) -> None:
    here, there = to.device_of(a), to.device_of(w)
    if here is not None and there is not None and here != there:
        kind = "" if a.dtype == w.dtype else f", dtype='{str(a.dtype).rpartition('.')[2]}'"
        msg = f"{what} must be on the weights' device {there}, got {here}: write bp.asarray(a, like=w{kind})"
        raise BackpropError(msg)


def check_targets(t: Array, w: Array, n: int, output: Shape, loss: Loss) -> None:
    """Check targets t for n samples: numbers (n, *output), or labels (n,) where the loss accepts them.

    Raises:
        BackpropError: the library, shape, dtype or device does not fit.
    """
    to = backends.of(w)
    want = f"targets must be {_a(to.name)} array of shape {(n, *output)} and dtype {w.dtype}"
    labels = loss.targets == "distribution"
    if labels:
        want += f", or integer labels of shape ({n},)"
    if not _same_library(t, to):
        kind = ", dtype='int32'" if labels and getattr(t, "ndim", None) == 1 else ""
        msg = f"{want}; got {described(t)}: write bp.asarray(t, like=w{kind})"
        raise BackpropError(msg)
    integer = to.xp.isdtype(t.dtype, "integral")
    if tuple(t.shape) == (n,) and labels and integer:
        pass
    elif tuple(t.shape) != (n, *output):
        hint = ": write t[:, None]" if tuple(t.shape) == (n,) and output == (1,) else ""
        msg = f"{want}, got shape {tuple(t.shape)} and dtype {t.dtype}{hint}"
        raise BackpropError(msg)
    elif t.dtype != w.dtype:
        msg = f"{want}, got dtype {t.dtype}: write bp.asarray(t, like=w)"
        raise BackpropError(msg)
    _check_device(t, w, to, "targets")


def check_weights(weight: Array, w: Array, n: int) -> None:
    """Check the weights of rows: one number for each row, in the dtype of w."""
    to = backends.of(w)
    want = f"weights of rows must be {_a(to.name)} array of shape ({n},) and dtype {w.dtype}"
    if not _same_library(weight, to) or tuple(weight.shape) != (n,) or weight.dtype != w.dtype:
        msg = f"{want}, got {described(weight)}: write bp.asarray(weight, like=w)"
        raise BackpropError(msg)
    _check_device(weight, w, to, "weights of rows")


def check_batch(batch: tuple[Any, ...], w: Array, sample: Shape, output: Shape, loss: Loss) -> Backend:
    """Check a batch (x, t) or (x, t, weight) against the weights, the net and the loss; no value is read."""
    to = check_inputs(batch[0], w, sample)
    n = leaves(batch[0])[0].shape[0]
    check_targets(batch[1], w, n, output, loss)
    for weight in batch[2:]:
        check_weights(weight, w, n)
    return to


def check_vector(w: Array, layout: Layout) -> None:
    """Check that the weights are one vector of floating-point numbers, of the layout's size."""
    fits = hasattr(w, "dtype") and tuple(w.shape) == (layout.size,)
    if not fits or not backends.of(w).xp.isdtype(w.dtype, "real floating"):
        msg = (
            f"the weights w must be a vector of {layout.size} real numbers, as learner.init returns it; "
            f"got {described(w)}"
        )
        raise BackpropError(msg)


def check_writable(w: Array) -> None:
    """Check that a step may overwrite the weights, which NumPy can forbid."""
    flags = getattr(w, "flags", None)
    if not getattr(flags, "writeable", True):
        msg = "the weights w are read-only, and a step overwrites them: write w.copy()"
        raise BackpropError(msg)


def check_state(s: Any, kind: type, moments: int) -> None:
    """Check that the state comes from a learner whose update rule has this number of moments."""
    if not isinstance(s, kind) or len(s.rule.moments) != moments:  # type: ignore[attr-defined]
        got = f"one with {len(s.rule.moments)} moments" if isinstance(s, kind) else f"a {type(s).__name__}"  # type: ignore[attr-defined]
        msg = f"the state s must come from init of this learner, with {moments} moments; got {got}"
        raise BackpropError(msg)


def check_finite(a: Array, what: str) -> None:
    """Check that every number is finite; this reads the array."""
    to = backends.of(a)
    if to.xp.isdtype(a.dtype, "real floating") and not bool(to.xp.all(to.xp.isfinite(a))):
        n = int(to.xp.sum(to.xp.astype(~to.xp.isfinite(a), to.xp.int32)))
        msg = f"{what} must be finite numbers; {n} of {a.size} are NaN or infinite: find and fix them first"
        raise BackpropError(msg)


def check_data(x: Array, t: Array, loss: Loss | None = None, units: int | None = None) -> None:
    """Check the values of a data set: finite, and targets in the range of the loss.

    Raises:
        BackpropError: NaN or infinity, labels outside 0, …, units - 1, probabilities outside [0, 1].
    """
    check_finite(x, "inputs")
    check_finite(t, "targets")
    if loss is None or loss.targets == "numbers":
        return
    xp = backends.of(t).xp
    low, high = xp.min(t), xp.max(t)
    if xp.isdtype(t.dtype, "integral"):
        if units is not None and (bool(low < 0) or bool(high >= units)):
            msg = f"labels must be 0 to {units - 1} for {units} output units, got {int(low)} to {int(high)}"
            raise BackpropError(msg)
    elif bool(low < 0) or bool(high > 1):
        kind = type(loss).__name__
        msg = f"targets of {kind} must be probabilities from 0 to 1, got {float(low)} to {float(high)}"
        raise BackpropError(msg)


def check_names(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Check that all given names are names of the net; `what` says in the message what is given."""
    if unknown := sorted(set(given) - set(known)):
        msg = f"the net has no {listed(unknown)}; {what} can be given for {listed(known)}"
        raise BackpropError(msg)


def check_block(name: str, values: Array, shape: Shape) -> None:
    """Check that a block of weights has the right shape (in × out) and is finite."""
    if tuple(values.shape) != shape:
        msg = f"weights '{name}' must have shape {shape} (in × out), got {tuple(values.shape)}"
        raise BackpropError(msg)
    check_finite(values, f"weights '{name}'")
