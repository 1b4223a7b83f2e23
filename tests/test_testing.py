"""Wrong units are caught by the checks of `bp.testing`, in a sentence that says what to look at."""

import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends, layers, losses, rng, testing, updates
from backprop_xp.params import Param

DRAW = np.random.default_rng(0)


# ---------------------------------------------------------------- activations
@dataclass(frozen=True)
class Cube:
    """o = factor · net³, right as it stands."""

    factor: float = 0.25

    def __call__(self, net, *, xp):
        return self.factor * net * net * net

    def delta(self, e, net, o, *, xp):
        return e * (3 * self.factor * net * net)


class TwiceAsSteep(Cube):
    def delta(self, e, net, o, *, xp):
        return 2 * super().delta(e, net, o, xp=xp)


class Uphill(Cube):
    def delta(self, e, net, o, *, xp):
        return -super().delta(e, net, o, xp=xp)


class WrongAtOneUnit(Cube):
    def delta(self, e, net, o, *, xp):
        return xp.where(net > 5.5, 1.001 * super().delta(e, net, o, xp=xp), super().delta(e, net, o, xp=xp))


@dataclass(frozen=True)
class OverRows:
    """A softmax over the batch."""

    def __call__(self, net, *, xp):
        z = xp.exp(net - xp.max(net, axis=0, keepdims=True))
        return z / xp.sum(z, axis=0, keepdims=True)

    def delta(self, e, net, o, *, xp):
        return o * (e - xp.sum(e * o, axis=0, keepdims=True))


class ReadsAValue(Cube):
    def __call__(self, net, *, xp):
        return super().__call__(net, xp=xp) if float(xp.max(net)) > -1e9 else net


class OfNumPy(Cube):
    def __call__(self, net, *, xp):
        return np.cos(net)

    def delta(self, e, net, o, *, xp):
        return -e * np.sin(net)


class Widens(Cube):
    def __call__(self, net, *, xp):
        return super().__call__(net, xp=xp) * xp.ones((), dtype=xp.float64)


class NoDataclass:
    def __init__(self):
        self.factor = 0.25

    __call__, delta = Cube.__call__, Cube.delta


@dataclass
class Unfrozen:
    factor: float = 0.25

    def __hash__(self):
        return hash(self.factor)

    __call__, delta = Cube.__call__, Cube.delta


@dataclass(frozen=True)
class Unhashable(Cube):
    factors: list[float] = field(default_factory=list)


class InPlace(Cube):
    def __call__(self, net, *, xp):
        net *= 1
        return super().__call__(net, xp=xp)


class Dithered(Cube):
    def __call__(self, net, *, xp):
        return super().__call__(net, xp=xp) + 1e-9 * DRAW.random()


class Overflows(Cube):
    def __call__(self, net, *, xp):
        return xp.log(1 + xp.exp(net))

    def delta(self, e, net, o, *, xp):
        return e / (1 + xp.exp(-net))


class NoNumber(Cube):
    """x / (1 + |x|) written so that it is ∞ / ∞ at the ends."""

    def __call__(self, net, *, xp):
        return (net * 8) / (8 + xp.abs(net * 8))

    def delta(self, e, net, o, *, xp):
        return e * 64 / (8 + xp.abs(net * 8)) ** 2


class OneColumn(Cube):
    def __call__(self, net, *, xp):
        return super().__call__(net, xp=xp)[:, :1]


class OnTheFirstDevice(Cube):
    def __call__(self, net, *, xp):
        return super().__call__(net, xp=xp) + 0 * xp.asarray(0.0, dtype=net.dtype)


