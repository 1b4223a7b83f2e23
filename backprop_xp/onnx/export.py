"""A learner's predictions as an ONNX model.

Layers run their own forward on the tensors of `graph`, unless ONNX has an operator for them. A net that uses
functions of the standard that `graph` lacks is traced with `ndonnx`, if it is installed.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .. import activations, backends, losses
from ..activations import Activation
from ..arrays import Array, Namespace, as_integer
from ..checks import check_state, check_vector
from ..errors import BackpropError, unavailable
from ..layers import Activate, Context, Dense
from ..learner import Learner
from ..net import Node
from ..printed import settings
from ..step import State
from .graph import HOST, Graph, Tensor

OPSETS = (17, 21)
LARGEST = 2**31 - 2**20  # bytes of weights: a protobuf file has at most 2 GiB; 1 MiB is for the graph
# What a forward raises that reads a tensor's numbers or uses a function ONNX lacks: then the layer is named.
_CANNOT = (AttributeError, TypeError, NotImplementedError, ValueError, IndexError)


def to_onnx(
    learner: Learner,
    w: Array,
    s: State,
    *,
    opset: int = 17,
    scale: Mapping[str, tuple[Any, Any]] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """What `learner.predict(w, s, x)` computes, as an `onnx.ModelProto`; `onnx.save(model, path)` writes it.

    The inputs have the names of the net's inputs, shape (rows, units): numbers in the dtype of w, categories
    as int64. The output is "prediction", shape (rows, units), after the loss's link. Nothing is dropped, and
    batch normalization takes its running statistics. Numbers are those of the dtype of w; bytes, which
    `predict` reads as x / 255, are divided by whoever runs the model.

    Layers and activations of your own are exported by their forward. Where that uses a function that this
    export does not know, `ndonnx` traces the whole net if it is installed.

    Args:
        learner: the net and its loss.
        w: the weights, of any library; fractions are rounded to float64.
        s: the state.
        opset: the version of ONNX's operators, from 17 to 21.
        scale: for inputs by name, the mean and the standard deviation of each column: the model then
            standardises that input, (x − mean) / deviation.
        metadata: texts by name, stored in the model.

    Raises:
        BackpropError: a layer cannot be exported, w has another dtype, the opset is not supported, or the
            model exceeds 2 GB.
        BackendUnavailable: onnx is not installed.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(4, bp.Dense(8, bp.relu), bp.Dense(3)), bp.softmax_cross_entropy)
    >>> model = bp.to_onnx(learner, *learner.init(seed=0))
    >>> [node.op_type for node in model.graph.node]
    ['Gemm', 'Relu', 'Gemm', 'Softmax']
    """
    try:
        import onnx
    except ImportError as error:
        library = "onnx"
        raise unavailable(library, library, library, error) from error
    version = as_integer(opset)
    if version is None or not OPSETS[0] <= version <= OPSETS[1]:
        msg = f"opset must be an integer from {OPSETS[0]} to {OPSETS[1]}, got {opset!r}"
        raise BackpropError(msg)
    check_vector(w, learner.net.layout)
    check_state(s, State, learner.pure.moments)
    w, layers = backends.host(w), tuple(tuple(backends.host(a) for a in own) for own in s.layers)
    if str(w.dtype) not in {"float32", "float64"}:
        msg = f"ONNX models have weights of float32 or float64, got {w.dtype}: bp.load(..., dtype='float64')"
        raise BackpropError(msg)
    if w.nbytes > LARGEST:
        msg = f"an ONNX model is one file of at most 2 GB, and these weights take {w.nbytes:,} bytes"
        raise BackpropError(msg)
    try:
        model = _direct(learner, w, layers, version, scale or {})
    except _Unknown as unknown:
        model = _by_ndonnx(learner, w, s._replace(layers=layers), version, scale or {}, unknown)
    model.producer_name = "backprop_xp"
    for key, text in (metadata or {}).items():
        model.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Unknown(Exception):
    """Why the direct export is not possible, in words."""


# ---------------------------------------------------------------- the direct export
def _direct(learner: Learner, w: Any, layers: Any, opset: int, scale: Mapping[str, Any]) -> Any:
    from onnx import helper

    net, blocks = learner.net, learner.weights(w)
    graph = Graph(opset, str(w.dtype), {id(a): name for name, a in blocks.items()})
    found: list[Any] = []
    for k, (node, p) in enumerate(zip(net.nodes, net.by_node(blocks), strict=True)):
        graph.layer = node.name
        if not node.inputs:
            kind = "int64" if node.layer.integers else graph.dtype
            x = graph.input(node.name, kind, net.outputs[k][0])
            found.append(_scaled(x, scale.get(node.name), w.dtype))
            continue
        inputs = [found[j] for j in net.wires[k]]
        context = Context(training=False, seed=None, step=None, stream=k, state=layers[k])
        with _named(f"layer '{node.name}', {settings(node.layer)},"):
            own = LAYERS.get(type(node.layer))
            o = own(node, p, *inputs) if own else node.layer.forward(p, *inputs, ctx=context, xp=graph)[0].o
            found.append(_checked(o, (inputs[0].shape[0], *net.outputs[k])))
    graph.layer = "prediction"
    with _named(f"the link of the loss {settings(learner.loss)}"):
        link = LINKS.get(type(learner.loss), learner.loss.link)
        o = _checked(link(found[-1], xp=graph), found[-1].shape)
    graph.nodes.append(helper.make_node("Identity", [o.name], ["prediction"]))
    _without_last_identity(graph.nodes, o.name)
    out = helper.make_tensor_value_info("prediction", graph.type_of(graph.dtype), ["rows", o.shape[1]])
    parts = graph.nodes, "learner", graph.inputs, [out], list(graph.constants.values())
    imports = [helper.make_opsetid("", opset)]
    version = helper.find_min_ir_version_for(imports)
    return helper.make_model(helper.make_graph(*parts), opset_imports=imports, ir_version=version)


def _without_last_identity(nodes: list[Any], name: str) -> None:
    """Let the last node but one produce the output itself, unless another node also reads its result."""
    taken = any(name in node.input for node in nodes[:-1])
    if len(nodes) > 1 and nodes[-2].output[0] == name and not taken:
        nodes[-2].output[0] = nodes[-1].output[0]
        nodes.pop()


class _named:  # noqa: N801 (used like a function)
    """Within the block, an error of a forward on tensors is reported with the name of the layer."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, _CANNOT):
            msg = f"{self.what} cannot be exported: {error}"
            raise _Unknown(msg) from error


