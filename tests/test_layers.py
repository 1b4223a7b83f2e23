"""Layers, layouts and walks: what the contract of a layer carries."""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backprop_xp as bp
from backprop_xp import backends, layers
from backprop_xp.layers import BatchNorm, Dropout, Embedding, Input, Integers, LayerNorm, PReLU
from backprop_xp.net import learning_flow
from backprop_xp.params import Layout, join


# ---------------------------------------------------------------- nets, a layer that tells, a rule
@dataclass(frozen=True)
class Spy(bp.Dense):
    """A Dense layer that tells which of its methods were called."""

    label: str = ""
    calls: ClassVar[Counter] = Counter()

    def delta(self, *args, **kw):
        self.calls[self.label, "delta"] += 1
        return super().delta(*args, **kw)

    def grad(self, *args, **kw):
        self.calls[self.label, "grad"] += 1
        return super().grad(*args, **kw)

    def pull(self, *args, **kw):
        self.calls[self.label, "pull"] += 1
        return super().pull(*args, **kw)


class Averaged:
    """m ← m + g, w ← w − η m / n for the n updates of each weight: moments and counts both matter."""

    rate, moments = 0.1, 1

    def scalars(self, state, *, dtype, xp):
        return (self.rate, state.count + 1)

    def element(self, g, w, *rest, xp):
        m, rate, n = rest
        m += g
        w -= rate * m / xp.astype(n, w.dtype)
        return w, m


NETS = {
    "batch normalisation": bp.chain(3, bp.Dense(4, bp.tanh), BatchNorm(), bp.Dense(2)),
    "dropout": bp.chain(
        3, bp.Dense(8, bp.tanh), Dropout(0.25), bp.Dense(4, bp.sigmoid), Dropout(), bp.Dense(2)
    ),
    "concat skip": bp.chain(
        3, bp.named("a", bp.Dense(4, bp.tanh)), bp.Dense(2), bp.concat("a", "input"), bp.Dense(2)
    ),
    "nested residuals": bp.chain(
        3,
        bp.named("outer", bp.Dense(4, bp.tanh)),
        bp.named("inner", bp.Dense(4, bp.tanh)),
        bp.Dense(4, bp.sigmoid),
        bp.named("sum", bp.add("inner")),
        bp.Dense(4, bp.tanh),
        bp.add("sum", "outer", "outer"),
        bp.Dense(2),
    ),
    "all at once": bp.chain(
        3,
        bp.named("a", bp.Dense(4, bp.tanh)),
        BatchNorm(),
        Dropout(),
        bp.add("a"),
        bp.concat("input"),
        BatchNorm(momentum=0.5),
        bp.Dense(2),
    ).freeze("batchnorm1.g"),
    "layer normalisation and learnt slopes": bp.chain(
        3, bp.Dense(4), LayerNorm(), PReLU(), bp.Dense(3), PReLU(shared=True), LayerNorm(0.1), bp.Dense(2)
    ),
    "blocks and gates": bp.chain(
        3,
        bp.named("gate", bp.Dense(4, bp.sigmoid)),
        bp.residual(bp.Dense(4, bp.tanh), bp.residual(bp.Dense(4, bp.tanh), bp.Dense(4)), bp.Dense(4)),
        bp.multiply("gate"),
        bp.residual(bp.Dense(3, bp.tanh), bp.Dense(2), skip=bp.Dense(2)),
    ),
    "several inputs": bp.chain(
        bp.named("numbers", Input(3)),
        bp.named("main", bp.Dense(4, bp.tanh)),
        bp.named("cities", Integers(2)),
        Embedding(5, 2),
        bp.multiply("main"),
        bp.named("age", Input(1)),
        bp.Dense(2, bp.tanh),
        bp.concat("multiply1"),
        bp.Dense(2),
    ),
}  # fmt: skip
LEARNERS = {name: bp.Learner(net, update=bp.GradientDescent(0.3)) for name, net in NETS.items()}


