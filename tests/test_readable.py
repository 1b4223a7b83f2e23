"""What a user holds can be kept, copied, printed and checked by hand; what is mistaken is told at once."""

import copy
import pickle
from dataclasses import dataclass
from fractions import Fraction as F

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends, loss_scale
from backprop_xp.arrays import leaves
from backprop_xp.compiler.cuda.executable import DeviceLibrary, Executable
from backprop_xp.compiler.ir import evaluate
from backprop_xp.compiler.recorder import record
from backprop_xp.insight.trace import from_watched

NET = bp.chain(3, bp.named("early", bp.Dense(4, bp.tanh)), bp.Dense(4, bp.relu), bp.add("early"), bp.Dense(2))
LEARNER = bp.Learner(NET, bp.half_squared_error, bp.Adam(0.01))
KEPT = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def x_and_t(place, rows=5):
    draw = np.random.default_rng(0)
    return place.array(draw.standard_normal((rows, 3))), place.array(draw.standard_normal((rows, 2)))


def bits(tree):
    return [np.copy(backends.host(a)).tobytes() for a in leaves(tree)]


# ---------------------------------------------------------------- pickles and copies
@pytest.mark.parametrize("how", KEPT)
def test_a_learner_that_was_used_is_kept_and_gives_the_same_bits(how, float_place):
    learner = bp.Learner(NET, update=bp.Adam(0.01))
    (w, s), (x, t) = float_place.init(learner), x_and_t(float_place)
    learner.predict(w, s, x)
    other = KEPT[how](learner)
    assert (other, hash(other)) == (learner, hash(learner))
    one, two = (each.step(*each.snapshot(w, s), x, t) for each in (learner, other))
    assert bits(one) == bits(two)


@pytest.mark.parametrize("how", KEPT)
def test_a_learner_is_kept_after_fit(how):
    learner = bp.Learner(NET, update={"*.b": bp.GradientDescent(0.1), "*": bp.Adam()})
    source = bp.data.Stored(np.ones((4, 3)), np.ones((4, 2)))
    fitted = bp.fit(learner, *learner.init(dtype="float64"), source, epochs=2, batch_size=2)
    one, two = (
        each.predict(fitted.w, fitted.s, source.rows(0, 4)[0]) for each in (KEPT[how](learner), learner)
    )
    assert bits(one) == bits(two)


@pytest.mark.parametrize("how", KEPT)
def test_weights_states_and_traces_are_kept(how, any_place):
    learner = bp.Learner(bp.chain(3, bp.Dense(2)), update=bp.updates.Momentum(0.125))
    (w, s), (x, t) = any_place.init(learner), x_and_t(any_place)
    trace = bp.trace(learner, w, s, x, t)
    w_kept, s_kept, trace_kept = KEPT[how]((w, s, trace))
    assert type(s_kept) is type(s)
    assert w_kept.dtype == w.dtype
    assert bits((w_kept, s_kept)) == bits((w, s))
    assert bits(trace_kept["dense1"].change) == bits(trace["dense1"].change)
    one, two = (learner.step(*learner.snapshot(*each), x, t) for each in ((w_kept, s_kept), (w, s)))
    assert bits(one) == bits(two)


@pytest.mark.parametrize("how", KEPT)
def test_sources_are_kept(how, float_place):
    x, t = x_and_t(float_place)
    where = {"backend": float_place.name, "device": float_place.device, "dtype": float_place.dtype}
    for source in (
        bp.data.Stored(x, t),
        bp.data.Teacher(3, 1000, 3, 2, hidden=(5, 4), noise=0.5, window=64, **where),
        bp.data.Teacher(3, 1000, 3, 4, task="classification", **where),
    ):
        kept = KEPT[how](source)
        assert (kept.n, kept.features, kept.outputs, kept.window) == (
            source.n, source.features, source.outputs, source.window,
        )  # fmt: skip
        assert bits(kept.rows(1, 4)) == bits(source.rows(1, 4))


def test_the_dtype_of_fractions_is_one_object_after_a_pickle():
    w = pickle.loads(pickle.dumps(bp.exact.asarray(["1/3"])))
    assert w.dtype is bp.exact.asarray([1]).dtype


def test_settings_are_hashed_and_traces_by_identity():
    assert len({NET, bp.chain(3, bp.Dense(2)), bp.chain(3, bp.Dense(2))}) == 2
    w, s = LEARNER.init(dtype="float64")
    trace = bp.trace(LEARNER, w, s, np.ones((1, 3)), np.ones((1, 2)))
    assert trace in {trace}
    assert trace != bp.trace(LEARNER, w, s, np.ones((1, 3)), np.ones((1, 2)))


