"""The program of a step: the formulas as the compiler sees them, coloured by equation."""

import numpy as np
from matplotlib.figure import Figure

import backprop_xp as bp

COLOURS = {"net =": "#0a5fa5", "loss": "#8a4b00", "delta": "#a01850", "∂E/∂w": "#5b2ca0", "update": "#1a6b30"}


def draw():
    """The program of the neuron of the first articles, as text."""
    net = bp.chain(3, bp.layers.Linear(1, bias=False), bp.layers.Activate(bp.relu))
    learner = bp.Learner(net, bp.half_squared_error, bp.GradientDescent(1e-7))
    program = learner.program(np.ones((1, 3), "float32"), np.ones((1, 1), "float32"))
    lines = str(program["dead code"]).splitlines()
    figure = Figure(figsize=(8.5, 0.24 * len(lines)), facecolor="white")
    colour = "black"
    for k, line in enumerate(lines):
        if line.startswith("  #"):
            colour = next((c for word, c in COLOURS.items() if word in line), "black")
        weight = "bold" if line.startswith("  #") else "normal"
        y = 1 - (k + 1) / (len(lines) + 1)
        figure.text(0.02, y, line.replace("$", r"\$"), family="DejaVu Sans Mono", size=8.5, color=colour,
                    weight=weight, va="center")  # fmt: skip
    return figure
