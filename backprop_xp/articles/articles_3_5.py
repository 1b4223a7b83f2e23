"""The articles "How a standard neural network learns" and "A Closer Look …", on nets of sigmoids.

Notation: the first writes u for our net, z and y for our o, delta for our delta. The second writes z
for our net and a for our o; its figures were images and are lost, so its numbers are ours.
"""

from typing import Any

from ..activations import sigmoid
from .nets import LOSSES, Arithmetic, Inputs, Model, Number, linear, model, transposed

BIASES = ("v1.b", "v3.b", "v5.b")


def slope(net: list[Number], o: list[Number], arithmetic: Arithmetic) -> list[Number]:
    """∂o/∂net of sigmoid units: their delta for the error 1."""
    net_, o_ = arithmetic.array(net), arithmetic.array(o)
    found: list[Number] = arithmetic.plain(
        sigmoid.delta(arithmetic.xp.ones_like(o_), net_, o_, xp=arithmetic.xp)
    )
    return found


def each_loss(name: str, o: list[Number], t: list[Any], arithmetic: Arithmetic) -> list[Number]:
    """The loss of each output by itself."""
    o_, t_ = (arithmetic.array([[value] for value in values]) for values in (o, t))
    found: list[Number] = arithmetic.plain(LOSSES[name].value(o_, t_, xp=arithmetic.xp))
    return found


