"""The ONNX project's node tests, for every activation, loss, product and optimizer that our units cover.

A node test is one operator with inputs and the outputs wanted. Each case of the operators below is run, or
stands in LEFT_OUT with the reason. Rows of more than two axes are made rows of units: spatial positions of a
loss are samples.
"""

import warnings
from fnmatch import fnmatch
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import activations, layers, losses, updates
from backprop_xp.updates import RuleState

pytest.importorskip("onnx", reason="onnx is not installed")

ELEMENTWISE = {  # operator: the name of our unit, and what its settings are called there
    "Identity": ("identity", {}),
    "Relu": ("relu", {}),
    "LeakyRelu": ("leaky_relu", {"alpha": "slope"}),
    "ThresholdedRelu": ("thresholded_relu", {"alpha": "theta"}),
    "Sigmoid": ("sigmoid", {}),
    "Tanh": ("tanh", {}),
    "Softplus": ("softplus", {}),
    "Softsign": ("softsign", {}),
    "Elu": ("elu", {"alpha": "alpha"}),
    "Selu": ("selu", {}),
    "Celu": ("celu", {"alpha": "alpha"}),
    "Gelu": ("gelu", {}),
    "Swish": ("silu", {}),
    "Mish": ("mish", {}),
    "HardSigmoid": ("hard_sigmoid", {}),
    "HardSwish": ("hard_swish", {}),
}
OF_ROWS = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}
OF_CLASSES = {
    "SoftmaxCrossEntropyLoss": "softmax_cross_entropy",
    "NegativeLogLikelihoodLoss": "negative_log_likelihood",
}
OTHERS = ("PRelu", "Gemm", "Adagrad", "Adam", "Momentum")
MODULES = {
    "SoftmaxCrossEntropyLoss": "softmax_cross_entropy_loss",
    "NegativeLogLikelihoodLoss": "negativeloglikelihoodloss",
}
LEFT_OUT = {
    "*_expanded*": "inputs and outputs of the case without this suffix; the operator is written in others",
    "*bfloat16": "numbers of 16 bits, which are not trained with here",
    "test_identity_sequence": "a sequence of tensors, no activation",
    "test_identity_opt": "a sequence of tensors, no activation",
    "test_hardsigmoid*": "slopes 0.5 and 0.2 with offsets 0.6 and 0.5; ours is PyTorch's, net / 6 + 1/2",
    "test_selu": "λ = 3 and α = 2, which are not the constants of self-normalising nets",
    "test_selu_example": "λ = 3 and α = 2, which are not the constants of self-normalising nets",
    "test_prelu_example": "a slope for each element of the batch, which is no parameter of a layer",
    "test_gemm_default_matrix_bias": "a bias for each row of the batch, which is no parameter of a layer",
}


