"""Every activation and its derivative, from the library's own formulas."""

import numpy as np
from matplotlib.figure import Figure

import backprop_xp as bp


def draw():
    """One small picture each: f in blue, f′ in red."""
    found = {name: f for name, f in bp.activations.ALL.items() if "softmax" not in name}
    rows = -(-len(found) // 4)
    figure = Figure(figsize=(9, 1.9 * rows))
    figure.subplots_adjust(0.04, 0.04, 0.98, 0.96, wspace=0.25, hspace=0.5)
    net = np.linspace(-4, 4, 401)
    panels = list(figure.subplots(rows, 4).flat)
    for axes, (name, f) in zip(panels, found.items(), strict=False):
        o = f(net, xp=np)
        axes.plot(net, o, color="#0a5fa5")
        axes.plot(net, f.delta(np.ones_like(net), net, o, xp=np), color="#c0392b", linewidth=1)
        axes.axhline(0, color="#888", linewidth=0.5)
        axes.axvline(0, color="#888", linewidth=0.5)
        axes.set(title=name, ylim=(-1.6, 3))
    for axes in panels[len(found) :]:
        axes.remove()
    return figure