# ---------------------------------------------------------------- the contract
@pytest.mark.parametrize("name", LEARNERS)
def test_gradients_agree_with_central_differences_step_by_step(name, batch):
    learner = LEARNERS[name]
    w, s = learner.init(3, dtype="float64")
    for k in range(4):
        x, t = batch(learner, 6, seed=k)
        g = learner.pure.gradient(w, s, x, t, xp=np).g
        v = np.zeros_like(w)
        for run in learner.net.layout.spans:
            v[run.start : run.stop] = np.random.default_rng(k).normal(size=run.stop - run.start)
        v *= 1e-5 / np.linalg.norm(v)
        ahead, behind = (float(learner.pure.forward_loss(w + d, s, x, t, xp=np).loss) for d in (v, -v))
        along = g @ learner.net.layout.learning_part(v, xp=np)
        assert abs((ahead - behind) / 2 - along) <= 1e-8 * 1e-5 * np.linalg.norm(g)
        w, s, _ = learner.step(w, s, x, t)
    assert int(s.step) == 4


@pytest.mark.parametrize("name", LEARNERS)
def test_steps_agree_on_every_backend(name, place, home, steps):
    w, losses, s = steps(LEARNERS[name], place)
    w_home, losses_home, s_home = steps(LEARNERS[name], home)
    assert np.linalg.norm(w - w_home) <= 1e-12 * np.linalg.norm(w_home)
    np.testing.assert_allclose(losses, losses_home, rtol=1e-12)
    for own, at_home in zip(s.layers, s_home.layers, strict=True):
        for a, b in zip(own, at_home, strict=True):
            np.testing.assert_allclose(backends.host(a), backends.host(b), rtol=1e-12, atol=1e-14)


def test_nested_residuals_agree_with_torch_autograd(batch):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    learner = LEARNERS["nested residuals"]
    w, s = learner.init(1, dtype="float64")
    x, t = batch(learner, 7)
    p = {b: torch.tensor(v.copy(), requires_grad=True) for b, v in learner.weights(w).items()}

    def dense(name, h):
        return h @ p[f"{name}.w"] + p[f"{name}.b"]

    outer = torch.tanh(dense("outer", torch.tensor(x)))
    inner = torch.tanh(dense("inner", outer))
    total = torch.sigmoid(dense("dense1", inner)) + inner
    o = dense("dense3", torch.tanh(dense("dense2", total)) + total + 2 * outer)
    (((o - torch.tensor(t)) ** 2).sum() / 2 / len(x)).backward()
    for block, g in learner.gradient(w, s, x, t).items():
        np.testing.assert_allclose(g, p[block].grad.numpy(), rtol=1e-10, atol=1e-14)


def test_looking_leaves_state_alone(batch):
    learner = LEARNERS["all at once"]
    w, s = learner.init(dtype="float64")
    x, t = batch(learner)
    before = [a.tobytes() for own in s.layers for a in own]
    learner.predict(w, s, x)
    learner.losses(w, s, x, t)
    learner.gradient(w, s, x, t)
    assert [a.tobytes() for own in s.layers for a in own] == before
    learner.step(w, s, x, t)


# ---------------------------------------------------------------- dropout
def masks(learner, place, seed, steps, batch):
    """The masks of each step, on the host."""
    w, s = place.init(learner, seed)
    found = []
    for k in range(steps):
        x, t = (place.array(a) for a in batch(learner, 16, seed=k))
        _, flows, _ = learner.pure.forward(w, s, x, training=True, xp=place.xp)
        found += [backends.host(flow.aux) for flow in flows if not isinstance(flow.aux, tuple)]
        w, s, _ = learner.step(w, s, x, t)
    return np.concatenate([mask.ravel() for mask in found]).astype("float64")


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_dropout_masks_are_equal_on_every_backend_bit_for_bit(seed, place, home, batch):
    learner = LEARNERS["dropout"]
    here, at_home = (masks(learner, where, seed, 2, batch) for where in (place, home))
    assert here.tobytes() == at_home.tobytes()
    assert len(here) == 2 * 16 * (8 + 4)


