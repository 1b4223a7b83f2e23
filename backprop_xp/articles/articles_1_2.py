"""The articles "Weights' Balancing" and "The Gradient Descent Algorithm", a series on one neuron.

The model is Loss ∘ L3 ∘ L2 ∘ L1: L1 passes the inputs on, L2 has the weights w2, L3 is a ReLU, the
loss is ½ (o3 − y)². Notation: o_k is the output of L_k; delta_k is the derivative of the loss with respect
to the input of layer k, which is our e of layer k − 1; "delta w" is our grad.
"""

from fractions import Fraction
from functools import reduce
from operator import add
from typing import Any

from . import general
from .nets import Arithmetic, Inputs, Model, Number, SampleValues, linear, model, rectifier

LAYERS = {2: "L3", 1: "L2 weights", 0: "L1"}


def one_neuron(inputs: Inputs, arithmetic: Arithmetic, bias: Any = None) -> Model:
    """The model of the series, with weights w2, rate alpha and, for a leaky L3, its slope."""
    layers = [linear([inputs["w2"]], bias), rectifier(inputs.get("slope", "0"))]
    form = {"layers": layers, "loss": "half_squared_error", "rate": inputs.get("alpha", "1")}
    return model(form, arithmetic)


def in_notation(seen: SampleValues) -> dict[str, Any]:
    """The numbers of one sample, under the names of the series."""
    return {
        "o1": seen.o[0],
        "o2": seen.o[1][0],
        "o3": seen.o[2][0],
        "loss": seen.loss,
        "delta4": seen.e[2][0],
        "delta3": seen.e[1][0],
        "delta2": seen.e[0],
        "dw2": [row[0] for row in seen.grad["v1.w"]],
        "delta1": seen.delta[0],
    }


def w2(now: Model) -> list[Number]:
    """The weights of L2."""
    return [row[0] for row in now.weights["v1.w"]]


def decision(value: Number, inputs: Inputs, arithmetic: Arithmetic) -> Number:
    """1 where the value reaches the threshold, else 0."""
    return arithmetic.number(value >= arithmetic.number(inputs["threshold"]))


def sign(value: Number) -> str:
    """The sign of a number, as the articles name it."""
    return "zero" if value == 0 else "negative" if value < 0 else "positive"


def result(delta: Number) -> str:
    """The output compared with the target, from the error o − y."""
    names = {"zero": "as expected", "negative": "lower than expected", "positive": "higher than expected"}
    return names[sign(delta)]


def move(before: Number, later: Number) -> str:
    """The direction in which an update moved a number."""
    return {"zero": "keep", "negative": "decrease", "positive": "increase"}[sign(later - before)]


