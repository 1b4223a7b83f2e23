"""What an adversary tried: each is answered by a sentence, or by the right numbers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends
from backprop_xp.arrays import leaves

ROOT = Path(__file__).resolve().parent.parent
NET = bp.chain(3, bp.Dense(4, bp.relu), bp.Dense(3))
LABELS = bp.Learner(NET, bp.softmax_cross_entropy, bp.GradientDescent(0.1))
CHANCES = bp.Learner(NET, bp.losses.sigmoid_cross_entropy, bp.GradientDescent(0.1))
NUMBERS = bp.Learner(NET, bp.half_squared_error, bp.GradientDescent(0.1))


def refused(action, *words):
    """The action raises the library's own error, and its message has these words."""
    with pytest.raises(bp.BackpropError) as caught:
        action()
    assert type(caught.value).__module__.startswith("backprop_xp"), caught.type
    for word in words:
        assert word in str(caught.value), (word, str(caught.value))


def unchanged(values, action, *words):
    """The action is refused, and the arrays are as they were."""
    before = [np.copy(backends.host(a)).tobytes() for a in leaves(values)]
    refused(action, *words)
    assert [np.copy(backends.host(a)).tobytes() for a in leaves(values)] == before


def on_its_own(code):
    """What a program prints that runs by itself."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


# ---------------------------------------------------------------- values where data enter
class Stream:
    """Rows that are read a window at a time, by a source that does not answer for them."""

    def __init__(self, x, t, window, *weight):
        self.batch, self.n, self.window = (x, t, *weight), x.shape[0], window
        self.features, self.outputs = x.shape[1], 3

    def rows(self, start, stop):
        return tuple(a[start:stop, ...] for a in self.batch)


def stored(x, t, window):
    return bp.data.Stored(x, t)


def rows(place, kind, spoil):
    """200 rows for the losses on labels or probabilities; row 150 is spoiled."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    t = rng.integers(0, 3, 200) if kind == "labels" else rng.uniform(size=(200, 3))
    if spoil is not None:
        t[(150,) if kind == "labels" else (150, 1)] = spoil
    return place.array(x), place.array(t, "int64" if kind == "labels" else None)


SPOILED = {
    "a label of -1": (LABELS, "labels", -1, ["labels must be 0 to 2", "-1", "row 150"]),
    "a label of 7": (LABELS, "labels", 7, ["labels must be 0 to 2 for 3 output units", "7", "row 150"]),
    "a label beyond 32 bits": (
        LABELS,
        "labels",
        2**32 + 1,
        ["labels must be 0 to 2", str(2**32 + 1), "row 150"],
    ),
    "a probability of 2": (CHANCES, "numbers", 2.0, ["probabilities from 0 to 1", "2.0", "row 150"]),
    "a distribution below 0": (LABELS, "numbers", -1.0, ["probabilities from 0 to 1", "-1.0", "row 150"]),
}


@pytest.mark.parametrize("make", [stored, Stream], ids=["stored", "streamed"])
@pytest.mark.parametrize("case", SPOILED)
def test_training_refuses_targets_that_the_loss_cannot_be_given(case, make, place):
    learner, kind, value, words = SPOILED[case]
    w, s = place.init(learner)
    source = make(*rows(place, kind, value), 64)
    unchanged((w, s), lambda: bp.fit(learner, w, s, source, shuffle=False), *words)
    unchanged((w, s), lambda: list(bp.train.epochs(learner, w, s, source)), *words[:1])
    unchanged((w, s), lambda: bp.train.evaluate(learner, w, s, source), *words)
    unchanged((w, s), lambda: bp.train.per_sample(learner, w, s, *rows(place, kind, value)), *words)
    fine = make(*rows(place, kind, None), 64)
    unchanged((w, s), lambda: bp.fit(learner, w, s, fine, validate=source), *words)
    assert np.isfinite(bp.fit(learner, w, s, fine).history[0].loss)


