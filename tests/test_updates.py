"""Update rules, penalties, bounds, schedules and averages: against Torch and optax, on fractions, composed.

That each rule, compiled and in scans, gives the bits of the eager step on NumPy stands in test_record,
and what its formulas may not do in test_formulas.
"""

from dataclasses import replace
from fractions import Fraction as F

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends, schedules, updates
from backprop_xp.arrays import leaves
from backprop_xp.updates import L1, L2, AdamW, Averaged, ClipByNorm, ClipByValue, Lion, Momentum

NET = bp.chain(3, bp.Dense(5, bp.tanh), bp.Dense(4, bp.tanh), bp.Dense(2))
LINEAR = bp.chain(2, bp.Dense(1))
STEPS = 50
PLATEAU = schedules.Plateau(0.1, 0.5, patience=0)


def batches(n=STEPS, seed=0):
    draw = np.random.default_rng(seed)
    return [(draw.normal(size=(4, 3)), draw.normal(size=(4, 2))) for _ in range(n)]


def refused(make, *words):
    with pytest.raises(bp.BackpropError) as why:
        make()
    for word in words:
        assert word in str(why.value)


@pytest.fixture(params=[("numpy", "float32"), ("numpy", "float64"), ("torch", "float32")], ids=str)
def host_place(request, places):
    """NumPy and Torch; JAX compiles each operation of an eager step, and learns below as a whole."""
    here = [place for place in places if (place.name, place.dtype) == request.param]
    return here[0] if here else pytest.skip(f"{request.param[0]} is not here")


# ---------------------------------------------------------------- Torch and optax
def torch_steps(w, optimizer, scheduler=None, clip=None, frozen=()):
    """The weights after 50 steps of Torch with its own gradients, by block name."""
    import torch

    p = {name: torch.tensor(a, requires_grad=name not in frozen) for name, a in w.items()}
    learning = {name: a for name, a in p.items() if name not in frozen}
    optimizer = optimizer(torch.optim, learning)
    scheduler = scheduler and scheduler(torch.optim.lr_scheduler, optimizer)
    for x, t in batches():
        o = torch.tensor(x)
        for k in (1, 2, 3):
            o = o @ p[f"dense{k}.w"] + p[f"dense{k}.b"]
            o = torch.tanh(o) if k < 3 else o
        optimizer.zero_grad()
        (0.5 * ((o - torch.tensor(t)) ** 2).sum(1).mean()).backward()
        if clip:
            clip(torch.nn.utils, learning.values())
        optimizer.step()
        if scheduler:
            scheduler.step()
    return {name: a.detach().numpy() for name, a in p.items()}


def all_of(name, *args, **settings):
    return lambda optim, p: getattr(optim, name)(p.values(), *args, **settings)


def biases_apart(name, rates, decays, **settings):
    """Torch's groups: of the biases, and of the rest."""

    def make(optim, p):
        parts = [[a for key, a in p.items() if key.endswith(".b") == bias] for bias in (True, False)]
        groups = [
            {"params": part, "lr": rate, "weight_decay": decay}
            for part, rate, decay in zip(parts, rates, decays, strict=True)
        ]
        return getattr(optim, name)(groups, **settings)

    return make


def scheduled(name, *args, **settings):
    return lambda lr, optimizer: getattr(lr, name)(optimizer, *args, **settings)


def clipped_by_norm(utils, p):
    p = list(p)
    norm = utils.get_total_norm([a.grad for a in p])
    utils.clip_grads_with_norm_(p, 0.5, norm - 1e-6)  # to which it adds 1e-6


