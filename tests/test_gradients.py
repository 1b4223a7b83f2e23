"""Gradients against two independent authorities: automatic differentiation and central differences."""

from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import activations, losses
from backprop_xp.net import learning_flow

CHUNKS, NETS_A_CHUNK = 12, 50
OF_PROBABILITIES = ("binary_cross_entropy", "categorical_cross_entropy")


# ---------------------------------------------------------------- random nets, as data
@dataclass
class Spec:
    """A net in words of its own: what the library and the references are built from."""

    n: int
    layers: list[dict[str, Any]]
    loss: str
    reduction: str
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    frozen: list[str] = field(default_factory=list)
    x: Any = None
    t: Any = None

    @property
    def depth(self) -> int:
        return sum(layer["kind"] == "dense" for layer in self.layers)

    def learner(self) -> bp.Learner:
        rate = bp.GradientDescent(0.5)
        net = bp.chain(self.n, *(_layer(layer) for layer in self.layers)).freeze(*self.frozen)
        return bp.Learner(net, losses.ALL[self.loss], rate, reduction=self.reduction)

    def learns(self, block: str) -> bool:
        return block not in self.frozen and block.partition(".")[0] not in self.frozen


def _layer(layer: dict[str, Any]) -> Any:
    label, kind = layer["name"], layer["kind"]
    if kind in ("add", "concat"):
        return bp.named(label, {"add": bp.add, "concat": bp.concat}[kind](*layer["sources"]))
    f = activations.ALL[layer["f"]]
    if layer["f"] in ("relu", "leaky_relu"):
        f = type(f)(gate=layer["gate"])
    return bp.named(
        label, bp.layers.Activate(f) if kind == "activate" else bp.Dense(layer["units"], f, layer["bias"])
    )


def random_spec(seed: int) -> Spec:
    rng = np.random.default_rng(seed)
    loss = list(losses.ALL)[seed % len(losses.ALL)]
    depth = 1 + seed // len(losses.ALL) % 8
    kinds = list(activations.ALL)
    n, widths, layers = int(rng.integers(1, 33)), {}, []
    width = widths["input"] = n
    for k in range(depth):
        last = k == depth - 1
        f = str(rng.choice(kinds))
        units = int(rng.integers(1, 33))
        if last and loss in OF_PROBABILITIES:
            f, units = ("softmax", max(units, 2)) if rng.random() < 0.5 else ("sigmoid", units)
        common = {"f": f, "gate": str(rng.choice([">=", ">"]))}
        layers.append(common | {"kind": "dense", "name": f"d{k}", "units": units, "bias": rng.random() < 0.7})
        width = widths[f"d{k}"] = units
        if last:
            break
        if rng.random() < 0.2:
            layers.append(common | {"kind": "activate", "name": f"f{k}", "f": str(rng.choice(kinds))})
            widths[f"f{k}"] = width
        before = layers[-1]["name"]
        for kind, chance in (("add", 0.7), ("concat", 0.25)):
            fits = [s for s, have in widths.items() if s != before and (kind == "concat" or have == width)]
            if fits and rng.random() < chance and width <= 64:
                source = str(rng.choice(fits))
                layers.append({"kind": kind, "name": f"{kind}{k}", "sources": [source]})
                width += widths[source] if kind == "concat" else 0
                before = f"{kind}{k}"
                widths[before] = width
    spec = Spec(n, layers, loss, str(rng.choice(["mean", "sum"])))
    _fill(spec, rng)
    return spec


def _fill(spec: Spec, rng: np.random.Generator) -> None:
    """Weights (some units exactly zero, so that gates matter), frozen blocks and a batch."""
    for block, shape in spec.learner().net.shapes.items():
        scale = 1.5 / np.sqrt(shape[0]) if len(shape) == 2 else 0.3
        if spec.loss in OF_PROBABILITIES and block == f"{spec.layers[-1]['name']}.w":
            scale /= 10  # or 1 − o may be so near 0 that ∂E/∂o = 1 / (1 − o) has no digits
        spec.weights[block] = scale * rng.normal(size=shape)
    for block, values in spec.weights.items():
        if block.endswith(".w") and rng.random() < 0.4:
            dead = rng.random(values.shape[1]) < 0.3
            values[:, dead] = 0
            if (bias := block[:-1] + "b") in spec.weights:
                spec.weights[bias][dead] = 0
    names = [*spec.weights, *(b.partition(".")[0] for b in spec.weights)]
    held = {str(name) for name in names if rng.random() < 0.12}
    keep = str(rng.choice(list(spec.weights)))
    spec.frozen = sorted(held - {keep, keep.partition(".")[0]})
    n, units = int(rng.integers(1, 10)), spec.layers[-1]["units"]
    spec.x = rng.normal(size=(n, spec.n))
    spec.x[rng.random(n) < 0.1] = 0
    labels = rng.integers(units, size=n)
    match losses.ALL[spec.loss].targets:
        case "numbers":
            spec.t = rng.normal(size=(n, units)) * (rng.random((n, units)) < 0.8)
        case "counts":
            spec.t = rng.poisson(1.0, size=(n, units)).astype(float)
        case "signs":
            spec.t = rng.choice([-1.0, 1.0], size=(n, units))
        case "probabilities":
            spec.t = rng.choice([0.0, 1.0, 0.25, 0.9], size=(n, units))
        case "distribution":
            spec.t = labels if rng.random() < 0.3 else np.eye(units)[labels]
            spec.t = rng.dirichlet(np.ones(units), size=n) if rng.random() < 0.3 else spec.t


