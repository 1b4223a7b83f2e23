"""Evaluation: the mean loss on a source of data, and metrics, in bounded memory."""

from collections.abc import Iterator, Mapping
from math import prod
from numbers import Integral
from operator import add
from typing import Any

from .. import backends
from ..arrays import Array, leaves, mapped
from ..compiler.compiled import Compiled
from ..errors import BackpropError
from ..layers import check_count
from ..learner import Learner
from ..step import State
from .metrics import Metric
from .read_ahead import ReadAhead

_PREDICTIONS = 1 << 22  # numbers that are predicted in one call, at most


def check_source(source: Any) -> None:
    """Check that a source has a method `rows` and attributes n, window; rows are checked when read."""
    named = "a source of data must be one such as bp.data.Stored(x, t)"
    if isinstance(source, type) or not callable(getattr(source, "rows", None)):
        msg = f"{named}, got {source.__name__ if isinstance(source, type) else type(source).__name__}"
        raise BackpropError(msg)
    for name in ("n", "window"):
        count: Any = getattr(source, name, None)
        if not isinstance(count, Integral) or int(count) < 1:
            msg = f"{named}, with a positive integer as its attribute {name}; got {count!r}"
            raise BackpropError(msg)


def read_rows(source: Any, start: int, stop: int) -> tuple[Any, ...]:
    """Rows of a source; an error if it returns more or fewer than asked for."""
    rows = source.rows(start, stop)
    one = isinstance(rows, (tuple, list))
    counts = [a.shape[0] for a in leaves(rows) if a.ndim] if one else []
    if not one or any(n != stop - start for n in counts):
        got = " and ".join(map(str, counts)) or type(rows).__name__
        msg = f"rows({start}, {stop}) of a source must be (x, t) with {stop - start} rows, got {got}"
        raise BackpropError(msg)
    return tuple(rows)


def evaluate(
    learner: Learner,
    w: Array,
    s: State,
    source: Any,
    *,
    batch_size: int = 1024,
    compiled: Compiled | None = None,
) -> float:
    """The mean loss on the rows of a source, Σ v E / Σ v with row weights v (or 1); nothing is updated.

    Args:
        learner: the net and its loss.
        w: the weights.
        s: the state.
        source: the data.
        batch_size: rows at a time.
        compiled: the result of `learner.compile_evaluate(w)`, to reuse it; None compiles here.

    Raises:
        BackpropError: data that do not fit the learner.

    >>> import numpy as np, backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(1, bp.layers.Linear(1, bias=False)))
    >>> w, s = learner.init(dtype="float64", weights={"dense1.w": [[1]]})
    >>> rows = bp.data.Stored(np.asarray([[1.0], [3.0]]), np.zeros((2, 1)))
    >>> evaluate(learner, w, s, rows)
    2.5
    """
    found = measure(learner, w, s, source, {}, batch_size=batch_size, compiled=compiled)
    return float(found["loss"])


