"""The works, as data: a net, a loss, an update rule, batches, a device, and the unit of times."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import backprop_xp as bp

SCALES = {"s": 1.0, "ms": 1e3, "µs": 1e6}
_MOST_ON_A_GPU = 16384  # steps of a round, which meets the stored batches again and again
DROPOUT, NORM, DECAY = 0.1, 1.0, 0.01  # of works that are `regular`
_MOST_EPOCHS = 500  # of a round: far beyond, gradients are denormal numbers, and those are slow


@dataclass(frozen=True)
class Work:
    """A training that every contender does in the same way.

    Attributes:
        name: such as "W2".
        title: a description for tables.
        widths: units from the input to the output.
        batch: rows per step.
        steps: stored batches; for files and tables they follow from `gigabytes` and `table`.
        device: 'cpu' or 'cuda'.
        kind: where batches come from: 'steps' (stored on the device), 'stream' (stored on the host),
            'train' (a file), 'read' (a file, which is read and nothing else), or 'epochs' (a table,
            shuffled in every epoch; only the check takes the rows in their own order).
        hidden: the activation of all layers but the last: 'relu' or 'sigmoid'.
        last: the activation of the last layer, as the loss is given it.
        bias: whether the layers have one.
        loss: 'softmax_cross_entropy' (integer labels) or 'half_squared_error' (numbers).
        update: 'adam' or 'gradient_descent'.
        rate: its learning rate.
        unit: of reported times: 's', 'ms' or 'µs', or 'rows/s'.
        per: what a reported time is the time of: 'step', 'sample', 'layer' or 'epoch'.
        threads: numbers of threads to try; the fastest is kept.
        check: how many steps' losses are compared with the reference.
        tolerance: the largest difference allowed, as a share of the mean loss.
        least: the fewest steps of a round.
        seconds: about how long a round takes; the number of its steps follows.
        gigabytes: size of the file.
        table: its rows, where a step of the suite is a whole epoch; the last batch may be short.
        precision: of products of float32 matrices: 'float32', 'tf32' or 'bfloat16'.
        source: dtype of the stored inputs: 'float32', or 'uint8' for the numbers 0/255, 1/255, …, 1.
        regular: with what keeps nets from overfitting: AdamW, whose decay leaves biases out, the gradient
            clipped by its norm, dropout after each hidden layer, and a weight for each row. The check
            leaves dropout out, whose masks are each library's own.
        limit: what bounds the speed: 'product', 'weights' or 'stream' (see `limits`); '' for nothing.
        product: (m, k, n) of the matrix product with which contenders measure the processor's limit.
    """

    name: str
    title: str
    widths: tuple[int, ...]
    batch: int
    steps: int
    device: str = "cpu"
    kind: str = "steps"
    hidden: str = "relu"
    last: str = "identity"
    bias: bool = True
    loss: str = "softmax_cross_entropy"
    update: str = "adam"
    rate: float = 1e-3
    unit: str = "µs"
    per: str = "step"
    threads: tuple[int, ...] = (1, 2)
    check: int = 30
    tolerance: float = 1e-3
    least: int = 20
    seconds: float = 1.0
    gigabytes: float = 0.0
    table: int = 0
    precision: str = "float32"
    source: str = "float32"
    regular: bool = False
    limit: str = "product"
    product: tuple[int, int, int] | None = (1024, 1024, 1024)

    @property
    def stem(self) -> str:
        """The name of works of one kind: W1 of W1a and W1b, W6 of all that begin with W6/."""
        return self.name.partition("/")[0].rstrip("ab")

    @property
    def labels(self) -> bool:
        """Whether the targets are integer labels."""
        return self.loss == "softmax_cross_entropy"

    @property
    def activations(self) -> tuple[str, ...]:
        """The activation of each layer."""
        return (self.hidden,) * (len(self.widths) - 2) + (self.last,)

    @property
    def batches(self) -> int:
        """Batches there are, in memory or in the file; of a table, those of an epoch."""
        if self.table:
            return -(-self.table // self.batch)
        row = 4 * self.widths[0]
        return int(self.gigabytes * 1e9 / row) // self.batch if self.gigabytes else self.steps

    @property
    def rows(self) -> int:
        """Rows of data."""
        return self.table or self.batches * self.batch

    @property
    def most(self) -> int:
        """The most steps of a round."""
        if self.table:
            return _MOST_EPOCHS
        return self.batches if self.device == "cpu" else _MOST_ON_A_GPU

    @property
    def shares(self) -> Any:
        """The share of each batch in the rows of an epoch, and so of its loss in the epoch's mean loss."""
        starts = np.arange(0, self.rows, self.batch)
        return np.minimum(self.batch, self.rows - starts) / self.rows

    @property
    def flops(self) -> int:
        """Operations in the matrix products of a step: forward, ∂E/∂w, and ∂E/∂x except for the input."""
        pairs = [a * b for a, b in zip(self.widths, self.widths[1:], strict=False)]
        return 2 * (self.table or self.batch) * (3 * sum(pairs) - pairs[0])

    @property
    def told_as(self) -> str:
        """The unit as tables have it, such as 'µs/step'."""
        return self.unit if self.unit == "rows/s" else f"{self.unit}/{self.per}"

    def told(self, seconds: float) -> float:
        """Seconds per step, converted to the unit of this work."""
        if self.unit == "rows/s":
            return self.batch / seconds
        divisor = {"sample": self.batch, "layer": len(self.widths) - 1}.get(self.per, 1)
        return seconds * SCALES[self.unit] / divisor

    def factors(self) -> list[Any]:
        """Two matrices for `product`."""
        assert self.product
        rng = np.random.default_rng(0)
        return [rng.random(shape, dtype="float32") for shape in (self.product[:2], self.product[1:])]

    @property
    def row_weights(self) -> Any:
        """A weight for each row of data, 0.5 to 1.5."""
        return (0.5 + np.arange(self.rows) % 11 / 10).astype("float32")

    def learner(self, dropout: bool = True) -> bp.Learner:
        """The library's learner for this work."""
        relu = bp.activations.ReLU(">") if self.device == "cuda" else bp.relu  # the rivals' derivative
        known = {"relu": relu, "sigmoid": bp.sigmoid, "identity": bp.activations.identity}
        layers: list[Any] = []
        for k, (units, f) in enumerate(zip(self.widths[1:], self.activations, strict=True)):
            layers += [bp.layers.Dropout(DROPOUT)] if self.regular and dropout and k else []
            layers.append(bp.Dense(units, known[f], self.bias))
        loss = getattr(bp.losses, self.loss)
        if self.regular:
            update = {
                "*.b": bp.updates.AdamW(self.rate, decay=0),
                "*": bp.updates.AdamW(self.rate, decay=DECAY),
            }
            clip = bp.updates.ClipByNorm(NORM)
            return bp.Learner(bp.chain(self.widths[0], *layers), loss, update, clip=clip)
        rule = {"adam": bp.Adam, "gradient_descent": bp.GradientDescent}[self.update](self.rate)
        return bp.Learner(bp.chain(self.widths[0], *layers), loss, rule)


