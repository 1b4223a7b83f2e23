"""How many kernels a step becomes on a GPU: what is computed number by number costs none of its own."""

from collections import Counter

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp.compiler.fusion import fuse
from backprop_xp.compiler.ir import abstract
from backprop_xp.compiler.recorder import record

PLAIN = {"matmul": 5, "elementwise": 3, "rows": 1, "concat": 1}  # two Dense layers, ReLU, any loss, any rule
OF_ROWS = PLAIN | {"elementwise": 1, "rows": 3}  # forward and backward in a kernel of whole rows each


def kernels(*layers, **settings):
    """The kernels of a step, by kind."""
    learner = bp.Learner(bp.chain(*layers, bp.Dense(4)), **settings)
    (features,), (units,) = learner.net.outputs[0], learner.net.outputs[-1]
    labels = learner.loss.targets == "distribution"
    t = abstract((16,), np.int32) if labels else abstract((16, units), "float32")
    x = abstract((16, features), np.int32 if learner.net.nodes[0].layer.integers else "float32")
    return dict(Counter(each.kind for each in fuse(record(learner.pure, *learner.init(), x, t), 2).kernels))


@pytest.mark.parametrize("name", bp.activations.ALL)
def test_an_activation_is_fused(name):
    known = {"identity": PLAIN | {"elementwise": 1}, "softmax": OF_ROWS, "log_softmax": OF_ROWS}
    assert kernels(8, bp.Dense(8, bp.activations.ALL[name])) == known.get(name, PLAIN)


@pytest.mark.parametrize("name", bp.losses.ALL)
def test_a_loss_is_one_kernel_of_rows(name):
    assert kernels(8, bp.Dense(8, bp.relu), loss=bp.losses.ALL[name]) == PLAIN


def test_smoothing_class_weights_and_ignored_labels_cost_no_kernel():
    loss = bp.losses.SoftmaxCrossEntropy(0.1, (1, 2, 3, 4), ignored=-1)
    assert kernels(8, bp.Dense(8, bp.relu), loss=loss) == PLAIN


@pytest.mark.parametrize("name", bp.updates.ALL)
def test_an_update_rule_is_one_kernel(name):
    assert kernels(8, bp.Dense(8, bp.relu), update=bp.updates.ALL[name]()) == PLAIN


@pytest.mark.parametrize(
    ("layers", "more"),
    [
        ((8, bp.Dense(8), bp.layers.PReLU()), {"elementwise": 3, "sum": 1}),
        ((8, bp.Dense(8), bp.layers.LayerNorm()), {"rows": 3, "sum": 2}),
        ((8, bp.Dense(8), bp.layers.BatchNorm()), {"elementwise": 7, "mean": 4, "sum": 2}),
        ((8, bp.Dense(8), bp.layers.Dropout(0.1)), {"elementwise": 7, "concat": 2}),
        ((bp.layers.Integers(2), bp.layers.Embedding(5, 4)), {"elementwise": 4, "take": 1, "matmul": 4}),
    ],
    ids=["prelu", "layer norm", "batch norm", "dropout", "embedding"],
)
def test_the_kernels_of_a_layer_are_known(layers, more):
    assert kernels(*layers) == PLAIN | {"elementwise": 1} | more
