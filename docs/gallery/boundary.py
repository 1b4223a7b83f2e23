"""The decision boundary of two spirals as it grows, epoch by epoch."""

import numpy as np
from matplotlib.figure import Figure

import backprop_xp as bp


def draw():
    """Four moments of one training."""
    data = bp.data.TwoSpirals(seed=1, n=600, turns=1)
    net = bp.chain(2, bp.Dense(32, bp.relu), bp.Dense(32, bp.relu), bp.Dense(2))
    learner = bp.Learner(net, bp.softmax_cross_entropy, bp.Adam(0.01))
    x, t = (np.asarray(each) for each in data.rows(0, data.n))
    side = np.linspace(*(1.1 * np.abs(x).max() * np.asarray([-1, 1])), 80, dtype="float32")
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    figure = Figure(figsize=(8, 8), layout="constrained")
    w, s = learner.init(seed=0)
    moments = (1, 3, 10, 40)
    for axes, before, epoch in zip(figure.subplots(2, 2).flat, (0, *moments), moments, strict=False):
        w, s, history = bp.fit(learner, w, s, data, epochs=epoch - before, progress=None)
        p = learner.predict(w, s, grid)[:, 1].reshape(80, 80)
        axes.contourf(side, side, p, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.6)
        axes.scatter(*x[::2].T, c=t[::2], cmap="RdBu_r", s=6)
        axes.set(xticks=[], yticks=[], title=f"epoch {epoch}, loss {history[-1].loss:.3f}")
    return figure
