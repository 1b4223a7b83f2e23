"""Sources: any slice equals the whole, teachers agree between libraries, floors are what nets come to."""

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends, rng
from backprop_xp.data import generated as module


def make(place, **settings):
    given = {"seed": 5, "n": 1500, "features": 3, "outputs": 2, "hidden": (4,)} | settings
    return bp.data.Teacher(**given, backend=place.name, device=place.device, dtype=place.dtype)


def host(pair):
    return [backends.host(a) for a in pair]


# ---------------------------------------------------------------- Stored
def test_all_rows_of_stored_data_are_the_arrays_themselves(any_place):
    x, t = any_place.array([[1, 2], [3, 4], [5, 6]]), any_place.array([[1], [2], [3]])
    source = bp.data.Stored(x, t)
    assert source.rows(0, 3)[0] is x
    assert source.rows(0, 3)[1] is t
    assert (source.n, source.features, source.outputs, source.window) == (3, 2, 1, 3)


def test_a_slice_of_stored_data_has_its_rows(any_place):
    x, t = any_place.array([[1, 2], [3, 4], [5, 6]]), any_place.array([0, 1, 2], "int32")
    x, t = host(bp.data.Stored(x, t, bp.softmax_cross_entropy, units=3).rows(1, 3))
    assert x.tolist() == [[3, 4], [5, 6]]
    assert t.tolist() == [1, 2]


def test_labels_tell_how_many_units_there_are():
    assert bp.data.Stored(np.ones((3, 2)), np.asarray([0, 4, 1])).outputs == 5


@pytest.mark.parametrize(
    ("x", "t", "settings", "message"),
    [
        (np.ones((3, 2)), np.full((3, 1), np.nan), {}, "targets must be finite numbers; 3 of 3"),
        (np.asarray([[np.inf]]), np.ones((1, 1)), {}, "inputs must be finite numbers; 1 of 1"),
        (
            np.ones((2, 1)),
            np.asarray([0, 3]),
            {"loss": bp.softmax_cross_entropy, "units": 3},
            "labels must be 0 to 2",
        ),
        (
            np.ones((2, 1)),
            np.full((2, 1), 1.5),
            {"loss": bp.losses.sigmoid_cross_entropy},
            "probabilities from 0 to 1",
        ),
        (np.ones((2, 1)), np.ones((3, 1)), {}, r"targets must have shape \(2, units\)"),
        (np.ones((2, 1)), np.ones(2), {}, r"write t\[:, None\]"),
        (np.ones(2), np.ones((2, 1)), {}, r"write x\[:, None\]"),
        (np.ones((0, 1)), np.ones((0, 1)), {}, "at least one of each"),
        (np.ones((2, 1)), np.ones((2, 1)), {"units": 2}, "one column for each of 2 units"),
        ([[1.0]], np.ones((1, 1)), {}, "got a list"),
    ],
)
def test_data_that_cannot_be_used_are_refused_at_once(x, t, settings, message):
    with pytest.raises(bp.BackpropError, match=message):
        bp.data.Stored(x, t, **settings)


def test_inputs_and_targets_are_of_one_library():
    with pytest.raises(bp.BackpropError, match="arrays of one library"):
        bp.data.Stored(np.ones((1, 1)), bp.asarray([[1]], backend="exact"))


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (2, 1), (-1, 2), (0, 4)])
def test_a_slice_that_is_not_there_is_refused(start, stop):
    for source in (bp.data.Stored(np.ones((3, 1)), np.ones((3, 1))), bp.data.Teacher(0, 3, 1)):
        with pytest.raises(bp.BackpropError, match="0 <= start < stop <= 3"):
            source.rows(start, stop)


# ---------------------------------------------------------------- Teacher
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_slice_equals_the_whole_bit_for_bit(float_place, task, monkeypatch):
    monkeypatch.setattr(module, "_block", lambda features: 256)
    source = make(float_place, task=task)
    whole = host(source.rows(0, 1500))
    for start, stop in ((0, 1), (255, 257), (700, 701), (100, 900), (1499, 1500)):
        for part, all_rows in zip(host(source.rows(start, stop)), whole, strict=True):
            assert np.array_equal(part, all_rows[start:stop])


