"""Convert PyTorch models to nets of this library, and back, with the same weights.

Torch is imported only when it is needed. For MLPs of scikit-learn see `backprop_xp.sklearn`.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from . import activations, backends
from .activations import Activation
from .arrays import Array
from .errors import BackpropError, got_instead, listed, unavailable
from .layers import Activate, BatchNorm, Dense, Dropout, Input, LayerNorm, PReLU
from .learner import Learner
from .net import Node, chain
from .step import State

# The Torch module of each activation, and the names of its settings there and here.
MODULES: dict[type, tuple[str, dict[str, str]]] = {
    activations.ReLU: ("ReLU", {}),
    activations.LeakyReLU: ("LeakyReLU", {"negative_slope": "slope"}),
    activations.ELU: ("ELU", {"alpha": "alpha"}),
    activations.SELU: ("SELU", {}),
    activations.CELU: ("CELU", {"alpha": "alpha"}),
    activations.Softplus: ("Softplus", {}),
    activations.GELU: ("GELU", {}),
    activations.SiLU: ("SiLU", {}),
    activations.HardSwish: ("Hardswish", {}),
    activations.Mish: ("Mish", {}),
    activations.Sigmoid: ("Sigmoid", {}),
    activations.HardSigmoid: ("Hardsigmoid", {}),
    activations.Tanh: ("Tanh", {}),
    activations.Softsign: ("Softsign", {}),
    activations.Softmax: ("Softmax", {}),
    activations.LogSoftmax: ("LogSoftmax", {}),
}
_FIXED = {"Softmax": {"dim": -1}, "LogSoftmax": {"dim": -1}, "Softplus": {"threshold": 40}}


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        missing = unavailable("PyTorch", "torch", "torch", error)
        raise missing from error
    return torch


def to_torch(learner: Learner, w: Array, s: State) -> Any:
    """A learner's net as a `torch.nn.Sequential` with copies of its weights.

    It returns the output of the last layer itself (the logits, if the loss has a link), as Torch models
    usually do. Each layer becomes a module with the layer's name, and its activation one more, `<name>_f`.
    Frozen parameters have requires_grad=False. The module is in evaluation mode.

    Args:
        learner: its net is a chain of Dense, Activate, PReLU, Dropout, LayerNorm and BatchNorm.
        w: the weights, of any library; the parameters get their dtype and, if w is of Torch, their device.
        s: the state, for the running statistics of BatchNorm.

    Raises:
        BackpropError: Torch has no module for a layer, or the net is not a chain.
        BackendUnavailable: Torch is not installed.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(3, bp.Dense(4, bp.tanh), bp.Dense(1)))
    >>> to_torch(learner, *learner.init())
    Sequential(
      (dense1): Linear(in_features=3, out_features=4, bias=True)
      (dense1_f): Tanh()
      (dense2): Linear(in_features=4, out_features=1, bias=True)
    )
    """
    torch = _torch()
    net, blocks = learner.net, learner.weights(w)
    to = backends.of(w)
    device = to.device_of(w) if to.name == "torch" else "cpu"
    dtype = getattr(torch, str(w.dtype).rpartition(".")[2], None)
    if dtype is None:
        msg = f"Torch has no dtype {w.dtype}: convert the weights first, by bp.asarray(w, backend='torch')"
        raise BackpropError(msg)
    modules: dict[str, Any] = {}
    for k, node in enumerate(net.nodes[1:], 1):
        if node.inputs != (net.nodes[k - 1].name,):
            msg = (
                "only a chain of layers becomes a torch.nn.Sequential, and "
                f"'{node.name}' takes the outputs of {listed(node.inputs)}"
            )
            raise BackpropError(msg)
        size = net.outputs[k - 1][-1]
        module = _module(node, size, torch)
        if module is not None:
            modules[node.name] = module
            tensors = {name: torch.as_tensor(backends.host(a).copy()) for name, a in _own(node, blocks)}
            _fill(module, node, tensors, [torch.as_tensor(backends.host(a).copy()) for a in s.layers[k]])
            for name, parameter in _parameters(module, node):
                parameter.requires_grad_(not {node.name, f"{node.name}.{name}"} & net.frozen)
        f = getattr(node.layer, "f", activations.identity)
        if f != activations.identity:
            modules[node.name if module is None else f"{node.name}_f"] = _function(f, torch)
    found = torch.nn.Sequential()
    for name, module in modules.items():
        found.add_module(name, module)
    return found.to(dtype=dtype, device=device).eval()


def _own(node: Node, blocks: dict[str, Array]) -> Iterator[tuple[str, Array]]:
    for name, a in blocks.items():
        layer, _, short = name.rpartition(".")
        if layer == node.name:
            yield short, a


def _module(node: Node, size: int, torch: Any) -> Any:
    """The Torch module of a layer; None for a layer that is only an activation."""
    layer, nn = node.layer, torch.nn
    if isinstance(layer, Dense):
        return nn.Linear(size, layer.units, bias=layer.bias)
    if isinstance(layer, PReLU):
        return nn.PReLU(1 if layer.shared else size)
    if isinstance(layer, Dropout):
        return nn.Dropout(layer.p)
    if isinstance(layer, LayerNorm):
        return nn.LayerNorm(size, eps=layer.eps)
    if isinstance(layer, BatchNorm):
        return nn.BatchNorm1d(size, eps=layer.eps, momentum=layer.momentum)
    if isinstance(layer, Activate):
        return None
    msg = f"'{node.name}', a {type(layer).__name__}, has no module in Torch that this library knows"
    raise BackpropError(msg)


def _parameters(module: Any, node: Node) -> Iterator[tuple[str, Any]]:
    """The parameters of a Torch module, by the names that this library gives them."""
    names = {Dense: ("w", "b"), PReLU: ("a",), LayerNorm: ("g", "b"), BatchNorm: ("g", "b")}
    for name, there in zip(names.get(type(node.layer), ()), ("weight", "bias"), strict=False):
        if getattr(module, there) is not None:
            yield name, getattr(module, there)


def _fill(module: Any, node: Node, tensors: dict[str, Any], state: list[Any]) -> None:
    for name, parameter in _parameters(module, node):
        parameter.data = tensors[name].T.contiguous() if name == "w" else tensors[name]
    if state:
        module.running_mean, module.running_var = state


def _function(f: Activation, torch: Any) -> Any:
    """The Torch module of an activation."""
    if isinstance(f, activations.GELUTanh):
        return torch.nn.GELU(approximate="tanh")
    if isinstance(f, activations.ThresholdedReLU):
        return torch.nn.Threshold(float(f.theta), 0.0)
    if type(f) not in MODULES:
        msg = f"the activation {f!r} has no module in Torch that this library knows"
        raise BackpropError(msg)
    name, settings = MODULES[type(f)]
    values = {there: float(getattr(f, here)) for there, here in settings.items()}
    return getattr(torch.nn, name)(**values, **_FIXED.get(name, {}))


def from_torch(sequential: Any, **settings: Any) -> tuple[Learner, Array, State]:
    """A `torch.nn.Sequential` as a learner, and copies of its weights on the same device.

    It may contain Linear, activations, PReLU, Dropout, LayerNorm, BatchNorm1d, and Sequentials of these;
    Identity and Flatten are left out. Parameters with requires_grad=False are frozen.

    Args:
        sequential: the model; its first module is a Linear.
        settings: settings of the learner, such as loss=bp.softmax_cross_entropy, update=bp.Adam().

    Returns:
        The learner, the weights w and the state s, on the Torch backend. `bp.asarray` converts arrays to
        another, and so does `bp.load` after `bp.save`.

    Raises:
        BackpropError: it contains another module.
        BackendUnavailable: Torch is not installed.

    >>> from torch.nn import Linear, ReLU, Sequential
    >>> learner, w, s = from_torch(Sequential(Linear(3, 4), ReLU(), Linear(4, 1)))
    >>> learner.net
    Net(input (3,) → dense1 (4,) → dense2 (1,): 21 parameters)
    """
    torch = _torch()
    modules = [
        each for each in _flat(sequential, torch) if type(each).__name__ not in ("Identity", "Flatten")
    ]
    if not modules or not isinstance(modules[0], torch.nn.Linear):
        msg = (
            "the first module must be a torch.nn.Linear, whose in_features are the inputs of the net; "
            f"got {modules[0] if modules else 'an empty Sequential'}"
        )
        raise BackpropError(msg)
    net = chain(modules[0].in_features, *_layers(modules, torch))
    blocks: dict[str, Any] = {}
    frozen: list[str] = []
    states: list[Any] = []
    own = iter([each for each in modules if _layer(each, torch) is not None])
    for node in net.nodes:
        if isinstance(node.layer, (Input, Activate)):
            continue
        module = next(own)
        for name, parameter in _parameters(module, node):
            value = parameter.detach()
            blocks[f"{node.name}.{name}"] = value.T if name == "w" else value
            frozen += [f"{node.name}.{name}"] * (not parameter.requires_grad)
        states += [module.running_mean, module.running_var] if isinstance(node.layer, BatchNorm) else []
    first = modules[0].weight
    learner = Learner(net.freeze(*frozen), **settings)
    w, s = learner.init(like=first.detach(), weights=blocks)
    values = iter(states)
    layers = tuple(tuple(next(values).detach().clone() for _ in each) for each in s.layers)
    return learner, w, s._replace(layers=layers)


def _flat(sequential: Any, torch: Any) -> Iterator[Any]:
    if not isinstance(sequential, torch.nn.Sequential):
        msg = f"expected a torch.nn.Sequential, {got_instead(sequential)}"
        raise BackpropError(msg)
    for module in sequential:
        if isinstance(module, torch.nn.Sequential):
            yield from _flat(module, torch)
        else:
            yield module


def _layers(modules: list[Any], torch: Any) -> list[Any]:
    """The layers of modules; an activation becomes part of the Linear before it."""
    found: list[Any] = []
    for module in modules:
        layer = _layer(module, torch)
        if layer is not None:
            found.append(layer)
            continue
        f, last = _activation(module), found[-1]
        plain = isinstance(last, Dense) and last.f == activations.identity
        if plain:
            found[-1] = replace(last, f=f)
        else:
            found.append(Activate(f))
    return found


def _layer(module: Any, torch: Any) -> Any:
    """The layer of a module; None for an activation."""
    nn = torch.nn
    if isinstance(module, nn.Linear):
        return Dense(module.out_features, bias=module.bias is not None)
    if isinstance(module, nn.PReLU):
        return PReLU(shared=module.num_parameters == 1)
    if isinstance(module, nn.Dropout):
        return Dropout(module.p)
    fits = getattr(module, "weight", None) is not None and getattr(module, "bias", None) is not None
    if isinstance(module, nn.LayerNorm) and fits and len(module.normalized_shape) == 1:
        return LayerNorm(module.eps)
    tracks = getattr(module, "running_mean", None) is not None and module.momentum is not None
    if isinstance(module, nn.BatchNorm1d) and fits and tracks:
        return BatchNorm(module.eps, module.momentum)
    _activation(module)
    return None


def _activation(module: Any) -> Activation:
    """The activation of a module.

    Raises:
        BackpropError: this library has no such activation.
    """
    name = type(module).__name__
    if name == "GELU" and module.approximate == "tanh":
        return activations.gelu_tanh
    if name == "Threshold" and module.value == 0:
        return activations.ThresholdedReLU(module.threshold)
    fits = getattr(module, "dim", -1) in (-1, 1) and getattr(module, "beta", 1) == 1
    for kind, (own, settings) in MODULES.items():
        if own == name and fits:
            return kind(**{here: getattr(module, there) for there, here in settings.items()})  # type: ignore[no-any-return]
    msg = f"this library has no layer for the module {module!r}"
    raise BackpropError(msg)
