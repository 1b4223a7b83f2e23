"""Update rules on their way down a narrow valley: two weights, thirty times as steep one way as the other."""

import numpy as np
from matplotlib.figure import Figure

import backprop_xp as bp

X = np.asarray([[1.0, 0.0], [0.0, np.sqrt(30)]])


def path(rule, steps=60):
    """The weights after each step, from the same start."""
    learner = bp.Learner(bp.chain(2, bp.layers.Linear(1, bias=False)), bp.half_squared_error, rule)
    w, s = learner.init(dtype="float64", weights={"dense1.w": [[-4.0], [0.9]]})
    found = [w.copy()]
    for _ in range(steps):
        w, s, _ = learner.step(w, s, X, np.zeros((2, 1)))
        found.append(w.copy())
    return np.asarray(found)


def draw():
    """The paths over the contours of the loss."""
    a, b = np.meshgrid(np.linspace(-4.5, 1.5, 120), np.linspace(-1.3, 1.3, 120))
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="first weight", ylabel="second weight", title="Sixty steps each")
    axes.contour(a, b, (a**2 + 30 * b**2) / 4, levels=np.geomspace(0.02, 20, 12), colors="silver")
    rules = {
        "GradientDescent(0.06)": bp.GradientDescent(0.06), "Momentum(0.02)": bp.updates.Momentum(0.02),
        "RMSProp(0.05)": bp.updates.RMSProp(0.05), "Adam(0.15)": bp.Adam(0.15),
    }  # fmt: skip
    for name, rule in rules.items():
        axes.plot(*path(rule).T, marker=".", markersize=3, linewidth=1, label=name)
    axes.plot(0, 0, marker="*", color="black")
    axes.legend()
    return figure
