"""One source on every library: the same steps, who is chosen, what a step consumes, what is missing."""

import importlib
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import activations, backends

MIXED = bp.chain(
    4,
    bp.named("early", bp.Dense(5, bp.activations.leaky_relu)),
    bp.Dense(5, bp.activations.ReLU(">"), bias=False),
    bp.add("early"),
    bp.Dense(3, bp.tanh),
    bp.concat("early"),
    bp.Dense(3),
)
THRESHOLD_FIRST = sorted(activations.ALL.values(), key=lambda f: f != activations.thresholded_relu)
EVERY = bp.chain(4, *(bp.Dense(4, f) for f in THRESHOLD_FIRST), bp.Dense(2))  # later nets may be below it
RATES = {"early": 0.1, "dense1": 0.02, "dense2": 0.03, "dense3.w": 0.04, "dense3.b": 0.05}


def falling(count, *, xp):
    """The rate 0.1 / (1 + updates made)."""
    return 0.1 / (1 + xp.astype(count, xp.float64))


LEARNERS = {
    "every activation": bp.Learner(EVERY),
    "skips and a sum": bp.Learner(MIXED, bp.softmax_cross_entropy, reduction="sum"),
    "frozen blocks": bp.Learner(MIXED.freeze("dense1", "dense2.b"), bp.losses.mean_absolute_error),
    "a rate a layer": bp.Learner(MIXED, bp.losses.mean_squared_error, bp.GradientDescent(RATES)),
    "layer by layer": bp.Learner(
        MIXED, bp.losses.squared_error, bp.GradientDescent(RATES), order="layer by layer"
    ),
    "bounded weights": bp.Learner(
        MIXED, bp.losses.sigmoid_cross_entropy, bp.GradientDescent(0.5, limit=0.6, floor=0.05)
    ),
    "a schedule": bp.Learner(MIXED, update=bp.GradientDescent(falling)),
    "momentum": bp.Learner(MIXED.freeze("dense2.b"), update=bp.updates.Momentum(0.05)),
    "nesterov": bp.Learner(MIXED, update=bp.updates.Momentum(RATES, nesterov=True)),
    "adam": bp.Learner(MIXED.freeze("early.w"), bp.losses.mean_squared_error, bp.Adam(0.01)),
    "softmax": bp.Learner(bp.chain(4, bp.Dense(3, bp.softmax)), bp.losses.categorical_cross_entropy),
    "sigmoid": bp.Learner(bp.chain(4, bp.Dense(3, bp.sigmoid)), bp.losses.binary_cross_entropy),
}
SMALL = bp.Learner(bp.chain(2, bp.Dense(3, bp.relu), bp.Dense(1)))


# ---------------------------------------------------------------- the same numbers everywhere
@pytest.fixture(scope="module")
def at_home(steps, home):
    return cache(lambda name: steps(LEARNERS[name], home))


@pytest.mark.parametrize("name", LEARNERS)
def test_steps_agree_with_numpy(name, place, steps, at_home):
    w, losses, s = steps(LEARNERS[name], place)
    w_home, losses_home, _ = at_home(name)
    assert np.linalg.norm(w - w_home) <= 1e-12 * np.linalg.norm(w_home)
    np.testing.assert_allclose(losses, losses_home, rtol=1e-12)
    assert int(s.step) == int(s.rule.count) == len(losses)


def test_steps_change_every_learning_weight(at_home):
    for name, learner in LEARNERS.items():
        before, _ = learner.init(dtype="float64")
        changed = at_home(name)[0] != before
        for block in learner.net.layout.blocks:
            assert np.any(changed[block.start : block.stop]) == block.learns, (name, block)


def test_steps_take_integer_labels(place):
    learner = bp.Learner(MIXED, bp.softmax_cross_entropy)
    step = learner.compile(place.array([0.0]))
    x = place.array(np.random.default_rng(0).normal(size=(4, 4)))
    labels = [2, 0, 1, 1]
    for dtype in ("int32", "int64"):
        by_label = step(*place.init(learner), x, place.array(labels, dtype=dtype))
        by_row = step(*place.init(learner), x, place.array(np.eye(3)[labels]))
        np.testing.assert_array_equal(*(backends.host(done[0]) for done in (by_label, by_row)))