# ---------------------------------------------------------------- the references
def torch_activation(f: str, gate: str, net: Any) -> Any:
    import torch

    opened = net >= 0 if gate == ">=" else net > 0
    match f:
        case "relu":
            return torch.where(opened, net, torch.zeros_like(net))
        case "leaky_relu":
            return torch.where(opened, net, 0.01 * net)
        case "softmax":
            return torch.softmax(net, dim=1)
        case "identity":
            return net
    functional = torch.nn.functional
    match f:
        case "softplus":
            return functional.softplus(net, threshold=1e4)
        case "thresholded_relu":
            return functional.threshold(net, 1.0, 0.0)
        case "gelu_tanh":
            return functional.gelu(net, approximate="tanh")
        case "log_softmax":
            return torch.log_softmax(net, dim=1)
        case "hard_sigmoid":  # Torch's own has 1/6 in float32 as its derivative
            return torch.where(abs(net) < 3, (net + 3) / 6, (net > 0).to(net.dtype))
    return getattr(functional, f.replace("hard_", "hard"))(net)


def torch_loss(loss: str, o: Any, t: Any) -> Any:
    import torch
    from torch.nn import functional

    if t.ndim == 1:
        t = functional.one_hot(t, o.shape[1]).to(o.dtype)
    squares = (o - t) ** 2
    match loss:
        case "half_squared_error":
            return 0.5 * squares.sum(1)
        case "squared_error":
            return squares.sum(1)
        case "mean_squared_error":
            return squares.mean(1)
        case "mean_absolute_error":
            return (o - t).abs().mean(1)
        case "binary_cross_entropy":
            return -(torch.xlogy(t, o) + torch.xlogy(1 - t, 1 - o)).mean(1)
        case "categorical_cross_entropy":
            return -torch.xlogy(t, o).sum(1)
        case "sigmoid_cross_entropy":
            return functional.binary_cross_entropy_with_logits(o, t, reduction="none").mean(1)
        case "softmax_cross_entropy":
            return -(t * torch.log_softmax(o, dim=1)).sum(1)
        case "huber":
            return functional.huber_loss(o, t, reduction="none").mean(1)
        case "quantile":
            return torch.maximum((t - o) / 2, (o - t) / 2).mean(1)
        case "poisson":
            return functional.poisson_nll_loss(o, t, reduction="none").mean(1)
        case "hinge":
            zero = torch.zeros_like(o)
            return functional.margin_ranking_loss(o, zero, t, margin=1, reduction="none").mean(1)
        case "negative_log_likelihood":
            return -(t * o).sum(1)
    pytest.fail(f"{loss} is in losses.ALL, and this file has no reference for it")


def torch_gradients(spec: Spec) -> tuple[float, dict[str, np.ndarray], np.ndarray]:
    """The loss, ∂E/∂w by block and ∂E/∂x, by Torch's autograd."""
    import torch

    leaf = {b: torch.tensor(v, requires_grad=True) for b, v in spec.weights.items()}
    x = torch.tensor(spec.x, requires_grad=True)
    seen = {"input": x}
    o = x
    for layer in spec.layers:
        own = layer["name"]
        if layer["kind"] == "add":
            o = o + seen[layer["sources"][0]]
        elif layer["kind"] == "concat":
            o = torch.cat([o, seen[layer["sources"][0]]], dim=1)
        else:
            if layer["kind"] == "dense":
                o = o @ leaf[f"{own}.w"] + leaf.get(f"{own}.b", 0)
            o = torch_activation(layer["f"], layer["gate"], o)
        seen[own] = o
    values = torch_loss(spec.loss, o, torch.tensor(spec.t))
    loss = values.mean() if spec.reduction == "mean" else values.sum()
    loss.backward()
    grads = {b: (v.grad if v.grad is not None else torch.zeros_like(v)).numpy() for b, v in leaf.items()}
    return loss.item(), grads, x.grad.numpy()


def relative(got: np.ndarray, want: np.ndarray) -> float:
    """‖got − want‖ / ‖want‖; 0 where both are zero, or so small that Torch's erf has rounded Φ to 0."""
    difference, size = float(np.linalg.norm(got - want)), float(np.linalg.norm(want))
    return 0.0 if difference < 1e-30 else difference / size if size else np.inf


