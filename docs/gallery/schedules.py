"""Rates that change with the number of updates."""

import numpy as np
from matplotlib.figure import Figure

import backprop_xp as bp


def draw():
    """Each schedule over a thousand updates."""
    counts = np.arange(1000.0)
    shown = {
        "Step": bp.schedules.Step(0.1, 250, 0.5),
        "Exponential": bp.schedules.Exponential(0.1, 0.997),
        "Cosine": bp.schedules.Cosine(0.1, 1000),
        "WarmUp then Cosine": bp.schedules.WarmUp(100, bp.schedules.Cosine(0.1, 900)),
        "OneCycle": bp.schedules.OneCycle(0.1, 1000),
    }
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="updates so far", ylabel="rate", title="Schedules")
    for name, schedule in shown.items():
        axes.plot(counts, [float(schedule(np.asarray(count), xp=np)) for count in counts], label=name)
    axes.legend()
    return figure