def test_steps_keep_library_dtype_and_device(any_place, ready):
    learner = SMALL
    w, s, x, t = ready(learner, any_place)
    after, s_after, loss = learner.compile(w)(w, s, x, t)
    for a, b in ((after, x), (loss, x), (s_after.step, s.step), (s_after.rule.count, s.rule.count)):
        assert backends.of(a) is any_place.backend
        assert a.dtype == b.dtype
        assert backends.of(a).device_of(a) == backends.of(x).device_of(x)
    assert after.shape == (learner.net.layout.size,)
    assert loss.shape == ()


def test_predictions_and_gradients_agree_with_numpy(place, home, ready):
    for learner in (LEARNERS["every activation"], LEARNERS["skips and a sum"], LEARNERS["sigmoid"]):
        (w, s, x, t), at_home = ready(learner, place), ready(learner, home)
        for what in ("predict", "losses", "gradient"):
            arguments = 3 if what == "predict" else 4
            got = getattr(learner, what)(*(w, s, x, t)[:arguments])
            want = getattr(learner, what)(*at_home[:arguments])
            pairs = [(got[k], want[k]) for k in want] if isinstance(want, dict) else [(got, want)]
            for a, b in pairs:
                assert np.linalg.norm(backends.host(a) - b) <= 1e-12 * np.linalg.norm(b)


@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**32 - 1])
def test_first_weights_are_equal_bit_for_bit(seed, any_place, home):
    w, s = any_place.init(LEARNERS["every activation"], seed)
    at_home, _ = home.init(LEARNERS["every activation"], seed)
    if any_place.dtype == "rational":
        np.testing.assert_array_equal(backends.host(w), at_home)
    else:
        assert backends.host(w).tobytes() == at_home.astype(any_place.dtype).tobytes()
    assert int(s.seed) % 2**32 == seed


def test_first_weights_differ_by_seed():
    drawn = {SMALL.init(seed)[0].tobytes() for seed in range(100)}
    assert len(drawn) == 100


# ---------------------------------------------------------------- compilation
@pytest.mark.parametrize("name", ["layer by layer", "adam"])
def test_jit_compiles_a_step_once(name, ready, places):
    place, learner, traces = here(places, "jax"), LEARNERS[name], []

    def step(*arguments, xp):
        traces.append(1)
        return learner.pure(*arguments, xp=xp)

    compiled = place.backend.compile(step, donate=2)
    w, s = place.init(learner)
    for seed in range(4):
        _, _, x, t = ready(learner, place, seed=seed)
        w, s, _ = compiled(w, s, x, t)
    assert len(traces) == 1
    w, s, _ = compiled(w, s, x[:2], t[:2])
    assert len(traces) == compiled.compilations == 2


@pytest.mark.parametrize("name", ["skips and a sum", "frozen blocks", "layer by layer", "nesterov", "adam"])
def test_scans_agree_with_their_steps(name, place, ready):
    learner, rows = LEARNERS[name], np.random.default_rng(0).integers(8, size=(9, 3))
    w, s, x, t = ready(learner, place, n=8)
    losses = []
    step = learner.compile(w)
    end, end_s, scanned = step.scan(*learner.snapshot(w, s), x, t, place.array(rows, dtype="int64"))
    for row in rows:
        picked = place.array(row, dtype="int64")
        w, s, loss = step(w, s, *(place.xp.take(each, picked, axis=0) for each in (x, t)))
        losses.append(float(loss))
    assert np.linalg.norm(backends.host(end) - backends.host(w)) <= 1e-12 * np.linalg.norm(backends.host(w))
    np.testing.assert_allclose(backends.host(scanned), losses, rtol=1e-12)
    for a, b in zip(leaves(end_s), leaves(s), strict=True):
        np.testing.assert_allclose(backends.host(a), backends.host(b), rtol=1e-12, atol=1e-15)


# ---------------------------------------------------------------- what a step consumes
def test_snapshots_survive_a_step(any_place, ready):
    w, s, x, t = ready(SMALL, any_place)
    before, state_before = backends.host(w).copy(), [np.copy(backends.host(a)) for a in leaves(s)]
    kept_w, kept_s = SMALL.snapshot(w, s)
    step = SMALL.compile(w)
    for _ in range(3):
        w, s, _ = step(w, s, x, t)
    np.testing.assert_array_equal(backends.host(kept_w), before)
    for kept, old in zip(leaves(kept_s), state_before, strict=True):
        np.testing.assert_array_equal(backends.host(kept), old)
    assert np.any(backends.host(w) != before)


