"""Machine code: each operation as NumPy has it, functions to two units in the last place, whole steps and runs."""

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="machine code needs llvmlite, of the extra fast")

import backprop_xp as bp
from backprop_xp import activations, backends, layers, losses, updates
from backprop_xp.backends import get
from backprop_xp.compiler.cpu.compiled import Planned
from backprop_xp.compiler.ir import abstract, leaves
from backprop_xp.compiler.native import bound, machine
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
    one = [0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 1e-3, 88.0, 1e10, info.tiny, info.smallest_subnormal, info.max, np.inf]
    return np.asarray([*one, *(-v for v in one), np.nan], dtype=kind)


UNARY = ("negative", "positive", "abs", "square", "sqrt", "floor", "ceil", "trunc", "isfinite", "isnan", "isinf",
         "signbit", "logical_not")  # fmt: skip
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "copysign", "equal", "not_equal", "less",
          "less_equal", "greater", "greater_equal", "logical_and", "logical_or", "logical_xor")  # fmt: skip
INTEGER = ("add", "subtract", "multiply", "remainder", "floor_divide", "bitwise_and", "bitwise_or", "bitwise_xor",
           "bitwise_left_shift", "bitwise_right_shift", "maximum", "minimum", "equal", "less", "greater")  # fmt: skip


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
        return *found, xp.bitwise_invert(a), xp.astype(a, xp.float64), xp.astype(a, xp.uint8), a << 3, (a >> 2) & 5

    step = compiled(all_of_them)
    found = step(a, b, amount)
    assert is_native(step)
    with np.errstate(all="ignore"):
        want = all_of_them(a, b, amount, xp=np)
    for k, (mine, numpys) in enumerate(zip(found, want, strict=True)):
        assert mine.dtype == numpys.dtype
        np.testing.assert_array_equal(mine, numpys, err_msg=(*INTEGER, "invert", "float", "byte", "<<", "&")[k])


SHAPES = {  # what a reduction is of, and over which axes
    "all of a vector": ((1000,), None), "a long vector": ((20_000,), None), "one number": ((1,), None),
    "rows": ((5, 300), -1), "columns": ((300, 5), 0), "columns, kept": ((7, 33), 0), "two of three": ((3, 17, 5), (0, 2)),
    "the middle": ((3, 17, 5), 1), "all of a matrix": ((33, 17), None),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_reductions_are_numpys_but_for_the_order_of_a_sum(kind, rng=np.random.default_rng(0)):
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
    for mine, numpys in zip(found, want, strict=True):
        assert mine.shape == numpys.shape
        np.testing.assert_allclose(mine, numpys, rtol=1e-5 if kind == "float32" else 1e-13, atol=1e-3 if kind == "float32" else 1e-11)


def test_what_moves_elements_is_numpys(rng=np.random.default_rng(0)):
    a, b = rng.normal(size=(4, 6)).astype("float32"), rng.normal(size=(4, 3)).astype("float32")
    index = np.asarray([[3, 0], [1, 1]], dtype="int32")

    def moved(a, b, index, *, xp):
        return (
            xp.concat([a, b], axis=1), xp.concat([xp.reshape(a, (-1,)), xp.reshape(b, (-1,))]), xp.stack([a, a * 2], axis=1),
            xp.take(a, index[0], axis=0), xp.take(a, index[1], axis=1), xp.cumulative_sum(a, axis=1), xp.flip(a, axis=0) + a,
            xp.matrix_transpose(a) * 2, a[1:, ::2] * a[:-1, 1::2], xp.argmax(a, axis=1), xp.argmin(a, axis=0), xp.reshape(xp.matrix_transpose(a), (-1,)),
            xp.any(a > 2), xp.all(a > -9, axis=0), xp.prod(b, axis=1), xp.sum(a > 0, axis=0),
        )  # fmt: skip

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
                assert np.signbit(found[np.isin(x, zero)]).tolist() == np.signbit(x[np.isin(x, zero)]).tolist()


# ---------------------------------------------------------------- products
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_product_has_the_same_bits_in_any_batch(kind, rng=np.random.default_rng(0)):
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
def test_products_of_all_forms_are_exact_to_rounding(kind, rng=np.random.default_rng(0)):
    pairs = [(rng.normal(size=(m, k)), rng.normal(size=(k, n))) for m, n, k in PRODUCTS]
    given = [a.astype(kind) for pair in pairs for a in (*pair, pair[0].T.copy(), pair[1].T.copy())]

    def products(*given, xp):
        found = []
        for a, b, at, bt in zip(*(given[k::4] for k in range(4)), strict=True):
            for left in (a, xp.matrix_transpose(at)):
                for right in (b, xp.matrix_transpose(bt)):
                    found.append(xp.matmul(left, right))
        return tuple(found)

    step = compiled(products)
    found = step(*given)
    assert is_native(step)
    for k, mine in enumerate(found):
        a, b = (given[k // 4 * 4 + q].astype("float64") for q in (0, 1))
        bound = np.abs(a) @ np.abs(b) * np.finfo(kind).eps * a.shape[1]
        assert (np.abs(mine - a @ b) <= bound).all(), PRODUCTS[k // 4]


def test_a_large_product_is_numpys_blas(rng=np.random.default_rng(0)):
    if not machine.gemm():
        pytest.skip("NumPy's BLAS is not one whose products can be called by address")
    a, b = rng.normal(size=(200, 300)).astype("float32"), rng.normal(size=(300, 100)).astype("float32")
    step = compiled(lambda a, b, *, xp: (xp.matmul(a, b), xp.matmul(xp.matrix_transpose(b), xp.matrix_transpose(a))))
    found = step(a, b)
    assert is_native(step)
    np.testing.assert_allclose(found[0], a @ b, rtol=1e-4, atol=1e-3)
    assert found[1].T.shape == found[0].shape
    np.testing.assert_allclose(found[1].T, found[0], rtol=1e-4, atol=1e-3)


# ---------------------------------------------------------------- whole steps
def listed():
    """Learners that together have every activation, layer, loss and rule."""
    ends = {"binary_cross_entropy": bp.sigmoid, "poisson": activations.softplus, "negative_log_likelihood": activations.log_softmax,
            "categorical_cross_entropy": activations.softmax}  # fmt: skip
    acts, rules, bounds = list(activations.ALL.items()), list(updates.ALL.items()), (None, bp.updates.ClipByNorm(0.5), bp.updates.ClipByValue(0.1))
    between = (layers.BatchNorm(), layers.LayerNorm(), layers.Dropout(0.3), layers.PReLU(), None)
    for k in range(max(len(acts), len(losses.ALL), len(rules))):
        (act, f), (rule, update), (name, loss) = acts[k % len(acts)], rules[k % len(rules)], list(losses.ALL.items())[k % len(losses.ALL)]
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
        errors.append(max(np.abs(a - b).max() for a, b in zip((found[0], found[2]), (exact[0], exact[2]), strict=True)))
    assert errors[0] <= 4 * errors[1] + 1e-6, errors


INDEX = np.random.default_rng(1).integers(0, 11, (6, 5))
