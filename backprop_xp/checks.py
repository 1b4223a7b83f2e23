"""Checks of arguments, before anything is changed.

A step checks only what is static and costs nothing: library, shape, dtype, device. Values (NaN,
infinity, labels out of range) are checked once, where data enter.
"""

from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

from . import backends
from .arrays import Array, Shape, leaves
from .backends import Backend
from .errors import BackpropError, consumed, listed, refuse_half
from .losses import Loss
from .net import Net
from .params import Layout

_ROWS = 1 << 16  # rows whose values are checked at once
_NUMBERS = 1 << 22  # and numbers, where rows are long


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


def check_inputs(x: Any, w: Array, net: Net) -> Backend:
    """Check inputs x: one array, or a dict by name where the net has several inputs.

    Each must have the shape (batch, units), all the same number of rows, and the library and device of w.
    Inputs of numbers must have the dtype of w or uint8; inputs of integers, int32 or int64.

    Returns:
        The backend of w.

    Raises:
        BackpropError: one of these does not hold.
    """
    to, layers = backends.of(w), net.inputs
    for a in leaves(x):
        refuse_half(a.dtype)
    if len(layers) == 1:
        if isinstance(x, (tuple, dict)):
            msg = f"the inputs of this net must be one array, got a {type(x).__name__}"
            raise BackpropError(msg)
        (layer,) = layers.values()
        _check_input(x, w, layer, "inputs", to)
        return to
    if not isinstance(x, dict) or x.keys() != layers.keys():
        got = f"one with {listed(x) or 'none'}" if isinstance(x, dict) else described(x)
        msg = f"the inputs of this net must be a dict with an array for each of {listed(layers)}; got {got}"
        raise BackpropError(msg)
    for name, layer in layers.items():
        _check_input(x[name], w, layer, f"input {name!r}", to)
    rows = {name: x[name].shape[0] for name in layers}
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{n} in {name!r}" for name, n in rows.items())
        msg = f"all inputs must have equally many rows, got {counts}"
        raise BackpropError(msg)
    return to


def _check_input(x: Any, w: Array, layer: Any, what: str, to: Backend) -> None:
    """Check one input against its layer; `what` is its name in the message."""
    sample, xp = layer.shape(), to.xp
    want = f"{what} must be {_a(to.name)} array of shape {('batch', *sample)}".replace("'batch'", "batch")
    if layer.integers:
        allowed, fits, kind, other = (xp.int32, xp.int64), "dtype int32 or int64", ", dtype='int32'", ""
    else:
        bytes_too = hasattr(xp, "uint8")
        allowed = (w.dtype, xp.uint8) if bytes_too else (w.dtype, w.dtype)
        fits = f"the weights' dtype {w.dtype}" + ", or uint8, which is read as x / 255" * bytes_too
        kind = ", dtype='uint8'" * (bytes_too and str(getattr(x, "dtype", None)).endswith("uint8"))
        other = ", or learner.init(like=x)"
    how = f"write bp.asarray(x, like=w{kind})"
    if not _same_library(x, to):
        msg = f"{want}, like the weights; got {described(x)}: {how}"
        raise BackpropError(msg)
    if tuple(x.shape[1:]) != sample or x.ndim != 1 + len(sample):
        hint = ": write x[None, :] for a single sample" if tuple(x.shape) == sample else ""
        msg = f"{want}, got shape {tuple(x.shape)}{hint}"
        raise BackpropError(msg)
    if x.shape[0] == 0:
        msg = f"{want} with at least one row, got an empty batch"
        raise BackpropError(msg)
    if x.dtype not in allowed:
        msg = f"{what} must have {fits}; got {x.dtype}: {how}{other}"
        raise BackpropError(msg)
    _check_device(x, w, to, what)


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
    refuse_half(getattr(t, "dtype", None))
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
    """Check the sample weights: one number per row, in the dtype of w."""
    to = backends.of(w)
    refuse_half(getattr(weight, "dtype", None))
    want = f"sample weights must be {_a(to.name)} array of shape ({n},) and dtype {w.dtype}"
    if not _same_library(weight, to) or tuple(weight.shape) != (n,) or weight.dtype != w.dtype:
        msg = f"{want}, got {described(weight)}: write bp.asarray(weight, like=w)"
        raise BackpropError(msg)
    _check_device(weight, w, to, "sample weights")


