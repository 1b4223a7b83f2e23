"""What only a GPU can show: graphs of CuPy and Torch. Without a GPU all tests are skipped; with one none.

The rest of the suite uses a GPU too: CuPy is among the libraries of `conftest`.
"""

import re
from dataclasses import replace

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends
from backprop_xp.compiler.cuda import graph
from backprop_xp.compiler.cuda.products import Products
from backprop_xp.compiler.ir import leaves, mapped

NET = bp.chain(64, bp.Dense(48, bp.relu), bp.Dense(33, bp.tanh), bp.Dense(10))
CLOSED_AT_ZERO = bp.activations.ReLU(">")
CLOSED = bp.chain(
    64, bp.Dense(48, CLOSED_AT_ZERO), bp.layers.Linear(40), bp.Dense(33, CLOSED_AT_ZERO), bp.Dense(10)
)
LEARNERS = {
    "adam": bp.Learner(NET, bp.softmax_cross_entropy, bp.Adam(0.01)),
    "momentum": bp.Learner(NET, bp.half_squared_error, bp.updates.Momentum(0.01)),
    "bounded": bp.Learner(NET, bp.losses.squared_error, bp.GradientDescent(0.01, limit=0.9, floor=0.001)),
    "frozen": bp.Learner(NET.freeze("dense1"), bp.softmax_cross_entropy, bp.Adam(0.01)),
    "gate >": bp.Learner(CLOSED, bp.softmax_cross_entropy, bp.Adam(0.01)),
    "layer by layer": bp.Learner(NET, bp.losses.mean_squared_error, order="layer by layer"),
}
ADAM = LEARNERS["adam"]


@pytest.fixture(scope="module")
def cupy(no_gpu):
    try:
        return backends.get("cupy").cupy
    except bp.errors.BackendUnavailable as reason:
        no_gpu(reason)


@pytest.fixture(scope="module")
def torch(no_gpu):
    try:
        import torch
    except ImportError as reason:
        no_gpu(reason)
    if not torch.cuda.is_available():
        no_gpu("torch finds none")
    return torch


def data(learner, cp, rows=512, dtype="float32"):
    draw = np.random.default_rng(0)
    x = cp.asarray(draw.standard_normal((rows, 64)).astype(dtype))
    if learner.loss.targets == "distribution":
        return x, cp.asarray(draw.integers(0, 10, rows).astype(np.int32))
    return x, cp.asarray(draw.standard_normal((rows, 10)).astype(dtype))


def rows(steps, batch=32, of=512):
    return np.random.default_rng(1).integers(0, of, (steps, batch)).astype(np.int32)


def bits(tree):
    return [np.asarray(a.get()).tobytes() for a in leaves(tree)]


def uncaptured(learner, w, s, x, t, index):
    """The steps of a scan by the same kernels without a graph, as the warm-up runs them."""
    step = learner.compile(w)
    args = w, s, x, t
    instance = step._instance(step._signature(args, index.shape[1]), args)
    losses = []
    with instance.stream.ordered_after_caller(), instance.stream.as_current():
        for each in index:
            for buffer, data in zip(instance.batch, (x, t), strict=True):
                buffer[...] = data[each]
            (loss,) = instance.executable.run([*instance.state, *instance.batch])
            losses.append(loss.copy())
    return instance.state, losses


@pytest.mark.parametrize("name", LEARNERS)
def test_a_hundred_replayed_steps_equal_the_same_kernels_uncaptured(name, cupy):
    learner = LEARNERS[name]
    (x, t), index = data(learner, cupy), cupy.asarray(rows(100))
    w, s = learner.init(seed=2, backend="cupy")
    expected, losses = uncaptured(learner, w, s, x, t, index)
    step, found = learner.compile(w), []
    for k in range(0, 100, 20):
        w, s, part = step.scan(w, s, x, t, index[k : k + 20])
        found.append(part)
        junk = [cupy.full((1 << 20,), float("nan"), dtype=np.float32) for _ in range(100)]
        del junk
    assert bits((w, s)) == bits(tuple(expected))
    assert cupy.concatenate(found).get().tolist() == [float(loss) for loss in losses]


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scans_equal_numpy(name, dtype, cupy):
    learner = LEARNERS[name]
    index = rows(40)
    x, t = data(learner, cupy, dtype=dtype)
    w, s = learner.init(seed=2, backend="cupy", dtype=dtype)
    w, s, losses = learner.compile(w).scan(w, s, x, t, cupy.asarray(index))
    w_host, s_host = learner.init(seed=2, dtype=dtype)
    w_host, _, losses_host = learner.compile(w_host).scan(w_host, s_host, x.get(), t.get(), index)
    close = 1e-3 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(losses.get(), losses_host, rtol=close)
    if name != "bounded":  # a floor turns rounding into another sign
        assert np.linalg.norm(w.get() - w_host) <= close * np.linalg.norm(w_host)


