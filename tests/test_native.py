"""Machine code: operations as NumPy has them, functions to two units in the last place, steps and runs."""

import signal

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="machine code needs llvmlite, of the extra fast")

import backprop_xp as bp
from backprop_xp import activations, layers, losses, updates
from backprop_xp.backends import get
from backprop_xp.compiler.cpu.compiled import Planned
from backprop_xp.compiler.ir import abstract, leaves
from backprop_xp.compiler.native import bound, machine, unrolled
from backprop_xp.compiler.native.function import Target
from backprop_xp.compiler.native.module import Module
from backprop_xp.compiler.recorder import record

KINDS = ("float32", "float64")
HOST = machine.host()
ONLY = {  # what machine code must not rely on
    "SSE4.2": machine.target(HOST.triple, "x86-64", "+sse4.2"),
    "AVX2": machine.target(HOST.triple, "haswell", "+sse4.2,+avx,+avx2,+fma"),
}
ON_X86 = pytest.mark.skipif("x86" not in HOST.triple, reason="code for x86 runs on x86 alone")


@pytest.fixture(autouse=True)
def native(monkeypatch):
    monkeypatch.setenv("BACKPROP_XP_NATIVE", "1")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def compiled(function, *, donate=0, hold=0, native=True):
    return Planned(get("numpy"), function, donate=donate, hold=hold, native=native)


def is_native(step):
    assert step.plans
    assert not step.not_native, step.not_native
    return True


def ulps(found, exact):
    """The distance in units in the last place of the type that was found."""
    near = exact.astype(found.dtype)
    unit = np.maximum(np.spacing(np.abs(near)), np.finfo(found.dtype).smallest_subnormal)
    with np.errstate(invalid="ignore"):
        distance = np.abs(found.astype(exact.dtype) - exact) / unit
    same = (found == near) | (np.isnan(found) & np.isnan(near))
    return np.where(same, 0, np.where(np.isnan(distance), np.inf, distance)).astype(float)


# ---------------------------------------------------------------- operations
def special(kind):
    info = np.finfo(kind)
    one = [
        0.0,
        0.5,
        1.0,
        1.5,
        2.5,
        3.0,
        1e-3,
        88.0,
        1e10,
        info.tiny,
        info.smallest_subnormal,
        info.max,
        np.inf,
    ]
    return np.asarray([*one, *(-v for v in one), np.nan], dtype=kind)


UNARY = (
    "negative",
    "positive",
    "abs",
    "square",
    "sqrt",
    "floor",
    "ceil",
    "trunc",
    "isfinite",
    "isnan",
    "isinf",
    "signbit",
    "logical_not",
)
BINARY = (
    "add",
    "subtract",
    "multiply",
    "divide",
    "remainder",
    "floor_divide",
    "maximum",
    "minimum",
    "copysign",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
)
INTEGER = (
    "add",
    "subtract",
    "multiply",
    "remainder",
    "floor_divide",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_left_shift",
    "bitwise_right_shift",
    "maximum",
    "minimum",
    "equal",
    "less",
    "greater",
)


@pytest.mark.parametrize("kind", KINDS)
def test_operations_on_special_values_are_numpys(kind):
    a = special(kind)
    a, b = np.repeat(a, len(a)), np.tile(a, len(a))

    def all_of_them(a, b, *, xp):
        found = [getattr(xp, name)(a) for name in UNARY] + [getattr(xp, name)(a, b) for name in BINARY]
        return *found, xp.where(a > b, a, b), xp.astype(a > 0, xp.float32), xp.round(a)

    step = compiled(all_of_them)
    found = step(a, b)
    assert is_native(step)
    with np.errstate(all="ignore"):
        want = all_of_them(a, b, xp=np)
    names = (*UNARY, *BINARY, "where", "astype", "round")
    for name, mine, numpys in zip(names, found, want, strict=True):
        assert mine.dtype == numpys.dtype, name
        np.testing.assert_array_equal(mine, numpys, err_msg=name)


