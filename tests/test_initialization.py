"""Initial values: what initializers draw, where they are given, and that they are equal everywhere."""

import inspect
from hashlib import sha256
from math import prod, sqrt

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends, initial
from backprop_xp.errors import BackpropError
from backprop_xp.initialization import (
    ALL,
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Initializer,
    LeCunNormal,
    LeCunUniform,
    Orthogonal,
    Uniform,
)
from backprop_xp.params import Param

FANS = (300, 200)
NORMALS = {HeNormal(): sqrt(2 / 300), GlorotNormal(): sqrt(2 / 500), LeCunNormal(): sqrt(1 / 300)}
UNIFORMS = {
    HeUniform(): (-sqrt(6 / 300), sqrt(6 / 300)),
    GlorotUniform(): (-sqrt(6 / 500), sqrt(6 / 500)),
    LeCunUniform(): (-sqrt(3 / 300), sqrt(3 / 300)),
    Uniform(-0.5, 2): (-0.5, 2),
}
EVERY = [*NORMALS, *UNIFORMS, Constant(0.25), Orthogonal(1.5)]

NET = bp.chain(6, bp.Dense(5, bp.relu), bp.Dense(4, bp.tanh), bp.Dense(3))
SMALL = bp.Learner(NET)


def drawn(initializer, shape=FANS, seed=7):
    """One block drawn from an initializer."""
    ((_, parts),) = initial.initial_values({"w": Param(shape)}, seed, 0, {"w": initializer})
    return np.concatenate(list(parts))


# ---------------------------------------------------------------- what they draw
def test_every_initializer_stands_in_the_list_and_in_these_tests():
    made = {
        each
        for each in vars(bp.initialization).values()
        if inspect.isclass(each) and issubclass(each, Initializer) and not inspect.isabstract(each)
    }
    assert made == set(ALL.values()) == {type(each) for each in EVERY}


@pytest.mark.parametrize("initializer", NORMALS, ids=str)
def test_normal_initializers_have_the_moments_of_their_formula(initializer):
    w, sigma, n = drawn(initializer), NORMALS[initializer], prod(FANS)
    assert abs(w.mean()) < 4 * sigma / sqrt(n)  # four standard errors, of a fixed seed
    assert abs(w.var() / sigma**2 - 1) < 4 * sqrt(2 / n)
    for k, share in ((1, 0.682689), (2, 0.954500), (3, 0.997300)):
        assert abs((abs(w) < k * sigma).mean() - share) < 4 * sqrt(share * (1 - share) / n)
    assert abs(w).max() > 3.5 * sigma  # not truncated


@pytest.mark.parametrize("initializer", UNIFORMS, ids=str)
def test_uniform_initializers_fill_their_range_evenly(initializer):
    w, (low, high), n = drawn(initializer), UNIFORMS[initializer], prod(FANS)
    assert low <= w.min() < low + 1e-3 * (high - low)
    assert high - 1e-3 * (high - low) < w.max() < high
    counts, _ = np.histogram(w, 10, (low, high))
    assert ((counts - n / 10) ** 2 / (n / 10)).sum() < 27.9  # χ² of 9 degrees of freedom, 1 in 1,000


@pytest.mark.parametrize("shape", [(40, 40), (50, 20), (20, 50), (1, 30)], ids=str)
def test_orthogonal_matrices_are_orthogonal_to_rounding(shape):
    w = drawn(Orthogonal(3), shape).reshape(shape)
    product = w.T @ w if shape[0] >= shape[1] else w @ w.T
    np.testing.assert_allclose(product, 9 * np.eye(min(shape)), rtol=0, atol=9e-12)


def test_orthogonal_matrices_favour_no_sign():
    entries = [drawn(Orthogonal(), (2, 2), seed).reshape(2, 2)[k, k] for seed in range(200) for k in (0, 1)]
    assert abs(np.mean(entries)) < 4 * sqrt(0.5 / 400)  # LAPACK's own Q has a mean of −2/π in the corner


def test_a_constant_is_that_everywhere():
    assert set(drawn(Constant(-3))) == {-3.0}


# ---------------------------------------------------------------- the bits
@pytest.mark.parametrize("initializer", EVERY, ids=str)
def test_parts_of_any_length_give_the_same_bits(initializer, monkeypatch):
    shape = (90_000, 1)
    ((_, parts),) = initial.initial_values({"w": Param(shape)}, 3, 0, {"w": initializer})
    parts = list(parts)
    assert [len(part) for part in parts] == ([90_000] if initializer.whole else [65_536, 90_000 - 65_536])
    monkeypatch.setattr(initial, "_AT_ONCE", 20_011)
    assert drawn(initializer, shape, 3).tobytes() == np.concatenate(parts).tobytes()


def test_every_backend_begins_with_the_same_numbers(any_place, home):
    learner = bp.Learner(bp.chain(6, *(bp.Dense(5, bp.tanh) for _ in EVERY)))
    table = {f"dense{k + 1}": each for k, each in enumerate(EVERY)}
    at_home, _ = home.init(learner, 11, initial=table)
    w, _ = any_place.init(learner, 11, initial=table)
    kind = "float64" if any_place.name == "exact" else any_place.dtype
    assert backends.host(w).tobytes() == at_home.astype(kind).tobytes()
    assert (
        any_place.backend.device_of(w) == any_place.backend.device(any_place.device) or not any_place.device
    )