def test_a_scan_is_its_steps(cupy):
    (x, t), index = data(ADAM, cupy), rows(graph.UPDATES + 3)
    found, singly = (ADAM.init(seed=2, backend="cupy") for _ in range(2))
    step = ADAM.compile(found[0])
    w, s, losses = step.scan(*found, x, t, cupy.asarray(index))
    w_one, s_one = singly
    for k, each in enumerate(index):
        at = cupy.asarray(each)
        w_one, s_one, loss = step(w_one, s_one, x[at], t[at])
        assert float(loss) == float(losses[k])
    assert bits((w, s)) == bits((w_one, s_one))


def test_data_on_the_host_are_streamed_to_the_same_result(cupy):
    (x, t), index = data(ADAM, cupy), rows(5 * graph.UPDATES + 1)
    w, s = ADAM.init(seed=2, backend="cupy")
    expected = ADAM.compile(w).scan(w, s, x, t, cupy.asarray(index))
    w, s = ADAM.init(seed=2, backend="cupy")
    found = ADAM.compile(w).scan(w, s, x.get(), t.get(), index)
    assert bits(found) == bits(expected)


def test_training_on_rows_of_the_host_is_training_on_rows_of_the_device(cupy):
    x, t = data(ADAM, cupy)
    w, s = ADAM.init(seed=2, backend="cupy")
    on_device, streamed = (
        bp.fit(ADAM, w, s, bp.data.Stored(*rows), epochs=2, batch_size=30)
        for rows in ((x, t), (x.get(), t.get()))
    )
    assert bits(on_device[:2]) == bits(streamed[:2])


def test_bytes_become_numbers_in_the_graph(cupy):
    (_, t), index = data(ADAM, cupy), rows(40)
    x = np.random.default_rng(2).integers(0, 256, (512, 64), dtype=np.uint8)
    found = []
    for given in (cupy.asarray(x.astype("f4") / 255), cupy.asarray(x)):
        w, s = ADAM.init(seed=2, backend="cupy")
        found.append(ADAM.compile(w).scan(w, s, given, t, cupy.asarray(index)))
    w, s = ADAM.init(seed=2, backend="cupy")
    assert bits(ADAM.compile(w).scan(w, s, x, t.get(), index)) == bits(found[1])
    np.testing.assert_allclose(found[0][2].get(), found[1][2].get(), rtol=1e-4)


WATCH = ("*.o", "*.net", "*.delta", "*.grad", "*.w_before", "*.change")


