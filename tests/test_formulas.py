"""Each formula is run in the ways that show what it may not do; planted formulas show that they see it.

By the standard alone, with every flag off and on a second device; on the recorder; on arrays that cannot
be changed; in float32; and where `w -= g` makes another array. What else the recorder refuses stands in
test_record, steps on every library in test_backends.
"""

from collections import namedtuple
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import activations, backends, functions, layers, losses, params, rng, schedules, updates
from backprop_xp.compiler.ir import evaluate, leaves, mapped
from backprop_xp.compiler.recorder import record
from backprop_xp.layers import Context


class Formula(NamedTuple):
    """A function `run(given, kept, *, xp)` of arrays it reads and of arrays, w and moments, it may change."""

    run: Callable[..., Any]
    given: tuple[Any, ...]
    kept: tuple[Any, ...] = ()


DRAW = np.random.default_rng(0)
NET = np.concatenate([np.asarray([[0.0, -0.0, 0.0], [800.0, -800.0, 1.0]]), DRAW.normal(size=(3, 3))])
E = DRAW.normal(size=NET.shape)
SHARES = np.concatenate([np.eye(3), DRAW.dirichlet(np.ones(3), size=2)])
LABELS = np.asarray([0, 2, 1, 1, 0], dtype=np.int32)
WORDS = DRAW.integers(1 << 32, size=(2, 6), dtype=np.uint32)
WORD = np.asarray(7, dtype=np.uint32)


# ---------------------------------------------------------------- the units there are
def of_activation(f: Any) -> dict[str, Formula]:
    return {
        "value": Formula(lambda given, kept, *, xp: f(*given, xp=xp), (NET,)),
        "delta": Formula(
            lambda given, kept, *, xp: f.delta(given[0], given[1], f(given[1], xp=xp), xp=xp), (E, NET)
        ),
    }


def of_loss(loss: Any) -> dict[str, Formula]:
    o = SHARES if "Categorical" in type(loss).__name__ or "Binary" in type(loss).__name__ else NET
    t = E if loss.targets == "numbers" else SHARES
    made = {
        name: Formula(lambda given, kept, *, xp, f=getattr(loss, name): f(*given, xp=xp), (o, t))
        for name in ("value", "error")
    }
    made["link"] = Formula(lambda given, kept, *, xp: loss.link(*given, xp=xp), (o,))
    for name, targets in {"encode": t, "encode labels": LABELS}.items():
        if name == "encode" or loss.targets == "distribution":
            made[name] = Formula(lambda given, kept, *, xp: loss.encode(*given, xp=xp), (targets, o))
    return made


def of_layer(layer: Any, inputs: int) -> dict[str, Formula]:
    x = tuple(DRAW.normal(size=(5, 3)) for _ in range(inputs))
    asked = layer.params(*((3,) for _ in x))
    p = namedtuple("P", asked)(*(DRAW.normal(size=param.shape) for param in asked.values()))
    e = DRAW.normal(size=(5, *layer.shape(*((3,) for _ in x))))

    def flow(given, *, xp):
        ctx = Context(True, *given[3], stream=3, state=())
        return layer.forward(given[0], *given[1], ctx=ctx, xp=xp)

    def back(method):
        def run(given, kept, *, xp):
            found, _ = flow(given, xp=xp)
            return getattr(layer, method)(given[0], found, given[2], *given[1], xp=xp)

        return run

    given = (p, x, e, (WORD, WORD))
    return {
        "forward": Formula(lambda given, kept, *, xp: flow(given, xp=xp), given),
        "delta": Formula(
            lambda given, kept, *, xp: layer.delta(given[0], flow(given, xp=xp)[0], given[2], xp=xp), given
        ),
        "grad": Formula(back("grad"), given),
        "pull": Formula(back("pull"), given),
    }


def of_update(rule: Any) -> dict[str, Formula]:
    g, w, *moments = (abs(DRAW.normal(size=6)) for _ in range(2 + rule.moments))
    count = np.asarray(4, dtype=np.int32)

    def run(given, kept, *, xp):
        state = updates.RuleState(given[1], given[2], kept[1:])
        scalars = rule.scalars(state, dtype=kept[0].dtype, xp=xp)
        return rule.element(given[0], *kept, *scalars, xp=xp)

    return {"element": Formula(run, (g, count, np.full(6, 0.25)), (w, *moments))}


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