def cases() -> dict[str, tuple[str, Any]]:
    """The cases of all operators here, by name: the operator and the case."""
    found: dict[str, tuple[str, Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own making
        from onnx.backend.test.case import node

        for operator in (*ELEMENTWISE, *OF_ROWS, *OF_CLASSES, *OTHERS):
            before = len(node._NodeTestCases)
            import_module(f"{node.__name__}.{MODULES.get(operator, operator.lower())}")
            for case in node._NodeTestCases[before:]:
                found[case.name] = operator, case
    return found


CASES = cases()
RUN = [name for name in CASES if not any(fnmatch(name, pattern) for pattern in LEFT_OUT)]


# ---------------------------------------------------------------- operators in our words
def unit_of(table: dict[str, Any], name: str, room: str) -> Any:
    if name not in table:
        pytest.skip(f"{room} has no {name}")
    return table[name]


def elementwise(operator: str, settings: dict[str, Any], x: Any) -> list[Any]:
    name, known = ELEMENTWISE[operator]
    if settings.pop("approximate", b"none") == b"tanh":
        name = "gelu_tanh"
    if operator == "Swish":
        assert settings.pop("alpha", 1.0) == 1.0, "σ(α net) with another α"
    f = unit_of(activations.ALL, name, "activations.ALL")
    f = type(f)(**{known[key]: value for key, value in settings.items()}) if settings else f
    rows = x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)
    return [f(rows, xp=np).reshape(x.shape)]


def of_rows(operator: str, settings: dict[str, Any], x: Any) -> list[Any]:
    f = unit_of(activations.ALL, OF_ROWS[operator], "activations.ALL")
    x = np.moveaxis(x, settings.get("axis", -1), -1)
    o = f(x.reshape(-1, x.shape[-1]), xp=np).reshape(x.shape)
    return [np.moveaxis(o, -1, settings.get("axis", -1))]


def of_classes(
    operator: str, settings: dict[str, Any], o: Any, labels: Any, weights: Any = None
) -> list[Any]:
    unit = unit_of(losses.ALL, OF_CLASSES[operator], "losses.ALL")
    own = {"class_weights": None if weights is None else tuple(map(float, weights))}
    own["ignored"] = settings.get("ignore_index")
    own = {key: value for key, value in own.items() if value is not None}
    try:
        loss = type(unit)(**own)
    except TypeError:
        pytest.skip(f"{type(unit).__name__} has no {', '.join(own)}")
    moved = np.moveaxis(o, 1, -1)
    rows = moved.reshape(-1, o.shape[1])
    t = loss.encode(labels.reshape(-1), rows, xp=np)
    values = loss.value(rows, t, xp=np)
    reduced = {
        b"none": lambda: values.reshape(labels.shape),
        b"sum": values.sum,
        b"mean": lambda: values.sum() / t.sum(),  # the weights of labels, as means of evaluations divide
    }[settings.get("reduction", b"mean")]()
    if "log_softmax" not in activations.ALL:
        return [reduced]
    logs = activations.ALL["log_softmax"](rows, xp=np).reshape(moved.shape)
    return [reduced, np.moveaxis(logs, -1, 1)]


def prelu(operator: str, settings: dict[str, Any], x: Any, slope: Any) -> list[Any]:
    layer = unit_of(layers.ALL, "prelu", "layers.ALL")()
    rows = x.reshape(-1, x.shape[-1])
    (name,) = layer.params(rows.shape[1:])
    flow, _ = layer.forward(type("P", (), {name: slope}), rows, ctx=None, xp=np)
    return [flow.o.reshape(x.shape)]


def gemm(operator: str, settings: dict[str, Any], a: Any, b: Any, c: Any = None) -> list[Any]:
    """Y = α A B + β C: a Dense layer whose weights are α B and whose biases are β C."""
    x = a.T if settings.get("transA") else a
    w = (b.T if settings.get("transB") else b) * np.float32(settings.get("alpha", 1.0))
    layer = bp.Dense(w.shape[1], bias=c is not None)
    bias = (
        None
        if c is None
        else np.broadcast_to(c.reshape(-1), w.shape[1:]) * np.float32(settings.get("beta", 1))
    )
    flow, _ = layer.forward(type("P", (), {"w": w, "b": bias}), x, ctx=None, xp=np)
    return [flow.o]


def optimizer(operator: str, settings: dict[str, Any], r: Any, t: Any, *arrays: Any) -> list[Any]:
    """Arrays are all X, then all G, then the moments of each kind; outputs without the G."""
    rate = float(r)
    if operator == "Adagrad":
        decayed = rate / (1 + int(t) * settings.get("decay_factor", 0.0))
        rule = unit_of(updates.ALL, "adagrad", "updates.ALL")(decayed, epsilon=settings["epsilon"])
    elif operator == "Momentum":
        assert t == 0, "later than the first step the gradient would be multiplied by β"
        rule = updates.Momentum(rate, settings["alpha"], nesterov=settings["mode"] == b"nesterov")
    else:
        rule = bp.Adam(rate, settings["alpha"], settings["beta"], settings["epsilon"])
    n, found = len(arrays) // (2 + rule.moments), []
    for x, g, *moments in (arrays[k::n] for k in range(n)):
        whole = g + updates.L2(settings.get("norm_coefficient", 0.0)).gradient(x, xp=np)
        scalars = rule.scalars(RuleState(np.asarray(t), (), tuple(moments)), dtype=x.dtype, xp=np)
        if operator == "Adam":  # at t = 0 it corrects nothing, and ε is added to √v as it is
            scalars = rate, settings["epsilon"]
        found.append(rule.element(whole, x.copy(), *(m.copy() for m in moments), *scalars, xp=np))
    return [a for kind in zip(*found, strict=True) for a in kind]


OURS = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(OF_ROWS, of_rows),
    **dict.fromkeys(OF_CLASSES, of_classes),
    **dict.fromkeys(("Adagrad", "Adam", "Momentum"), optimizer),
    "PRelu": prelu,
    "Gemm": gemm,
}


# ---------------------------------------------------------------- the cases
@pytest.mark.parametrize("name", RUN)
def test_units_give_what_the_node_test_wants(name):
    from onnx.helper import get_attribute_value

    operator, case = CASES[name]
    (node,) = case.model.graph.node
    settings = {each.name: get_attribute_value(each) for each in node.attribute}
    ((inputs, wanted),) = case.data_sets
    found = OURS[operator](operator, settings, *inputs)
    for one, other in zip(found, wanted, strict=False):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)  # float32, and sums of 60 rows


def test_every_case_is_run_or_left_out_for_a_reason():
    assert {CASES[name][0] for name in RUN} >= set(OURS) - {"HardSigmoid"}
    for pattern in LEFT_OUT:
        assert any(fnmatch(name, pattern) for name in CASES), f"no case is called {pattern}"
    by_operator = {op: sum(CASES[name][0] == op for name in RUN) for op in OURS}
    print(f"{len(RUN)} of {len(CASES)} node tests are run: {by_operator}")
    assert len(RUN) >= 100
    assert by_operator["SoftmaxCrossEntropyLoss"] >= 30