WRONG_ACTIVATIONS = {
    "factor": (
        TwiceAsSteep(),
        r"TwiceAsSteep\(\).*delta\[\d, \d\] is .* give .*all are 2 times.*look at the deriv",
    ),
    "sign": (Uphill(), r"Uphill.*the sign is wrong.*look at the derivative in delta"),
    "one place": (WrongAtOneUnit(), r"WrongAtOneUnit.*'gradient': delta\[\d, \d\] is"),
    "axis": (OverRows(), r"OverRows.*o\[0, 0\] of row 0 alone is 1, and .* among others.*axis=-1"),
    "value read": (ReadsAValue(), r"ReadsAValue.*reads a value on the host"),
    "NumPy": (OfNumPy(), r"OfNumPy.*uses np\.cos: write xp\.cos"),
    "widens": (Widens(), r"Widens.*o is float64 where all that is given is float32"),
    "no dataclass": (
        NoDataclass(),
        r"NoDataclass.*not equal to it: make the class a @dataclass\(frozen=True\)",
    ),
    "changeable": (Unfrozen(), r"Unfrozen.*setting 'factor' can be changed"),
    "unhashable": (Unhashable(), r"Unhashable.*cannot be compared or hashed .*unhashable type: 'list'"),
    "in place": (InPlace(), r"InPlace.*changes an array that it may only read"),
    "random": (Dithered(), r"Dithered.*o\[0, 0\] in a second call is .*random bits come from ctx"),
    "overflow": (Overflows(), r"Overflows.*overflow encountered in exp at net inputs of ±10000 in float32"),
    "no number": (NoNumber(), r"NoNumber.*o is NaN at the largest net inputs"),
    "shape": (OneColumn(), r"OneColumn.*o must have shape \(4, 5\), got \(4, 1\)"),
    "first device": (OnTheFirstDevice(), r"OnTheFirstDevice.*'standard'"),
}


# ---------------------------------------------------------------- losses
@dataclass(frozen=True)
class Quartic(losses.Loss):
    """E = Σ (o − t)⁴, right as it stands."""

    factor: float = 1.0

    def value(self, o, t, *, xp):
        d = o - t
        return self.factor * xp.sum(d * d * d * d, axis=-1)

    def error(self, o, t, *, xp):
        d = o - t
        return 4 * self.factor * (d * d * d)


class Halved(Quartic):
    def error(self, o, t, *, xp):
        return super().error(o, t, xp=xp) / 2


class Away(Quartic):
    def error(self, o, t, *, xp):
        return super().error(t, o, xp=xp)


class OverTheBatch(Quartic):
    def value(self, o, t, *, xp):
        return xp.sum((o - t) ** 2, axis=0)


class Standardised(Quartic):
    def value(self, o, t, *, xp):
        return super().value(o - xp.mean(o, axis=0), t, xp=xp)


class LossReads(Quartic):
    def value(self, o, t, *, xp):
        return super().value(o, t, xp=xp) * (1 if xp.all(o < 1e9) else 2)


class LossOfNumPy(Quartic):
    def value(self, o, t, *, xp):
        return np.sum((o - t) ** 4, axis=-1)


class LossWidens(Quartic):
    def error(self, o, t, *, xp):
        return super().error(o, t, xp=xp) * xp.full((), 1.0)


class LossInPlace(Quartic):
    def error(self, o, t, *, xp):
        t -= o
        return super().error(o, t, xp=xp)


class LossDithered(Quartic):
    def value(self, o, t, *, xp):
        return super().value(o, t, xp=xp) * DRAW.random()


@dataclass(frozen=True)
class LossUnhashable(Quartic):
    weights: Any = field(default_factory=lambda: np.ones(3))


WRONG_LOSSES = {
    "factor": (
        Halved(),
        r"Halved.*error for numbers\[\d, \d\] is .*all are 0.5 times.*look at the derivative in error",
    ),
    "sign": (Away(), r"Away.*the sign is wrong"),
    "axis": (OverTheBatch(), r"OverTheBatch.*for numbers.value must have shape \(4,\), got \(3,\)"),
    "rows": (Standardised(), r"Standardised.*of row 0 alone"),
    "value read": (LossReads(), r"LossReads.*reads a value on the host"),
    "NumPy": (LossOfNumPy(), r"LossOfNumPy.*uses np\.sum: write xp\.sum"),
    "widens": (LossWidens(), r"LossWidens.*for numbers.error is float64"),
    "in place": (LossInPlace(), r"LossInPlace.*changes an array that it may only read"),
    "random": (LossDithered(), r"LossDithered.*in a second call"),
    "settings": (LossUnhashable(), r"LossUnhashable.*cannot be compared or hashed"),
}


