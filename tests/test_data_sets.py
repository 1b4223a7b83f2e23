"""Synthetic sets: any slice equals the whole, formulas hold, and what is said to be known is true."""

import pickle

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends
from backprop_xp.data import generated, sets

SETS = {
    "teacher": {"features": 3, "outputs": 2, "noise": 0.2},
    "hidden_manifold": {"features": 5, "outputs": 3, "task": "classification", "latent": 3, "noise": 0.2},
    "gaussian_mixture": {"features": 4, "outputs": 3},
    "two_spirals": {"noise": 0.1},
    "checkerboard": {"features": 3, "squares": 3, "noise": 0.1},
    "parity": {"features": 4, "noise": 0.1},
    "friedman1": {"features": 6},
    "sinusoids": {"features": 2, "outputs": 2},
    "higgs_shaped": {},
    "three_rows": {},
}
BIT_EQUAL = {"checkerboard", "parity", "three_rows"}


def made(name, place=None, n=1100, **more):
    where = {} if place is None else {"backend": place.name, "device": place.device, "dtype": place.dtype}
    return sets.ALL[name](3, n, **SETS[name] | where | more)


def host(pair):
    return [backends.host(a) for a in pair]


def test_every_set_is_tested():
    assert set(SETS) == set(sets.ALL)
    assert all(getattr(bp.data, kind.__name__) is kind for kind in sets.ALL.values())


@pytest.mark.parametrize("name", SETS)
def test_any_slice_equals_the_whole(name, monkeypatch):
    monkeypatch.setattr(generated, "_block", lambda features: 256)
    source, longer = made(name), made(name, n=3000)
    whole = source.rows(0, 1100)
    assert source.features == whole[0].shape[1]
    assert whole[1].ndim == (1 if source.task == "classification" else 2)
    for start, stop in ((0, 1), (255, 257), (256, 512), (700, 701), (100, 900), (1099, 1100)):
        for part, again, rows in zip(source.rows(start, stop), longer.rows(start, stop), whole, strict=True):
            assert np.array_equal(part, rows[start:stop])
            assert np.array_equal(part, again)


@pytest.mark.parametrize("name", sorted(set(SETS) - {"teacher"}))  # of which other tests tell
def test_libraries_agree(name, float_place, monkeypatch):
    monkeypatch.setattr(generated, "_block", lambda features: 256)
    x, t = host(made(name, float_place, n=300).rows(0, 300))
    want_x, want_t = made(name, n=300, dtype=float_place.dtype).rows(0, 300)
    assert x.dtype == float_place.dtype
    assert t.dtype == want_t.dtype
    if name in BIT_EQUAL:
        assert np.array_equal(x, want_x)
        assert np.array_equal(t, want_t)
        return
    ulps = 256 * np.finfo(x.dtype).eps
    assert np.allclose(x, want_x, rtol=ulps, atol=ulps)
    assert np.mean(~np.isclose(t, want_t, rtol=8 * ulps, atol=8 * ulps)) < 0.01


@pytest.mark.parametrize("name", SETS)
def test_a_pickled_set_generates_the_same_rows(name, monkeypatch):
    monkeypatch.setattr(generated, "_block", lambda features: 256)
    source = made(name)
    again = pickle.loads(pickle.dumps(source))
    assert repr(again) == repr(source)
    for a, b in zip(source.rows(5, 40), again.rows(5, 40), strict=True):
        assert np.array_equal(a, b)


def best(name, x, **settings):
    """The best possible answers, from the inputs alone."""
    if name == "checkerboard":
        return np.floor(settings["squares"] * (x + 1) / 2).sum(axis=1).astype(int) % 2
    if name == "parity":
        return (x[:, :3] > 0).sum(axis=1) % 2
    if name == "two_spirals":
        radius = np.hypot(*x.T)
        turned = np.arctan2(x[:, 1], x[:, 0]) - 6 * np.pi * radius
        return (np.cos(turned) < 0).astype(int)
    energies, momenta, masses = x[:, :14], x[:, 14:21], x[:, 21:]
    assert np.allclose(masses**2, energies[:, ::2] * energies[:, 1::2], rtol=1e-4)
    u = (momenta - 2 * np.sin(8 * np.log(masses))).sum(axis=1) / np.sqrt(7)
    return (u > 0.83 + np.log(0.47 / 0.53) / 1.66).astype(int)