@pytest.mark.parametrize("kind", ["int32", "uint32", "int64", "uint8"])
def test_operations_on_integers_are_numpys(kind):
    ends = np.iinfo(kind)
    a = np.asarray([0, 1, 2, 3, 7, 31, 33, 100, ends.max, ends.max - 1, ends.min, ends.min + 1], dtype=kind)
    a, b = np.repeat(a, len(a)), np.tile(a, len(a))
    amount = np.asarray(b % (8 * b.dtype.itemsize), dtype=kind)

    def all_of_them(a, b, amount, *, xp):
        found = [getattr(xp, name)(a, amount if "shift" in name else b) for name in INTEGER]
        return (
            *found,
            xp.bitwise_invert(a),
            xp.astype(a, xp.float64),
            xp.astype(a, xp.uint8),
            a << 3,
            (a >> 2) & 5,
        )

    step = compiled(all_of_them)
    found = step(a, b, amount)
    assert is_native(step)
    with np.errstate(all="ignore"):
        want = all_of_them(a, b, amount, xp=np)
    for k, (mine, numpys) in enumerate(zip(found, want, strict=True)):
        assert mine.dtype == numpys.dtype
        np.testing.assert_array_equal(
            mine, numpys, err_msg=(*INTEGER, "invert", "float", "byte", "<<", "&")[k]
        )


