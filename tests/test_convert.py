"""Nets of Torch: the same layers, the same numbers, both ways."""

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import activations, convert, layers

torch = pytest.importorskip("torch")

# float64 sums of at most 7 products in another order, through at most 4 layers of slopes near 1
NEAR = {"rtol": 1e-12, "atol": 1e-13}

NETS = {
    "plain": lambda: bp.chain(4, bp.Dense(6, bp.relu), bp.Dense(5, bp.tanh, bias=False), bp.Dense(3)),
    "norms": lambda: bp.chain(
        4, bp.Dense(6), layers.BatchNorm(1e-4, 0.2), layers.Activate(bp.relu), layers.Dropout(0.5),
        bp.named("late", bp.Dense(5)), layers.LayerNorm(), layers.PReLU(), bp.Dense(2),
        layers.PReLU(shared=True),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=NETS)
def trained(request):
    learner = bp.Learner(NETS[request.param](), update=bp.Adam(0.01))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 4))
    w, s, _ = bp.fit(
        learner,
        *learner.init(1, dtype="float64"),
        bp.data.Stored(x, x[:, : learner.net.outputs[-1][0]]),
        epochs=2,
    )
    return learner, w, s, x


def test_a_sequential_gives_the_same_numbers(trained):
    learner, w, s, x = trained
    module = convert.to_torch(learner, w, s)
    with torch.no_grad():
        found = module(torch.as_tensor(x)).numpy()
    np.testing.assert_allclose(found, learner.predict(w, s, x), **NEAR)


def test_a_sequential_comes_back_with_weights_and_running_statistics(trained):
    learner, w, s, x = trained
    again, w2, s2 = convert.from_torch(convert.to_torch(learner, w, s), update=learner.update)
    kinds = [[type(node.layer) for node in each.net.nodes] for each in (again, learner)]
    assert kinds[0] == kinds[1] or layers.Activate in kinds[1]
    np.testing.assert_array_equal(w2.numpy(), w)
    np.testing.assert_allclose(
        again.predict(w2, s2, torch.as_tensor(x)).numpy(), learner.predict(w, s, x), **NEAR
    )


@pytest.mark.parametrize("f", activations.ALL.values(), ids=activations.ALL)
def test_every_activation_is_a_module_and_comes_back(f):
    learner = bp.Learner(bp.chain(3, bp.Dense(4, f), bp.Dense(1)))
    w, s = learner.init(0, dtype="float64")
    module = convert.to_torch(learner, w, s)
    x = np.linspace(-6, 6, 30).reshape(10, 3)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.as_tensor(x)).numpy(), learner.predict(w, s, x), **NEAR)
    again = convert.from_torch(module)[0].net.nodes[1].layer.f
    assert type(again) is type(f)
    assert again(x, xp=np).tolist() == f(x, xp=np).tolist()


def test_what_is_frozen_needs_no_gradient_both_ways():
    learner = bp.Learner(bp.chain(2, bp.Dense(3, bp.relu), bp.Dense(1)).freeze("dense1.w", "dense2"))
    module = convert.to_torch(learner, *learner.init(0))
    needed = {name: p.requires_grad for name, p in module.named_parameters()}
    assert needed == {
        "dense1.weight": False,
        "dense1.bias": True,
        "dense2.weight": False,
        "dense2.bias": False,
    }
    again, _, _ = convert.from_torch(module)
    assert [b.name for b in again.net.layout.learning] == ["dense1.b"]


def test_the_copies_are_no_views():
    learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    w, s = learner.init(0)
    before, module = w.copy(), convert.to_torch(learner, w, s)
    _, w2, _ = convert.from_torch(module)
    with torch.no_grad():
        module[0].weight.fill_(7)
    assert w.tolist() == before.tolist() == w2.tolist()


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (lambda nn: nn.Linear(2, 1), "expected a torch.nn.Sequential"),
        (lambda nn: nn.Sequential(nn.ReLU(), nn.Linear(2, 1)), "first module must be a torch.nn.Linear"),
        (lambda nn: nn.Sequential(nn.Linear(2, 1), nn.Softplus(beta=2)), "no layer for the module Softplus"),
        (
            lambda nn: nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4, bias=False)),
            "no layer for the module LayerNorm",
        ),
        (lambda nn: nn.Sequential(nn.Linear(2, 4), nn.Bilinear(1, 1, 1)), "no layer for the module Bilinear"),
    ],
)
def test_other_modules_are_refused_by_name(module, why):
    with pytest.raises(bp.BackpropError, match=why):
        convert.from_torch(module(torch.nn))


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (lambda: bp.chain(2, bp.Dense(2), bp.add("input")), "only a chain of layers"),
        (
            lambda: bp.chain(layers.Integers(1), layers.Embedding(3, 2), bp.Dense(1)),
            "Embedding, has no module in Torch",
        ),
    ],
)
def test_other_nets_are_refused_by_the_layer(net, why):
    learner = bp.Learner(net())
    with pytest.raises(bp.BackpropError, match=why):
        convert.to_torch(learner, *learner.init(0))
