"""What a net has learnt: predictions in batches, hidden outputs, input gradients, value and gradient."""

import doctest
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends
from backprop_xp.arrays import leaves
from backprop_xp.errors import BackpropError

SKIPS = bp.chain(
    4,
    bp.named("early", bp.Dense(5, bp.tanh)),
    bp.Dense(5, bp.sigmoid),
    bp.add("early"),
    bp.concat("early"),
    bp.Dense(3),
)
LEARNER = bp.Learner(SKIPS, bp.softmax_cross_entropy)
RATIONAL = bp.Learner(bp.chain(3, bp.Dense(4, bp.relu), bp.Dense(4, bp.relu), bp.add("dense1"), bp.Dense(2)))
ROWS = 6


@pytest.fixture(scope="module")
def given(batch):
    """Weights, state, inputs and targets on NumPy."""
    return *LEARNER.init(2, dtype="float64"), *batch(LEARNER, ROWS)


def alike(a, b, rtol=1e-12):
    np.testing.assert_allclose(backends.host(a), backends.host(b), rtol=rtol, atol=rtol)


def by_torch(w, x, t):
    """The same net in Torch: leaves of the graph, its output, and the loss of each row."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    p = {b: torch.tensor(v.copy(), requires_grad=True) for b, v in LEARNER.weights(w).items()}
    x = torch.tensor(x, requires_grad=True)
    early = torch.tanh(x @ p["early.w"] + p["early.b"])
    summed = torch.sigmoid(early @ p["dense1.w"] + p["dense1.b"]) + early
    o = torch.cat([summed, early], dim=1) @ p["dense2.w"] + p["dense2.b"]
    losses = torch.nn.functional.cross_entropy(o, torch.tensor(t), reduction="none")
    return torch, p, x, o, losses


# ---------------------------------------------------------------- value and gradient
def test_value_and_gradient_agree_with_torch_autograd(given):
    w, s, x, t = given
    torch, p, _, _, losses = by_torch(w, x, t)
    losses.mean().backward()
    value, g = LEARNER.value_and_grad(w, s, x, t)
    assert value.shape == ()
    alike(value, losses.mean().detach())
    alike(g, torch.cat([a.grad.reshape(-1) for a in p.values()]))


def test_the_exact_gradient_is_the_central_difference_exactly(batch):
    x, t = (bp.asarray(np.round(a, 1), backend="exact", dtype="rational") for a in batch(RATIONAL, 3))
    for learner in (RATIONAL, bp.Learner(RATIONAL.net.freeze("dense2"), penalty=bp.updates.L2(0.5))):
        w, s = learner.init(1, like=x)
        _, g = learner.value_and_grad(w, s, x, t)
        v = learner.net.layout.learning_part(w, xp=bp.exact.namespace)
        assert g.shape == v.shape
        h = Fraction(1, 10**6)  # no kink is so near
        for k in range(0, v.shape[0], 5):
            step = bp.asarray([h * (i == k) for i in range(v.shape[0])], like=w)
            spans = learner.net.layout.spans
            ahead, behind = (
                learner.value_and_grad(
                    learner.net.layout.merge(
                        w, [(c, moved[c.first : c.last]) for c in spans], xp=bp.exact.namespace
                    ),
                    s, x, t,
                )[0]
                for moved in (v + step, v - step)
            )  # fmt: skip
            assert ((ahead - behind) / (2 * h)).tolist() == g[k].tolist()


@pytest.mark.parametrize("setting", ["plain", "weights", "sum", "penalty", "frozen", "clip", "shards"])
def test_the_gradient_is_that_of_the_value(setting, given, batch):
    net = SKIPS.freeze("dense1.w", "early.b") if setting == "frozen" else SKIPS
    settings = {
        "sum": {"reduction": "sum"},
        "penalty": {"penalty": bp.updates.L2(0.3)},
        "clip": {"clip": bp.updates.ClipByNorm(1e-3)},
        "shards": {"shards": 2},
    }.get(setting, {})
    learner = bp.Learner(net, bp.softmax_cross_entropy, **settings)
    w, s, x, t = given
    rows = (x, t, np.linspace(0, 2, ROWS)) if setting == "weights" else (x, t)
    v = learner.to_vector(w)
    _, g = learner.value_and_grad(w, s, *rows)
    assert g.shape == v.shape
    along = np.random.default_rng(1).normal(size=v.shape)
    along *= 1e-5 / np.linalg.norm(along)
    ahead, behind = (
        learner.value_and_grad(learner.from_vector(v + d, w), s, *rows)[0] for d in (along, -along)
    )
    assert abs((ahead - behind) / 2 - g @ along) <= 1e-8 * 1e-5 * np.linalg.norm(g)


def test_value_and_gradient_are_those_of_a_step_and_change_nothing(given):
    w, s, x, t = given
    before = w.tobytes(), [a.tobytes() for a in leaves(s)]
    value, g = LEARNER.value_and_grad(w, s, x, t)
    after, _, loss = LEARNER.step(*LEARNER.snapshot(w, s), x, t)
    assert (w.tobytes(), [a.tobytes() for a in leaves(s)]) == before
    assert value.tobytes() == loss.tobytes()
    assert after.tobytes() == (w - 0.1 * g).tobytes()


def test_value_and_gradient_agree_on_every_backend_compiled_or_not(place, given):
    learner = bp.Learner(SKIPS, bp.softmax_cross_entropy, penalty=bp.updates.L2(0.1))
    at_home = learner.value_and_grad(*given)
    w, s = place.init(learner, 2)
    rows = [place.array(a) for a in given[2:]]
    compiled = learner.compile_value_and_grad(w)
    for found in (learner.value_and_grad(w, s, *rows), compiled(w, s, *rows)):
        for own, there in zip(found, at_home, strict=True):
            alike(own, there)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_compiled_value_and_gradient_have_the_same_bits_and_dtype(dtype, given):
    learner = bp.Learner(SKIPS, bp.softmax_cross_entropy, penalty=bp.updates.L2(0.1))
    w, s = learner.init(2, dtype=dtype)
    rows = [a.astype(dtype) for a in given[2:]]
    compiled = learner.compile_value_and_grad(w)
    for _ in range(2):
        for a, b in zip(compiled(w, s, *rows), learner.value_and_grad(w, s, *rows), strict=True):
            assert (a.dtype, b.dtype) == (w.dtype, w.dtype)
            assert a.tobytes() == b.tobytes()
    assert compiled.compilations == 1


def test_a_net_that_does_not_learn_has_a_value_and_no_gradient(given):
    _, _, x, t = given
    learner = bp.Learner(SKIPS.freeze(*SKIPS.shapes), bp.softmax_cross_entropy, to_input=True)
    w, s = learner.init(2, dtype="float64")
    value, g = learner.value_and_grad(w, s, x, t)
    assert float(value) == float(LEARNER.value_and_grad(*given)[0])
    assert g.shape == learner.to_vector(w).shape == (0,)
    assert learner.from_vector([], w).tobytes() == w.tobytes()


# ---------------------------------------------------------------- vectors of the host
def test_a_vector_goes_to_the_weights_and_back_and_frozen_blocks_stay(any_place):
    learner = bp.Learner(RATIONAL.net.freeze("dense1", "dense2.b"))
    w, _ = any_place.init(learner, 3)
    v = learner.to_vector(w)
    assert (type(v), v.dtype, v.shape) == (np.ndarray, np.float64, (16 + 8 + 2,))
    changed = learner.from_vector(np.arange(26.0), w)
    assert (changed.dtype, backends.of(changed)) == (w.dtype, any_place.backend)
    assert any_place.backend.device_of(changed) == any_place.backend.device_of(w)
    assert learner.to_vector(changed).tolist() == list(range(26))
    before, after = learner.weights(w), learner.weights(changed)
    for block in ("dense1.w", "dense1.b", "dense2.b"):
        assert backends.host(before[block]).tobytes() == backends.host(after[block]).tobytes()
    assert backends.host(learner.from_vector(v, w)).tobytes() == backends.host(w).tobytes()


def test_weights_and_vectors_share_no_memory():
    w, _ = RATIONAL.init(dtype="float64")
    v = RATIONAL.to_vector(w)
    assert not np.shares_memory(v, w)
    assert not np.shares_memory(RATIONAL.from_vector(v, w), v)


def test_lbfgs_reaches_a_loss_that_no_rule_reaches_in_as_many_evaluations():
    minimize = pytest.importorskip("scipy.optimize", reason="scipy is not installed").minimize
    u = np.linspace(-1, 1, 40)[:, None]
    x, t = u ** np.arange(1, 6), np.sin(4 * u)
    both = np.hstack([x, np.ones_like(u)])
    least = float(np.mean((both @ np.linalg.lstsq(both, t)[0] - t) ** 2)) / 2
    learner = bp.Learner(bp.chain(5, bp.Dense(1)))
    w, s = learner.init(1, dtype="float64")
    objective, calls = learner.compile_value_and_grad(w), []

    def at(vector):
        value, g = objective(learner.from_vector(vector, w), s, x, t)
        calls.append(float(value))
        return float(value), g

    minimize(at, learner.to_vector(w), jac=True, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-9})
    assert len(calls) < 100
    assert min(calls) - least < 1e-12
    for rule in (bp.GradientDescent, bp.updates.Momentum, bp.Adam):
        for rate in (0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 1):
            own = bp.Learner(learner.net, update=rule(rate))
            each, state = own.init(1, dtype="float64")
            step = own.compile(each)
            for _ in calls:
                each, state, loss = step(each, state, x, t)
            assert float(loss) - least > 1e-2, (rule, rate)


def test_the_page_on_scipy_runs():
    pytest.importorskip("scipy", reason="scipy is not installed")
    page = Path(__file__).resolve().parent.parent / "docs" / "scipy.md"
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, tried = doctest.testfile(str(page), module_relative=False, optionflags=flags)
    assert (failed, tried > 5) == (0, True)


# ---------------------------------------------------------------- input gradients
def test_input_gradients_agree_with_torch_autograd(given):
    w, s, x, t = given
    torch, _, leaf, o, losses = by_torch(w, x, t)
    (by_loss,) = torch.autograd.grad(losses.sum(), leaf, retain_graph=True)
    by_unit = [torch.autograd.grad(o[:, k].sum(), leaf, retain_graph=True)[0] for k in range(3)]
    alike(LEARNER.input_gradient(w, s, x, t), by_loss)
    found = LEARNER.input_gradient(w, s, x)
    assert found.shape == (ROWS, 3, 4)
    for k, each in enumerate(by_unit):
        alike(found[:, k, :], each)
        assert LEARNER.input_gradient(w, s, x, unit=k).tobytes() == found[:, k, :].tobytes()


def test_exact_input_gradients_are_central_differences_exactly(batch):
    x, t = (bp.asarray(np.round(a, 1), backend="exact", dtype="rational") for a in batch(RATIONAL, 3))
    w, s = RATIONAL.init(1, like=x)
    by_loss, by_unit = RATIONAL.input_gradient(w, s, x, t), RATIONAL.input_gradient(w, s, x)
    h = Fraction(1, 10**6)  # no kink is so near
    for k in range(3):
        ahead, behind = (x + bp.asarray([[d * (i == k) for i in range(3)]], like=w) for d in (h, -h))
        losses = (RATIONAL.losses(w, s, ahead, t) - RATIONAL.losses(w, s, behind, t)) / (2 * h)
        assert by_loss[:, k].tolist() == losses.tolist()
        o = (RATIONAL.predict(w, s, ahead) - RATIONAL.predict(w, s, behind)) / (2 * h)
        assert by_unit[:, :, k].tolist() == o.tolist()


def test_the_input_gradient_is_what_a_step_shows_at_the_input(given):
    w, s, x, t = given
    learner = bp.Learner(SKIPS, bp.softmax_cross_entropy, reduction="sum", to_input=True)
    *_, shown = learner.step(*learner.snapshot(w, s), x, t, watch="input.e")
    assert LEARNER.input_gradient(w, s, x, t).tobytes() == shown["input.e"].tobytes()
    frozen = bp.Learner(SKIPS.freeze("early", "dense2"), bp.softmax_cross_entropy)
    assert frozen.input_gradient(w, s, x, t).tobytes() == shown["input.e"].tobytes()


def test_labels_and_bytes_are_read_as_in_a_step(given):
    w, s, x, t = given
    labels = np.argmax(t, axis=1).astype("int32")
    alike(LEARNER.input_gradient(w, s, x, labels), LEARNER.input_gradient(w, s, x, t))
    raw = np.arange(24, dtype="uint8").reshape(6, 4)
    alike(LEARNER.input_gradient(w, s, raw, t), LEARNER.input_gradient(w, s, raw / 255, t))


# ---------------------------------------------------------------- hidden outputs
def test_hidden_outputs_are_those_of_the_forward_pass(given):
    w, s, x, t = given
    trace = bp.trace(LEARNER, w, s, x, t)
    for net_input in (False, True):
        found = LEARNER.outputs(w, s, x, net_input=net_input)
        assert list(found) == [node.name for node in SKIPS.nodes]
        for name, a in found.items():
            assert a.tobytes() == (trace[name].net if net_input else trace[name].o).tobytes()
    assert list(LEARNER.outputs(w, s, x, "dense2", "early")) == ["dense2", "early"]
    alike(LEARNER.outputs(w, s, x, "dense2")["dense2"], LEARNER.predict(w, s, x, net_input=True))


# ---------------------------------------------------------------- on the caller's arrays, in batches
CALLS = {
    "predict": lambda w, s, x, t, **k: LEARNER.predict(w, s, x, **k),
    "outputs": lambda w, s, x, t, **k: LEARNER.outputs(w, s, x, "add1", "dense2", **k),
    "by the loss": LEARNER.input_gradient,
    "by all units": lambda w, s, x, t, **k: LEARNER.input_gradient(w, s, x, **k),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_is_inferred_lies_where_the_weights_are_in_batches_too(call, place, given):
    at_home = leaves(call(*given))
    w, s = place.init(LEARNER, 2)
    x, t = (place.array(a) for a in given[2:])
    for size in (None, 4):
        for a, there in zip(leaves(call(w, s, x, t, batch_size=size)), at_home, strict=True):
            assert place.backend.device_of(a) == place.backend.device_of(w)
            alike(a, there)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("size", [None, 1, ROWS, 100])
def test_what_is_inferred_keeps_the_dtype(call, size, given):
    w, s = LEARNER.init(2)
    for a, there in zip(leaves(call(w, s, *(a.astype("f4") for a in given[2:]), batch_size=size)),
                        leaves(call(*given)), strict=True):  # fmt: skip
        assert a.dtype == np.float32
        alike(a, there, 1e-5)


def test_memory_is_bounded_by_the_batch():
    learner = bp.Learner(bp.chain(2, bp.Dense(500, bp.tanh), bp.Dense(1)))
    w, s = learner.init()
    x, t = np.ones((4000, 2), "f4"), np.ones((4000, 1), "f4")
    for call in (
        lambda: learner.predict(w, s, x, batch_size=50),
        lambda: learner.outputs(w, s, x, "dense2", batch_size=50),
        lambda: learner.input_gradient(w, s, x, t, batch_size=50),
    ):
        tracemalloc.start()
        call()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 1_000_000  # of the 8 MB that the hidden layer of all rows takes


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda w, s, x, t: LEARNER.outputs(w, s, x, "dense9"),
            "no 'dense9'; outputs can be given for 'input'",
        ),
        (lambda w, s, x, t: LEARNER.input_gradient(w, s, x, unit=3), "an integer from 0 to 2, got 3"),
        (lambda w, s, x, t: LEARNER.input_gradient(w, s, x, unit=True), "from 0 to 2, got True"),
        (lambda w, s, x, t: LEARNER.input_gradient(w, s, x, t, unit=0), "give one of the two"),
        (lambda w, s, x, t: LEARNER.predict(w, s, x[:0], batch_size=2), "at least one row"),
        (lambda w, s, x, t: LEARNER.predict(w, s, [[1.0]], batch_size=2), "inputs must be a numpy array"),
        (lambda w, s, x, t: LEARNER.outputs(w, s, x, batch_size=0), "the batch size must be a positive"),
        (lambda w, s, x, t: LEARNER.from_vector(np.ones(3), w), "a vector of 88 numbers, got shape (3,)"),
        (lambda w, s, x, t: LEARNER.to_vector(w[:4]), "the weights w must be a vector of 88"),
        (lambda w, s, x, t: LEARNER.value_and_grad(w, s, x), "a batch is inputs, targets"),
    ],
)
def test_what_cannot_be_inferred_is_refused_in_a_sentence(call, words, given):
    with pytest.raises(BackpropError) as caught:
        call(*given)
    assert words in str(caught.value)