# ---------------------------------------------------------------- layers
@dataclass(frozen=True)
class Scale(layers.Layer):
    """o = x g, a gain for each unit; right as it stands."""

    def params(self, *inputs):
        return {"g": Param(inputs[0], centre=1.0)}

    def forward(self, p, *x, ctx, xp):
        return layers.Flow(x[0] * p.g, x[0] * p.g), ()

    def grad(self, p, flow, delta, *x, xp):
        return (xp.sum(delta * x[0], axis=0),)

    def pull(self, p, flow, delta, *x, xp):
        return (delta * p.g,)


class HalfGrad(Scale):
    def grad(self, p, flow, delta, *x, xp):
        return (super().grad(p, flow, delta, *x, xp=xp)[0] / 2,)


class WrongPull(Scale):
    def pull(self, p, flow, delta, *x, xp):
        return (-delta * p.g,)


class WrongDelta(Scale):
    def delta(self, p, flow, e, *, xp):
        return 3 * e


class SumOverUnits(Scale):
    def grad(self, p, flow, delta, *x, xp):
        return (xp.sum(delta * x[0], axis=1),)


class NoTuple(Scale):
    def grad(self, p, flow, delta, *x, xp):
        return super().grad(p, flow, delta, *x, xp=xp)[0]


class LayerReads(Scale):
    def forward(self, p, *x, ctx, xp):
        return super().forward(p, *x, ctx=ctx, xp=xp) if ctx.step >= 0 else (None, ())


class LayerOfNumPy(Scale):
    def forward(self, p, *x, ctx, xp):
        return layers.Flow(x[0], np.multiply(x[0], p.g)), ()


class LayerWidens(Scale):
    def pull(self, p, flow, delta, *x, xp):
        return (delta * p.g * xp.full((), 1.0),)


class LayerInPlace(Scale):
    def grad(self, p, flow, delta, *x, xp):
        delta *= x[0]
        return (xp.sum(delta, axis=0),)


class WritesInput(Scale):
    def forward(self, p, *x, ctx, xp):
        x[0][0, 0] = 1.0
        return super().forward(p, *x, ctx=ctx, xp=xp)


class OutsideMask(Scale):
    def forward(self, p, *x, ctx, xp):
        return layers.Flow(x[0], x[0] * p.g * DRAW.random(x[0].shape)), ()


@dataclass(frozen=True)
class Masked(layers.Layer):
    """Keeps units at random, by the row's number in the whole batch; right as it stands."""

    def counters(self, ctx, x, xp):
        device, word = getattr(x, "device", None), ctx.step.dtype
        rows = xp.astype(xp.arange(x.shape[0], dtype=xp.int32, device=device) + ctx.first, word)
        units = xp.astype(xp.arange(x.shape[1], dtype=xp.int32, device=device), word)
        return ctx.step + 0 * rows[:, None] + 0 * units, rows[:, None] * x.shape[1] + units

    def forward(self, p, *x, ctx, xp):
        if not ctx.training:
            return layers.Flow(x[0], x[0] / 2), ()
        words = rng.threefry((ctx.seed, ctx.stream), self.counters(ctx, x[0], xp), xp=xp)
        mask = xp.astype(rng.uniform(words, x[0].dtype, xp=xp) < 0.5, x[0].dtype)
        return layers.Flow(x[0], x[0] * mask, mask), ()

    def delta(self, p, flow, e, *, xp):
        return e * flow.aux


class SameMaskInEveryPart(Masked):
    def counters(self, ctx, x, xp):
        return super().counters(ctx._replace(first=0), x, xp)