def test_snapshots_continue_as_the_run_did(any_place, ready):
    w, s, x, t = ready(SMALL, any_place)
    kept = SMALL.snapshot(w, s)
    ends = [backends.host(SMALL.step(*start, x, t)[0]) for start in ((w, s), kept)]
    np.testing.assert_array_equal(*ends)


def test_batches_survive_a_step(any_place, ready):
    w, s, x, t = ready(SMALL, any_place)
    before = [np.copy(backends.host(a)) for a in (x, t)]
    SMALL.compile(w)(w, s, x, t)
    for a, old in zip((x, t), before, strict=True):
        np.testing.assert_array_equal(backends.host(a), old)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_steps_update_weights_in_place(name, ready, places):
    place = here(places, name)
    w, s, x, t = ready(SMALL, place)
    after, _, _ = SMALL.step(w, s, x, t)
    assert after is w


def test_compiled_steps_delete_the_weights_they_consume(ready, places):
    w, s, x, t = ready(SMALL, here(places, "jax"))
    SMALL.compile(w)(w, s, x, t)
    assert w.is_deleted()
    assert s.step.is_deleted()
    assert not x.is_deleted()


def test_eager_jax_steps_leave_old_weights_alone(ready, places):
    w, s, x, t = ready(SMALL, here(places, "jax"))
    before = np.array(w)
    SMALL.step(w, s, x, t)
    np.testing.assert_array_equal(w, before)


def test_first_weights_are_copies_of_what_was_given(any_place):
    learner = bp.Learner(bp.chain(2, bp.Dense(2, bias=False)))  # one block: nothing to join
    given = any_place.array([[1.0, 2.0], [3.0, 4.0]])
    w, s = any_place.init(learner, weights={"dense1.w": given}, partial=True)
    x, t = any_place.array([[1.0, 1.0]]), any_place.array([[0.0, 0.0]])
    after, *_ = learner.compile(w)(w, s, x, t)
    assert backends.host(given).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert backends.host(after).tolist() != [1.0, 2.0, 3.0, 4.0]


def test_torch_steps_leave_no_autograd_graph(ready, places):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    w, s, x, t = ready(SMALL, here(places, "torch"))
    for _ in range(2):
        w, s, loss = SMALL.step(w, s, x, t)
    asks = x.clone().requires_grad_()
    w, s, compiled_loss = SMALL.compile(w)(w, s, asks, t)
    gradients = SMALL.gradient(w, s, x, t).values()
    for a in (w, loss, compiled_loss, *leaves(s), *gradients, SMALL.predict(w, s, x)):
        assert isinstance(a, torch.Tensor)
        assert not a.requires_grad
        assert a.grad_fn is None


def test_asarray_detaches_torch_tensors():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    graph = torch.ones(2, requires_grad=True) * 2
    assert not bp.asarray(graph, like=graph).requires_grad
    assert bp.asarray(graph, backend="numpy").tolist() == [2.0, 2.0]


def leaves(value):
    """Every array in a tuple of tuples."""
    return [leaf for each in value for leaf in leaves(each)] if isinstance(value, tuple) else [value]


def here(places, name, dtype="float64"):
    for place in places:
        if (place.name, place.dtype, place.device) == (name, dtype, None):
            return place
    return pytest.skip(f"{name} is not installed")


# ---------------------------------------------------------------- who decides
def test_arrays_move_between_all_backends(any_place, places):
    numbers = [[0.5, -1.25], [3.0, 0.0]]
    given = any_place.array(numbers)
    for place in places:
        like = place.array([1.0])
        for moved in (place.array(given), bp.asarray(given, like=like)):
            assert backends.of(moved) is place.backend
            assert moved.dtype == like.dtype
            assert backends.host(moved).tolist() == numbers
        assert place.backend.device_of(moved) == place.backend.device_of(like)


