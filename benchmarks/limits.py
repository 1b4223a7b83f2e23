"""The machine's ceilings, such as its bandwidth, and the shortest time that a step could take under them."""

import json
from typing import Any

from .processes import program
from .works import Work

Ceilings = dict[str, Any]


def measure(memory: float, seconds: float, device: str) -> Ceilings:
    """Measure the ceilings of the machine; also return versions, and what failed.

    Args:
        memory: the size of the GPU's memory in bytes.
        seconds: how long it may take.
        device: 'cuda'; 'cpu' only to check that this runs.
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
    """The shortest time that a step can take at the limit of its work; None if that was not measured.

    A 'product' work is bound by its matrix products, a 'weights' work by four passes over the weights at
    the speed of a copy, a 'stream' work by the slower of the bus and the step on rows on the GPU.

    Args:
        work: the work.
        best: the measured ceilings.
        own: the best rate of a matrix product among the contenders of this work, FLOP/s; used where no
            ceiling was measured.
        resident: the seconds of the library's step on rows that are already on the GPU.
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