# ---------------------------------------------------------------- a class for an instance
CLASSES = {
    "an activation": (lambda: bp.Dense(8, bp.activations.ReLU), "write ReLU()"),
    "an activation as a layer": (lambda: bp.layers.Activate(bp.activations.Tanh), "write Tanh()"),
    "a rule": (lambda: bp.Learner(NET, update=bp.Adam), "write Adam()"),
    "a rule of some blocks": (lambda: bp.Learner(NET, update={"*": bp.Adam}), "write Adam()"),
    "a loss": (lambda: bp.Learner(NET, bp.losses.SquaredError), "write SquaredError()"),
    "a penalty": (lambda: bp.Learner(NET, penalty=bp.updates.L2), "write L2()"),
    "a bound": (lambda: bp.Learner(NET, clip=bp.updates.ClipByNorm), "write ClipByNorm(limit)"),
    "a layer": (lambda: bp.chain(3, bp.Dense), "write Dense(units)"),
    "a layer with a name": (lambda: bp.chain(3, bp.named("early", bp.Dense)), "write Dense(units)"),
    "the first layer": (lambda: bp.chain(bp.layers.Input), "write Input(units)"),
    "a net": (lambda: bp.Learner(bp.net.Net), "write Net(nodes)"),
}


@pytest.mark.parametrize("case", CLASSES)
def test_a_class_for_an_instance_is_told_its_parentheses(case):
    make, words = CLASSES[case]
    with pytest.raises(bp.BackpropError) as caught:
        make()
    assert words in str(caught.value)


# ---------------------------------------------------------------- a NumPy function in a layer
class Waves(bp.activations.Identity):
    """cos of NumPy, where that of the namespace is meant."""

    def __call__(self, net, *, xp):
        return np.cos(net)


class Joined(bp.activations.Identity):
    """A NumPy function that is no ufunc."""

    def __call__(self, net, *, xp):
        return np.concatenate([net, net], axis=1)[:, : net.shape[1]]


@pytest.mark.parametrize(("f", "name"), [(Waves(), "xp.cos"), (Joined(), "xp.concat")])
def test_a_numpy_function_in_a_compiled_step_is_told_its_name_in_the_standard(f, name):
    learner = bp.Learner(bp.chain(3, bp.Dense(2, f)))
    w, s = learner.init()
    step = learner.compile(w)
    with pytest.warns(RuntimeWarning, match=f"write {name}"):
        step(w, s, np.ones((2, 3), "f4"), np.ones((2, 2), "f4"))
    assert f"write {name}" in step.eager


@pytest.mark.parametrize(("f", "name"), [(Waves(), "xp.cos"), (Joined(), "xp.concat")])
def test_a_numpy_function_on_fractions_is_told_its_name_in_the_standard(f, name):
    learner = bp.Learner(bp.chain(3, bp.Dense(2, f)))
    w, s = learner.init(backend="exact")
    x, t = bp.exact.asarray([[1, 2, 3]]), bp.exact.asarray([[1, 2]])
    for step in (learner.step, learner.compile(w)):
        with pytest.raises(bp.BackpropError, match=f"write {name}"):
            step(w, s, x, t)


def test_a_numpy_function_under_jit_is_told_what_to_write():
    pytest.importorskip("jax", reason="jax is not installed")
    learner = bp.Learner(bp.chain(3, bp.Dense(2, Waves())))
    w, s = learner.init(backend="jax")
    x, t = (bp.asarray(a, like=w) for a in ([[1, 2, 3]], [[1, 2]]))
    with pytest.raises(bp.BackpropError, match=r"write xp\.cos"):
        learner.compile(w)(w, s, x, t)


def test_a_number_of_numpy_beside_an_array_is_recorded():
    found = record(lambda a, *, xp: np.float64(2) * a + (np.float32(1) - a) / np.int64(2), np.ones(3))
    assert evaluate(found, np.asarray([0.0, 1, 3])).tolist() == [0.5, 2.0, 5.0]


def test_an_unknown_layer_of_a_trace_is_told_the_names_there_are():
    w, s = LEARNER.init(dtype="float64")
    trace = bp.trace(LEARNER, w, s, np.ones((1, 3)), np.ones((1, 2)))
    with pytest.raises(
        KeyError, match="no layer 'dense'; there are 'input', 'early', 'dense1', 'add1', 'dense2'"
    ):
        trace["dense"]