class SameMaskInEveryStep(Masked):
    def counters(self, ctx, x, xp):
        step, index = super().counters(ctx, x, xp)
        return step - ctx.step, index


class AlwaysRandom(Masked):
    def forward(self, p, *x, ctx, xp):
        return super().forward(p, *x, ctx=ctx._replace(training=True), xp=xp)


@dataclass(frozen=True)
class ForgetsItsMean(layers.Layer):
    """Takes the mean of the batch off, in evaluation too."""

    def state(self, *inputs):
        return (Param(inputs[0]),)

    def forward(self, p, *x, ctx, xp):
        mean = xp.mean(x[0], axis=0)
        return layers.Flow(x[0], x[0] - mean), (mean,)

    def pull(self, p, flow, delta, *x, xp):
        return (delta - xp.mean(delta, axis=0),)


WRONG_LAYERS = {
    "factor": (HalfGrad(), r"HalfGrad.*grad\.g\[\d\] is .*all are 0.5 times.*look at the method grad$"),
    "sign": (WrongPull(), r"WrongPull.*pull\.x0\[\d, \d\] is .*the sign is wrong.*look at the method pull$"),
    "delta": (
        WrongDelta(),
        r"WrongDelta.*all are 3 times.*look at the method grad, or at delta, since no deriv",
    ),
    "axis": (SumOverUnits(), r"SumOverUnits.*grad\.g must have shape \(5,\), got \(4,\)"),
    "no tuple": (NoTuple(), r"NoTuple.*grad must give 1 arrays, a tuple, got 5"),
    "value read": (LayerReads(), r"LayerReads.*reads a value on the host"),
    "NumPy": (LayerOfNumPy(), r"LayerOfNumPy.*uses np\.multiply: write xp\.multiply"),
    "widens": (LayerWidens(), r"LayerWidens.*pull\.x0 is float64"),
    "in place": (LayerInPlace(), r"LayerInPlace.*'(read-only|gradient)'"),
    "input written": (WritesInput(), r"WritesInput.*changes an array that it may only read"),
    "random": (OutsideMask(), r"OutsideMask.*o\[0, 0\] in a second call is .*random bits come from ctx"),
    "parts": (
        SameMaskInEveryPart(),
        r"SameMaskInEveryPart.*of the rows from 2 on.*count rows from ctx\.first",
    ),
    "steps": (SameMaskInEveryStep(), r"SameMaskInEveryStep.*do not change with the step"),
    "evaluation": (AlwaysRandom(), r"AlwaysRandom.*'evaluation'"),
    "state": (ForgetsItsMean(), r"ForgetsItsMean.*of row 0 alone"),
}


# ---------------------------------------------------------------- update rules
@dataclass(frozen=True)
class Descent:
    """v ← β v + g, w ← w − η v; right as it stands."""

    rate: float = 0.1
    moments: ClassVar[int] = 1

    def scalars(self, state, *, dtype, xp):
        return (self.rate,)

    def element(self, g, w, *rest, xp):
        v, rate = rest
        v = 0.5 * v + g
        return w - rate * v, v


class Ascent(Descent):
    def element(self, g, w, *rest, xp):
        v, rate = rest
        v = 0.5 * v + g
        return w + rate * v, v


class OfTheWholeNorm(Descent):
    def element(self, g, w, *rest, xp):
        return super().element(g / xp.sqrt(xp.sum(g * g) + 1), w, *rest, xp=xp)


class RuleReads(Descent):
    def scalars(self, state, *, dtype, xp):
        return (self.rate / (1 + float(state.count)),)


class RuleOfNumPy(Descent):
    def element(self, g, w, *rest, xp):
        return super().element(np.sign(g), w, *rest, xp=xp)


class RuleWidens(Descent):
    def scalars(self, state, *, dtype, xp):
        return (xp.astype(state.count, xp.float64) * 0 + self.rate,)


