"""Losses against Torch, at their extremes and kinks; their settings; sample weights with each of them."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends, losses
from backprop_xp.losses import (
    CategoricalCrossEntropy,
    Huber,
    NegativeLogLikelihood,
    Quantile,
    SoftmaxCrossEntropy,
)

OTHERS = {"huber, delta 2.5": Huber(2.5), "quantile 0.9": Quantile(0.9)}
LOSSES = losses.ALL | OTHERS
OF_PROBABILITIES = {"binary_cross_entropy", "categorical_cross_entropy"}
ON_CLASSES = {  # each with the activation that makes its output of net input, in Torch's words
    SoftmaxCrossEntropy: lambda z: z,
    CategoricalCrossEntropy: lambda z: z.softmax(1),
    NegativeLogLikelihood: lambda z: z.log_softmax(1),
}
RATIONAL = ["half_squared_error", "squared_error", "mean_squared_error", "mean_absolute_error", "hinge"]
RATIONAL += ["huber", "quantile", "negative_log_likelihood"]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def targets(kind, shape, rng):
    return {
        "numbers": lambda: 3 * rng.normal(size=shape),
        "counts": lambda: rng.poisson(2.0, size=shape).astype(float),
        "signs": lambda: rng.choice([-1.0, 1.0], size=shape),
        "probabilities": lambda: rng.choice([0, 1, 0.25, rng.random()], size=shape),
        "distribution": lambda: rng.dirichlet(np.ones(shape[1]), size=shape[0]),
    }[kind]()


# ---------------------------------------------------------------- against Torch
def by_torch(name, o, t):
    """The loss of each row in Torch's words."""
    import torch
    from torch.nn import functional as f

    def mean(function, **settings):
        return function(o, t, reduction="none", **settings).mean(1)

    return {
        "half_squared_error": lambda: f.mse_loss(o, t, reduction="none").sum(1) / 2,
        "squared_error": lambda: f.mse_loss(o, t, reduction="none").sum(1),
        "mean_squared_error": lambda: mean(f.mse_loss),
        "mean_absolute_error": lambda: mean(f.l1_loss),
        "binary_cross_entropy": lambda: -(torch.xlogy(t, o) + torch.xlogy(1 - t, 1 - o)).mean(1),
        "categorical_cross_entropy": lambda: -torch.xlogy(t, o).sum(1),
        "sigmoid_cross_entropy": lambda: mean(f.binary_cross_entropy_with_logits),
        "softmax_cross_entropy": lambda: f.cross_entropy(o, t, reduction="none"),
        "huber": lambda: mean(f.huber_loss),
        "huber, delta 2.5": lambda: mean(f.huber_loss, delta=2.5),
        "quantile": lambda: mean(f.l1_loss) / 2,
        "quantile 0.9": lambda: torch.maximum(0.9 * (t - o), 0.1 * (o - t)).mean(1),
        "poisson": lambda: mean(f.poisson_nll_loss),
        "hinge": lambda: f.margin_ranking_loss(o, 0 * o, t, margin=1, reduction="none").mean(1),
        "negative_log_likelihood": lambda: f.kl_div(o, t, reduction="none").sum(1) - torch.xlogy(t, t).sum(1),
    }[name]()