_DESCENT: dict[str, Any] = {"loss": "half_squared_error", "update": "gradient_descent"}
_MEDIUM, _LARGE = (784, 512, 256, 10), (1024, 4096, 4096, 1024)
_W2 = Work("W2", "32-64-64-10 ReLU, softmax, Adam, batch 32", (32, 64, 64, 10), 32, 2000, check=50, least=200)
_W3 = Work("W3", "784-512-256-10 ReLU, softmax, Adam, batch 128", _MEDIUM, 128, 100, unit="ms", threads=(2,),
           check=20, seconds=1.5, product=(128, 784, 512))  # fmt: skip
_FILE = replace(_W3, unit="rows/s", gigabytes=0.4, steps=0, tolerance=2e-3, seconds=8.0)

_GPU: dict[str, Any] = {"device": "cuda", "threads": (4,), "seconds": 0.3, "product": None, "check": 20}
_G2 = Work("G2", "784-512-256-10 ReLU, softmax, Adam, batch 128", _MEDIUM, 128, 64, **_GPU)
_G5 = replace(_G2, name="G5", title="784-512-256-10, batch 4096, float32 from the host", batch=4096, steps=32,
              check=32, least=32, kind="stream", limit="stream")  # fmt: skip
_G3 = Work("G3/tf32", "1024-4096-4096-1024 ReLU, Adam, batch 8192, tf32", _LARGE, 8192, 4, unit="ms",
           loss="half_squared_error", rate=1e-5, least=3, precision="tf32", tolerance=2e-3,
           **_GPU | {"check": 3})  # fmt: skip
_G3D = replace(_G3, name="G3d/tf32", title="8 layers of 4096, Adam, batch 16384, tf32", widths=(4096,) * 9,
               batch=16384, steps=2, check=2, least=2, tolerance=5e-3)  # fmt: skip
_BF16: dict[str, Any] = {"precision": "bfloat16", "tolerance": 2e-2}