@pytest.mark.parametrize("which", ["inputs", "targets"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_training_refuses_streams_of_numbers_that_are_not_finite(which, value, place):
    x, t = np.ones((200, 3)), np.ones((200, 3))
    (x if which == "inputs" else t)[150, 1] = value
    w, s = place.init(NUMBERS)
    x, t = place.array(x), place.array(t)
    source, words = Stream(x, t, 64), [f"{which} must be finite", "row 150"]
    unchanged((w, s), lambda: bp.fit(NUMBERS, w, s, source, shuffle=False), *words)
    unchanged((w, s), lambda: bp.train.evaluate(NUMBERS, w, s, source), *words)
    unchanged((w, s), lambda: bp.train.per_sample(NUMBERS, w, s, x, t), *words)


def test_training_refuses_weights_of_rows_below_0():
    w, s = NUMBERS.init(dtype="float64")
    weight = np.ones(200)
    weight[150] = -1
    source = Stream(np.ones((200, 3)), np.ones((200, 3)), 64, weight)
    refused(
        lambda: bp.fit(NUMBERS, w, s, source, shuffle=False), "sample weights must be 0 or more", "row 150"
    )


def test_labels_are_checked_before_they_are_sent_where_they_lose_bits():
    pytest.importorskip("jax")
    w, s = LABELS.init(backend="jax")
    t = np.asarray([0, 2**32 + 1, 2])
    source = Stream(np.ones((3, 3), np.float32), t, 3)
    refused(lambda: bp.fit(LABELS, w, s, source), "labels must be 0 to 2", "row 1")


def test_a_stored_source_is_read_once_for_a_loss(monkeypatch):
    read = []
    check = bp.data.source.check_range
    monkeypatch.setattr(bp.data.source, "check_range", lambda *a: read.append(a) or check(*a))
    w, s = LABELS.init(dtype="float64")
    source = bp.data.Stored(np.ones((9, 3)), np.eye(3)[np.arange(9) % 3])
    for learner in (LABELS, LABELS, CHANCES, CHANCES):
        bp.fit(learner, w, s, source, epochs=3)
        bp.train.evaluate(learner, w, s, source)
    assert len(read) == 2


def test_every_window_of_a_stream_is_checked_once_in_a_call(monkeypatch):
    seen = []
    monkeypatch.setattr(bp.Learner, "check_values", lambda self, *batch, first: seen.append(first))
    w, s = NUMBERS.init(dtype="float64")
    bp.fit(NUMBERS, w, s, Stream(np.ones((200, 3)), np.ones((200, 3)), 64), epochs=3, shuffle=False)
    assert sorted(seen) == [0, 64, 128, 192]


# ---------------------------------------------------------------- NaN and infinity in single numbers
class Crossing(bp.losses.Loss):
    """A loss of the operations by which NaN could vanish."""

    def __init__(self, kind):
        object.__setattr__(self, "kind", kind)

    def value(self, o, t, *, xp):
        return xp.sum(FORMS[self.kind](o, t, xp), axis=-1)

    def error(self, o, t, *, xp):
        return o - t


FORMS = {
    "maximum of two": lambda o, t, xp: xp.maximum(o, t),
    "maximum of two, swapped": lambda o, t, xp: xp.maximum(t, o),
    "minimum of two": lambda o, t, xp: xp.minimum(o, t),
    "minimum of two, swapped": lambda o, t, xp: xp.minimum(t, o),
    "maximum with a number": lambda o, t, xp: xp.maximum(o, 0.5) + 0 * t,
    "minimum with a number": lambda o, t, xp: xp.minimum(o, 0.5) + 0 * t,
    "max": lambda o, t, xp: xp.max(o, axis=-1, keepdims=True) + 0 * t,
    "min": lambda o, t, xp: xp.min(o, axis=-1, keepdims=True) + 0 * t,
    "where": lambda o, t, xp: xp.where(o > t, o, t) + xp.where(o <= t, t, 2.0) + xp.where(o != t, o, 1.0),
    "comparisons": lambda o, t, xp: xp.astype(o >= t, o.dtype) + 2 * xp.astype(o == t, o.dtype),
    "a power": lambda o, t, xp: xp.abs(o) ** 2.5 + 0 * t,
    "a power of what may be below 0": lambda o, t, xp: o**0.75 + 0 * t,
    "a power below 0": lambda o, t, xp: o**-1.5 + 0 * t,
    "exp": lambda o, t, xp: xp.exp(1000 * o) + 0 * t,
    "log": lambda o, t, xp: xp.log(o) + 0 * t,
    "sqrt": lambda o, t, xp: xp.sqrt(o) + 0 * t,
    "sin": lambda o, t, xp: xp.sin(o) + 0 * t,
    "a quotient": lambda o, t, xp: t / o + 0 * t,
}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -0.0, 3.0, -3.0, 1e300])
@pytest.mark.parametrize("form", FORMS)
def test_a_scan_of_a_small_net_gives_what_eager_steps_give(form, value):
    net = bp.chain(2, bp.layers.Linear(2, bias=False))
    learner = bp.Learner(net, Crossing(form), bp.GradientDescent(0.25, limit=2))
    first = {"dense1.w": [[1.0, 0.0], [0.0, 1.0]]}
    rows = np.asarray([[1.0, 0.5], [value, 0.25], [0.25, value], [0.5, 1.0]])
    t = np.asarray([[0.5, 1.0], [1.0, 0.5], [0.25, 0.25], [value, 0.0]])
    w, s = learner.init(dtype="float64", weights=first)
    step = learner.compile(w)
    with np.errstate(all="ignore"):
        scanned = step.scan(*learner.snapshot(w, s), rows, t, np.arange(4)[:, None])
        losses = []
        for k in range(4):
            w, s, loss = learner.step(w, s, rows[k : k + 1], t[k : k + 1])
            losses.append(float(loss))
    np.testing.assert_allclose(scanned[2], losses, rtol=1e-12)
    np.testing.assert_allclose(scanned[0], w, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_neuron_that_sees_NaN_says_so(dtype):
    learner = bp.Learner(bp.chain(2, bp.Dense(1, bp.relu)), update=bp.GradientDescent(0.1, limit=1))
    w, s = learner.init(dtype=dtype)
    x, t = np.full((3, 2), np.nan, dtype), np.ones((3, 1), dtype)
    w, s, losses = learner.compile(w).scan(w, s, x, t, np.arange(3)[:, None])
    assert np.isnan(losses).all()
    assert np.isnan(w[:2]).all(), "the bias keeps its value: the derivative of ReLU at NaN is 0"


def test_training_that_overflows_has_diverged_and_not_stopped_at_the_limit():
    learner = bp.Learner(bp.chain(2, bp.Dense(1, bp.relu)), update=bp.GradientDescent(0.1, limit=1e308))
    w, s = learner.init(dtype="float64", weights={"dense1.w": [[1e200], [1e200]], "dense1.b": [0.0]})
    source = bp.data.Stored(np.full((3, 2), 1e200), np.ones((3, 1)))
    with pytest.raises(bp.errors.Diverged) as caught:
        bp.fit(learner, w, s, source, epochs=3, batch_size=1)
    assert np.array_equal(caught.value.w, w)


def test_a_counter_that_is_full_goes_on_as_in_eager_steps():
    learner = bp.Learner(bp.chain(1, bp.Dense(1)), update=bp.GradientDescent(0.1))
    w, s = learner.init(dtype="float64")
    s = s._replace(step=np.asarray(2**32 - 1, dtype=np.uint32))
    x = np.ones((2, 1))
    with np.errstate(all="ignore"):
        w, s, _ = learner.compile(w).scan(w, s, x, x, np.arange(2)[:, None])
    assert int(s.step) == 1


# ---------------------------------------------------------------- arrays of other kinds
def test_an_index_of_steps_without_rows_is_refused(any_place):
    w, s = any_place.init(NUMBERS)
    step, x = NUMBERS.compile(w), any_place.array(np.ones((5, 3)))
    judge = NUMBERS.compile_evaluate(w)
    for shape in ((2, 0), (0, 0)):
        index = np.zeros(shape, dtype=int)
        unchanged(
            (w, s), lambda index=index: step.scan(w, s, x, x, index), "at least one row", str(index.shape)
        )
        unchanged(
            (w, s), lambda index=index: judge.scan(w, s, x, x, index), "at least one row", str(index.shape)
        )


@pytest.mark.parametrize("order", ["together", "layer by layer"])
@pytest.mark.parametrize("limit", [None, 1])
def test_read_only_weights_are_refused_by_a_step_and_copied_by_a_compiled_one(order, limit):
    learner = bp.Learner(NET, update=bp.GradientDescent(0.1, limit=limit), order=order)
    w, s = learner.init(dtype="float64")
    x = np.ones((2, 3))
    w.flags.writeable = False
    unchanged((w, s), lambda: learner.step(w, s, x, x), "read-only", "learner.snapshot(w, s)")
    before, step = w.copy(), learner.compile(w)
    new, _, _ = step(w, learner.snapshot(w, s)[1], x, x)
    again, _, _ = step.scan(w, learner.snapshot(w, s)[1], x, x, np.asarray([[0, 1]]))
    expected, _, _ = learner.step(*learner.snapshot(w, s), x, x)
    assert np.array_equal(w, before)
    assert np.array_equal(new, expected)
    assert np.array_equal(again, expected)
    assert learner.predict(w, s, x).shape == (2, 3)


def test_read_only_moments_are_refused_by_a_step():
    learner = bp.Learner(NET, update=bp.Adam())
    w, s = learner.init(dtype="float64")
    s.rule.moments[1].flags.writeable = False
    unchanged((w, s), lambda: learner.step(w, s, np.ones((2, 3)), np.ones((2, 3))), "read-only")


OTHER = {
    "masked": (np.ma.ones, "MaskedArray"),
    "a matrix": (lambda shape: np.matrix(np.ones(shape)), "matrix"),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("kind", OTHER)
def test_arrays_that_compute_by_rules_of_their_own_are_refused(kind):
    make, word = OTHER[kind]
    w, s = NUMBERS.init(dtype="float64")
    bad, fine, step = make((5, 3)), np.ones((5, 3)), NUMBERS.compile(w)
    w, s, _ = step(w, s, fine, fine)
    index = np.asarray([[0, 1]])
    w, s, _ = step.scan(w, s, fine, fine, index)
    words = ["expected a plain numpy array", word]
    for x, t in ((bad, fine), (fine, bad)):
        unchanged((w, s), lambda x=x, t=t: NUMBERS.step(w, s, x, t), *words)
        unchanged((w, s), lambda x=x, t=t: step(w, s, x, t), *words)
        unchanged((w, s), lambda x=x, t=t: step.scan(w, s, x, t, index), *words)
        refused(lambda x=x, t=t: bp.data.Stored(x, t), *words)
    refused(lambda: NUMBERS.predict(w, s, bad), *words)
    refused(lambda: NUMBERS.compile_predict(w)(w, s, bad), *words)
    refused(lambda: bp.asarray(bad), *words)


# ---------------------------------------------------------------- more than there is memory for
@pytest.mark.parametrize("name", ["numpy", "torch", "jax", "exact", "strict"])
def test_a_net_too_large_for_the_memory_says_how_large_and_takes_none(name):
    backends_there = pytest.importorskip({"strict": "array_api_strict", "exact": "numpy"}.get(name, name))
    assert backends_there
    if backends.get(name).free_memory(backends.get(name).device(None)) is None:
        pytest.skip("what is free is not known here")
    net = bp.chain(2**62, bp.Dense(2**62))
    for update, words in ((bp.GradientDescent(), "gradient they take"), (bp.Adam(), "gradient and moments")):
        learner = bp.Learner(net, update=update)
        refused(
            lambda learner=learner: learner.init(backend=name), f"{2**124 + 2**62:,} weights", words, "GB"
        )


@pytest.mark.parametrize("text", [None, "CUDA out of memory. Tried", "RESOURCE_EXHAUSTED: Out of", "other"])
def test_memory_that_runs_out_is_an_error_in_words(text, monkeypatch):
    def full(*_, **__):
        raise MemoryError if text is None else RuntimeError(text)

    monkeypatch.setattr(bp.initial, "join", full)
    if text == "other":
        with pytest.raises(RuntimeError, match="other"):
            NUMBERS.init()
    else:
        refused(NUMBERS.init, "31 weights", "0.0 MB", "not enough memory")


# ---------------------------------------------------------------- parts that return other shapes
class Odd:
    """An activation, right but for what it is given."""

    def __init__(self, o=None, delta=None):
        self.made = o or (lambda net, xp: net), delta or (lambda e, xp: e)

    def __repr__(self):
        return "Odd()"

    def __call__(self, net, *, xp):
        return self.made[0](net, xp)

    def delta(self, e, net, o, *, xp):
        return self.made[1](e, xp)


class OddLoss(bp.losses.HalfSquaredError):
    def __init__(self, value=None, error=None):
        object.__setattr__(self, "made", (value, error))

    def value(self, o, t, *, xp):
        found = super().value(o, t, xp=xp)
        return self.made[0](found, xp) if self.made[0] else found

    def error(self, o, t, *, xp):
        found = super().error(o, t, xp=xp)
        return self.made[1](found, xp) if self.made[1] else found


class OddRule:
    rate, moments = 0.1, 0

    def __init__(self, made):
        self.made = made

    def scalars(self, state, *, dtype, xp):
        return ()

    def element(self, g, w, *rest, xp):
        return self.made(w, xp)


def odd_net(**made):
    return {"net": bp.chain(3, bp.Dense(4, Odd(**made)), bp.Dense(3))}


ODD = {
    "a scalar for the losses": ({"loss": OddLoss(lambda v, xp: xp.sum(v))}, ["value", "OddLoss", "(batch,)"]),
    "a column of losses": ({"loss": OddLoss(lambda v, xp: v[:, None])}, ["value", "OddLoss", "(batch, 1)"]),
    "one error for all units": (
        {"loss": OddLoss(None, lambda e, xp: xp.sum(e, axis=1, keepdims=True))},
        ["error", "OddLoss", "(batch, 3)", "(batch, 1)"],
    ),
    "an output of other units": (
        odd_net(o=lambda net, xp: xp.sum(net, axis=1, keepdims=True)),
        ["output of 'dense1'", "Odd()", "(batch, 4)", "(batch, 1)"],
    ),
    "an output for the whole batch": (
        odd_net(o=lambda net, xp: xp.max(net, axis=0, keepdims=True)),
        ["output of 'dense1'", "(batch, 4)", "(1, 4)"],
    ),
    "a scalar for an output": (odd_net(o=lambda net, xp: xp.sum(net)), ["output of 'dense1'", "()"]),
    "a scalar for delta": (odd_net(delta=lambda e, xp: xp.sum(e)), ["delta of 'dense1'", "(batch, 4)", "()"]),
    "a delta of other units": (odd_net(delta=lambda e, xp: e[:, :1]), ["delta of 'dense1'", "(batch, 1)"]),
    "a new weight for all": ({"update": OddRule(lambda w, xp: (xp.sum(w),))}, ["OddRule", "(31,)", "()"]),
    "weights that are no tuple": ({"update": OddRule(lambda w, xp: w)}, ["OddRule", "0 moments"]),
    "moments there are none of": ({"update": OddRule(lambda w, xp: (w, w))}, ["OddRule", "0 moments"]),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_parts_that_return_another_shape_are_named_by_the_first_step(case, any_place):
    settings, words = ODD[case]
    learner = bp.Learner(**{"net": NET} | settings)
    w, s = any_place.init(learner)
    x, t = any_place.array(np.ones((4, 3))), any_place.array(np.ones((4, 3)))
    index = np.asarray([[0, 1]])
    for _ in range(2):
        unchanged((w, s), lambda: learner.step(w, s, x, t), *words)
        unchanged((w, s), lambda: learner.compile(w)(w, s, x, t), *words)
        unchanged((w, s), lambda: learner.compile(w).scan(w, s, x, t, index), *words)
        unchanged((w, s), lambda: bp.train.per_sample(learner, w, s, x, t), *words)


def test_shapes_are_looked_at_once(monkeypatch):
    looks, check = [], bp.learner.check_shapes
    monkeypatch.setattr(bp.learner, "check_shapes", lambda *args: looks.append(1) or check(*args))
    learner = bp.Learner(NET)
    w, s = learner.init()
    x = np.ones((4, 3), np.float32)
    for _ in range(3):
        w, s, _ = learner.step(w, s, x, x)
    learner.compile(w)(w, s, x, x)
    assert len(looks) == 1


# ---------------------------------------------------------------- a net in which nothing learns
HELD = bp.chain(3, bp.Dense(4, bp.relu), bp.Dense(3)).freeze("dense1", "dense2")


@pytest.mark.parametrize(
    "update", [bp.GradientDescent(), bp.Adam(), {"*": bp.Adam()}], ids=["gd", "adam", "map"]
)
def test_a_frozen_net_gives_the_gradient_of_its_input(update, any_place):
    learner = bp.Learner(HELD, bp.half_squared_error, update, to_input=True, reduction="sum")
    w, s = any_place.init(learner)
    x = any_place.array(np.random.default_rng(0).normal(size=(5, 3)))
    t = any_place.array(np.ones((5, 3)))
    blocks = {name: backends.host(a) for name, a in learner.weights(w).items()}
    net = backends.host(x) @ blocks["dense1.w"] + blocks["dense1.b"]
    e = np.maximum(net, 0) @ blocks["dense2.w"] + blocks["dense2.b"] - 1
    expected = ((e @ blocks["dense2.w"].T) * (net >= 0)) @ blocks["dense1.w"].T
    before = np.copy(backends.host(w))
    step, tolerance = learner.compile(w, watch="input.e"), 1e-4 if any_place.dtype == "float32" else 1e-12
    results = [learner.step(*learner.snapshot(w, s), x, t, watch="input.e")]
    results.append(step(*learner.snapshot(w, s), x, t))
    for new, state, _, watched in results:
        np.testing.assert_allclose(
            backends.host(watched["input.e"]), expected, rtol=tolerance, atol=tolerance
        )
        assert np.array_equal(backends.host(new), before)
        assert int(state.step) == 1
    *_, stacked = step.scan(*learner.snapshot(w, s), x, t, np.arange(5)[None, :])
    np.testing.assert_allclose(backends.host(stacked["input.e"])[0], expected, rtol=tolerance, atol=tolerance)
    new, _, losses = learner.compile(w).scan(*learner.snapshot(w, s), x, t, np.asarray([[0, 1], [2, 3]]))
    assert np.array_equal(backends.host(new), before)
    assert losses.shape == (2,)
    assert learner.gradient(w, s, x, t) == {}


@pytest.mark.parametrize("settings", [
    {"penalty": bp.updates.L2(0.1), "clip": bp.updates.ClipByNorm(1)}, {"shards": 2},
], ids=str)  # fmt: skip
def test_a_frozen_net_takes_every_setting(settings, place):
    learner = bp.Learner(HELD, to_input=True, **settings)
    w, s = place.init(learner)
    x = place.array(np.ones((4, 3)))
    new, _, loss = learner.compile(w)(*learner.snapshot(w, s), x, x)
    assert np.array_equal(backends.host(new), backends.host(w))
    _, _, first = learner.step(*learner.snapshot(w, s), x, x)
    np.testing.assert_allclose(float(loss), float(first))


def test_a_net_without_weights_gives_the_gradient_of_its_input(any_place):
    learner = bp.Learner(bp.chain(2, bp.layers.Activate(bp.relu)), to_input=True, reduction="sum")
    w, s = any_place.init(learner)
    x, t = any_place.array([[1.0, -1.0]]), any_place.array([[0.0, 0.0]])
    for run in (learner.step, learner.compile(w, watch="input.e")):
        settings = {"watch": "input.e"} if run == learner.step else {}
        *_, watched = run(*learner.snapshot(w, s), x, t, **settings)
        assert backends.host(watched["input.e"]).tolist() == [[1.0, 0.0]]


def test_all_can_be_frozen_and_thawed_again(place):
    learner = bp.Learner(NET, update=bp.Adam(), to_input=True)
    w, s = place.init(learner)
    x = place.array(np.ones((4, 3)))
    w, s, _ = learner.step(w, s, x, x)
    before = np.copy(backends.host(w))
    held, w, s = learner.freeze(["dense1", "dense2"], w, s)
    w, s, _ = held.step(w, s, x, x)
    assert np.array_equal(backends.host(w), before)
    again, w, s = held.thaw(["dense1", "dense2"], w, s)
    assert again == learner
    w, s, _ = again.step(w, s, x, x)
    assert not np.array_equal(backends.host(w), before)
    assert np.isfinite(backends.host(w)).all()


def test_nothing_that_learns_is_still_refused_without_the_input():
    refused(lambda: bp.Learner(HELD), "nothing learns", "thaw", "to_input=True")
    refused(lambda: bp.Learner(HELD, to_input=True, order="layer by layer"), "nothing learns")


# ---------------------------------------------------------------- weights, names and settings
def test_weights_with_a_block_missing_are_refused_unless_they_are_said_to_be_some():
    given = {"dense1.w": np.ones((3, 4)), "dense2.b": np.ones(3)}
    refused(lambda: NUMBERS.init(weights=given), "'dense1.b', 'dense2.w'", "partial=True")
    some = NUMBERS.weights(NUMBERS.init(weights=given, partial=True)[0])
    drawn = NUMBERS.weights(NUMBERS.init()[0])
    assert (some["dense1.w"] == 1).all()
    assert np.array_equal(some["dense2.w"], drawn["dense2.w"])
    assert np.array_equal(NUMBERS.init(weights={})[0], NUMBERS.init()[0])
    assert np.array_equal(NUMBERS.init(weights=drawn)[0], NUMBERS.init()[0])


NO_SETTINGS = {
    "epsilon as text": (lambda: bp.Adam(epsilon="a"), ["epsilon", "positive finite", "'a'"]),
    "epsilon of None": (lambda: bp.Adam(epsilon=None), ["epsilon", "None"]),
    "beta1 as text": (lambda: bp.Adam(beta1="a"), ["beta", "'a'"]),
    "beta2 as a list": (lambda: bp.Adam(beta2=[0.9]), ["beta", "[0.9]"]),
    "beta as text": (lambda: bp.updates.Momentum(beta="a"), ["beta", "'a'"]),
    "a limit as text": (lambda: bp.GradientDescent(limit="a"), ["limit", "number", "'a'"]),
    "a floor as text": (lambda: bp.GradientDescent(floor="a"), ["floor", "number", "'a'"]),
    "a limit that is complex": (lambda: bp.GradientDescent(limit=1j), ["limit", "1j"]),
    "a strength as text": (lambda: bp.updates.L2("a"), ["strength", "'a'"]),
    "a norm as text": (lambda: bp.updates.ClipByNorm("a"), ["norm", "'a'"]),
    "a name with a dot": (lambda: bp.named("a.w", bp.Dense(2)), ["text without", "'a.w'"]),
    "a name of None": (lambda: bp.named(None, bp.Dense(2)), ["text without", "None"]),
    "a node with a dot": (
        lambda: bp.chain(2, bp.net.Node(bp.Dense(2), "a.w")),
        ["text without", "'a.w'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_SETTINGS)
def test_a_setting_of_another_type_is_refused(case):
    build, words = NO_SETTINGS[case]
    refused(build, *words)


@pytest.mark.parametrize("found", ["0.1", None, [0.1], 1j, True], ids=repr)
def test_a_schedule_that_returns_no_number_is_refused(found, any_place):
    for rule in (bp.GradientDescent, bp.updates.Momentum):
        learner = bp.Learner(NET, update=rule(lambda count, *, xp: found))
        w, s = any_place.init(learner)
        x = any_place.array(np.ones((2, 3)))
        for run in (learner.step, learner.compile(w)):
            unchanged((w, s), lambda run=run, w=w, s=s, x=x: run(w, s, x, x), "schedule", repr(found))


# ---------------------------------------------------------------- NumPy's integers, dtypes of any library
def test_integers_of_NumPy_are_integers():
    one, two, three = np.int64(1), np.uint8(2), np.int32(3)
    net = bp.chain(three, bp.Dense(two, bp.relu), bp.layers.Linear(one))
    assert net == bp.chain(3, bp.Dense(2, bp.relu), bp.layers.Linear(1))
    assert repr(net) == repr(bp.chain(3, bp.Dense(2, bp.relu), bp.layers.Linear(1)))
    learner = bp.Learner(net, shards=two)
    w, s = learner.init(two)
    assert np.array_equal(w, bp.Learner(net).init(2)[0])
    source = bp.data.Teacher(two, np.int64(40), three, one, noise=np.float32(0.1), window=np.int64(20))
    found = bp.fit(learner, w, s, source, epochs=two, batch_size=np.int64(8))
    expected = bp.fit(learner, w, s, source, epochs=2, batch_size=8, began=np.int64(0))
    assert np.array_equal(found.w, expected.w)
    assert bp.train.evaluate(learner, w, s, source, batch_size=three) > 0
    x, t = source.rows(np.int64(1), np.int64(5))
    assert learner.predict(w, s, x, batch_size=two).shape == (4, 1)
    assert bp.data.Stored(x, np.asarray([0, 1, 0, 1]), units=three).outputs == 3
    assert bp.data.Stored(x, t).rows(np.int64(1), np.int64(2))[0].shape == (1, 3)


TRUTHS = {
    "units": bp.Dense,
    "features": lambda n: bp.chain(n, bp.Dense(1)),
    "a seed": NUMBERS.init,
    "shards": lambda n: bp.Learner(NET, shards=n),
    "epochs": lambda n: bp.fit(NUMBERS, *NUMBERS.init(), bp.data.Teacher(0, 9, 3, 3), epochs=n),
    "rows of a batch": lambda n: bp.fit(NUMBERS, *NUMBERS.init(), bp.data.Teacher(0, 9, 3, 3), batch_size=n),
    "rows": lambda n: bp.data.Teacher(0, n, 3),
    "noise": lambda n: bp.data.Teacher(0, 9, 3, noise=n if isinstance(n, bool) else str(n)),
    "rows of a judged batch": lambda n: bp.train.evaluate(
        NUMBERS, *NUMBERS.init(), bp.data.Teacher(0, 9, 3, 3), batch_size=n
    ),
}  # fmt: skip


@pytest.mark.parametrize("n", [True, np.True_, 1.5, "1", None], ids=repr)
@pytest.mark.parametrize("what", TRUTHS)
def test_what_is_no_integer_is_refused(what, n):
    refused(lambda: TRUTHS[what](n), "got")


def dtypes():
    """Each library's own name of float32."""
    found = {
        "numpy's type": np.float32,
        "numpy's dtype": np.dtype("float32"),
        "an array's": np.ones(1, "f4").dtype,
    }
    for name, of in (("torch", "torch"), ("jax", "jax.numpy"), ("strict", "array_api_strict")):
        try:
            found[name] = __import__(of, fromlist=["float32"]).float32
        except ImportError:
            continue
    return found


@pytest.mark.parametrize("name", dtypes())
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax", "strict"])
def test_a_dtype_goes_by_any_librarys_name_of_it(name, backend):
    pytest.importorskip({"strict": "array_api_strict"}.get(backend, backend))
    dtype = dtypes()[name]
    w, _ = NUMBERS.init(backend=backend, dtype=dtype)
    assert w.dtype == NUMBERS.init(backend=backend, dtype="float32")[0].dtype
    assert bp.asarray([1.0], backend=backend, dtype=dtype).dtype == w.dtype
    assert str(bp.asarray([1], backend=backend, dtype=np.int32).dtype).endswith("int32")
    refused(lambda: NUMBERS.init(backend=backend, dtype=np.bool_), "'float32'")
    refused(lambda: NUMBERS.init(backend=backend, dtype=np.complex64), "'float32'")


# ---------------------------------------------------------------- weights that were consumed
def test_weights_that_a_compiled_step_consumed_are_named_so():
    pytest.importorskip("jax")
    x = bp.asarray(np.ones((4, 3)), backend="jax")
    index = np.asarray([[0, 1]])
    for consume in ("step", "scan"):
        w, s = NUMBERS.init(backend="jax")
        step = NUMBERS.compile(w)
        new = step(w, s, x, x)[:2] if consume == "step" else step.scan(w, s, x, x, index)[:2]
        assert w.is_deleted()
        source = bp.data.Stored(x, x)
        for action in (
            lambda w=w, s=s: NUMBERS.step(w, s, x, x),
            lambda w=w, s=s, step=step: step(w, s, x, x),
            lambda w=w, s=s, step=step: step.scan(w, s, x, x, index),
            lambda w=w, s=s: NUMBERS.compile(w)(w, s, x, x),
            lambda w=w, s=s: NUMBERS.predict(w, s, x),
            lambda w=w, s=s: NUMBERS.compile_predict(w)(w, s, x),
            lambda w=w, s=s: NUMBERS.snapshot(w, s),
            lambda w=w, s=s: NUMBERS.weights(w),
            lambda w=w, s=s, source=source: bp.fit(NUMBERS, w, s, source),
            lambda w=w, s=s: bp.train.per_sample(NUMBERS, w, s, x, x),
        ):
            refused(action, "consumed", "that it returned", "learner.snapshot")
        packed = step.pack(*new)
        step.scan(*packed, x, x, index)
        refused(lambda step=step, packed=packed: step.scan(*packed, x, x, index), "consumed")


# ---------------------------------------------------------------- large files, losses of one class
LARGE = """
import re, tempfile
from pathlib import Path
import numpy as np, backprop_xp as bp

def anonymous():
    found = re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1000

n, features = 400_000, 320  # 512 MB, mostly holes
with tempfile.TemporaryDirectory() as folder:
    x = np.memmap(Path(folder) / "x", dtype=np.float32, mode="w+", shape=(n, features))
    t = np.memmap(Path(folder) / "t", dtype=np.float32, mode="w+", shape=(n, 1))
    x[::50_000] = 1
    learner = bp.Learner(bp.chain(features, bp.Dense(4, bp.relu), bp.Dense(1)))
    w, s = learner.init()
    learner.predict(w, s, np.asarray(x[:10]))
    before, most = anonymous(), 0
    import threading
    done = threading.Event()

    def watch():
        global most
        while not done.wait(0.002):
            most = max(most, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    source = bp.data.Stored(x, t, bp.losses.sigmoid_cross_entropy)
    o = learner.predict(w, s, x, batch_size=8192)
    done.set()
    watcher.join()
    assert o.shape == (n, 1) and source.window < n
    print(int(most - before))
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="this system does not say what memory is used"
)
def test_a_file_larger_than_memory_is_checked_and_predicted_in_blocks():
    assert int(on_its_own(LARGE)) < 100  # MB, of the 128 that the truths of all numbers alone would take


class Scaled(bp.losses.Loss):
    """A loss with a factor that is no field of a dataclass."""

    def __init__(self, factor):
        object.__setattr__(self, "factor", factor)

    def value(self, o, t, *, xp):
        return self.factor * xp.sum((o - t) ** 2, axis=-1)

    def error(self, o, t, *, xp):
        return 2 * self.factor * (o - t)


def test_two_losses_of_one_class_give_their_own_numbers(place):
    rng = np.random.default_rng(0)
    x, t = place.array(rng.normal(size=(20, 3))), place.array(rng.normal(size=(20, 3)))
    source, found = bp.data.Stored(x, t), {}
    for factor in (1.0, 3.0):
        learner = bp.Learner(NET, Scaled(factor), bp.GradientDescent(0.03 / factor))
        w, s = place.init(learner)
        fitted = bp.fit(learner, w, s, source, epochs=2, batch_size=5)
        found[factor] = (
            fitted.history[0].loss,
            backends.host(fitted.w),
            bp.train.evaluate(learner, w, s, source),
        )
    np.testing.assert_allclose(found[3.0][0], 3 * found[1.0][0], rtol=1e-9)
    np.testing.assert_allclose(found[3.0][1], found[1.0][1], rtol=1e-9)
    np.testing.assert_allclose(found[3.0][2], 3 * found[1.0][2], rtol=1e-9)
