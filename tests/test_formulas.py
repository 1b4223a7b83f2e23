"""Every unit gets the checks of `bp.testing`, and every other formula its ways to run one.

By the standard alone, with every flag off and on a second device; on the recorder; on arrays that cannot
be changed; in float32; and where `w -= g` makes another array. Planted formulas show that these see what
they should. What else the recorder refuses stands in test_record, steps on every library in test_backends,
wrong units in test_testing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import activations, functions, layers, losses, params, rng, schedules, testing, updates
from backprop_xp.testing import Formula
from backprop_xp.testing.formula import in_float32, on_read_only, on_replaced, on_standard, recorded

DRAW = np.random.default_rng(0)
NET = np.concatenate([np.asarray([[0.0, -0.0, 0.0], [800.0, -800.0, 1.0]]), DRAW.normal(size=(3, 3))])
E = DRAW.normal(size=NET.shape)
LABELS = np.asarray([0, 2, 1, 1, 0], dtype=np.int32)
WORDS = DRAW.integers(1 << 32, size=(2, 6), dtype=np.uint32)
WORD = np.asarray(7, dtype=np.uint32)


# ---------------------------------------------------------------- the formulas there are
def of_rng() -> dict[str, Formula]:
    def bits(start):
        return lambda given, kept, *, xp: rng.bits(
            3, 1, start, 5, xp=xp, device=getattr(given[0], "device", None)
        )

    def words(function, dtype):
        return lambda given, kept, *, xp: function(given, getattr(xp, dtype), xp=xp)

    pair, rows, columns = tuple(WORDS), WORDS[:1].T, WORDS[1:]
    return {
        "threefry, key of numbers": Formula(
            lambda given, kept, *, xp: rng.threefry((2**32 - 1, 3), given, xp=xp), (rows, columns)
        ),
        "threefry, key of words": Formula(
            lambda given, kept, *, xp: rng.threefry(given[:2], given[2:], xp=xp), (WORD, WORD, *pair)
        ),
        "bits": Formula(bits(0), (WORD,)),
        "bits over the carry": Formula(bits((1 << 32) - 2), (WORD,)),
        **{f"uniform {dtype}": Formula(words(rng.uniform, dtype), pair) for dtype in ("float32", "float64")},
        **{f"normal {dtype}": Formula(words(rng.normal, dtype), pair) for dtype in ("float32", "float64")},
    }


def of_layout() -> dict[str, Formula]:
    shapes = {f"b{k}": (2, 1 + k % 3) for k in range(20)}
    layout = params.Layout.of(shapes, frozen=["b0", "b7", "b8", "b19"])
    w = np.arange(float(layout.size))
    new = tuple(-w[span.start : span.stop] for span in layout.spans)
    return {
        "views": Formula(lambda given, kept, *, xp: tuple(layout.views(*given, xp=xp).values()), (w,)),
        "split": Formula(lambda given, kept, *, xp: layout.split(*given, xp=xp), (w,)),
        "split_learning": Formula(lambda given, kept, *, xp: layout.split_learning(*given, xp=xp), (w,)),
        "learning_part": Formula(lambda given, kept, *, xp: layout.learning_part(*given, xp=xp), (w,)),
        "pack": Formula(lambda given, kept, *, xp: layout.pack(layout.views(*given, xp=xp), xp=xp), (w,)),
        "merge": Formula(
            lambda given, kept, *, xp: layout.merge(
                given[0], [*zip(layout.spans, given[1], strict=True)], xp=xp
            ),
            (w, new),
        ),
    }


ONE_OF_EACH = bp.chain(
    3,
    bp.named("early", bp.Dense(4, bp.relu)),
    bp.Dense(4, bp.tanh, bias=False),
    bp.add("early"),
    layers.Activate(bp.sigmoid),
    bp.concat("early", "input"),
    bp.Dense(3, activations.leaky_relu),
)
RATES = {"early": 0.1, "dense1": 0.05, "dense2.w": 0.01, "dense2.b": 0.02}
LEARNERS = {
    "plain": bp.Learner(ONE_OF_EACH),
    "sum, to the input": bp.Learner(ONE_OF_EACH, losses.squared_error, reduction="sum", to_input=True),
    "labels": bp.Learner(ONE_OF_EACH, bp.softmax_cross_entropy, bp.Adam(0.01)),
    "labels, weighted": bp.Learner(ONE_OF_EACH, losses.SoftmaxCrossEntropy(0.1, (1, 2.5, 0), ignored=2)),
    "frozen": bp.Learner(ONE_OF_EACH.freeze("early.b", "dense2"), update=updates.Momentum(0.1)),
    "rates": bp.Learner(ONE_OF_EACH.freeze("dense1"), update=bp.GradientDescent(RATES)),
    "averaged, penalties, clipped by norm": bp.Learner(
        ONE_OF_EACH,
        update=updates.Averaged(updates.AdamW(0.1)),
        penalty={"*.b": updates.L1(0.1), "early": updates.L2(0.1)},
        clip=updates.ClipByNorm(0.5),
    ),
    "clipped by value": bp.Learner(ONE_OF_EACH, clip=updates.ClipByValue(0.01)),
    "layer by layer": bp.Learner(ONE_OF_EACH, update=bp.GradientDescent(RATES), order="layer by layer"),
}


def of_step(learner: Any) -> dict[str, Formula]:
    w, s = learner.init(5, dtype="float64")
    t = LABELS if learner.loss.targets == "distribution" else E
    rest = (s.rule.count, s.rule.rates, s.layers, s.step, s.seed)

    def state(rest, moments):
        return bp.step.State(updates.RuleState(rest[0], rest[1], moments), *rest[2:])

    def stepped(scale):
        def run(given, kept, *, xp):
            s = state(given[0], kept[1:])
            if scale is None:
                return learner.pure(kept[0], s, *given[1:], xp=xp)
            good = xp.astype(0 * s.rule.count, xp.int32)
            s = s._replace(scale=(0 * xp.sum(given[1]) + scale, good))
            return learner.pure(kept[0], s, *given[1:], xp=xp)

        return run

    def looked(given, kept, *, xp):
        w, s = given[3], state(given[0], ())
        found = learner.pure.gradient(w, s, *given[1:3], xp=xp)
        return found.g, found.loss, learner.pure.predict(w, s, given[1], xp=xp)

    given, kept = (rest, NET / 1000, t), (w, *s.rule.moments)
    made = {
        "step": Formula(stepped(None), given, kept),
        "step from bytes": Formula(stepped(None), (rest, abs(NET).astype(np.uint8), t), kept),
        "gradient and prediction": Formula(looked, (*given, w)),
    }
    if learner.order == "together":
        layout = learner.net.layout
        moments = (layout.split_learning(m, xp=np) for m in s.rule.moments)
        made["step with errors scaled"] = Formula(stepped(64.0), given, kept)
        made["step on weights split"] = Formula(stepped(None), given, (layout.split(w, xp=np), *moments))
    return made


FUNCTIONS = ("sigmoid", "softmax", "log_softmax", "softplus", "hard_sigmoid", "normal_cdf", "normal_pdf")


def of_function(f: Any) -> dict[str, Formula]:
    return {"": Formula(lambda given, kept, *, xp: f(*given, xp=xp), (NET,))}


FORMULAS_BY_ROOM = {
    **{f"learner {name}": of_step(learner) for name, learner in LEARNERS.items()},
    **{f"function {name}": of_function(getattr(functions, name)) for name in FUNCTIONS},
    "rng": of_rng(),
    "layout": of_layout(),
}
FORMULAS = {
    f"{room} {name}".strip(): f for room, made in FORMULAS_BY_ROOM.items() for name, f in made.items()
}
every_formula = pytest.mark.parametrize("name", FORMULAS)


# ---------------------------------------------------------------- the units there are
def slowed(count, *, xp):
    return 0.1 / xp.sqrt(1 + count)


ACTIVATIONS = {
    **activations.ALL,
    "relu >": activations.ReLU(">"),
    "leaky >": activations.LeakyReLU(0.1, ">"),
    "elu 2": activations.ELU(2.0),
    "celu 1/2": activations.CELU(0.5),
}
LOSSES = {
    **losses.ALL,
    "with settings": losses.SoftmaxCrossEntropy(0.1, (1, 2.5, 0), ignored=2),
    "of another delta": losses.Huber(0.3),
}
LAYERS = {
    "input": (layers.Input(3), 1),
    "dense": (bp.Dense(4, bp.tanh), 1),
    "dense without bias": (bp.Dense(4, bias=False), 1),
    "activate": (layers.Activate(bp.softmax), 1),
    "add": (layers.Add(), 3),
    "concat": (layers.Concat(), 3),
    "multiply": (layers.Multiply(), 3),
    "integers": (layers.Integers(3), 1),
    "embedding": (layers.Embedding(3, 2), 1),
    "prelu": (layers.PReLU(), 1),
    "prelu, shared": (layers.PReLU(shared=True), 1),
    "layernorm": (layers.LayerNorm(), 1),
    "batchnorm": (layers.BatchNorm(), 1),
    "dropout": (layers.Dropout(0.25), 1),
}
UPDATES = {
    **{name: rule() for name, rule in updates.ALL.items()},
    "a schedule": bp.GradientDescent(slowed),
    "a rate a weight": bp.GradientDescent({"every": 0.25}),
    "bounded": bp.GradientDescent(0.5, limit=1, floor=0.25),
    "nesterov": updates.Momentum(0.1, nesterov=True),
    **{
        f"schedule {name}": bp.GradientDescent(rate)
        for name, rate in {
            "step": schedules.Step(0.1, 3),
            "warm up": schedules.WarmUp(3, schedules.Exponential(0.1, 0.9)),
            "cosine": schedules.WarmUp(3, schedules.Cosine(0.1, 3)),
            "one cycle": schedules.OneCycle(0.1, 5),
        }.items()
    },
    "averaged": updates.Averaged(updates.Momentum(0.1)),
    "moving average": updates.Averaged(updates.NAdam(0.1), 0.9),
    "adam without memory": bp.Adam(0.1, beta1=0.0, beta2=0.0),
}
OF_PROBABILITIES = ("binary_cross_entropy", "categorical_cross_entropy")
UP_TO = {"poisson": 80}  # e^89 is more than the largest number of float32
INTEGERS = np.asarray([[0, 1, 2], [2, 2, 1], [1, 0, 0], [0, 2, 1]], dtype=np.int32)


def loss_settings(name: str) -> dict[str, Any]:
    return {"outputs": "probabilities"} if name in OF_PROBABILITIES else {"up_to": UP_TO.get(name, 1e4)}


def inputs_of(layer: Any, n: int) -> tuple[Any, ...]:
    return (INTEGERS,) if getattr(layer, "integers", False) else ((3,),) * n


UNITS = {
    **{f"activation {n}": partial(testing.check_activation, f) for n, f in ACTIVATIONS.items()},
    **{f"loss {n}": partial(testing.check_loss, loss, **loss_settings(n)) for n, loss in LOSSES.items()},
    **{f"layer {n}": partial(testing.check_layer, made[0], inputs_of(*made)) for n, made in LAYERS.items()},
    **{f"update {n}": partial(testing.check_update, rule) for n, rule in UPDATES.items()},
}


@pytest.mark.parametrize("name", UNITS)
def test_units_pass_every_check_of_testing(name):
    report = UNITS[name]()
    skipped = {check.name for check in report.checks if not check.held}
    may = {"exact", "standard", "jax", "torch", "random bits"}
    assert skipped <= may | ({"gradient"} if name in ("layer input", "layer integers") else set()), report


@pytest.mark.parametrize(
    "name", ["activation relu >", "loss mean_absolute_error", "layer dense without bias", "update momentum"]
)
def test_rational_units_are_checked_on_fractions(name):
    assert UNITS[name]().held("exact")


# ---------------------------------------------------------------- ways to run every formula
@every_formula
def test_formulas_need_the_standard_alone_on_any_device(name):
    on_standard(FORMULAS[name])


@every_formula
def test_formulas_are_recorded_as_what_they_make(name):
    recorded(FORMULAS[name])


@every_formula
def test_formulas_change_nothing_but_weights_and_moments(name):
    on_read_only(FORMULAS[name])


@pytest.mark.parametrize("name", [name for name in FORMULAS if not name.startswith("rng")])
def test_formulas_keep_the_precision_they_are_given(name):
    in_float32(FORMULAS[name])


def planted(f: Callable[..., Any]) -> Formula:
    """A formula of an array g it is given, and of one it may change, w."""
    g, w = np.asarray([0.5, -1.0, 2.0]), np.asarray([1.0, 2.0, 3.0])
    return Formula(lambda given, kept, *, xp: f(*given, *kept, xp=xp), (g,), (w,))


def less(a: Any, b: Any) -> Any:
    a -= b
    return a


PLANTED = {
    "a boolean mask": (on_standard, "[Bb]oolean", lambda g, w, *, xp: g[g > 0]),
    "nonzero": (on_standard, "data.dependent", lambda g, w, *, xp: xp.nonzero(g)),
    "unique": (on_standard, "data.dependent", lambda g, w, *, xp: xp.unique_values(g)),
    "a sum by method": (on_standard, "attribute 'sum'", lambda g, w, *, xp: g.sum()),
    "a new shape by method": (on_standard, "attribute 'reshape'", lambda g, w, *, xp: g.reshape((3, 1))),
    "a function of NumPy alone": (on_standard, "attribute 'average'", lambda g, w, *, xp: xp.average(g)),
    "an extension": (on_standard, "linalg", lambda g, w, *, xp: xp.linalg.vector_norm(g)),
    "zeros on no device": (on_standard, "first device", lambda g, w, *, xp: xp.zeros((2,))),
    "numbers on no device": (on_standard, "device", lambda g, w, *, xp: g + xp.asarray([1.0, 2.0, 3.0])),
    "integers among floats": (on_standard, "promoted", lambda g, w, *, xp: w + xp.astype(g, xp.int32)),
    "a value read": (recorded, "reads a value", lambda g, w, *, xp: g * float(xp.sum(g))),
    "if on a value": (recorded, "reads a value", lambda g, w, *, xp: g if xp.any(g > 0) else -g),
    "a product by @": (recorded, "@", lambda g, w, *, xp: g @ w),
    "a transpose by attribute": (recorded, "attribute 'mT'", lambda g, w, *, xp: g[:, None].mT),
    "a gradient changed": (on_read_only, "read-only", lambda g, w, *, xp: less(g, 2 * w)),
    "a gradient changed by a view": (on_read_only, "read-only", lambda g, w, *, xp: less(g[1:], 1)),
    "a gradient written into": (on_read_only, "read-only", lambda g, w, *, xp: g.__setitem__(0, 1.0)),
    "old weights read too late": (
        on_replaced,
        "where no array changes",
        lambda g, w, *, xp: (less(w, g), w + 0),
    ),
    "numbers in float64": (in_float32, "float64", lambda g, w, *, xp: w - xp.full((3,), 0.5) * g),
    "weights changed by a view": (
        on_replaced,
        "where no array changes",
        lambda g, w, *, xp: (less(w[1:], 1), w),
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_formulas_are_seen(name):
    way, why, f = PLANTED[name]
    if way is on_replaced:
        pytest.importorskip("jax", reason="jax is not installed")
    with pytest.raises(
        (ValueError, TypeError, AttributeError, RuntimeError, AssertionError, IndexError), match=why
    ):
        way(planted(f))


@pytest.mark.parametrize("way", [on_standard, recorded, on_read_only, in_float32, on_replaced])
def test_a_good_formula_passes(way):
    if way is on_replaced:
        pytest.importorskip("jax", reason="jax is not installed")
    way(planted(lambda g, w, *, xp: (less(w, 0.1 * g), xp.where(g > 0, g, 0))))


# ---------------------------------------------------------------- the lists
@pytest.mark.parametrize(
    ("module", "kind", "run"),
    [
        (activations, "delta", ACTIVATIONS.values()),
        (losses, "error", LOSSES.values()),
        (layers, "forward", [layer for layer, _ in LAYERS.values()]),
        (updates, "element", UPDATES.values()),
    ],
    ids=["activations", "losses", "layers", "updates"],
)
def test_every_class_is_in_its_list_run_here_and_named_in_its_room(module, kind, run):
    room = getattr(bp, module.__name__.rpartition(".")[2])
    own = [
        v for v in vars(module).values() if isinstance(v, type) and v.__module__.startswith(module.__name__)
    ]
    bases = ("Activation", "Loss", "DistributionLoss", "Layer", "Update", "Averaged")
    made = {v for v in own if hasattr(v, kind) and v.__name__ not in bases}
    assert made
    assert made == {v if isinstance(v, type) else type(v) for v in module.ALL.values()}
    assert made == {type(each) for each in run} - {updates.Averaged}
    for name, value in module.ALL.items():
        assert getattr(room, value.__name__ if isinstance(value, type) else name) is value
