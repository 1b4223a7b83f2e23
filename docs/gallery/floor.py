"""The loss beside its floor: the best possible loss is known, since a random net labels the rows."""

from matplotlib.figure import Figure

import backprop_xp as bp


def draw():
    """The losses on rows that were not trained on, for three rates."""
    data = bp.data.Teacher(seed=1, n=10_000, features=4, noise=0.1)
    train, unseen = bp.data.Stored(*data.rows(0, 8000)), bp.data.Stored(*data.rows(8000, 10_000))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="loss on rows not trained on", yscale="log")
    axes.set_title("The closer to the floor, the more was learnt")
    for rate in (0.0003, 0.003, 0.03):
        net = bp.chain(4, bp.Dense(32, bp.tanh), bp.Dense(32, bp.tanh), bp.Dense(1))
        learner = bp.Learner(net, bp.half_squared_error, bp.Adam(rate))
        fitted = bp.fit(learner, *learner.init(), train, epochs=10, validate=unseen, progress=None)
        losses = [epoch.validation for epoch in fitted.history]
        axes.plot(range(1, 11), losses, marker="o", label=f"Adam({rate})")
    axes.axhline(data.floor(learner.loss), color="black", linestyle="--", label="floor: the noise alone")
    axes.legend()
    return figure
