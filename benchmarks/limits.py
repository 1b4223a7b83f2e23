"""The machine's ceilings, and the least time that a step of a work could take under them."""

import json
from typing import Any

from .processes import program
from .works import Work

Ceilings = dict[str, Any]


def measure(memory: float, seconds: float, device: str) -> Ceilings:
    """Measure the ceilings of the machine; with versions, and what failed.

    Args:
        memory: bytes of the GPU's memory.
        seconds: how long it may take.
        device: 'cuda'; 'cpu' to try whether this works.
    """
    n = 256 if device == "cpu" else 8192 if memory > 6e9 else 4096
    size = 1 << 22 if device == "cpu" else int(min(4e9, memory / 4))
    status, out, err = program(["-m", f"{__package__}.probes", device, str(n), str(size)], seconds, device)
    found: Ceilings = {"n": n, "copied_bytes": size, "best": {}, "failed": {}, "versions": {}}
    for each in (json.loads(line) for line in out.splitlines() if line.startswith("{")):
        name, version = each["name"], each["name"].startswith("version ")
        if "failed" in each:
            found["failed"][name] = each["failed"]
        else:
            found["versions" if version else "best"][name.removeprefix("version ")] = each["value"]
    if status != 0:
        last = (err.strip().splitlines() or ["it printed nothing"])[-1]
        found["failed"]["the rest"] = "ended: its time is spent" if status is None else last
    return found


def least_seconds(
    work: Work, best: dict[str, float], own: float | None, resident: float | None
) -> float | None:
    """The time of a step at the limit of its work; None where the limit was not measured.

    A 'product' work is bound by its matrix products, a 'weights' work by four passes over the weights at
    the speed of a copy, a 'stream' work by the slower of the bus and the step on rows on the GPU.

    Args:
        work: the work.
        best: the ceilings.
        own: the best rate of matrix products among the contenders of this work, FLOP/s; used where
            there is no ceiling.
        resident: seconds of the library's step on rows that are on the GPU already.
    """
    if work.limit == "product":
        rate = best.get(work.precision, own)
        return work.flops / rate if rate else None
    if work.limit == "weights" and "copy" in best:
        weights = sum((m + 1) * n for m, n in zip(work.widths, work.widths[1:], strict=False))
        return 4 * 4 * weights / best["copy"]
    if work.limit == "stream" and "h2d" in best and resident:
        row = work.widths[0] * (1 if work.source == "uint8" else 4) + 4
        return max(work.batch * row / best["h2d"], resident)
    return None
