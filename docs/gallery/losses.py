"""Losses of numbers, and their errors e = ∂E/∂o, by how far the output is off."""

import numpy as np
from matplotlib.figure import Figure

import backprop_xp as bp


def draw():
    """E on the left, e on the right."""
    off = np.linspace(-3, 3, 301)[:, None]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = {
        "half_squared_error": bp.half_squared_error, "mean_absolute_error": bp.losses.mean_absolute_error,
        "Huber(1)": bp.losses.Huber(1), "Quantile(0.9)": bp.losses.Quantile(0.9),
    }  # fmt: skip
    for name, loss in shown.items():
        left.plot(off, loss.value(off, 0 * off, xp=np), label=name)
        right.plot(off, loss.error(off, 0 * off, xp=np))
    left.set(xlabel="o − t", title="E")
    right.set(xlabel="o − t", title="e = ∂E/∂o")
    left.legend()
    return figure
