"""What the recorder accepts can be replayed and captured; what it refuses cannot."""

import gc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import activations, layers, losses, rng, updates
from backprop_xp.backends import get
from backprop_xp.backends import host as to_host
from backprop_xp.compiler import ir
from backprop_xp.compiler.cpu import lower, scalar_source
from backprop_xp.compiler.recorder import record

ONE_OF_EACH = bp.chain(
    4,
    bp.named("early", bp.Dense(5, bp.relu)),
    bp.Dense(5, bp.tanh, bias=False),
    bp.add("early"),
    bp.layers.Activate(bp.sigmoid),
    bp.concat("early"),
    bp.Dense(3, bp.softmax),
)
RULES = {
    "gradient_descent": bp.GradientDescent(0.1),
    "gradient_descent, bounded": bp.GradientDescent(0.1, limit=0.9, floor=0.01),
    "gradient_descent, scheduled": bp.GradientDescent(lambda count, *, xp: 0.1 / (1 + count)),
    "gradient_descent, by layer": bp.GradientDescent({"early": 0.1, "dense1": 0.05, "dense2": 0.01}),
    "momentum": bp.updates.Momentum(0.1),
    "momentum, nesterov": bp.updates.Momentum(0.1, nesterov=True),
    "adam": bp.Adam(0.01),
    "adagrad": bp.updates.Adagrad(0.1),
    "rmsprop": bp.updates.RMSProp(bp.schedules.WarmUp(3, 0.1)),
    "adadelta": bp.updates.Adadelta(),
    "adamw": bp.updates.AdamW(bp.schedules.OneCycle(0.1, 6, 0.4)),
    "nadam": bp.updates.NAdam(bp.schedules.Exponential(0.1, 0.9)),
    "lion": bp.updates.Lion(bp.schedules.Cosine(0.1, 4, 0.01)),
}
LEARNERS = {
    **{f"loss {name}": bp.Learner(ONE_OF_EACH, loss) for name, loss in losses.ALL.items()},
    "loss with settings": bp.Learner(ONE_OF_EACH, losses.SoftmaxCrossEntropy(0.1, (1, 2.5, 0), ignored=2)),
    **{
        f"rule {name}": bp.Learner(ONE_OF_EACH, losses.softmax_cross_entropy, rule)
        for name, rule in RULES.items()
    },
    **{
        f"activation {name}": bp.Learner(bp.chain(4, bp.Dense(5, f), bp.layers.Activate(f), bp.Dense(3)))
        for name, f in activations.ALL.items()
    },
    "gate >": bp.Learner(
        bp.chain(4, bp.Dense(5, bp.activations.ReLU(">")), bp.Dense(3, bp.activations.LeakyReLU(0.1, ">")))
    ),
    "normalized, gated and with blocks": bp.Learner(
        bp.chain(
            4,
            bp.Dense(5, bias=False),
            layers.BatchNorm(0.1),  # with rows of two, 1 / √ε is by how much rounding grows
            layers.PReLU(),
            bp.named("normal", layers.LayerNorm()),
            bp.Dense(5, bp.sigmoid),
            bp.multiply("normal"),
            bp.residual(bp.Dense(5, bp.tanh), bp.residual(layers.PReLU(shared=True))),
            bp.Dense(3),
        ),
    ),
    "dropout": bp.Learner(
        bp.chain(4, bp.Dense(6, bp.tanh), layers.Dropout(0.25), bp.Dense(5), layers.Dropout(), bp.Dense(3)),
        update=bp.Adam(0.01),
    ),
    "categories": bp.Learner(bp.chain(layers.Integers(4), layers.Embedding(3, 2), bp.Dense(3))),
    "averaged, decay by group, penalties, clipped": bp.Learner(
        ONE_OF_EACH,
        update={
            "*.b": updates.Averaged(updates.AdamW(bp.schedules.Plateau(0.1), decay=0)),
            "*": updates.Averaged(updates.AdamW(bp.schedules.Plateau(0.1), decay=0.1)),
        },
        penalty={"*.b": updates.L1(0.1), "early": updates.L2(0.1)},
        clip=updates.ClipByNorm(0.5),
    ),
    "moving average, clipped by value": bp.Learner(
        ONE_OF_EACH,
        update=updates.Averaged(updates.Lion(0.1), 0.9),
        clip=updates.ClipByValue(0.01),
    ),
    "reduction sum": bp.Learner(ONE_OF_EACH, reduction="sum"),
    "layer by layer": bp.Learner(ONE_OF_EACH, order="layer by layer"),
    "to the input": bp.Learner(ONE_OF_EACH, to_input=True),
    "frozen": bp.Learner(ONE_OF_EACH.freeze("dense1", "dense2.b"), update=bp.Adam(0.01)),
}
# what is more than a unit; units run on JAX and Torch in the checks of bp.testing
STRUCTURES = [name for name in LEARNERS if name.partition(" ")[0] not in ("loss", "activation")]