def check_batch(batch: tuple[Any, ...], w: Array, net: Net, loss: Loss) -> Backend:
    """Check a batch (x, t) or (x, t, weight) against the weights, the net and the loss; no value is read."""
    to = check_inputs(batch[0], w, net)
    n = leaves(batch[0])[0].shape[0]
    check_targets(batch[1], w, n, net.outputs[-1], loss)
    for weight in batch[2:]:
        check_weights(weight, w, n)
    return to


def check_vector(w: Array, layout: Layout) -> None:
    """Check that the weights are one vector of floating-point numbers, of the layout's size."""
    refuse_half(getattr(w, "dtype", None))
    fits = hasattr(w, "dtype") and tuple(w.shape) == (layout.size,)
    if not fits or not backends.of(w).xp.isdtype(w.dtype, "real floating"):
        msg = (
            f"the weights w must be a vector of {layout.size} real numbers, as learner.init returns it; "
            f"got {described(w)}"
        )
        raise BackpropError(msg)
    if backends.of(w).consumed(w):
        raise consumed()


def check_writable(arrays: Iterable[Array]) -> None:
    """Check that weights and moments can be changed in place, as a step that runs eagerly does."""
    if not all(backends.of(a).writable(a) for a in arrays):
        msg = (
            "a step overwrites the weights w and the state s, but these are read-only: pass copies, made by "
            "learner.snapshot(w, s)"
        )
        raise BackpropError(msg)


def check_state(s: Any, kind: type, moments: int) -> None:
    """Check that the state comes from a learner whose update rule has this number of moments."""
    if not isinstance(s, kind) or len(s.rule.moments) != moments:  # type: ignore[attr-defined]
        got = f"one with {len(s.rule.moments)} moments" if isinstance(s, kind) else f"a {type(s).__name__}"  # type: ignore[attr-defined]
        msg = f"the state s must come from init of this learner, with {moments} moments; got {got}"
        raise BackpropError(msg)


def check_finite(a: Array, what: str, first: int | None = None) -> None:
    """Check that every number is finite; this reads the array, a block of rows at a time.

    Args:
        a: the array.
        what: its name in the message.
        first: the number of its first row, if the message is to name a row.
    """
    to = backends.of(a)
    if not to.xp.isdtype(a.dtype, "real floating"):
        return
    xp, n, row = to.xp, 0, None
    for start, part in _blocks(a):
        if not to.all_finite(part):
            bad = ~xp.isfinite(part)
            n += int(xp.sum(xp.astype(bad, xp.int32)))
            row = start + _first_row(bad) if row is None else row
    if row is not None:
        where = "" if first is None else f", the first of them in row {first + row}, counted from 0"
        msg = (
            f"{what} must be finite numbers; {n} of {prod(a.shape)} are NaN or infinite{where}: "
            "find and fix them first"
        )
        raise BackpropError(msg)


def check_range(t: Array, loss: Loss, units: int | None = None, first: int = 0) -> None:
    """Check that targets are in the range of a loss; this reads them, a block of rows at a time.

    Args:
        t: labels, or numbers for each unit.
        loss: the loss.
        units: the number of output units, above all labels; None if unknown: labels are then not checked.
        first: the number of the first row, for the message.
    """
    if loss.targets == "numbers":
        return
    to = backends.of(t)
    xp, labels = to.xp, loss.targets == "distribution" and to.xp.isdtype(t.dtype, "integral")
    if labels and units is None:
        return
    most = units - 1 if labels and units is not None else 1
    for start, rows in _blocks(t):
        part = without_ignored(rows, loss)
        if loss.targets == "signs":
            bad = (part != -1) & (part != 1)
        else:
            bad = part < 0 if loss.targets == "counts" else (part < 0) | (part > most)
        if bool(xp.any(bad)):
            number = int if labels else float
            first_bad = backends.host(part)[backends.host(bad)][0]
            msg = (
                f"{_wanted(loss, units if labels else None)}, got {number(xp.min(part))} to "
                f"{number(xp.max(part))}, the first out of range is {number(first_bad)}, in row "
                f"{first + start + _first_row(bad)}: fix them, or use another loss or last layer"
            )
            raise BackpropError(msg)