def test_initial_values_of_layers_keep_their_bits():
    w, _ = bp.Learner(bp.chain(300, bp.Dense(400, bp.relu), bp.Dense(7, bp.tanh))).init(5)
    assert sha256(w.tobytes()).hexdigest().startswith("7e7b437b6634ce68")


def test_dense_layers_begin_with_what_they_say():
    w, _ = SMALL.init(2, dtype="float64")
    said = {"dense1.w": HeUniform(), "*.w": GlorotUniform(), "*.b": Constant(0)}
    assert SMALL.init(2, dtype="float64", initial=said)[0].tobytes() == w.tobytes()


def test_one_block_given_leaves_the_others_as_they_were():
    before = SMALL.weights(SMALL.init(4)[0])
    after = SMALL.weights(SMALL.init(4, initial={"dense2.w": Orthogonal()})[0])
    assert {b for b in before if before[b].tobytes() != after[b].tobytes()} == {"dense2.w"}


# ---------------------------------------------------------------- where they are given
@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"*.w": HeNormal(), "dense2": Constant(1)},
         {"dense1.w": HeNormal(), "dense2.w": HeNormal(), "dense3.w": HeNormal(), "dense2.b": Constant(1)}),
        ({"dense2": Constant(1), "dense[12].w": HeNormal()},
         {"dense1.w": HeNormal(), "dense2.w": Constant(1), "dense2.b": Constant(1)}),
        (LeCunNormal(), dict.fromkeys(["dense1.w", "dense2.w", "dense3.w"], LeCunNormal())),
        ({"*": Orthogonal(), "*.b": Constant(1)},
         {**dict.fromkeys(["dense1.w", "dense2.w", "dense3.w"], Orthogonal()),
          **dict.fromkeys(["dense1.b", "dense2.b", "dense3.b"], Constant(1))}),
        (Constant(1), dict.fromkeys(NET.shapes, Constant(1))),
        ({}, {}),
        (None, {}),
    ],
    ids=["pattern first", "layer first", "one for all", "biases pass", "constant for all", "empty", "none"],
)  # fmt: skip
def test_the_first_that_names_a_block_and_fits_it_is_its_initializer(given, found):
    assert initial.chosen_initializers(given, NET.shapes) == found


def test_frozen_blocks_begin_so_too():
    learner = bp.Learner(NET.freeze("dense1"))
    w, _ = learner.init(0, initial={"dense1.b": Constant(2)})
    assert learner.weights(w)["dense1.b"].tolist() == [2.0] * 5


def test_weights_that_are_given_go_before_initializers():
    w, _ = SMALL.init(0, initial=Constant(2), weights={"dense3.b": [5, 6, 7]}, partial=True)
    assert SMALL.weights(w)["dense3.b"].tolist() == [5, 6, 7]
    assert set(w.tolist()) == {2.0, 5.0, 6.0, 7.0}


class Ramp(Initializer):
    """0, 1, 2, … over the block, in parts of any length."""

    whole = True

    def numbers(self, words, shape, *, xp):
        return xp.astype(xp.arange(words[0].shape[0]), xp.float64)


class Scalar(Initializer):
    """A number in place of a vector."""

    def numbers(self, words, shape, *, xp):
        return 1.0


def test_an_initializer_of_ones_own_is_a_formula():
    w, _ = SMALL.init(0, initial={"dense3.w": Ramp()})
    assert SMALL.weights(w)["dense3.w"].tolist() == np.arange(12.0).reshape(4, 3).tolist()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SMALL.init(initial={"dense9.w": HeNormal()}), "no 'dense9.w'"),
        (lambda: SMALL.init(initial={"*.w": HeNormal}), "got the class HeNormal: write HeNormal()"),
        (lambda: SMALL.init(initial={"*.w": 0.1}), "'*.w' must come from an initializer"),
        (lambda: SMALL.init(initial="he"), "bp.initialization.HeNormal(), got 'he'"),
        (lambda: SMALL.init(initial={"*.b": HeNormal()}), "'*.b' names: dense1.b of shape (5,), dense2.b"),
        (lambda: SMALL.init(initial={"*.b": Scalar()}), "a vector of 5 numbers, got 1.0"),
        (lambda: Constant("0.1"), "the value of Constant must be a finite number, got '0.1'"),
        (lambda: Constant(float("nan")), "must be a finite number, got nan"),
        (lambda: Constant(True), "must be a finite number, got True"),
        (lambda: Uniform(1, 1), "low < high, got 1 and 1"),
        (lambda: Uniform(-1e308, 1e308), "low < high"),
        (lambda: Uniform(None, 1), "the lower end of Uniform"),
        (lambda: Orthogonal(float("inf")), "the gain of Orthogonal"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(make, words):
    with pytest.raises(BackpropError) as caught:
        make()
    assert words in str(caught.value)
