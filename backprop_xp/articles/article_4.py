"""The article "optimization 5 - backpropagation further backwards".

The net it draws: a neuron with inputs u and weights y has the output v[1]; the last layer has inputs v
and weights x. The loss f is the plain sum of squares. `df_d…` is our e where the derivative is with
respect to a value, our grad where it is with respect to a weight.
"""

from dataclasses import replace
from typing import Any

from .. import updates
from ..layers import Activate, Concat, Input, Layer, Linear
from ..learner import Learner
from ..losses import squared_error
from ..net import Net, Node, chain, named
from ..updates import GradientDescent
from .articles_3_5 import each_loss
from .nets import Arithmetic, Inputs, Model, Number, SampleValues, linear, make, model, rectifier, transposed

OTHERS = "others"  # the neurons that are not drawn: their outputs v[2], v[3], … are constant


def drawn_net(inputs: Inputs, arithmetic: Arithmetic) -> Model:
    """The net the article draws: [u → y → v1, outputs of other neurons] → x → outputs."""
    others = inputs["other_v"]
    activation = make(rectifier(inputs["slope"]), arithmetic)
    assert isinstance(activation, Activate)
    nodes: tuple[Layer | Node, ...] = (
        named("y", Linear(1, bias=False)),
        named("v1", activation),
        Node(Linear(len(others)), OTHERS, ("u",)),
        Node(Concat(), "v", ("v1", OTHERS)),
        named("x", Linear(len(inputs["x"]), bias=False)),
    )
    net: Net = chain(named("u", Input(len(inputs["u"]))), *nodes)
    update = GradientDescent(arithmetic.number(inputs["rate"]), limit=arithmetic.number(inputs["saturation"]))
    weights = {
        "y.w": [[y] for y in inputs["y"]],
        f"{OTHERS}.w": [["0"] * len(others) for _ in inputs["u"]],
        f"{OTHERS}.b": others,
        "x.w": transposed(inputs["x"]),
    }
    return Model.of(Learner(net, squared_error, update), weights, arithmetic)