def test_moved_arrays_keep_their_numbers_when_the_source_changes(any_place):
    for _ in range(20):  # JAX takes over host memory only where it happens to be aligned
        source = np.arange(64.0, dtype="float64" if any_place.dtype == "rational" else any_place.dtype)
        moved = any_place.array(source)
        source[:] = -1
        assert (moved is source) == (any_place.name == "numpy")
        assert moved is source or backends.host(moved).tolist() == list(range(64))


def test_a_with_block_decides_where_no_array_is_in_hand(places):
    for name in {place.name for place in places}:
        with bp.backend(name) as chosen:
            w, _ = SMALL.init()
            assert backends.of(w) is chosen is backends.get()
        assert backends.get().name == "numpy"


def test_with_blocks_nest():
    with bp.backend("exact"):
        with bp.backend("numpy"):
            assert backends.get().name == "numpy"
        assert backends.get().name == "exact"


def test_the_environment_decides_after_with_blocks_and_names(monkeypatch):
    monkeypatch.setenv("BACKPROP_XP_BACKEND", "exact")
    assert backends.of(SMALL.init()[0]).name == "exact"
    assert backends.of(SMALL.init(backend="numpy")[0]).name == "numpy"
    with bp.backend("numpy"):
        assert backends.of(SMALL.init()[0]).name == "numpy"


def test_an_array_in_hand_wins(any_place, monkeypatch):
    like = any_place.array([1.0])
    monkeypatch.setenv("BACKPROP_XP_BACKEND", "exact" if any_place.name == "numpy" else "numpy")
    with bp.backend("exact" if any_place.name == "numpy" else "numpy"):
        w, s = SMALL.init(like=like)
        assert backends.of(w) is any_place.backend
        assert w.dtype == like.dtype
        assert backends.of(w).device_of(w) == backends.of(like).device_of(like)
        x, t = bp.asarray([[1.0, 2.0]], like=w), bp.asarray([[1.0]], like=w)
        w, s, loss = SMALL.step(w, s, x, t)
        assert backends.of(loss) is backends.of(SMALL.predict(w, s, x)) is any_place.backend


def test_two_threads_use_two_backends(steps, places, home):
    names = ("strict", "numpy", "exact")
    for name in names:
        here(places, name, "rational" if name == "exact" else "float64")
    found, errors, together = {name: set() for name in names}, [], threading.Barrier(len(names))

    def work(name):
        try:
            with bp.backend(name):
                for _ in range(20):
                    together.wait(timeout=60)
                    w, s = SMALL.init()
                    x, t = bp.asarray([[1.0, 2.0]], like=w), bp.asarray([[1.0]], like=w)
                    w, s, _ = SMALL.step(w, s, x, t)
                    found[name].add((backends.of(w).name, backends.get().name))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert found == {name: {(name, name)} for name in names}
    assert backends.get().name == "numpy"


# ---------------------------------------------------------------- what is missing
@pytest.fixture
def not_yet_opened(monkeypatch):
    """Backends are opened anew, so that what is missing now is seen to be."""
    monkeypatch.setattr(backends, "_open", backends._open.__wrapped__)


@pytest.mark.parametrize(
    ("name", "module", "library", "extra"),
    [
        ("jax", "jax", "JAX", "jax"),
        ("torch", "torch", "PyTorch", "torch"),
        ("cupy", "cupy", "CuPy", "cuda12"),
        ("strict", "array_api_strict", "array-api-strict", "test"),
    ],
)
def test_a_missing_library_is_an_error_that_names_the_extra(
    name, module, library, extra, not_yet_opened, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)
    for ask in (
        lambda: SMALL.init(backend=name),
        lambda: bp.asarray([1.0], backend=name),
        lambda: bp.backend(name).__enter__(),
    ):
        with pytest.raises(bp.errors.BackendUnavailable) as caught:
            ask()
        advice = bp.errors.how_to_install(extra)
        assert str(caught.value) == f"{library} is not installed: {advice}"
        assert isinstance(caught.value, (bp.BackpropError, ImportError))