SGD = all_of("SGD", 0.1)
TORCH = {
    "gradient descent": ({"update": bp.GradientDescent(0.1)}, SGD),
    "momentum": ({"update": Momentum(0.1)}, all_of("SGD", 0.1, momentum=0.9)),
    "nesterov": (
        {"update": Momentum(0.1, 0.8, nesterov=True)},
        all_of("SGD", 0.1, momentum=0.8, nesterov=True),
    ),
    "adagrad": ({"update": updates.Adagrad(0.1)}, all_of("Adagrad", 0.1)),
    "rmsprop": ({"update": updates.RMSProp(0.01, 0.9)}, all_of("RMSprop", 0.01, alpha=0.9)),
    "adadelta": ({"update": updates.Adadelta(0.5, 0.8)}, all_of("Adadelta", 0.5, rho=0.8)),
    "adam": ({"update": bp.Adam(0.01)}, all_of("Adam", 0.01)),
    "adamw": ({"update": AdamW(0.01, decay=0.1)}, all_of("AdamW", 0.01, weight_decay=0.1)),
    "nadam": ({"update": updates.NAdam(0.01)}, all_of("NAdam", 0.01)),
    "as they come": ({"update": updates.NAdam()}, all_of("NAdam")),
    "nadam, other settings": (
        {"update": updates.NAdam(0.01, 0.8, 0.99, 1e-4, 0.1)},
        all_of("NAdam", 0.01, (0.8, 0.99), 1e-4, momentum_decay=0.1),
    ),
    "decay coupled": (
        {"update": bp.Adam(0.01), "penalty": L2(0.1)},
        all_of("Adam", 0.01, weight_decay=0.1),
    ),
    "decay coupled, of weights alone": (
        {"update": Momentum(0.1), "penalty": {"*.w": L2(0.1)}},
        biases_apart("SGD", (0.1, 0.1), (0, 0.1), momentum=0.9),
    ),
    "decay of weights alone": (
        {"update": {"*.b": AdamW(0.01, decay=0), "*": AdamW(0.01, decay=0.1)}},
        biases_apart("AdamW", (0.01, 0.01), (0, 0.1)),
    ),
    "rates and decays by group": (
        {"update": {"*.b": AdamW(0.02, decay=0.2), "*": AdamW(0.01, decay=0.1)}},
        biases_apart("AdamW", (0.02, 0.01), (0.2, 0.1)),
    ),
    "clipped by norm": ({"update": bp.Adam(0.01), "clip": ClipByNorm(0.5)}, all_of("Adam", 0.01), None,
                        clipped_by_norm),
    "clipped by value": ({"update": Momentum(0.1), "clip": ClipByValue(0.05)},
                         all_of("SGD", 0.1, momentum=0.9), None,
                         lambda utils, p: utils.clip_grad_value_(p, 0.05)),
    "step": ({"update": bp.GradientDescent(schedules.Step(0.1, 7, 0.5))}, SGD,
             scheduled("StepLR", 7, 0.5)),
    "exponential": ({"update": AdamW(schedules.Exponential(0.01, 0.95), decay=0.1)},
                    all_of("AdamW", 0.01, weight_decay=0.1), scheduled("ExponentialLR", 0.95)),
    "cosine": ({"update": bp.GradientDescent(schedules.Cosine(0.1, STEPS, 0.01))}, SGD,
               scheduled("CosineAnnealingLR", STEPS, 0.01)),
    "warm-up": ({"update": bp.GradientDescent(schedules.WarmUp(8, 0.1))}, SGD,
                scheduled("LinearLR", 1 / 8, total_iters=7)),
    "one cycle": ({"update": updates.NAdam(schedules.OneCycle(0.1, STEPS))}, all_of("NAdam"),
                  scheduled("OneCycleLR", 0.1, STEPS, cycle_momentum=False)),
    "one cycle, other settings": (
        {"update": bp.GradientDescent(schedules.OneCycle(0.1, STEPS + 3, 0.45, 10, 100))}, SGD,
        scheduled("OneCycleLR", 0.1, STEPS + 3, pct_start=0.45, div_factor=10, final_div_factor=100,
                  cycle_momentum=False)),
    "by the count": ({"update": bp.Adam(lambda count, *, xp: 0.01 / (1 + count))}, all_of("Adam", 0.01),
                     scheduled("LambdaLR", lambda count: 1 / (1 + count))),
}  # fmt: skip


def started(**settings):
    """A learner in float64 on NumPy: itself, w, s, and the weights by name as they were."""
    learner = bp.Learner(NET, **settings)
    w, s = learner.init(3, dtype="float64")
    return learner, w, s, {name: a.copy() for name, a in learner.weights(w).items()}


def near(found, expected):
    """Within 1e-9 of the largest number."""
    for name, own in expected.items():
        assert abs(found[name] - own).max() <= 1e-9 * abs(own).max(), name


@pytest.fixture
def float64():
    """Numbers that Torch's optimizers keep, such as NAdam's product, are in its default dtype."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", TORCH)
def test_fifty_steps_are_those_of_torch(name):
    settings, *theirs = TORCH[name]
    learner, w, s, first = started(**settings)
    for batch in batches():
        w, s, _ = learner.step(w, s, *batch)
    near(learner.weights(w), torch_steps(first, *theirs))


def test_every_rule_stands_beside_one_of_another_library():
    own = [settings["update"] for settings, *_ in TORCH.values()]
    assert {type(rule) for rule in own if not isinstance(rule, dict)} == set(updates.ALL.values()) - {Lion}


@pytest.mark.usefixtures("float64")
def test_frozen_weights_stay_bit_for_bit_and_the_others_are_those_of_torch():
    learner, w, s, first = started(update=AdamW(0.01, decay=0.1))
    learner, w, s = learner.freeze(["dense1", "dense2.b"], w, s)
    for batch in batches():
        w, s, _ = learner.step(w, s, *batch)
    found, still = learner.weights(w), ("dense1.w", "dense1.b", "dense2.b")
    near(found, torch_steps(first, all_of("AdamW", 0.01, weight_decay=0.1), frozen=still))
    for name in still:
        assert found[name].tobytes() == first[name].tobytes()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_fifty_steps_of_lion_are_those_of_optax(decay):
    optax = pytest.importorskip("optax")
    learner, w, s, _ = started(update=Lion(schedules.Cosine(0.01, STEPS), 0.8, 0.9, decay))
    theirs = optax.lion(optax.cosine_decay_schedule(0.01, STEPS), 0.8, 0.9, weight_decay=decay)
    other, state = w.copy(), theirs.init(w)
    for batch in batches():
        g = np.concatenate([a.ravel() for a in learner.gradient(other, s, *batch).values()])
        change, state = theirs.update(g, state, other)
        other = np.asarray(optax.apply_updates(other, change))
        w, s, _ = learner.step(w, s, *batch)
    assert abs(w - other).max() < 1e-9 * abs(w).max()


# ---------------------------------------------------------------- fractions
def by_hand(rule, w, v, g, k):
    """New weight and velocity of the k-th update, on fractions."""
    if isinstance(rule, Averaged):
        w, v = by_hand(rule.rule, w, v, g, k)
    elif isinstance(rule, Momentum):
        v = rule.beta * v + g
        w = w - rule.rate * (g + rule.beta * v if rule.nesterov else v)
    elif isinstance(rule, Lion):
        c = rule.beta1 * v + (1 - rule.beta1) * g
        w, v = w - rule.rate * ((c > 0) - (c < 0) + rule.decay * w), rule.beta2 * v + (1 - rule.beta2) * g
    else:
        w = w - (rule.rate(F(k), xp=bp.exact.namespace) if callable(rule.rate) else rule.rate) * g
    return w, v


FRACTIONS = {
    "gradient descent": bp.GradientDescent("1/3"),
    "momentum": Momentum("1/3", "1/2", nesterov=True),
    "lion": Lion("1/3", "1/2", "2/3", "1/7"),
    "averaged": Averaged(Momentum("1/3", "1/2")),
}


@pytest.mark.parametrize("name", FRACTIONS)
def test_a_rational_rule_is_exact_on_fractions_and_so_is_the_mean_of_its_weights(name):
    rule, given = FRACTIONS[name], {"dense1.w": [["1/2"], [-2]], "dense1.b": [0]}
    learner = bp.Learner(LINEAR, update=rule, penalty={"*.w": L1("1/5"), "*.b": L2("1/3")},
                         clip=ClipByValue("1/4"))  # fmt: skip
    w, s = learner.init(backend="exact", weights=given)
    x, t = bp.asarray([["1/2", 1], [1, -1]], like=w), bp.asarray([[1], ["1/3"]], like=w)
    hand, speed, all_hands = w.tolist(), [F(0)] * 3, []
    for k in range(3):
        g = [a for block in learner.gradient(w, s, x, t).values() for a in np.asarray(block.tolist()).flat]
        penalties = [F(1, 5) * ((a > 0) - (a < 0)) for a in hand[:2]] + [F(1, 3) * hand[2]]
        g = [min(max(a + b, F(-1, 4)), F(1, 4)) for a, b in zip(g, penalties, strict=True)]
        found = [by_hand(rule, *each, k) for each in zip(hand, speed, g, strict=True)]
        hand, speed = [a for a, _ in found], [b for _, b in found]
        all_hands.append(hand)
        w, s, _ = learner.step(w, s, x, t)
        assert w.tolist() == hand
        assert learner.penalty_value(w).tolist() == (
            F(1, 5) * (abs(hand[0]) + abs(hand[1])) + F(1, 6) * hand[2] ** 2
        )
    if isinstance(rule, Averaged):
        assert learner.averaged(w, s).tolist() == [sum(column) / 3 for column in zip(*all_hands, strict=True)]


def test_schedules_of_rational_numbers_are_exact_on_fractions():
    rate = schedules.WarmUp(2, schedules.Step("1/3", 2, "1/2"))
    counts = bp.exact.asarray([0, 1, 2, 3, 4, 5])
    found = rate(counts, xp=bp.exact.namespace).tolist()
    assert found == [F(1, 6), F(1, 3), F(1, 3), F(1, 3), F(1, 6), F(1, 6)]
    assert schedules.Constant("1/3")(counts, xp=bp.exact.namespace) == F(1, 3)


# ---------------------------------------------------------------- schedules
LONG = {
    "step": schedules.Step(0.1, 2**27),
    "exponential": schedules.Exponential(0.1, 1 - 2**-29),
    "cosine": schedules.Cosine(0.1, 2**31, 0.001),
    "warm-up": schedules.WarmUp(2**30, schedules.Cosine(0.1, 2**30)),
    "one cycle": schedules.OneCycle(0.1, 2**31),
}


@pytest.mark.parametrize("name", LONG)
def test_schedules_are_right_in_float32_up_to_the_largest_count(name):
    counts = np.unique(np.concatenate([[0, 1, 2**24], np.linspace(0, 2**31, 100)]).astype("float32"))
    found = LONG[name](counts, xp=np)
    right = LONG[name](counts.astype("float64"), xp=np)
    assert found.dtype == np.float32
    # a few roundings of 6e-8 each; the count itself is the same in both
    np.testing.assert_allclose(found, right, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", LONG)
def test_schedules_stay_where_they_end(name):
    after = LONG[name](np.asarray([2.0**31 - 1, 2.0**40]), xp=np)
    if name in ("cosine", "one cycle"):
        assert after[0] == pytest.approx(after[1], rel=1e-9)
    assert np.isfinite(after).all()


def test_thawed_weights_follow_a_schedule_by_their_own_counts():
    learner, w, s, _ = started(update=Momentum(schedules.WarmUp(4, 0.5), 0))
    learner, w, s = learner.freeze("dense1", w, s)
    for batch in batches(3):
        w, s, _ = learner.step(w, s, *batch)
    learner, w, s = learner.thaw("dense1", w, s)
    *_, seen = learner.step(w, s, *batches(1)[0], watch="*.scalars")
    assert set(seen["dense1.scalars"]["w"][0].flat) == {0.125}
    assert set(seen["dense2.scalars"]["w"][0].flat) == {0.5}


# ---------------------------------------------------------------- on a plateau
def test_a_plateau_lowers_the_rate_where_torch_does():
    torch = pytest.importorskip("torch")
    draw, plateau = np.random.default_rng(1), schedules.Plateau(1.0, 0.5, 2, 0.1)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=2, threshold=0, min_lr=0.1
    )
    state, rates = np.asarray(plateau.first()), set()
    for loss in draw.uniform(size=40).round(2).tolist():
        theirs.step(loss)
        state = plateau.observe(state, loss, xp=np)
        rates.add(state[0])
        assert state[0] == optimizer.param_groups[0]["lr"]
    assert len(rates) > 3


def data(n=6, seed=0):
    draw = np.random.default_rng(seed)
    return bp.data.Stored(draw.normal(size=(n, 3)), draw.normal(size=(n, 2)))


@pytest.mark.parametrize("validate", [None, data(seed=5)], ids=["training loss", "validation loss"])
def test_a_plateau_follows_each_epoch_compiles_once_and_goes_on_exactly(validate):
    learner = bp.Learner(NET, update={"*.b": bp.GradientDescent(0.5), "*": Momentum(PLATEAU)})
    state = learner.init(dtype="float64")
    settings = {"batch_size": 3, "validate": validate}
    step = learner.compile(state[0])
    whole = bp.fit(learner, *state, data(), epochs=6, step=step, **settings)
    assert step.compilations == 1
    plateau = np.asarray(PLATEAU.first())
    for epoch in whole.history:
        plateau = PLATEAU.observe(plateau, epoch.loss if validate is None else epoch.validation, xp=np)
    assert whole.s.rule.plateau.tolist() == plateau.tolist()
    part = bp.fit(learner, *state, data(), epochs=4, **settings)
    rest = bp.fit(learner, part.w, part.s, data(), epochs=6, began=0, **settings)
    for a, b in zip(leaves(tuple(rest[:2])), leaves(tuple(whole[:2])), strict=True):
        assert a.tobytes() == b.tobytes()


def test_the_rate_of_a_plateau_is_that_of_the_step_and_outlives_freezing(place):
    if place.name == "jax":
        pytest.skip("compiles each operation for seconds; one learner below is compiled as a whole")
    learner = bp.Learner(LINEAR, update=bp.GradientDescent(PLATEAU))
    w, s = place.init(learner)
    for loss in (2.0, float("nan"), 2.0):
        s = learner.observe(s, loss)
    assert backends.host(s.rule.plateau).tolist() == [0.025, 2, 0]
    learner, w, s = learner.freeze("dense1.b", w, s)
    x = place.array(np.ones((2, 2)))
    g, old = learner.gradient(w, s, x, x[:, :1])["dense1.w"], learner.weights(place.xp.asarray(w, copy=True))
    new = learner.weights(learner.step(w, s, x, x[:, :1])[0])
    change = backends.host(new["dense1.w"]) - backends.host(old["dense1.w"])
    np.testing.assert_allclose(change, -0.025 * backends.host(g), rtol=1e-12)


def test_without_a_plateau_nothing_is_observed():
    learner = bp.Learner(LINEAR)
    s = learner.init()[1]
    assert learner.observe(s, 1.0) is s


# ---------------------------------------------------------------- groups
def test_groups_that_differ_in_decay_run_as_one_and_equal_each_alone(host_place):
    rules = {"*.b": Lion(0.25, decay=0), "dense2": Lion(0.5, decay=0.25), "*": Lion(0.25, decay=0.5)}
    groups = bp.Learner(NET, update=rules)
    assert len(groups.pure.parts) == 1
    rows = [host_place.array(a) for a in batches(1)[0]]
    found = groups.weights(groups.step(*host_place.init(groups), *rows)[0])
    for pattern, rule in rules.items():
        alone = bp.Learner(NET, update=rule)
        own = alone.weights(alone.step(*host_place.init(alone), *rows)[0])
        names = {"*.b": ["dense1.b", "dense3.b"], "dense2": ["dense2.w"], "*": ["dense1.w", "dense3.w"]}
        for name in names[pattern]:
            np.testing.assert_array_equal(backends.host(found[name]), backends.host(own[name]))


ALL_RULES = {
    "dense1": updates.NAdam(schedules.WarmUp(3, 0.01)),
    "dense2.w": Averaged(updates.RMSProp()),
    "dense2.b": Averaged(AdamW(PLATEAU, decay=0), 0.9),
    "dense3.w": Averaged(AdamW(PLATEAU, decay=0.1), 0.9),
    "dense3.b": updates.Adadelta(),
    "dense4.w": Lion(schedules.OneCycle(0.01, 9)),
    "dense4.b": updates.Adagrad(),
    "*": Momentum(0.1),
}
MIXED = bp.Learner(
    bp.chain(3, *(bp.Dense(4, bp.tanh) for _ in range(4)), bp.Dense(2)),
    update=ALL_RULES,
    penalty={"*.b": L1(0.01), "dense2": L2(0.1)},
    clip=ClipByNorm(0.5),
)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_all_rules_together_learn_in_one_compiled_step_what_they_do_on_numpy(backend, steps, places):
    here = [place for place in places if place.name == backend and place.dtype == "float64"]
    if not here:
        pytest.skip(f"{backend} is not here")
    w, losses, s = steps(MIXED, here[0])
    w_home, losses_home, s_home = steps(MIXED, places[0])
    s, s_home = (MIXED.observe(each, 1.0) for each in (s, s_home))
    np.testing.assert_allclose(w, w_home, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(losses, losses_home, rtol=1e-10)
    for a, b in zip(leaves(s.rule), leaves(s_home.rule), strict=True):
        np.testing.assert_allclose(backends.host(a), b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("frozen", [(), ("dense1", "dense3.b")], ids=["all learn", "some frozen"])
def test_weights_split_by_block_learn_what_flat_ones_do(frozen):
    learner = replace(MIXED, net=MIXED.net.freeze(*frozen))
    unpack = learner._carry[1]
    w, s = learner.init(dtype="float64")
    layout = learner.net.layout
    moments = tuple(layout.split_learning(m.copy(), xp=np) for m in s.rule.moments)
    split = layout.split(w.copy(), xp=np), s._replace(rule=s.rule._replace(moments=moments))
    for batch in batches(3):
        w, s, _ = learner.step(w, s, *batch)
        *split, _ = learner.pure(*split, *batch, xp=np)
    again = unpack(*split, xp=np)
    for a, b in zip(leaves(again), leaves((w, s)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_a_schedule_by_steps_is_the_same_in_a_scan():
    learner = bp.Learner(NET, update=bp.GradientDescent(schedules.Step(0.5, 3, 0.5)))
    w, s = learner.init(dtype="float32")
    x, t = (np.concatenate(parts).astype("float32") for parts in zip(*batches(2), strict=True))
    found = learner.compile(w).scan(*learner.snapshot(w, s), x, t, np.arange(8)[:, None])
    for row in range(8):
        w, s, _ = learner.step(w, s, x[row : row + 1], t[row : row + 1])
    assert found[0].tobytes() == w.tobytes()


def test_one_sample_at_a_time_is_steps_of_one_row():
    w, s = MIXED.init(dtype="float32")
    x, t = (np.concatenate(parts).astype("float32") for parts in zip(*batches(2), strict=True))
    found = bp.train.per_sample(MIXED, w, s, x, t)
    for row in range(8):
        w, s, _ = MIXED.step(w, s, x[row : row + 1], t[row : row + 1])
    assert found[0].dtype == np.float32
    assert found[0].tobytes() == w.tobytes()


def test_a_change_follows_from_what_a_step_shows():
    w, s = MIXED.init(dtype="float64")
    w, s, _ = MIXED.step(w, s, *batches(1)[0])
    trace = bp.trace(MIXED, w, s, *batches(2)[1])
    seen = {layer: trace[layer].grad_used for layer in ("dense1", "dense2", "dense3", "dense4")}
    for layer, used in seen.items():
        for p, g in used.items():
            rule = ALL_RULES.get(f"{layer}.{p}") or ALL_RULES[layer]
            own = trace[layer]
            moments = [m.copy() for m in own.moments_before[p]]
            w_after, *after = rule.element(g, own.w_before[p].copy(), *moments, *own.scalars[p], xp=np)
            np.testing.assert_array_equal(w_after, own.w_after[p])
            np.testing.assert_array_equal(np.stack(after), np.stack(own.moments_after[p]))


def test_thawed_groups_of_rules_with_more_moments_begin_anew_and_the_others_go_on():
    learner, w, s, _ = started(
        update={"dense1": bp.GradientDescent(0.1), "dense2": Momentum(0.1), "*": bp.Adam()}
    )
    for names in (["dense3"], ["dense2", "dense3"]):
        less, w_less, s_less = learner.freeze(names, *learner.snapshot(w, s))
        w_less, s_less, _ = less.step(w_less, s_less, *batches(1)[0])
        again, w_again, s_again = less.thaw(names, w_less, s_less)
        assert [m.shape for m in s_again.rule.moments] == [m.shape for m in s.rule.moments]
        first = learner.net.layout.gradient_slices["dense1.w"]
        assert set(s_again.rule.count[first]) == {1}
        assert set(s_again.rule.count[learner.net.layout.gradient_slices["dense3.w"]]) == {0}
        w_again, s_again, _ = again.step(w_again, s_again, *batches(1)[0])
        assert np.isfinite(w_again).all()


@pytest.mark.parametrize("rule", [
    {"*.b": AdamW(decay=0), "*": AdamW()}, bp.Adam({"dense1": 0.1}), bp.Adam(schedules.Plateau(0.1)),
], ids=["decays", "rates", "plateau"])  # fmt: skip
def test_a_state_of_other_groups_is_refused(rule, request):
    one, other = bp.Learner(LINEAR, update=rule), bp.Learner(LINEAR, update=bp.Adam())
    x, kind = np.ones((1, 2)), request.node.callspec.id
    for own, state, words in ((one, other, f"with {kind}"), (other, one, f"without {kind}")):
        refused(lambda: own.step(*state.init(dtype="float64"), x, x[:, :1]), words)  # noqa: B023


# ---------------------------------------------------------------- averages
@pytest.mark.parametrize("decay", [None, 0.0, 0.75])
def test_an_average_is_that_of_all_weights_and_changes_nothing(host_place, decay):
    rule, place = AdamW({"dense1": 0.1, "dense2": 0.2, "dense3": 0.3}, decay=0.1), host_place
    plain, learner = bp.Learner(NET, update=rule), bp.Learner(NET, update=Averaged(rule, decay))
    one, other, path = place.init(plain), place.init(learner), []
    np.testing.assert_array_equal(backends.host(learner.averaged(*other)), backends.host(other[0]))
    for batch in batches(5):
        rows = [place.array(a) for a in batch]
        *one, _ = plain.step(*one, *rows)
        *other, _ = learner.step(*other, *rows)
        path.append(backends.host(one[0]).copy())
        np.testing.assert_array_equal(path[-1], backends.host(other[0]))
    weight = np.ones(5) if decay is None else np.asarray([decay ** (4.0 - k) for k in range(5)])
    mean = np.average(np.asarray(path, dtype="float64"), axis=0, weights=weight)
    rtol = 1e-5 if place.dtype == "float32" else 1e-12
    found = learner.averaged(*other)
    assert found.dtype == other[0].dtype
    np.testing.assert_allclose(backends.host(found), mean, rtol=rtol, atol=rtol)


def test_averages_are_in_the_place_of_those_blocks_alone_that_have_one():
    rules = {"dense1": Averaged(bp.Adam(0.1)), "dense2": bp.Adam(0.1), "*": Averaged(Momentum(0.1), 0.5)}
    learner, w, s, _ = started(update=rules)
    learner, w, s = learner.freeze("dense3.b", w, s)
    path = []
    for batch in batches(3):
        w, s, _ = learner.step(w, s, *batch)
        path.append({name: a.copy() for name, a in learner.weights(w).items()})
    found = learner.weights(learner.averaged(w, s))
    np.testing.assert_allclose(found["dense1.w"], sum(p["dense1.w"] for p in path) / 3, rtol=1e-12)
    last = sum(2**k * p["dense3.w"] for k, p in enumerate(path)) / 7
    np.testing.assert_allclose(found["dense3.w"], last, rtol=1e-12)
    for name in ("dense2.w", "dense2.b", "dense3.b"):
        assert found[name].tobytes() == path[-1][name].tobytes()
    learner, w, s = learner.thaw("dense3.b", w, s)
    assert learner.weights(learner.averaged(w, s))["dense3.b"].tolist() == path[-1]["dense3.b"].tolist()
    w, s, _ = learner.step(w, s, *batches(1)[0])
    now = learner.weights(learner.averaged(w, s))["dense3.b"]
    np.testing.assert_allclose(now, learner.weights(w)["dense3.b"], rtol=1e-15)


def test_a_learner_without_averages_has_none():
    learner = bp.Learner(LINEAR)
    refused(lambda: learner.averaged(*learner.init()), "no rule", "Averaged(bp.Adam())")


# ---------------------------------------------------------------- penalties and bounds
@pytest.mark.parametrize("penalty", [L1(0.3), L2(0.3)], ids=["l1", "l2"])
def test_the_gradient_of_a_penalty_is_that_of_its_value(penalty):
    w, h = np.asarray([0.5, -2.0, 0.25]), 1e-6
    for k, own in enumerate(penalty.gradient(w, xp=np)):
        two = [float(penalty.value(w + step * np.eye(3)[k], xp=np)) for step in (h, -h)]
        assert (two[0] - two[1]) / (2 * h) == pytest.approx(own, rel=1e-8)
    assert penalty.gradient(np.asarray([0.0, -0.0]), xp=np).tolist() == [0, 0]


def test_penalties_by_group_are_those_of_the_first_pattern_and_stand_beside_the_loss():
    penalty = {"dense1.b": L1(0.1), "*.b": L2(0.2), "dense2": L1(0.3)}
    plain = bp.Learner(NET.freeze("dense2.b"), update=bp.GradientDescent(1))
    learner = replace(plain, penalty=penalty)
    (w, s), batch = learner.init(dtype="float64"), batches(1)[0]
    b = learner.weights(w)
    value = 0.1 * abs(b["dense1.b"]).sum() + 0.1 * (b["dense3.b"] ** 2).sum() + 0.3 * abs(b["dense2.w"]).sum()
    assert float(learner.penalty_value(w)) == pytest.approx(value, rel=1e-14)
    assert float(plain.penalty_value(w)) == 0
    one = plain.step(*plain.snapshot(w, s), *batch)
    two = learner.step(*learner.snapshot(w, s), *batch)
    assert float(one[2]) == float(two[2])
    change = {name: a - plain.weights(two[0])[name] for name, a in plain.weights(one[0]).items()}
    for name, own in change.items():
        term = {
            "dense1.b": 0.1 * np.sign(b[name]),
            "dense3.b": 0.2 * b[name],
            "dense2.w": 0.3 * np.sign(b[name]),
        }
        np.testing.assert_allclose(own, term.get(name, 0 * b[name]), rtol=1e-12, atol=1e-15)


SIZES = [(kind, size) for kind in ("float32", "float64") for size in (0.0, 1e-30, 1.0, 1e30, 3e38)]


@pytest.mark.parametrize(("dtype", "size"), [*SIZES, ("float64", 1e308)])
def test_bounds_hold_for_gradients_of_any_size(dtype, size):
    g, limit = (np.asarray([size, -size], dtype=dtype), np.asarray([size / 2], dtype=dtype)), 0.5
    short, cut = ClipByNorm(limit)(g, xp=np), ClipByValue(limit)(g, xp=np)
    for a, b, c in zip(g, short, cut, strict=True):
        assert b.dtype == c.dtype == dtype
        assert c.tolist() == np.clip(a, -limit, limit).tolist()
    if size < limit:
        assert [a.tobytes() for a in short] == [a.tobytes() for a in g]
    else:  # limit / size is subnormal at 3e38, with 21 bits left
        norm = np.sqrt(sum((a.astype("float64") ** 2).sum() for a in short))
        assert norm == pytest.approx(limit, rel=1e-5 if dtype == "float32" else 1e-12)


# ---------------------------------------------------------------- settings
REFUSED = {
    "epsilon 0": (lambda: updates.RMSProp(epsilon=0), ["RMSProp's epsilon", "1e-8"]),
    "alpha 1": (lambda: updates.RMSProp(alpha=1), ["alpha", "0 <= alpha < 1"]),
    "rho as text": (lambda: updates.Adadelta(rho="a"), ["rho", "'a'"]),
    "a rate of 0": (lambda: updates.Adagrad(0), ["a rate must be"]),
    "a decay below 0": (lambda: AdamW(decay=-1), ["the weight decay", "-1"]),
    "a decay as text": (lambda: Lion(decay="much"), ["the text of a decay"]),
    "a momentum decay of NaN": (
        lambda: updates.NAdam(momentum_decay=float("nan")),
        ["momentum decay", "nan"],
    ),
    "a mean of no rule": (lambda: Averaged(0.1), ["Averaged needs an update rule such as bp.Adam()"]),
    "a mean of a class": (lambda: Averaged(bp.Adam), ["an update rule such as", "write Adam()"]),
    "an average that forgets nothing": (lambda: Averaged(bp.Adam(), 1), ["decay", "0 <= decay < 1"]),
    "a strength below 0": (lambda: L1(-1), ["strength", "0 or more"]),
    "a value of 0": (lambda: ClipByValue(0), ["the largest value of a gradient"]),
    "a norm without end": (lambda: ClipByNorm(float("inf")), ["the largest norm"]),
    "a penalty of a pattern that is none": (
        lambda: bp.Learner(NET, penalty={"*.w": 0.1}),
        ["the penalty of '*.w'", "bp.updates.L2(0.01)"],
    ),
    "a penalty of nothing": (
        lambda: bp.Learner(NET, penalty={"x": L1()}),
        ["the net has no 'x'", "penalties"],
    ),
    "steps of 0": (lambda: schedules.Cosine(0.1, 0), ["steps of a schedule", "positive integer"]),
    "steps and a half": (lambda: schedules.Step(0.1, 2.5), ["step_size of a schedule", "2.5"]),
    "a factor of 0": (lambda: schedules.Exponential(0.1, 0), ["factor of a schedule"]),
    "a rate in a schedule": (lambda: schedules.Constant("fast"), ["the text of a rate"]),
    "a floor below 0": (lambda: schedules.Cosine(0.1, 9, -1), ["the least rate"]),
    "a cycle without a start": (lambda: schedules.OneCycle(0.1, 9, 0.1), ["pct_start", "more than one"]),
    "a warm-up to nothing": (lambda: schedules.WarmUp(9, None), ["a warm-up needs a schedule"]),
    "a warm-up to a plateau": (lambda: schedules.WarmUp(9, PLATEAU), ["a warm-up needs a schedule"]),
    "a plateau that grows": (lambda: schedules.Plateau(0.1, 2), ["the factor of a plateau"]),
    "a plateau below 0": (lambda: schedules.Plateau(0.1, patience=-1), ["patience of a plateau"]),
    "a plateau that starts low": (lambda: schedules.Plateau(0.1, least=1), ["least <= rate"]),
    "two plateaus": (
        lambda: bp.Learner(NET, update={"*.b": bp.Adam(PLATEAU), "*": bp.Adam(replace(PLATEAU, rate=1))}),
        ["must have the same one, got Plateau("],
    ),
    "a plateau by layer": (lambda: bp.Adam({"dense1": PLATEAU}), ["a rate must be"]),
    "layer by layer": (
        lambda: bp.Learner(NET, update=Averaged(bp.GradientDescent()), order="layer by layer"),
        ["needs GradientDescent", "Averaged"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_mean_nothing_are_refused_in_words(name):
    refused(REFUSED[name][0], *REFUSED[name][1])


@pytest.mark.parametrize("rule", [r for n, r in updates.ALL.items() if n != "gradient_descent"])
def test_layer_by_layer_needs_plain_gradient_descent(rule):
    refused(lambda: bp.Learner(NET, update=rule(), order="layer by layer"), "needs GradientDescent")


def test_layer_by_layer_takes_a_schedule_and_a_plateau():
    for rate in (schedules.Cosine(0.5, 4), schedules.Plateau(0.5)):
        both = [
            bp.Learner(LINEAR, update=bp.GradientDescent(rate), order=order)
            for order in ("together", "layer by layer")
        ]
        x = np.ones((2, 2))
        one, two = (learner.step(*learner.init(dtype="float64"), x, x[:, :1]) for learner in both)
        assert one[0].tolist() == two[0].tolist()