def _checked(o: Any, shape: Any) -> Tensor:
    if not isinstance(o, Tensor) or o.shape != shape:
        msg = f"its output has shape {getattr(o, 'shape', None)}, not {shape}"
        raise TypeError(msg)
    return o


def _scaled(x: Tensor, scale: Any, dtype: Any) -> Any:
    if scale is None:
        return x
    mean, deviation = (HOST.asarray(backends.host(a), dtype=dtype) for a in scale)
    return (x - mean) / deviation


# ---------------------------------------------------------------- what ONNX has operators for
def _dense(node: Node, p: Any, x: Tensor) -> Any:
    layer: Any = node.layer
    net = x.graph.node("Gemm", x, *p, shape=(x.shape[0], layer.units))
    return activated(layer.f, net)


LAYERS: dict[type, Callable[..., Any]] = {
    Dense: _dense,
    Activate: lambda node, _, x: activated(node.layer.f, x),
}

# Operators that onnxruntime has in float32 and float64; below, those that it has only in float32.
ACTIVATIONS: dict[type, Callable[[Any, Any], Any]] = {
    activations.ReLU: lambda _, x: x.graph.node("Relu", x),
    activations.Sigmoid: lambda _, x: x.graph.node("Sigmoid", x),
    activations.Tanh: lambda _, x: x.graph.node("Tanh", x),
    activations.Softmax: lambda _, x: x.graph.node("Softmax", x, axis=-1),
    activations.LogSoftmax: lambda _, x: x.graph.node("LogSoftmax", x, axis=-1),
    activations.SiLU: lambda _, x: x * x.graph.node("Sigmoid", x),
}
FLOAT32: dict[type, Callable[[Any, Any], Any]] = {
    activations.LeakyReLU: lambda f, x: x.graph.node("LeakyRelu", x, alpha=float(f.slope)),
    activations.ThresholdedReLU: lambda f, x: x.graph.node("ThresholdedRelu", x, alpha=float(f.theta)),
    activations.ELU: lambda f, x: x.graph.node("Elu", x, alpha=float(f.alpha)),
    activations.SELU: lambda _, x: x.graph.node("Selu", x),
    activations.HardSwish: lambda _, x: x.graph.node("HardSwish", x),
    activations.HardSigmoid: lambda _, x: x.graph.node("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    activations.Softsign: lambda _, x: x.graph.node("Softsign", x),
    activations.GELU: lambda _, x: 0.5 * x * (1 + x.graph.node("Erf", x / 2**0.5)),
}
LINKS: dict[type, Callable[..., Any]] = {
    losses.SigmoidCrossEntropy: lambda o, *, xp: xp.node("Sigmoid", o),
    losses.SoftmaxCrossEntropy: lambda o, *, xp: xp.node("Softmax", o, axis=-1),
}


def activated(f: Activation, net: Tensor) -> Any:
    """An activation of a tensor: by an operator of ONNX, or by its formula."""
    own = ACTIVATIONS.get(type(f))
    if own is None and net.dtype == "float32":
        own = FLOAT32.get(type(f))
    return own(f, net) if own else f(net, xp=net.graph)


# ---------------------------------------------------------------- all the rest
def _by_ndonnx(
    learner: Learner, w: Any, s: State, opset: int, scale: Mapping[str, Any], unknown: Exception | None
) -> Any:
    """The same forward on arrays of ndonnx, which implements the whole standard."""
    try:
        import ndonnx
    except ImportError as error:
        msg = f"{unknown}. ndonnx implements more functions of the Array API standard: pip install ndonnx"
        raise BackpropError(msg) from error
    xp: Namespace = ndonnx
    number = getattr(xp, str(w.dtype))
    given, x = {}, {}
    for name, layer in learner.net.inputs.items():
        kind, shape = xp.int64 if layer.integers else number, ("rows", *layer.shape())
        given[name] = xp.argument(shape=shape, dtype=kind)
        x[name] = given[name]
        if name in scale:
            mean, deviation = (xp.asarray(HOST.asarray(backends.host(a), dtype=w.dtype)) for a in scale[name])
            x[name] = (given[name] - mean) / deviation
    state = s._replace(layers=tuple(tuple(xp.asarray(a) for a in own) for own in s.layers))
    try:
        o = learner.pure.predict(xp.asarray(w), state, x if len(x) > 1 else next(iter(x.values())), xp=xp)
        model = ndonnx.build(given, {"prediction": o})
    except Exception as error:
        msg = f"{unknown}. ndonnx cannot export it either: {type(error).__name__}: {error}"
        raise BackpropError(msg) from error
    newest = max(each.version for each in model.opset_import if not each.domain)
    if newest > opset:
        msg = f"{unknown}. ndonnx exports it with operators of opset {newest}: write opset={newest}"
        raise BackpropError(msg)
    return model