def close(found, expected, bound=1e-3):
    """Trees of arrays of the device and of the host, equal within rounding."""
    for a, b in zip((a.get() for a in leaves(found)), leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (np.shape(b), b.dtype)
        assert np.linalg.norm(a.astype("f8") - b) <= bound * max(np.linalg.norm(b), 1e-3)


@pytest.mark.parametrize("name", ["adam", "momentum", "frozen", "gate >"])
def test_watched_scans_halves_and_predictions_equal_numpy(name, cupy):
    learner = LEARNERS[name]
    index, (x, t) = rows(graph.UPDATES + 3), data(learner, cupy)
    found = []
    for xp, each in ((cupy, (x, t)), (np, (x.get(), t.get()))):
        w, s = learner.init(seed=2, backend="cupy" if xp is cupy else "numpy")
        *_, losses, seen = learner.compile(w, watch=WATCH).scan(
            *learner.snapshot(w, s), *each, xp.asarray(index)
        )
        found.append([losses, mapped(seen, lambda a: a[0]), mapped(seen, lambda a: a[-1])])
        predict, evaluate = learner.compile_predict(w), learner.compile_evaluate(w)
        gradient, apply = learner.compile_gradient(w), learner.compile_apply(w)
        for k in range(3):
            found[-1] += [predict(w, s, each[0]), evaluate(w, s, *each)]
            half = gradient(w, s, xp.asarray(k), *each)
            w, s, loss = apply(w, s, half)
            found[-1] += [half, loss, w]
        found[-1] += [predict.scan(w, s, each[0], xp.asarray(index))]
        assert predict.compilations == 2
        found[-1] = mapped(found[-1], lambda a, xp=xp: xp.asarray(a, copy=True))
    close(*found)


def test_results_stay_when_states_run_in_turn_among_other_allocations(cupy):
    (x, t), index = data(ADAM, cupy), cupy.asarray(rows(40))
    step, runs, kept = None, {}, []
    for seed in (1, 2):
        runs[seed] = ADAM.init(seed=seed, backend="cupy")
        step = step or ADAM.compile(runs[seed][0], watch="dense2.*")
    for _ in range(5):
        for seed, state in runs.items():
            *runs[seed], losses, seen = step.scan(*state, x, t, index)
            kept.append(((losses, seen), bits((losses, seen))))
            junk = [cupy.full((1 << 20,), float("nan"), dtype=np.float32) for _ in range(20)]
            del junk
    assert all(bits(found) == old for found, old in kept)
    assert step.compilations == 1


def test_held_weights_stay_alive_and_others_are_copied(cupy):
    (x, _), predict = data(ADAM, cupy), None
    for seed in (1, 2, 3):
        w, s = ADAM.init(seed=seed, backend="cupy")
        predict = predict or ADAM.compile_predict(w)
        expected = ADAM.predict(w, s, x).get()
        found = predict(w, s, x)
        del w, s
        junk = [cupy.full((1 << 12,), float("nan"), dtype=np.float32) for _ in range(100)]
        del junk
        np.testing.assert_allclose(found.get(), expected, rtol=1e-3, atol=1e-6)
    assert predict.compilations == 1


def test_cupy_still_refuses_its_own_product_under_capture(cupy):
    a = cupy.ones((4, 4), dtype=np.float32)
    with pytest.raises(NotImplementedError):  # if this fails, cublaslt.py is no longer needed
        graph.CaptureStream(cupy).capture(lambda: cupy.matmul(a, a))


def test_a_graph_has_about_a_node_for_each_kernel(cupy, capsys):
    w, s = ADAM.init(backend="cupy")
    step = ADAM.compile(w)
    step(w, s, *data(ADAM, cupy, 32))
    ((graph, _),) = next(iter(step.instances.values()))[0].graphs.values()
    nodes = len(set(re.findall(r"graph_\d+_node_\d+", graph.debug_dot_str())))
    with capsys.disabled():
        print(f"\n{nodes} nodes in a graph of {step.kernels[0]} kernels")
    assert 0 < nodes <= 2 * step.kernels[0]  # a sum, or a product split in parts, takes two


SHAPES = {
    "plain": lambda a, b: (a, b),
    "left transposed": lambda a, b: (a.T.copy().T, b),
    "right transposed": lambda a, b: (a, b.T.copy().T),
    "both transposed": lambda a, b: (a.T.copy().T, b.T.copy().T),
    "a part of a larger matrix": lambda a, b: (np.pad(a, 3)[3:-3, 3:-3], b),
    "one row": lambda a, b: (a[:1], b),
    "one column": lambda a, b: (a, b[:, :1]),
    "an outer product": lambda a, b: (a[:, :1], b[:1]),
    "one number": lambda a, b: (a[:1, :1], b[:1, :1]),
    "every second column": lambda a, b: (np.repeat(a, 2, axis=1)[:, ::2], b),
}
BOUNDS = {"float32": 2**-22, "tf32": 2**-9, "bfloat16": 2**-7, "float16": 2**-10}


@pytest.mark.parametrize("sizes", [(6, 5, 7), (128, 784, 512), (128, 256, 10), (33, 65, 129)], ids=str)
@pytest.mark.parametrize("precision", [*BOUNDS, "float64"])
@pytest.mark.parametrize("name", SHAPES)
def test_products_equal_those_of_float64(name, precision, sizes, cupy):
    m, k, n = sizes
    draw = np.random.default_rng(0)
    dtype = "float64" if precision == "float64" else "float32"
    a, b = SHAPES[name](
        draw.standard_normal((m, k)).astype(dtype), draw.standard_normal((k, n)).astype(dtype)
    )

    def on_device(view):
        """The same memory on the device, seen the same way."""
        whole = view if view.base is None else view.base
        start = (view.ctypes.data - whole.ctypes.data) // view.itemsize
        flat = cupy.asarray(np.ravel(whole, order="K"))
        return cupy.ndarray(
            view.shape, view.dtype, memptr=flat.data + start * view.itemsize, strides=view.strides
        )

    multiply = Products(cupy, precision if precision in BOUNDS else "float32")
    found, exact = multiply(on_device(a), on_device(b)).get(), a.astype("f8") @ b.astype("f8")
    size = np.abs(a).astype("f8") @ np.abs(b).astype("f8")
    assert np.all(np.abs(found - exact) <= BOUNDS.get(precision, 2**-48) * np.maximum(size, 1e-30) * 2)


@pytest.mark.parametrize("precision", [*BOUNDS, "float64"])
@pytest.mark.parametrize("epilogue", ["add", "add maximum", "sum"])
def test_products_with_an_epilogue_equal_those_of_float64(epilogue, precision, cupy, capsys):
    dtype = "float64" if precision == "float64" else "float32"
    multiply = Products(cupy, precision if precision in BOUNDS else "float32")
    draw, known = np.random.default_rng(0), []
    for m, k, n in (
        (6, 5, 7),
        (128, 784, 512),
        (784, 128, 512),
        (128, 256, 10),
        (64, 256, 64),
        (33, 65, 129),
    ):
        a, b = (draw.standard_normal(shape).astype(dtype) for shape in ((k, m), (k, n)))
        whole = cupy.asarray(draw.standard_normal(n + 4).astype(dtype))
        vector, out = whole[4:], cupy.zeros((m, n), dtype=dtype)  # to 16 bytes, as in a flat vector
        before = vector.get().astype("f8")
        if not multiply.matmul_with_epilogue(epilogue, cupy.asarray(a).T, cupy.asarray(b), out, vector):
            continue
        known.append((m, k, n))
        exact, size = a.T.astype("f8") @ b, np.abs(a.T).astype("f8") @ np.abs(b)
        bound = 2 * BOUNDS.get(precision, 2**-48)
        if epilogue == "sum":
            assert np.all(np.abs(vector.get() - b.sum(axis=0, dtype="f8")) <= bound * np.abs(b).sum(axis=0))
        else:
            exact = exact + before
            size = size + np.abs(before)
        exact = np.maximum(exact, 0) if epilogue == "add maximum" else exact
        assert np.all(np.abs(out.get() - exact) <= bound * size)
    with capsys.disabled():
        print(f"\n{epilogue}, {precision}: cuBLASLt has an algorithm for {known or 'none'}")


def test_what_the_relu_of_cublaslt_makes_of_nan_and_zero(cupy, capsys):
    a, b = (
        cupy.asarray(np.asarray([[np.nan], [0], [-1], [1]], dtype="f4")),
        cupy.ones((1, 8), dtype=np.float32),
    )
    out, bias = cupy.zeros((4, 8), dtype=np.float32), cupy.zeros((8,), dtype=np.float32)
    if not Products(cupy).matmul_with_epilogue("add maximum", a, b, out, bias):
        pytest.skip("cuBLASLt has no algorithm for bias and ReLU here")
    found = out.get()[:, 0].tolist()
    with capsys.disabled():
        print(f"\nReLU of NaN, 0, -1, 1 by cuBLASLt: {found}")
    assert found[1:] == [0, 0, 1]


@pytest.mark.parametrize("gate", [">=", ">"])
def test_a_step_is_the_same_within_rounding_without_epilogues(gate, cupy, monkeypatch, capsys):
    relu = bp.activations.ReLU(gate)
    net = bp.chain(64, bp.Dense(48, relu), bp.Dense(33, relu), bp.Dense(10))
    learner = bp.Learner(net, bp.softmax_cross_entropy, bp.Adam(0.01))
    (x, t), index = data(learner, cupy), cupy.asarray(rows(40))
    ends, kernels = [], []
    for matmul_with_epilogue in (Products.matmul_with_epilogue, lambda *_: False):
        monkeypatch.setattr(Products, "matmul_with_epilogue", matmul_with_epilogue)
        w, s = learner.init(seed=2, backend="cupy")
        step = learner.compile(w)
        w, s, losses = step.scan(w, s, x, t, index)
        ends.append((w.get(), losses.get()))
        kernels.append(step.kernels[0])
    with capsys.disabled():
        print(f"\ngate {gate}: {kernels[0]} kernels a step, {kernels[1]} without epilogues")
    np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-3)
    assert np.linalg.norm(ends[0][0] - ends[1][0]) <= 1e-3 * np.linalg.norm(ends[1][0])