SHAPES = {  # what a reduction is of, and over which axes
    "all of a vector": ((1000,), None),
    "a long vector": ((20_000,), None),
    "one number": ((1,), None),
    "rows": ((5, 300), -1),
    "columns": ((300, 5), 0),
    "columns, kept": ((7, 33), 0),
    "two of three": ((3, 17, 5), (0, 2)),
    "the middle": ((3, 17, 5), 1),
    "all of a matrix": ((33, 17), None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_in_place_by_a_product_is_rounded_once_and_no_other_sum_is(kind):
    last = 2.0 ** -(np.finfo(kind).nmant // 2 + 1)
    a, c = np.full(5, 1 + last, dtype=kind), np.ones(5, dtype=kind)  # a² = 1 + 2 last + last² is rounded

    def changed(w, v, a, *, xp):
        w -= a * a
        v += a * a
        return w, v

    def sums(a, c, *, xp):
        mean = xp.mean(a)
        return a * a - c, a * a - a * a, a * c - c * a, xp.sqrt(xp.mean(a * a) - mean * mean)

    step = compiled(changed, donate=2)
    less, more = step(c.copy(), c.copy(), a)
    assert is_native(step)
    np.testing.assert_array_equal(less, -2 * last - (last**2 if machine.host().fused else 0))
    np.testing.assert_array_equal(more, a * a + c)
    step = compiled(sums)
    for mine, numpys in zip(step(a, c), sums(a, c, xp=np), strict=True):
        np.testing.assert_array_equal(mine, numpys)
    assert is_native(step)


@pytest.mark.parametrize("kind", KINDS)
def test_reductions_are_numpys_but_for_the_order_of_a_sum(kind, rng):
    given = [rng.normal(size=shape).astype(kind) for shape, _ in SHAPES.values()]
    axes = [axis for _, axis in SHAPES.values()]

    def reduced(*given, xp):
        return tuple(
            getattr(xp, name)(a, axis=axis, keepdims=keep)
            for a, axis in zip(given, axes, strict=True)
            for name, keep in (("sum", False), ("mean", True), ("max", False), ("min", True))
        )

    step = compiled(reduced)
    found, want = step(*given), reduced(*given, xp=np)
    assert is_native(step)
    near = {"rtol": 1e-5, "atol": 1e-3} if kind == "float32" else {"rtol": 1e-13, "atol": 1e-11}
    for mine, numpys in zip(found, want, strict=True):
        assert mine.shape == numpys.shape
        np.testing.assert_allclose(mine, numpys, **near)


def test_what_moves_elements_is_numpys(rng):
    a, b = rng.normal(size=(4, 6)).astype("float32"), rng.normal(size=(4, 3)).astype("float32")
    index = np.asarray([[3, 0], [1, 1]], dtype="int32")

    def moved(a, b, index, *, xp):
        return (
            xp.concat([a, b], axis=1),
            xp.concat([xp.reshape(a, (-1,)), xp.reshape(b, (-1,))]),
            xp.stack([a, a * 2], axis=1),
            xp.take(a, index[0], axis=0),
            xp.take(a, index[1], axis=1),
            xp.cumulative_sum(a, axis=1),
            xp.flip(a, axis=0) + a,
            xp.matrix_transpose(a) * 2,
            a[1:, ::2] * a[:-1, 1::2],
            xp.argmax(a, axis=1),
            xp.argmin(a, axis=0),
            xp.reshape(xp.matrix_transpose(a), (-1,)),
            xp.any(a > 2),
            xp.all(a > -9, axis=0),
            xp.prod(b, axis=1),
            xp.sum(a > 0, axis=0),
        )

    step = compiled(moved)
    found, want = step(a, b, index), moved(a, b, index, xp=np)
    assert is_native(step)
    for k, (mine, numpys) in enumerate(zip(found, want, strict=True)):
        assert mine.dtype == numpys.dtype
        np.testing.assert_allclose(mine, numpys, rtol=1e-6, err_msg=str(k))


# ---------------------------------------------------------------- functions
FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh")


def in_machine_code(kind, only=None, monkeypatch=None):
    def functions(x, *, xp):
        return tuple(getattr(xp, name)(x) for name in FUNCTIONS)

    if only is not None:
        monkeypatch.setattr(machine, "host", lambda: only)
    step = compiled(functions)
    return lambda x: step(x) if is_native_after(step, x) else None


def is_native_after(step, x):
    step(x)
    return is_native(step)


def samples(kind, n, seed=0):
    """Numbers of all sizes, and many of those at which the functions bend."""
    rng = np.random.default_rng(seed)
    whole = np.dtype(f"uint{8 * np.dtype(kind).itemsize}")
    bits = rng.integers(0, np.iinfo(whole).max, n, dtype=whole).view(kind)
    near = [rng.normal(size=n) * scale for scale in (1e-6, 0.1, 1, 10, 400)]
    around = 1 + rng.normal(size=n) * 0.05
    return np.concatenate([special(kind), bits, around.astype(kind), *(a.astype(kind) for a in near)])


WIDE = pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="no longer type to compare float64 with")


@pytest.mark.parametrize("kind", ["float32", pytest.param("float64", marks=WIDE)])
def test_functions_differ_by_two_units_in_the_last_place_at_most(kind):
    x = samples(kind, 30_000)
    with np.errstate(all="ignore"):
        exact = x.astype("float64" if kind == "float32" else np.longdouble)
        for name, found in zip(FUNCTIONS, in_machine_code(kind)(x), strict=True):
            worst = ulps(found, getattr(np, name)(exact))
            assert worst.max() <= (1 if kind == "float32" else 2), (name, x[np.argmax(worst)], worst.max())
            zero = np.asarray([0.0, -0.0], dtype=kind)
            if name not in ("exp", "log"):
                assert (
                    np.signbit(found[np.isin(x, zero)]).tolist() == np.signbit(x[np.isin(x, zero)]).tolist()
                )


# ---------------------------------------------------------------- products
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_product_has_the_same_bits_in_any_batch(kind, rng):
    learner = bp.Learner(bp.chain(37, bp.Dense(65, bp.tanh), bp.Dense(10)), bp.softmax_cross_entropy)
    w, s = learner.init(dtype=kind)
    x = rng.normal(size=(70, 37)).astype(kind)
    predict = learner.compile_predict(w)
    whole = predict(w, s, x)
    for batch in (1, 3, 16, 33):
        assert predict(w, s, x[:batch]).tobytes() == whole[:batch].tobytes()
    assert is_native(predict)
    np.testing.assert_allclose(whole, learner.predict(w, s, x), rtol=1e-4 if kind == "float32" else 1e-12)


PRODUCTS = ((1, 1, 1), (1, 70, 33), (5, 3, 2), (17, 65, 9), (64, 10, 32), (7, 130, 16), (33, 7, 40))


@pytest.mark.parametrize("kind", KINDS)
def test_products_of_all_forms_are_exact_to_rounding(kind, rng):
    pairs = [(rng.normal(size=(m, k)), rng.normal(size=(k, n))) for m, n, k in PRODUCTS]
    given = [a.astype(kind) for pair in pairs for a in (*pair, pair[0].T.copy(), pair[1].T.copy())]

    def products(*given, xp):
        each = zip(*(given[k::4] for k in range(4)), strict=True)
        pairs = (((a, xp.matrix_transpose(c)), (b, xp.matrix_transpose(d))) for a, b, c, d in each)
        return tuple(xp.matmul(left, right) for lefts, rights in pairs for left in lefts for right in rights)

    step = compiled(products)
    found = step(*given)
    assert is_native(step)
    for k, mine in enumerate(found):
        a, b = (given[k // 4 * 4 + q].astype("float64") for q in (0, 1))
        bound = np.abs(a) @ np.abs(b) * np.finfo(kind).eps * a.shape[1]
        assert (np.abs(mine - a @ b) <= bound).all(), PRODUCTS[k // 4]


def test_a_large_product_is_numpys_blas(rng):
    if not machine.gemm():
        pytest.skip("NumPy's BLAS is not one whose products can be called by address")
    a, b = rng.normal(size=(200, 300)).astype("float32"), rng.normal(size=(300, 100)).astype("float32")
    step = compiled(
        lambda a, b, *, xp: (xp.matmul(a, b), xp.matmul(xp.matrix_transpose(b), xp.matrix_transpose(a)))
    )
    found = step(a, b)
    assert is_native(step)
    np.testing.assert_allclose(found[0], a @ b, rtol=1e-4, atol=1e-3)
    assert found[1].T.shape == found[0].shape
    np.testing.assert_allclose(found[1].T, found[0], rtol=1e-4, atol=1e-3)


# ---------------------------------------------------------------- whole steps
def listed():
    """Learners that together have every activation, layer, loss and rule."""
    ends = {
        "binary_cross_entropy": bp.sigmoid,
        "poisson": activations.softplus,
        "negative_log_likelihood": activations.log_softmax,
        "categorical_cross_entropy": activations.softmax,
    }
    acts, rules, bounds = (
        list(activations.ALL.items()),
        list(updates.ALL.items()),
        (None, bp.updates.ClipByNorm(0.5), bp.updates.ClipByValue(0.1)),
    )
    between = (layers.BatchNorm(), layers.LayerNorm(), layers.Dropout(0.3), layers.PReLU(), None)
    for k in range(max(len(acts), len(losses.ALL), len(rules))):
        (act, f), (rule, update), (name, loss) = (
            acts[k % len(acts)],
            rules[k % len(rules)],
            list(losses.ALL.items())[k % len(losses.ALL)],
        )
        extra = [between[k % 5]] if between[k % 5] else []
        last = bp.Dense(3, ends[name]) if name in ends else bp.Dense(3)
        net = bp.chain(6, bp.Dense(9, f), *extra, bp.Dense(5), last)
        yield pytest.param(bp.Learner(net, loss, update(), clip=bounds[k % 3]), id=f"{act}-{rule}-{name}")


@pytest.mark.parametrize("learner", list(listed()))
def test_steps_of_every_unit_are_close_to_float64(learner, batch):
    x, t = batch(learner, 11, 0)
    w64, s64 = learner.init(dtype="float64")
    exact = learner.compile(w64, native=False).scan(w64, s64, x, t, INDEX)
    errors = []
    for native in (True, False):
        w, s = learner.init(dtype="float32")
        step = learner.compile(w, native=native)
        own = [a.astype("float32") if a.dtype.kind == "f" else a for a in (x, t)]
        found = step.scan(w, s, *own, INDEX)
        assert not native or is_native(step)
        errors.append(
            max(np.abs(a - b).max() for a, b in zip((found[0], found[2]), (exact[0], exact[2]), strict=True))
        )
    assert errors[0] <= 4 * errors[1] + 1e-6, errors


INDEX = np.random.default_rng(1).integers(0, 11, (6, 5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("net", ["of three layers", "tiny"])
def test_fifty_steps_are_as_close_to_float64_as_numpys(net, kind, rng):
    learner = RUNS[net]
    x, t, index = rows(learner, 200, rng, 50, 12)
    w64, s64 = learner.init(dtype="float64")
    exact = learner.compile(w64, native=False).scan(w64, s64, x, t, index)
    errors = []
    for native in (True, False):
        w, s = learner.init(dtype=kind)
        step = learner.compile(w, native=native)
        found = step.scan(w, s, *(a.astype(kind) if a.dtype.kind == "f" else a for a in (x, t)), index)
        assert not native or is_native(step)
        errors.append(np.sqrt(np.mean((found[0] - exact[0]) ** 2)))
    assert errors[0] <= 2 * errors[1] + (1e-15 if kind == "float64" else 1e-9), errors


RUNS = {
    "of three layers": bp.Learner(
        bp.chain(32, bp.Dense(40, bp.relu), layers.Dropout(0.2), bp.Dense(64, bp.tanh), bp.Dense(10)),
        bp.softmax_cross_entropy,
        updates.AdamW(),
        clip=updates.ClipByNorm(1.0),
    ),
    "tiny": bp.Learner(
        bp.chain(2, bp.Dense(2, bp.sigmoid), bp.Dense(1, bp.sigmoid)),
        losses.mean_squared_error,
        bp.GradientDescent(0.5),
    ),
}


def rows(learner, n, rng, steps, batch):
    width, units = (
        2 if len(learner.net.layout.blocks) == 4 else 32,
        1 if len(learner.net.layout.blocks) == 4 else 10,
    )
    batch = 1 if units == 1 else batch
    t = rng.uniform(size=(n, 1)) if units == 1 else rng.integers(0, units, n).astype("int32")
    return rng.normal(size=(n, width)), t, rng.integers(0, n, (steps, batch))


@pytest.mark.parametrize("net", list(RUNS))
def test_bits_do_not_depend_on_how_a_scan_is_cut_nor_on_the_run(net, monkeypatch, rng):
    learner = RUNS[net]
    x, t, index = rows(learner, 100, rng, 40, 12)
    x, t = x.astype("float32"), t.astype("float32") if t.dtype.kind == "f" else t
    results = []
    for cuts, chunk in (((40,), 0.05), ((40,), 0.0), ((1, 2, 17, 40), 0.05)):
        monkeypatch.setattr(bound, "_CHUNK", chunk)
        w, s = learner.init(seed=3)
        step, found, start = learner.compile(w), [], 0
        for stop in cuts:
            w, s, loss = step.scan(w, s, x, t, index[start:stop])
            found.append(loss)
            start = stop
        assert is_native(step)
        results.append([np.concatenate(found).tobytes(), *(np.asarray(a).tobytes() for a in leaves((w, s)))])
    w, s = learner.init(seed=3)
    step = learner.compile(w)
    for row in index:
        w, s, _ = step(w, s, x[row], t[row])
    results.append([results[0][0], *(np.asarray(a).tobytes() for a in leaves((w, s)))])
    assert all(each == results[0] for each in results)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no such timer")
def test_a_scan_can_be_interrupted_and_leaves_the_state_of_a_whole_step():
    learner = bp.Learner(
        bp.chain(32, bp.Dense(64, bp.relu), bp.Dense(10)), bp.softmax_cross_entropy, bp.Adam()
    )
    w, s = learner.init()
    x, t = np.ones((8, 32), "float32"), np.zeros(8, "int32")
    step, index = learner.compile(w), np.tile(np.arange(8), (400_000, 1))
    w, s, _ = step.scan(w, s, x, t, index[:1000])

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            step.scan(w, s, x, t, index)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert 1000 < int(s.step) < 401_000
    assert int(s.step) == int(s.rule.count)
    assert is_native(step)


def test_nan_and_infinity_reach_the_loss_and_the_weights():
    for net in RUNS.values():
        x, t, index = rows(net, 20, np.random.default_rng(0), 3, 4)
        x[:, 0] = np.nan
        w, s = net.init()
        w, s, loss = net.compile(w).scan(
            w, s, x.astype("float32"), t.astype("float32") if t.dtype.kind == "f" else t, index
        )
        assert np.isnan(loss).all()
        assert np.isnan(w).any()


def test_bytes_categories_and_weights_of_rows_run_natively(rng):
    net = bp.chain(layers.Integers(2), layers.Embedding(7, 3), bp.Dense(4))
    learner = bp.Learner(net, bp.softmax_cross_entropy)
    other = bp.Learner(bp.chain(6, bp.Dense(4)), bp.softmax_cross_entropy)
    t, weight = rng.integers(0, 4, 30).astype("int32"), rng.uniform(size=30).astype("float32")
    given = (
        (learner, rng.integers(0, 7, (30, 2)).astype("int32")),
        (other, rng.integers(0, 255, (30, 6)).astype("uint8")),
    )
    for each, x in given:
        index, found = rng.integers(0, 30, (9, 5)), []
        for native in (True, False):
            w, s = each.init()
            step = each.compile(w, native=native)
            found.append(step.scan(w, s, x, t, weight, index))
            assert not native or is_native(step)
        np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-4, atol=1e-6)


NET = bp.chain(6, bp.Dense(9, bp.relu), bp.Dense(3))
SETTINGS = {
    "groups of kinds": {"update": {"dense1": updates.Momentum(0.01), "*": bp.Adam()}},
    "groups of one kind": {"update": {"dense1.w": bp.Adam(0.1), "*": bp.Adam(0.01)}},
    "schedules": {"update": bp.GradientDescent(bp.schedules.WarmUp(3, bp.schedules.Step(0.1, 2, 0.5)))},
    "an average and a penalty": {"update": updates.Averaged(bp.Adam()), "penalty": updates.L2(0.01)},
    "shards": {"shards": 3, "to_input": True},
}


@pytest.mark.parametrize("settings", list(SETTINGS))
def test_every_setting_runs_natively(settings, rng):
    learner = bp.Learner(NET, **SETTINGS[settings])
    x, t, index = rng.normal(size=(30, 6)), rng.normal(size=(30, 3)), rng.integers(0, 30, (9, 7))
    found = []
    for native in (True, False):
        w, s = learner.init(dtype="float64")
        step = learner.compile(w, native=native, watch=("*.o", "*.w_after", "*.grad"))
        found.append(leaves(step.scan(w, s, x, t, index)))
        assert not native or is_native(step)
    for mine, numpys in zip(*found, strict=True):
        np.testing.assert_allclose(mine, numpys, rtol=1e-9, atol=1e-12)


def test_halves_predictions_and_evaluations_run_natively(rng):
    learner = RUNS["of three layers"]
    w, s = learner.init()
    x, t = rng.normal(size=(12, 32)).astype("float32"), rng.integers(0, 10, 12).astype("int32")
    first = np.zeros((), "int32")
    calls = {
        "gradient": (learner.compile_gradient(w), (w, s, first, x, t)),
        "predict": (learner.compile_predict(w), (w, s, x)),
        "evaluate": (learner.compile_evaluate(w, predictions=True), (w, s, x, t)),
        "value": (learner.compile_value_and_grad(w), (w, s, x, t)),
    }
    for compiled_one, args in calls.values():
        found, want = compiled_one(*args), compiled_one.function(*args, xp=np)
        assert is_native(compiled_one)
        for mine, eager in zip(leaves(found), leaves(want), strict=True):
            np.testing.assert_allclose(mine, eager, rtol=1e-4, atol=1e-5)
    gradient = calls["gradient"][0](w, s, first, x, t)
    apply = learner.compile_apply(w)
    new = apply(w.copy(), *learner.init()[1:], gradient)
    assert is_native(apply)
    assert np.isfinite(new[0]).all()


def test_torch_tensors_go_through_the_same_door():
    torch = pytest.importorskip("torch", reason="Torch is not installed")
    learner = bp.Learner(bp.chain(6, bp.Dense(9, bp.relu), layers.Dropout(0.3), bp.Dense(3)))
    w, s = learner.init(backend="torch")
    x, t = torch.ones(20, 6), torch.zeros(20, 3)
    step = learner.compile(w)
    new, _, loss = step.scan(w, s, x, t, np.arange(20).reshape(4, 5))
    assert is_native(step)
    assert new is w
    w, s = learner.init(backend="torch")
    want = learner.compile(w, native=False).scan(w, s, x, t, np.arange(20).reshape(4, 5))
    torch.testing.assert_close(new, want[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss, want[2])


# ---------------------------------------------------------------- targets
@ON_X86
@pytest.mark.parametrize("only", list(ONLY))
def test_older_processors_compute_the_same_but_for_rounding(only, monkeypatch, rng):
    monkeypatch.setattr(machine, "host", lambda: ONLY[only])
    monkeypatch.setattr(machine, "_folder", lambda: None)
    for net, learner in RUNS.items():
        x, t, index = rows(learner, 60, rng, 10, 12)
        found = []
        for native in (True, False):
            w, s = learner.init(dtype="float64")
            step = learner.compile(w, native=native)
            found.append(step.scan(w, s, x, t, index))
            assert not native or is_native(step)
        np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-9, atol=1e-12, err_msg=net)


@ON_X86
@pytest.mark.parametrize("only", list(ONLY))
def test_functions_are_as_exact_on_older_processors(only, monkeypatch):
    x = samples("float32", 3000)
    monkeypatch.setattr(machine, "_folder", lambda: None)
    with np.errstate(all="ignore"):
        exact = x.astype("float64")
        for name, found in zip(
            FUNCTIONS, in_machine_code("float32", ONLY[only], monkeypatch)(x), strict=True
        ):
            assert ulps(found, getattr(np, name)(exact)).max() <= 1, name


def test_code_for_arm_is_verified_and_compiled():
    import llvmlite.binding

    llvmlite.binding.initialize_all_targets()
    llvmlite.binding.initialize_all_asmprinters()
    arm = machine.target("aarch64-unknown-linux-gnu", "generic", "+neon")
    assert isinstance(arm, Target)
    assert (arm.bytes, arm.registers, arm.fused) == (16, 32, True)
    learner = RUNS["of three layers"]
    w, s = learner.abstract("float32")
    given = abstract((12, 32), "float32"), abstract((12,), "int32")
    module = Module(record(learner.pure, w, s, *given), 2, 0, 12, arm, {"float32": "i64"})
    assert machine.object_code(module.text, arm)[:4] == b"\x7fELF"
    product = next(call.function for call in module.calls if call.kernel.kind == "matmul")
    text = module.function_text(product).replace("internal ", "")
    assert "fmla" in machine.assembly("\n".join([*module.declared, text]), arm)


# ---------------------------------------------------------------- fallback
def small():
    learner = bp.Learner(bp.chain(6, bp.Dense(9, bp.relu), bp.Dense(3)))
    w, s = learner.init()
    return learner, w, s, np.ones((5, 6), "float32"), np.zeros((5, 3), "float32")


def test_an_operation_without_code_falls_back_and_says_so():
    step = compiled(lambda a, *, xp: xp.logaddexp(a, a) * 2)
    found = step(np.ones(5))
    assert list(step.not_native.values()) == ["Unknown: logaddexp of float64"]
    np.testing.assert_allclose(found, 2 * np.logaddexp(1.0, 1.0) * np.ones(5))


@pytest.mark.parametrize("most", [0, unrolled.MOST], ids=["kernels", "a straight line"])
def test_small_programs_are_numpys_as_kernels_and_in_a_straight_line(most, monkeypatch, rng):
    def mixed(a, b, *, xp):
        known = xp.reshape(xp.asarray((1.0, 2.0, 3.0, 4.0, 5.0, 6.0)), (2, 3))  # constants, also as views
        return (
            a + xp.matrix_transpose(known),
            a * xp.broadcast_to(known[0, :2], (3, 2)),
            xp.matrix_transpose(known),
            xp.matmul(a, b),
            xp.concat([a, xp.exp(a)], axis=1),
            xp.stack([a, a * 2], axis=0)[1, ::-1, :],
            *(xp.sum(a, axis=axis) + xp.max(a * 2, axis=axis) for axis in (None, 0, 1)),
            xp.mean(a, axis=1, keepdims=True) - xp.min(a),
            xp.any(a > 9),
            xp.all(a < 9, axis=0),
            xp.where(a > 0, a, b[0, 0]),
        )

    monkeypatch.setattr(unrolled, "MOST", most)
    a, b = rng.normal(size=(3, 2)), rng.normal(size=(2, 4))
    step = compiled(mixed)
    found = step(a, b)
    assert is_native(step)
    assert isinstance(next(iter(step.plans.values())).module, unrolled.Unrolled if most else Module)
    for k, (mine, numpys) in enumerate(zip(found, mixed(a, b, xp=np), strict=True)):
        assert mine.dtype == np.asarray(numpys).dtype
        np.testing.assert_allclose(mine, numpys, rtol=1e-14, err_msg=str(k))


def test_arrays_without_elements_and_of_another_byte_order():
    step = compiled(lambda a, *, xp: (a * 2, xp.concat([a, xp.reshape(a, (3, 0)) + 1], axis=1), xp.exp(a)))
    assert [each.shape for each in step(np.ones((3, 0)))] == [(3, 0)] * 3
    assert is_native(step)
    swapped = np.arange(4.0).astype(">f8" if np.little_endian else "<f8")
    doubled = compiled(lambda a, *, xp: a * 2)
    assert doubled(swapped).tolist() == [0, 2, 4, 6]


def test_elements_that_are_read_where_others_are_written_fall_back():
    def shifted(w, *, xp):
        view = w[1:]
        view += w[:-1]
        return (w,)

    step = compiled(shifted, donate=1)
    want = np.arange(2000.0)
    want[1:] += np.arange(2000.0)[:-1]
    assert step(np.arange(2000.0))[0].tolist() == want.tolist()
    why = "Unknown: an operation that reads elements it also writes, at other places"
    assert list(step.not_native.values()) == [why]


def test_what_llvm_refuses_falls_back_and_says_so(monkeypatch):
    def refused(*_):
        msg = "LLVM IR parsing error"
        raise RuntimeError(msg)

    monkeypatch.setattr(machine, "Code", refused)
    learner, w, s, x, t = small()
    step = learner.compile(w)
    step(w, s, x, t)
    assert list(step.not_native.values()) == ["RuntimeError: LLVM IR parsing error"]


def test_without_llvmlite_numpys_calls_run_as_before(monkeypatch):
    def missing():
        msg = "no module named llvmlite"
        raise ImportError(msg)

    learner, w, s, x, t = small()
    off = learner.compile(w, native=False)
    want = off(w.copy(), *learner.init()[1:], x, t)[0]
    assert list(off.not_native.values()) == ["it is turned off"]
    monkeypatch.setattr(machine, "llvm", missing)
    monkeypatch.setattr(machine, "host", machine.host.__wrapped__)
    step = learner.compile(w)
    assert step.code == off.code == "the library's"
    assert step(w, s, x, t)[0].tobytes() == want.tobytes()
    assert "llvmlite is not installed" in str(learner.program(x, t))


def test_the_variable_turns_machine_code_off(monkeypatch):
    monkeypatch.setenv("BACKPROP_XP_NATIVE", "0")
    learner, w, s, x, t = small()
    step = learner.compile(w)
    step(w, s, x, t)
    assert list(step.not_native.values()) == ["it is turned off"]
    again = learner.compile(w, native=True)
    again(w, s, x, t)
    assert is_native(again)


# ---------------------------------------------------------------- what is kept
def test_object_code_is_kept_in_a_folder_of_the_user_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = "define void @step(ptr %memory) {\n  ret void\n}\n"
    assert not machine.Code(text, HOST).cached
    assert machine.Code(text, HOST).cached
    (file,) = (tmp_path / "backprop_xp" / "native").iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert not machine.Code(text, HOST).cached, "what is damaged is compiled again"
    file.parent.chmod(0o777)
    assert not machine.Code(text, HOST).cached, "others could write there"


def test_a_run_goes_on_with_the_kernels_it_began_with(monkeypatch, tmp_path):
    learner, source = small()[0], bp.data.Teacher(seed=1, n=40, features=6, outputs=3)

    def train(epochs, **settings):
        with bp.RunDir(tmp_path, **settings) as run:
            w, s = run.restore(learner) or learner.init(seed=7)
            return bp.fit(learner, w, s, source, epochs=epochs, run=run)

    train(1)
    monkeypatch.setenv("BACKPROP_XP_NATIVE", "0")
    with pytest.raises(bp.errors.FileError, match=r'kernels was "machine code.* now "the library\'s"'):
        train(2)
    assert len(train(2, allow_other_bits=True)[2]) == 2


def test_the_checks_of_a_unit_do_not_depend_on_machine_code():
    bp.testing.check_activation(bp.tanh)  # whose bits are its own
    bp.testing.check_loss(bp.softmax_cross_entropy)


def test_a_program_shows_its_machine_code():
    learner, *_, x, t = small()
    program = learner.program(x, t)
    assert f"as machine code: {program.native.summary}" in str(program)
    (first, *_) = program.native.kernels("dense1: net")
    assert first in str(program.native)
    assert "llvm.fma" in program.native.ir(first) or not HOST.fused
    assert first in program.native.assembly(first)
    with pytest.raises(bp.BackpropError, match="there is no kernel 'k99'"):
        program.native.ir("k99")
