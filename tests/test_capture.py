"""The CuPy backend without a GPU: the whole path on a CuPy of NumPy arrays that captures and replays.

A replayed graph equals eager NumPy bit for bit; what cannot be captured is refused; and the stand-in for
cuBLASLt computes products from the addresses it is given, and from nothing else.
"""

import ctypes
import gc
import importlib.util
import sys
import weakref
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import array_api_compat
import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends, loss_scale
from backprop_xp import step as step_module
from backprop_xp.compiler import compiled
from backprop_xp.compiler.cuda import cublaslt, executable, feed, graph, products, row_kernel, staging
from backprop_xp.compiler.cuda.executable import DeviceLibrary, Executable
from backprop_xp.compiler.fusion import fuse
from backprop_xp.compiler.ir import ASSIGN, BINARY, OPERATIONS, Ref, abstract, evaluate, leaves, mapped
from backprop_xp.compiler.recorder import record


def neighbour(name):
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fake = neighbour("fake_cupy")
recorded = neighbour("test_record")
LEARNERS, batch = recorded.LEARNERS, recorded.batch


def adam(*widths, gate=">="):
    hidden = [bp.Dense(n, bp.activations.ReLU(gate)) for n in widths[1:-1]]
    net = bp.chain(widths[0], *hidden, bp.Dense(widths[-1]))
    return bp.Learner(net, bp.softmax_cross_entropy, bp.Adam())


G1, G2 = (64, 64, 64, 64, 64), (784, 512, 256, 10)
ADAM = LEARNERS["rule adam"]
HOST = DeviceLibrary(np, fuse=lambda chain: chain, asarray=np.asarray, empty=np.empty)


@pytest.fixture
def lt():
    return fake.Lt()


@pytest.fixture
def cupy(monkeypatch, lt, settled):
    """The stand-in, as if it were installed and found a GPU."""
    for name, module in fake.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(array_api_compat, "cupy", sys.modules["array_api_compat.cupy"], raising=False)
    monkeypatch.setattr(backends, "_open", cache(backends._open.__wrapped__))
    monkeypatch.setattr(backends, "_by_type", {})
    monkeypatch.setattr(cublaslt, "loaded", lambda: lt)
    monkeypatch.setattr(row_kernel, "compiled", fake.rows)
    yield sys.modules["cupy"]
    assert fake.device.fallbacks == 0, "a kernel that we count as one would be several"


def on_device(learner, dtype="float32", seed=2):
    return learner.init(seed=seed, backend="cupy", dtype=dtype)


def to_device(*arrays):
    return tuple(backends.get("cupy").cupy.asarray(a) for a in arrays)


def assert_same_bits(device, host):
    for one, other in zip(leaves(device), leaves(host), strict=True):
        assert one.dtype == other.dtype
        assert one.get().tobytes() == np.asarray(other).tobytes()


# ---------------------------------------------------------------- from the program to kernels
@pytest.mark.parametrize("name", LEARNERS)
def test_abstract_values_have_the_shapes_and_dtypes_of_true_ones(name):
    learner = LEARNERS[name]
    inputs = *learner.init(), *batch(learner, 0)
    program = record(learner.pure, *inputs)
    everything = replace(program, outputs=tuple(Ref(value) for value in range(len(program.values))))
    for abstract_value, value in zip(program.values, evaluate(everything, *inputs), strict=True):
        assert (abstract_value.shape, abstract_value.dtype) == (value.shape, value.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LEARNERS)
def test_kernels_compute_what_the_step_computes_bit_for_bit(name, dtype):
    learner = LEARNERS[name]
    w, s = learner.init(dtype=dtype)
    program = Executable(record(learner.pure, w, s, *batch(learner, 0, dtype)), 2, HOST)
    state = [np.array(a) for a in leaves((w, s))]
    for k in range(5):
        (loss,) = program.run([*state, *batch(learner, k, dtype)])
        w, s, expected = learner.step(w, s, *batch(learner, k, dtype))
        assert np.asarray(loss).tobytes() == np.asarray(expected).tobytes()
    for one, other in zip(state, leaves((w, s)), strict=True):
        assert one.tobytes() == np.asarray(other).tobytes()


def test_states_that_change_places_are_written_back():
    def step(w, s, x, t, *, xp):
        return s[0], (w,), xp.sum(w * x)

    x = np.zeros(2)
    made = record(step, np.zeros(2), (np.ones(2),), x, x)
    program = Executable(made, 2, HOST)
    state = [np.zeros(2), np.ones(2)]
    program.run([*state, x, x])
    assert [a.tolist() for a in state] == [[1, 1], [0, 0]]


def test_every_operation_is_written_as_indexing_or_left_to_the_library():
    assert OPERATIONS | {ASSIGN} == executable.FROM_LIBRARY | executable.INDEXING
    assert not executable.FROM_LIBRARY & executable.INDEXING
    assert [name for name in executable.FROM_LIBRARY if not hasattr(np, name)] == []


@pytest.mark.parametrize("name", BINARY.values())
def test_every_operation_in_place_has_its_method(name):
    def step(w, s, x, t, *, xp):
        s += 0  # written in place: a value of its own
        s = getattr(s, executable.IN_PLACE[name])(3)
        return w, s, xp.sum(x)

    dtype = np.float64 if name == "divide" else np.int64
    arrays = np.zeros(2), np.full(2, 7, dtype), np.zeros(2), np.zeros(2)
    state = [arrays[0].copy(), arrays[1].copy()]
    Executable(record(step, *arrays), 2, HOST).run([*state, *arrays[2:]])
    np.testing.assert_array_equal(state[1], getattr(np, name)(arrays[1], 3))


def fused(learner, rows, labels=True):
    w, s = learner.init()
    (features,), (units,) = learner.net.outputs[0], learner.net.outputs[-1]
    t = abstract((rows,), np.int32) if labels else abstract((rows, units), np.float32)
    return fuse(record(learner.pure, w, s, abstract((rows, features), np.float32), t), 2)