def _wanted(loss: Loss, units: int | None) -> str:
    """The targets that a loss accepts, in words; its labels, if the number of units is given."""
    if units is not None:
        also = "" if loss.ignored is None else f", or {loss.ignored}, which is ignored"
        return f"labels must be 0 to {units - 1} for {units} output units{also}"
    words = {"counts": "counts, 0 or more", "signs": "-1 or 1 (2 t - 1, if they are 0 or 1)"}
    return f"targets of {type(loss).__name__} must be {words.get(loss.targets, 'probabilities from 0 to 1')}"


def without_ignored(t: Array, loss: Loss | None) -> Array:
    """Targets in which the label that a loss ignores is replaced by 0; others unchanged."""
    xp, ignored = backends.of(t).xp, None if loss is None else loss.ignored
    kinds = "integral" if ignored is not None and ignored >= 0 else "signed integer"
    if ignored is None or not xp.isdtype(t.dtype, kinds):
        return t
    return xp.where(t == ignored, xp.zeros_like(t), t)


def check_categories(x: Array, categories: int, what: str, first: int = 0) -> None:
    """Check that integers are categories of an Embedding; this reads them, a block of rows at a time.

    Args:
        x: the integers, shape (rows, columns).
        categories: the number of categories.
        what: the name of x in the message.
        first: the number of the first row, for the message.
    """
    xp = backends.of(x).xp
    for start, part in _blocks(x):
        low, high = xp.min(part), xp.max(part)
        if bool(low < 0) or bool(high >= categories):
            row = first + start + _first_row((part < 0) | (part >= categories))
            msg = (
                f"{what} must be categories from 0 to {categories - 1}, got {int(low)} to {int(high)}, the "
                f"first out of range in row {row}: fix them, or give the Embedding more categories"
            )
            raise BackpropError(msg)


def check_row_weights(weight: Array, first: int = 0) -> None:
    """Check that sample weights are finite and not negative; this reads them."""
    check_finite(weight, "sample weights", first)
    xp = backends.of(weight).xp
    if bool(xp.any(weight < 0)):
        row = first + _first_row(weight < 0)
        msg = (
            f"sample weights must be 0 or more, got {float(xp.min(weight))}, the first below 0 in row "
            f"{row}: fix them; a row of weight 0 does not count"
        )
        raise BackpropError(msg)


def check_data(x: Any, t: Array, loss: Loss | None = None, units: int | None = None) -> None:
    """Check the values of a data set: finite, and targets in the range of the loss.

    Raises:
        BackpropError: NaN or infinity, or targets that are out of the range of the loss.
    """
    for a in leaves(x):
        check_finite(a, "inputs", 0)
    check_finite(t, "targets", 0)
    if loss is not None:
        check_range(t, loss, units)


def check_values(batch: tuple[Any, ...], loss: Loss, units: int, first: int = 0) -> None:
    """Check the values of rows as they are read: inputs, targets and, if given, weights.

    Args:
        batch: the rows; their shapes and dtypes are left to the static checks.
        loss: the loss.
        units: the number of output units.
        first: the number of the first row, for the message.
    """
    x, t, *weights = batch
    for a in leaves(x):
        check_finite(a, "inputs", first)
    if not leaves(t):
        return
    check_finite(t, "targets", first)
    check_range(t, loss, units, first)
    for weight in weights:
        check_row_weights(weight, first)


def _blocks(a: Array) -> Iterator[tuple[int, Array]]:
    """An array in blocks of rows, so that checks take little memory, each with its first row's number."""
    size = prod(a.shape)
    if not a.ndim or not size:
        yield from [(0, a)] if size else []
        return
    rows = max(1, min(_ROWS, _NUMBERS * a.shape[0] // size))
    for start in range(0, a.shape[0], rows):
        yield start, a if rows >= a.shape[0] else a[start : start + rows, ...]


def _first_row(bad: Array) -> int:
    """The number of the first row that contains a True."""
    found = backends.host(bad)
    return int(found.reshape(found.shape[0] if found.ndim else 1, -1).any(axis=1).argmax())


def check_names(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Check that the net has all these names; `what` says in the message what was given for them."""
    if unknown := sorted(set(given) - set(known)):
        msg = f"the net has no {listed(unknown)}; {what} can be given for {listed(known)}"
        raise BackpropError(msg)


def check_block(name: str, values: Array, shape: Shape) -> None:
    """Check that a block of weights has the right shape (in × out) and is finite."""
    if tuple(values.shape) != shape:
        msg = f"weights '{name}' must have shape {shape} (in × out), got {tuple(values.shape)}"
        raise BackpropError(msg)
    check_finite(values, f"weights '{name}'")