def measure(
    learner: Learner,
    w: Array,
    s: State,
    source: Any,
    metrics: Mapping[str, Metric],
    *,
    batch_size: int = 1024,
    compiled: Compiled | None = None,
) -> dict[str, Any]:
    """Metrics on the rows of a source, and the mean loss as "loss"; rows are read window by window.

    Args:
        learner: the net and its loss.
        w: the weights.
        s: the state.
        source: the data.
        metrics: metrics of `bp.metrics`, by names of your own.
        batch_size: rows at a time.
        compiled: the result of `learner.compile_evaluate(w, predictions=True)`, to reuse it; without
            metrics, with `predictions=False`. None compiles here.

    Raises:
        BackpropError: data or metrics that do not fit the learner.

    >>> import numpy as np, backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(1, bp.layers.Linear(2, bias=False)), bp.softmax_cross_entropy)
    >>> w, s = learner.init(dtype="float64", weights={"dense1.w": [[-1, 1]]})
    >>> rows = bp.data.Stored(np.asarray([[1.0], [3.0], [-1.0]]), np.asarray([1, 0, 0]))
    >>> found = measure(learner, w, s, rows, {"right": bp.metrics.accuracy})
    >>> round(found["right"], 4), round(found["loss"], 4)
    (0.6667, 2.0854)
    """
    check_source(source)
    check_metrics(learner, metrics)
    batch_size = check_count(batch_size, "the batch size")
    compiled = compiled or learner.compile_evaluate(w, predictions=bool(metrics))
    learner.check_source(source)
    unchecked = not hasattr(source, "check_for")
    host, losses = backends.get("numpy").xp, []
    sums: dict[str, tuple[Any, ...]] = {}

    def read(start: int) -> tuple[Any, ...]:
        rows = read_rows(source, start, min(start + source.window, source.n))
        if unchecked:
            learner.check_values(*rows, first=start)
        return rows

    weighted = False
    with ReadAhead(read) as reader:
        for start in range(0, source.n, source.window):
            batch = mapped(reader(start), lambda a: compiled.to_device(w, a))
            reader.ahead(start + source.window if start + source.window < source.n else None)
            n, weighted = leaves(batch)[0].shape[0], len(batch) > 2
            for index in _parts(n, batch_size, learner.net.outputs[-1] if metrics else ()):
                found = [backends.host(a).astype("float64") for a in compiled.scan(w, s, *batch, index)]
                losses.append([column.sum() for column in found[: len(batch) - 1]])
                for name, own in _sums(learner, metrics, batch, found[-1], index).items():
                    there = sums.get(name)
                    sums[name] = tuple(map(add, there, own)) if there else own
            del batch  # to free it before the next is read
    totals = host.asarray(losses).sum(axis=0)
    values = {name: metric.value(*sums[name], xp=host) for name, metric in metrics.items()}
    return {"loss": float(totals[0] / (totals[1] if weighted else source.n)), **values}


def check_metrics(learner: Learner, metrics: Any) -> None:
    """Check that metrics are a mapping of names to metrics that fit a learner.

    Raises:
        BackpropError: they are not.
    """
    if not isinstance(metrics, Mapping):
        msg = f"metrics must be given by name, as in {{'accuracy': bp.metrics.accuracy}}; got {metrics!r}"
        raise BackpropError(msg)
    for name, metric in metrics.items():
        if not isinstance(name, str) or name == "loss" or not isinstance(metric, Metric):
            msg = (
                "metrics must be such as bp.metrics.accuracy, with names that are text and not 'loss'; "
                f"got {name!r}: {metric!r}"
            )
            raise BackpropError(msg)
        metric.check(learner.loss, prod(learner.net.outputs[-1]))


def _parts(n: int, size: int, output: tuple[int, ...]) -> Iterator[Any]:
    """Indices (batches, size) for the scans: as many batches in each as leave room for their predictions."""
    host, full = backends.get("numpy").xp, n // size * size
    steps = max(1, _PREDICTIONS // (size * prod(output))) if output else n
    index = host.arange(full).reshape(-1, size)
    for first in range(0, len(index), steps):
        yield index[first : first + steps]
    if full < n:
        yield host.arange(full, n)[None, :]


def _sums(
    learner: Learner, metrics: Mapping[str, Metric], batch: tuple[Any, ...], p: Array, index: Array
) -> dict[str, tuple[Any, ...]]:
    """The sums of each metric over the rows in an index, which are consecutive."""
    if not metrics:
        return {}
    host, rows = backends.get("numpy").xp, slice(int(index[0, 0]), int(index[-1, -1]) + 1)
    t = backends.host(batch[1][rows, ...])
    numbers = t.dtype.kind not in "iu"
    v = backends.host(batch[2][rows]).astype("float64") if len(batch) > 2 else host.ones(t.shape[0])
    if not numbers and learner.loss.ignored is not None:
        v, t = host.where(t == learner.loss.ignored, 0, v), host.where(t == learner.loss.ignored, 0, t)
    p = p.reshape(t.shape[0], -1)
    t = t.astype("float64").reshape(t.shape[0], -1) if numbers else t
    return {name: metric.sums(p, t, v, xp=host) for name, metric in metrics.items()}