def points(name, rng, n=10_000, units=4):
    """Outputs of every size, up to ±10⁴, or probabilities; a quarter of the rows are extreme."""
    shape = (n // units, units)
    if name in OF_PROBABILITIES:
        o = rng.random(shape)
        o[::4] = rng.choice([1e-300, 1e-30, 1e-9, 1 - 1e-9, 1 - 2**-53], size=o[::4].shape)
        return o
    o = rng.normal(size=shape) * 10.0 ** rng.integers(-3, 2, size=shape)
    extremes = [-1e4, -710.5, -30, -0.0, 0, 1e-300, 30, 700] + [1e4] * (name != "poisson")
    o[::4] = rng.choice(extremes, size=o[::4].shape)
    return o


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_errors_equal_those_of_torch(name, torch):
    rng, loss = np.random.default_rng(5), LOSSES[name]
    o = points(name, rng)
    t = targets(loss.targets, o.shape, rng)
    leaf = torch.tensor(o, requires_grad=True)
    value = by_torch(name, leaf, torch.tensor(t))
    value.sum().backward()
    # Sums of four terms, each right to some units in its last place; ln(1 - o) has those of 1 - o alone.
    size = abs(o).max(axis=1) if name not in OF_PROBABILITIES else 1
    np.testing.assert_array_less(
        abs(loss.value(o, t, xp=np) - value.detach().numpy()),
        1e-14 * (1 + 9 * size + 9 * abs(value.detach().numpy())),
    )
    np.testing.assert_allclose(loss.error(o, t, xp=np), leaf.grad.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", LOSSES)
def test_errors_are_central_differences_off_the_kinks(name):
    rng, loss = np.random.default_rng(6), LOSSES[name]
    o = rng.uniform(0.2, 0.8, size=(50, 3)) if name in OF_PROBABILITIES else 2 * rng.normal(size=(50, 3))
    t = targets(loss.targets, o.shape, rng)
    h = 1e-6
    kinks = np.stack([o - t, abs(o - t) - 1, abs(o - t) - 2.5, t * o - 1])
    off = (abs(kinks) > 2 * h).all(axis=0)
    assert off.mean() > 0.99
    e = np.stack([
        loss.value(o + h * unit, t, xp=np) - loss.value(o - h * unit, t, xp=np) for unit in np.eye(3)
    ], axis=1) / (2 * h)  # fmt: skip
    np.testing.assert_allclose(loss.error(o, t, xp=np)[off], e[off], rtol=1e-7, atol=1e-8)


KINKS = {
    "mean_absolute_error": ([[2.0, 2.0]], [[2.0, 1.0]], [[0.0, 0.5]]),
    "huber": ([[1.0, -1.0]], [[0.0, 0.0]], [[0.5, -0.5]]),  # at ±δ both sides agree
    "quantile 0.9": ([[2.0, 2.0]], [[2.0, 3.0]], [[0.0, -0.45]]),
    "hinge": ([[1.0, 0.5]], [[1.0, 1.0]], [[0.0, -0.5]]),
}


@pytest.mark.parametrize("name", KINKS)
def test_the_error_at_a_kink_is_the_documented_one(name):
    o, t, e = map(np.asarray, KINKS[name])
    np.testing.assert_array_equal(LOSSES[name].error(o, t, xp=np), e)


# ---------------------------------------------------------------- extremes
def ends(name, dtype):
    """Outputs at the ends of what a loss can take: of squares the root of the largest number."""
    most, tiny = np.finfo(dtype).max, np.finfo(dtype).tiny
    if name in OF_PROBABILITIES:
        return [tiny, 0.5, 1 - np.finfo(dtype).epsneg]
    high = low = {"softmax_cross_entropy": most / 2, "huber, delta 2.5": most / 2.5}.get(name, most)
    if "squared" in name:
        high = low = np.sqrt(most) / 2
    if name == "poisson":
        high = np.floor(np.log(most))
    return [-low, -1e4, -tiny, 0, tiny, min(1e4, high), high]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_no_output_up_to_the_ends_of_the_dtype_gives_infinity_or_a_warning(name, dtype):
    loss = LOSSES[name]
    columns = ends(name, dtype)
    if loss.targets == "distribution":  # pairs: of each, the first is right, the second, or both a little
        o = [[a, b] for a in columns for b in columns]
        rows = [[1, 0], [0, 1], [0.25, 0.75], [0, 0]]
    else:
        o = [[a] for a in columns]
        rows = {"signs": [[-1], [1]], "counts": [[0], [1]]}.get(loss.targets, [[0], [1], [0.25]])
    for row in rows:
        at = np.asarray(o, dtype)
        t = np.broadcast_to(np.asarray(row, dtype), at.shape)
        for found in (loss.value(at, t, xp=np), loss.error(at, t, xp=np), loss.link(at, xp=np)):
            assert found.dtype == dtype
            assert np.isfinite(found).all()


def test_probabilities_of_0_and_1_that_are_right_cost_nothing():
    o = np.asarray([[0.0, 1.0]])
    for loss in (losses.binary_cross_entropy, losses.categorical_cross_entropy):
        assert loss.value(o, o, xp=np).tolist() == [0]
        assert np.isfinite(loss.error(o, o, xp=np)).all()


@pytest.mark.parametrize(("dtype", "last"), [("float32", 88), ("float64", 709)])
@pytest.mark.parametrize("loss", [losses.poisson, losses.negative_log_likelihood], ids=["poisson", "nll"])
def test_a_rate_that_the_dtype_cannot_hold_is_predicted_as_a_large_one(loss, dtype, last):
    o = np.asarray([[last, 1e4, np.finfo(dtype).max, -1e4]], dtype)
    with np.errstate(all="raise", under="ignore"):
        found = loss.link(o, xp=np)
    assert found[0, 0] == found[0, 1] == found[0, 2] > np.finfo(dtype).max / 10
    assert found[0, 3] == 0


def test_a_rate_that_the_dtype_cannot_hold_is_an_infinite_loss_at_which_training_stops():
    o, t = np.asarray([[1e4], [1e38], [3e38]], "float32"), np.full((3, 1), 2, "float32")
    with np.errstate(over="ignore"):
        assert np.isposinf(losses.poisson.value(o, t, xp=np)).all()
        assert np.isposinf(losses.poisson.error(o, t, xp=np)).all()
    learner = bp.Learner(bp.chain(1, bp.Dense(1)), losses.poisson, bp.GradientDescent(100.0))
    x, t = np.asarray([[1.0], [5.0]], "float32"), np.asarray([[9.0], [0.0]], "float32")
    with pytest.raises(bp.errors.Diverged):
        bp.fit(learner, *learner.init(), bp.data.Stored(x, t), epochs=9, batch_size=1)


# ---------------------------------------------------------------- settings of losses on classes
CLASSES = {
    "labels": {},
    "smoothed": {"smoothing": 0.1},
    "weighted": {"class_weights": (0.5, 2, 0, 3)},
    "ignored": {"ignored": -100},
    "a class ignored": {"ignored": 2},
    "all": {"smoothing": 0.3, "class_weights": (0.5, 2, 0, 3), "ignored": 1},
}


def torch_cross_entropy(torch, z, t, settings):
    """Torch's `cross_entropy` of each row of net inputs z."""
    weight = settings.get("class_weights")
    kw = {
        "weight": None if weight is None else torch.tensor(weight, dtype=z.dtype),
        "label_smoothing": settings.get("smoothing", 0.0),
        "reduction": "none",
    }
    if t.ndim == 1:
        kw["ignore_index"] = settings.get("ignored", -100)
    return torch.nn.functional.cross_entropy(z, t, **kw)


@pytest.mark.parametrize("soft", [False, True], ids=["labels", "shares"])
@pytest.mark.parametrize("name", CLASSES)
def test_settings_of_classes_are_those_of_torch_in_every_combination(name, soft, torch):
    settings, rng = CLASSES[name], np.random.default_rng(8)
    z = torch.tensor(3 * rng.normal(size=(40, 4)), requires_grad=True)
    t = rng.dirichlet(np.ones(4), size=40) if soft else rng.integers(0, 4, 40)
    if not soft and "ignored" in settings:
        t[::5] = settings["ignored"]
    value = torch_cross_entropy(torch, z, torch.tensor(t), settings)
    value.sum().backward()
    for kind, output in ON_CLASSES.items():
        leaf = z.detach().clone().requires_grad_()
        o, loss = output(leaf), kind(**settings)
        at = o.detach().numpy()
        rows = loss.encode(t, at, xp=np)
        np.testing.assert_allclose(
            loss.value(at, rows, xp=np), value.detach().numpy(), rtol=1e-12, atol=1e-14
        )
        o.backward(torch.tensor(loss.error(at, rows, xp=np)))  # from e = ∂E/∂o on to the net input
        np.testing.assert_allclose(leaf.grad.numpy(), z.grad.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", ON_CLASSES)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
def test_an_ignored_label_adds_nothing_and_counts_as_a_row(kind, dtype):
    ignored = 255 if dtype == "uint8" else -100
    o = np.asarray([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]])
    t = np.asarray([1, ignored, 0]).astype(dtype)
    loss = kind(smoothing=0.1, ignored=ignored)
    rows = loss.encode(t, o, xp=np)
    assert rows[1].tolist() == [0, 0]
    assert loss.value(o, rows, xp=np)[1] == 0
    assert not loss.error(o, rows, xp=np)[1].any()
    learner = bp.Learner(bp.chain(2, bp.Dense(2, bp.softmax)), loss, bp.GradientDescent(0.1))
    w, s = learner.init(dtype="float64")
    some = np.asarray([0, 2])
    everything, left = learner.gradient(w, s, o, t), learner.gradient(w, s, o[some], t[some])
    for block, g in everything.items():
        np.testing.assert_allclose(3 * g, 2 * left[block], rtol=1e-12, atol=1e-15)


def test_labels_are_soft_targets_with_one_share(place):
    o = place.array(np.random.default_rng(0).normal(size=(6, 3)))
    labels, rows = place.array([0, 1, 2, 2, 1, 0], "int32"), place.array(np.eye(3)[[0, 1, 2, 2, 1, 0]])
    loss = SoftmaxCrossEntropy(0.1, (1, 2.5, 0), ignored=1)
    found, wanted = (
        backends.host(replace(loss, ignored=i).encode(t, o, xp=place.xp))
        for i, t in ((1, labels), (None, rows))
    )
    assert not found[[1, 4]].any()
    np.testing.assert_array_equal(found[[0, 2, 3, 5]], wanted[[0, 2, 3, 5]])


def test_training_takes_the_ignored_label_and_learns_nothing_of_its_rows(place):
    rng = np.random.default_rng(3)
    x, t = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    t[::3] = -7
    learner = bp.Learner(
        bp.chain(4, bp.Dense(3)),
        SoftmaxCrossEntropy(0.1, (1, 2, 3), ignored=-7),
        bp.GradientDescent(0.1),
        reduction="sum",
    )
    state = place.init(learner)
    everything = place.array(x), place.array(t, "int32")
    index = place.array(np.flatnonzero(t >= 0), "int32")
    kept = [place.xp.take(a, index, axis=0) for a in everything]
    found = []
    for rows in (everything, kept):
        data = bp.data.Stored(*rows, learner.loss)
        assert data.outputs == 3
        found.append(backends.host(bp.fit(learner, *state, data, batch_size=data.n).w))
    np.testing.assert_allclose(*found, rtol=1e-12, atol=1e-12)


def test_a_source_answers_for_each_ignored_label_on_its_own():
    x, t = np.ones((3, 2)), np.asarray([0, -1, 1])
    net, source = bp.chain(2, bp.Dense(2)), bp.data.Stored(np.ones((3, 2)), t)
    for loss, fits in ((SoftmaxCrossEntropy(ignored=-1), True), (SoftmaxCrossEntropy(), False)):
        learner = bp.Learner(net, loss)
        w, s = learner.init(dtype="float64")
        if fits:
            assert np.isfinite(bp.train.evaluate(learner, w, s, source))
            bp.train.per_sample(learner, w, s, x, t)
            continue
        with pytest.raises(bp.BackpropError, match=r"labels must be 0 to 1 .* is -1, in row 1"):
            bp.train.evaluate(learner, w, s, source)


WRONG = {
    "delta of 0": (lambda: Huber(0), "delta of Huber must be a positive finite number"),
    "delta of infinity": (lambda: Huber(np.inf), "positive finite"),
    "delta as text": (lambda: Huber("1"), "positive finite"),
    "a quantile of 1": (lambda: Quantile(1), "q of Quantile must be a number between 0 and 1"),
    "a quantile of NaN": (lambda: Quantile(np.nan), "between 0 and 1"),
    "smoothing of 1": (lambda: SoftmaxCrossEntropy(1), "smoothing of SoftmaxCrossEntropy must be"),
    "smoothing as a truth": (lambda: NegativeLogLikelihood(True), "smoothing of NegativeLogLikelihood must"),
    "a weight below 0": (lambda: SoftmaxCrossEntropy(class_weights=[1, -1]), "each 0 or more"),
    "a weight of infinity": (lambda: SoftmaxCrossEntropy(class_weights=[1, np.inf]), "finite numbers"),
    "weights by name": (lambda: SoftmaxCrossEntropy(class_weights={0: 1}), "a sequence of"),
    "one weight": (lambda: SoftmaxCrossEntropy(class_weights=2.0), "a sequence of"),
    "a label of 0.5": (lambda: SoftmaxCrossEntropy(ignored=0.5), "the ignored label must be an integer"),
    "a label of 40 bits": (lambda: SoftmaxCrossEntropy(ignored=2**40), "of 32 bits"),
    "weights of another net": (
        lambda: bp.Learner(bp.chain(2, bp.Dense(3)), SoftmaxCrossEntropy(class_weights=(1, 2))),
        "class_weights of SoftmaxCrossEntropy must have one number for each of 3 output units, got 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_settings_that_cannot_be_meant_are_refused(case):
    action, words = WRONG[case]
    with pytest.raises(bp.BackpropError, match=words):
        action()


@pytest.mark.parametrize("given", [[1, 2.5], np.asarray([1, 2.5]), np.asarray([1, 2.5], "float32")])
def test_a_loss_with_settings_is_a_value(given):
    loss = SoftmaxCrossEntropy(np.float64(0.1), given, np.int64(-1))
    assert loss == SoftmaxCrossEntropy(0.1, (1, 2.5), -1) == pickle.loads(pickle.dumps(loss))
    assert hash(loss) == hash(SoftmaxCrossEntropy(0.1, (1, 2.5), -1))
    assert loss != bp.softmax_cross_entropy
    assert {type(v) for v in (loss.smoothing, *loss.class_weights, loss.ignored)} <= {int, float}


def test_a_floor_is_known_for_losses_without_settings_alone():
    teacher = bp.data.Teacher(0, 100, 3, outputs=4, task="classification", noise=0.1)
    assert teacher.floor(bp.softmax_cross_entropy) > 0
    with pytest.raises(bp.BackpropError, match="not known"):
        teacher.floor(SoftmaxCrossEntropy(0.1))


# ---------------------------------------------------------------- sample weights
TIMES = [1, 0, 2, 1]  # how often each of four rows counts


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_of_weight_0_is_left_out_and_one_of_weight_2_comes_twice_under_each_loss(name):
    loss, rng = LOSSES[name], np.random.default_rng(4)
    rational = name.partition(",")[0].partition(" ")[0] in RATIONAL
    f = bp.softmax if name in OF_PROBABILITIES else bp.activations.identity
    learner = bp.Learner(bp.chain(2, bp.Dense(3, f)), loss, bp.GradientDescent(0.125), reduction="sum")
    w, s = learner.init(backend="exact" if rational else "numpy", dtype=None if rational else "float64")
    x, t = rng.integers(-4, 5, size=(4, 2)) / 4, targets(loss.targets, (4, 3), rng).round(2)
    again = [k for k, times in enumerate(TIMES) for _ in range(times)]
    rows, others = ([bp.asarray(a, like=w) for a in pair] for pair in ((x, t), (x[again], t[again])))
    weight = bp.asarray(np.asarray(TIMES, float), like=w)
    weighted, plain = learner.gradient(w, s, *rows, weight), learner.gradient(w, s, *others)
    values, twice = learner.losses(w, s, *rows, weight), learner.losses(w, s, *others)
    total = learner.step(*learner.snapshot(w, s), *rows, weight)[2]
    found, wanted = (*weighted.values(), total), (*plain.values(), backends.of(w).xp.sum(twice))
    for one, other in zip(found, wanted, strict=True):
        if rational:
            assert one.tolist() == other.tolist()
        np.testing.assert_allclose(backends.host(one), backends.host(other), rtol=1e-12, atol=1e-13)
    values = backends.host(values)
    assert values.shape == (4,)
    assert values[1] == 0
    assert values[2] == 2 * backends.host(twice)[1]
    assert any(backends.host(g).any() for g in weighted.values())
