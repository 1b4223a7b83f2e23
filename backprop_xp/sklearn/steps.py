"""Compiled steps that the fits of a thread have in common, as those of a search or a cross-validation."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import local

from .. import backends
from ..arrays import Array
from ..compiler.compiled import Compiled
from ..compiler.cpu.blas_threads import fitted
from ..errors import BackpropError
from ..files.units import decode, encode
from ..learner import Learner

MOST = 4  # steps that a thread keeps
LARGEST = 1_000_000  # weights, of a net whose step is kept
SMALL = 4_000_000  # multiplications in the largest product, up to which a fit uses one thread


class _Kept(local):
    """The steps of a thread by what they were made from, the last used last."""

    def __init__(self) -> None:
        self.steps: dict[str, Compiled] = {}


_kept = _Kept()


def compiled_step(learner: Learner, w: Array) -> Compiled:
    """The step of a learner, compiled; where an equal one was trained in this thread lately, that step again.

    Equal are learners of this library's own units with the same settings, all of which are looked at. What
    has a unit of someone else's is compiled anew, since only its class knows what its settings are.
    """
    try:
        data = encode(learner)
        decode(data)  # which knows the library's own units alone
    except BackpropError:
        return learner.compile(w)
    to = backends.of(w)
    key = json.dumps([to.name, str(to.device_of(w)), data])
    found = _kept.steps.pop(key, None) or learner.compile(w)
    if learner.net.layout.size <= LARGEST:
        _kept.steps[key] = found
    while len(_kept.steps) > MOST:
        del _kept.steps[next(iter(_kept.steps))]
    return found


@contextmanager
def few_threads(learner: Learner, w: Array, rows: int) -> Iterator[None]:
    """Within the block NumPy's products use one thread where they are small, set once and not every step.

    Small is more than in a step by itself: fits stand beside other ones, as in a search, and there threads
    that wait for each other cost far more than they gain.
    """
    largest = max((shape[0] * shape[-1] for shape in learner.net.shapes.values()), default=0)
    small = rows * largest <= SMALL and backends.of(w).name == "numpy"
    with fitted(0) if small else nullcontext():
        yield
