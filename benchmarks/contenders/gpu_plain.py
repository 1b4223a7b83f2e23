"""Hand-written NumPy beside a GPU: on the host, and in float64 as everybody's reference."""

from typing import Any

import numpy as np

from ..data import Data
from ..works import Work
from .plain import Plain


def floats(x: Any, dtype: Any) -> Any:
    """Inputs as the net takes them: bytes are numbers from 0 to 1."""
    return x.astype(dtype) / 255 if x.dtype == "uint8" else x.astype(dtype, copy=False)


class Host(Plain):
    """On the host, its batches one after the other and again from the first."""

    def load(self, data: Data, dtype: str) -> None:
        x, t = data.batches(self.work)
        self.x, self.t = floats(x, dtype), t if self.work.labels else t.astype(dtype)

    def run(self, steps: int) -> Any:
        return [self.step(self.x[k % len(self.x)], self.t[k % len(self.x)]) for k in range(steps)]


class Reference(Host):
    """The same in float64."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        super().__init__(work, data, threads, "float64")


class OnCuPy(Reference):
    """The same on the GPU: NumPy's functions hand CuPy's arrays to CuPy."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        super().__init__(work, data, threads)
        self.sent(self.namespace())

    def namespace(self) -> Any:
        import cupy

        return cupy

    def sent(self, to: Any) -> None:
        self.x, self.t = to.asarray(self.x), to.asarray(self.t)
        self.units = to.arange(self.work.widths[-1])
        for each in (self.params, self.m, self.v):
            each[:] = [None if p is None else to.asarray(p) for p in each]

    def error(self, o: Any, t: Any) -> tuple[Any, Any]:
        """Without an index array of the host."""
        if not self.work.labels:
            return super().error(o, t)
        e = np.exp(o - o.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        right = t[:, None] == self.units
        return -np.log((p * right).sum(axis=1)).mean(), (p - right) / len(o)