@pytest.mark.parametrize(("units", "batch"), [(10, 1), (10, 300), (3, 64), (200, 64)])
def test_a_row_kernel_equals_its_operations(units, batch, cupy):
    learner = bp.Learner(bp.chain(64, bp.Dense(units)), bp.softmax_cross_entropy, bp.Adam(0.01))
    draw = np.random.default_rng(0)
    x, t = draw.standard_normal((batch, 64)).astype("f4"), draw.integers(0, units, batch).astype("i4")
    w, s = learner.init(seed=2, backend="cupy")
    step = learner.compile(w)
    w_host, s_host = learner.init(seed=2)
    for _ in range(3):
        w, s, loss = step(w, s, cupy.asarray(x), cupy.asarray(t))
        w_host, s_host, loss_host = learner.step(w_host, s_host, x, t)
        np.testing.assert_allclose(float(loss), loss_host, rtol=1e-4)
    assert int(s.rule.count) == 3
    assert np.linalg.norm(w.get() - w_host) <= 1e-3 * np.linalg.norm(w_host)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_narrow_products_learn(precision, cupy):
    (x, t), index = data(ADAM, cupy), cupy.asarray(rows(200))
    ends = {}
    for name in ("float32", precision):
        learner = replace(ADAM, precision=name)
        w, s = learner.init(seed=2, backend="cupy")
        w, s, losses = learner.compile(w).scan(w, s, x, t, index)
        ends[name] = float(losses[-50:].mean())
        assert np.all(np.isfinite(w.get()))
    assert ends[precision] <= ends["float32"] * 1.1 + 0.01


