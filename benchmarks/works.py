"""The works, as data: a net, a loss, an update rule, batches, and how a time is told."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import backprop_xp as bp

SCALES = {"s": 1.0, "ms": 1e3, "µs": 1e6}


@dataclass(frozen=True)
class Work:
    """One piece of work that every contender does alike.

    Attributes:
        name: such as "W2".
        title: what it is, for a reader.
        widths: units from the input to the output.
        hidden: the activation of all layers but the last: 'relu' or 'sigmoid'.
        last: the activation of the last layer, as the loss is given it.
        bias: whether the layers have one.
        loss: 'softmax_cross_entropy' (integer labels) or 'half_squared_error' (numbers).
        update: 'adam' or 'gradient_descent'.
        rate: its rate.
        batch: rows of a step.
        steps: stored batches, and steps of a round; for files the rows follow from `gigabytes`.
        unit: of the times told: 's', 'ms' or 'µs', or 'rows/s'.
        per: what a time is told for: 'step', 'sample' or 'layer'.
        kind: 'steps' (stored batches), 'train' (from a file) or 'read' (the reading alone).
        threads: numbers of threads that are tried; the fastest is kept.
        check: steps whose losses are compared with the reference.
        tolerance: the largest difference, as a share of the mean loss.
        product: (m, k, n) of the matrix product that tells the limit of the processor.
        seconds: a round is all steps, or as many as are done in about this time, `least` at least.
        least: the fewest steps of a round.
        gigabytes: size of the file.
        device: 'cpu' or 'gpu'.
        precision: of the products of float32: 'float32', 'tf32' or 'bfloat16'.
        source: what inputs are stored as: 'float32', or 'uint8' for numbers from 0 to 1 in 255 parts.
    """

    name: str
    title: str
    widths: tuple[int, ...]
    batch: int
    steps: int
    hidden: str = "relu"
    last: str = "identity"
    bias: bool = True
    loss: str = "softmax_cross_entropy"
    update: str = "adam"
    rate: float = 1e-3
    unit: str = "µs"
    per: str = "step"
    kind: str = "steps"
    threads: tuple[int, ...] = (1, 2)
    check: int = 30
    tolerance: float = 1e-3
    product: tuple[int, int, int] = (1024, 1024, 1024)
    seconds: float = 1.0
    least: int = 20
    gigabytes: float = 0.0
    device: str = "cpu"
    precision: str = "float32"
    source: str = "float32"

    @property
    def labels(self) -> bool:
        """Whether targets are integer labels."""
        return self.loss == "softmax_cross_entropy"

    @property
    def activations(self) -> tuple[str, ...]:
        """The activation of each layer with weights."""
        return (self.hidden,) * (len(self.widths) - 2) + (self.last,)

    @property
    def rows(self) -> int:
        """Rows of data: of the stored batches, or of the file."""
        if self.kind == "steps":
            return self.steps * self.batch
        row = 4 * self.widths[0]
        return int(self.gigabytes * 1e9 / row) // self.batch * self.batch

    @property
    def batches(self) -> int:
        """Batches there are."""
        return self.rows // self.batch

    @property
    def flops(self) -> int:
        """Of the matrix products of a step: forward, ∂E/∂w, and ∂E/∂x but for the input."""
        pairs = [a * b for a, b in zip(self.widths, self.widths[1:], strict=False)]
        return 2 * self.batch * (3 * sum(pairs) - pairs[0])

    def told(self, seconds: float) -> float:
        """Seconds a step in this work's own unit."""
        if self.unit == "rows/s":
            return self.batch / seconds
        divisor = {"step": 1, "sample": self.batch, "layer": len(self.widths) - 1}[self.per]
        return seconds * SCALES[self.unit] / divisor

    @property
    def told_as(self) -> str:
        """The unit, written out."""
        return self.unit if self.unit == "rows/s" else f"{self.unit}/{self.per}"

    def factors(self) -> list[Any]:
        """Two matrices for `product`."""
        rng = np.random.default_rng(0)
        return [rng.random(shape, dtype="float32") for shape in (self.product[:2], self.product[1:])]

    def learner(self) -> bp.Learner:
        """The library's learner for this work."""
        relu = bp.ReLU(">") if self.device == "gpu" else bp.relu  # the gate that rivals have
        known = {"relu": relu, "sigmoid": bp.sigmoid, "identity": bp.identity}
        layers = [
            bp.Dense(units, known[f], self.bias)
            for units, f in zip(self.widths[1:], self.activations, strict=True)
        ]
        update = {"adam": bp.Adam, "gradient_descent": bp.GradientDescent}[self.update](self.rate)
        return bp.Learner(bp.chain(self.widths[0], *layers), getattr(bp, self.loss), update)