def ascii_net(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """One step of the drawn net: with all gradients from the old weights, then layer by layer."""
    now, sample = drawn_net(inputs, arithmetic), (inputs["u"], inputs["b"])
    seen, later = now.sample(*sample), now.step([sample], [OTHERS])
    neuron = {"layers": [linear([inputs["y"]]), rectifier(inputs["slope"])], "loss": "squared_error_sum"}
    alone = model(neuron, arithmetic).flow(inputs["u"], ["1"])
    return {
        "s": seen.o[1][0],
        "v1": seen.o[2][0],
        "dv1_ds": alone.delta[2][0],
        "outputs": seen.o[5],
        "f_per_output": each_loss("squared_error_sum", seen.o[5], inputs["b"], arithmetic),
        "f": seen.loss,
        "df_doutput": seen.e[5],
        "df_dx": transposed(seen.grad["x.w"]),
        "df_dv": seen.e[4],
        "df_dv1": seen.e[2][0],
        "dv1_dy": _column(alone.grad["v1.w"]),
        "df_dy": _column(seen.grad["y.w"]),
        "x_after": transposed(later.weights["x.w"]),
        "y_after": _column(later.weights["y.w"]),
        **_after_step(later.sample(*sample)),
        "gauss_seidel": _layer_by_layer(now, sample),
    }


def _layer_by_layer(now: Model, sample: tuple[Any, Any]) -> dict[str, Any]:
    """The last layer is updated first; the neuron before it learns from the recomputed outputs."""
    between = now.step([sample], [OTHERS, "y"]).sample(*sample)
    ordered = replace(now, learner=replace(now.learner, order="layer by layer"))
    later = ordered.step([sample], [OTHERS])
    return {
        "outputs_recomputed": between.o[5],
        "df_dv1": between.e[2][0],
        "df_dy": _column(between.grad["y.w"]),
        "y_after": _column(later.weights["y.w"]),
        **_after_step(later.sample(*sample)),
    }


def _after_step(seen: SampleValues) -> dict[str, Any]:
    return {"outputs_after": seen.o[5], "f_after": seen.loss}


def _column(matrix: list[list[Number]]) -> list[Number]:
    return [row[0] for row in matrix]


# -------------------------------------------------------------- bounds of weights
def saturate(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """Single weights after one update, with and without the limit."""
    rate, limit = arithmetic.number(inputs["rate"]), arithmetic.number(inputs["limit"])

    def updated(row: Inputs, update: GradientDescent) -> Number:
        g, w = arithmetic.array([row["gradient"]]), arithmetic.array([row["w"]])
        return arithmetic.plain(update.element(g, w, rate, xp=arithmetic.xp)[0])[0]

    rows = []
    for row in inputs["rows"]:
        raw = updated(row, GradientDescent(rate))
        clipped = updated(row, GradientDescent(rate, limit=limit))
        rows.append({"raw": raw, "after": clipped, "saturated": clipped != raw})
    return {"rows": rows}


def weight_floor(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """Single weights kept between the floor and the limit."""
    limit, floor = arithmetic.number(inputs["limit"]), arithmetic.number(inputs["floor"])
    old, new = (arithmetic.array([row[key] for row in inputs["rows"]]) for key in ("old", "proposed"))
    after = arithmetic.plain(updates.bounded(old, new, limit, floor, xp=arithmetic.xp))
    return {"rows": [{"after": value} for value in after]}


# -------------------------------------------------------------- the effective rate of a deep chain
def _chain(weights: list[Any], rate: Number, arithmetic: Arithmetic) -> Model:
    form = {"layers": [linear([[w]]) for w in weights], "loss": "squared_error_sum", "rate": rate}
    return model(form, arithmetic)


def _stepped(now: Model, *, last_only: bool) -> Model:
    names = [node.name for node in now.learner.net.nodes[1:]]
    return now.step([(["1"], ["0"])], names[:-1] if last_only else ())


def _output(now: Model) -> Number:
    return now.sample(["1"], ["0"]).o[-1][0]


def _gradients(now: Model) -> list[Number]:
    grad = now.sample(["1"], ["0"]).grad
    return [grad[block][0][0] for block in now.weights]


def effective_rate(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """A chain of n weights 1: the change of the output if all layers learn, and if only one does."""
    rows = []
    for row in inputs["rows"]:
        n, rate = int(row["n_layers"]), arithmetic.number(row["rate"])
        now, faster = (_chain(["1"] * n, r, arithmetic) for r in (rate, rate * n))
        every, one = _output(_stepped(now, last_only=False)), _output(_stepped(now, last_only=True))
        before = _output(now)
        rows.append(
            {
                "gradient_each_layer": _gradients(now),
                "output_all_layers": every,
                "output_one_layer": one,
                "change_all_layers": every - before,
                "change_one_layer": one - before,
                "effective_multiplier": (every - before) / (one - before),
                "output_one_layer_with_rate_times_n": _output(_stepped(faster, last_only=True)),
            }
        )
    return {"rows": rows}


def effective_rate_general(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """The same for unequal weights, beside the first-order prediction from the gradients."""
    rows = []
    for row in inputs["rows"]:
        now = _chain(row["weights"], arithmetic.number(row["rate"]), arithmetic)
        later, last = _stepped(now, last_only=False), _stepped(now, last_only=True)
        before, every, one, grad = _output(now), _output(later), _output(last), _gradients(now)
        rows.append(
            {
                "output": before,
                "gradients": grad,
                "weights_after": [value[0][0] for value in later.weights.values()],
                "output_all_layers": every,
                "output_last_layer_only": one,
                "effective_multiplier": (every - before) / (one - before),
                "first_order_multiplier": sum(g * g for g in grad) / grad[-1] ** 2,
            }
        )
    return {"rows": rows}
