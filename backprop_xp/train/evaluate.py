"""Evaluation: the mean loss on a source of data, in bounded memory."""

from numbers import Integral
from typing import Any

from .. import backends
from ..arrays import Array, leaves, mapped
from ..compiler.compiled import Compiled
from ..errors import BackpropError
from ..layers import check_count
from ..learner import Learner
from ..step import State
from .read_ahead import ReadAhead


def check_source(source: Any) -> None:
    """Check that a source of data has rows, and says how many; the rows themselves are checked when read."""
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
    """Rows of a source, as many as asked for: one that returned others would be trained on the wrong ones."""
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
    """The mean loss on the rows of a source, Σ v E / Σ v with their weights v (or 1); nothing is updated.

    Args:
        learner: the net and its loss.
        w: the weights.
        s: the state.
        source: the data.
        batch_size: rows at a time.
        compiled: what `learner.compile_evaluate(w)` returned, to be used again.

    Raises:
        BackpropError: data that do not fit the learner.

    >>> import numpy as np, backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(1, bp.layers.Linear(1, bias=False)))
    >>> w, s = learner.init(dtype="float64", weights={"dense1.w": [[1]]})
    >>> rows = bp.data.Stored(np.asarray([[1.0], [3.0]]), np.zeros((2, 1)))
    >>> evaluate(learner, w, s, rows)
    2.5
    """
    check_source(source)
    batch_size = check_count(batch_size, "the batch size")
    to, compiled = backends.of(w), compiled or learner.compile_evaluate(w)
    learner.check_source(source)
    unchecked = not hasattr(source, "check_for")
    host, sums, weighted = backends.get("numpy").xp, [], False

    def read(start: int) -> tuple[Any, ...]:
        rows = read_rows(source, start, min(start + source.window, source.n))
        if unchecked:
            learner.check_values(*rows, first=start)
        return rows

    with ReadAhead(read) as reader:
        for start in range(0, source.n, source.window):
            batch = mapped(reader(start), lambda a: compiled.to_device(w, a))
            reader.ahead(start + source.window if start + source.window < source.n else None)
            n = leaves(batch)[0].shape[0]
            full = n // batch_size * batch_size
            parts = [host.arange(full).reshape(-1, batch_size), host.arange(full, n)[None, :]]
            found = [compiled.scan(w, s, *batch, index) for index in parts if index.size]
            sums += [[to.to_host(column).astype("float64").sum() for column in each] for each in found]
            weighted = len(batch) > 2
            del batch  # which makes room for the next
    totals = host.asarray(sums).sum(axis=0)
    return float(totals[0] / (totals[1] if weighted else source.n))