def test_dropout_masks_change_with_step_layer_and_seed(home, batch):
    learner = bp.Learner(bp.chain(3, bp.Dense(6), Dropout(), bp.Dense(6), Dropout(), bp.Dense(1)))
    found = [masks(learner, home, seed, 3, batch).reshape(6, -1) for seed in range(3)]
    assert len({mask.tobytes() for each in found for mask in each}) == 18
    assert abs(np.mean(found) - 1) < 4 / np.sqrt(np.size(found))


def test_dropout_is_off_when_not_training(batch):
    learner = LEARNERS["dropout"]
    w, s = learner.init(dtype="float64")
    x, _ = batch(learner)
    p = learner.weights(w)
    h = np.tanh(x @ p["dense1.w"] + p["dense1.b"])
    h = 1 / (1 + np.exp(-(h @ p["dense2.w"] + p["dense2.b"])))
    np.testing.assert_allclose(learner.predict(w, s, x), h @ p["dense3.w"] + p["dense3.b"], rtol=1e-13)


# ---------------------------------------------------------------- the learning flow
CHAIN = bp.chain(3, *(Spy(3, bp.tanh, label=label) for label in "abcd"))
SPIES = {f"spy{k}": label for k, label in enumerate("abcd", 1)}
SUBSETS = [held for n in range(4) for held in combinations(SPIES, n)]


@pytest.mark.parametrize("held", SUBSETS, ids=lambda held: "+".join(held) or "none")
def test_learning_flow_stops_at_the_earliest_layer_that_learns(held, batch):
    learner = bp.Learner(CHAIN.freeze(*held), bp.losses.squared_error)
    w, s = learner.init(dtype="float64")
    x, t = batch(learner)
    learner.check(w, s, x, t)  # which looks at shapes
    Spy.calls.clear()
    got = learner.gradient(w, s, x, t)
    calls = Counter(Spy.calls)
    learning = [k for k, spy in enumerate(SPIES) if spy not in held]
    for k, (spy, label) in enumerate(SPIES.items()):
        assert calls[label, "grad"] == (spy not in held)
        assert calls[label, "delta"] == (k >= learning[0])
        assert calls[label, "pull"] == (k > learning[0])
    whole = bp.Learner(CHAIN, bp.losses.squared_error).gradient(w, s, x, t)
    assert {b.partition(".")[0] for b in got} == set(SPIES) - set(held)
    for block, g in got.items():
        assert g.tobytes() == whole[block].tobytes()


def test_learning_flow_goes_to_the_input_where_asked(batch):
    learner = bp.Learner(CHAIN.freeze("spy1", "spy2"), bp.losses.squared_error, to_input=True)
    w, s = learner.init(dtype="float64")
    learner.check(w, s, *batch(learner))
    Spy.calls.clear()
    got = learner.gradient(w, s, *batch(learner))
    assert all(Spy.calls[label, "pull"] == Spy.calls[label, "delta"] == 1 for label in "abcd")
    assert {b.partition(".")[0] for b in got} == {"spy3", "spy4"}


def test_learning_flow_yields_every_node_on_the_path_last_first(batch):
    learner = bp.Learner(NETS["nested residuals"].freeze("outer", "inner"))
    w, s = learner.init(dtype="float64")
    seen = learner.pure.forward_loss(w, s, *batch(learner), xp=np)
    yielded = list(learning_flow(learner.net, seen.params, seen.flows, seen.e, xp=np))
    names = [learner.net.nodes[each.k].name for each in yielded]
    assert names == ["dense3", "add1", "dense2", "sum", "dense1"]
    assert [len(each.grad) for each in yielded] == [2, 0, 2, 0, 2]
    assert yielded[0].e is seen.e


