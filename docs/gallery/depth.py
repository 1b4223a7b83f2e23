"""What depth does to the error: the size of delta in each of twelve layers, before anything was learnt."""

import numpy as np
from matplotlib.figure import Figure

import backprop_xp as bp


def sizes(f, initial, layers=12):
    """The root mean square of delta in each hidden layer of a net of 64 units a layer."""
    net = bp.chain(32, *[bp.Dense(64, f) for _ in range(layers)], bp.Dense(1))
    learner = bp.Learner(net, bp.half_squared_error)
    w, s = learner.init(seed=1, dtype="float64", initial={"*.w": initial})
    random = np.random.default_rng(0)
    trace = bp.trace(learner, w, s, random.normal(size=(64, 32)), random.normal(size=(64, 1)))
    return [float(np.sqrt(np.mean(trace[f"dense{k}"].delta ** 2))) for k in range(1, layers + 1)]


def draw():
    """Sigmoid and ReLU, with two ways to draw the first weights."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="layer, the input's side first", ylabel="size of delta", yscale="log")
    axes.set_title("Errors on their way back")
    glorot, he = bp.initialization.GlorotNormal(), bp.initialization.HeNormal()
    for name, f, initial in (
        ("sigmoid, Glorot", bp.sigmoid, glorot),
        ("ReLU, Glorot", bp.relu, glorot),
        ("ReLU, He", bp.relu, he),
    ):
        axes.plot(range(1, 13), sizes(f, initial), marker="o", label=name)
    axes.legend()
    return figure
