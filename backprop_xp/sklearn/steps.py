"""Compiled steps that are reused by the fits of a thread, as in a search or a cross-validation."""

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

MOST = 4  # steps kept by a thread
LARGEST = 1_000_000  # the most weights of a net whose step is kept
SMALL = 4_000_000  # the most multiplications in a product with which a fit uses one thread


class _Kept(local):
    """The steps of a thread, by backend, device and learner; the most recently used is last."""

    def __init__(self) -> None:
        self.steps: dict[str, Compiled] = {}


_kept = _Kept()


def compiled_step(learner: Learner, w: Array) -> Compiled:
    """The compiled step of a learner; that of an equal learner, if this thread has one.

    Learners are equal if all their settings are. A learner with layers or other units that are not this
    library's own is always compiled anew, since their settings cannot be compared.
    """
    try:
        data = encode(learner)
        decode(data)  # fails for units that are not the library's own
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
    """Within the block, NumPy uses one thread if all matrix products are small; it is set once for all steps.

    The limit is higher than for a single step, because fits often run side by side, as in a search, and
    then threads that wait for each other cost far more than they gain.
    """
    largest = max((shape[0] * shape[-1] for shape in learner.net.shapes.values()), default=0)
    small = rows * largest <= SMALL and backends.of(w).name == "numpy"
    with fitted(0) if small else nullcontext():
        yield