# ---------------------------------------------------------------- what is printed
def trained(place):
    learner = bp.Learner(bp.chain(3, bp.Dense(4, bp.tanh), bp.Dense(2)), update=bp.updates.Momentum(0.5))
    return learner, *place.init(learner), *x_and_t(place)


def test_all_that_a_user_holds_is_one_short_line_on_every_backend(float_place):
    learner, w, s, x, t = trained(float_place)
    step, kind = learner.compile(w), float_place.dtype
    where = {"backend": float_place.name, "device": float_place.device}
    shown = {
        "Net(input (3,) → dense1 (4,) → dense2 (2,): 26 parameters)": learner.net,
        "Learner(net=Net(": learner,
        f"moments=((26,) {kind})), step=0, seed=0": s,
        f"Stored(x=(5, 3) {kind}, t=(5, 2) {kind} on {float_place.name}": bp.data.Stored(x, t),
        "Teacher(1, 100, features=3, outputs=1, hidden=(16,), ": bp.data.Teacher(1, 100, 3, **where),
        f"(step on {float_place.name}, compiled 0 times)": step,
        f"(predict on {float_place.name}, compiled 0 times)": learner.compile_predict(w),
        "layers: input, dense1, dense2)": bp.trace(learner, w, s, x, t),
        f"LayerTrace('dense1': net (5, 4) {kind}": bp.trace(learner, w, s, x, t)["dense1"],
    }
    for words, value in shown.items():
        assert words in repr(value)
        assert len(repr(value)) < 200
        assert "\n" not in repr(value)
    *_, s, _ = step(*learner.snapshot(w, s), x, t)
    assert "step=1" in repr(s)


def test_a_state_that_was_consumed_is_still_printed():
    pytest.importorskip("jax", reason="jax is not installed")
    w, s = LEARNER.init(backend="jax")
    x, t = (bp.asarray(np.ones((2, n)), like=w) for n in (3, 2))
    LEARNER.compile(w)(w, s, x, t)
    assert "step=uint32" in repr(s)


def test_settings_that_are_not_the_usual_ones_are_printed():
    rules = {"*.b": bp.GradientDescent(0.5), "*": bp.Adam(beta2=0.5)}
    learner = bp.Learner(bp.chain(1, bp.Dense(1)), update=rules, clip=bp.updates.ClipByNorm(2), shards=2)
    assert repr(learner) == (
        "Learner(net=Net(input (1,) → dense1 (1,): 2 parameters), loss=HalfSquaredError(), "
        "update={'*.b': GradientDescent(0.5), '*': Adam(beta2=0.5)}, clip=ClipByNorm(2), shards=2)"
    )


def test_a_net_of_many_layers_fits_on_a_screen():
    net = bp.chain(3, *(bp.Dense(3) for _ in range(1000)))
    assert len(str(net).splitlines()) < 26
    assert "dense1000" in net.summary()
    assert "…" in net.summary()
    assert len(repr(net)) < 200


def test_a_trace_of_large_arrays_is_abbreviated_and_its_numbers_are_aligned():
    learner = bp.Learner(bp.chain(50, bp.Dense(60, bp.tanh), bp.Dense(1)))
    w, s = learner.init()
    draw = np.random.default_rng(0).standard_normal
    trace = bp.trace(learner, w, s, draw((40, 50)).astype("f4"), draw((40, 1)).astype("f4"))
    lines = str(trace["dense1"]).splitlines()
    assert len(lines) < 100
    assert max(map(len, lines)) < 110
    rows = [line for line in lines if line.count(",") >= 6 and "w_before w" not in line][:3]
    assert {len(line) for line in rows} == {len(rows[0])}
    assert all("…" in line for line in rows)


