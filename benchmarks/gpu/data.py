"""Random weights and rows of a work: timing asks for no better ones, and large works for quick ones."""

from pathlib import Path
from typing import Any

import numpy as np

from ..works import Work


def make(work: Work, folder: Path) -> None:
    """Write weights.npz, x.npy and t.npy, as `benchmarks.data.load` reads them."""
    draw = np.random.default_rng(7)
    blocks: dict[str, Any] = {}
    for k, (m, n) in enumerate(zip(work.widths, work.widths[1:], strict=False), 1):
        blocks[f"dense{k}.w"] = (draw.random((m, n), dtype="float32") - np.float32(0.5)) * np.float32(
            2 * (3 / m) ** 0.5
        )
        blocks[f"dense{k}.b"] = np.zeros(n, dtype="float32")
    np.savez(folder / "weights.npz", **blocks)
    shape = (work.rows, work.widths[0])
    if work.source == "uint8":
        np.save(folder / "x.npy", draw.integers(0, 256, shape, dtype="uint8"))
    else:
        np.save(folder / "x.npy", draw.random(shape, dtype="float32"))
    units = work.widths[-1]
    if work.labels:
        np.save(folder / "t.npy", draw.integers(0, units, work.rows, dtype="int32"))
    else:
        np.save(folder / "t.npy", draw.random((work.rows, units), dtype="float32"))