WORKS: tuple[Work, ...] = (
    *(
        Work(f"W0/{rows}", f"epochs of {rows:,} rows, {features}-100-10 ReLU, softmax, Adam, batch {batch}",
             (features, 100, 10), batch, 0, kind="epochs", per="epoch", table=rows, check=10)
        for rows, features, batch in ((300, 20, 100), (1347, 64, 200), (10_000, 64, 200))
    ),
    Work("W1a", "one sample at a time, 3-1 ReLU", (3, 1), 1, 50_000, last="relu", bias=False, rate=0.01,
         per="sample", check=500, least=500, **_DESCENT),
    Work("W1b", "one sample at a time, 2-2-2-1 sigmoid", (2, 2, 2, 1), 1, 50_000, hidden="sigmoid",
         last="sigmoid", rate=0.5, per="sample", check=500, least=500, **_DESCENT),
    _W2,
    _W3,
    replace(_W3, name="W3/1", title=f"{_W3.title}, one thread", threads=(1,)),
    replace(_W2, name="W9/2", title="W2 with AdamW, clipping, dropout and sample weights", regular=True),
    replace(_W3, name="W9/3", title="W3 with AdamW, clipping, dropout and sample weights", regular=True),
    Work("W4", "1024-4096-4096-1024 ReLU, gradient descent, batch 1024", _LARGE, 1024, 2, rate=1e-5,
         unit="ms", threads=(2,), check=2, product=(1024, 4096, 4096), seconds=2.0, least=1, **_DESCENT),
    replace(_FILE, name="W5r", title="reading W3's batches from a file", kind="read", check=200, seconds=3.0,
            limit="", product=None),
    replace(_FILE, name="W5", title="training W3 from a file", kind="train", check=40),
    *(
        Work(f"W6/{depth}", f"64 wide, {depth} layers, ReLU, softmax, Adam, batch 32", (64,) * depth + (10,),
             32, max(64, 2048 // depth), rate=1e-4, per="layer", check=8, tolerance=1e-2)
        for depth in (2, 4, 8, 16, 32, 64)
    ),
    # on a GPU the most important works come first, in case time runs out
    Work("G1", "64 wide, 4 layers, ReLU, softmax, Adam, batch 256", (64,) * 5, 256, 64, **_GPU),
    _G2,
    Work("G4", "one sample at a time, 784-30-10, gradient descent", (784, 30, 10), 1, 2048,
         update="gradient_descent", rate=0.01, least=64, limit="weights", **_GPU | {"check": 64}),
    _G3,
    replace(_G2, name="G2'", title="784-512-256-10, batch 4096, tf32", batch=4096, steps=8,
            precision="tf32", tolerance=2e-3),
    _G5,
    replace(_G5, name="G5u8", title="784-512-256-10, batch 4096, uint8 from the host", source="uint8"),
    replace(_G3, name="G3/bf16", title="1024-4096-4096-1024, batch 8192, bfloat16", **_BF16),
    Work("G4'", "1024-4096-4096-1024, gradient descent, batch 1", _LARGE, 1, 64, rate=1e-5, least=8,
         limit="weights", **_DESCENT, **_GPU | {"check": 8}),
    _G3D,
    replace(_G3D, name="G3d/bf16", title="8 layers of 4096, batch 16384, bfloat16", **_BF16),
)  # fmt: skip


def quick(work: Work) -> Work:
    """The same work on the processor with less of everything, to check within seconds that it runs."""
    batch = min(work.batch, 64)
    return replace(
        work,
        device="cpu",
        precision="float32",
        widths=tuple(min(units, 64) for units in work.widths),
        batch=batch,
        steps=min(work.steps, max(10, 500 // batch)),
        check=min(work.check, 5),
        seconds=0.02,
        least=2,
        gigabytes=work.gigabytes and 0.004,
        table=min(work.table, 300),
        threads=(1,),
        product=work.product and (256, 256, 256),
    )


def find(words: str = "", device: str = "cpu") -> list[Work]:
    """The works of a device by their names, separated by commas; without names all of them.

    A name may be a stem, such as W6; W5 includes W5r.

    Raises:
        ValueError: there is no work of that name.
    """
    there = [work for work in WORKS if work.device == device]
    names = {work: {work.name, work.stem, work.stem.removesuffix("r")} for work in there}
    wanted = {word for word in words.split(",") if word}
    if unknown := wanted.difference(*names.values()):
        msg = f"there is no work {min(unknown)!r} on {device}; there are {', '.join(w.name for w in there)}"
        raise ValueError(msg)
    return [work for work in there if not wanted or names[work] & wanted]