def test_a_frozen_branch_beside_a_learning_one_gets_no_flow(batch):
    net = bp.net.Net((
        bp.net.Node(bp.layers.Input(3), "input", ()),
        bp.net.Node(Spy(2, label="left"), "left", ("input",)),
        bp.net.Node(Spy(2, label="right"), "right", ("input",)),
        bp.net.Node(layers.Concat(), "both", ("left", "right")),
        bp.net.Node(Spy(1, label="top"), "top", ("both",)),
    ))  # fmt: skip
    learner = bp.Learner(net.freeze("right"))
    w, s = learner.init(dtype="float64")
    learner.check(w, s, *batch(learner))
    Spy.calls.clear()
    learner.step(w, s, *batch(learner))
    assert set(Spy.calls.values()) == {1}
    assert set(Spy.calls) == {("top", m) for m in ("delta", "grad", "pull")} | {
        ("left", m) for m in ("delta", "grad")
    }


# ---------------------------------------------------------------- the layout
shapes = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple), min_size=1, max_size=24)


@st.composite
def layouts(draw):
    """A layout, and its shapes by name."""
    named = {f"b{k}": shape for k, shape in enumerate(draw(shapes))}
    frozen = draw(st.lists(st.sampled_from(list(named)), max_size=len(named)))
    return Layout.of(named, frozen), named, set(frozen)


@given(layouts())
def test_layout_blocks_tile_the_vector_in_order(made):
    layout, named, frozen = made
    assert [b.name for b in layout.blocks] == list(named)
    assert [b.stop - b.start for b in layout.blocks] == [int(np.prod(s)) for s in named.values()]
    ends = [0, *(b.stop for b in layout.blocks)]
    assert [b.start for b in layout.blocks] == ends[:-1]
    assert layout.size == ends[-1]
    assert {b.name for b in layout.learning} == set(named) - frozen


@given(layouts())
def test_layout_runs_are_the_learning_blocks_with_neighbours_joined(made):
    layout, _, _ = made
    learns = [i for b in layout.learning for i in range(b.start, b.stop)]
    assert [i for run in layout.spans for i in range(run.start, run.stop)] == learns
    assert [i for run in layout.spans for i in range(run.first, run.last)] == list(range(len(learns)))
    for one, other in zip(layout.spans, layout.spans[1:], strict=False):
        assert one.stop < other.start


@given(layouts())
def test_layout_views_are_views(made):
    layout, named, _ = made
    w = np.arange(float(layout.size))
    views = layout.views(w, xp=np)
    assert {name: view.shape for name, view in views.items()} == named
    assert np.concatenate([view.ravel() for view in views.values()]).tolist() == w.tolist()
    for view in views.values():
        assert np.shares_memory(view, w)
        view[...] += 1
    assert w.tolist() == list(range(1, layout.size + 1))


@given(layouts())
def test_layout_packs_and_merges_the_learning_blocks(made):
    layout, _, _ = made
    if not layout.learning:
        return
    w = np.arange(float(layout.size))
    packed = layout.pack(layout.views(w, xp=np), xp=np)
    assert packed.tolist() == layout.learning_part(w, xp=np).tolist()
    merged = layout.merge(w, [(s, -packed[s.first : s.last] - 1) for s in layout.spans], xp=np)
    want = w.copy()
    for block in layout.learning:
        want[block.start : block.stop] = -w[block.start : block.stop] - 1
    assert merged.tolist() == want.tolist()
    assert w.tolist() == list(range(layout.size))


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 16, 63, 64, 65, 200])
def test_join_takes_any_number_of_parts_at_most_eight_at_a_time(n, place):
    taken = []

    class Counting:
        def concat(self, parts):
            taken.append(len(parts))
            return place.xp.concat(parts)

    parts = [place.array([float(k)] * (1 + k % 3)) for k in range(n)]
    joined = join(parts, xp=Counting())
    assert backends.host(joined).tolist() == [float(k) for k in range(n) for _ in range(1 + k % 3)]
    assert all(2 <= each <= 8 for each in taken)