# -------------------------------------------------------------- the gradient descent algorithm
def step(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """One training step on one sample."""
    now = one_neuron(inputs, arithmetic)
    sample = (inputs["x"], [inputs["y"]])
    return {**in_notation(now.sample(*sample)), "w2_after": w2(now.step([sample]))}


def epoch(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """A training step on each sample in turn, then the table of all samples."""
    now, steps = one_neuron(inputs, arithmetic), []
    for x, y in zip(inputs["x"], inputs["y"], strict=True):
        found = in_notation(now.sample(x, [y]))
        now = now.step([(x, [y])])
        steps.append({**found, "w2_after": w2(now)})
    return {"steps": steps, "after": _table(now, inputs)}


def table(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """Outputs, losses and decisions of all samples, without an update."""
    return _table(one_neuron(inputs, arithmetic), inputs)


def _table(now: Model, inputs: Inputs) -> dict[str, Any]:
    rows, samples = [], [(x, [y]) for x, y in zip(inputs["x"], inputs["y"], strict=True)]
    for x, y in samples:
        found = in_notation(now.sample(x, y))
        row = {name: found[name] for name in ("o1", "o2", "o3", "loss")}
        decided = decision(row["o3"], inputs, now.arithmetic)
        rows.append({**row, "result": decided, "correct": decided == now.arithmetic.number(y[0])})
    whole = general.after(now, samples)
    return {"rows": rows, "loss_sum": whole["loss_sum"], "loss_mean": whole["loss_mean"]}


def threshold(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """The decision for each value."""
    values = arithmetic.numbers(inputs["values"])
    return {"results": [decision(value, inputs, arithmetic) for value in values]}


def float_trap(inputs: Inputs, _: Arithmetic) -> dict[str, Any]:
    """o2 exactly, and as float64 and float32 round it, in both orders of summation.

    The result does not depend on the arithmetic asked for: it compares fractions, float64 and float32.
    """
    exact, rows = Arithmetic("exact"), []
    for x in inputs["x"]:
        row: dict[str, Any] = {"exact_weights": _o2(x, inputs["w2"])}
        for name, dtype in (("binary64", "float64"), ("binary32", "float32")):
            rounded = Arithmetic("numpy", dtype)
            w = rounded.array(inputs["w2"])
            products = rounded.array(x) * w
            sums = {
                "weights_exact_sum": _o2(x, exact.numbers(rounded.plain(w))),
                "left_to_right": Fraction(float(reduce(add, products))),
                "right_to_left": Fraction(float(reduce(add, products[::-1]))),
            }
            for how, value in sums.items():
                row |= {f"{name}_{how}": value, f"{name}_{how}_sign": sign(value)}
        rows.append(row)
    return {"rows": rows}


def _o2(x: list[Any], w: list[Any]) -> Number:
    return one_neuron({"w2": w}, Arithmetic("exact")).sample(x, ["0"]).o[1][0]


# -------------------------------------------------------------- weights' balancing
def sign_flow(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """The sign of every delta for each o2 and y.

    With input 0 and bias o2, L2 has the given output o2.
    """
    rows = []
    for row in inputs["rows"]:
        now = one_neuron(inputs, arithmetic, bias=[row["o2"]])
        found = in_notation(now.sample(["0"] * len(inputs["w2"]), [row["y"]]))
        flow = {name: found[name] for name in ("delta4", "delta3", "delta2", "delta1")}
        signs = {
            f"sign_{name}": [sign(v) for v in value] if isinstance(value, list) else sign(value)
            for name, value in flow.items()
        }
        blocked = flow["delta4"] != 0 and flow["delta3"] == 0
        head = {"o3": found["o3"], "model_result": result(flow["delta4"])}
        rows.append({**head, **flow, **signs, "blocked": blocked})
    return {"rows": rows}


def balance(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """How delta3 and the input o1 change a weight."""
    form = {"layers": [linear([[inputs["w"]]])], "loss": "half_squared_error", "rate": inputs["alpha"]}
    now, rows = model(form, arithmetic), []
    for row in inputs["rows"]:
        seen = now.flow([row["o1"]], [row["delta3"]])
        before, later = (each.weights["v1.w"][0][0] for each in (now, now.descend(seen.grad)))
        rows.append(
            {
                "dw": seen.grad["v1.w"][0][0],
                "w_after": later,
                "move": move(before, later),
                "model_result": result(seen.e[1][0]),
            }
        )
    return {"rows": rows}


def update_direction(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """The direction in which one update moves each weight and the output."""
    now, sample = one_neuron(inputs, arithmetic), (inputs["o1"], [inputs["y"]])
    later = now.step([sample])
    old, new = in_notation(now.sample(*sample)), in_notation(later.sample(*sample))
    return {
        **{name: old[name] for name in ("o2", "o3", "delta4", "delta3", "dw2")},
        "w2_after": w2(later),
        "moves": [move(a, b) for a, b in zip(w2(now), w2(later), strict=True)],
        "o2_after": new["o2"],
        "o2_move": move(old["o2"], new["o2"]),
        "loss_before": old["loss"],
        "loss_after": new["loss"],
    }


def flow_skip(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """One step whose learning flow (backward pass) stops at the earliest layer that learns."""
    now, sample = one_neuron(inputs, arithmetic), (inputs["x"], [inputs["y"]])
    visited = now.sample(*sample, to_input=False).e
    return {"w2_after": w2(now.step([sample])), "layers_visited": ["Loss", *(LAYERS[k] for k in visited)]}


def convexity(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """The loss of a one-weight model at both ends of a segment of weights and in its middle."""
    a, b = (arithmetic.number(inputs[end]) for end in ("a", "b"))

    def at(w: Number) -> SampleValues:
        return one_neuron({"w2": [w]}, arithmetic).sample([inputs["x"]], [inputs["y"]])

    start, end, middle = at(a), at(b), at((a + b) / 2)
    mean = (start.loss + end.loss) / 2
    return {
        "loss_a": start.loss,
        "loss_b": end.loss,
        "loss_mid": middle.loss,
        "mean_of_ends": mean,
        "convex_on_this_segment": middle.loss <= mean,
        "gradient_at_a": start.grad["v1.w"][0][0],
        "a_is_global_minimum": start.loss <= end.loss,
    }