_PLAIN = {"loss": "half_squared_error", "update": "gradient_descent"}
_W3 = Work(
    "W3", "784-512-256-10 ReLU, softmax, Adam, batch 128", (784, 512, 256, 10), 128, 100, unit="ms",
    threads=(2,), check=20, seconds=1.5, product=(128, 784, 512),
)  # fmt: skip
_FILE = replace(_W3, unit="rows/s", gigabytes=0.4, steps=0, tolerance=2e-3, seconds=8.0)
_DEEP = (2, 4, 8, 16, 32, 64)

WORKS: tuple[Work, ...] = (
    Work("W1a", "one sample at a time, 3-1 ReLU", (3, 1), 1, 50_000, last="relu", bias=False, rate=0.01,
         per="sample", check=500, least=500, **_PLAIN),
    Work("W1b", "one sample at a time, 2-2-2-1 sigmoid", (2, 2, 2, 1), 1, 50_000, hidden="sigmoid",
         last="sigmoid", rate=0.5, per="sample", check=500, least=500, **_PLAIN),
    Work("W2", "32-64-64-10 ReLU, softmax, Adam, batch 32", (32, 64, 64, 10), 32, 2000, check=50, least=200),
    _W3,
    Work("W4", "1024-4096-4096-1024 ReLU, gradient descent, batch 1024", (1024, 4096, 4096, 1024), 1024, 2,
         rate=1e-5, unit="ms", threads=(2,), check=2, product=(1024, 4096, 4096), seconds=2.0, least=1,
         **_PLAIN),
    replace(_FILE, name="W5r", title="reading W3's batches from a file", kind="read", check=200, seconds=3.0),
    replace(_FILE, name="W5", title="training W3 from a file", kind="train", check=40),
    *(
        Work(f"W6/{d}", f"64 wide, {d} layers, ReLU, softmax, Adam, batch 32", (64,) * d + (10,), 32,
             max(64, 2048 // d), rate=1e-4, per="layer", check=8, tolerance=1e-2)
        for d in _DEEP
    ),
)  # fmt: skip


def _quick(work: Work) -> Work:
    """The same work with less of everything, to see in seconds that all of it runs."""
    small = {"W4": (64, 256, 256, 64)}.get(work.name, work.widths)
    batch = 64 if work.name == "W4" else work.batch
    return replace(
        work,
        widths=small,
        batch=batch,
        steps=min(work.steps, max(10, 500 // batch)),
        check=min(work.check, 5),
        seconds=0.02,
        least=2,
        gigabytes=work.gigabytes and 0.004,
        threads=(1,),
        product=(256, 256, 256),
    )


def find(wanted: str = "", *, quick: bool = False) -> list[Work]:
    """The works whose names begin with one of these, parted by commas; all of them without names.

    Raises:
        ValueError: a name that no work has.
    """
    words = [word for word in wanted.split(",") if word]
    for word in words:
        if not any(_named(work, word) for work in WORKS):
            msg = f"there is no work {word!r}; there are {', '.join(work.name for work in WORKS)}"
            raise ValueError(msg)
    found = [work for work in WORKS if not words or any(_named(work, word) for word in words)]
    return [_quick(work) for work in found if len(work.widths) < 8] if quick else found


def _named(work: Work, word: str) -> bool:
    rest = work.name.removeprefix(word)
    return rest != work.name and (rest in ("", "a", "b", "r") or rest.startswith("/"))


def sized(works: list[Work], gigabytes: float) -> list[Work]:
    """The works with their files of this size."""
    return [replace(work, gigabytes=gigabytes) if work.gigabytes else work for work in works]
