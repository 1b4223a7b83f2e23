"""What all contenders share: first weights, stored batches, a file. Their making is timed apart."""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import backprop_xp as bp

from .works import Work

_AT_ONCE = 8192  # rows that are made and written together

Blocks = list[tuple[Any, Any]]  # (w, b) of each layer, w in × out; b is None where there is none


@dataclass(frozen=True)
class Data:
    """What is stored for one work.

    Attributes:
        blocks: first weights, float32.
        x: inputs, shape (rows, features), float32; mapped from the disk.
        t: targets, shape (rows, units), float32, or labels (rows,), int32; mapped from the disk.
        folder: with x.npy and t.npy in it.
    """

    blocks: Blocks
    x: Any
    t: Any
    folder: Path

    def batches(self, work: Work) -> tuple[Any, Any]:
        """In memory, shape (batches, batch, …)."""
        shape = (work.batches, work.batch)
        x, t = np.array(self.x), np.array(self.t)
        return x.reshape(shape + x.shape[1:]), t.reshape(shape + t.shape[1:])


def make(work: Work, folder: Path) -> float:
    """Write first weights and rows of a teacher into the folder; the rows made in a second."""
    learner = work.learner()
    w, _ = learner.init(seed=1, backend="numpy")
    np.savez(folder / "weights.npz", **learner.weights(w))
    task = "classification" if work.labels else "regression"
    teacher = bp.Teacher(
        7, work.rows, work.widths[0], work.widths[-1], task=task, noise=0.1, dtype="float32", backend="numpy"
    )
    targets = () if work.labels else (work.widths[-1],)
    shapes = {"x": (work.rows, work.widths[0]), "t": (work.rows, *targets)}
    kinds = {"x": "float32", "t": "int32" if work.labels else "float32"}
    files = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kinds[name], shape)
        for name, shape in shapes.items()
    }
    spent = 0.0
    for start in range(0, work.rows, _AT_ONCE):
        stop = min(start + _AT_ONCE, work.rows)
        begin = perf_counter()
        x, t = teacher.rows(start, stop)
        spent += perf_counter() - begin
        files["x"][start:stop], files["t"][start:stop] = x, t
    return work.rows / spent


def load(work: Work, folder: Path) -> Data:
    """What `make` has written."""
    with np.load(folder / "weights.npz") as stored:
        named = dict(stored)
    blocks = [
        (named[f"dense{k}.w"], named.get(f"dense{k}.b")) for k in range(1, len(work.widths))
    ]  # fmt: skip
    x, t = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in "xt")
    return Data(blocks, x, t, folder)


class File:
    """Rows in two .npy files as a source for `bp.fit`: each window is mapped anew, memory stays small.

    Args:
        folder: with x.npy and t.npy in it.
        outputs: units of the net's output.
        window: rows mapped, and shuffled, together.
    """

    def __init__(self, folder: Path, outputs: int, window: int = 4096) -> None:
        self.folder = folder
        self.n, self.features = np.load(folder / "x.npy", mmap_mode="r").shape
        self.outputs, self.window = outputs, min(window, self.n)

    def rows(self, start: int, stop: int) -> tuple[Any, Any]:
        """The rows start, …, stop - 1, as views of the files."""
        x, t = (np.asarray(np.load(self.folder / f"{name}.npy", mmap_mode="r")[start:stop]) for name in "xt")
        return x, t