def batch(learner, k, dtype="float32"):
    """The k-th batch of four samples; integer labels where the loss takes them."""
    draw = np.random.default_rng(k)
    x = draw.standard_normal((4, 4)).astype(dtype)
    if learner.net.categories:
        x = draw.integers(3, size=(4, 4), dtype=np.int32)
    if learner.loss.targets == "distribution":
        return x, draw.integers(0, 3, 4).astype(np.int32)
    return x, draw.random((4, 3)).astype(dtype)


def same_bits(one, other):
    return one.dtype == other.dtype and np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_learners_here_hold_every_layer_loss_and_rule():
    kinds = {type(node.layer) for learner in LEARNERS.values() for node in learner.net.nodes}
    assert kinds == set(layers.ALL.values())
    assert {type(learner.loss) for learner in LEARNERS.values()} == {
        type(loss) for loss in losses.ALL.values()
    }
    assert {type(learner.update) for learner in LEARNERS.values()} >= set(updates.ALL.values())


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_replay_equals_eager_bit_for_bit(name, dtype):
    learner = LEARNERS[name]
    w, s = learner.init(seed=2, dtype=dtype)
    w_eager, s_eager = learner.snapshot(w, s)
    step = learner.compile(w)
    for k in range(6):
        x, t = batch(learner, k, dtype)
        w, s, loss = step(w, s, x, t)
        w_eager, s_eager, loss_eager = learner.step(w_eager, s_eager, x, t)
        assert same_bits(loss, loss_eager)
        assert same_bits(w, w_eager)
    for replayed, eager in zip(ir.leaves(s), ir.leaves(s_eager), strict=True):
        assert same_bits(replayed, eager)
    assert int(s.step) == 6
    assert step.compilations == 1


def scanned(learner, dtype):
    """Weights and losses of six steps: in one scan, and one by one."""
    x, t = (
        np.concatenate(parts) for parts in zip(*(batch(learner, k, dtype) for k in range(3)), strict=True)
    )
    index = np.random.default_rng(0).permutation(12).reshape(6, 2)
    w, s = learner.init(seed=2, dtype=dtype)
    w_eager, s_eager = learner.snapshot(w, s)
    step, losses = learner.compile(w), []
    w, s, values = step.scan(w, s, x, t, index)
    for rows in index:
        w_eager, s_eager, loss = learner.step(w_eager, s_eager, x[rows], t[rows])
        losses.append(loss)
    assert int(s.step) == int(s.rule.count) == 6
    return step, (w, values), (w_eager, np.asarray(losses))


@pytest.mark.parametrize("name", LEARNERS)
def test_scan_equals_its_steps_bit_for_bit(name, monkeypatch):
    monkeypatch.setattr(scalar_source, "MOST", 0)
    _, found, eager = scanned(LEARNERS[name], "float32")
    assert all(map(same_bits, found, eager))


JUMPS = "rule gradient_descent, bounded"  # a floor turns rounding into another sign
ON_ARRAYS = ("dropout", "categories")  # bits and indices are not unrolled


@pytest.mark.parametrize(
    ("name", "dtype", "close"),
    [(name, "float64", 1e-12) for name in LEARNERS if name not in ON_ARRAYS]
    + [(name, "float32", 2e-5) for name in LEARNERS if name not in (JUMPS, *ON_ARRAYS)],
)
def test_unrolled_scan_equals_its_steps(name, dtype, close, monkeypatch):
    monkeypatch.setattr(scalar_source, "MOST", 10_000)
    step, found, eager = scanned(LEARNERS[name], dtype)
    assert list(step.unrolled.values()) != [None]
    for one, other in zip(found, eager, strict=True):
        np.testing.assert_allclose(one, other, rtol=close, atol=close / 10)