# -------------------------------------------------------------- how a standard neural network learns
def step_of_article_3(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """One step of the 2-3-2 net, with every intermediate value."""
    layers = [
        linear(transposed(inputs["w_ij"])),
        {"kind": "sigmoid"},
        linear(transposed(inputs["w_jk"])),
        {"kind": inputs["output_activation"]},
    ]
    form = {"layers": layers, "loss": "squared_error_sum", "rate": inputs["rate"]}
    now, sample = model(form, arithmetic), (inputs["x_i"], inputs["expected_k"])
    later = now.step([sample])
    seen, new = now.sample(*sample), later.sample(*sample)
    return {
        "u_j": seen.o[1],
        "z_j": seen.o[2],
        "u_k": seen.o[3],
        "y_k": seen.o[4],
        "E_k": each_loss("squared_error_sum", seen.o[4], sample[1], arithmetic),
        "E": seen.loss,
        "delta_k": seen.delta[4],
        "dE_dw_jk": seen.grad["v3.w"],
        "dE_dz_j": seen.e[2],
        "dz_du_j": slope(seen.o[1], seen.o[2], arithmetic),
        "delta_j": seen.delta[2],
        "dE_dw_ij": seen.grad["v1.w"],
        "w_ij_after": later.weights["v1.w"],
        "w_jk_after": later.weights["v3.w"],
        "y_k_after": new.o[4],
        "E_after": new.loss,
    }


def losses(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """Every loss and its gradient on one vector of predictions."""
    o, t, xp = arithmetic.array([inputs["p"]]), arithmetic.array([inputs["t"]]), arithmetic.xp
    named = ("half_squared_error", "squared_error_sum", "mse", "mae")
    found = {}
    for name in (*named, "binary_cross_entropy", "categorical_cross_entropy"):
        value, error = LOSSES[name].value(o, t, xp=xp), LOSSES[name].error(o, t, xp=xp)
        found[name] = {"loss": arithmetic.plain(value)[0], "grad": arithmetic.plain(error)[0]}
    return found


def formula_4_4(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """The derivatives of sigmoid units: the learning flow (the backward pass) for the error 1."""
    form = {"layers": [linear(transposed(inputs["w_ij"])), {"kind": "sigmoid"}], "loss": "half_squared_error"}
    seen = model(form, arithmetic).flow(inputs["x_i"], ["1"] * len(inputs["w_ij"][0]))
    by_net, by_weight = seen.delta[2], seen.grad["v1.w"]
    holds = all(row == by_net for row in by_weight)
    return {"z_j": seen.o[2], "dz_du": by_net, "dz_dw_ij": by_weight, "printed_formula_holds": holds}


def formula_4_10(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """The gradient of a weight into a hidden unit, beside the plain sum of the next layer's deltas."""
    rows = [_hidden_unit(row, arithmetic) for row in inputs["rows"]]
    a, b = rows
    same = a["dE_dw_ij"] * b["sum_delta"] == b["dE_dw_ij"] * a["sum_delta"]
    return {"rows": rows, "proportional_to_plain_sum": same}


def _hidden_unit(row: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    def one_layer(weights: list[Any]) -> Model:
        return model({"layers": [linear(weights)], "loss": "half_squared_error"}, arithmetic)

    e = one_layer([[w] for w in row["w_jk"]]).flow([row["z_j"]], row["delta_k"]).e[0]
    z = arithmetic.array([row["z_j"]])
    delta = arithmetic.plain(sigmoid.delta(arithmetic.array(e), z, z, xp=arithmetic.xp))
    grad = one_layer([["1"]]).flow([row["x_i"]], delta).grad["v1.w"]
    total = sum(arithmetic.numbers(row["delta_k"]))
    return {"sum_delta": total, "dE_dz": e[0], "delta_j": delta[0], "dE_dw_ij": grad[0][0]}


# -------------------------------------------------------------- a closer look
def step_of_article_5(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """One step of the 2-2-2-1 net, node by node.

    w1 … w10 are the weights in out × in order, layer after layer. The article updates only the
    weights; the result with updated biases is given too.
    """
    w, b = inputs["w"], inputs["b"]
    second = linear([w[4:6], w[6:8]], b[2:4])
    layers = [linear([w[0:2], w[2:4]], b[0:2]), second, linear([w[8:10]], b[4:5])]
    whole = [each for layer in layers for each in (layer, {"kind": "sigmoid"})]
    form = {"loss": "half_squared_error", "rate": inputs["alpha"]}
    now, sample = model({**form, "layers": whole}, arithmetic), (inputs["x"], [inputs["target"]])
    seen, weights_only, both = now.sample(*sample), now.step([sample], BIASES), now.step([sample])
    new_weights, new_both = weights_only.sample(*sample), both.sample(*sample)
    found = {
        "forward": {**_nodes(seen.o), "loss": seen.loss},
        "dL_da3": seen.e[6][0],
        "da3_dz3": slope(seen.o[5], seen.o[6], arithmetic)[0],
        "delta_out": seen.delta[6][0],
        "gradients": _numbered(seen.grad),
        "bias_gradients": _biases(seen.grad),
        "w_after": _numbered(weights_only.weights),
        "b_after_if_updated": _biases(both.weights),
        "output_after_weights_only": new_weights.o[6][0],
        "loss_after_weights_only": new_weights.loss,
        "output_after_weights_and_biases": new_both.o[6][0],
        "loss_after_weights_and_biases": new_both.loss,
    }
    alone = model({**form, "layers": [second]}, arithmetic)
    for k, h in enumerate(("h1", "h2")):
        found |= {f"delta_2_{h}": seen.delta[4][k], f"delta_1_{h}": seen.delta[2][k]}
        through = [delta if j == k else 0 for j, delta in enumerate(seen.delta[4])]
        for e, source in zip(alone.flow(seen.o[2], through).e[0], ("h1", "h2"), strict=True):
            found[f"dL_da1_{source}_via_2_{h}"] = e
    return found


def _nodes(o: list[list[Number]]) -> dict[str, Number]:
    named: dict[str, Number] = {}
    for layer in (1, 2):
        for k, h in enumerate(("h1", "h2")):
            named |= {f"z{layer}_{h}": o[2 * layer - 1][k], f"a{layer}_{h}": o[2 * layer][k]}
    return {**named, "z3_out": o[5][0], "a3_out": o[6][0]}


def _numbered(blocks: dict[str, Any]) -> dict[str, Number]:
    each = [value for v in ("v1.w", "v3.w", "v5.w") for row in transposed(blocks[v]) for value in row]
    return {f"w{k}": value for k, value in enumerate(each, 1)}


def _biases(blocks: dict[str, Any]) -> list[Number]:
    return [value for b in BIASES for value in blocks[b]]
