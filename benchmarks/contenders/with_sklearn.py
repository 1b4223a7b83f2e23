"""scikit-learn's MLPClassifier: one `partial_fit` a batch, or one `fit` of many epochs."""

import warnings
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier

from ..data import Blocks, Data
from ..works import Work


def network(work: Work) -> MLPClassifier:
    return MLPClassifier(
        work.widths[1:-1], activation=work.hidden, solver=work.update, alpha=0.0, batch_size=work.batch,
        learning_rate_init=work.rate, shuffle=False,
    )  # fmt: skip


def begin(net: MLPClassifier, blocks: Blocks) -> None:
    for k, (w, b) in enumerate(blocks):
        net.coefs_[k][...], net.intercepts_[k][...] = w, b


class Sklearn:
    """The first `partial_fit` creates weights and optimiser, which are then reset to their first values."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        warnings.simplefilter("ignore")
        self.x, self.t = data.batches(work)
        self.net = network(work)
        self.net.partial_fit(self.x[0], self.t[0], classes=np.arange(work.widths[-1]))
        begin(self.net, data.blocks)
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


class Fit:
    """One `fit` of many epochs, from the first weights in every run; it never stops early."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        warnings.simplefilter("ignore")
        self.x, self.t, self.blocks = np.array(data.x), np.array(data.t), data.blocks
        self.net = network(work).set_params(warm_start=True, tol=0.0, n_iter_no_change=10**9)
        self.net.partial_fit(self.x, self.t, classes=np.arange(work.widths[-1]))

    def run(self, steps: int, shuffle: bool = True) -> Any:
        begin(self.net, self.blocks)  # `fit` goes on from them, with a new optimiser
        self.net.set_params(max_iter=steps, shuffle=shuffle).fit(self.x, self.t)
        return self.net.loss_curve_[-steps:]

    def check(self, steps: int) -> Any:
        return self.run(steps, shuffle=False)
