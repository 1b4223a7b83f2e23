"""Compiled steps, shared by the fits of a thread: those of a search or a cross-validation compile once."""

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

MOST = 4  # steps kept per thread
LARGEST = 1_000_000  # weights of a net whose step is kept, at most
SMALL = 4_000_000  # multiplications in the largest matrix product up to which a fit uses one thread


class _Kept(local):
    """The steps of a thread, by backend, device and learner as JSON; the least recently used comes first."""

    def __init__(self) -> None:
        self.steps: dict[str, Compiled] = {}


_kept = _Kept()


def compiled_step(learner: Learner, w: Array) -> Compiled:
    """The compiled step of a learner; that of an equal learner, if this thread has used one recently.

    Learners are equal if they are made of this library's own units with the same settings. A learner with a
    unit of the user's own is always compiled anew, since only its class knows all of its settings.
    """
    try:
        data = encode(learner)
        decode(data)  # fails for units that are not this library's
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
    """Let NumPy's matrix products use one thread within the block, if they are small.

    The limit is higher than that of a single step: fits often run beside others, as in a search, where
    threads that wait for each other cost far more than they gain. It is set once per fit, not in every step.
    """
    largest = max((shape[0] * shape[-1] for shape in learner.net.shapes.values()), default=0)
    small = rows * largest <= SMALL and backends.of(w).name == "numpy"
    with fitted(0) if small else nullcontext():
        yield