class RuleInPlace(Descent):
    def element(self, g, w, *rest, xp):
        g *= 0.5
        return super().element(g, w, *rest, xp=xp)


class RuleDithered(Descent):
    def element(self, g, w, *rest, xp):
        return super().element(g * DRAW.random(), w, *rest, xp=xp)


class LosesItsMoment(Descent):
    def element(self, g, w, *rest, xp):
        return super().element(g, w, *rest, xp=xp)[:1]


class OneCount(Descent):
    def scalars(self, state, *, dtype, xp):
        return (
            self.rate / (1 + xp.max(xp.astype(state.count, dtype)) * 0 + xp.astype(state.count, dtype).ndim),
        )


class DividesByZero(Descent):
    def element(self, g, w, *rest, xp):
        return super().element(g / xp.sqrt(g * g), w, *rest, xp=xp)


class OldWeightsTooLate(Descent):
    def element(self, g, w, *rest, xp):
        v, rate = rest
        old = w
        w -= rate * g
        return w, v + (old - w)


@dataclass
class RuleUnfrozen:
    rate: float = 0.1
    moments: ClassVar[int] = 1
    scalars, element = Descent.scalars, Descent.element


WRONG_UPDATES = {
    "sign": (
        Ascent(),
        r"Ascent.*50 steps on E = ½ Σ w² take it from .* to .*look at the sign of the change in element",
    ),
    "not elementwise": (
        OfTheWholeNorm(),
        r"OfTheWholeNorm.*w\[0\] of weights 1 and 2 alone.*element is elementwise",
    ),
    "value read": (RuleReads(), r"RuleReads.*reads a value on the host"),
    "NumPy": (RuleOfNumPy(), r"RuleOfNumPy.*uses np\.sign"),
    "widens": (RuleWidens(), r"RuleWidens.*w is float64"),
    "in place": (RuleInPlace(), r"RuleInPlace.*changes an array that it may only read"),
    "random": (RuleDithered(), r"RuleDithered.*in a second call"),
    "moments": (LosesItsMoment(), r"LosesItsMoment.*element must give a tuple of w, moments\[0\], got 1"),
    "counts": (OneCount(), r"OneCount.*with a count for each weight"),
    "zero": (DividesByZero(), r"DividesByZero.*'large inputs'.*in a first step"),
    "aliased": (OldWeightsTooLate(), r"OldWeightsTooLate.*'exact'.*moments\[0\]\[0\] on fractions is"),
    "unfrozen": (RuleUnfrozen(), r"RuleUnfrozen.*cannot be compared or hashed"),
}

WRONG = {
    **{f"activation, {name}": (testing.check_activation, *each) for name, each in WRONG_ACTIVATIONS.items()},
    **{f"loss, {name}": (testing.check_loss, *each) for name, each in WRONG_LOSSES.items()},
    **{f"layer, {name}": (testing.check_layer, *each) for name, each in WRONG_LAYERS.items()},
    **{f"update, {name}": (testing.check_update, *each) for name, each in WRONG_UPDATES.items()},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_unit_is_caught_in_a_sentence_that_names_it(name):
    check, unit, why = WRONG[name]
    with pytest.raises(testing.CheckFailed, match=why) as failed:
        check(unit)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("check", "unit"),
    [
        (testing.check_activation, Cube()),
        (testing.check_loss, Quartic()),
        (testing.check_layer, Scale()),
        (testing.check_layer, Masked()),
        (testing.check_update, Descent()),
    ],
    ids=lambda each: type(each).__name__,
)
def test_the_units_that_wrong_ones_are_made_of_are_right(check, unit):
    report = check(unit)
    assert {"settings", "gradient" if check is not testing.check_update else "descent"} <= {
        each.name for each in report.checks if each.held
    }