# ---------------------------------------------------------------- functions of the standard that are recorded
FUNCTIONS = {
    **{
        name: lambda a, b, xp, name=name: getattr(xp, name)(a)
        for name in (
            "floor", "ceil", "trunc", "round", "sign", "log2", "log10", "tan", "atan", "sinh", "cosh",
            "asinh", "isinf", "signbit", "isnan",
        )
    },
    **{
        name: lambda a, b, xp, name=name: getattr(xp, name)(a, b)
        for name in (
            "logaddexp", "atan2", "hypot", "copysign", "floor_divide", "maximum", "minimum", "remainder",
        )
    },
    "asin": lambda a, b, xp: xp.asin(a / 9),
    "acos": lambda a, b, xp: xp.acos(a / 9),
    "atanh": lambda a, b, xp: xp.atanh(a / 9),
    "acosh": lambda a, b, xp: xp.acosh(1 + a * a),
    "logical_xor": lambda a, b, xp: xp.logical_xor(a > 0, b > 0),
    "//": lambda a, b, xp: (a // b, a // 0.75, 5 // b),
    "floor divided in place": lambda a, b, xp: (a + 0).__ifloordiv__(b),
    "clip": lambda a, b, xp: (
        xp.clip(a, -1, 1.5), xp.clip(a, None, 0.5), xp.clip(a, b, None), xp.clip(a, max=b, min=-b),
    ),
    "numbers beside arrays": lambda a, b, xp: (
        xp.atan2(a, 2), xp.hypot(3, a), xp.copysign(a, -1), xp.logaddexp(a, 0.5), (a > 0) * 2, (a > 0) * 0.5,
        xp.maximum(1, a), xp.floor_divide(a, 2),
    ),
    "full_like": lambda a, b, xp: (xp.full_like(a, 3), xp.full_like(a, 3, dtype=xp.int32) + (a > 0)),
    "var": lambda a, b, xp: (xp.var(a), xp.var(a, axis=1), xp.var(a, axis=0, correction=1, keepdims=True)),
    "std": lambda a, b, xp: (xp.std(a), xp.std(a, axis=(0, 1)), xp.std(a, axis=-1, correction=1)),
    "cumulative_sum": lambda a, b, xp: (
        xp.cumulative_sum(a, axis=0), xp.cumulative_sum(a, axis=-1, include_initial=True),
        xp.cumulative_sum(a[0, :]), xp.cumulative_sum(a > 0, axis=1),
    ),
    "argmin": lambda a, b, xp: (xp.argmin(a), xp.argmin(a, axis=1), xp.argmin(a, axis=0, keepdims=True)),
    "argmax": lambda a, b, xp: (xp.argmax(a), xp.argmax(a, axis=1, keepdims=True)),
    "stack": lambda a, b, xp: (xp.stack([a, b]), xp.stack([a, b], axis=-1)),
    "tile": lambda a, b, xp: (xp.tile(a, (2, 3)), xp.tile(a, (2, 1, 2)), xp.tile(a, (3,))),
    "repeat": lambda a, b, xp: (xp.repeat(a, 2), xp.repeat(a, 3, axis=1)),
    "roll": lambda a, b, xp: (xp.roll(a, 2), xp.roll(a, -1, axis=0), xp.roll(a, (1, 2), axis=(0, 1))),
    "flip": lambda a, b, xp: (xp.flip(a), xp.flip(a, axis=1), xp.flip(a, axis=(0,)) * 1),
    "take_along_axis": lambda a, b, xp: (
        xp.take_along_axis(a, xp.argmax(b, axis=1, keepdims=True), axis=1),
        xp.take_along_axis(a, xp.expand_dims(xp.argmin(b, axis=0), axis=0), axis=0),
        xp.take_along_axis(xp.matrix_transpose(a), xp.astype(xp.matrix_transpose(b) > 0, xp.int64), axis=0),
    ),
    "reshape of a transpose": lambda a, b, xp: xp.reshape(xp.matrix_transpose(a * 2), (-1,)) + 0,
    "reshape of a view of many": lambda a, b, xp: xp.reshape(xp.broadcast_to(a * 2, (2, 3, 4)), (-1,)) + 0,
    "one element": lambda a, b, xp: ((a + 1)[0, 0] * 2, (a + b)[1, ...][2] + a),
    "reshape of columns": lambda a, b, xp: (
        xp.reshape((a * 2)[:, 1:], (-1,)) + xp.reshape(xp.flip(b + 1, axis=1), (-1,))[0]
    ),
}  # fmt: skip


def two_arrays(dtype, seed):
    draw = np.random.default_rng(seed)
    a, b = (np.round(draw.uniform(-4, 4, (3, 4)), 1).astype(dtype) for _ in range(2))
    return a, np.where(b == 0, 1, b).astype(dtype)


def same(found, wanted, close):
    found, wanted = (value if isinstance(value, tuple) else (value,) for value in (found, wanted))
    for one, other in zip(map(np.asarray, found), map(np.asarray, wanted), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_allclose(one, other, rtol=close, atol=close)


@pytest.mark.filterwarnings("ignore:(invalid|divide):RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_recorded_as_numpy_computes_them(name, dtype):
    function = FUNCTIONS[name]
    close = 4 * np.finfo(dtype).eps if name in ("var", "std") else 0  # NumPy sums them up otherwise
    program = record(lambda a, b, *, xp: function(a, b, xp), *two_arrays(dtype, 0))
    plan = backends.get("numpy").compile(lambda a, b, *, xp: function(a, b, xp))
    device = Executable(program, 0, DeviceLibrary(np, lambda chain: chain, np.asarray, np.empty))
    for seed in (0, 1, 2):
        arrays = two_arrays(dtype, seed)
        wanted = function(*arrays, np)
        same(plan(*arrays), wanted, close)
        same(evaluate(program, *arrays), wanted, close)
        same(tuple(device.run(list(arrays))), wanted, close)
    assert plan.eager is None


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "numbers beside arrays"])
def test_functions_in_a_plan_of_torch_are_those_it_runs_eagerly(name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    here = backends.get("torch")
    if hasattr(np, name) and not hasattr(here.xp, name):
        pytest.skip(f"Torch has no {name}")
    function, arrays = FUNCTIONS[name], [torch.from_numpy(a) for a in two_arrays("float64", 0)]
    found = here.compile(lambda a, b, *, xp: function(a, b, xp))(*arrays)
    same(found, function(*arrays, here.xp), 1e-12)


def test_rounding_integers_and_the_sign_of_no_number_are_as_in_numpy():
    def function(a, n, *, xp):
        return xp.sign(a), xp.clip(a, -1, 1), xp.round(n), xp.floor(n), xp.sign(n), xp.clip(n, 0, 2), n // 2

    a, n = np.asarray([np.nan, -0.0, np.inf, -3]), np.asarray([-3, 0, 5], dtype=np.int32)
    same(backends.get("numpy").compile(function)(a, n), function(a, n, xp=np), 0)


@dataclass(frozen=True)
class Bounded(bp.layers.Layer):
    """A layer of a user, by functions of the standard."""

    def forward(self, p, *x, ctx, xp):
        o = xp.clip(x[0], -0.5, 0.5) + xp.sign(x[0]) * xp.floor(2 * x[0]) / 4
        return bp.layers.Flow(x[0], o, xp.std(x[0], axis=1, keepdims=True)), ()

    def pull(self, p, flow, delta, *x, xp):
        return (xp.where(xp.abs(x[0]) < 0.5, delta, 0) / (1 + flow.aux),)


def test_a_layer_of_such_functions_is_compiled_to_what_it_is_eagerly(float_place):
    learner = bp.Learner(bp.chain(3, bp.Dense(4, bp.tanh), Bounded(), bp.Dense(2)))
    (w, s), (x, t) = float_place.init(learner), x_and_t(float_place)
    w_eager, s_eager = learner.snapshot(w, s)
    step = learner.compile(w)
    for _ in range(3):
        w, s, _ = step(w, s, x, t)
        w_eager, s_eager, _ = learner.step(w_eager, s_eager, x, t)
    np.testing.assert_allclose(backends.host(w), backends.host(w_eager), rtol=1e-5, atol=1e-6)
    assert getattr(step, "eager", None) is None


# ---------------------------------------------------------------- numbers of 16 bits
HALVES = {
    "the dtype of init": lambda w, s, x, t: LEARNER.init(dtype="float16"),
    "the dtype of init, of NumPy": lambda w, s, x, t: LEARNER.init(dtype=np.float16),
    "the array of init": lambda w, s, x, t: LEARNER.init(like=x),
    "the dtype of asarray": lambda w, s, x, t: bp.asarray([1.0], dtype="float16"),
    "the array of asarray": lambda w, s, x, t: bp.asarray([1.0], like=x),
    "weights": lambda w, s, x, t: LEARNER.step(w.astype("f2"), s, x.astype("f4"), t.astype("f4")),
    "inputs": lambda w, s, x, t: LEARNER.step(w, s, x, t.astype("f4")),
    "targets": lambda w, s, x, t: LEARNER.step(w, s, x.astype("f4"), t),
    "sample weights": lambda w, s, x, t: LEARNER.step(w, s, x.astype("f4"), t.astype("f4"), t[:, 0]),
    "inputs of a compiled step": lambda w, s, x, t: LEARNER.compile(w)(w, s, x, t.astype("f4")),
    "inputs of a prediction": lambda w, s, x, t: LEARNER.predict(w, s, x),
    "inputs of a source": lambda w, s, x, t: bp.data.Stored(x, t.astype("f4")),
    "targets of a source": lambda w, s, x, t: bp.data.Stored(x.astype("f4"), t),
    "weights of a source": lambda w, s, x, t: bp.data.Stored(x.astype("f4"), t.astype("f4"), weight=t[:, 0]),
    "a teacher": lambda w, s, x, t: bp.data.Teacher(0, 10, 3, dtype="float16"),
}


@pytest.mark.parametrize("case", HALVES)
def test_numbers_of_16_bits_get_one_answer_on_every_way_in(case):
    w, s = LEARNER.init()
    with pytest.raises(bp.BackpropError) as caught:
        HALVES[case](w, s, np.ones((2, 3), "f2"), np.ones((2, 2), "f2"))
    assert "cannot be of 16 bits" in str(caught.value)
    assert "bp.asarray(a, dtype='float32')" in str(caught.value)
    assert "bp.Learner(..., precision='float16') on CuPy" in str(caught.value)


def test_data_of_16_bits_become_float32_by_asarray():
    assert bp.asarray(np.ones((2, 3), "f2")).dtype == np.float32


# ---------------------------------------------------------------- the caller's arrays
def test_tracing_changes_no_array_of_the_caller(any_place):
    learner = bp.Learner(
        bp.chain(3, bp.Dense(4, bp.relu), bp.Dense(2)), update=bp.updates.Momentum(0.5), to_input=True
    )
    (w, s), (x, t) = any_place.init(learner), x_and_t(any_place)
    before = bits((w, s, x, t))
    first = bits(vars(bp.trace(learner, w, s, x, t)["dense1"]))
    assert bits((w, s, x, t)) == before
    trace = bp.trace(learner, w, s, x, t)
    assert bits(vars(trace["dense1"])) == first
    *_, traces = bp.insight.trace_each(learner, *learner.snapshot(w, s), x, t)
    assert bits((w, s, x, t)) == before
    assert len(traces) == 5


def test_tracing_takes_arrays_that_cannot_be_written():
    learner = bp.Learner(bp.chain(3, bp.Dense(2)), update=bp.Adam())
    (w, s), x, t = learner.init(), np.ones((2, 3), "f4"), np.ones((2, 2), "f4")
    for a in leaves((w, s, x, t)):
        a.flags.writeable = False
    trace = bp.trace(learner, w, s, x, t)
    assert bits(trace["dense1"].w_before["w"]) == bits(w[:6])


# ---------------------------------------------------------------- settings as exact text
TEXTS = {
    "a rate": (bp.GradientDescent("1/300"), bp.GradientDescent(F(1, 300)), bp.GradientDescent(1 / 300)),
    "a rate in a mapping": (
        bp.GradientDescent({"dense1.b": "1/3", "dense1": "0.125"}),
        bp.GradientDescent({"dense1.b": F(1, 3), "dense1": F(1, 8)}),
        bp.GradientDescent({"dense1.b": 1 / 3, "dense1": 0.125}),
    ),
    "bounds": (
        bp.GradientDescent("1/3", limit="2/3", floor="1/7"),
        bp.GradientDescent(F(1, 3), limit=F(2, 3), floor=F(1, 7)),
        bp.GradientDescent(1 / 3, limit=2 / 3, floor=1 / 7),
    ),
    "momentum": (
        bp.updates.Momentum("1/3", "2/3", nesterov=True),
        bp.updates.Momentum(F(1, 3), F(2, 3), nesterov=True),
        bp.updates.Momentum(1 / 3, 2 / 3, nesterov=True),
    ),
    "rules by pattern": (
        {"*.b": bp.GradientDescent("1/3"), "*": bp.GradientDescent("1/7")},
        {"*.b": bp.GradientDescent(F(1, 3)), "*": bp.GradientDescent(F(1, 7))},
        {"*.b": bp.GradientDescent(1 / 3), "*": bp.GradientDescent(1 / 7)},
    ),
}


def three_steps(update, place, *, compiled=False):
    learner = bp.Learner(bp.chain(3, bp.Dense(2)), update=update)
    (w, s), (x, t) = place.init(learner), x_and_t(place)
    step = learner.compile(w) if compiled else learner.step
    for _ in range(3):
        w, s, _ = step(w, s, x, t)
    return w


@pytest.mark.parametrize("case", TEXTS)
def test_text_and_fractions_are_the_floats_on_floats(case, float_place):
    text, fraction, number = TEXTS[case]
    for compiled in (False, True):
        one, two, three = (three_steps(u, float_place, compiled=compiled) for u in (text, fraction, number))
        assert one.dtype == three.dtype
        assert bits(one) == bits(two) == bits(three)


def test_text_is_exact_on_fractions():
    learner = bp.Learner(bp.chain(1, bp.Dense(1, bias=False)), update=bp.GradientDescent("1/3"))
    w, s = learner.init(backend="exact", weights={"dense1.w": [["1/7"]]})
    one = bp.exact.asarray([[1]])
    w, *_ = learner.step(w, s, one, one)
    assert w.tolist() == [F(1, 7) - F(1, 3) * (F(1, 7) - 1)]
    learner = bp.Learner(bp.chain(1, bp.Dense(1, bias=False)), update=bp.updates.Momentum("1/3", "2/3"))
    w, s = learner.init(backend="exact", weights={"dense1.w": [[0]]})
    for _ in range(2):
        w, s, _ = learner.step(w, s, one, one)
    assert s.rule.moments[0].tolist() == [F(-2, 3) + F(1, 3) - 1]


@pytest.mark.parametrize("make", [bp.GradientDescent, bp.updates.Momentum, bp.Adam])
@pytest.mark.parametrize("text", ["fast", "1/0", "-1/3", "", "nan"])
def test_text_that_is_no_rate_is_refused(make, text):
    with pytest.raises(bp.BackpropError, match="rate"):
        make(text)
    with pytest.raises(bp.BackpropError, match="rate"):
        make({"dense1": text})


# ---------------------------------------------------------------- a change, recomputed from its trace
def after_two_steps(update, place, **settings):
    """A learner whose moments are not 0, and its trace."""
    early = bp.named("early", bp.Dense(4, bp.relu))
    net = bp.chain(3, early, bp.Dense(4, bp.relu), bp.add("early"), bp.Dense(2))
    learner = bp.Learner(net, update=update, **settings)
    (w, s), (x, t) = place.init(learner), x_and_t(place)
    for _ in range(2):
        w, s, _ = learner.step(w, s, x, t)
    return learner, w, s, x, t


def changed(layer, p, rule):
    """Of a parameter the change by hand, the change shown, the moments by hand, the moments shown."""
    g, each, old = layer.grad_used[p], layer.scalars[p], layer.moments_before[p]
    if isinstance(rule, bp.GradientDescent):
        by_hand, new = -(each[0] * g), ()
    elif isinstance(rule, bp.updates.Momentum):
        beta = rule.beta if hasattr(g, "to_numpy") else float(rule.beta)
        v = old[0] * beta + g
        by_hand, new = -(each[0] * (g + beta * v if rule.nesterov else v)), (v,)
    else:
        m, v = old[0] + (1 - rule.beta1) * (g - old[0]), old[1] + (1 - rule.beta2) * (g * g - old[1])
        by_hand, new = -(each[0] * m / (v**0.5 + each[1])), (m, v)
    return by_hand, layer.change[p], new, layer.moments_after[p]


HAND = {
    "gradient descent": bp.GradientDescent("1/3"),
    "momentum": bp.updates.Momentum("1/3", "1/2"),
    "momentum, nesterov": bp.updates.Momentum("1/3", "1/2", nesterov=True),
    "rates by layer": bp.GradientDescent({"early": "1/3", "dense1": "1/5", "dense2": "1/7"}),
}


@pytest.mark.parametrize("name", HAND)
def test_each_change_follows_exactly_from_what_a_trace_shows(name):
    place = Exact()
    learner, *rest = after_two_steps(HAND[name], place, penalty=bp.updates.L2(F(1, 9)))
    trace, seen = bp.trace(learner, *rest), 0
    for layer in trace.layers:
        for p in layer.grad_used:
            by_hand, shown, moments, moments_shown = changed(layer, p, HAND[name])
            assert by_hand.tolist() == shown.tolist()
            assert [m.tolist() for m in moments] == [m.tolist() for m in moments_shown]
            seen += 1
        for p, g in layer.grad.items():
            assert layer.grad_used[p].tolist() == (g + F(1, 9) * layer.w_before[p]).tolist()
    assert seen == 6


class Exact:
    """The exact backend, as a place."""

    def array(self, data):
        return bp.exact.asarray(np.round(data, 1))

    def init(self, learner):
        return learner.init(backend="exact")


RULES = {
    **HAND,
    "adam": bp.Adam(0.01),
    "a schedule": bp.Adam(lambda count, *, xp: 0.1 / (1 + count)),
    "rules by pattern": {"*.b": bp.GradientDescent(0.5), "*": bp.Adam(0.01)},
}


@pytest.mark.parametrize("name", RULES)
def test_each_change_follows_from_what_a_trace_shows(name, place):
    update = RULES[name]
    learner, *rest = after_two_steps(update, place, clip=bp.updates.ClipByNorm(0.1))
    trace = bp.trace(learner, *rest)
    for layer in trace.layers:
        for p in layer.grad_used:
            rule = update["*.b" if p == "b" else "*"] if isinstance(update, dict) else update
            by_hand, shown, moments, moments_shown = changed(layer, p, rule)
            for one, other in zip((by_hand, *moments), (shown, *moments_shown), strict=True):
                np.testing.assert_allclose(backends.host(one), backends.host(other), rtol=1e-10, atol=1e-12)
    shown = [(layer.grad[p], layer.grad_used[p]) for layer in trace.layers for p in layer.grad]
    given, used = ([backends.host(a) for a in each] for each in zip(*shown, strict=True))
    norm = sum(float((g * g).sum()) for g in given) ** 0.5
    assert float(trace.clip_factor) == pytest.approx(0.1 / norm)
    for g, u in zip(given, used, strict=True):
        np.testing.assert_allclose(u, g * float(trace.clip_factor), rtol=1e-12)


def test_a_trace_says_that_an_update_in_float16_was_left_out():
    learner = bp.Learner(bp.chain(3, bp.Dense(2)), clip=bp.updates.ClipByNorm(1))
    w, s = learner.init()
    s = s._replace(scale=loss_scale.first_scale(w, xp=np, device="cpu"))  # as precision="float16" has it
    x, t = np.ones((2, 3), "float32"), np.ones((2, 2), "float32")
    fine = bp.trace(learner, w, s, x, t)
    with np.errstate(all="ignore"):
        lost = bp.trace(learner, w, s, x * np.float32(3e38), t)
    assert (float(fine.loss_scale), bool(fine.applied), bool(lost.applied)) == (65536, True, False)
    assert "applied False" in str(lost)
    assert "loss_scale 65536" in str(lost)
    assert not lost["dense1"].change["w"].any()


def test_a_step_shows_nothing_that_it_does_not_have():
    learner, place = bp.Learner(bp.chain(3, bp.Dense(2))), Exact()
    trace = bp.trace(learner, *place.init(learner), *x_and_t(place))
    assert (trace.clip_factor, trace.loss_scale, trace.applied) == (None, None, None)
    with pytest.raises(bp.BackpropError, match=r"this step has no 'step\.clip_factor'"):
        learner.step(*place.init(learner), *x_and_t(place), watch="step.clip_factor")


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_a_compiled_step_shows_what_an_eager_one_shows(backend):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    learner = bp.Learner(bp.chain(3, bp.Dense(2)), update=bp.updates.Momentum(0.5))
    w, s = learner.init(backend=backend)
    x, t = (bp.asarray(np.ones((2, n)), like=w) for n in (3, 2))
    w, s, _ = learner.step(w, s, x, t)
    eager = bp.trace(learner, w, s, x, t)
    *_, loss, watched = learner.compile(w, watch="*")(*learner.snapshot(w, s), x, t)
    compiled = from_watched(learner, (x, t), loss, watched)
    for field in ("grad_used", "moments_before", "moments_after", "change"):
        one, two = (sorted(getattr(each["dense1"], field).items()) for each in (eager, compiled))
        for a, b in zip(leaves(one), leaves(two), strict=True):
            np.testing.assert_allclose(backends.host(a), backends.host(b), rtol=1e-5)
    assert float(compiled["dense1"].scalars["w"][0]) == 0.5


def test_a_printed_trace_says_what_e_is_and_shows_moments_and_rate():
    learner, place = bp.Learner(bp.chain(3, bp.Dense(2)), update=bp.updates.Momentum("1/3")), Exact()
    text = str(bp.trace(learner, *place.init(learner), *x_and_t(place)))
    assert text.splitlines()[0].endswith("under 'mean' it is divided by the rows)")
    for words in ("scalars w        1/3", "moments_before w", "moments_after b", "grad_used w"):
        assert words in text
