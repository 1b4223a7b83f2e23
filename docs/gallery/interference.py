"""Interference: what a step on one sample does to the loss of every other, in fractions."""

from matplotlib.figure import Figure

import backprop_xp as bp

X = [[100, 2000, 100], [200, 0, 0], [0, 2000, 3000]]


def matrix():
    """By how much a step on sample i (row) changes the loss of sample j (column)."""
    net = bp.chain(3, bp.layers.Linear(1, bias=False), bp.layers.Activate(bp.relu))
    learner = bp.Learner(net, bp.half_squared_error, bp.GradientDescent("1/10000000"))
    w, s = learner.init(backend="exact", weights={"dense1.w": [["1/500"], ["1/5000"], ["1/10000"]]})
    x, t = bp.asarray(X, like=w), bp.asarray([[0], [1], [1]], like=w)
    before, rows = learner.losses(w, s, x, t), []
    for k in range(3):
        after, state, _ = learner.step(*learner.snapshot(w, s), x[k : k + 1, ...], t[k : k + 1, ...])
        rows.append([float(each) for each in learner.losses(after, state, x, t) - before])
    return rows


def draw():
    """The matrix: blue where the loss falls, red where it rises."""
    rows = matrix()
    most = max(abs(each) for row in rows for each in row)
    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="loss of sample", ylabel="step on sample", title="Who helps whom")
    image = axes.imshow(rows, cmap="RdBu_r", vmin=-most, vmax=most)
    for i, row in enumerate(rows):
        for j, each in enumerate(row):
            dark = abs(each) > 0.6 * most
            axes.text(j, i, f"{each:+.3f}", ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(3), ["1", "2", "3"])
    axes.set_yticks(range(3), ["1", "2", "3"])
    figure.colorbar(image, label="change of the loss")
    return figure
