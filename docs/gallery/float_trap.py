"""The trap of floats: the same code, on fractions and in float64, ten epochs of the article's samples."""

from matplotlib.figure import Figure

import backprop_xp as bp

X, T = [[100, 2000, 100], [200, 0, 0], [0, 2000, 3000]], [[0], [1], [1]]
W = {"dense1.w": [["1/200"], ["-3/11600"], ["1/5800"]]}


def losses(backend, epochs=10):
    """The mean loss before training and after each epoch, one sample at a time."""
    net = bp.chain(3, bp.layers.Linear(1, bias=False), bp.layers.Activate(bp.relu))
    learner = bp.Learner(net, bp.half_squared_error, bp.GradientDescent("1/10000000"))
    kind = {} if backend == "exact" else {"dtype": "float64"}
    weights = W if backend == "exact" else {"dense1.w": [[1 / 200], [-3 / 11600], [1 / 5800]]}
    w, s = learner.init(backend=backend, weights=weights, **kind)
    x, t = bp.asarray(X, like=w), bp.asarray(T, like=w)
    found = []
    for _ in range(epochs):
        found.append(sum(map(float, learner.losses(w, s, x, t))) / 3)
        w, s, _ = bp.train.per_sample(learner, w, s, x, t)
    return [*found, sum(map(float, learner.losses(w, s, x, t))) / 3]


def draw():
    """The losses of both."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="mean loss", title="Fractions learn, floats do not")
    axes.plot(losses("exact"), marker="o", label="exact fractions")
    axes.plot(losses("numpy"), marker="s", label="float64")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure
