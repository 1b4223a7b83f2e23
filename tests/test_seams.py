"""The seams: where a step, its halves, its compiled forms, its data and its training meet."""

import os
import signal
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backprop_xp as bp
from backprop_xp import backends, layers, loss_scale
from backprop_xp.arrays import leaves, mapped
from backprop_xp.compiler import compiled as compiled_module
from backprop_xp.params import Param
from backprop_xp.step import total
from backprop_xp.train.batches import Batches, window_and_block
from backprop_xp.train.chunk_length import ChunkLength
from backprop_xp.updates import L2, ClipByNorm, Momentum, RuleState

SKIPS = bp.chain(
    3, bp.named("early", bp.Dense(4, bp.relu)), bp.Dense(4, bp.relu), bp.add("early"), bp.Dense(2)
)
SMALL = bp.chain(3, bp.Dense(4, bp.relu), bp.Dense(2))
LINEAR = bp.chain(3, bp.Dense(2))
STEADY = bp.GradientDescent(0.25)
ROLLING = Momentum(0.25, 0.5)
EAGER = ("strict", "exact")  # whose functions are never compiled


# ---------------------------------------------------------------- what all tests here use
@pytest.fixture(scope="module", params=["numpy", "torch", "jax", "strict", "cupy", "exact"])
def library(request, places):
    """Every library once, in float64 or in fractions; the strict one with every flag off."""
    here = [place for place in places if place.name == request.param]
    if not here:
        pytest.skip(f"{request.param} is not here")
    with strict_flags() if request.param == "strict" else nullcontext():
        yield here[0]


def strict_flags():
    from array_api_strict import ArrayAPIStrictFlags

    return ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=())


@pytest.fixture(scope="module")
def exact(places):
    """The place of fractions."""
    return next(place for place in places if place.name == "exact")


def trained(place):
    """A learner for many steps; in fractions a linear one, whose digits grow slowly."""
    return bp.Learner(LINEAR if place.name == "exact" else SMALL, update=bp.GradientDescent(0.125))


def batch(place, n=4, seed=0, labels=False):
    """Inputs in quarters, which every dtype holds, and targets for two units."""
    draw = np.random.default_rng(seed)
    x, t = draw.integers(-4, 5, (n, 3)) / 4, draw.integers(-4, 5, (n, 2)) / 4
    return place.array(x), place.array(draw.integers(0, 2, n), "int32") if labels else place.array(t)


def first_row(place, k):
    """The number of a row as a 0-d array."""
    return place.backend.asarray(
        np.asarray(k, dtype="int32"), place.xp.int32, place.backend.device(place.device)
    )


def bits(tree):
    """Every array of a tree, to the last bit."""
    return [
        a.tolist() if backends.of(a).name == "exact" else (str(a.dtype), np.array(backends.host(a)).tobytes())
        for a in leaves(tree)
    ]


def agree(place, one, other):
    """The same bits; where a compiler rounds as it likes, or runs NumPy's functions, the same numbers."""
    if place.name not in ("jax", "cupy", "torch"):
        assert bits(one) == bits(other)
        return
    rtol = 1e-5 if place.dtype == "float32" else 1e-12
    for a, b in zip(leaves(in_order(one)), leaves(in_order(other)), strict=True):
        np.testing.assert_allclose(backends.host(a), backends.host(b), rtol=rtol, atol=rtol)


def in_order(tree):
    """A tree with its dicts sorted, as JAX returns them."""
    if isinstance(tree, (tuple, list)):
        return [in_order(each) for each in tree]
    return {key: in_order(tree[key]) for key in sorted(tree)} if isinstance(tree, dict) else tree


def refused(action, *words):
    """The action raises the library's own error, and its message has these words."""
    with pytest.raises(bp.BackpropError) as caught:
        action()
    for word in words:
        assert word in str(caught.value), (word, str(caught.value))


def stepped(learner, w, s, *rows, **more):
    """A step that leaves w and s alone."""
    return learner.step(*learner.snapshot(w, s), *rows, **more)


def blocks(learner, w):
    """The blocks of weights, or of a gradient that has them all, by name."""
    return learner.weights(w)


@contextmanager
def chunks_of(length):
    """Trainings that hand this many steps to the library at once and read the losses after each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChunkLength.__init__, "__defaults__", (length, 1, 0, 0.0, True, 4))
        patch.setattr(ChunkLength, "read", lambda pace, step, second: setattr(pace, "step", step))
        yield


# ---------------------------------------------------------------- states and held arguments take turns
def test_two_states_take_turns_in_one_compiled_step_and_nothing_returned_is_harmed(library):
    learner = bp.Learner(SKIPS, update=ROLLING)
    first = {seed: library.init(learner, seed) for seed in (1, 2)}
    w = first[1][0]
    one, alone = learner.compile(w, watch="*"), {}
    for seed, start in first.items():
        state, alone[seed] = learner.snapshot(*start), []
        for k in range(2):
            found = one(*state, *batch(library, seed=k))
            state = found[:2]
            alone[seed].append(bits(found))
    step, kept = learner.compile(w, watch="*"), []
    for k in range(2):
        for seed, state in list(first.items()):
            found = step(*state, *batch(library, seed=k))
            first[seed] = found[:2]
            assert bits(found) == alone[seed][k]
            kept.append((found[2:], bits(found[2:])))
            other = 3 - seed
            done = k if other > seed else k + 1
            if done:
                assert bits(first[other]) == alone[other][done - 1][: len(leaves(first[other]))]
    assert all(bits(result) == before for result, before in kept)
    assert step.compilations == (library.name not in EAGER)


def test_weights_that_are_held_may_change_from_call_to_call(library):
    learner = bp.Learner(SKIPS, update=ROLLING)
    states, (x, t) = [library.init(learner, seed) for seed in (1, 2)], batch(library)
    predict, gradient = learner.compile_predict(states[0][0]), learner.compile_gradient(states[0][0])
    before, kept = bits(states), []
    for state in states * 2:
        for found, eager in (
            (predict(*state, x), learner.predict(*state, x)),
            (
                gradient(*state, first_row(library, 0), x, t),
                learner.pure.gradient(*state, x, t, xp=library.xp),
            ),
        ):
            agree(library, found, eager)
            kept.append((found, bits(found)))
    assert all(bits(result) == old for result, old in kept)
    assert kept[0][1] == kept[4][1] != kept[2][1]
    assert kept[1][1] == kept[5][1] != kept[3][1]
    assert bits(states) == before
    assert predict.compilations == gradient.compilations == (library.name not in EAGER)


def test_a_scan_leaves_what_was_returned_before_alone(library):
    learner = bp.Learner(SMALL, update=ROLLING)
    (w, s), (x, t) = library.init(learner), batch(library, 8)
    step, index, kept = learner.compile(w, watch=["dense1.grad", "*.w_after"]), np.arange(8).reshape(2, 4), []
    for _ in range(2):
        w, s, *found = step.scan(w, s, x, t, index)
        kept.append((found, bits(found)))
    assert all(bits(result) == before for result, before in kept)
    assert kept[0][1] != kept[1][1]


# ---------------------------------------------------------------- what is compiled, and how often
def test_many_epochs_compile_two_signatures(library):
    learner = trained(library)
    epochs = 2 if library.name in EAGER else 50
    (w, s), (x, t) = library.init(learner), batch(library, 11)
    step, data = learner.compile(w), bp.data.Stored(x, t)
    with chunks_of(1):
        found = bp.fit(learner, w, s, data, batch_size=4, epochs=epochs, step=step)
        assert int(found.s.step) == 3 * epochs
        assert step.compilations == 2 * (library.name not in EAGER)
        kept = learner.snapshot(found.w, found.s)
        again = bp.fit(learner, found.w, found.s, data, batch_size=4, epochs=1, step=step)
        back = bp.fit(learner, *kept, data, batch_size=4, epochs=1, step=step)
    assert bits(again[:2]) == bits(back[:2])
    assert step.compilations == 2 * (library.name not in EAGER)


@cache
def xla_compilations():
    """A list that grows with everything XLA compiles."""
    import jax

    found = []

    def heard(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(heard)
    return found


def test_xla_compiles_nothing_in_a_second_training_of_the_same_settings(places):
    place = next((place for place in places if place.name == "jax"), None)
    if place is None:
        pytest.skip("jax is not here")
    learner, counted = bp.Learner(SMALL, update=ROLLING), xla_compilations()
    (w, s), (x, t) = place.init(learner), batch(place, 11)
    step, data = learner.compile(w), bp.data.Stored(x, t)
    with chunks_of(2):
        before = len(counted)
        found = bp.fit(learner, w, s, data, batch_size=4, epochs=2, step=step)
        warm = len(counted)
        again = bp.fit(learner, w, s, data, batch_size=4, epochs=2, step=step)
        on = bp.fit(learner, found.w, found.s, data, batch_size=4, epochs=2, step=step)
    assert warm > before
    assert len(counted) == warm
    assert bits(again[:2]) == bits(found[:2]) != bits(on[:2])


def test_what_jax_starts_with_and_copies_is_committed_and_all_scans_share_one_executable(places):
    place = next((place for place in places if place.name == "jax"), None)
    if place is None:
        pytest.skip("jax is not here")
    learner = bp.Learner(SMALL, update={"*.b": bp.GradientDescent(0.5), "*": ROLLING})
    w, s = place.init(learner)
    x, t = batch(place, 8)
    step, index, counted = learner.compile(w), np.arange(8).reshape(2, 4), xla_compilations()
    for state in ((w, s), learner.snapshot(w, s)):
        assert all(a.committed for a in leaves(state))
    w, s, _ = step.scan(w, s, x, t, index)
    warm = len(counted)
    for _ in range(3):
        w, s, _ = step.scan(w, s, x, t, index)
    kept = learner.snapshot(w, s)
    assert all(a.committed for a in leaves((w, s, kept)))
    step.scan(*kept, x, t, index)
    assert step.compilations == 1
    assert len(counted) - warm <= 1  # the copy, perhaps
    w, s, _ = step(w, s, x[:4], t[:4])
    step(w, s, x[:4], t[:4])
    assert step.compilations == 2


# ---------------------------------------------------------------- a step in parts
def in_parts(place, learner, state, rows, cuts):
    """A step from the gradients of parts of a batch, both halves compiled."""
    w, s = learner.snapshot(*state)
    n = leaves(rows)[0].shape[0]
    gradient, apply = learner.compile_gradient(w, rows=n), learner.compile_apply(w)
    parts = [
        gradient(w, s, first_row(place, i), *mapped(rows, lambda a, i=i, j=j: a[i:j, ...]))
        for i, j in zip((0, *cuts), (*cuts, n), strict=True)
    ]
    return apply(w, s, total(parts))


def assert_shards_are_halves(place, learner):
    state, rows = place.init(learner, 3), batch(place, 6)
    sharded = replace(learner, shards=2)
    for _ in range(2):
        halves = in_parts(place, learner, state, rows, [3])
        whole = sharded.compile(state[0])(*sharded.snapshot(*state), *rows)
        assert bits(halves[:2]) == bits(whole[:2])
        agree(place, halves[2], whole[2])  # which XLA rounds otherwise where it knows both halves
        agree(place, halves, stepped(sharded, *state, *rows))
        close = 1e-4 if place.dtype == "float32" else 1e-12
        expected = stepped(learner, *state, *rows)
        for a, b in zip(leaves(halves), leaves(expected), strict=True):
            np.testing.assert_allclose(backends.host(a), backends.host(b), rtol=close, atol=close)
        state = halves[:2]


@pytest.mark.parametrize("update", [STEADY, ROLLING], ids=["descent", "momentum"])
def test_two_halves_of_a_batch_are_a_step_in_two_shards_bit_for_bit(float_place, update):
    assert_shards_are_halves(float_place, bp.Learner(SMALL, update=update))


def test_two_halves_with_adam_are_a_step_in_two_shards_bit_for_bit(place):
    assert_shards_are_halves(place, bp.Learner(SMALL, update=bp.Adam(0.01), reduction="sum"))


@pytest.mark.parametrize("update", [STEADY, ROLLING], ids=["descent", "momentum"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("cuts", [[2], [1, 4]], ids=["two parts", "three batches"])
def test_parts_of_a_batch_are_exactly_the_whole_in_fractions(exact, update, reduction, cuts):
    learner = bp.Learner(SKIPS, update=update, reduction=reduction)
    state, rows = exact.init(learner, 1), batch(exact, 5)
    parts = in_parts(exact, learner, state, rows, cuts)
    assert bits(parts) == bits(stepped(learner, *state, *rows))
    assert bits(parts[:2]) != bits(state)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_shards_that_do_not_divide_the_batch_are_its_step_in_fractions(exact, n):
    learner = bp.Learner(SMALL, update=STEADY)
    state, rows = exact.init(learner), batch(exact, n)
    for shards in (2, 3):
        assert bits(stepped(replace(learner, shards=shards), *state, *rows)) == bits(
            stepped(learner, *state, *rows)
        )


@dataclass(frozen=True)
class Running(layers.Layer):
    """Carries a number."""

    def state(self, *inputs):
        return (Param(inputs[0]),)

    def forward(self, p, *x, ctx, xp):
        return layers.Flow(x[0], x[0]), ctx.state


def test_shards_are_refused_where_a_batch_must_be_whole():
    refused(lambda: bp.Learner(bp.chain(3, Running(), bp.Dense(2)), shards=2), "running state", "shards=1")
    refused(lambda: bp.Learner(SMALL, shards=2, order="layer by layer"), "shards=", "order='together'")
    for shards in (0, -1, 1.5, True):
        refused(lambda shards=shards: bp.Learner(SMALL, shards=shards), "positive integer", repr(shards))


# ---------------------------------------------------------------- sample weights
TIMES = [1, 0, 2, 1]  # how often each of four rows counts


def eagerly(learner, state, *rows):
    w, _, loss = stepped(learner, *state, *rows)
    return w, loss


def compiled(learner, state, *rows):
    w, _, loss = learner.compile(state[0])(*learner.snapshot(*state), *rows)
    return w, loss


def scanned(learner, state, *rows):
    index = np.arange(leaves(rows)[0].shape[0])[None, :]
    w, _, losses = learner.compile(state[0]).scan(*learner.snapshot(*state), *rows, index)
    return w, losses[0]


def fitted(learner, state, *rows):
    data = bp.data.Stored(*rows[:2], weight=rows[2] if len(rows) > 2 else None)
    w, _, (epoch,) = bp.fit(learner, *state, data, batch_size=data.n, shuffle=False)
    return w, bp.asarray(epoch.loss * epoch.rows, like=w)


WAYS = {"eager": eagerly, "compiled": compiled, "in a scan": scanned, "through fit": fitted}


def repeated(place, rows):
    """The rows, each as often as it counts; and the weights that say so."""
    index = place.array([k for k, times in enumerate(TIMES) for _ in range(times)], "int32")
    return [place.xp.take(a, index, axis=0) for a in rows], place.array(TIMES)


def alike(place, one, other):
    """The same fractions, or numbers that agree but for the order of sums."""
    if place.name == "exact":
        assert bits(one) == bits(other)
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_allclose(backends.host(a), backends.host(b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_a_row_of_weight_0_is_left_out_and_one_of_weight_2_comes_twice(library, way):
    learner = bp.Learner(SKIPS, update=bp.GradientDescent(0.125), reduction="sum")
    state, rows = library.init(learner), batch(library)
    others, weight = repeated(library, rows)
    weighted, plain = WAYS[way](learner, state, *rows, weight), WAYS[way](learner, state, *others)
    alike(library, weighted[0], plain[0])
    np.testing.assert_allclose(float(weighted[1]), float(plain[1]), rtol=1e-12)
    assert not np.allclose(backends.host(plain[0]), backends.host(WAYS[way](learner, state, *rows)[0]))


def test_weights_count_one_sample_at_a_time_and_in_an_evaluation(library):
    learner = bp.Learner(SMALL, update=bp.GradientDescent(0.125), reduction="sum")
    state, rows = library.init(learner), batch(library)
    others, weight = repeated(library, rows)
    w, s, losses = bp.train.per_sample(learner, *state, *rows, weight)
    mine, found = learner.snapshot(*state), []
    for k in (0, 2, 3):
        again = library.array([k] * TIMES[k], "int32")
        *mine, loss = learner.step(*mine, *(library.xp.take(a, again, axis=0) for a in rows))
        found.append(float(loss))
    alike(library, w, mine[0])
    np.testing.assert_allclose(backends.host(losses), [found[0], 0, *found[1:]], rtol=1e-12)
    assert int(s.step) == 4
    for batch_size in (3, 4, 100):
        mean = bp.train.evaluate(learner, *state, bp.data.Stored(*rows, weight=weight), batch_size=batch_size)
        plain = bp.train.evaluate(learner, *state, bp.data.Stored(*others), batch_size=batch_size)
        assert mean == pytest.approx(plain, rel=1e-12)
        assert plain == pytest.approx(
            float(np.mean(backends.host(learner.losses(*state, *others)))), rel=1e-12
        )
    doubled = bp.data.Stored(*rows, weight=2 * weight)
    assert bp.train.evaluate(learner, *state, doubled) == pytest.approx(plain, rel=1e-12)
    sums = learner.compile_evaluate(state[0])(*state, *rows, weight)
    assert [float(a) for a in sums] == pytest.approx([4 * plain, 4], rel=1e-12)


def test_weights_of_1_change_no_bit_of_a_sum(float_place):
    learner = bp.Learner(SKIPS, update=ROLLING, reduction="sum")
    state, rows = float_place.init(learner), batch(float_place)
    ones = float_place.array(np.ones(4))
    for way in (eagerly, compiled):
        assert bits(way(learner, state, *rows, ones)) == bits(way(learner, state, *rows))


def test_a_mean_divides_by_the_number_of_rows(library):
    summed = bp.Learner(SMALL, reduction="sum")
    state, rows = library.init(summed), batch(library)
    weight = library.array(TIMES)
    mean = replace(summed, reduction="mean")
    one, other = mean.gradient(*state, *rows, weight), summed.gradient(*state, *rows, weight)
    alike(library, one, {name: g / 4 for name, g in other.items()})
    assert float(stepped(mean, *state, *rows, weight)[2]) == pytest.approx(
        float(stepped(summed, *state, *rows, weight)[2]) / 4, rel=1e-12
    )


@pytest.mark.parametrize("call", ["step", "compile", "losses", "gradient", "compile_evaluate"])
def test_weights_of_rows_that_do_not_fit_are_refused_in_words(library, call):
    learner = bp.Learner(SMALL)
    (w, s), rows = library.init(learner), batch(library)
    before = bits((w, s))
    act = getattr(learner, call)(w) if call.startswith("compile") else getattr(learner, call)
    ones, other = np.ones(4), "numpy" if library.name == "exact" else "exact"
    for weight in (
        library.array(ones[:3]),
        library.array(ones[:, None]),
        library.array(ones, "int32"),
        bp.asarray(ones, backend=other, dtype="rational" if other == "exact" else "float64"),
        [1.0] * 4,
        2.0,
    ):
        refused(lambda weight=weight: act(w, s, *rows, weight), "sample weights must be", "(4,)")
    refused(lambda: act(w, s, *rows, library.array(ones), library.array(ones)), "got 4 arguments")
    assert bits((w, s)) == before


def test_weights_of_stored_rows_are_checked_once():
    x, t = np.ones((3, 1)), np.ones((3, 1))
    for weight, word in (
        (np.ones(2), "shape (3,)"),
        (np.ones((3, 1)), "shape (3,)"),
        (np.ones(3, dtype=int), "numbers"),
        (np.asarray([1, np.nan, 1]), "finite"),
        (np.asarray([1, -1.0, 1]), "0 or more, got -1.0"),
    ):
        refused(lambda weight=weight: bp.data.Stored(x, t, weight=weight), "sample weights", word)


# ---------------------------------------------------------------- groups
def test_the_first_pattern_that_names_a_block_is_its_rule(library):
    first, second, third = (bp.GradientDescent(rate) for rate in (0.5, 0.25, 0.125))
    learner = bp.Learner(SKIPS, update={"*.b": first, "early": second, "dense1.b": third, "dense*": third})
    expected = {"early.w": second, "dense1.w": third, "dense2.w": third}
    names = [block.name for block in SKIPS.layout.learning]
    assert dict(zip(names, learner.pure.rules, strict=True)) == {
        name: expected.get(name, first) for name in names
    }
    state, rows = library.init(learner), batch(library)
    g, w = learner.gradient(*state, *rows), blocks(learner, state[0])
    found = blocks(learner, stepped(learner, *state, *rows)[0])
    for name in names:
        assert bits(found[name]) == bits(w[name] - expected.get(name, first).rate * g[name])


RATES = {"early.w": 0.5, "early.b": 0.25, "dense1.w": 0.1, "dense1.b": 0.01, "dense2.w": 0.3, "dense2.b": 1}


def test_groups_that_differ_in_rate_alone_run_as_one_and_equal_updates_by_hand(float_place):
    learner = bp.Learner(SKIPS, update={name: bp.GradientDescent(rate) for name, rate in RATES.items()})
    assert len(learner.pure.parts) == 1
    state, rows = float_place.init(learner), batch(float_place)
    g, w = learner.gradient(*state, *rows), blocks(learner, state[0])
    found = blocks(learner, stepped(learner, *state, *rows)[0])
    for name, rate in RATES.items():
        assert bits(found[name]) == bits(w[name] - rate * g[name])


@pytest.mark.parametrize("rule", [bp.GradientDescent, Momentum, bp.Adam])
def test_a_mapping_of_rates_is_groups_that_differ_in_rate(library, rule):
    if library.name == "exact" and rule is bp.Adam:
        rule = STEADY.__class__
    mapping = bp.Learner(SKIPS, update=rule(RATES))
    groups = bp.Learner(SKIPS, update={name: rule(rate) for name, rate in RATES.items()})
    assert len(mapping.pure.parts) == len(groups.pure.parts) == 1
    one, other = library.init(mapping), library.init(groups)
    assert bits(one) == bits(other)
    for k in range(2):
        *one, _ = mapping.step(*one, *batch(library, seed=k))
        *other, _ = groups.step(*other, *batch(library, seed=k))
    assert bits(one) == bits(other)


def test_mixed_rules_update_each_block_as_a_learner_of_that_rule_would(place):
    descent, adam = bp.GradientDescent(0.5), bp.Adam(0.01)
    mixed = bp.Learner(SKIPS, update={"*.b": descent, "*": adam})
    alone = {rule: bp.Learner(SKIPS, update=rule) for rule in (descent, adam)}
    states = {rule: learner.snapshot(*place.init(learner)) for rule, learner in alone.items()}
    w, s = place.init(mixed)
    rule_state, layout = s.rule, SKIPS.layout
    rules = {rule: (state[0], state[1].rule) for rule, state in states.items()}
    for k in range(3):
        g = place.array(np.random.default_rng(k).normal(size=layout.size))
        w, rule_state = mixed.pure.updated(g, w, rule_state, xp=place.xp)
        rules = {rule: alone[rule].pure.updated(g, *own, xp=place.xp) for rule, own in rules.items()}
    found, parts = blocks(mixed, w), {rule: blocks(mixed, state[0]) for rule, state in rules.items()}
    for name, block in found.items():
        assert bits(block) == bits(parts[descent if name.endswith(".b") else adam][name])
    for mine, own in zip(rule_state.moments, rules[adam][1].moments, strict=True):
        for name, here in layout.gradient_slices.items():
            if name.endswith(".w"):
                assert bits(mine[here]) == bits(own[here])


def test_mixed_rules_learn_the_same_eagerly_compiled_and_in_a_scan(place):
    update = {
        "*.b": bp.GradientDescent(0.5),
        "dense1": Momentum(0.1),
        "dense2.w": Momentum(0.2),
        "*": bp.Adam(0.01),
    }
    learner = bp.Learner(SKIPS, update=update)
    x, t = batch(place, 8)
    w, s = place.init(learner)
    steps = [x[:4, ...], t[:4, ...]], [x[4:, ...], t[4:, ...]]
    eager, replayed = learner.snapshot(w, s), learner.snapshot(w, s)
    step = learner.compile(w)
    for rows in steps:
        *eager, _ = learner.step(*eager, *rows)
        *replayed, _ = step(*replayed, *rows)
    agree(place, replayed, eager)
    together = step.scan(w, s, x, t, np.arange(8).reshape(2, 4))[:2]
    for a, b in zip(leaves(together), leaves(tuple(eager)), strict=True):
        np.testing.assert_allclose(backends.host(a), backends.host(b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("update", [RATES, "mixed"], ids=["rates", "mixed"])
@pytest.mark.parametrize("frozen", [(), ("early.b", "dense1")], ids=["all learn", "some frozen"])
def test_weights_split_by_block_learn_what_flat_ones_do(place, update, frozen):
    rules = {name: bp.GradientDescent(rate) for name, rate in RATES.items()}
    if update == "mixed":
        rules = {"*.b": bp.GradientDescent(0.5), "*": bp.Adam(0.1)}
    learner = bp.Learner(SKIPS.freeze(*frozen), update=rules, penalty=L2(0.1), clip=ClipByNorm(0.5))
    (w, s), rows, layout, xp = place.init(learner), batch(place), learner.net.layout, place.xp
    moments = tuple(layout.split_learning(m, xp=xp) for m in s.rule.moments)
    split = layout.split(w, xp=xp), s._replace(rule=s.rule._replace(moments=moments))
    split = mapped(split, lambda a: xp.asarray(a, copy=True))
    for _ in range(2):
        w, s, loss = learner.step(w, s, *rows)
        *split, split_loss = learner.pure(*split, *rows, xp=xp)
    parts = layout.split(w, xp=xp), tuple(layout.split_learning(m, xp=xp) for m in s.rule.moments), loss
    for a, b in zip(leaves(parts), leaves((split[0], split[1].rule.moments, split_loss)), strict=True):
        np.testing.assert_allclose(backends.host(a), backends.host(b), rtol=1e-12, atol=1e-12)
    assert len(leaves(split[0])) == len(layout.blocks)


def test_patterns_that_name_nothing_and_blocks_that_nothing_names_are_refused_in_words():
    rule = bp.GradientDescent(0.1)
    refused(lambda: bp.Learner(SMALL, update={"*.c": rule, "*": rule}), "the net has no '*.c'", "'dense1.w'")
    refused(lambda: bp.Learner(SMALL, update={"dense": rule, "*": rule}), "the net has no 'dense'")
    refused(lambda: bp.Learner(SMALL, update={"*.w": rule}), "every block that learns", "'dense1.b'", "'*.w'")
    refused(lambda: bp.Learner(SMALL, update={"*": 0.1}), "the update rule of '*'", "bp.GradientDescent(0.1)")
    refused(lambda: bp.Learner(SMALL, update={}), "every block that learns")
    assert bp.Learner(SMALL.freeze("dense1"), update={"dense2": rule}).pure.rules == (rule, rule)


def test_frozen_groups_rest_and_thawed_ones_learn_on_at_their_own_rate(library):
    learner = bp.Learner(SKIPS, update={name: Momentum(rate, 0.5) for name, rate in RATES.items()})
    state = stepped(learner, *library.init(learner), *batch(library))[:2]
    still = learner.freeze(["early.b", "dense1"], *learner.snapshot(*state))
    g, w, v = learner.gradient(*state, *batch(library)), blocks(learner, state[0]), state[1].rule.moments[0]
    found = blocks(learner, stepped(*still, *batch(library))[0])
    for name, here in SKIPS.layout.gradient_slices.items():
        speed = 0.5 * library.xp.reshape(v[here], w[name].shape) + g[name]
        if name in ("early.b", "dense1.w", "dense1.b"):
            assert bits(found[name]) == bits(w[name])
        else:
            agree(library, found[name], w[name] - RATES[name] * speed)
    again, w_again, s_again = still[0].thaw(["early.b", "dense1"], *still[1:])
    assert again == learner
    assert bits(s_again.rule.rates) == bits(state[1].rule.rates)
    speed = s_again.rule.moments[0]
    for name, here in SKIPS.layout.gradient_slices.items():
        new = name in ("early.b", "dense1.w", "dense1.b")
        assert bits(speed[here]) == bits(library.xp.zeros_like(v[here]) if new else v[here])
    after = blocks(again, stepped(again, w_again, s_again, *batch(library))[0])
    for name in ("early.b", "dense1.w", "dense1.b"):
        agree(library, after[name], w[name] - RATES[name] * g[name])


# ---------------------------------------------------------------- watching
WATCHED = {
    "skips": bp.Learner(SKIPS, update=ROLLING),
    "frozen": bp.Learner(SKIPS.freeze("early", "dense2.b"), update=STEADY),
    "layer by layer": bp.Learner(SKIPS, update=STEADY, order="layer by layer"),
    "layer by layer, frozen, to the input": bp.Learner(
        SKIPS.freeze("early"), update=STEADY, order="layer by layer", to_input=True
    ),
    "to the input": bp.Learner(SKIPS.freeze("early", "dense1"), update=STEADY, to_input=True),
    "labels": bp.Learner(SKIPS, bp.softmax_cross_entropy, bp.Adam(0.1)),
    "weights": bp.Learner(SMALL, update=STEADY, reduction="sum"),
    "shards": bp.Learner(SKIPS, update=STEADY, shards=3),
    "groups": bp.Learner(SMALL, update={"*.b": ROLLING, "*": STEADY}, penalty=L2(0.5)),
}  # fmt: skip


def numbers(trace):
    """Every number of a trace by layer and field, None where a layer has none."""
    found = {"loss": trace.loss, "t": trace.t, "x": trace.x}
    for layer in trace.layers:
        for field in ("net", "o", "e", "delta", "grad", "change", "w_before", "w_after"):
            found[f"{layer.name}.{field}"] = getattr(layer, field)
    return found


def same_trace(place, one, other):
    one, other = numbers(one), numbers(other)
    shape = [{name: mapped(each, lambda a: tuple(a.shape)) for name, each in t.items()} for t in (one, other)]
    assert shape[0] == shape[1]
    for name in one:
        agree(place, one[name], other[name])


@pytest.mark.parametrize("name", WATCHED)
def test_what_is_watched_in_a_compiled_step_and_in_a_scan_is_the_trace(library, name):
    learner = WATCHED[name]
    if library.name == "exact" and name == "labels":
        pytest.skip("exp of a fraction is not a fraction")
    (w, s), rows = library.init(learner), batch(library, 8, labels=name == "labels")
    rows = (*rows, library.array(TIMES * 2)) if name == "weights" else rows
    halves = [mapped(rows, lambda a, k=k: a[k : k + 4, ...]) for k in (0, 4)]
    step, traces, state = learner.compile(w, watch="*"), [], learner.snapshot(w, s)
    for half in halves:
        traces.append(bp.trace(learner, *state, *half))
        *state, loss, watched = step(*state, *half)
        same_trace(library, bp.insight.from_watched(learner, half, loss, watched), traces[-1])
    w, s, losses, watched = step.scan(w, s, *rows, np.arange(8).reshape(2, 4))
    for k, half in enumerate(halves):
        kth = mapped(watched, lambda a, k=k: a[k, ...])
        same_trace(library, bp.insight.from_watched(learner, half, losses[k], kth), traces[k])
    agree(library, (w, s), tuple(state))


def test_a_trace_in_shards_is_that_of_the_whole_batch_in_fractions(exact):
    learner = WATCHED["shards"]
    (w, s), rows = exact.init(learner), batch(exact, 5)
    parts, whole = (numbers(bp.trace(each, w, s, *rows)) for each in (learner, replace(learner, shards=1)))
    for name, each in whole.items():
        assert bits(parts[name]) == bits(each)
    assert bits(parts["early.delta"])


@pytest.mark.parametrize("form", ["eager", "compiled"])
def test_weights_watched_before_a_step_are_left_alone_by_later_ones(library, form):
    learner = bp.Learner(SMALL, update=STEADY)
    (w, s), rows = library.init(learner), batch(library)
    names, first = ["dense1.w_before", "dense1.w_after"], bits(learner.weights(w)["dense1.w"])
    eager = lambda *args: learner.step(*args, watch=names)  # noqa: E731
    step = learner.compile(w, watch=names) if form == "compiled" else eager
    w, s, _, watched = step(w, s, *rows)
    kept = bits(watched)
    assert bits(watched["dense1.w_before"]["w"]) == first != bits(watched["dense1.w_after"]["w"])
    _, _, _, later = step(w, s, *rows)
    assert bits(watched) == kept
    assert bits(later["dense1.w_before"]) == bits(watched["dense1.w_after"])


def test_names_of_what_a_step_does_not_show_are_refused():
    learner = bp.Learner(SMALL.freeze("dense1"))
    w, s = learner.init()
    x, t = np.ones((2, 3), "f4"), np.ones((2, 2), "f4")
    for name in ("dense9.o", "dense1.w", "dense1", "dense1.delta", "dense1.grad", "input.w_after"):
        refused(lambda name=name: learner.step(w, s, x, t, watch=name), f"has no '{name}'", "'dense2.delta'")
        refused(lambda name=name: learner.compile(w, watch=["*.o", name])(w, s, x, t), f"has no '{name}'")
    assert sorted(learner.step(w, s, x, t, watch=["dense2.[oe]"])[3]) == ["dense2.e", "dense2.o"]


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_a_scan_that_would_stack_too_much_is_refused_with_the_size(name, places, monkeypatch):
    place = next((place for place in places if place.name == name), None)
    if place is None:
        pytest.skip(f"{name} is not here")
    learner = bp.Learner(SMALL)
    (w, s), (x, t) = place.init(learner), batch(place)
    step, before = learner.compile(w, watch="*.w_after"), bits((w, s))
    monkeypatch.setattr(compiled_module, "LARGEST_STACK", 100_000)
    large = np.zeros((6000, 4), dtype=int)  # 26 weights and a loss, 8 bytes each
    refused(lambda: step.scan(w, s, x, t, large), "6000 steps", " 1 MB", "scan fewer steps", "watch less")
    assert bits((w, s)) == before
    assert step.scan(w, s, x, t, large[:400])[2].shape == (400,)


# ---------------------------------------------------------------- inputs that are a tree
TREES = bp.Learner(
    bp.chain(
        bp.named("numbers", layers.Input(2)),
        bp.named("category", layers.Integers(1)),
        layers.Embedding(3, 2),
        bp.concat("numbers"),
        bp.Dense(3, bp.relu),
        bp.Dense(2),
    ),
    update=bp.GradientDescent(0.125),
)


def trees(place, n=6):
    """Rows whose inputs are a dict, and targets."""
    draw = np.random.default_rng(5)
    x = {
        "numbers": place.array(draw.integers(-4, 5, (n, 2)) / 4),
        "category": place.array(draw.integers(0, 3, (n, 1)), "int32"),
    }
    return x, place.array(draw.integers(-4, 5, (n, 2)) / 4)


class Forest:
    """A source of trees."""

    def __init__(self, x, t, window):
        self.batch, self.n, self.window, self.block = (x, t), t.shape[0], window, 2

    def rows(self, start, stop):
        return mapped(self.batch, lambda a: a[start:stop, ...])


def test_a_tree_of_inputs_is_learnt_from_in_every_way(library):
    (w, s), (x, t) = library.init(TREES), trees(library)
    first = mapped((x, t), lambda a: a[:3, ...])
    eager = stepped(TREES, w, s, *first)
    step = TREES.compile(w)
    agree(library, step(*TREES.snapshot(w, s), *first), eager)
    alike(library, step.scan(*TREES.snapshot(w, s), x, t, np.asarray([[0, 1, 2]]))[:2], tuple(eager[:2]))
    g, table = TREES.gradient(w, s, x, t)["embedding1.w"], TREES.weights(w)["embedding1.w"]
    assert g.shape == table.shape == (3, 2)
    h = 1e-6
    for where in np.ndindex(3, 2) if library.name == "numpy" else ():
        shift = np.zeros((3, 2))
        shift[where] = h
        up, down = (
            np.mean(TREES.losses(np.concatenate([(table + d).ravel(), w[6:]]), s, x, t))
            for d in (shift, -shift)
        )
        assert g[where] == pytest.approx((up - down) / (2 * h), abs=1e-8)
    o = TREES.predict(w, s, x)
    assert o.shape == (6, 2)
    alike(library, TREES.predict(w, s, x, batch_size=4), o)
    agree(library, TREES.compile_predict(w)(w, s, x), o)
    plain = bp.fit(TREES, w, s, Forest(x, t, 6), batch_size=3, epochs=1, shuffle=False)
    mine = TREES.snapshot(w, s)
    for k in (0, 3):
        *mine, _ = TREES.step(*mine, *mapped((x, t), lambda a, k=k: a[k : k + 3, ...]))
    alike(library, plain.w, mine[0])
    windows = bp.fit(TREES, w, s, Forest(x, t, 4), batch_size=2, epochs=1)
    assert int(windows.s.step) == 3
    mean = bp.train.evaluate(TREES, w, s, Forest(x, t, 4), batch_size=3)
    assert mean == pytest.approx(float(np.mean(backends.host(TREES.losses(w, s, x, t)))), rel=1e-12)


@pytest.mark.parametrize("form", ["step", "compile", "predict", "compile_predict"])
def test_inputs_that_do_not_fit_are_refused_by_name(library, form):
    (w, s), (x, t) = library.init(TREES), trees(library)
    act = getattr(TREES, form)(w) if form.startswith("compile") else getattr(TREES, form)
    target = () if "predict" in form else (t,)
    if form != "step":
        act(*TREES.snapshot(w, s), x, *target)
    before, other = bits((w, s)), "numpy" if library.name == "exact" else "exact"
    foreign = bp.asarray(np.zeros((6, 2)), backend=other, dtype="rational" if other == "exact" else "float64")
    for bad, words in (
        (
            x | {"category": x["category"][:5, ...]},
            ("equally many rows", "6 in 'numbers'", "5 in 'category'"),
        ),
        (x | {"numbers": x["numbers"][:, :1]}, ("input 'numbers' must be", "shape (batch, 2)", "(6, 1)")),
        (x | {"numbers": foreign}, ("input 'numbers' must be", "like the weights", other)),
        (x | {"category": x["numbers"][:, :1]}, ("input 'category'", "int32 or int64", "dtype='int32'")),
        (x | {"numbers": library.array(np.ones((6, 2)), "int32")}, ("input 'numbers'", "weights' dtype")),
        (x | {"age": x["numbers"]}, ("'numbers', 'category'", "one with", "'age'")),
        ({"numbers": x["numbers"]}, ("'numbers', 'category'", "got one with 'numbers'")),
        (x["numbers"], ("a dict", "'numbers', 'category'", "array of shape (6, 2)")),
        ({}, ("'numbers', 'category'", "got one with none")),
    ):
        refused(lambda bad=bad: act(w, s, bad, *target), *words)
    assert bits((w, s)) == before


# ---------------------------------------------------------------- where a part begins in its batch
def test_parts_of_a_batch_have_the_masks_of_the_whole(place):
    net = bp.chain(3, bp.Dense(4), layers.Dropout(), bp.Dense(2))
    learner = bp.Learner(net, update=STEADY, reduction="sum")
    (w, s), rows = place.init(learner, 7), batch(place, 6)
    o = "dropout1.o"
    for _ in range(2):
        whole = stepped(learner, w, s, *rows, watch=o)
        mask = backends.host(whole[3][o]) == 0
        assert 2 < mask.sum() < 22
        parts = [
            learner.pure.forward(
                w, s, rows[0][i:j, ...], training=True, xp=place.xp, first=first_row(place, i)
            )[1]
            for i, j in ((0, 2), (2, 6))
        ]
        found = np.concatenate([backends.host(flows[2].o) == 0 for flows in parts])
        np.testing.assert_array_equal(found, mask)
        halves, shards = in_parts(place, learner, (w, s), rows, [2]), replace(learner, shards=3)
        for other in (halves, stepped(shards, w, s, *rows)):
            np.testing.assert_allclose(
                backends.host(other[0]), backends.host(whole[0]), rtol=1e-12, atol=1e-12
            )
        w, s = whole[:2]
    again = learner.pure.forward(w, s, rows[0], training=True, xp=place.xp)[1][2].o
    assert not np.array_equal(backends.host(again) == 0, mask), "another step has another mask"


# ---------------------------------------------------------------- penalty and clip
def norm(g):
    return np.sqrt(sum(np.sum(np.square(backends.host(a).astype("f8"))) for a in g.values()))


def test_the_penalty_is_added_then_the_whole_is_clipped_then_the_rule_is_applied(float_place):
    place, rate, strength = float_place, 0.25, 0.5
    plain = bp.Learner(SKIPS, update=bp.GradientDescent(rate))
    state, rows = place.init(plain), batch(place)
    g, w = plain.gradient(*state, *rows), plain.weights(state[0])
    g = {name: g[name] + strength * w[name] for name in g}
    limit = float(norm(g)) / 3
    assert all(float(norm({name: each})) < 3 * limit for name, each in g.items())
    learner = replace(plain, penalty=L2(strength), clip=ClipByNorm(limit))
    eager = stepped(learner, *state, *rows)
    found = learner.weights(eager[0])
    rtol = 1e-5 if place.dtype == "float32" else 1e-12
    for name in g:
        expected = backends.host(w[name]) - rate / 3 * backends.host(g[name])
        np.testing.assert_allclose(backends.host(found[name]), expected, rtol=rtol, atol=rtol)
    moved = {name: (backends.host(found[name]) - backends.host(w[name])) / rate for name in g}
    assert norm_of(moved) == pytest.approx(limit, rel=10 * rtol)
    agree(place, learner.compile(state[0])(*learner.snapshot(*state), *rows), eager)
    assert float(eager[2]) == float(stepped(plain, *state, *rows)[2])


def norm_of(parts):
    return np.sqrt(sum(np.sum(np.square(a.astype("f8"))) for a in parts.values()))


def test_a_clip_leaves_small_gradients_alone(float_place):
    plain = bp.Learner(SMALL, update=Momentum(0.25))
    state, rows = float_place.init(plain), batch(float_place)
    clipped = replace(plain, clip=ClipByNorm(1.001 * float(norm(plain.gradient(*state, *rows)))))
    assert bits(stepped(clipped, *state, *rows)) == bits(stepped(plain, *state, *rows))


def test_a_clip_leaves_a_gradient_of_zero_at_zero(place):
    learner = bp.Learner(LINEAR, update=STEADY, clip=ClipByNorm(1))
    w, s = place.init(learner)
    x = batch(place)[0]
    assert bits(stepped(learner, w, s, x, learner.predict(w, s, x))[0]) == bits(w)


def test_a_penalty_is_exact_in_fractions_and_rests_with_what_is_frozen(exact):
    learner = bp.Learner(SKIPS.freeze("early"), update=STEADY, penalty=L2(0.5))
    state, rows = exact.init(learner), batch(exact)
    g, w = learner.gradient(*state, *rows), learner.weights(state[0])
    found = learner.weights(stepped(learner, *state, *rows)[0])
    for name in w:
        change = 0.25 * (g[name] + 0.5 * w[name]) if name in g else 0 * w[name]
        assert bits(found[name]) == bits(w[name] - change)


@pytest.mark.parametrize("setting", [{"penalty": L2(0.1)}, {"clip": ClipByNorm(1)}], ids=["penalty", "clip"])
def test_layer_by_layer_has_no_whole_gradient(setting):
    refused(lambda: bp.Learner(SMALL, order="layer by layer", **setting), next(iter(setting)), "'together'")


# ---------------------------------------------------------------- training over epochs
def test_the_validation_of_an_epoch_is_its_evaluation_by_hand(library):
    learner = trained(library)
    state, (x, t), other = library.init(learner), batch(library, 4), batch(library, 5, seed=9)
    epochs, settings = 3, {"batch_size": 3, "shuffle": False}
    judge = bp.data.Stored(*other)
    found = bp.fit(learner, *state, bp.data.Stored(x, t), epochs=epochs, validate=judge, **settings)
    by_hand = [
        (float(np.mean(backends.host(learner.losses(w, s, *other)))), epoch.loss)
        for w, s, (epoch,) in bp.train.epochs(
            learner, *state, bp.data.Stored(x, t), epochs=epochs, **settings
        )
    ]
    assert len(found.history) == len(by_hand) == epochs
    for epoch, (validation, loss) in zip(found.history, by_hand, strict=True):
        assert epoch.validation == pytest.approx(validation, rel=1e-12)
        assert epoch.loss == pytest.approx(loss, rel=1e-12)
    assert len({epoch.validation for epoch in found.history}) == epochs
    unjudged = bp.fit(learner, *state, bp.data.Stored(x, t), epochs=epochs, **settings)
    assert bits(found[:2]) == bits(unjudged[:2])
    assert all(epoch.validation is None for epoch in unjudged.history)


def some_data(n, window=None):
    draw = np.random.default_rng(n)
    data = bp.data.Stored(draw.normal(size=(n, 3)), draw.normal(size=(n, 2)))
    data.window, data.block = window or n, 3
    return data


ADAM = bp.Learner(SMALL, update=bp.Adam(0.01))


@settings(max_examples=25)
@given(
    n=st.integers(1, 23),
    size=st.integers(1, 9),
    epochs=st.integers(1, 5),
    window=st.sampled_from([None, 1, 7, 12]),
    length=st.sampled_from([1, 2, 16, 64]),
    shuffle=st.booleans(),
    stop=st.integers(1, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_training_that_is_stopped_anywhere_goes_on_bit_for_bit(
    n, size, epochs, window, length, shuffle, stop, seed
):
    data, steps = some_data(n, window), -(-n // size) * epochs
    stop = 1 + (stop - 1) % steps
    w, s = ADAM.init(seed, dtype="float64")
    how = {"batch_size": size, "epochs": epochs, "shuffle": shuffle}
    step = ADAM.compile(w)
    with chunks_of(1):
        left = iter([True] * (stop - 1))
        part = bp.fit(ADAM, w, s, data, **how, progress=lambda _: next(left, False), step=step)
    assert int(part.s.step) == stop
    with chunks_of(length):  # several short epochs in one call, where the length allows
        whole = bp.fit(ADAM, w, s, data, **how, step=step)
        rest = bp.fit(ADAM, part.w, part.s, data, **how, step=step, began=0)
    assert int(whole.s.step) == steps
    assert bits(rest[:2]) == bits(whole[:2])
    assert sum(epoch.rows for epoch in part.history + rest.history) == n * epochs
    assert [epoch.epoch for epoch in whole.history] == list(range(1, epochs + 1))


def test_several_short_epochs_go_in_one_call_and_change_nothing(library):
    learner = trained(library)
    state, data = library.init(learner), bp.data.Stored(*batch(library, 4))
    calls, epochs, step = [], 6, learner.compile(state[0])
    scan = step.scan
    step.scan = lambda *args: calls.append(args[-1].shape) or scan(*args)
    with chunks_of(1):
        alone = bp.fit(learner, *state, data, batch_size=2, epochs=epochs, step=step)
    with chunks_of(12):
        together = bp.fit(learner, *state, data, batch_size=2, epochs=epochs, step=step)
    assert calls[: 2 * epochs] == [(1, 2)] * 2 * epochs
    assert calls[2 * epochs :] == ([(2 * epochs, 2)] if step.any_length else [(2, 2)] * epochs)
    assert bits(alone[:2]) == bits(together[:2])
    for one, other in zip(alone.history, together.history, strict=True):
        assert (one.epoch, one.rows) == (other.epoch, other.rows)
        assert one.loss == pytest.approx(other.loss, rel=1e-12)


# ---------------------------------------------------------------- the order of rows
def order_of(batches, begin, length=3):
    """The rows of an epoch in order, and the size of every batch."""
    rows, sizes = [], []
    for window in batches.windows(begin, 0):
        here = np.concatenate([np.arange(*block) for block in window.blocks])
        assert len(here) == window.n
        for chunk in batches.chunks(window, lambda: length):
            rows.append(here[chunk].ravel())
            sizes += [chunk.shape[1]] * chunk.shape[0]
    return np.concatenate(rows), sizes


@settings(max_examples=150)
@given(
    n=st.integers(1, 400),
    size=st.integers(1, 50),
    window=st.integers(1, 450),
    block=st.integers(1, 60),
    seed=st.integers(0, 2**32 - 1),
    begin=st.integers(0, 2**32 - 1),
    shuffle=st.booleans(),
)
def test_every_order_meets_each_row_once_and_has_at_most_one_short_batch(
    n, size, window, block, seed, begin, shuffle
):
    of_window, of_block = window_and_block(n, size, window, block)
    assert of_window == n or (of_window % size == of_window % of_block == 0 and of_block <= block)
    batches = Batches(n, size, of_window, of_block, seed, shuffle)
    rows, sizes = order_of(batches, begin)
    assert np.array_equal(np.sort(rows), np.arange(n))
    assert len(sizes) == batches.steps
    assert sizes == [size] * (n // size) + [n % size] * (n % size > 0)
    if not shuffle:
        assert np.array_equal(rows, np.arange(n))
    elif of_window == n:
        assert np.array_equal(batches.epochs(begin, 2)[0], rows)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 2), window=st.sampled_from([64, 16]), epoch=st.integers(0, 1000))
def test_seeds_and_epochs_have_orders_of_their_own(seed, window, epoch):
    orders = [
        tuple(order_of(Batches(64, 4, window, 4, of, True), begin)[0])
        for of in (seed, seed + 1)
        for begin in (16 * epoch, 16 * epoch + 16)
    ]
    assert len(set(orders)) == 4


def test_a_sorted_file_is_mixed_by_its_blocks():
    n, size, labels = 1 << 18, 128, 10
    label = np.arange(n) * labels // n
    truth = np.bincount(label) / n

    def distance(window, block, shuffle=True):
        rows, sizes = order_of(Batches(n, size, window, block, 1, shuffle), 0, 512)
        assert set(sizes) == {size}
        found = [np.bincount(each, minlength=labels) / size for each in label[rows].reshape(-1, size)]
        return float(np.mean(np.abs(np.asarray(found) - truth).sum(axis=1) / 2))

    window, block = window_and_block(n, size, 65_536, 1024)
    assert (window, block) == (65_536, 1024)
    assert distance(window, block) < 0.2
    # a window that is one block of the file knows a quarter of the labels: 1 - 1/4 of the mix is wrong
    assert distance(window, window) > 0.7
    assert distance(window, block, shuffle=False) > 0.8


# ---------------------------------------------------------------- Ctrl-C
@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, whoever runs the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("at", [1, 4, 7])
def test_after_ctrl_c_training_goes_on_bit_for_bit(at, library, interruptible):
    learner = trained(library)
    epochs = 3
    state, data = library.init(learner), bp.data.Stored(*batch(library, 5))
    step, reports = learner.compile(state[0]), []
    how = {"batch_size": 2, "epochs": epochs, "step": step}

    def press(report):
        reports.append(report)
        if len(reports) == at:
            os.kill(os.getpid(), signal.SIGINT)

    with chunks_of(1):
        with pytest.raises(KeyboardInterrupt) as caught:
            bp.fit(learner, *state, data, **how, progress=press)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        w, s = caught.value.w, caught.value.s
        assert int(s.step) == at
        rest, whole = bp.fit(learner, w, s, data, **how, began=0), bp.fit(learner, *state, data, **how)
    assert bits(rest[:2]) == bits(whole[:2])
    assert bits((w, s)) != bits(whole[:2])


def test_after_ctrl_c_between_epochs_training_goes_on_too(interruptible):
    data, judged = some_data(7), []
    w, s = ADAM.init(dtype="float64")

    class Pressed(bp.data.Stored):
        def rows(self, start, stop):
            judged.append(start)
            if len(judged) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return super().rows(start, stop)

    other = Pressed(*data.rows(0, 7))
    with pytest.raises(KeyboardInterrupt) as caught:
        bp.fit(ADAM, w, s, data, batch_size=3, epochs=4, validate=other)
    assert int(caught.value.s.step) == 6
    rest = bp.fit(ADAM, caught.value.w, caught.value.s, data, batch_size=3, epochs=4, began=0)
    assert bits(rest[:2]) == bits(bp.fit(ADAM, w, s, data, batch_size=3, epochs=4)[:2])


# ---------------------------------------------------------------- predicting and judging
def test_predictions_in_parts_and_compiled_ones_are_the_predictions(any_place):
    logits = any_place.name != "exact"
    learner = bp.Learner(SKIPS, bp.softmax_cross_entropy if logits else bp.half_squared_error)
    (w, s), (x, t) = any_place.init(learner), batch(any_place, 7)
    t = t if not logits else batch(any_place, 7, labels=True)[1]
    o = learner.predict(w, s, x)
    rtol = 1e-5 if any_place.dtype == "float32" else 1e-12
    for size in (1, 3, 7, 100):
        for net_input in (False, True):
            parts = learner.predict(w, s, x, batch_size=size, net_input=net_input)
            whole = learner.predict(w, s, x, net_input=net_input)
            assert parts.shape == (7, 2)
            np.testing.assert_allclose(backends.host(parts), backends.host(whole), rtol=rtol, atol=rtol)
    agree(any_place, learner.compile_predict(w)(w, s, x), o)
    judge = learner.compile_evaluate(w)
    agree(any_place, judge(w, s, x, t), learner.pure.evaluate(w, s, x, t, xp=any_place.xp))
    mean = float(np.mean(backends.host(learner.losses(w, s, x, t))))
    assert float(judge(w, s, x, t)[0]) == pytest.approx(7 * mean, rel=rtol)
    data = bp.data.Stored(x, t)
    assert bp.train.evaluate(learner, w, s, data, batch_size=3, compiled=judge) == pytest.approx(
        mean, rel=rtol
    )


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_batch_size_of_predictions_is_a_positive_integer(size):
    w, s = ADAM.init()
    refused(lambda: ADAM.predict(w, s, np.ones((2, 3), "f4"), batch_size=size), "the batch size", repr(size))


# ---------------------------------------------------------------- precision
HAVE_FLOAT16 = ("cupy",)


def test_float16_is_a_setting_that_gives_a_loss_scale_or_is_refused_at_init(library):
    learner = bp.Learner(SMALL, precision="float16")
    if library.name not in HAVE_FLOAT16:
        refused(lambda: library.init(learner), "'float32'", "'float16'")
        return
    w, s = learner.init(backend=library.name)
    factor, good = s.scale
    assert (float(factor), int(good), factor.dtype) == (loss_scale.FIRST, 0, w.dtype)


def test_other_precisions_have_no_loss_scale_and_unknown_ones_are_refused(library):
    for precision in (None, "float32"):
        assert library.init(bp.Learner(SMALL, precision=precision))[1].scale == ()
    refused(lambda: library.init(bp.Learner(SMALL, precision="float8")), "'float8'", "'float32'")
    small = bp.Learner(SMALL, precision="float8")
    state = library.init(bp.Learner(SMALL))
    refused(lambda: small.step(*state, *batch(library)), "'float8'")


def scaled(factor, good, value=1.0, moment=1.0):
    """A loss scale after an update of which the new weights and moments hold these values."""
    old = np.asarray([5.0, 6.0]), RuleState(np.asarray(3), (), (np.asarray([7.0, 8.0]),))
    new = np.asarray([1.0, value]), RuleState(np.asarray(4), (), (np.asarray([2.0, moment]),))
    w, rule, scale = loss_scale.settled(old, new, (np.asarray(factor), np.asarray(good)), xp=np)
    return w.tolist(), int(rule.count), rule.moments[0].tolist(), [float(a) for a in scale]


@given(
    power=st.integers(0, 20),
    good=st.integers(0, loss_scale.PATIENCE - 1),
    bad=st.sampled_from([np.inf, -np.inf, np.nan]),
    where=st.sampled_from(["value", "moment"]),
)
def test_a_loss_scale_halves_at_infinity_and_doubles_after_many_good_updates(power, good, bad, where):
    factor = 2.0**power
    w, count, moment, (smaller, none) = scaled(factor, good, **{where: bad})
    assert (w, count, moment) == ([5.0, 6.0], 3, [7.0, 8.0]), "an update that is not finite is not made"
    assert (smaller, none) == (max(factor / 2, 1), 0)
    w, count, moment, (larger, more) = scaled(factor, good)
    assert (w, count, moment) == ([1.0, 1.0], 4, [2.0, 1.0])
    due = good + 1 == loss_scale.PATIENCE
    assert (larger, more) == ((2 * factor, 0) if due else (factor, good + 1))


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")
@pytest.mark.parametrize("form", ["eager", "compiled"])
def test_a_loss_scale_in_the_state_survives_steps_and_changes_no_update(form, home):
    learner = bp.Learner(SMALL, update=bp.Adam(0.01), clip=ClipByNorm(0.5))
    (w, s), (x, t) = home.init(learner), batch(home)
    plain = learner.snapshot(w, s)
    s = s._replace(scale=(np.asarray(4096.0), np.asarray(loss_scale.PATIENCE - 2, dtype="int32")))
    step, before = learner.compile(w) if form == "compiled" else learner.step, learner.snapshot(w, s)
    names = ["dense2.grad", "dense2.delta"]
    watched = learner.step(*learner.snapshot(w, s), x, t, watch=names)[3]
    assert bits(watched) == bits(learner.step(*learner.snapshot(*plain), x, t, watch=names)[3])
    for factor, good in ((4096, loss_scale.PATIENCE - 1), (8192, 0), (8192, 1)):
        w, s, loss = step(w, s, x, t)
        *plain, expected = learner.step(*plain, x, t)
        assert [float(a) for a in s.scale] == [factor, good]
        assert bits((w, s.rule, loss)) == bits((plain[0], plain[1].rule, expected)), (
            "powers of 2 round nothing"
        )
    w, s, _ = step(*learner.snapshot(*before), x * 1e300, t)
    assert bits((w, s.rule)) == bits((before[0], before[1].rule))
    assert [float(a) for a in s.scale] == [2048, 0]
    assert int(s.step) == 1


def test_a_scan_on_jax_returns_the_state_in_the_form_it_was_given():
    pytest.importorskip("jax", reason="jax is not installed")
    learner = bp.Learner(bp.chain(3, bp.Dense(2)), update=bp.GradientDescent(0.1))
    w, s = learner.init(backend="jax")
    step, index = learner.compile(w), np.asarray([[0, 1]])
    x, t = bp.asarray(np.ones((2, 3)), like=w), bp.asarray(np.ones((2, 2)), like=w)
    split, s, _ = step.scan(*step.pack(*learner.snapshot(w, s)), x, t, index)
    assert isinstance(split, tuple)  # and nothing was joined in between
    again, s, _ = step.scan(split, s, x, t, index)
    assert isinstance(again, tuple)
    flat, s, _ = step.scan(*step.unpack(again, s), x, t, index)
    assert flat.shape == w.shape
