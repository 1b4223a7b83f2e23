"""Training on one sample at a time: a loop written by hand for each net and compiled by Numba."""

from math import exp
from typing import Any

import numba
import numpy as np

from ..data import Data
from ..works import Work


@numba.njit
def _relu(params: Any, x: Any, t: Any, rate: Any, losses: Any) -> None:
    """Three inputs, one ReLU unit without a bias."""
    (w,) = params
    for k in range(len(losses)):
        a, b, c = x[k, 0, 0], x[k, 0, 1], x[k, 0, 2]
        o = max(w[0, 0] * a + w[1, 0] * b + w[2, 0] * c, np.float32(0))
        e = o - t[k, 0, 0]
        losses[k] = np.float32(0.5) * e * e
        if o > 0:
            e *= rate
            w[0, 0] -= e * a
            w[1, 0] -= e * b
            w[2, 0] -= e * c


@numba.njit
def _sigmoid(params: Any, x: Any, t: Any, rate: Any, losses: Any) -> None:
    """Two inputs, two layers of two sigmoid units each, and one sigmoid unit."""
    w1, b1, w2, b2, w3, b3 = params
    one = np.float32(1)
    h, g = np.empty(2, np.float32), np.empty(2, np.float32)
    dh, dg = np.empty(2, np.float32), np.empty(2, np.float32)
    for k in range(len(losses)):
        for j in range(2):
            h[j] = one / (one + exp(-(x[k, 0, 0] * w1[0, j] + x[k, 0, 1] * w1[1, j] + b1[j])))
        for j in range(2):
            g[j] = one / (one + exp(-(h[0] * w2[0, j] + h[1] * w2[1, j] + b2[j])))
        o = one / (one + exp(-(g[0] * w3[0, 0] + g[1] * w3[1, 0] + b3[0])))
        e = o - t[k, 0, 0]
        losses[k] = np.float32(0.5) * e * e
        d = e * o * (one - o)
        for j in range(2):
            dg[j] = d * w3[j, 0] * g[j] * (one - g[j])
        for j in range(2):
            dh[j] = (dg[0] * w2[j, 0] + dg[1] * w2[j, 1]) * h[j] * (one - h[j])
        for j in range(2):
            w3[j, 0] -= rate * d * g[j]
            for i in range(2):
                w2[i, j] -= rate * dg[j] * h[i]
                w1[i, j] -= rate * dh[j] * x[k, 0, i]
            b2[j] -= rate * dg[j]
            b1[j] -= rate * dh[j]
        b3[0] -= rate * d


class Loop:
    """The works of one sample at a time."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        self.loop = {"W1a": _relu, "W1b": _sigmoid}[work.name]
        self.params = tuple(p.copy() for pair in data.blocks for p in pair if p is not None)
        self.x, self.t = data.batches(work)
        self.rate = np.float32(work.rate)
        self.run(0)  # compiles

    def run(self, steps: int) -> Any:
        losses = np.empty(steps, np.float32)
        self.loop(self.params, self.x, self.t, self.rate, losses)
        return losses