def flat(blocks: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(block) for block in blocks.values()])


# ---------------------------------------------------------------- against autograd
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_gradients_of_random_nets_equal_torch_autograd(chunk):
    pytest.importorskip("torch", reason="torch is not installed")
    for seed in range(chunk * NETS_A_CHUNK, (chunk + 1) * NETS_A_CHUNK):
        spec = random_spec(seed)
        learner = spec.learner()
        w, s = learner.init(dtype="float64", weights=spec.weights)
        loss, grads, to_x = torch_gradients(spec)
        learning = {b: g for b, g in grads.items() if spec.learns(b)}
        got = learner.gradient(w, s, spec.x, spec.t)
        assert list(got) == list(learning), seed
        assert relative(flat(got), flat(learning)) < 1e-10, seed

        seen = learner.pure.forward_loss(w, s, spec.x, spec.t, xp=np)
        assert abs(float(seen.loss) - loss) <= 1e-12 * max(abs(loss), 1), seed
        *_, last = learning_flow(learner.net, seen.params, seen.flows, seen.e, xp=np, to_input=True)
        assert last.k == 0
        assert relative(last.e, to_x) < 1e-10, seed

        w, s, _ = learner.step(w, s, spec.x, spec.t)
        for block, after in learner.weights(w).items():
            before = spec.weights[block]
            if spec.learns(block):
                np.testing.assert_allclose(after, before - 0.5 * got[block], rtol=1e-13, atol=1e-14)
            else:
                assert after.tobytes() == before.tobytes(), (seed, block)


def test_random_nets_cover_what_the_library_has():
    specs = [random_spec(seed) for seed in range(CHUNKS * NETS_A_CHUNK)]
    layers = [layer for spec in specs for layer in spec.layers]
    assert len(specs) >= 500
    assert {spec.depth for spec in specs} == set(range(1, 9))
    assert {layer["units"] for layer in layers if "units" in layer} == set(range(1, 33))
    assert {(layer["kind"], layer["f"]) for layer in layers if "f" in layer} == set(
        product(("dense", "activate"), activations.ALL)
    )
    assert {(spec.loss, spec.reduction) for spec in specs} == set(product(losses.ALL, ("mean", "sum")))
    assert {"add", "concat"} <= {layer["kind"] for layer in layers}
    assert {layer["bias"] for layer in layers if "bias" in layer} == {True, False}
    assert {"." in name for spec in specs for name in spec.frozen} == {True, False}
    assert {np.ndim(spec.t) for spec in specs} == {1, 2}


def test_random_nets_have_zeros_at_which_the_gate_decides():
    decided = 0
    for seed in range(150):
        spec = random_spec(seed)
        w, s = spec.learner().init(dtype="float64", weights=spec.weights)
        by_gate = []
        for gate in (">=", ">"):
            spec.layers = [{**layer, "gate": gate} for layer in spec.layers]
            by_gate.append(flat(spec.learner().gradient(w, s, spec.x, spec.t)))
        decided += bool(np.any(by_gate[0] != by_gate[1]))
    assert decided >= 10


def proper_pairs() -> list[tuple[str, str]]:
    """Every activation as the output of one loss, and every loss after the articles' activations."""
    ends = dict.fromkeys(losses.ALL, ("identity", "relu", "leaky_relu", "sigmoid", "tanh", "softmax"))
    ends |= dict.fromkeys(OF_PROBABILITIES, ("sigmoid", "softmax"))
    ends["half_squared_error"] = tuple(activations.ALL)
    return [(f, loss) for loss in losses.ALL for f in ends[loss]]


def small(f: str, loss: str, seed: int = 0) -> Spec:
    """3-4-3 with the activation in both layers, off every kink."""
    rng = np.random.default_rng(seed)
    shape = {"kind": "dense", "f": f, "gate": ">=", "bias": True}
    layers = [shape | {"name": "d0", "units": 4}, shape | {"name": "d1", "units": 3}]
    spec = Spec(3, layers, loss, "mean")
    spec.weights = {b: rng.normal(size=n) for b, n in spec.learner().net.shapes.items()}
    spec.x, spec.t = rng.normal(size=(5, 3)), rng.dirichlet(np.ones(3), size=5)
    return spec


@pytest.mark.parametrize(("f", "loss"), proper_pairs())
def test_gradient_equals_central_differences(f, loss):
    spec = small(f, loss)
    learner = spec.learner()
    w, s = learner.init(dtype="float64", weights=spec.weights)
    g = flat(learner.gradient(w, s, spec.x, spec.t))
    for seed in range(3):
        v = np.random.default_rng(100 + seed).normal(size=w.shape)
        v *= 1e-5 / np.linalg.norm(v)
        ahead, behind = (learner.losses(w + d, s, spec.x, spec.t).mean() for d in (v, -v))
        assert abs((ahead - behind) / 2 - g @ v) <= 1e-8 * np.linalg.norm(g) * 1e-5 + 1e-15


