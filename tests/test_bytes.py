"""Bytes as inputs: what is done with them is what is done with the numbers x / 255."""

import tracemalloc

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends
from backprop_xp.compiler.cpu import scalar_source

NET = bp.chain(6, bp.Dense(5, bp.tanh), bp.Dense(3))
LEARNERS = {
    "adam": bp.Learner(NET, bp.softmax_cross_entropy, bp.Adam(0.01)),
    "layer by layer": bp.Learner(NET, bp.softmax_cross_entropy, order="layer by layer"),
}
ADAM = LEARNERS["adam"]
DRAW = np.random.default_rng(0)
X, T = DRAW.integers(0, 256, (20, 6), dtype=np.uint8), DRAW.integers(0, 3, 20).astype(np.int32)
ROWS = DRAW.integers(0, 20, (9, 4))


def both(place):
    """The bytes, and the numbers they stand for, in the arithmetic of the place."""
    return place.array(X, "uint8"), place.array(X) / 255


def trained(learner, place, x):
    """All that is found with inputs: predictions, losses, gradients, and weights of each way to train."""
    (w, s), t = place.init(learner), place.array(T, "int32")
    yield learner.predict(w, s, x)
    yield learner.losses(w, s, x, t)
    yield from learner.gradient(w, s, x, t).values()
    yield bp.trace(learner, w, s, x, t)["input"].o
    yield bp.fit(learner, w, s, bp.data.Stored(x, t), batch_size=10).w
    yield bp.train.per_sample(learner, w, s, x, t)[2]
    step = learner.compile(w)
    w, s, _ = learner.step(w, s, x, t)
    w, s, _ = step(w, s, x, t)
    w, _, losses = step.scan(w, s, x, t, place.array(ROWS, "int64"))
    yield from (w, losses)


def test_bytes_are_numbers_from_0_to_1_wherever_inputs_are_taken(float_place):
    close = 1e-12 if float_place.dtype == "float64" else 1e-5
    each = (trained(ADAM, float_place, x) for x in both(float_place))
    for found, expected in zip(*each, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(backends.host(found), backends.host(expected), rtol=close, atol=close)


@pytest.mark.parametrize("name", LEARNERS)
def test_replayed_bytes_are_the_numbers_bit_for_bit(name, home, monkeypatch):
    monkeypatch.setattr(scalar_source, "MOST", 0)
    found, expected = (list(trained(LEARNERS[name], home, x)) for x in both(home))
    assert all(map(np.array_equal, found, expected))


def test_bytes_go_through_single_numbers(home, monkeypatch):
    monkeypatch.setattr(scalar_source, "MOST", 10_000)
    learner = bp.Learner(bp.chain(6, bp.layers.Linear(3)))
    x, z = both(home)
    w, s = home.init(learner)
    step = learner.compile(w)
    found, _, _ = step.scan(*learner.snapshot(w, s), x, z[:, :3], ROWS)
    assert list(step.unrolled.values()) != [None]
    for rows in ROWS:
        w, s, _ = learner.step(w, s, z[rows], z[rows, :3])
    np.testing.assert_allclose(found, w, rtol=1e-12)


def test_inputs_of_other_types_are_refused_with_the_two_that_are_taken(float_place):
    w, s = float_place.init(ADAM)
    t = float_place.array(T, "int32")
    other = "float32" if float_place.dtype == "float64" else "float64"
    for dtype in ("int32", "int64", other):
        x = float_place.array(X, dtype)
        for asked in (
            lambda x=x: ADAM.step(w, s, x, t),
            lambda x=x: ADAM.compile(w)(w, s, x, t),
            lambda x=x: ADAM.predict(w, s, x),
            lambda x=x: bp.fit(ADAM, w, s, bp.data.Stored(x, t)),
        ):
            with pytest.raises(bp.BackpropError, match=rf"{float_place.dtype}, or uint8, .*; got .*{dtype}"):
                asked()


def test_fractions_have_no_bytes():
    learner = bp.Learner(bp.chain(1, bp.layers.Linear(1)))
    w, s = learner.init(backend="exact")
    with pytest.raises(bp.BackpropError, match="dtype rational; got int64"):
        learner.predict(w, s, bp.exact.asarray(np.asarray([[1]])))
    with pytest.raises(bp.BackpropError, match=r"write bp.asarray\(x, like=w\)"):
        learner.predict(w, s, np.asarray([[1]], dtype="uint8"))
    with pytest.raises(bp.BackpropError, match="'rational', 'int32', 'int64'"):
        bp.asarray([1], like=w, dtype="uint8")


def test_who_moves_bytes_is_told_how_they_stay_bytes():
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    w, s = ADAM.init(backend="strict", device="device1")
    for x in (X, strict.asarray(X)):
        with pytest.raises(bp.BackpropError, match=r"write bp.asarray\(., like=w, dtype='uint8'\)"):
            ADAM.predict(w, s, x)
    assert ADAM.predict(w, s, bp.asarray(X, like=w, dtype="uint8")).shape == (20, 3)
    with pytest.raises(bp.BackpropError, match="300 out of bounds"):
        bp.asarray([300], dtype="uint8")


def test_a_file_of_bytes_is_never_in_memory(tmp_path):
    shape = (4096, 1024)
    np.save(tmp_path / "x.npy", np.zeros(shape, dtype="uint8"))
    x, t = np.load(tmp_path / "x.npy", mmap_mode="r"), np.zeros(4096, dtype="int32")
    learner = bp.Learner(bp.chain(1024, bp.Dense(2)), bp.softmax_cross_entropy)
    w, s = learner.init()
    tracemalloc.start()
    try:
        source = bp.data.Stored(x, t, learner.loss, units=2)
        assert source.rows(0, 4096)[0] is x
        bp.fit(learner, w, s, source, batch_size=64)
        assert tracemalloc.get_traced_memory()[1] < x.nbytes / 2
    finally:
        tracemalloc.stop()


def test_labels_of_one_byte_do_not_wrap_around(any_place):
    if any_place.name == "exact":
        pytest.skip("exact integers have no width")
    o = any_place.array(np.zeros((1, 300)))
    rows = bp.softmax_cross_entropy.encode(any_place.array([0], "uint8"), o, xp=backends.of(o).xp)
    assert backends.host(rows).sum() == 1