@pytest.mark.parametrize(
    ("check", "given", "why"),
    [
        (testing.check_activation, bp.activations.ReLU, "got the class ReLU: write ReLU()"),
        (testing.check_activation, np.tanh, "an activation is called, and has a method delta"),
        (testing.check_loss, bp.relu, "a loss derives from bp.losses.Loss"),
        (testing.check_layer, bp.Dense, "got the class Dense: write Dense(units)"),
        (testing.check_update, 0.1, "a rule has moments, rate, scalars and element"),
    ],
)
def test_what_is_no_unit_is_refused(check, given, why):
    with pytest.raises(bp.BackpropError, match=re.escape(why)):
        check(given)


def test_a_kink_is_left_out_and_a_jump_in_the_derivative_beside_it_is_not():
    x = np.asarray([[-1.0, 2.0, 1e-4]])
    e = np.ones_like(x)
    found = testing.gradient.differences(lambda y: np.maximum(y, 0), x, e)
    assert found.smooth.tolist() == [[True, True, False]]
    assert testing.gradient.agree("delta", np.asarray([[0.0, 1.0, 7.0]]), found, "") == 2
    with pytest.raises(testing.CheckFailed, match=re.escape("delta[0, 0] is 1")):
        testing.gradient.agree("delta", np.asarray([[1.0, 1.0, 0.0]]), found, "")


def test_a_function_with_kinks_everywhere_is_not_called_right():
    x = np.zeros((1, 4)) + 1e-4
    found = testing.gradient.differences(np.abs, x, np.ones_like(x))
    with pytest.raises(testing.CheckFailed, match="4 of 4 entries lie at a kink"):
        testing.gradient.agree("delta", np.zeros_like(x), found, "")


def test_a_report_shows_what_was_checked_and_what_does_not_apply():
    report = str(testing.check_activation(bp.tanh))
    assert report.startswith("Tanh()\nsettings")
    assert re.search(r"gradient +held +delta at 20 points is the central difference of o", report)
    assert re.search(r"exact +not applicable +tanh of a fraction is not a fraction", report)


def test_a_library_that_is_not_installed_is_named_in_the_report(monkeypatch):
    missing = bp.errors.unavailable("JAX", "jax", "jax", ModuleNotFoundError("no jax", name="jax"))

    def get(name=None):
        if name in ("jax", "torch", "strict"):
            raise missing
        return backends.get(name)

    monkeypatch.setattr(testing.formula, "backends", SimpleNamespace(get=get))
    left = {check.name: check.note for check in testing.check_activation(bp.relu).checks if not check.held}
    assert left == dict.fromkeys(("standard", "jax", "torch"), "JAX is not installed")


def test_integers_are_read_as_an_input_that_has_no_derivative():
    table = testing.check_layer(Table(), inputs=(np.asarray([[0, 1], [2, 2], [1, 1], [0, 2]]),))
    (gradient,) = (check.note for check in table.checks if check.name == "gradient")
    assert gradient == "grad.w at 3 points"


@dataclass(frozen=True)
class Table(layers.Layer):
    """A number for each of three integers."""

    def params(self, *inputs):
        return {"w": Param((3,))}

    def forward(self, p, *x, ctx, xp):
        o = xp.reshape(xp.take(p.w, xp.reshape(x[0], (-1,)), axis=0), x[0].shape)
        return layers.Flow(o, o), ()

    def grad(self, p, flow, delta, *x, xp):
        k = xp.arange(3, dtype=x[0].dtype, device=getattr(x[0], "device", None))
        here = xp.astype(xp.expand_dims(x[0], axis=-1) == k, delta.dtype)
        return (xp.sum(here * xp.expand_dims(delta, axis=-1), axis=(0, 1)),)


def test_numbers_given_as_text_are_exact_on_fractions():
    assert testing.check_update(updates.Momentum("1/10")).held("exact")


@pytest.mark.parametrize("inputs", [5, (5,), {5}])
def test_inputs_that_are_no_shapes_are_refused(inputs):
    with pytest.raises(bp.BackpropError, match=r"as in inputs=\(\(5,\),\)"):
        testing.check_layer(bp.Dense(2), inputs)