def test_without_memory_the_process_goes_on(cupy):
    w, s = ADAM.init(backend="cupy")
    step = ADAM.compile(w)
    x, t = data(ADAM, cupy, 32)
    w, s, _ = step(w, s, x, t)
    before = bits((w, s))
    pool = cupy.get_default_memory_pool()
    many = 1 << 20
    large = cupy.zeros((many, 64), dtype=np.float32), cupy.zeros((many,), dtype=np.int32)
    pool.set_limit(size=pool.total_bytes() + (1 << 20))
    try:
        with pytest.raises(bp.BackpropError, match="smaller batch"):
            step(w, s, *large)
    finally:
        pool.set_limit(size=0)
    assert bits((w, s)) == before
    w, s, loss = step(w, s, x, t)
    assert np.isfinite(float(loss))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_graph_of_torch_equals_its_eager_steps(name, torch):
    learner = LEARNERS[name]
    x, t = (a.cuda() for a in data(learner, torch))
    index = torch.as_tensor(rows(100)).cuda()
    w, s = learner.init(seed=2, backend="torch", device="cuda")
    w_eager, s_eager = learner.snapshot(w, s)
    step = learner.compile(w)
    w, s, losses = step.scan(w, s, x, t, index)
    assert step.eager is None
    assert len(step.graphs) == 1
    for k, each in enumerate(index):
        w_eager, s_eager, loss = learner.step(w_eager, s_eager, x[each], t[each])
        torch.testing.assert_close(losses[k], loss, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(w, w_eager, rtol=1e-3, atol=1e-5)


def test_jax_on_a_gpu_scans_there():
    jax = pytest.importorskip("jax", reason="no JAX for a GPU")  # which no extra of ours installs
    if jax.default_backend() != "gpu":
        pytest.skip("no JAX for a GPU")
    w, s = ADAM.init(backend="jax")
    x, t = data(ADAM, jax.numpy)
    w, s, losses = ADAM.compile(w).scan(w, s, x, t, jax.numpy.asarray(rows(10)))
    assert "gpu" in str(w.device).lower() or "cuda" in str(w.device).lower()
    assert np.all(np.isfinite(np.asarray(losses)))
