"""What all tests share: one hypothesis profile, and the table of places a net can run in."""

import gc
import os
import shutil

os.environ["JAX_ENABLE_X64"] = "1"  # before anything imports jax; float32 is still what is asked for
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # Torch's idle threads do not spin on cores others need
os.environ.pop("BACKPROP_XP_BACKEND", None)

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import backprop_xp as bp
from backprop_xp import backends
from backprop_xp.arrays import mapped

settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fixed")


@pytest.fixture(scope="module")
def settled() -> Iterator[None]:
    """Each capture collects garbage; JAX, Torch and all else that is loaded by now is left out of that."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@dataclass(frozen=True)
class Place:
    """A library, a dtype and a device, by name."""

    name: str
    dtype: str = "float64"
    device: str | None = None

    def __str__(self) -> str:
        return "-".join(part for part in (self.name, self.dtype, self.device) if part)

    @property
    def backend(self) -> Any:
        return backends.get(self.name)

    @property
    def xp(self) -> Any:
        return self.backend.xp

    def array(self, data: Any, dtype: str | None = None) -> Any:
        """Numbers as an array here."""
        return bp.asarray(data, backend=self.name, device=self.device, dtype=dtype or self.dtype)

    def rows(self, tree: Any) -> Any:
        """Rows of numbers and of integers, such as categories and labels, in trees, here."""
        return mapped(tree, lambda a: self.array(a, None if a.dtype.kind == "f" else str(a.dtype)))

    def init(self, learner: bp.Learner, seed: int = 0, **settings: Any) -> Any:
        """First weights and state here."""
        where = {"backend": self.name, "device": self.device, "dtype": self.dtype}
        return learner.init(seed, **where | settings)

    def words(self, values: Any) -> Any:
        """Words of random bits here."""
        word = bp.rng.word(self.xp)
        signed = "int32" if self.xp.isdtype(word, "signed integer") else "uint32"
        host = np.asarray(values, dtype=np.uint32).astype(signed)
        return self.backend.asarray(host, word, self.backend.device(self.device))


FLOAT64 = [
    Place("numpy"),
    Place("torch"),
    Place("jax"),
    Place("strict"),
    Place("strict", device="device1"),
    Place("cupy"),
]
FLOAT32 = [Place(name, "float32") for name in ("numpy", "torch", "jax", "strict", "cupy")]
EXACT = [Place("exact", "rational")]


def _open(place: Place) -> Iterator[Place]:
    try:
        place.backend  # noqa: B018 (opening it is the question)
    except bp.errors.BackendUnavailable as reason:
        pytest.skip(str(reason))
    with _all_flags_off() if place.name == "strict" else nullcontext():
        yield place


def _all_flags_off() -> Any:
    from array_api_strict import ArrayAPIStrictFlags

    return ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=())


@pytest.fixture(scope="session", params=FLOAT64, ids=str)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Every library in float64; the strict one with every flag off, and on its second device."""
    yield from _open(request.param)


@pytest.fixture(scope="session", params=FLOAT64 + FLOAT32 + EXACT, ids=str)
def any_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Every library in each of its dtypes."""
    yield from _open(request.param)


@pytest.fixture(scope="session", params=FLOAT64 + FLOAT32, ids=str)
def float_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Every library that has floats, in each of its dtypes."""
    yield from _open(request.param)


@pytest.fixture(scope="session")
def no_gpu() -> Any:
    """`no_gpu(reason)`: skips a test of the GPU, and fails it on a machine that has one."""

    def skip(reason: str) -> NoReturn:
        if shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists():
            pytest.fail(f"a GPU is here, but {reason}", pytrace=False)
        pytest.skip(f"no GPU: {reason}")

    return skip


@pytest.fixture(scope="session")
def home() -> Place:
    """NumPy in float64: what every other place is compared with."""
    return FLOAT64[0]


@pytest.fixture(scope="session")
def places() -> list[Place]:
    """Every place there is on this machine, in each dtype."""

    def here(place: Place) -> bool:
        try:
            return place.backend is not None
        except bp.errors.BackendUnavailable:
            return False

    return [place for place in FLOAT64 + FLOAT32 + EXACT if here(place)]


def _inputs(net: bp.net.Net, n: int, rng: Any) -> Any:
    found = {
        name: rng.integers(net.categories[name], size=(n, *layer.shape()), dtype="int32")
        if layer.integers
        else rng.normal(size=(n, *layer.shape()))
        for name, layer in net.inputs.items()
    }
    return found if len(found) > 1 else found.popitem()[1]


def _batch(learner: bp.Learner, n: int = 5, seed: int = 0) -> tuple[Any, np.ndarray]:
    rng = np.random.default_rng(seed)
    (units,) = learner.net.outputs[-1]
    x = _inputs(learner.net, n, rng)
    if learner.loss.targets == "distribution":
        return x, np.eye(units)[rng.integers(units, size=n)]
    t = rng.uniform(size=(n, units))
    of_kind = {"probabilities": t, "counts": np.floor(4 * t), "signs": np.where(t < 0.5, -1.0, 1.0)}
    return x, of_kind.get(learner.loss.targets, 4 * t - 2)


@pytest.fixture(scope="session")
def batch() -> Any:
    """`batch(learner, n, seed)`: inputs and targets that suit it, NumPy float64, and int32 for categories."""
    return _batch


@pytest.fixture(scope="session")
def ready() -> Any:
    """`ready(learner, place)`: w, s, x, t there."""

    def make(learner: bp.Learner, place: Place = FLOAT64[0], n: int = 5, seed: int = 0) -> Any:
        x, t = _batch(learner, n, seed)
        return *place.init(learner, seed), *place.rows((x, t))

    return make


@pytest.fixture(scope="session")
def steps() -> Any:
    """`steps(learner, place, k)`: weights, losses and state after k steps on k batches, on the host."""

    def run(learner: bp.Learner, place: Place, k: int = 4, **init: Any) -> Any:
        w, s = place.init(learner, **init)
        step, losses = learner.compile(w), []
        for i in range(k):
            w, s, loss = step(w, s, *place.rows(_batch(learner, seed=i)))
            losses.append(float(loss))
        assert step.compilations <= 1, "one shape of batch compiles once"
        return backends.host(w), np.asarray(losses), s

    return run
