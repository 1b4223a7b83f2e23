"""The data that all contenders share: first weights, and rows in files, which most works read into memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .works import Work

_AT_ONCE = 8192  # how many rows are drawn and written together

Blocks = list[tuple[Any, Any]]  # (w, b) of each layer, w in × out; b is None where there is none


@dataclass(frozen=True)
class Data:
    """The stored data of one work.

    Attributes:
        blocks: the first weights, float32.
        x: inputs, shape (rows, features), float32 or uint8; mapped from the disk.
        t: targets, shape (rows, units), float32, or labels (rows,), int32; mapped from the disk.
        folder: where x.npy and t.npy are.
    """

    blocks: Blocks
    x: Any
    t: Any
    folder: Path

    def batches(self, work: Work) -> tuple[Any, Any]:
        """Inputs and targets in memory, shape (batches, batch, …)."""
        shape = (work.batches, work.batch)
        x, t = np.array(self.x), np.array(self.t)
        return x.reshape(shape + x.shape[1:]), t.reshape(shape + t.shape[1:])


def make(work: Work, folder: Path) -> None:
    """Draw random weights and rows, good enough for timing, and write them to the folder."""
    draw = np.random.default_rng(7)
    weights: dict[str, Any] = {}
    for k, (m, n) in enumerate(zip(work.widths, work.widths[1:], strict=False), 1):
        weights[f"w{k}"] = draw.standard_normal((m, n), dtype="float32") * np.float32((2 / m) ** 0.5)
        if work.bias:
            weights[f"b{k}"] = np.zeros(n, dtype="float32")
    np.savez(folder / "weights.npz", **weights)
    features, units = work.widths[0], work.widths[-1]
    write = np.lib.format.open_memmap
    x = write(folder / "x.npy", "w+", work.source, (work.rows, features))
    kind, shape = ("int32", (work.rows,)) if work.labels else ("float32", (work.rows, units))
    t = write(folder / "t.npy", "w+", kind, shape)
    for start in range(0, work.rows, _AT_ONCE):
        part = slice(start, min(start + _AT_ONCE, work.rows))
        n = part.stop - start
        if work.source == "uint8":
            x[part] = draw.integers(0, 256, (n, features), dtype="uint8")
        else:
            x[part] = draw.standard_normal((n, features), dtype="float32")
        t[part] = draw.integers(0, units, n) if work.labels else draw.random((n, units), dtype="float32")


def mapped(folder: Path) -> tuple[Any, Any]:
    """Inputs and targets of a folder, mapped anew, so that memory of an earlier map can be freed."""
    x, t = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in "xt")
    return x, t


def load(work: Work, folder: Path) -> Data:
    """Read what `make` wrote."""
    with np.load(folder / "weights.npz") as stored:
        blocks = [(stored[f"w{k}"], stored.get(f"b{k}")) for k in range(1, len(work.widths))]
    return Data(blocks, *mapped(folder), folder)
