"""ONNX export: onnxruntime gives what `predict` gives, and so does the graph that ndonnx traces."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import activations, layers, losses
from backprop_xp.cli import main
from backprop_xp.net import Node
from backprop_xp.onnx import export

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

# Rounding: onnxruntime's e^x, tanh and σ are off by a few units of the largest number on the way, at most 12
# here, and 4 layers carry that on.
UNITS = 64

NETS = {
    "skips": lambda: bp.chain(
        4, bp.named("a", bp.Dense(4, bp.relu)), bp.Dense(4, bp.tanh, bias=False), bp.concat("a"),
        bp.Dense(4), bp.add("a"), bp.residual(bp.Dense(6, bp.sigmoid), layers.Dropout(0.5), skip=bp.Dense(6)),
        bp.named("gate", bp.Dense(6, activations.hard_sigmoid)), bp.multiply("add2"), bp.Dense(3),
    ),
    "norms": lambda: bp.chain(
        4, bp.Dense(6), layers.BatchNorm(1e-4, 0.2), layers.Activate(bp.relu), bp.Dense(5),
        layers.LayerNorm(), layers.PReLU(), bp.Dense(3), layers.PReLU(shared=True),
    ),
    "categories": lambda: bp.chain(
        bp.named("numbers", layers.Input(4)), bp.Dense(4, bp.relu), bp.named("city", layers.Integers(2)),
        layers.Embedding(5, 3), bp.concat("dense1"), bp.Dense(3),
    ),
}  # fmt: skip


def of_rows(net: Any, n: int, dtype: str) -> Any:
    rng = np.random.default_rng(n)
    x = {
        name: rng.integers(0, 5, (n, layer.units))
        if layer.integers
        else 3 * rng.normal(size=(n, layer.units))
        for name, layer in net.inputs.items()
    }
    x = {name: a if a.dtype.kind == "i" else a.astype(dtype) for name, a in x.items()}
    return x if len(x) > 1 else x.popitem()[1]


def run(model: Any, x: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["prediction"], x if isinstance(x, dict) else {session.get_inputs()[0].name: x})[0]


def assert_alike(found: Any, wanted: Any) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    eps = np.finfo(wanted.dtype).eps
    np.testing.assert_allclose(found, wanted, rtol=UNITS * eps, atol=UNITS * eps)


def trained(net: Any, dtype: str, loss: Any = bp.half_squared_error) -> Any:
    """A learner whose running statistics are no longer the first ones."""
    learner = bp.Learner(net, loss, bp.GradientDescent(0.01))
    w, s = learner.init(1, dtype=dtype)
    t = np.full((20, learner.net.outputs[-1][0]), 1 / 3, dtype)
    for _ in range(3):
        w, s, _ = learner.step(w, s, of_rows(net, 20, dtype), t)
    return learner, w, s


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
def test_a_net_predicts_the_same_in_onnxruntime_for_any_number_of_rows(name, dtype, opset):
    learner, w, s = trained(NETS[name](), dtype, bp.softmax_cross_entropy)
    model = bp.to_onnx(learner, w, s, opset=opset)
    assert model.opset_import[0].version == opset
    for n in (1, 20):
        x = of_rows(learner.net, n, dtype)
        assert_alike(run(model, x), learner.predict(w, s, x))


def test_every_layer_is_in_one_of_the_nets():
    there = {type(node.layer) for make in NETS.values() for node in make().nodes}
    assert there == set(layers.ALL.values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("f", activations.ALL.values(), ids=activations.ALL)
def test_every_activation_is_exported(f, dtype):
    learner = bp.Learner(bp.chain(4, bp.Dense(5, f), layers.Activate(f), bp.Dense(3)))
    w, s = learner.init(1, dtype=dtype)
    x = of_rows(learner.net, 30, dtype)
    x[:3] *= [[0], [10], [30]]
    for opset in (17, 21):
        assert_alike(run(bp.to_onnx(learner, w, s, opset=opset), x), learner.predict(w, s, x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", losses.ALL.values(), ids=losses.ALL)
def test_every_link_is_exported(loss, dtype):
    learner = bp.Learner(bp.chain(4, bp.Dense(3)), loss)
    w, s = learner.init(1, dtype=dtype)
    x = of_rows(learner.net, 30, dtype)
    for opset in (17, 21):
        assert_alike(run(bp.to_onnx(learner, w, s, opset=opset), x), learner.predict(w, s, x))


def all_activations() -> Any:
    """A net of a layer for each activation, side by side."""
    each = [Node(bp.Dense(3, f), name, ("input",)) for name, f in activations.ALL.items()]
    return bp.chain(4, *each, bp.concat(*list(activations.ALL)[:-1]), bp.Dense(3))


@pytest.mark.parametrize("make", [*NETS.values(), all_activations], ids=[*NETS, "activations"])
def test_the_graph_of_ndonnx_gives_the_same(make):
    pytest.importorskip("ndonnx", reason="ndonnx is not installed")
    learner, w, s = trained(make(), "float64", bp.losses.sigmoid_cross_entropy)
    x = of_rows(learner.net, 20, "float64")
    direct, other = bp.to_onnx(learner, w, s, opset=21), export._by_ndonnx(learner, w, s, 21, {}, None)
    assert_alike(run(direct, x), run(other, x))
    assert direct.ByteSize() < other.ByteSize()


def test_blocks_keep_their_names_and_common_layers_are_one_operator_each():
    learner = bp.Learner(bp.chain(4, bp.Dense(8, bp.relu), bp.Dense(3)), bp.softmax_cross_entropy)
    w, s = learner.init(0)
    model = bp.to_onnx(learner, w, s, metadata={"about": "flowers"})
    found = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    assert {name: a.tolist() for name, a in found.items()} == {
        name: a.tolist() for name, a in learner.weights(w).items()
    }
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Relu", "Gemm", "Softmax"]
    assert model.metadata_props[0].value == "flowers"


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_weights_of_any_library_are_exported(name):
    pytest.importorskip(name, reason=f"{name} is not installed")
    learner = bp.Learner(NETS["norms"]())
    w, s = learner.init(1, backend=name)
    w2, s2 = learner.init(1)
    assert bp.to_onnx(learner, w, s) == bp.to_onnx(learner, w2, s2)


# ---------------------------------------------------------------- layers of one's own
@dataclass(frozen=True)
class Sine:
    """o = sin(net)."""

    def __call__(self, net, *, xp):
        return xp.sin(net)

    def delta(self, e, net, o, *, xp):
        return e * xp.cos(net)


@dataclass(frozen=True)
class Own(layers.Layer):
    """o of a function; only its forward is looked at here."""

    function: Any

    def forward(self, p, *x, ctx, xp):
        o = self.function(x[0], xp)
        return layers.Flow(o, o), ()


def of_own(function: Any) -> Any:
    net = bp.chain(4, bp.Dense(3), bp.named("own", Own(function)), bp.Dense(2))
    learner = bp.Learner(net)
    return learner, *learner.init(0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_activation_of_ones_own_is_exported_by_its_formula(dtype):
    learner, w, s = trained(bp.chain(4, bp.Dense(5, Sine()), bp.Dense(2)), dtype)
    x = of_rows(learner.net, 9, dtype)
    assert_alike(run(bp.to_onnx(learner, w, s), x), learner.predict(w, s, x))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, xp: x / xp.sqrt(xp.sum(xp.square(x), axis=-1, keepdims=True) + 1e-6),
        lambda x, xp: x * xp.astype(x == xp.max(x, axis=1, keepdims=True), x.dtype),
        lambda x, xp: (
            xp.reshape(xp.expand_dims(x, axis=1) + xp.zeros_like(xp.expand_dims(x, axis=2)), (-1, 9))
            @ xp.asarray(np.ones((9, 3), "float32"))
        ),
        lambda x, xp: xp.where((x > 1) | (x < -1), xp.sign(x), 2.0 ** -xp.abs(x)),
        lambda x, xp: xp.reshape(xp.matrix_transpose(xp.matrix_transpose(x)), (x.shape[0], 3)) ** 2,
    ],
    ids=["norm", "largest", "pairs", "logic", "rows"],
)  # fmt: skip
def test_a_layer_of_ones_own_is_exported_by_its_forward(function):
    learner, w, s = of_own(function)
    x = of_rows(learner.net, 9, "float32")
    assert_alike(run(bp.to_onnx(learner, w, s), x), learner.predict(w, s, x))


def flipped(x: Any, xp: Any) -> Any:
    return xp.flip(x, axis=1)


def test_a_function_that_the_export_lacks_is_traced_by_ndonnx():
    pytest.importorskip("ndonnx", reason="ndonnx is not installed")
    learner, w, s = of_own(flipped)
    x = of_rows(learner.net, 9, "float32")
    assert_alike(run(bp.to_onnx(learner, w, s, opset=21), x), learner.predict(w, s, x))
    with pytest.raises(bp.BackpropError, match="with operators of opset 21: write opset=21"):
        bp.to_onnx(learner, w, s, opset=17)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (flipped, "layer 'own', Own.* cannot be exported: the export has no function 'flip'"),
        (lambda x, xp: x if bool(xp.all(x > 0)) else -x, "layer 'own', .*the export has no function 'all'"),
        (lambda x, xp: x if x > 0 else -x, "layer 'own', .*has no value"),
        (lambda x, xp: x / x.shape[0], "layer 'own', .*the number of rows is not known"),
        (lambda x, xp: x[:, :2], "layer 'own', .*not subscriptable"),
        (lambda x, xp: xp.matmul(x, x), "matmul needs shapes"),
        (lambda x, xp: xp.sum(x, axis=1), "its output has shape"),
        (lambda x, xp: x + xp.asarray(np.ones(3)), "operands must have the same dtype"),
    ],
)
def test_what_cannot_be_exported_is_refused_by_the_name_of_its_layer(function, why, monkeypatch):
    monkeypatch.setitem(sys.modules, "ndonnx", None)
    with pytest.raises(bp.BackpropError, match=why):
        bp.to_onnx(*of_own(function))


def test_what_not_even_ndonnx_traces_is_refused_with_its_reason():
    pytest.importorskip("ndonnx", reason="ndonnx is not installed")
    with pytest.raises(bp.BackpropError, match=r"'own'.* ndonnx cannot export it either: "):
        bp.to_onnx(*of_own(lambda x, xp: x if bool(xp.all(x > 0)) else -x), opset=21)


@pytest.mark.parametrize("opset", [16, 22, "17"])
def test_other_opsets_are_refused(opset):
    learner = bp.Learner(bp.chain(1, bp.Dense(1)))
    with pytest.raises(bp.BackpropError, match="opset must be an integer from 17 to 21"):
        bp.to_onnx(learner, *learner.init(0), opset=opset)


def test_fractions_are_rounded_to_float64():
    learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    w, s = learner.init(0, backend="exact", weights={"dense1.w": [["1/3"], [2]], "dense1.b": [1]})
    assert run(bp.to_onnx(learner, w, s), np.asarray([[1.0, 1.0]])).tolist() == [[1 / 3 + 3]]


def test_the_command_exports_a_model_file(tmp_path, capsys):
    learner, w, s = trained(NETS["categories"](), "float32")
    bp.save(tmp_path / "net", learner, w, s)
    words = ["export", str(tmp_path / "net"), str(tmp_path / "net.onnx"), "--opset", "21"]
    assert main(words) == 0
    assert "inputs   numbers float32 (rows, 4), city int64 (rows, 2)" in capsys.readouterr().out
    assert onnx.load(tmp_path / "net.onnx") == bp.to_onnx(learner, w, s, opset=21)
    assert main([*words[:2], str(tmp_path / "no" / "net.onnx")]) == 2
    assert "cannot be written" in capsys.readouterr().err