KERNELS = {
    "G1": (adam(*G1), 256, 19), "G1, gate >": (adam(*G1, gate=">"), 256, 16),
    "G2": (adam(*G2), 128, 14), "G2, gate >": (adam(*G2, gate=">"), 128, 12),
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_of_a_step_stay_within_their_budget(name, cupy, capsys):
    """G1 had 33 and G2 had 27 when every operation but elementwise ones was a kernel of its own."""
    learner, rows, most = KERNELS[name]
    w, s = on_device(learner)
    step = learner.compile(w)
    step(
        w,
        s,
        cupy.ones((rows, *learner.net.outputs[0]), dtype=np.float32),
        cupy.zeros((rows,), dtype=np.int32),
    )
    (program,) = step.executables.values()
    with capsys.disabled():
        print(f"\n{name}: {program.kernels} kernels a step")
    assert step.kernels == [most]
    kinds = [kernel.kind for kernel in program.fused.kernels]
    assert kinds.count("matmul") == 3 * (len(learner.net.nodes) - 1) - 1
    assert set(kinds) - {"matmul", "concat"} == {"elementwise", "rows"}
    assert kinds.count("rows") == 1, "the loss, its error and Adam's scalars"
    assert len(program.fused.kernels[-1].ops) == 12, "Adam, over all weights"


def test_products_and_sums_are_computed_where_the_gradient_wants_them():
    learner = adam(*G2)
    found = fused(learner, 128)
    (concat,) = [kernel for kernel in found.kernels if kernel.kind == "concat"]
    assert concat.reads == ()
    starts = sorted(where.start for where in found.program.slices.values())
    assert starts == [where.start for where in learner.net.layout.gradient_slices.values()]


# ---------------------------------------------------------------- graphs
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_graph_equals_eager_numpy_bit_for_bit(name, dtype, cupy):
    learner = LEARNERS[name]
    w, s = on_device(learner, dtype)
    w_eager, s_eager = learner.init(seed=2, dtype=dtype)
    step = learner.compile(w)
    for k in range(6):
        x, t = batch(learner, k, dtype)
        w, s, loss = step(w, s, *to_device(x, t))
        w_eager, s_eager, loss_eager = learner.step(w_eager, s_eager, x, t)
        assert_same_bits(loss, loss_eager)
    assert_same_bits((w, s), (w_eager, s_eager))
    assert step.compilations == 1


@pytest.mark.parametrize("name", LEARNERS)
def test_a_scan_gathers_in_the_graph_and_equals_its_steps(name, cupy):
    learner = LEARNERS[name]
    x, t = (np.concatenate(p) for p in zip(*(batch(learner, k) for k in range(3)), strict=True))
    draw = np.random.default_rng(0)
    index = draw.integers(0, 12, (2 * graph.UPDATES + 3, 2)).astype(np.int32)
    w, s = on_device(learner)
    w_eager, s_eager = learner.init(seed=2)
    w, s, losses = learner.compile(w).scan(w, s, *to_device(x, t, index))
    expected = []
    for rows in index:
        w_eager, s_eager, loss = learner.step(w_eager, s_eager, x[rows], t[rows])
        expected.append(loss)
    assert_same_bits((w, s), (w_eager, s_eager))
    assert losses.get().tobytes() == np.asarray(expected).tobytes()


def test_a_hundred_steps_are_bit_equal_after_other_allocations(cupy):
    x, t = (np.concatenate(p) for p in zip(*(batch(ADAM, k) for k in range(5)), strict=True))
    w, s = on_device(ADAM)
    w_eager, s_eager = ADAM.init(seed=2)
    step = ADAM.compile(w)
    device = to_device(x, t)
    for k in range(4):
        index = np.random.default_rng(k).integers(0, 20, (25, 4)).astype(np.int32)
        w, s, _ = step.scan(w, s, *device, *to_device(index))
        junk = [cupy.full((64, 64), float("nan"), dtype=np.float32) for _ in range(50)]
        for rows in index:
            w_eager, s_eager, _ = ADAM.step(w_eager, s_eager, x[rows], t[rows])
        del junk
    assert int(s.step.get()) == 100
    assert_same_bits((w, s), (w_eager, s_eager))


def test_steps_and_losses_need_no_host_read(cupy, monkeypatch):
    w, s = on_device(ADAM)
    step, data = ADAM.compile(w), to_device(*batch(ADAM, 0))
    index = to_device(np.zeros((40, 4), dtype=np.int32))
    monkeypatch.setattr(fake.ndarray, "get", lambda self: pytest.fail("a host read"))
    w, s, _ = step(w, s, *data)
    w, s, losses = step.scan(w, s, *data, *index)
    assert losses.shape == (40,)


def test_a_scan_longer_than_its_index_buffer_goes_in_parts(cupy, monkeypatch):
    monkeypatch.setattr(feed, "_INDEX_STEPS", 10)
    x, t = batch(ADAM, 0)
    index = np.random.default_rng(0).integers(0, 4, (23, 2)).astype(np.int32)
    w, s = on_device(ADAM)
    w_eager, s_eager = ADAM.init(seed=2)
    w, s, losses = ADAM.compile(w).scan(w, s, *to_device(x, t, index))
    for rows in index:
        w_eager, s_eager, _ = ADAM.step(w_eager, s_eager, x[rows], t[rows])
    assert losses.shape == (23,)
    assert_same_bits((w, s), (w_eager, s_eager))


@pytest.mark.parametrize("steps", [1, 5, 3 * graph.UPDATES + 2])
def test_data_on_the_host_go_through_two_staging_buffers(steps, cupy):
    x, t = (np.concatenate(p) for p in zip(*(batch(ADAM, k) for k in range(3)), strict=True))
    index = np.random.default_rng(0).integers(0, 12, (steps, 2))
    w, s = on_device(ADAM)
    w_eager, s_eager = ADAM.init(seed=2)
    step = ADAM.compile(w)
    for _ in range(2):
        w, s, losses = step.scan(w, s, x, t, index)
        for k, rows in enumerate(index):
            w_eager, s_eager, loss = ADAM.step(w_eager, s_eager, x[rows], t[rows])
            assert losses.get()[k] == loss
    assert_same_bits((w, s), (w_eager, s_eager))
    (double,) = step.double_buffers.values()
    fills = 2 * -(-steps // graph.UPDATES)
    assert [each.filled.recorded for each in double.buffers] == [
        each.read.recorded - 1
        for each in double.buffers  # the first of them when it was made
    ]
    assert sum(each.filled.recorded for each in double.buffers) == fills


def test_the_stand_in_refuses_a_copy_that_another_stream_may_undo(cupy):
    data, copies = cupy.zeros((3,), dtype="float32"), cupy.cuda.Stream(non_blocking=True)
    with pytest.raises(fake.Unordered, match="does not wait for launch"):
        data.set(np.ones(3, dtype="float32"), stream=copies)
    copies.wait_event(cupy.cuda.get_current_stream().record())
    data.set(np.ones(3, dtype="float32"), stream=copies)
    with pytest.raises(fake.Unordered, match="does not wait for launch"):
        data.get()
    copies.synchronize()
    assert data.get().tolist() == [1, 1, 1]


@pytest.mark.parametrize("event", ["filled", "read"])
def test_a_staging_buffer_without_one_of_its_events_is_refused(event, cupy, monkeypatch):
    waits = {"filled": "wait_for_data", "read": "record_read"}
    monkeypatch.setattr(staging.StagingBuffer, waits[event], lambda *_: None)
    w, s = on_device(ADAM)
    with pytest.raises(fake.Unordered):
        ADAM.compile(w).scan(w, s, *batch(ADAM, 0), np.arange(4 * 200).reshape(-1, 4) % 4)


def test_a_scan_of_no_steps_changes_nothing(cupy):
    w, s = on_device(ADAM)
    before = w.get().tobytes()
    w, s, losses = ADAM.compile(w).scan(w, s, *to_device(*batch(ADAM, 0)), cupy.zeros((0, 2), dtype=np.int32))
    assert losses.shape == (0,)
    assert w.get().tobytes() == before


def test_rows_that_do_not_exist_are_refused_if_the_host_has_the_index(cupy):
    w, s = on_device(ADAM)
    step, (x, t), wrong = ADAM.compile(w), batch(ADAM, 0), np.asarray([[0, 1], [2, 4]])
    for data in ((x, t, wrong), (*to_device(x, t), wrong), (x, t, *to_device(wrong)), (x, t, -wrong)):
        with pytest.raises(bp.BackpropError, match="rows of an index must be 0 to 3, got"):
            step.scan(w, s, *data)
    assert not step.executables
    w, s, losses = step.scan(w, s, *to_device(x, t, wrong))
    assert losses.shape == (2,)


def captures(step):
    return sum(len(each.graphs) for instances in step.instances.values() for each in instances)


def test_a_scan_is_captured_once_though_data_change_their_address(cupy):
    """Data from a new address each time are copied to where the graph reads them."""
    w, s = on_device(ADAM)
    w_eager, s_eager = ADAM.init(seed=2)
    step = ADAM.compile(w)
    index = np.asarray([[0, 1], [2, 3]], dtype=np.int32)
    for k in range(6):
        x, t = batch(ADAM, k)
        w, s, _ = step.scan(w, s, *to_device(x, t, index))
        for rows in index:
            w_eager, s_eager, _ = ADAM.step(w_eager, s_eager, x[rows], t[rows])
    assert_same_bits((w, s), (w_eager, s_eager))
    assert captures(step) == 1
    assert step.compilations == 1


def test_snapshots_stay_and_unused_instances_are_used_again(cupy):
    """As `fit` does it: each epoch goes on from a copy, and the one before is kept."""
    w, s = on_device(ADAM)
    step, data = ADAM.compile(w), to_device(*batch(ADAM, 0))
    index = to_device(np.asarray([[0, 1], [2, 3]], dtype=np.int32))
    for _ in range(6):
        good, bits = (w, s), [a.get().tobytes() for a in leaves((w, s))]
        w, s = ADAM.snapshot(w, s)
        w, s, _ = step.scan(w, s, *data, *index)
        assert [a.get().tobytes() for a in leaves(good)] == bits
    assert sum(map(len, step.instances.values())) == 2


def test_a_view_of_weights_keeps_them(cupy):
    w, s = on_device(ADAM)
    step, data = ADAM.compile(w), to_device(*batch(ADAM, 0))
    w, s, _ = step(w, s, *data)
    kept = ADAM.weights(w)["early.w"]
    bits = kept.get().tobytes()
    del w, s
    step(*on_device(ADAM), *data)
    assert kept.get().tobytes() == bits


def test_runs_of_one_compiled_step_do_not_disturb_each_other(cupy):
    runs, alone = {}, {}
    for seed in (1, 2):
        runs[seed], (w, s) = on_device(ADAM, seed=seed), ADAM.init(seed=seed)
        for k in range(4):
            w, s, _ = ADAM.step(w, s, *batch(ADAM, k))
        alone[seed] = (w, s)
    step = ADAM.compile(runs[1][0])
    for k in range(4):
        for seed, (w, s) in runs.items():
            runs[seed] = step(w, s, *to_device(*batch(ADAM, k)))[:2]
    for seed, found in runs.items():
        assert_same_bits(found, alone[seed])


def test_eager_steps_and_graphs_can_be_mixed(cupy):
    w, s = on_device(ADAM)
    w_eager, s_eager = ADAM.init(seed=2)
    step = ADAM.compile(w)
    for k in range(6):
        how = step if k % 2 else ADAM.step
        w, s, _ = how(w, s, *to_device(*batch(ADAM, k)))
        w_eager, s_eager, _ = ADAM.step(w_eager, s_eager, *batch(ADAM, k))
    assert_same_bits((w, s), (w_eager, s_eager))


def test_a_graph_has_a_node_for_each_kernel(cupy):
    w, s = on_device(ADAM)
    step = ADAM.compile(w)
    step(w, s, *to_device(*batch(ADAM, 0)))
    ((captured, _),) = next(iter(step.instances.values()))[0].graphs.values()
    assert [len(captured.nodes)] == step.kernels


@pytest.mark.parametrize("name", [name for name in LEARNERS if not LEARNERS[name].net.categories])
def test_bytes_become_numbers_in_the_graph(name, cupy):
    learner = LEARNERS[name]
    x, t = np.random.default_rng(0).integers(0, 256, (12, 4), dtype=np.uint8), batch(learner, 0)[1]
    t = np.concatenate([t] * 3)
    index = np.random.default_rng(1).integers(0, 12, (graph.UPDATES + 3, 2)).astype(np.int32)
    w_eager, s_eager = learner.init(seed=2)
    for rows in index:
        z = x[rows].astype("f4") / 255
        w_eager, s_eager, _ = learner.step(w_eager, s_eager, z, t[rows])
    for data in ((*to_device(x, t, index),), (x, t, index)):
        w, s = on_device(learner)
        step = learner.compile(w)
        w, s, _ = step.scan(w, s, *data)
        assert_same_bits((w, s), (w_eager, s_eager))
        ((instance,),) = step.instances.values()
        assert instance.batch[0].dtype == np.uint8
    w, s, loss = step(w, s, *to_device(x[:4], t[:4]))
    w_eager, s_eager, expected = learner.step(w_eager, s_eager, x[:4], t[:4])
    assert_same_bits(loss, expected)


def test_shapes_that_do_not_fit_are_refused_before_anything_is_done(cupy):
    w, s = on_device(ADAM)
    step, (x, t) = ADAM.compile(w), to_device(*batch(ADAM, 0))
    for wrong in ((x, t[:3]), (x[:, :2], t), (np.zeros((4, 4)), t), ([[1.0]], t)):
        with pytest.raises(bp.BackpropError, match=r"inputs|targets"):
            step(w, s, *wrong)


def test_training_goes_through_graphs(cupy):
    learner = bp.Learner(bp.chain(3, bp.Dense(4, bp.tanh), bp.Dense(1)), update=bp.Adam(0.01))
    draw = np.random.default_rng(0)
    x, t = draw.standard_normal((50, 3)).astype("f4"), draw.standard_normal((50, 1)).astype("f4")
    w, s = on_device(learner)
    rows, reports = bp.data.Stored(*to_device(x, t)), []
    found = bp.fit(learner, w, s, rows, epochs=3, batch_size=8, progress=reports.append)
    assert reports[-1].memory == fake.MemoryPool().used_bytes()
    expected = bp.fit(learner, *learner.init(seed=2), bp.data.Stored(x, t), epochs=3, batch_size=8)
    np.testing.assert_allclose(found.w.get(), expected.w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_training_streams_rows_of_the_host_and_never_holds_them_all(dtype, cupy, tmp_path, monkeypatch):
    monkeypatch.setattr(cublaslt, "WORKSPACE_BYTES", 1000)
    learner = bp.Learner(bp.chain(40, bp.Dense(3)), bp.softmax_cross_entropy, bp.Adam(0.01))
    draw = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", draw.integers(0, 256, (5003, 40)).astype(dtype))
    x, t = np.load(tmp_path / "x.npy", mmap_mode="r"), draw.integers(0, 3, 5003).astype(np.int32)
    w, s = on_device(learner)
    there = bp.fit(learner, w, s, bp.data.Stored(*to_device(x, t)), epochs=2, batch_size=8)
    sizes, allocate = [], fake.device.allocate
    monkeypatch.setattr(fake.device, "allocate", lambda size: (sizes.append(size), allocate(size)))
    streamed = bp.fit(learner, w, s, bp.data.Stored(x, t), epochs=2, batch_size=8)
    assert 0 < max(sizes) <= 2 * 8 * graph.UPDATES * 40 * x.itemsize
    for one, other in zip(leaves(streamed[:2]), leaves(there[:2]), strict=True):
        assert one.get().tobytes() == other.get().tobytes()
    assert [epoch.loss for epoch in streamed.history] == [epoch.loss for epoch in there.history]


def test_rows_of_the_host_are_checked_before_anything_is_copied(cupy):
    w, s = on_device(ADAM)
    step, (x, t), index = ADAM.compile(w), batch(ADAM, 0), np.zeros((2, 2), dtype=int)
    for wrong in (
        (x, t[:3]),
        (x[:, :2], t),
        (x.astype("f8"), t),
        (x[0], t),
        (x, *to_device(t)),
        (*to_device(x), t),
    ):
        with pytest.raises(bp.BackpropError, match=r"inputs|targets"):
            step.scan(w, s, *wrong, index)
    with pytest.raises(bp.BackpropError, match="float32, or uint8"):
        bp.fit(ADAM, w, s, bp.data.Stored(x.astype("f8"), t))
    w, s, _ = step.scan(w, s, x, t, *to_device(np.zeros((2, 4), dtype=int)))
    with pytest.raises(bp.BackpropError, match="inputs must be a cupy array"):
        step(w, s, x, t)


# ---------------------------------------------------------------- any function
WATCH = ("*.o", "*.net", "*.delta", "*.grad", "*.w_before", "*.change")
WEIGHTED = bp.Learner(recorded.ONE_OF_EACH, bp.softmax_cross_entropy, bp.Adam(0.01))


def weighted(k):
    """A batch with a weight for each row."""
    return *batch(WEIGHTED, k), np.random.default_rng(k).random(4).astype("f4")


@pytest.mark.parametrize("name", LEARNERS)
def test_the_halves_of_a_step_equal_eager_ones_bit_for_bit(name, cupy):
    learner = LEARNERS[name]
    if learner.order == "layer by layer":
        pytest.skip("it has no halves")
    w, s = on_device(learner)
    w_eager, s_eager = learner.init(seed=2)
    gradient, apply = learner.compile_gradient(w), learner.compile_apply(w)
    kept = []
    for k in range(5):
        first = np.asarray(0, dtype=np.int32)
        found = gradient(w, s, *to_device(first, *batch(learner, k)))
        expected = learner.pure.gradient(w_eager, s_eager, *batch(learner, k), xp=np)
        assert type(found) is type(expected)
        assert_same_bits(found, expected)
        w, s, loss = apply(w, s, found)
        kept.append((found, [a.get().tobytes() for a in leaves(found)]))
        w_eager, s_eager, _ = learner.pure.apply(w_eager, s_eager, expected, xp=np)
        assert_same_bits((w, s, loss), (w_eager, s_eager, expected.loss))
    assert gradient.compilations == apply.compilations == 1
    for found, bits in kept:
        assert [a.get().tobytes() for a in leaves(found)] == bits


def test_gradients_of_parts_of_a_batch_are_added_up(cupy):
    w, s = on_device(ADAM)
    gradient, parts, parts_eager = ADAM.compile_gradient(w, rows=8), [], []
    w_eager, s_eager = ADAM.init(seed=2)
    for k in range(2):
        first, (x, t) = np.asarray(4 * k, dtype=np.int32), batch(ADAM, k)
        parts.append(gradient(w, s, *to_device(first, x, t)))
        parts_eager.append(ADAM.pure.gradient(w_eager, s_eager, x, t, xp=np, rows=8, first=first))
    assert_same_bits(step_module.total(parts), step_module.total(parts_eager))
    ((instance,),) = gradient.instances.values()
    assert instance.copied == [False] * len(instance.held), "weights and state are read where they lie"


@pytest.mark.parametrize("name", LEARNERS)
def test_predictions_and_evaluations_equal_eager_ones_bit_for_bit(name, cupy):
    learner = LEARNERS[name]
    w, s = on_device(learner)
    w_eager, s_eager = learner.init(seed=2)
    predict, evaluate = learner.compile_predict(w), learner.compile_evaluate(w)
    index = np.random.default_rng(0).integers(0, 4, (graph.UPDATES + 2, 3)).astype(np.int32)
    for k in range(3):
        x, t = batch(learner, k)
        assert_same_bits(predict(w, s, *to_device(x)), learner.predict(w_eager, s_eager, x))
        sums = evaluate(w, s, *to_device(x, t))
        assert_same_bits(sums, learner.pure.evaluate(w_eager, s_eager, x, t, xp=np))
        found = predict.scan(w, s, *to_device(x, index))
        assert_same_bits(found, np.stack([learner.predict(w_eager, s_eager, x[rows]) for rows in index]))
        (losses,) = evaluate.scan(w, s, *to_device(x, t, index))
        expected = [learner.pure.evaluate(w_eager, s_eager, x[r], t[r], xp=np)[0] for r in index]
        assert_same_bits(losses, np.asarray(expected))
    assert predict.compilations == evaluate.compilations == 2


def watched(learner, data, index):
    """What eager steps return, stacked."""
    (w, s), found = learner.init(seed=2), []
    for rows in index:
        w, s, *rest = learner.step(w, s, *(a[rows] for a in data), watch=WATCH)
        found.append(rest)
    return w, s, *compiled.stack(found, np.stack)


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_watched_step_equals_the_eager_one_bit_for_bit(name, on_host, cupy, monkeypatch):
    learner = LEARNERS[name]
    x, t = batch(learner, 0)
    index = np.random.default_rng(0).integers(0, 4, (2 * graph.UPDATES + 3, 4))
    expected = watched(learner, (x, t), index)
    w, s = on_device(learner)
    step = learner.compile(w, watch=WATCH)
    w, s, loss, seen = step(w, s, *to_device(x[index[0]], t[index[0]]))
    assert_same_bits((loss, seen), row_of(expected[2:], 0))
    given = (x, t, index) if on_host else to_device(x, t, index)
    w, s = on_device(learner)
    monkeypatch.setattr(feed, "_STACK_BYTES", 20_000)  # the results are stacked in parts
    found = step.scan(w, s, *given)
    assert found[3].keys() == expected[3].keys() >= {"input.o", "dense1.net"}
    assert_same_bits(found, expected)
    assert step.compilations == 2


def row_of(tree, k):
    """Row k of every array."""
    return mapped(tree, lambda a: a[k])


def test_stacks_stay_within_bounds(cupy, monkeypatch):
    w, s = on_device(ADAM)
    step, data = ADAM.compile(w, watch="*.o"), to_device(*batch(ADAM, 0))
    monkeypatch.setattr(compiled, "LARGEST_STACK", 10_000)
    with pytest.raises(bp.BackpropError, match="40 steps would stack"):
        step.scan(w, s, *data, *to_device(np.zeros((40, 4), dtype=np.int32)))


def test_rows_may_have_weights(cupy):
    x, t, weight = weighted(0)
    index = np.random.default_rng(0).integers(0, 4, (graph.UPDATES + 3, 2))
    w_eager, s_eager = WEIGHTED.init(seed=2)
    expected = []
    for rows in index:
        w_eager, s_eager, loss = WEIGHTED.step(w_eager, s_eager, x[rows], t[rows], weight[rows])
        expected.append(loss)
    for given in ((x, t, weight, index), to_device(x, t, weight, index)):
        w, s = on_device(WEIGHTED)
        found = WEIGHTED.compile(w).scan(w, s, *given)
        assert_same_bits(found, (w_eager, s_eager, np.asarray(expected)))


def trees(w, s, scale, rows, *, xp):
    """A function of trees: state, something held, rows in a dict; what it returns is one, too."""
    total = xp.sum(rows["a"] * xp.reshape(rows["b"][0], (-1, 1)), axis=0) * scale["c"]
    w, n = w + total, s[0] + 1
    return w, [n], {"total": total, "old": (rows["b"][0] * 2, scale["c"]), "n": n, "w": w[1:], "none": ()}


def test_trees_of_rows_and_results(cupy):
    to = backends.get("cupy")
    function = to.compile(trees, donate=2, hold=1)
    draw = np.random.default_rng(0)
    rows = {"a": draw.random((9, 3)), "b": (draw.random(9),)}
    index, scale = draw.integers(0, 9, (2 * graph.UPDATES + 1, 4)), {"c": np.full(3, 0.5)}
    w, s, found = np.zeros(3), [np.zeros((), dtype=np.int32)], []
    for at in index:
        w, s, out = trees(w, s, scale, mapped(rows, lambda a, at=at: a[at]), xp=np)
        found.append(out)
    expected = w, s, compiled.stack(found, np.stack)
    scale_there = mapped(scale, lambda a: to_device(a)[0])
    for there in (rows, mapped(rows, lambda a: to_device(a)[0])):
        start = to_device(np.zeros(3))[0], list(to_device(np.zeros((), dtype=np.int32)))
        made = function.scan(*start, scale_there, there, index)
        assert [type(each) for each in made] == [fake.ndarray, list, dict]
        assert made[2]["none"] == ()
        assert_same_bits(made, expected)
    start = to_device(np.zeros(3))[0], list(to_device(np.zeros((), dtype=np.int32)))
    made = function(*start, scale_there, mapped(rows, lambda a: to_device(a[index[0]])[0]))
    assert_same_bits(made[2], found[0])
    with pytest.raises(bp.BackpropError, match="equally many rows"):
        function.scan(
            *start, scale_there, {"a": to_device(rows["a"])[0], "b": to_device(rows["b"][0][:4])}, index
        )


def test_a_function_without_results_is_scanned(cupy):
    function = backends.get("cupy").compile(lambda w, x, *, xp: (w + xp.sum(x),), donate=1)
    (x,) = to_device(np.arange(4.0))
    assert function.scan(*to_device(np.zeros(())), x, np.arange(4)[:, None])[0].get() == 6


# ---------------------------------------------------------------- what callers hold
def test_states_in_turn_and_all_that_was_returned_stay_unharmed(cupy):
    """Two runs of one compiled step, by calls and scans; old results are looked at in the end."""
    step, kept, runs, eager = None, [], {}, {}
    for seed in (1, 2):
        runs[seed], eager[seed] = on_device(ADAM, seed=seed), ADAM.init(seed=seed)
        step = step or ADAM.compile(runs[seed][0], watch=WATCH)
    for k in range(4):
        for seed, state in runs.items():
            *runs[seed], loss, seen = step(*state, *to_device(*batch(ADAM, k)))
            *eager[seed], expected, expected_seen = ADAM.step(*eager[seed], *batch(ADAM, k), watch=WATCH)
            kept.append(((loss, seen), mapped((expected, expected_seen), np.copy)))
    for found, expected in kept:
        assert_same_bits(found, expected)
    assert_same_bits(list(runs.values()), list(eager.values()))
    assert step.compilations == 1
    assert [len(each) for each in step.instances.values()] == [2]


def test_parts_of_two_states_overwrite_neither(cupy):
    """The weights of one run with the state of another: what is left of both is still there."""
    step = ADAM.compile(on_device(ADAM)[0])
    data = to_device(*batch(ADAM, 0))
    (w, s, _), (w_other, s_other, _) = (step(*on_device(ADAM, seed=seed), *data) for seed in (1, 2))
    left = [a.get().tobytes() for a in leaves((s, w_other))]
    step(w, s_other, *data)
    assert [a.get().tobytes() for a in leaves((s, w_other))] == left


def test_a_result_that_lies_in_the_state_is_a_copy(cupy):
    def step(w, x, *, xp):
        w += xp.sum(x)
        return w, w[1:]

    function = backends.get("cupy").compile(step, donate=1)
    w, kept = to_device(np.zeros(3))[0], []
    for _ in range(3):
        w, part = function(w, *to_device(np.ones(2)))
        kept.append(part)
    assert [part.get().tolist() for part in kept] == [[2, 2], [4, 4], [6, 6]]
    assert [len(each) for each in function.instances.values()] == [1]
    w, parts = function.scan(w, *to_device(np.ones(4)), np.arange(4).reshape(2, 2))
    assert parts.get().tolist() == [[8, 8], [10, 10]]


@pytest.mark.parametrize("name", ["numpy", "cupy"])
def test_a_result_that_is_the_old_state_is_not_overwritten_by_the_new(name, cupy):
    function = backends.get(name).compile(lambda w, x, *, xp: (w + xp.sum(x), w[1:]), donate=1)
    w, x = (backends.get(name).asarray(a, None, None) for a in (np.zeros(3), np.ones(2)))
    w, old = function(w, x)
    assert (backends.host(w).tolist(), backends.host(old).tolist()) == ([2, 2, 2], [0, 0])


@pytest.mark.parametrize("name", ["numpy", "cupy"])
def test_parts_of_a_vector_that_is_written_later_keep_their_values(name, cupy):
    def function(x, *, xp):
        a, b = xp.matmul(x, x), xp.matmul(x, x + 1)
        whole = xp.concat([xp.reshape(a, (-1,)), xp.reshape(b, (-1,))])
        whole *= 10
        return whole, a

    x = backends.get(name).asarray(np.ones((2, 2)), None, None)
    whole, a = backends.get(name).compile(function)(x)
    assert backends.host(whole).tolist() == [20] * 4 + [40] * 4
    assert backends.host(a).tolist() == [[2, 2], [2, 2]]


def test_held_arguments_are_read_where_they_lie_and_stay_alive(cupy):
    w, s = on_device(ADAM)
    predict, (x,) = ADAM.compile_predict(w), to_device(batch(ADAM, 0)[0])
    w_eager, s_eager = ADAM.init(seed=2)
    predict(w, s, x)
    ((instance,),) = predict.instances.values()
    assert not any(instance.copied)
    assert all(a is b for a, b in zip(instance.held, leaves((w, s)), strict=True))
    w += 1  # in place: no copy needs to be brought up to date
    assert_same_bits(predict(w, s, x), ADAM.predict(w_eager + np.float32(1), s_eager, x.get()))
    memory = weakref.ref(w.data.mem)
    w_eager = w.get()
    del w
    assert memory() is not None, "a graph holds its address"
    for seed in (5, 6):
        other, _ = on_device(ADAM, seed=seed)
        assert_same_bits(predict(other, s, x), ADAM.predict(other.get(), s_eager, x.get()))
        del other
    ((instance,),) = predict.instances.values()
    assert instance.copied == [True] + [False] * (len(instance.held) - 1)
    gc.collect()
    assert memory() is None
    assert predict.compilations == 1


def test_predictions_follow_the_weights_of_a_compiled_step(cupy):
    """The weights of an instance keep their address, so a prediction reads them where they are."""
    w, s = on_device(ADAM)
    w_eager, s_eager = ADAM.init(seed=2)
    step, predict = ADAM.compile(w), ADAM.compile_predict(w)
    w, s, _ = step(w, s, *to_device(*batch(ADAM, 0)))
    w_eager, s_eager, _ = ADAM.step(w_eager, s_eager, *batch(ADAM, 0))
    for k in range(3):
        x, t = batch(ADAM, k)
        assert_same_bits(predict(w, s, *to_device(x)), ADAM.predict(w_eager, s_eager, x))
        w, s, _ = step(w, s, *to_device(x, t))
        w_eager, s_eager, _ = ADAM.step(w_eager, s_eager, x, t)
    ((instance,),) = predict.instances.values()
    assert not any(instance.copied)
    assert captures(predict) == 1
    assert sum(map(len, step.instances.values())) == 1


def test_a_held_argument_beside_a_state_moves_without_harm(cupy):
    """The instance is made anew, with a copy; the state it owned goes on."""

    def step(w, rate, x, *, xp):
        w -= rate * xp.sum(x)
        return w, xp.sum(w)

    function = backends.get("cupy").compile(step, donate=1, hold=1)
    (w,), expected, kept = to_device(np.ones(3)), np.ones(3), []
    for k in range(5):
        rate, x = np.full((), k + 1.0), np.ones(2)
        w, loss = function(w, *to_device(rate, x))
        expected -= rate * 2
        kept.append((loss, expected.sum()))
    assert w.get().tolist() == expected.tolist()
    assert [loss.get() for loss, _ in kept] == [value for _, value in kept]
    assert function.compilations == 1
    assert [len(each) for each in function.instances.values()] == [1]


# ---------------------------------------------------------------- what cannot be captured, what has no memory
REFUSED = {
    "a product by @": lambda a, cp: a @ a,
    "CuPy's own product": lambda a, cp: cp.matmul(a, a),
    "a host read": lambda a, cp: float(a[0, 0]),
    "a copy to the host": lambda a, cp: cp.asnumpy(a),
    "a copy from the host": lambda a, cp: cp.asarray(np.ones(3)),
    "a mask": lambda a, cp: a[a > 0],
    "nine arrays joined": lambda a, cp: cp.concatenate([a] * 9),
    "a synchronization": lambda a, cp: cp.cuda.get_current_stream().synchronize(),
    "a product that was not planned": lambda a, cp: backends.get("cupy").xp.matmul(a, a),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_captured_is_an_error_and_ends_the_capture(name, cupy):
    stream, a = graph.CaptureStream(cupy), cupy.ones((2, 2), dtype=np.float32)
    # as CuPy: NotImplementedError of cuBLAS, RuntimeError of CUDA
    with pytest.raises((RuntimeError, NotImplementedError), match=r"captur|planned"):
        stream.capture(lambda: REFUSED[name](a, cupy))
    assert not stream.cuda_stream.is_capturing()
    captured, made = stream.capture(lambda: a + 1)
    captured.launch(stream.cuda_stream)
    stream.cuda_stream.synchronize()
    assert made.get().tolist() == [[2, 2], [2, 2]]


def test_without_memory_the_weights_stay_and_the_error_says_what_to_reduce(cupy, monkeypatch):
    w, s = on_device(ADAM)
    step, (x, t) = ADAM.compile(w), to_device(*batch(ADAM, 0))
    w, s, _ = step(w, s, x, t)
    w, s, _ = step.scan(w, s, *batch(ADAM, 0), np.zeros((3, 2), dtype=int))
    assert step.double_buffers
    before = w.get().tobytes()
    large = (cupy.zeros((4000, 4), dtype=np.float32), cupy.zeros((4000,), dtype=np.int32))
    monkeypatch.setattr(fake.device, "limit", 20_000)
    with pytest.raises(bp.BackpropError, match=r"no memory left for a step of 4000 rows.*smaller batch"):
        step(w, s, *large)
    assert w.get().tobytes() == before
    assert not any((step.streams, step.instances, step.gathers, step.double_buffers))
    monkeypatch.setattr(cublaslt, "WORKSPACE_BYTES", 1000)
    w, s, loss = step(w, s, x, t)
    assert np.isfinite(loss.get())


@pytest.mark.parametrize("how", ["an array", "a product", "code", "a graph"])
def test_no_memory_for_anything_frees_what_was_compiled(how, cupy, lt, monkeypatch):
    w, s = on_device(ADAM)
    step, data = ADAM.compile(w), to_device(*batch(ADAM, 0))
    w, s, _ = step(w, s, *data)
    errors = {
        "an array": fake.OutOfMemoryError(1, 2), "a product": cublaslt.OutOfMemory("none"),
        "code": fake.CUDADriverError("none", 2), "a graph": fake.CUDARuntimeError("none", 2),
    }  # fmt: skip

    def fails(*_):
        raise errors[how]

    with monkeypatch.context() as broken:
        broken.setattr(graph.GraphInstance, "step", fails)
        with pytest.raises(bp.BackpropError, match="no memory left for a step of 4 rows"):
            step(w, s, *data)
        assert not any((step.streams, step.instances))
        errors[how] = fake.CUDARuntimeError("another", 700)
        with pytest.raises(fake.CUDARuntimeError, match="another"):
            step(w, s, *data)
    step(w, s, *data)


@pytest.mark.parametrize("own", [True, False])
def test_what_a_graph_uses_is_not_given_back_when_memory_runs_out(own, cupy, monkeypatch):
    stream, a = graph.CaptureStream(cupy), cupy.ones((2, 2), dtype=np.float32)
    if not own:
        stream.pool = cupy.cuda.MemoryPool()
    captured, made = stream.capture(lambda: (a + 1) * 2)  # the sum is free for CuPy
    monkeypatch.setattr(fake.device, "limit", 1000)
    with pytest.raises(fake.OutOfMemoryError if own else fake.UnderGraph), stream.as_current():
        cupy.empty((1000,), dtype=np.float32)
    captured.launch(stream.cuda_stream)
    stream.cuda_stream.synchronize()
    assert made.get().tolist() == [[4, 4], [4, 4]]


def test_what_a_graph_no_longer_holds_for_cupy_is_overwritten_on_the_stand_in_too(cupy):
    pool, stream = cupy.cuda.MemoryPool(), cupy.cuda.Stream(non_blocking=True)
    with stream, cupy.cuda.using_allocator(pool.malloc):
        kept = cupy.ones((3,), dtype=np.float32)
        address = kept.data.ptr
        del kept
        assert cupy.zeros((5,), dtype=np.float32).data.ptr == address
    assert cupy.zeros((3,), dtype=np.float32).data.ptr != address, "each pool has its own"


def test_a_function_that_cannot_be_fused_falls_back_silently(cupy):
    a = cupy.ones((2, 2), dtype=np.float32)
    assert cupy.fuse(lambda a: (a + 1) * 2)(a).get().tolist() == [[4, 4], [4, 4]]
    assert fake.device.fallbacks == 0
    assert cupy.fuse(lambda a: cupy.sum(a + 1, axis=0))(a).get().tolist() == [4, 4]
    assert fake.device.fallbacks == 1
    fake.device.fallbacks = 0


def test_a_copy_must_fit_and_the_host_must_leave_it_alone(cupy):
    data, copies, host = (
        cupy.empty((3,), dtype="float32"),
        cupy.cuda.Stream(non_blocking=True),
        np.ones(3, "f4"),
    )
    copies.wait_event(cupy.cuda.get_current_stream().record())
    for wrong in (np.ones(2, "f4"), np.ones(3)):
        with pytest.raises(ValueError, match="is set into"):
            data.set(wrong, stream=copies)
    data.set(host, stream=copies)
    host[0] = 5
    with pytest.raises(fake.Unordered, match="overwritten while"):
        copies.synchronize()


@pytest.mark.parametrize("rows", [[3, 1, 2, 2, 0], [1, 2, 3, 4, 5], [7], []])
def test_rows_are_gathered_by_threads_and_in_one_piece_where_they_follow_one_another(rows, monkeypatch):
    monkeypatch.setattr(staging, "_PIECE", 8)
    monkeypatch.setattr(staging, "_THREADS", 3)
    data, index = np.arange(24.0).reshape(8, 3), np.asarray(rows, dtype=int)
    taken, take = [], np.take
    monkeypatch.setattr(np, "take", lambda *args, **how: taken.append(1) or take(*args, **how))
    staging.gather(data, index, out := np.zeros((len(rows), 3)))
    np.testing.assert_array_equal(out, data[index])
    assert len(taken) == (3 if rows[:1] == [3] else 1 if not rows else 0)


# ---------------------------------------------------------------- precision
@pytest.fixture(autouse=True)
def _dtype_16(request):
    """Tests of bfloat16 need the package that has the type, which comes with JAX."""
    if "bfloat16" in request.node.name:
        pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")


@pytest.mark.parametrize(("precision", "bound"), [("tf32", 2e-3), ("bfloat16", 2e-2), ("float16", 2e-3)])
def test_narrow_products_learn_with_weights_in_float32(precision, bound, cupy, lt):
    net = bp.chain(4, bp.Dense(16, bp.relu), bp.Dense(3))
    learner = bp.Learner(net, bp.softmax_cross_entropy, bp.Adam(0.01))
    narrow = replace(learner, precision=precision)
    w, s = on_device(narrow)
    w_eager, s_eager = learner.init(seed=2)
    step = narrow.compile(w)
    for k in range(5):
        w, s, loss = step(w, s, *to_device(*batch(learner, k)))
        w_eager, s_eager, loss_eager = learner.step(w_eager, s_eager, *batch(learner, k))
    assert w.dtype == np.float32
    assert 0 < abs(loss.get() - loss_eager) / loss_eager < bound
    computes = {what["compute"] for what in lt.objects.values() if "compute" in what}
    assert computes == ({77} if precision == "tf32" else {68})


def test_float16_skips_what_is_not_finite_and_halves_its_scale(cupy):
    learner = bp.Learner(
        bp.chain(4, bp.Dense(3)), bp.half_squared_error, bp.updates.Momentum(0.1), precision="float16"
    )
    w, s = on_device(learner)
    step = learner.compile(w)
    x, t = np.ones((4, 4), dtype="f4"), np.full((4, 3), 1000, dtype="f4")
    start = w.get().tobytes()
    for halved in range(1, 4):
        w, s, loss = step(w, s, *to_device(x, t))
        scale, good = s.scale
        assert np.isfinite(loss.get())
        if w.get().tobytes() != start:
            break
        assert scale.get() == loss_scale.FIRST / 2**halved
        assert (int(s.rule.count.get()), int(s.step.get()), int(good.get())) == (0, halved, 0)
    for _ in range(20):
        w, s, _ = step(w, s, *to_device(x, t))
    assert np.all(np.isfinite(w.get()))
    assert 0 < int(s.rule.count.get()) < int(s.step.get())
    assert int(s.scale[1].get()) > 0


def test_a_scale_that_was_good_for_long_is_doubled(cupy, monkeypatch):
    monkeypatch.setattr(loss_scale, "PATIENCE", 3)
    learner = bp.Learner(bp.chain(4, bp.Dense(3)), precision="float16")
    w, s = on_device(learner)
    step = learner.compile(w)
    for _ in range(3):
        w, s, _ = step(w, s, *to_device(np.ones((4, 4), dtype="f4") / 4096, np.zeros((4, 3), dtype="f4")))
    scale, good = s.scale
    assert (scale.get(), good.get()) == (2 * loss_scale.FIRST, 0)


@pytest.mark.parametrize("name", ["numpy", "exact", "jax", "strict", "torch"])
def test_a_precision_a_backend_does_not_have_is_refused(name):
    try:
        w, _ = ADAM.init(backend=name)
    except bp.errors.BackendUnavailable as reason:
        pytest.skip(str(reason))
    except bp.BackpropError:
        w, _ = bp.Learner(bp.chain(1, bp.layers.Linear(1))).init(backend=name)
    assert replace(ADAM, precision="float32" if name != "exact" else None).compile(w)
    with pytest.raises(bp.BackpropError, match="'int3'"):
        replace(ADAM, precision="int3").compile(w)


def test_precisions_of_cupy_are_named(cupy):
    w, _ = on_device(ADAM)
    with pytest.raises(bp.BackpropError, match="'float32', 'tf32', 'bfloat16', 'float16'"):
        replace(ADAM, precision="int3").compile(w)
    layered = replace(LEARNERS["layer by layer"], precision="float16")
    for refused in (lambda: layered.compile(w), lambda: on_device(layered)):
        with pytest.raises(bp.BackpropError, match="'bfloat16', got 'float16'"):
            refused()


# ---------------------------------------------------------------- cuBLASLt
SHAPES = {
    "plain": lambda a, b: (a, b),
    "left transposed": lambda a, b: (a.T.copy().T, b),
    "right transposed": lambda a, b: (a, b.T.copy().T),
    "both transposed": lambda a, b: (a.T.copy().T, b.T.copy().T),
    "rows of a larger left": lambda a, b: (np.pad(a, ((1, 2), (0, 0)))[1:-2], b),
    "columns of a larger left": lambda a, b: (np.pad(a, ((0, 0), (3, 1)))[:, 3:-1], b),
    "columns of a larger right": lambda a, b: (a, np.pad(b, ((2, 0), (1, 1)))[2:, 1:-1]),
    "columns of a larger transposed": lambda a, b: (np.pad(a.T, ((0, 0), (1, 2)))[:, 1:-2].T, b),
    "one row": lambda a, b: (a[:1], b),
    "one row of a larger": lambda a, b: (a[2:3], b),
    "one column": lambda a, b: (a, b[:, :1]),
    "one column copied": lambda a, b: (a, b[:, :1].copy()),
    "one row and one column": lambda a, b: (a[:1], b[:, :1]),
    "an outer product": lambda a, b: (a[:, :1], b[:1]),
    "an outer product of views": lambda a, b: (a[1:2].T, b[1:2]),
    "one number": lambda a, b: (a[:1, :1], b[:1, :1]),
    "every second row": lambda a, b: (a[::2], b),
    "every second column": lambda a, b: (np.repeat(a, 2, axis=1)[:, ::2], b),
    "every second column of both": lambda a, b: tuple(np.repeat(m, 2, axis=1)[:, ::2] for m in (a, b)),
    "broadcast": lambda a, b: (np.broadcast_to(a[:1], a.shape), b),
    "backwards": lambda a, b: (a[::-1], b),
}


def operands(name, dtype):
    draw = np.random.default_rng(0)
    a, b = (draw.standard_normal(shape).astype(dtype) for shape in ((6, 5), (5, 7)))
    return SHAPES[name](a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SHAPES)
def test_products_from_addresses_equal_numpy(name, dtype, cupy, lt):
    a, b = operands(name, dtype)
    matmul = backends.get("cupy").xp.matmul
    found = matmul(fake.ndarray(a), fake.ndarray(b))
    np.testing.assert_allclose(found.get(), a @ b, rtol=1e-5 if dtype == "float32" else 1e-13)
    assert found.dtype == dtype
    assert (lt.products, lt.heuristics) == (1, 1)
    matmul(fake.ndarray(a), fake.ndarray(b), out=found)
    assert lt.heuristics == 1 + (found.data.ptr % 256 != 0 and lt.heuristics - 1)


@pytest.mark.parametrize(("precision", "bound"), [("tf32", 2**-9), ("bfloat16", 2**-7), ("float16", 2**-10)])
@pytest.mark.parametrize("name", SHAPES)
def test_narrow_products_stay_within_their_bound(name, precision, bound, cupy, lt):
    a, b = operands(name, "float32")
    found = products.Products(cupy, precision)(fake.ndarray(a), fake.ndarray(b)).get()
    exact = a.astype("f8") @ b.astype("f8")
    assert np.max(np.abs(found - exact)) <= bound * np.max(np.abs(a)) * np.max(np.abs(b)) * a.shape[1]


EPILOGUES = {
    "add": lambda product, b, vector: product + vector,
    "add maximum": lambda product, b, vector: np.maximum(product + vector, 0),
    "sum": lambda product, b, vector: product,
}


@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("name", SHAPES)
def test_a_product_and_its_epilogue_are_one_kernel(name, epilogue, cupy, lt):
    a, b = operands(name, "float32")
    vector = np.random.default_rng(1).standard_normal(b.shape[1]).astype("f4")
    out, given = np.zeros((a.shape[0], b.shape[1]), dtype="f4"), vector.copy()
    matmul = backends.get("cupy").xp.matmul
    for _ in range(2):
        assert matmul.matmul_with_epilogue(epilogue, *map(fake.ndarray, (a, b, out, given)))
    np.testing.assert_allclose(out, EPILOGUES[epilogue](a @ b, b, vector), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(given, b.sum(axis=0) if epilogue == "sum" else vector, rtol=1e-5, atol=1e-6)
    assert (lt.products, lt.heuristics) == (2, 1)
    assert lt.epilogues_done == [cublaslt.EPILOGUES[epilogue]] * 2


@pytest.mark.parametrize("gate", [">=", ">"])
@pytest.mark.parametrize("known", [(1,), (1, 256), (1, 4, 6, 256)])
def test_a_step_is_the_same_whatever_epilogues_cublaslt_supports(known, gate, cupy, lt):
    """Here sums are ordered alike, so to the last bit; on a GPU within rounding."""
    relu = bp.activations.ReLU(gate)
    net = bp.chain(4, bp.Dense(8, relu), bp.layers.Linear(4), bp.Dense(4, relu), bp.Dense(3))
    learner = bp.Learner(net, bp.softmax_cross_entropy, bp.Adam(0.01))
    lt.epilogues = known
    w, s = on_device(learner)
    w_eager, s_eager = learner.init(seed=2)
    step = learner.compile(w)
    for k in range(5):
        w, s, _ = step(w, s, *to_device(*batch(learner, k)))
        w_eager, s_eager, _ = learner.step(w_eager, s_eager, *batch(learner, k))
    assert_same_bits((w, s), (w_eager, s_eager))
    asked = {1: 8, 4: 1, 6: 2 * (gate == ">"), 256: 4}
    assert set(lt.epilogues_done) == {each for each in known if asked[each]}
    separate = sum(count for epilogue, count in asked.items() if epilogue not in known)
    assert step.kernels == [(17 if gate == ">=" else 15) + separate]
    ((captured, _),) = next(iter(step.instances.values()))[0].graphs.values()
    assert [len(captured.nodes)] == step.kernels


def test_an_epilogue_planned_but_then_refused_is_a_second_kernel(cupy, lt):
    learner = adam(4, 5, 3, gate=">")
    multiply = lt.cublasLtMatmul
    lt.cublasLtMatmul = lambda handle, product, *rest: (
        15 if lt.objects[product.value][7] == 6 else multiply(handle, product, *rest)
    )
    w, s = on_device(learner)
    step = learner.compile(w)
    w, s, _ = step(w, s, *to_device(*batch(learner, 0)))
    w_eager, s_eager, _ = learner.step(*learner.init(seed=2), *batch(learner, 0))
    assert_same_bits((w, s), (w_eager, s_eager))
    assert set(lt.epilogues_done) == {1, 256}


def test_sums_beside_products_of_16_bits_are_of_unrounded_numbers(cupy, lt):
    learner = replace(adam(4, 8, 3, gate=">"), precision="float16")
    w, s = on_device(learner)
    learner.compile(w)(w, s, *to_device(*batch(learner, 0)))
    assert set(lt.epilogues_done) == {1, 6}


def test_a_gate_open_above_zero_needs_no_net(cupy):
    """Then cuBLASLt computes the ReLU; here NaN becomes 0, as reported of the real one."""
    closed = adam(4, 5, 3, gate=">")
    x = np.asarray([[np.nan, 1, 1, 1], [0, 0, 0, 0], [-1, 2, 0, 1], [1, 1, 1, 1]], dtype="f4")
    w, s = on_device(closed)
    step = closed.compile(w)
    w, s, loss = step(w, s, *to_device(x, np.zeros(4, dtype="i4")))
    (program,) = step.executables.values()
    assert [op.name for op in program.fused.kernels[0].ops] == ["matmul", "add", "maximum"]
    assert len(program.fused.kernels[0].makes) == 1
    assert np.isfinite(loss.get())
    assert not np.all(np.isfinite(w.get())), "the weights show it, and fit looks at them"


def test_operations_that_need_other_rows_are_not_in_a_row_kernel():
    def step(w, s, x, t, *, xp):
        e = x - xp.max(x, axis=-1, keepdims=True)
        total = xp.sum(xp.sum(e, axis=-1))
        return w - xp.sum(x / total, axis=0), (s[0] + 1,), total

    x = np.ones((4, 3), dtype="f4")
    found = fuse(record(step, np.ones(3, dtype="f4"), (np.int32(0),), x, x), 2).kernels
    assert [kernel.kind for kernel in found] == ["rows", "elementwise", "sum", "elementwise"]
    assert [op.name for op in found[0].ops] == ["max", "subtract", "sum", "sum", "add", "assign"]


def test_wide_rows_are_not_in_a_row_kernel():
    kinds = [kernel.kind for kernel in fused(adam(4, 5, 257), 4).kernels]
    assert "rows" not in kinds
    assert {"max", "sum", "mean"} <= set(kinds)


def test_products_are_written_into_a_slice_of_a_vector(cupy):
    whole = cupy.zeros((50,), dtype=np.float32)
    a, b = operands("plain", "float32")
    part = cupy.reshape(whole[3:45], (6, 7))
    backends.get("cupy").xp.matmul(*to_device(a, b), out=part)
    np.testing.assert_array_equal(whole.get()[3:45], (a @ b).ravel())
    assert not whole.get()[:3].any()


def test_a_product_without_an_algorithm_is_an_error_that_names_it(cupy, lt):
    lt.algorithms = 0
    with pytest.raises(bp.BackpropError, match=r"no algorithm for the product \(6, 5\) by \(5, 7\)"):
        backends.get("cupy").xp.matmul(*to_device(*operands("plain", "float32")))


def test_an_error_of_the_library_is_raised(cupy, lt):
    lt.cublasLtMatmulDescCreate = lambda *_: 3
    with pytest.raises(RuntimeError, match="cuBLASLt failed: out of memory"):
        backends.get("cupy").xp.matmul(*to_device(*operands("plain", "float32")))


def unaligned(shape, offset=1, dtype="float32"):
    """An array at so many elements from a multiple of 512 bytes."""
    size = int(np.prod(shape))
    whole = sys.modules["cupy"].empty((size + 16,), dtype=dtype)
    return sys.modules["cupy"].reshape(whole[offset : offset + size], shape)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_result_that_is_not_aligned_is_computed_beside_where_it_must_be(precision, cupy, lt):
    a, b = to_device(*operands("plain", "float32"))
    out, aligned = unaligned((6, 7)), cupy.empty((6, 7), dtype=np.float32)
    matmul = products.Products(cupy, precision)
    for _ in range(2):
        matmul(a, b, out=out)
        matmul(a, b, out=aligned)
    assert out.get().tobytes() == aligned.get().tobytes()
    assert lt.products == 4


@pytest.mark.parametrize("epilogue", EPILOGUES)
def test_a_vector_that_is_not_aligned_takes_no_epilogue(epilogue, cupy, lt):
    a, b, out = to_device(*operands("plain", "float32"), np.zeros((6, 7), "f4"))
    matmul = backends.get("cupy").xp.matmul
    assert not matmul.matmul_with_epilogue(epilogue, a, b, out, unaligned((7,)))
    assert matmul.matmul_with_epilogue(epilogue, a, b, out, unaligned((7,), 4))


@pytest.mark.parametrize(("version", "done"), [(120303, False), (120304, True)])
def test_the_sum_of_one_row_needs_a_version_that_has_it_right(version, done, cupy, lt):
    lt.version = version
    a, b, out = to_device(np.ones((3, 1), "f4"), np.ones((1, 4), "f4"), np.zeros((3, 4), "f4"))
    vector = cupy.empty((4,), dtype=np.float32)
    assert backends.get("cupy").xp.matmul.matmul_with_epilogue("sum", a, b, out, vector) is done


@pytest.mark.parametrize(("status", "level"), [(7, "WARNING"), (15, "INFO")])
def test_an_algorithm_that_is_refused_is_logged_and_the_next_is_taken(status, level, cupy, lt, caplog):
    caplog.set_level("INFO")
    lt.algorithms, lt.fails = 3, {0: status}
    a, b = operands("plain", "float32")
    np.testing.assert_allclose(backends.get("cupy").xp.matmul(*to_device(a, b)).get(), a @ b, rtol=1e-5)
    assert lt.chosen == [1]
    assert [each.levelname for each in caplog.records] == [level]


def test_algorithms_are_timed_where_that_is_asked_for(cupy, lt, monkeypatch):
    monkeypatch.setattr(products, "TIMED", True)
    monkeypatch.setattr(fake.device, "times", iter([3.0, 1.0, 2.0]))
    lt.algorithms, lt.fails = 4, {0: 15}
    a, b = to_device(*operands("plain", "float32"))
    matmul = backends.get("cupy").xp.matmul
    matmul(a, b)
    lt.chosen.clear()
    matmul(a, b)
    assert lt.chosen == [2]


def test_a_factor_is_rounded_once_for_all_its_products(cupy, lt, monkeypatch):
    rounded = []
    operand = products.Products.operand
    monkeypatch.setattr(
        products.Products, "operand",
        lambda self, a: rounded.append(a.dtype) or operand(self, a),
    )  # fmt: skip
    learner = replace(adam(4, 8, 4, 3, gate=">"), precision="float16")
    w, s = on_device(learner)
    step = learner.compile(w)
    step(w, s, *to_device(*batch(learner, 0)))
    (program,) = step.executables.values()
    assert program.roundings == 9, "three inputs, matrices and errors; the 8 products have 16 factors"
    runs = graph.WARM_UPS + 1
    assert rounded.count(np.dtype("float32")) == program.roundings * runs
    ((captured, _),) = next(iter(step.instances.values()))[0].graphs.values()
    assert [len(captured.nodes)] == step.kernels


def test_workspaces_go_with_their_streams_and_handles_with_their_products(cupy, lt):
    w, s = on_device(ADAM)
    step, matmul = ADAM.compile(w), backends.get("cupy").xp.matmul
    step(w, s, *to_device(*batch(ADAM, 0)))
    assert (len(products.OWN_WORKSPACES), matmul.workspaces) == (1, {})
    del step
    gc.collect()
    assert not len(products.OWN_WORKSPACES)
    other = products.Products(cupy)
    other(*to_device(*operands("plain", "float32")))
    del other
    gc.collect()
    assert lt.destroyed == 1


def test_the_heuristic_is_given_the_alignments(cupy, lt):
    raw = np.zeros(1000, dtype=np.float32)
    start = (-raw.ctypes.data % 256) // 4
    a, b = raw[start : start + 64].reshape(8, 8), raw[start + 67 : start + 131].reshape(8, 8)
    backends.get("cupy").xp.matmul(fake.ndarray(a), fake.ndarray(b))
    assert [lt.preference[k] for k in (5, 6)] == [4, 256]  # b comes first
    out, bias = raw[start + 192 : start + 256].reshape(8, 8), raw[start + 260 : start + 268]
    backends.get("cupy").xp.matmul.matmul_with_epilogue("add", *map(fake.ndarray, (a, a, out, bias)))
    assert [lt.preference[k] for k in (7, 8)] == [256, 16]  # the bias counts as the result


def test_other_products_are_cupys_own(cupy, lt):
    matmul = backends.get("cupy").xp.matmul
    found = matmul(*to_device(np.ones((2, 3), dtype=np.int64), np.ones((3, 2), dtype=np.int64)))
    assert found.get().tolist() == [[3, 3], [3, 3]]
    assert lt.products == 0


def test_without_the_library_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    with pytest.raises(bp.errors.BackendUnavailable, match=r"cuBLASLt was not found.*cuda12"):
        cublaslt.loaded()
    assert ctypes.sizeof(ctypes.c_void_p) == 8


# ---------------------------------------------------------------- Torch
@pytest.fixture
def torch(monkeypatch):
    """Torch, as if its tensors here were on a GPU: only that can capture; a replay runs the function."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from backprop_xp.compiler.torch import Detached, Graphed

    monkeypatch.setattr(Graphed, "runs_on", staticmethod(lambda a: True))
    monkeypatch.setattr(Graphed, "_captured", lambda self: (self._run(), self._run)[1])
    monkeypatch.setattr(Detached, "_recorded", lambda self, args: False)
    return torch


def of_torch(learner, *arrays):
    """Tensors of the kinds of these arrays."""
    like = learner.init(backend="torch")[0]
    return [bp.asarray(a, like=like, dtype=str(a.dtype)) for a in arrays]


def same_tensors(found, expected):
    return all(
        a.dtype == b.dtype and bool((a == b).all())
        for a, b in zip(leaves(found), leaves(expected), strict=True)
    )


@pytest.mark.parametrize("name", LEARNERS)
def test_a_graph_of_torch_keeps_its_memory_and_equals_eager_steps(name, torch):
    learner = LEARNERS[name]
    x, t = (np.concatenate(p) for p in zip(*(batch(learner, k) for k in range(3)), strict=True))
    index = torch.as_tensor(np.random.default_rng(0).integers(0, 12, (5, 4)).astype(np.int32))
    w, s = learner.init(seed=2, backend="torch")
    x, t = of_torch(learner, x, t)
    w_eager, s_eager = learner.snapshot(w, s)
    step = learner.compile(w, watch=WATCH)
    kept = []
    for _ in range(2):
        w, s, *found = step.scan(w, s, x, t, index)
        for k, rows in enumerate(index):
            w_eager, s_eager, *expected = learner.step(w_eager, s_eager, x[rows], t[rows], watch=WATCH)
            kept.append((row_of(found, k), mapped(expected, torch.clone)))
    assert same_tensors((w, s), (w_eager, s_eager))
    assert all(same_tensors(*pair) for pair in kept)
    assert len(step.graphs) == step.compilations == 1
    assert step.eager is None


def test_graphs_of_torch_harm_nothing_that_a_caller_holds(torch):
    step, runs, alone, kept = None, {}, {}, []
    x, t, index = of_torch(ADAM, *batch(ADAM, 0), np.asarray([[0, 1], [2, 3]], dtype=np.int32))
    for seed in (1, 2):
        runs[seed], alone[seed] = (ADAM.init(seed=seed, backend="torch") for _ in range(2))
        step = step or ADAM.compile(runs[seed][0])
    for _ in range(3):
        for seed, state in runs.items():
            done = step.scan(*state, x, t, index)
            *runs[seed], _ = done
            kept.append((done, mapped(done, torch.clone)))
            for rows in index:
                *alone[seed], _ = ADAM.step(*alone[seed], x[rows], t[rows])
    assert all(same_tensors(*pair) for pair in kept)
    assert same_tensors(list(runs.values()), list(alone.values()))
    assert step.compilations == 1


def test_graphs_of_torch_predict_and_evaluate_with_what_they_are_given(torch):
    x, t, index = of_torch(ADAM, *batch(ADAM, 0), np.asarray([[0, 1], [2, 3]], dtype=np.int32))
    first, _ = ADAM.init(backend="torch")
    predict, evaluate = ADAM.compile_predict(first), ADAM.compile_evaluate(first)
    for seed in (1, 2):
        w, s = ADAM.init(seed=seed, backend="torch")
        found = predict.scan(w, s, x, index)
        assert torch.equal(found, torch.stack([ADAM.predict(w, s, x[rows]) for rows in index]))
        (losses,) = evaluate.scan(w, s, x, t, index)
        assert torch.equal(losses, torch.stack([ADAM.losses(w, s, x[rows], t[rows]).sum() for rows in index]))
    assert predict.compilations == evaluate.compilations == 1


def test_results_of_torch_that_lie_in_the_state_are_copies(torch):
    def step(w, x, *, xp):
        return w + xp.sum(x), w[1:]

    function = backends.get("torch").compile(step, donate=1)
    rows = torch.arange(4.0)
    w, old = function.scan(torch.zeros(3), rows, torch.arange(4).reshape(2, 2))
    assert (w.tolist(), old.tolist()) == ([6, 6, 6], [[0, 0], [1, 1]])


def test_what_torch_cannot_capture_runs_eagerly_and_says_why(torch, monkeypatch):
    from backprop_xp.compiler.torch import Graphed

    monkeypatch.setattr(Graphed, "_captured", lambda self: torch.zeros(2).reshape(3))  # a RuntimeError
    w, s = ADAM.init(backend="torch")
    x, t = of_torch(ADAM, *batch(ADAM, 0))
    step = ADAM.compile(w)
    with pytest.warns(RuntimeWarning, match="runs eagerly, since Torch could not capture"):
        w, s, losses = step.scan(w, s, x, t, torch.as_tensor([[0, 1], [2, 3]]))
    assert losses.shape == (2,)
    assert "shape '[3]' is invalid" in step.eager
    monkeypatch.setattr(Graphed, "_captured", lambda self: (self._run(), self._run)[1])
    step.scan(w, s, x, t, torch.as_tensor([[0, 1, 2]]))
    assert (len(step.refused), len(step.graphs)) == (1, 1), "another shape is captured"


def test_only_tensors_of_the_cpu_are_said_to_go_through_machine_code():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    step = ADAM.compile(torch.zeros(ADAM.net.layout.size))
    step.code = "machine code"
    assert step.code_for(torch.zeros(1)) == "machine code"
    assert step.code_for(torch.zeros(1, device="meta")) == compiled.Compiled.code


def test_torch_captures_though_other_threads_call_cuda():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from backprop_xp.compiler.torch import Graphed

    asked, stream = [], SimpleNamespace(wait_stream=lambda _: None)
    cuda = SimpleNamespace(
        device=nullcontext, stream=nullcontext, Stream=lambda: stream, current_stream=lambda: stream,
        CUDAGraph=lambda: SimpleNamespace(replay=None),
        graph=lambda _, **how: asked.append(how) or nullcontext(),
    )  # fmt: skip
    parts = (torch.ones(2),), (), (torch.ones(1),)
    Graphed(SimpleNamespace(cuda=cuda), lambda w, x: (w + x.sum(), x), parts, 2)
    assert asked == [{"capture_error_mode": "thread_local"}]


@pytest.mark.parametrize("name", LEARNERS)
def test_on_the_cpu_torch_equals_numpy_bit_for_bit(name):
    """Each function a learner compiles, by the plan of NumPy."""
    pytest.importorskip("torch", reason="torch is not installed")
    learner, found = LEARNERS[name], []
    for backend in ("numpy", "torch"):
        w, s = learner.init(seed=2, backend=backend)
        x, t, first, index = (
            bp.asarray(a, like=w, dtype=str(a.dtype))
            for a in (*batch(learner, 0), np.asarray(0, dtype=np.int32), np.asarray([[0, 1], [3, 2], [1, 1]]))
        )
        w, s, *watched = learner.compile(w, watch=WATCH).scan(w, s, x, t, index)
        found.append([*watched, learner.compile_predict(w)(w, s, x), learner.compile_evaluate(w)(w, s, x, t)])
        found[-1] += [learner.compile_predict(w).scan(w, s, x, index)]
        if learner.order == "together":
            gradient = learner.compile_gradient(w)(w, s, first, x, t)
            found[-1] += [gradient, learner.compile_apply(w)(w, s, gradient)]
    for one, other in zip(*map(leaves, found), strict=True):
        assert str(one.dtype).replace("uint32", "int32") == str(other.dtype).rpartition(".")[2]
        assert one.tobytes() == other.numpy().tobytes()