@pytest.mark.parametrize("name", ["checkerboard", "parity", "two_spirals", "higgs_shaped"])
def test_the_best_possible_answers_come_to_the_bayes_error(name):
    source = made(name, n=20_000)
    x, t = source.rows(0, source.n)
    # four standard deviations of a share of 20,000 rows
    assert np.mean(best(name, x.astype("float64"), **SETS[name]) != t) == pytest.approx(
        source.bayes_error, abs=0.012
    )


@pytest.mark.parametrize("classes", [2, 5])
def test_the_nearest_mean_comes_to_the_bayes_error_of_a_mixture(classes):
    source = bp.data.GaussianMixture(1, 20_000, 6, classes, distance=1.5, dtype="float64")
    x, t = source.rows(0, source.n)
    means = source._means
    apart = np.linalg.norm(means[:, None] - means[None], axis=2)
    assert np.allclose(apart + 1.5 * np.eye(classes), 1.5)
    logits = x @ means.T - 0.5 * (means**2).sum(axis=1)
    assert np.mean(np.argmax(logits, axis=1) != t) == pytest.approx(source.bayes_error, abs=0.014)
    if classes == 2:
        loss = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(t)), t])
        assert loss == pytest.approx(source.floor(bp.softmax_cross_entropy), abs=0.012)


def test_the_floor_of_higgs_shaped_rows_is_that_of_its_two_normals():
    source = made("higgs_shaped", n=40_000, dtype="float64")
    x, t = source.rows(0, source.n)
    u = (x[:, 14:21] - 2 * np.sin(8 * np.log(x[:, 21:]))).sum(axis=1) / np.sqrt(7)
    logit = 1.66 * u - 1.66**2 / 2 + np.log(0.53 / 0.47)
    loss = np.mean(np.logaddexp(0, logit) - t * logit)
    assert loss == pytest.approx(source.floor(bp.softmax_cross_entropy), abs=0.01)


def test_friedman1_is_its_formula():
    x, t = bp.data.Friedman1(2, 500, noise=0, dtype="float64").rows(0, 500)
    want = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    assert np.allclose(t[:, 0], want, rtol=1e-14)


def test_sinusoids_have_variance_one_whatever_their_number(monkeypatch):
    monkeypatch.setattr(generated, "_block", lambda features: 512)
    for terms in (1, 30):
        found = [bp.data.Sinusoids(seed, 500, 3, terms=terms, noise=0).rows(0, 500)[1] for seed in range(20)]
        assert np.mean(np.square(found)) == pytest.approx(1, abs=0.15)


def test_points_of_a_manifold_lie_on_few_dimensions():
    x, _ = bp.data.HiddenManifold(0, 200, 30, latent=3, dtype="float64").rows(0, 200)
    assert np.linalg.matrix_rank(np.arctanh(x), tol=1e-6) == 3


def test_the_articles_rows_are_those_of_the_article_and_are_learnt_exactly():
    x, t = bp.data.ThreeRows(n=5, backend="exact").rows(1, 4)
    w = bp.asarray([["1/200"], [0], ["1/3000"]], like=x)
    assert (x @ w).tolist()[0] == [1]
    assert t.tolist() == [[1], [1], [0]]


def test_noise_of_regression_is_as_loud_as_said():
    silent, loud = (made("friedman1", n=20_000, noise=sigma).rows(0, 20_000)[1] for sigma in (0, 3))
    assert np.std(loud - silent) == pytest.approx(3, rel=0.02)


def test_numbers_have_no_bayes_error_and_a_mixture_of_three_no_known_floor():
    with pytest.raises(bp.BackpropError, match="numbers as targets"):
        _ = made("friedman1").bayes_error
    with pytest.raises(bp.BackpropError, match=r"SoftmaxCrossEntropy on classification is not known$"):
        made("gaussian_mixture").floor(bp.softmax_cross_entropy)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("hidden_manifold", {"latent": 6}, "as many features"),
        ("gaussian_mixture", {"outputs": 5}, "as many features"),
        ("gaussian_mixture", {"distance": -1}, "distance must be a number from 0"),
        ("two_spirals", {"turns": "3"}, "turns must be a number"),
        ("two_spirals", {"noise": 1}, "a probability"),
        ("checkerboard", {"squares": 0}, "the number of squares"),
        ("parity", {"relevant": 5}, "relevant <= features"),
        ("friedman1", {"features": 4}, "5 features or more"),
        ("sinusoids", {"terms": 0}, "the number of terms"),
        ("higgs_shaped", {"seed": -1}, "a seed"),
    ],
)
def test_impossible_settings_are_refused(name, settings, message):
    with pytest.raises(bp.BackpropError, match=message):
        sets.ALL[name](**{"seed": 0, "n": 10} | SETS[name] | settings)