def test_unrolled_scan_is_exact_where_float64_is():
    learner = bp.Learner(
        bp.chain(3, bp.Dense(2, bp.activations.leaky_relu), bp.Dense(1)), update=bp.GradientDescent(0.25)
    )
    whole = {"dense1.w": [[1, -2], [0, 1], [3, 1]], "dense2.w": [[1], [-1]]}
    x, t = np.asarray([[1.0, 2, -1], [2, 0, 1]]), np.asarray([[1.0], [-2]])
    w, s = learner.init(dtype="float64", weights=whole, partial=True)
    exact, s_exact = learner.init(backend="exact", weights=whole, partial=True)
    w, s, _ = learner.compile(w).scan(w, s, x, t, np.asarray([[0, 1]]))
    exact, s_exact, _ = learner.step(exact, s_exact, bp.exact.asarray(x), bp.exact.asarray(t))
    np.testing.assert_allclose(w, exact.to_numpy(), rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_run_is_the_same_however_it_is_cut_into_scans(dtype):
    learner = bp.Learner(bp.chain(2, bp.Dense(3, bp.tanh), bp.Dense(1)), update=bp.Adam(0.01))
    draw = np.random.default_rng(1)
    x, t = draw.standard_normal((60, 2)).astype(dtype), draw.standard_normal((60, 1)).astype(dtype)
    found = []
    for length in (60, 1, 7):
        w, s = learner.init(seed=2, dtype=dtype)
        step = learner.compile(w)
        for start in range(0, 60, length):
            rows = np.arange(start, min(start + length, 60))[:, None]
            w, s, _ = step.scan(w, s, x, t, rows)
        found.append(w)
    assert same_bits(found[0], found[1])
    assert same_bits(found[0], found[2])


def test_numbers_out_of_range_leave_the_unrolled_loop():
    learner = bp.Learner(bp.chain(1, bp.Dense(1, bp.activations.identity)), update=bp.GradientDescent(1e300))
    w, s = learner.init(seed=2, dtype="float64")
    x = np.full((20, 1), 1e200)
    w, s, losses = learner.compile(w).scan(w, s, x, x, np.arange(20)[:, None])
    assert not np.isfinite(losses[-1])
    assert int(s.step) == 20


@pytest.mark.parametrize("name", STRUCTURES)
def test_jit_accepts_every_learner(name):
    pytest.importorskip("jax", reason="jax is not installed")
    learner = LEARNERS[name]
    w, s = learner.init(seed=2, backend="jax")
    w_eager, s_eager = learner.init(seed=2)
    step = learner.compile(w)
    for k in range(3):
        x, t = batch(learner, k)
        w, s, loss = step(w, s, *(bp.asarray(a, like=w, dtype=str(a.dtype)) for a in (x, t)))
        w_eager, s_eager, loss_eager = learner.step(w_eager, s_eager, x, t)
        np.testing.assert_allclose(float(loss), float(loss_eager), rtol=2e-5)
    np.testing.assert_allclose(np.asarray(w), w_eager, rtol=1e-4, atol=1e-6)
    assert step.compilations == 1


def test_long_vectors_are_updated_in_blocks_bit_for_bit():
    learner = bp.Learner(bp.chain(300, bp.Dense(301, bp.relu), bp.Dense(2)), update=bp.Adam(0.01))
    w, s = learner.init(seed=1)
    w_eager, s_eager = learner.snapshot(w, s)
    step = learner.compile(w)
    draw = np.random.default_rng(3)
    for _ in range(3):
        x, t = draw.standard_normal((5, 300)).astype("f4"), draw.standard_normal((5, 2)).astype("f4")
        w, s, _ = step(w, s, x, t)
        w_eager, s_eager, _ = learner.step(w_eager, s_eager, x, t)
    (plan,) = step.plans.values()
    assert len({group for group in plan.groups if group is not None}) == 1
    assert same_bits(w, w_eager)


@dataclass(frozen=True)
class Dropout(bp.layers.Layer):
    """Keeps each unit with probability 1/2; a throw-away, to see random state replayed."""

    def forward(self, p, *x, ctx, xp):
        n = x[0].shape[0] * x[0].shape[1]
        index = xp.astype(xp.arange(n, dtype=xp.int32), rng.word(xp))
        words, _ = rng.threefry((ctx.seed, ctx.stream), (index + ctx.step, index), xp=xp)
        mask = xp.reshape(xp.astype((words >> 31) & 1, x[0].dtype), x[0].shape)
        return bp.layers.Flow(x[0] * mask, x[0] * mask, mask), ()

    def pull(self, p, flow, delta, *x, xp):
        return (delta * flow.aux,)


@pytest.mark.parametrize("rule", ["momentum", "adam", "gradient_descent, scheduled"])
def test_random_state_is_replayed_bit_for_bit(rule):
    learner = bp.Learner(bp.chain(4, bp.Dense(8, bp.relu), Dropout(), bp.Dense(3)), update=RULES[rule])
    w, s = learner.init(seed=7)
    w_eager, s_eager = learner.snapshot(w, s)
    step, masks = learner.compile(w), set()
    for k in range(6):
        x, t = batch(learner, k)
        _, flows, _ = learner.pure.forward(w_eager, s_eager, x, training=True, xp=np)
        masks.add(flows[2].aux.tobytes())
        w, s, loss = step(w, s, x, t)
        w_eager, s_eager, loss_eager = learner.step(w_eager, s_eager, x, t)
        assert same_bits(loss, loss_eager)
        assert same_bits(w, w_eager)
    assert len(masks) == 6


def on_torch(learner, dtype, seed=2):
    """Weights and losses of six steps, two of them in a scan: on NumPy, and on Torch's tensors."""
    pytest.importorskip("torch", reason="torch is not installed")
    found = []
    for backend in ("numpy", "torch"):
        w, s = learner.init(seed=seed, dtype=dtype, backend=backend)
        step, losses = learner.compile(w), []
        for k in range(5):
            x, t = (bp.asarray(a, like=w, dtype=str(a.dtype)) for a in batch(learner, k, dtype))
            w, s, loss = step(w, s, x, t)
            losses.append(float(loss))
        rows = bp.asarray([[0, 1], [3, 2]], like=w, dtype="int32")
        w, s, values = step.scan(w, s, x, t, rows)
        found.append([to_host(a) for a in (w, values, *ir.leaves(s.rule))] + [np.asarray(losses)])
        assert step.compilations == 2
    return found


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_on_the_cpu_replays_the_plan_of_numpy_bit_for_bit(name, dtype):
    for one, other in zip(*on_torch(LEARNERS[name], dtype), strict=True):
        assert same_bits(one, other)


def test_random_words_of_torch_are_signed_and_the_same_bits_in_its_plan():
    learner = bp.Learner(bp.chain(4, bp.Dense(8, bp.relu), Dropout(), bp.Dense(3)))
    for one, other in zip(*on_torch(learner, "float32", seed=3_000_000_000), strict=True):
        assert same_bits(one, other)


def test_tensors_that_are_not_in_order_are_copied_before_a_plan_writes():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    w, s = learner.init(backend="torch")
    strided = torch.stack([w, w], dim=1)[:, 0]
    x = t = torch.ones(4, 2)
    after, *_ = learner.compile(w)(strided, s, x, t[:, :1])
    assert torch.equal(strided, w)
    assert not torch.equal(after, w)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_batches_of_two_sizes_in_turn_keep_their_plans_bound(backend):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    learner = LEARNERS["rule adam"]
    w, s = learner.init(backend=backend)
    x, t = (bp.asarray(a, like=w, dtype=str(a.dtype)) for a in batch(learner, 0))
    step = learner.compile(w)
    for rows in (4, 2):
        w, s, _ = step(w, s, x[:rows], t[:rows])
    bound = dict(step.bound)
    for rows in (4, 2, 4):
        after, s, _ = step(w, s, x[:rows], t[:rows])
        assert after is w
    assert step.bound == bound


@pytest.mark.parametrize("name", ["rule adam", "loss softmax_cross_entropy"])
def test_the_buffers_of_a_plan_go_with_it(name):
    learner = LEARNERS[name]
    w, s = learner.init()
    step = learner.compile(w)
    step(w, s, *batch(learner, 0))
    buffers = [weakref.ref(each) for each in step.last[None][2].out]
    gc.collect()
    gc.disable()  # what goes by itself does not wait for a collection
    try:
        del step
        assert [each() for each in buffers] == [None] * len(buffers)
    finally:
        gc.enable()


def test_weights_go_when_nothing_is_bound_to_them_any_more():
    learner = LEARNERS["rule adam"]
    w, s = learner.init()
    step = learner.compile(w)
    step(w, s, *batch(learner, 0))
    old = weakref.ref(w)
    w, s = learner.init()
    gc.disable()  # what goes by itself does not wait for a collection
    try:
        step(w, s, *batch(learner, 0))
        assert old() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("rate", [np.float32(0.25), np.float64(0.25)])
def test_rates_may_be_numbers_of_numpy(rate):
    found = []
    for each in (rate, 0.25):
        learner = bp.Learner(bp.chain(4, bp.Dense(3)), update=bp.GradientDescent(each))
        w, s = learner.init()
        found.append(learner.compile(w)(w, s, *batch(learner, 0))[0])
    assert same_bits(*found)


class Clipped(bp.activations.Identity):
    """An activation by a function that no recorder takes."""

    def __call__(self, net, *, xp):
        return xp.diff(net, prepend=net[:, :1])


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_step_that_cannot_be_recorded_runs_eagerly_and_says_why(backend):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    learner = bp.Learner(bp.chain(4, bp.Dense(3, Clipped())))
    w, s = learner.init(backend=backend)
    w_eager, s_eager = learner.snapshot(w, s)
    step = learner.compile(w)
    x, t = (bp.asarray(a, like=w) for a in batch(learner, 0))
    with pytest.warns(RuntimeWarning, match=r"uses xp\.diff.* this step runs eagerly"):
        w, s, loss = step(w, s, x, t)
    w, s, losses = step.scan(w, s, x, t, np.asarray([[0, 1, 2, 3]]))
    w_eager, s_eager, first = learner.step(w_eager, s_eager, x, t)
    w_eager, s_eager, second = learner.step(w_eager, s_eager, x, t)
    assert (float(loss), float(losses[0])) == (float(first), float(second))
    assert "xp.diff" in step.eager
    assert same_bits(to_host(w), to_host(w_eager))


def test_a_state_of_another_rule_is_refused_by_a_compiled_step():
    w, s = bp.Learner(bp.chain(4, bp.Dense(3))).init()
    learner = bp.Learner(bp.chain(4, bp.Dense(3)), update=bp.Adam())
    x, t = batch(learner, 0)
    with pytest.raises(bp.BackpropError, match="with 2 moments; got one with 0"):
        learner.compile(w)(w, s, x, t)
    with pytest.raises(bp.BackpropError, match="with 2 moments; got one with 0"):
        learner.compile(w).scan(w, s, x, t, np.zeros((1, 2), dtype=int))


def test_new_shapes_compile_once_each():
    learner = LEARNERS["rule adam"]
    w, s = learner.init()
    step = learner.compile(w)
    x, t = batch(learner, 0)
    for rows in (4, 2, 4, 2, 3):
        w, s, _ = step(w, s, x[:rows], t[:rows])
    assert step.compilations == 3


def test_two_runs_of_one_compiled_step_do_not_disturb_each_other():
    learner = LEARNERS["rule adam"]
    step = learner.compile(learner.init()[0])
    runs = {seed: learner.init(seed=seed) for seed in (1, 2)}
    alone = {}
    for seed in runs:
        w, s = learner.init(seed=seed)
        for k in range(4):
            w, s, _ = learner.step(w, s, *batch(learner, k))
        alone[seed] = w
    for k in range(4):
        for seed, (w, s) in runs.items():
            runs[seed] = step(w, s, *batch(learner, k))[:2]
    assert all(same_bits(runs[seed][0], alone[seed]) for seed in runs)


PLANTED = {
    "if on a value": lambda a, *, xp: a if a > 0 else -a,
    "float of a value": lambda a, *, xp: a * float(a),
    "int of a value": lambda a, *, xp: a * int(a),
    "a NumPy function": lambda a, *, xp: np.asarray(a) + 0,
    "a host array as operand": lambda a, *, xp: a + np.ones(3),
    "a list made an array": lambda a, *, xp: a + xp.asarray([1.0, 2.0, 3.0]),
    "a boolean mask": lambda a, *, xp: a[a > 0],
    "an index array": lambda a, *, xp: a[np.asarray([0, 1])],
    "nonzero": lambda a, *, xp: xp.nonzero(a)[0],
    "unique": lambda a, *, xp: xp.unique_values(a) + 1,
    "repeats in an array": lambda a, *, xp: xp.repeat(a, a),
    "a loop over elements": lambda a, *, xp: sum(a) + 0,
    "writing into a slice": lambda a, *, xp: a.__setitem__(slice(0, 1), 0),
    "an array method": lambda a, *, xp: a.sum() + 0,
    "more than eight arrays joined": lambda a, *, xp: xp.concat([a] * 9),
}


@pytest.mark.parametrize("name", PLANTED)
def test_recorder_refuses(name):
    with pytest.raises((bp.BackpropError, AttributeError), match=r"captured|attribute"):
        record(PLANTED[name], np.ones(3))


TABLES = {
    "NumPy calls": (lower.UFUNCS, lower.REDUCTIONS, lower.OTHERS, lower.SPECIAL),
    "single numbers": (scalar_source.FORMS, scalar_source.SPECIAL, scalar_source.NOT_UNROLLED),
}


@pytest.mark.parametrize("target", TABLES)
def test_every_operation_is_in_one_table_of_the_target(target):
    listed = sorted(name for table in TABLES[target] for name in table)
    assert listed == sorted((ir.OPERATIONS | {ir.ASSIGN}) - ir.VIEWS)


def replayed(step, *states):
    """What a step recorded on the first state makes of the others, one after the other."""
    from backprop_xp.compiler.cpu.emit import BoundPlan
    from backprop_xp.compiler.cpu.plan import Plan

    x = np.zeros((1, 1))
    first = record(lambda w, s, x, t, *, xp: (*step(w, s, xp=xp), xp.sum(w)), *states[0], x, x)
    bound = BoundPlan(Plan(first, donate=2, hold=0), states[0], (), get("numpy"))
    for _ in range(3):
        bound.run()
    return bound.state


def test_a_counter_that_is_no_array_is_frozen_and_shows():
    calls = []

    def step(w, s, *, xp):
        calls.append(1)
        return w + len(calls), s

    w, _ = replayed(step, (np.zeros(2), (np.zeros(()),)))
    assert w.tolist() == [3.0, 3.0]  # three times the count at recording, not 1 + 2 + 3


def test_state_that_is_rebound_is_written_back():
    def step(w, s, *, xp):
        (v,) = s
        v = v + 1
        return w + v, (v,)

    w, (v,) = replayed(step, (np.zeros(2), (np.zeros(2),)))
    assert (w.tolist(), v.tolist()) == ([6.0, 6.0], [3.0, 3.0])


def test_states_that_change_places_are_replayed():
    w, (v,) = replayed(lambda w, s, *, xp: (s[0] + 0, (w + 0,)), (np.zeros(2), (np.ones(2),)))
    assert (w.tolist(), v.tolist()) == ([1.0, 1.0], [0.0, 0.0])


def test_operations_per_step_stay_within_their_budget():
    learner = bp.Learner(
        bp.chain(32, bp.Dense(64, bp.relu), bp.Dense(64, bp.relu), bp.Dense(10)),
        bp.softmax_cross_entropy,
        bp.Adam(),
    )
    w, s = learner.init()
    step = learner.compile(w)
    step(w, s, np.zeros((8, 32), dtype="f4"), np.zeros(8, dtype=np.int32))
    (plan,) = step.plans.values()
    assert len(plan.calls) <= 64


def test_compiling_is_the_same_call_on_every_backend():
    for name in ("numpy", "exact", "jax", "torch", "strict"):
        try:
            get(name)
        except bp.errors.BackendUnavailable:
            continue
        learner = bp.Learner(bp.chain(2, bp.layers.Linear(1)))
        w, s = learner.init(backend=name)
        x, t = (bp.asarray(a, like=w) for a in ([[1.0, 2.0]], [[1.0]]))
        w, s, loss = learner.compile(w)(w, s, x, t)
        assert float(loss) >= 0