def test_nets_of_many_blocks_learn(place, home, steps):
    net = bp.chain(2, *(bp.Dense(2, bp.tanh) for _ in range(12)), bp.Dense(1))
    learner = bp.Learner(net.freeze(*(f"dense{k}.b" for k in range(2, 13, 2))))
    assert len(learner.net.layout.spans) == 7
    np.testing.assert_allclose(steps(learner, place, 1)[0], steps(learner, home, 1)[0], rtol=1e-12)


# ---------------------------------------------------------------- freezing and thawing
DEEP = bp.chain(3, bp.Dense(3, bp.tanh), bp.Dense(3, bp.tanh), bp.Dense(2))
PLAN = [("freeze", "dense1"), ("freeze", "dense2.w"), ("thaw", "dense1.b"), ("thaw", ["dense1", "dense2"])]


def by_hand(start, plan, k, batch):
    """Averaged by block, with a moment and a count for each: what freezing and thawing must come to."""
    learner = bp.Learner(DEEP, update=Averaged())
    blocks, held = {b: v.copy() for b, v in learner.weights(start).items()}, set()
    m, n = {b: 0 * v for b, v in blocks.items()}, dict.fromkeys(blocks, 0)
    for i in range(len(plan) + 1):
        for seed in range(k * i, k * i + k):
            w = np.concatenate([v.ravel() for v in blocks.values()])
            g = learner.gradient(w, learner.init(dtype="float64")[1], *batch(learner, seed=seed))
            for b in set(blocks) - held:
                n[b] += 1
                m[b] = m[b] + g[b]
                blocks[b] = blocks[b] - 0.1 * m[b] / n[b]
        if i < len(plan):
            what, names = plan[i]
            for name in [names] if isinstance(names, str) else names:
                own = {b for b in blocks if name in (b, b.partition(".")[0])}
                for b in own & held if what == "thaw" else ():
                    m[b], n[b] = 0 * m[b], 0
                held = held | own if what == "freeze" else held - own
    return np.concatenate([v.ravel() for v in blocks.values()]), n


def test_freezing_and_thawing_carry_moments_and_counts(place, home, batch):
    learner = bp.Learner(DEEP, update=Averaged())
    w, s = place.init(learner, 4)
    start = backends.host(w).copy()
    for i in range(len(PLAN) + 1):
        step = learner.compile(w)
        for seed in range(2 * i, 2 * i + 2):
            x, t = (place.array(a) for a in batch(learner, seed=seed))
            w, s, _ = step(w, s, x, t)
        if i < len(PLAN):
            what, names = PLAN[i]
            learner, w, s = getattr(learner, what)(names, w, s)
            assert s.rule.moments[0].shape == (sum(b.stop - b.start for b in learner.net.layout.learning),)
    want, counts = by_hand(start, PLAN, 2, batch)
    assert np.linalg.norm(backends.host(w) - want) <= 1e-12 * np.linalg.norm(want)
    n = backends.host(s.rule.count)
    for block, (first, last) in places_of(learner.net.layout).items():
        assert set(n[first:last].tolist()) == {counts[block]}, block
    assert int(s.step) == 10


def places_of(layout):
    """Where the gradient of each learning block lies."""
    ends = np.cumsum([0, *(b.stop - b.start for b in layout.learning)])
    return {b.name: (ends[k], ends[k + 1]) for k, b in enumerate(layout.learning)}


def test_frozen_blocks_keep_every_bit(place, ready):
    learner = bp.Learner(DEEP.freeze("dense1.w", "dense3"), update=Averaged())
    w, s, x, t = ready(learner, place)
    before = backends.host(w).copy()
    w, s, _ = learner.compile(w)(w, s, x, t)
    changed = backends.host(w) != before
    for block in learner.net.layout.blocks:
        assert changed[block.start : block.stop].all() == block.learns
        assert changed[block.start : block.stop].any() == block.learns


