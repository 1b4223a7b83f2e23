"""Thinc as its manual shows it: a chain of layers, `begin_update`, `finish_update`."""

from typing import Any

import numpy as np
from thinc.api import Adam, Relu, Softmax, chain

from ..data import Data
from ..works import Work


class Thinc:
    """Thinc's loss functions return the gradient only; the loss is computed separately."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        self.x, self.t = data.batches(work)
        self.eye = np.eye(work.widths[-1], dtype="float32")
        hidden = [Relu(units) for units in work.widths[1:-1]]
        self.net = chain(*hidden, Softmax(work.widths[-1]))
        self.net.initialize(X=self.x[0], Y=self.eye[self.t[0]])
        for layer, (w, b) in zip(self.net.layers, data.blocks, strict=True):
            layer.set_param("W", w.T.copy())
            layer.set_param("b", b.copy())
        self.update = Adam(work.rate, L2=0.0, grad_clip=0.0, use_averages=False)

    def step(self, x: Any, t: Any) -> float:
        p, backprop = self.net.begin_update(x)
        backprop((p - self.eye[t]) / len(x))
        self.net.finish_update(self.update)
        return float(-np.log(p[np.arange(len(x)), t]).mean())

    def run(self, steps: int) -> Any:
        return [self.step(self.x[k], self.t[k]) for k in range(steps)]