def test_a_longer_source_begins_with_the_same_rows(float_place):
    short, long = make(float_place, n=300), make(float_place, n=2000)
    for a, b in zip(host(short.rows(0, 300)), host(long.rows(0, 300)), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_libraries_agree_on_inputs_and_labels(float_place, home, task):
    x, t = host(make(float_place, task=task).rows(0, 1500))
    want_x, want_t = host(make(home, task=task).rows(0, 1500))
    if float_place.dtype == "float32":  # made of other bits than float64
        want_x, want_t = host(bp.data.Teacher(5, 1500, 3, 2, hidden=(4,), task=task).rows(0, 1500))
    ulps = 64 * np.finfo(x.dtype).eps
    assert np.allclose(x, want_x, rtol=ulps, atol=ulps)
    if task == "classification":
        assert t.dtype == np.int32
        assert np.mean(t != want_t) < 0.002
    else:
        assert np.allclose(t, want_t, rtol=ulps, atol=4 * ulps)


def test_wrong_labels_are_drawn_alike_in_every_dtype():
    assert np.array_equal(*(_jumps(dtype) for dtype in ("float32", "float64")))


def _jumps(dtype):
    source = bp.data.Teacher(1, 5000, 2, 5, task="classification", noise=0.3, dtype=dtype)
    return backends.host(source._mislabelled(np.zeros(source.block, dtype=np.int32), 0))


def test_wrong_labels_are_as_many_as_said_and_every_other_class_is_met():
    jumps = _jumps("float32")
    shares = np.bincount(jumps, minlength=5) / len(jumps)
    assert np.allclose(shares, [0.7, 0.075, 0.075, 0.075, 0.075], atol=0.015)


def test_inputs_are_standard_normal_and_answers_have_variance_one():
    x, t = bp.data.Teacher(3, 20_000, 3, 2, noise=0.0).rows(0, 20_000)
    for a in (x, t):
        assert np.allclose(a.mean(axis=0), 0, atol=0.05)
        assert np.allclose(a.std(axis=0), 1, atol=0.05)


def test_another_seed_is_another_teacher_with_other_inputs():
    (x, _), (y, _) = (bp.data.Teacher(seed, 100, 2).rows(0, 100) for seed in (0, 1))
    assert not np.any(x == y)


def test_a_student_with_the_teachers_seed_does_not_begin_as_the_teacher():
    source = bp.data.Teacher(0, 10, 2, hidden=(3,))
    w, _ = bp.Learner(source.net).init(0, dtype="float64")
    assert not np.any(np.isclose(bp.Learner(source.net).weights(w)["dense1.w"], source.weights["dense1.w"]))


REGRESSION = [
    bp.half_squared_error,
    bp.losses.squared_error,
    bp.losses.mean_squared_error,
    bp.losses.mean_absolute_error,
]


@pytest.mark.parametrize("loss", REGRESSION, ids=lambda loss: type(loss).__name__)
def test_the_teacher_itself_comes_to_the_floor_of_regression(loss):
    source = bp.data.Teacher(2, 40_000, 3, 2, noise=0.3)
    learner = bp.Learner(source.net, loss)
    got = learner.losses(*learner.init(weights=source.weights), *source.rows(0, source.n)).mean()
    assert got == pytest.approx(source.floor(loss), rel=0.02)


def test_the_wrong_answers_alone_come_to_the_floor_of_classification():
    source = bp.data.Teacher(2, 40_000, 3, 4, task="classification", noise=0.2)
    x, t = source.rows(0, source.n)
    teacher = bp.Learner(source.net)
    best = np.argmax(teacher.predict(*teacher.init(weights=source.weights), x), axis=1)
    o = np.log(np.where(np.eye(4)[best] == 1, 0.8, 0.2 / 3))
    loss = bp.softmax_cross_entropy
    got = loss.value(o, loss.encode(t, o, xp=np), xp=np).mean()
    assert got == pytest.approx(source.floor(loss), rel=0.02)
    assert source.floor(loss) == source.floor(bp.losses.categorical_cross_entropy)


def test_without_noise_the_floor_is_zero():
    assert bp.data.Teacher(0, 1, 1, 2, task="classification", noise=0).floor(bp.softmax_cross_entropy) == 0
    assert bp.data.Teacher(0, 1, 1, noise=0).floor(bp.losses.mean_absolute_error) == 0


def test_a_floor_that_is_not_known_is_an_error():
    with pytest.raises(bp.BackpropError, match="SoftmaxCrossEntropy on regression is not known"):
        bp.data.Teacher(0, 1, 1).floor(bp.softmax_cross_entropy)
    with pytest.raises(bp.BackpropError, match="HalfSquaredError on classification is not known"):
        bp.data.Teacher(0, 1, 1, 2, task="classification").floor(bp.half_squared_error)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "a seed must be an integer"),
        ({"seed": 2**32}, "a seed must be an integer"),
        ({"n": 0}, "the number of rows"),
        ({"features": 0}, "the number of features"),
        ({"window": -1}, "the window of rows"),
        ({"task": "ranking"}, "'regression' or 'classification'"),
        ({"noise": -1}, "a standard deviation"),
        ({"noise": float("nan")}, "a standard deviation"),
        ({"task": "classification", "outputs": 3, "noise": 1}, "a probability"),
        ({"task": "classification", "outputs": 1}, "2 or more classes"),
        ({"backend": "exact"}, "the exact backend lacks"),
    ],
)
def test_a_teacher_with_impossible_settings_is_refused(settings, message):
    with pytest.raises(bp.BackpropError, match=message):
        bp.data.Teacher(**{"seed": 0, "n": 10, "features": 2} | settings)


def test_a_teacher_follows_the_array_it_is_given(float_place):
    like = float_place.array([[1.0]])
    x, t = bp.data.Teacher(0, 10, 2, like=like).rows(0, 10)
    for a in (x, t):
        assert a.dtype == like.dtype
        assert backends.of(a) is backends.of(like)
        assert backends.of(a).device_of(a) == backends.of(like).device_of(like)


def test_row_counters_may_pass_32_bits():
    start = (1 << 32) + 5
    source = bp.data.Teacher(0, start + 10, 1, hidden=())
    x, _ = source.rows(start, start + 2)
    pair = rng.normal(rng.bits(0, module.INPUTS, start, 2, xp=np), np.float32, xp=np)
    assert np.allclose(x[:, 0], pair[0], rtol=1e-5)
