"""Exact against float32: how far rounding has carried the weights after each step."""

import numpy as np
from matplotlib.figure import Figure

import backprop_xp as bp


def weights(backend, steps, **kind):
    """The weights after each step of a small net of rational units."""
    net = bp.chain(2, bp.Dense(3, bp.relu), bp.Dense(1))
    learner = bp.Learner(net, bp.half_squared_error, bp.GradientDescent("1/8"))
    start = {"dense1.w": [["1/2", "-1/4", "3/4"], ["1/3", "1/5", "-1/7"]], "dense1.b": [0, "1/9", "1/11"],
             "dense2.w": [["1/2"], ["-1/3"], ["2/3"]], "dense2.b": [0]}  # fmt: skip
    w, s = learner.init(backend="exact", weights=start)
    x, t = bp.exact.asarray([[1, 2], [-1, "1/2"]]), bp.exact.asarray([[1], [0]])
    if backend != "exact":
        w, s = learner.init(weights={n: rounded(b) for n, b in learner.weights(w).items()}, **kind)
        x, t = (rounded(each).astype(kind["dtype"]) for each in (x, t))
    found = []
    for _ in range(steps):
        w, s, _ = learner.step(w, s, x, t)
        found.append(rounded(w))
    return np.asarray(found)


def rounded(a):
    """Fractions, or floats, as float64."""
    return np.asarray(a.tolist(), dtype="float64")


def draw():
    """The largest distance of a weight from the exact one."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="largest distance from the exact weight", yscale="log")
    axes.set_title("What rounding does, step by step")
    steps = 8
    exact = weights("exact", steps)
    for dtype in ("float32", "float64"):
        far = np.abs(weights("numpy", steps, dtype=dtype) - exact).max(axis=1)
        axes.plot(range(1, steps + 1), np.maximum(far, 1e-18), marker="o", label=dtype)
    axes.legend()
    return figure
