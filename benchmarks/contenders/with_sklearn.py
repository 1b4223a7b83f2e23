"""scikit-learn's MLPClassifier, one `partial_fit` a batch."""

import warnings
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier

from ..data import Data
from ..works import Work


class Sklearn:
    """Its first call chooses weights and makes the optimiser: they are then set to the shared ones."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        warnings.simplefilter("ignore")
        self.x, self.t = data.batches(work)
        self.net = MLPClassifier(
            work.widths[1:-1], activation=work.hidden, solver=work.update, alpha=0.0, batch_size=work.batch,
            learning_rate_init=work.rate, shuffle=False,
        )  # fmt: skip
        self.classes = np.arange(work.widths[-1])
        self.net.partial_fit(self.x[0], self.t[0], classes=self.classes)
        for k, (w, b) in enumerate(data.blocks):
            self.net.coefs_[k][...], self.net.intercepts_[k][...] = w, b
        optimiser = self.net._optimizer  # noqa: SLF001
        optimiser.t = 0
        for moments in (optimiser.ms, optimiser.vs):
            for each in moments:
                each[...] = 0

    def run(self, steps: int) -> Any:
        losses = []
        for k in range(steps):
            self.net.partial_fit(self.x[k], self.t[k])
            losses.append(self.net.loss_)
        return losses
