"""Each layer against what it stands for: Torch's own, one-hot rows, fractions, and what its words promise."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends
from backprop_xp.layers import (
    BatchNorm,
    Context,
    Dropout,
    Embedding,
    Input,
    Integers,
    LayerNorm,
    PReLU,
)

LIKE_TORCH = {
    "layer normalisation": (LayerNorm(1e-3), lambda nn: nn.LayerNorm(4, eps=1e-3), "gb"),
    "batch normalisation": (BatchNorm(1e-3, 0.3), lambda nn: nn.BatchNorm1d(4, eps=1e-3, momentum=0.3), "gb"),
    "a learnt slope": (PReLU(), lambda nn: nn.PReLU(4), "a"),
    "a shared slope": (PReLU(shared=True), lambda nn: nn.PReLU(1), "a"),
    "embedding": (Embedding(5, 2), lambda nn: nn.Embedding(5, 2), "w"),
    "dropout of nothing": (Dropout(0), lambda nn: nn.Dropout(0), ""),
}


@pytest.mark.parametrize("name", LIKE_TORCH)
def test_layers_learn_and_predict_as_those_of_torch(name, batch):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    unit, make, own = LIKE_TORCH[name]
    first = Integers(2) if unit.integers else Input(4)
    learner = bp.Learner(bp.chain(first, bp.named("unit", unit), bp.Dense(2)), update=bp.GradientDescent(0.3))
    theirs = torch.nn.Sequential(make(torch.nn), torch.nn.Flatten(), torch.nn.Linear(4, 2)).double()
    w, s = learner.init(dtype="float64")
    w += np.random.default_rng(0).normal(size=w.size) / 4
    pairs = {f"unit.{p}": each for p, each in zip(own, theirs[0].parameters(), strict=True)}
    pairs |= {"dense1.w": theirs[2].weight, "dense1.b": theirs[2].bias}
    for block, value in learner.weights(w).items():
        pairs[block].data = torch.tensor(value.T.copy() if block == "dense1.w" else value.copy())
    rule = torch.optim.SGD(theirs.parameters(), lr=0.3)
    for k in range(4):
        x, t = batch(learner, 6, seed=k)
        loss = ((theirs(torch.tensor(x)) - torch.tensor(t)) ** 2).sum() / 12
        rule.zero_grad()
        loss.backward()
        rule.step()
        w, s, found = learner.step(w, s, x, t)
        assert float(found) == pytest.approx(loss.item(), rel=1e-10)
        for block, value in learner.weights(w).items():
            other = pairs[block].detach().numpy()
            np.testing.assert_allclose(
                value, other.T if block == "dense1.w" else other, rtol=1e-10, atol=1e-12
            )
    running = [a.numpy() for a in theirs[0].buffers() if a.ndim]
    for mine, other in zip(s.layers[1], running, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10)
    o = theirs.eval()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(learner.predict(w, s, x), o, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(learner.predict(w, s, x[:1]), o[:1], rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------- dropout
def mask_of(place, p, shape, *, first=0, seed=3, step=0, training=True):
    """What Dropout makes of ones."""
    ctx = Context(training, *place.words([seed, step]), stream=7, state=(), first=first)
    flow, _ = Dropout(p).forward((), place.array(np.ones(shape)), ctx=ctx, xp=place.xp)
    return backends.host(flow.o)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_dropout_leaves_out_the_share_it_is_given_and_keeps_the_mean(home, p):
    n, width = 4000, 9
    mask = mask_of(home, p, (n, width))
    kept = 1 / (1 - Fraction(str(p)))
    assert set(mask.ravel()) <= {0.0, float(kept)}
    sigma = np.sqrt(p / (1 - p))  # of each number; below bounds of five
    assert abs(mask.mean() - 1) <= 5 * sigma / np.sqrt(n * width)
    assert np.all(abs(mask.mean(axis=0) - 1) <= 5 * sigma / np.sqrt(n))
    if p:
        corr = np.corrcoef(mask.T) - np.eye(width)
        assert np.all(abs(corr) <= 5 / np.sqrt(n)), "units are left out independently of each other"


def test_dropout_masks_are_equal_in_every_library_and_dtype(any_place, home):
    here, there = (mask_of(where, 0.25, (6, 5), seed=2**32 - 1, step=9) for where in (any_place, home))
    np.testing.assert_array_equal(here == 0, there == 0)
    np.testing.assert_allclose(here, there, rtol=1e-7)  # float32


def test_dropout_masks_belong_to_the_rows_of_the_whole_batch(home):
    whole = mask_of(home, 0.5, (9, 6))
    assert len({row.tobytes() for row in whole}) > 1
    for first in (4, home.array(4, "int32")):
        np.testing.assert_array_equal(mask_of(home, 0.5, (5, 6), first=first), whole[4:])


def test_dropout_masks_differ_by_seed_and_step_and_are_off_in_evaluation(home):
    found = {mask_of(home, 0.5, (4, 8), seed=seed, step=k).tobytes() for seed in (1, 2) for k in (0, 1)}
    assert len(found) == 4
    assert np.all(mask_of(home, 0.5, (4, 8), training=False) == 1)


@pytest.mark.parametrize("shards", [2, 3, 7])
def test_shards_have_the_masks_of_the_whole_bit_for_bit(batch, shards):
    whole = bp.Learner(bp.chain(5, Dropout(), bp.Dense(2)))
    x, t = batch(whole, 7)
    seen = [
        learner.step(*learner.init(4, dtype="float64"), x, t, watch=["dropout1.o", "dropout1.net"])[3]
        for learner in (whole, replace(whole, shards=shards))
    ]
    assert seen[0]["dropout1.o"].tobytes() == seen[1]["dropout1.o"].tobytes()
    assert not seen[0]["dropout1.o"].all()


# ---------------------------------------------------------------- normalization
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("unit", [LayerNorm(), BatchNorm()], ids=repr)
@pytest.mark.parametrize("rows", [1, 2])
def test_a_single_row_and_constant_columns_make_no_nan(unit, rows, dtype):
    learner = bp.Learner(bp.chain(3, bp.named("unit", unit), bp.Dense(1)), to_input=True)
    w, s = learner.init(dtype=dtype)
    x = np.full((rows, 3), 1e4, dtype=dtype)
    for _ in range(3):
        w, s, loss, seen = learner.step(w, s, x, np.ones((rows, 1), dtype=dtype), watch=["unit.o", "*.e"])
        assert np.all(seen["unit.o"] == learner.weights(w)["unit.b"] * 0 + seen["unit.o"][0])
        assert all(np.all(np.isfinite(a)) for a in (w, loss, *s.layers[1], *seen.values()))
        assert w.dtype == loss.dtype == dtype
    assert np.all(np.isfinite(learner.predict(w, s, x)))


def test_batch_statistics_are_of_all_rows_whatever_their_weights(batch):
    learner = bp.Learner(bp.chain(3, bp.Dense(4), BatchNorm(), Dropout(), bp.Dense(2)))
    w, s = learner.init(dtype="float64")
    x, t = batch(learner, 6)
    weight = np.asarray([0.0, 2.0, 1.0, 0.5, 0.0, 3.0])
    watch = ["*.o", "dense2.e"]
    *_, s_plain, loss_plain, plain = learner.step(*learner.snapshot(w, s), x, t, watch=watch)
    _, s_weighted, loss, seen = learner.step(*learner.snapshot(w, s), x, t, weight, watch=watch)
    for name in ("batchnorm1.o", "dropout1.o", "dense2.o"):
        assert seen[name].tobytes() == plain[name].tobytes()
    for a, b in zip(s_weighted.layers[2], s_plain.layers[2], strict=True):
        assert a.tobytes() == b.tobytes()
    each = ((plain["dense2.o"] - t) ** 2).sum(axis=1) / 2
    assert float(loss_plain) == pytest.approx(each.mean(), rel=1e-14)
    assert float(loss) == pytest.approx((weight * each).mean(), rel=1e-14)
    np.testing.assert_allclose(seen["dense2.e"], weight[:, None] * plain["dense2.e"], rtol=1e-15)
    other = x.copy()
    other[0] += 1  # a row of weight 0
    _, s_other, loss_other = learner.step(*learner.snapshot(w, s), other, t, weight)
    assert float(loss_other) != float(loss), "it moves the statistics"
    assert not np.array_equal(s_other.layers[2][0], s_weighted.layers[2][0])


def test_the_state_of_layers_is_kept_by_freezing_and_copied_by_snapshots(batch):
    learner = bp.Learner(bp.chain(3, bp.Dense(4), BatchNorm(), bp.Dense(2)), update=bp.Adam())
    w, s = learner.init(dtype="float64")
    w, s, _ = learner.step(w, s, *batch(learner))
    bits = [a.tobytes() for a in s.layers[2]]
    assert bits[0] != bytes(len(bits[0]))
    kept = learner.snapshot(w, s)[1]
    other, w, s = learner.freeze(["dense1", "batchnorm1.b"], w, s)
    other, w, s = other.thaw("dense1", w, s)
    assert [a.tobytes() for a in s.layers[2]] == bits
    step = other.compile(w)
    for k in range(3):
        w, s, _ = step(w, s, *batch(learner, seed=k))
    assert [a.tobytes() for a in kept.layers[2]] == bits
    assert [a.tobytes() for a in s.layers[2]] != bits


# ---------------------------------------------------------------- embedding, inputs
def test_an_embedding_is_a_dense_layer_on_one_hot_rows(places):
    place = next(place for place in places if place.name == "exact")
    categories = np.asarray([[2], [0], [2], [1]])
    embedded = bp.Learner(bp.chain(Integers(1), Embedding(4, 3), bp.Dense(2)))
    dense = bp.Learner(bp.chain(4, bp.Dense(3, bias=False), bp.Dense(2)))
    w, s = place.init(embedded)
    t = place.array(np.arange(8).reshape(4, 2))
    one = embedded.gradient(w, s, place.array(categories, "int32"), t)
    other = dense.gradient(w, s, place.array(np.eye(4)[categories[:, 0]]), t)
    assert [a.tolist() for a in one.values()] == [a.tolist() for a in other.values()]
    assert one["embedding1.w"].tolist()[3] == [0, 0, 0]


def test_unknown_categories_are_zeros_everywhere(any_place):
    learner = bp.Learner(bp.chain(Integers(2), Embedding(3, 2)))
    w, s = any_place.init(learner)
    x = any_place.array([[-1, 1], [3, 1], [2, 2**31 - 1]], f"int{32 if '32' in any_place.dtype else 64}")
    table = backends.host(learner.weights(w)["embedding1.w"])
    want = np.asarray([[0, 0, *table[1]], [0, 0, *table[1]], [*table[2], 0, 0]])
    for predict in (learner.predict, learner.compile_predict(w)):
        np.testing.assert_array_equal(backends.host(predict(w, s, x)), want)
    g = learner.gradient(w, s, x, any_place.array(want - 1))["embedding1.w"]
    np.testing.assert_allclose(backends.host(g), [[0, 0], [2 / 3, 2 / 3], [1 / 3, 1 / 3]], rtol=1e-6)


class Rows:
    """A source that does not answer for its values."""

    def __init__(self, x, t):
        self.x, self.t, self.n, self.window = x, t, t.shape[0], 4

    def rows(self, start, stop):
        return {name: a[start:stop] for name, a in self.x.items()}, self.t[start:stop]


def test_categories_out_of_range_are_refused_where_data_enter():
    net = bp.chain(
        bp.named("age", Input(1)),
        bp.named("city", Integers(1)),
        Embedding(5, 2),
        bp.concat("age"),
        bp.Dense(1),
    )
    learner = bp.Learner(net)
    state, t = learner.init(dtype="float64"), np.ones((6, 1))
    x = {"age": np.ones((6, 1)), "city": np.asarray([[0], [1], [4], [0], [5], [-1]], dtype="int32")}
    words = "input 'city' must be categories from 0 to 4, got .*, the first out of range in row 4: fix them"
    for act in (
        lambda: learner.check_values(x, t),
        lambda: bp.fit(learner, *state, Rows(x, t)),
        lambda: bp.train.evaluate(learner, *state, Rows(x, t)),
        lambda: bp.train.per_sample(learner, *state, x, t),
    ):
        with pytest.raises(bp.BackpropError, match=words):
            act()
    alone = bp.Learner(bp.chain(Integers(1), Embedding(5, 2), bp.Dense(1)))
    state = alone.init(dtype="float64")
    with pytest.raises(bp.BackpropError, match=r"inputs must be categories .* row 4"):
        bp.fit(alone, *state, bp.data.Stored(x["city"], t))
    with pytest.raises(bp.BackpropError, match=words):
        bp.fit(learner, *learner.init(dtype="float64"), bp.data.Stored(x, t))
    with pytest.raises(bp.BackpropError, match="targets must have shape"):
        bp.data.Stored(x | {"age": x["age"][:5]}, t)
    good = bp.data.Stored(x | {"city": x["city"] % 5}, t)
    fitted = bp.fit(learner, *learner.init(dtype="float64"), good, batch_size=4, validate=good)
    assert fitted.history[0].rows == 6
    assert good.rows(1, 3)[0]["city"].tolist() == [[1], [4]]


def test_the_learning_flow_ends_at_inputs_of_numbers(batch):
    learner = bp.Learner(
        bp.chain(
            bp.named("x", Input(3)),
            bp.named("c", Integers(2)),
            Embedding(4, 2),
            bp.named("z", Input(4)),
            bp.Dense(4, bp.tanh),
            bp.multiply("embedding1"),
            bp.concat("x"),
            bp.Dense(2),
        ),
        to_input=True,
    )
    w, s = learner.init(dtype="float64")
    x, t = batch(learner)
    *_, seen = learner.step(*learner.snapshot(w, s), x, t, watch="*.e")
    assert {"x.e", "z.e"} <= set(seen)
    assert "c.e" not in seen
    with pytest.raises(bp.BackpropError, match=r"has no 'c\.e'"):
        learner.step(*learner.snapshot(w, s), x, t, watch="c.e")
    h = 1e-6
    for name in ("x", "z"):
        change = h * np.random.default_rng(0).normal(size=x[name].shape)
        ahead, behind = (learner.losses(w, s, x | {name: x[name] + d}, t).mean() for d in (change, -change))
        assert (ahead - behind) / 2 == pytest.approx((change * seen[f"{name}.e"]).sum(), rel=1e-7)
    assert bp.trace(learner, w, s, x, t)["c"].e is None
    assert "'c': (5, 2) int32" in repr(bp.trace(learner, w, s, x, t))


def test_a_dict_in_another_order_is_the_same_batch(place, batch):
    learner = bp.Learner(
        bp.chain(bp.named("b", Input(2)), bp.Dense(2), bp.named("a", Input(2)), bp.multiply("dense1"))
    )
    x, t = place.rows(batch(learner))
    state = place.init(learner)
    step = learner.compile(state[0])
    found = [step(*learner.snapshot(*state), each, t)[0] for each in (x, dict(reversed(x.items())))]
    np.testing.assert_array_equal(*map(backends.host, found))


# ---------------------------------------------------------------- blocks
def test_blocks_are_nested_and_their_sums_have_names():
    net = bp.chain(
        4,
        bp.named(
            "outer",
            bp.residual(bp.Dense(4), bp.residual(bp.Dense(4), bp.Dense(4)), bp.named("last", PReLU())),
        ),
        bp.residual(bp.Dense(3), skip=bp.named("projected", bp.Dense(3, bias=False))),
        bp.concat("outer"),
    )
    assert {node.name: node.inputs for node in net.nodes} == {
        "input": (),
        "dense1": ("input",),
        "dense2": ("dense1",),
        "dense3": ("dense2",),
        "add1": ("dense3", "dense1"),
        "last": ("add1",),
        "outer": ("last", "input"),
        "dense4": ("outer",),
        "projected": ("outer",),
        "add2": ("dense4", "projected"),
        "concat1": ("add2", "outer"),
    }


RATIONAL = {
    "dropout": bp.chain(3, bp.Dense(4), Dropout(0.25), bp.Dense(2)),
    "learnt slopes": bp.chain(3, bp.Dense(4), PReLU(), bp.Dense(2), PReLU(shared=True)),
    "embedding": bp.chain(Integers(2), Embedding(4, 2), bp.Dense(2)),
    "gates and blocks": bp.chain(
        3, bp.named("gate", bp.Dense(3)), bp.residual(bp.Dense(3, bp.relu), bp.multiply("gate")), bp.Dense(2)
    ),
}


@pytest.mark.parametrize("name", RATIONAL)
def test_rational_layers_are_exact_on_fractions(name, places, home, steps):
    exact = next(place for place in places if place.name == "exact")
    learner = bp.Learner(RATIONAL[name], update=bp.GradientDescent(0.125))
    w, losses, _ = steps(learner, exact, 2)
    w_home, losses_home, _ = steps(learner, home, 2)
    np.testing.assert_allclose(w, w_home, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(losses, losses_home, rtol=1e-13)