ACTIVATIONS = {**activations.ALL, "relu >": activations.ReLU(">"), "leaky >": activations.LeakyReLU(0.1, ">")}
LAYERS = {
    "input": (layers.Input(3), 1),
    "dense": (bp.Dense(4, bp.tanh), 1),
    "dense without bias": (bp.Dense(4, bias=False), 1),
    "activate": (layers.Activate(bp.softmax), 1),
    "add": (layers.Add(), 3),
    "concat": (layers.Concat(), 3),
}
UPDATES = {
    **{name: rule() for name, rule in updates.ALL.items()},
    "a schedule": bp.GradientDescent(lambda count, *, xp: 0.1 / xp.sqrt(1 + count)),
    "a rate a weight": bp.GradientDescent(RATES),
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
UNITS = {
    **{f"activation {name}": of_activation(f) for name, f in ACTIVATIONS.items()},
    **{f"loss {name}": of_loss(loss) for name, loss in losses.ALL.items()},
    **{f"layer {name}": of_layer(*made) for name, made in LAYERS.items()},
    **{f"update {name}": of_update(rule) for name, rule in UPDATES.items()},
    **{f"learner {name}": of_step(learner) for name, learner in LEARNERS.items()},
    "function sigmoid": {"": Formula(lambda given, kept, *, xp: functions.sigmoid(*given, xp=xp), (NET,))},
    "function softmax": {"": Formula(lambda given, kept, *, xp: functions.softmax(*given, xp=xp), (NET,))},
    "rng": of_rng(),
    "layout": of_layout(),
}
FORMULAS = {f"{unit} {name}".strip(): f for unit, made in UNITS.items() for name, f in made.items()}
every_formula = pytest.mark.parametrize("name", FORMULAS)


# ---------------------------------------------------------------- ways to run a formula
def on_numpy(formula: Formula, *, writeable: bool = True) -> Any:
    """What a formula gives for copies of its arrays; those it is given cannot be changed."""

    def copied(a: Any, writeable: bool) -> Any:
        a = np.array(a)
        a.flags.writeable = writeable
        return a

    given = mapped(formula.given, lambda a: copied(a, writeable))
    kept = mapped(formula.kept, lambda a: copied(a, writeable=True))
    with np.errstate(all="ignore"):
        return mapped(formula.run(given, kept, xp=np), np.array)


def on_read_only(formula: Formula) -> None:
    on_numpy(formula, writeable=False)


def in_float32(formula: Formula) -> None:
    """No array of float64 comes of arrays of float32."""

    def narrow(a: Any) -> Any:
        return a.astype("float32") if a.dtype == "float64" else a

    made = on_numpy(Formula(formula.run, *mapped((formula.given, formula.kept), narrow)))
    assert "float64" not in {str(a.dtype) for a in leaves(made)}


def recorded(formula: Formula) -> None:
    """The program of a formula makes the numbers that the formula makes."""
    program = record(formula.run, formula.given, formula.kept)
    assert_same(evaluate(program, formula.given, formula.kept), on_numpy(formula), rtol=0)


@contextmanager
def all_flags_off():
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    off = strict.ArrayAPIStrictFlags(
        boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
    )
    with off:
        yield strict


def on_standard(formula: Formula) -> None:
    """By the standard alone, on a second device; all that is made lies there."""
    with all_flags_off() as strict:
        there, to = strict.Device("device1"), backends.get("strict")
        given, kept = mapped(
            (formula.given, formula.kept), lambda a: to.asarray(a, getattr(strict, a.dtype.name), there)
        )
        made = formula.run(given, kept, xp=strict)
        assert {a.device for a in leaves(made)} <= {there}, "made on the first device"
        assert_same(mapped(made, to.to_host), on_numpy(formula), rtol=1e-12)


def on_replaced(formula: Formula) -> None:
    """Where `w -= g` makes another array, and the old one keeps its numbers."""
    pytest.importorskip("jax", reason="jax is not installed")
    to = backends.get("jax")
    given, kept = mapped((formula.given, formula.kept), lambda a: to.asarray(a, a.dtype, to.device(None)))
    made = mapped(formula.run(given, kept, xp=to.xp), np.asarray)
    assert_same(made, on_numpy(formula), rtol=1e-12)
    for old, before in zip(leaves(kept), leaves(formula.kept), strict=True):
        np.testing.assert_array_equal(old, before)


def assert_same(found: Any, wanted: Any, rtol: float) -> None:
    for one, other in zip(leaves(found), leaves(wanted), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


# ---------------------------------------------------------------- the formulas there are
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


@pytest.mark.parametrize("name", [name for name in FORMULAS if name.startswith("update")])
def test_rules_are_the_same_where_arrays_are_changed_as_where_they_are_replaced(name):
    on_replaced(FORMULAS[name])


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
    "old weights read too late": (on_replaced, "Mismatch", lambda g, w, *, xp: (less(w, g), w + 0)),
    "numbers in float64": (in_float32, "float64", lambda g, w, *, xp: w - xp.full((3,), 0.5) * g),
    "weights changed by a view": (on_replaced, "Mismatch", lambda g, w, *, xp: (less(w[1:], 1), w)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_formulas_are_seen(name):
    way, why, f = PLANTED[name]
    with pytest.raises(
        (ValueError, TypeError, AttributeError, RuntimeError, AssertionError, IndexError), match=why
    ):
        way(planted(f))


@pytest.mark.parametrize("way", [on_standard, recorded, on_read_only, in_float32, on_replaced])
def test_a_good_formula_passes(way):
    way(planted(lambda g, w, *, xp: (less(w, 0.1 * g), xp.where(g > 0, g, 0))))


# ---------------------------------------------------------------- the lists
@pytest.mark.parametrize(
    ("module", "kind", "run"),
    [
        (activations, "delta", ACTIVATIONS.values()),
        (losses, "error", losses.ALL.values()),
        (layers, "forward", [layer for layer, _ in LAYERS.values()]),
        (updates, "element", UPDATES.values()),
    ],
    ids=["activations", "losses", "layers", "updates"],
)
def test_every_class_is_in_its_list_run_here_and_named_in_its_room(module, kind, run):
    room = getattr(bp, module.__name__.rpartition(".")[2])
    own = [v for v in vars(module).values() if isinstance(v, type)]
    own = [v for v in own if v.__module__.startswith(module.__name__)]
    other = ("Activation", "Loss", "Layer", "Update", "Averaged")  # protocols, bases, a wrapper of any rule
    made = {v for v in own if hasattr(v, kind) and v.__name__ not in other}
    assert made
    assert made == {v if isinstance(v, type) else type(v) for v in module.ALL.values()}
    assert made == {type(each) for each in run} - {updates.Averaged}
    for name, value in module.ALL.items():
        assert getattr(room, value.__name__ if isinstance(value, type) else name) is value