def test_thawing_a_block_of_a_frozen_layer_leaves_the_others_frozen():
    net = DEEP.freeze("dense1", "dense2.b")
    assert names(net.thaw("dense1.b")) == {"dense1.b", "dense2.w", "dense3.w", "dense3.b"}
    assert names(net.thaw("dense1")) == {"dense1.w", "dense1.b", "dense2.w", "dense3.w", "dense3.b"}
    assert names(net.thaw("dense2")) == {"dense2.w", "dense2.b", "dense3.w", "dense3.b"}
    assert net.thaw("dense1", "dense2").layout == DEEP.layout
    assert net.layout.size == DEEP.layout.size


def names(net):
    return {block.name for block in net.layout.learning}


# ---------------------------------------------------------------- rates and orders
def test_each_layer_learns_at_its_own_rate(ready):
    rates = {"dense1": 0.5, "dense2.w": 0.25, "dense2.b": 0.125, "dense3": 1}
    learner = bp.Learner(DEEP, update=bp.GradientDescent(rates))
    w, s, x, t = ready(learner)
    before, g = learner.weights(w.copy()), learner.gradient(w, s, x, t)
    w, s, _ = learner.step(w, s, x, t)
    for block, after in learner.weights(w).items():
        rate = rates.get(block, rates.get(block.partition(".")[0]))
        assert np.array_equal(after, before[block] - rate * g[block]), block


def test_block_rates_win_over_layer_rates(ready):
    learner = bp.Learner(
        DEEP, update=bp.GradientDescent({f"dense{k}": 1 for k in (1, 2, 3)} | {"dense2.b": 0.5})
    )
    _, s, _, _ = ready(learner)
    for block, (first, last) in places_of(learner.net.layout).items():
        assert set(s.rule.rates[first:last]) == {0.5 if block == "dense2.b" else 1.0}


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        (0.5, 0.3, 0.3),  # within its bounds
        (0.5, 2, 1),  # held to the limit
        (-0.5, -2, -1),
        (0.5, 0.05, 0.1),  # stops at the floor
        (-0.5, -0.05, -0.1),
        (0.5, -0.5, 0.1),  # and does not go over in one step
        (0.1, 0.05, -0.1),  # from the floor it goes over
        (-0.1, -0.05, 0.1),
        (0.1, 0.2, 0.2),  # or away from it
        (0, 0.05, 0.1),  # zero counts as standing on the negative side, at its floor
        (0, -0.05, 0.1),
        (0, -0.2, -0.2),
    ],
)
def test_bounded_weights_stop_at_floor_and_limit(before, wanted, after):
    learner = bp.Learner(
        bp.chain(1, bp.Dense(1, bias=False)), update=bp.GradientDescent(1, limit=1, floor=0.1)
    )
    w, s = learner.init(backend="exact", weights={"dense1.w": [[before]]})
    gradient = Fraction(str(before)) - Fraction(str(wanted))  # of x = 1: o − t
    t = bp.asarray([[Fraction(str(before)) - gradient]], like=w)
    w, _, _ = learner.step(w, s, bp.asarray([[1]], like=w), t)
    assert w.tolist() == [Fraction(str(after))]


TWO = bp.chain(1, bp.Dense(1, bias=False), bp.Dense(1, bias=False))