@pytest.mark.parametrize(
    ("name", "module", "told"),
    [
        ("torch", "array_api_compat.torch", "PyTorch needs the module 'array_api_compat.torch', "),
        ("cupy", "array_api_compat", "CuPy needs the module 'array_api_compat.cupy', which is not installed"),
    ],
)
def test_a_missing_dependency_is_named_itself(name, module, told, not_yet_opened, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(bp.errors.BackendUnavailable) as caught:
        SMALL.init(backend=name)
    assert told in str(caught.value)


def test_a_library_that_is_broken_is_not_called_missing():
    banner = "\n=====\nFailed to import CuPy.\n\nlibnvrtc.so.12 is not there\n====="
    told = str(bp.errors.unavailable("CuPy", "cupy", "cuda12", ImportError(banner)))
    assert told.startswith("CuPy cannot be imported (Failed to import CuPy. libnvrtc.so.12 is not there): ")


def test_advice_to_install_works_from_a_clone(monkeypatch, tmp_path):
    root = Path(bp.__file__).resolve().parent.parent
    assert bp.errors.how_to_install("jax") == f'pip install -e ".[jax]" in {root}'
    monkeypatch.setattr(bp.errors, "__file__", str(tmp_path / "backprop_xp" / "errors.py"))
    assert bp.errors.how_to_install("jax") == 'pip install "backprop-xp[jax]"'


# ---------------------------------------------------------------- tests of a GPU
def test_a_test_of_the_gpu_is_skipped_only_where_there_is_none(no_gpu, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    with pytest.raises(pytest.skip.Exception, match="no GPU: CuPy is not installed"):
        no_gpu("CuPy is not installed")
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/nvidia0")
    with pytest.raises(pytest.fail.Exception, match="a GPU is here, but CuPy is not installed"):
        no_gpu("CuPy is not installed")
    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr(shutil, "which", lambda name: name == "nvidia-smi")
    with pytest.raises(pytest.fail.Exception, match="a GPU is here"):
        no_gpu("CuPy is not installed")


def test_cupy_without_a_gpu_says_that_no_gpu_was_found(not_yet_opened, monkeypatch):
    cupy = ModuleType("cupy")
    cupy.cuda = SimpleNamespace(is_available=lambda: False)
    compat = ModuleType("array_api_compat.cupy")
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", compat)
    with pytest.raises(
        bp.errors.BackendUnavailable, match="CuPy is installed, but no GPU was found"
    ) as caught:
        SMALL.init(backend="cupy")
    assert "backend='numpy'" in str(caught.value)


def run_python(code, **environment):
    """The output of a fresh interpreter."""
    kept = {k: v for k, v in os.environ.items() if k not in ("JAX_ENABLE_X64", "BACKPROP_XP_BACKEND")}
    paths = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=kept | paths | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


ON_JAX_AS_IT_COMES = """
import numpy as np, backprop_xp as bp
learner = bp.Learner(bp.chain(2, bp.Dense(3, bp.relu), bp.Dense(1)))
try:
    learner.init(backend="jax", dtype="float64")
except bp.BackpropError as error:
    print(error)
for seed in (0, 2**32 - 1):
    w, s = learner.init(seed, backend="jax")
    step = learner.compile(w)
    x, t = bp.asarray([[1.0, 2.0]], like=w), bp.asarray([[1.0]], like=w)
    w, s, loss = step(w, s, x, t)
    print(w.dtype, loss.dtype, int(s.seed), int(s.step))
words = bp.rng.bits(2**32 - 1, 2**31, 2**32 - 2, 4, xp=bp.backends.get("jax").xp)
on_numpy = bp.rng.bits(2**32 - 1, 2**31, 2**32 - 2, 4, xp=np)
print(all((np.asarray(a) == b).all() for a, b in zip(words, on_numpy)))
"""


def test_jax_without_64_bits_says_so_and_runs_in_float32():
    pytest.importorskip("jax", reason="jax is not installed")
    error, *runs, same_bits = run_python(ON_JAX_AS_IT_COMES).splitlines()
    assert "float64" in error
    assert "JAX_ENABLE_X64=1" in error
    assert "float32" in error
    assert runs == ["float32 float32 0 1", f"float32 float32 {2**32 - 1} 1"]
    assert same_bits == "True"


def test_importing_the_library_imports_no_array_library_but_numpy():
    others = "{'jax', 'torch', 'cupy', 'array_api_strict'}"
    assert run_python(f"import sys, backprop_xp; print(*sorted({others} & set(sys.modules)))") == ""


def test_the_environment_names_the_backend_of_a_program():
    code = "import backprop_xp as bp; print(bp.backends.get().name)"
    assert run_python(code, BACKPROP_XP_BACKEND="exact") == "exact"
    assert run_python(code) == "numpy"


@pytest.mark.parametrize(
    ("precision", "operands", "told"),
    [("float32", "f32", "HIGHEST"), ("tf32", "f32", "HIGH"), ("bfloat16", "bf16", "DEFAULT")],
)
def test_jax_multiplies_in_the_precision_that_is_asked_for(precision, operands, told):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    learner = bp.Learner(bp.chain(4, bp.Dense(8, bp.relu), bp.Dense(3)), bp.softmax_cross_entropy)
    w, s = learner.init(backend="jax", dtype="float32")
    x, t = bp.asarray(np.ones((2, 4)), like=w), bp.asarray([0, 2], like=w, dtype="int32")
    xp = backends.get("jax").with_precision(precision).xp
    text = jax.jit(lambda *given: learner.pure(*given, xp=xp)).lower(w, s, x, t).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 5
    assert all(f"precision = [{told}, {told}]" in line for line in products)
    assert all(line.count(f"x{operands}>") >= 2 and line.endswith("xf32>") for line in products)
    _, _, eager = learner.step(*learner.snapshot(w, s), x, t)
    w, s, loss = replace(learner, precision=precision).compile(w)(w, s, x, t)
    assert w.dtype == np.float32
    assert abs(loss - eager) <= {"bfloat16": 2e-2}.get(precision, 1e-6) * eager


def test_jax_keeps_products_of_float64():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    if not jax.config.jax_enable_x64:
        pytest.skip("JAX runs without 64 bits here")
    a = jax.numpy.full((2, 2), 1 / 3)
    assert (backends.get("jax").with_precision("bfloat16").xp.matmul(a, a) == a @ a).all()


def test_a_library_nobody_here_has_heard_of_trains_by_the_standard_alone(tmp_path, monkeypatch):
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    shutil.copytree(Path(strict.__file__).parent, tmp_path / "other_arrays")
    for file in (tmp_path / "other_arrays").rglob("*.py"):
        file.write_text(file.read_text(encoding="utf-8").replace("array_api_strict", "other_arrays"))
    monkeypatch.syspath_prepend(tmp_path)
    other = importlib.import_module("other_arrays")
    learner = bp.Learner(bp.chain(3, bp.Dense(4, bp.tanh), bp.Dense(2)), update=bp.Adam())
    found = []
    for xp in (np, other):
        x, t = xp.reshape(xp.arange(24, dtype=xp.float64), (8, 3)) / 24, xp.ones((8, 2), dtype=xp.float64)
        w, s = learner.init(like=x)
        done = bp.fit(learner, w, s, bp.data.Stored(x, t), batch_size=4, epochs=2)
        assert isinstance(done.w, type(x))
        found.append([each.loss for each in done.history])
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert type(bp.asarray(x, like=np.ones(1))) is np.ndarray


def test_an_array_that_numpy_cannot_be_given_is_told_of():
    class Closed:
        __module__ = "closed"
        dtype = shape = None

        def __array_namespace__(self):
            return np

    with pytest.raises(bp.BackpropError, match="closed does not hand its arrays to NumPy by DLPack"):
        backends.host(Closed())


def test_on_the_processor_jax_compiles_nothing_to_send_copy_or_check_an_array(caplog):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    to, cpu = backends.get("jax"), jax.devices("cpu")[0]
    with jax.log_compiles():
        for data in (np.ones(1234), np.arange(1235), np.ones((7, 177), "float32"), [1.0, 2.0] * 618):
            a = to.asarray(data, to.xp.float32, cpu)
            b = backends.copy(a)
            assert a.dtype == b.dtype == to.xp.float32
            assert a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()
            assert to.all_finite(b)
            assert np.array_equal(to.to_host(b), np.asarray(data))
        assert not to.all_finite(to.asarray([1.0, np.inf] * 619, None, None))
        assert "Compiling" not in caplog.text
        to.xp.asarray(np.ones(1239), dtype=to.xp.float32, device=cpu)
    assert "Compiling" in caplog.text