@pytest.mark.parametrize(("gate", "at_zero"), [(">=", 1), (">", 0)])
@pytest.mark.parametrize("f", [bp.activations.ReLU, bp.activations.LeakyReLU])
def test_gates_decide_at_exact_zeros_alone(f, gate, at_zero):
    e, net = np.asarray([[2.0, 2.0, 2.0, 2.0]]), np.asarray([[0.0, -0.0, 1e-300, -1e-300]])
    shut = 0 if f is bp.activations.ReLU else 0.02
    there = 2 if at_zero else shut
    assert f(gate=gate).delta(e, net, net, xp=np).tolist() == [[there, there, 2, shut]]


@pytest.mark.parametrize("slope", [0.3, 0, 1, -0.5])
def test_leaky_slopes_are_the_derivative_left_of_zero(slope):
    e, net = np.asarray([[2.0, 2.0]]), np.asarray([[-3.0, 3.0]])
    assert bp.activations.LeakyReLU(slope)(net, xp=np).tolist() == [[-3 * slope, 3]]
    assert bp.activations.LeakyReLU(slope).delta(e, net, net, xp=np).tolist() == [[2 * slope, 2]]


# ---------------------------------------------------------------- against jax.grad
@pytest.fixture(scope="module")
def jax_gradient():
    """Activation, loss, parameters and batch to gradients, by jax.grad; each formula its own."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    jnp, nn = jax.numpy, jax.nn
    f = {
        "identity": lambda z: z,
        "relu": lambda z: jnp.where(z >= 0, z, 0),
        "leaky_relu": lambda z: jnp.where(z >= 0, z, 0.01 * z),
        "sigmoid": nn.sigmoid,
        "tanh": jnp.tanh,
        "softmax": nn.softmax,
        "thresholded_relu": lambda z: jnp.where(z > 1, z, 0),
        "gelu": partial(nn.gelu, approximate=False),
        "gelu_tanh": partial(nn.gelu, approximate=True),
        "softsign": nn.soft_sign,
    }
    value = {
        "half_squared_error": lambda o, t: jnp.sum((o - t) ** 2) / 2,
        "squared_error": lambda o, t: jnp.sum((o - t) ** 2),
        "mean_squared_error": lambda o, t: jnp.sum(jnp.mean((o - t) ** 2, axis=1)),
        "mean_absolute_error": lambda o, t: jnp.sum(jnp.mean(abs(o - t), axis=1)),
        "binary_cross_entropy": lambda o, t: -jnp.sum(t * jnp.log(o) + (1 - t) * jnp.log1p(-o)) / o.shape[1],
        "categorical_cross_entropy": lambda o, t: -jnp.sum(t * jnp.log(o)),
        "sigmoid_cross_entropy": lambda o, t: jnp.sum(nn.softplus(o) - o * t) / o.shape[1],
        "softmax_cross_entropy": lambda o, t: -jnp.sum(t * nn.log_softmax(o)),
        "huber": lambda o, t: (
            jnp.sum(jnp.where(abs(o - t) < 1, (o - t) ** 2 / 2, abs(o - t) - 0.5)) / o.shape[1]
        ),
        "quantile": lambda o, t: jnp.sum(jnp.maximum(t - o, o - t)) / 2 / o.shape[1],
        "poisson": lambda o, t: jnp.sum(jnp.exp(o) - t * o) / o.shape[1],
        "hinge": lambda o, t: jnp.sum(nn.relu(1 - t * o)) / o.shape[1],
        "negative_log_likelihood": lambda o, t: -jnp.sum(t * o),
    }

    def gradient(spec: Spec) -> dict[str, np.ndarray]:
        def loss(p):
            name = spec.layers[0]["f"]
            activation = f[name] if name in f else getattr(nn, name)
            o = activation(spec.x @ p["d0.w"] + p["d0.b"])
            o = activation(o @ p["d1.w"] + p["d1.b"])
            return value[spec.loss](o, spec.t) / spec.x.shape[0]

        return {b: np.asarray(g) for b, g in jax.grad(loss)(spec.weights).items()}

    return gradient


@pytest.mark.parametrize(("f", "loss"), proper_pairs())
def test_gradient_equals_jax_grad(f, loss, jax_gradient):
    spec = small(f, loss, seed=3)
    learner = spec.learner()
    w, s = learner.init(dtype="float64", weights=spec.weights)
    got, want = learner.gradient(w, s, spec.x, spec.t), jax_gradient(spec)
    assert relative(flat(got), flat({b: want[b] for b in got})) < 1e-10