@pytest.mark.parametrize(
    ("order", "w1"),
    [
        ("together", Fraction(2) - Fraction(1, 100) * 6 * 3),  # o = 6, ∂E/∂w1 = 6 · 3
        ("layer by layer", Fraction(2) - Fraction(1, 100) * Fraction(576, 100) * Fraction(288, 100)),
    ],
)
def test_orders_give_what_a_hand_computes(order, w1):
    learner = bp.Learner(TWO, bp.half_squared_error, bp.GradientDescent(0.01), order=order)
    w, s = learner.init(backend="exact", weights={"dense1.w": [[2]], "dense2.w": [[3]]})
    w, s, loss = learner.step(w, s, bp.asarray([[1]], like=w), bp.asarray([[0]], like=w))
    assert loss.tolist() == 18  # (2 · 3)² / 2, before the update in both orders
    assert w.tolist() == [w1, Fraction(288, 100)]  # 3 − 0.01 · 6 · 2
    assert int(s.step) == int(s.rule.count) == 1


def test_layer_by_layer_walks_forward_again_for_each_layer(ready):
    rates = {"dense1": 0.3, "dense2": 0.2, "dense3": 0.1}
    learner = bp.Learner(DEEP, update=bp.GradientDescent(rates), order="layer by layer")
    w, s, x, t = ready(learner)
    want = w.copy()
    for layer in ("dense3", "dense2", "dense1"):
        g = learner.gradient(want, s, x, t)
        for block, view in learner.weights(want).items():
            if block.startswith(layer):
                view[...] -= rates[layer] * g[block]
    w, s, _ = learner.step(w, s, x, t)
    np.testing.assert_allclose(w, want, rtol=1e-14)


def test_a_2_2_1_net_learns_what_a_hand_computes():
    learner = bp.Learner(bp.chain(2, bp.Dense(2, bp.relu), bp.Dense(1)), update=bp.GradientDescent(0.1))
    given_weights = {
        "dense1.w": [[1, -1], [0.5, 0.5]], "dense1.b": [0, -0.5], "dense2.w": [[2], [3]], "dense2.b": [0.5],
    }  # fmt: skip
    w, s = learner.init(backend="exact", weights=given_weights)
    x, t = bp.asarray([[1, 2]], like=w), bp.asarray([[4]], like=w)
    # net = (1 + 1, −1 + 1 − 0.5) = (2, −0.5), o = (2, 0); out = 4 + 0 + 0.5 = 4.5, e = 0.5, E = 0.125
    # ∂E/∂w₂ = (0.5 · 2, 0), ∂E/∂b₂ = 0.5; e₁ = (1, 1.5), delta₁ = (1, 0)
    # ∂E/∂w₁ = ((1, 0), (2, 0)), ∂E/∂b₁ = (1, 0)
    assert learner.predict(w, s, x).tolist() == [[Fraction(9, 2)]]
    w, s, loss = learner.step(w, s, x, t)
    assert loss.tolist() == Fraction(1, 8)
    assert {b: v.tolist() for b, v in learner.weights(w).items()} == {
        "dense1.w": [[Fraction(9, 10), -1], [Fraction(3, 10), Fraction(1, 2)]],
        "dense1.b": [Fraction(-1, 10), Fraction(-1, 2)],
        "dense2.w": [[Fraction(19, 10)], [3]],
        "dense2.b": [Fraction(45, 100)],
    }


# ---------------------------------------------------------------- the layers there are
@pytest.mark.parametrize(
    ("f", "bound"),
    [
        (bp.relu, 6 / 30),
        (bp.activations.LeakyReLU(), 6 / 30),
        (bp.activations.gelu, 6 / 30),
        (bp.activations.selu, 6 / 80),
        (bp.tanh, 6 / 80),
    ],
)
def test_first_weights_are_uniform_in_their_bounds_and_biases_zero(f, bound):
    learner = bp.Learner(bp.chain(30, bp.Dense(50, f)))
    p = learner.weights(learner.init(dtype="float64")[0])
    w = p["dense1.w"] / np.sqrt(bound)
    assert np.all(abs(w) <= 1)
    assert abs(np.mean(w)) < 4 / np.sqrt(3 * w.size)
    assert abs(np.mean(w**2) - 1 / 3) < 4 * np.sqrt(4 / 45 / w.size)
    assert not np.any(p["dense1.b"])
