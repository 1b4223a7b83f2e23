"""The results of a run, as plain data for JSON: times, ratios, shares of the limit, the machine."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from . import limits
from .contenders import family
from .processes import ROOT
from .race import Entry, Race
from .works import Work

Found = dict[str, Any]


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median and the quartiles."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": median(values), "low": low, "high": high}


def ratio(ours: Sequence[float], rival: Sequence[float]) -> dict[str, float]:
    """The rival's time over ours, round by round."""
    return spread([b / a for a, b in zip(ours, rival, strict=True)])


def of_race(race: Race, best: dict[str, float]) -> Found:
    """One work's part of the results.

    Args:
        race: a race that was run.
        best: the ceilings of the machine, where they were measured.
    """
    work, entries = race.work, race.entries
    rates = {name: _rate(work, entry) for name, entry in entries.items() if entry.products}
    own, resident = max(rates.values(), default=None), entries.get("ours cupy resident")
    least = limits.least_seconds(work, best, own, median(resident.seconds) if resident else None)
    ours = [name for name in entries if family(name) == "ours"]
    return {
        "name": work.name,
        "title": work.title,
        "unit": work.told_as,
        "rows": work.rows,
        "precision": work.precision,
        "limit": work.limit,
        "limit_gflops": work.flops / least / 1e9 if least and work.limit == "product" else None,
        "reference": race.reference,
        "contenders": {name: _entry(work, e, rates.get(name), least) for name, e in entries.items()},
        "ratios": {
            a: {b: ratio(entries[a].seconds, entries[b].seconds) for b in entries if b != a} for a in ours
        },
        "failed": race.failed,
    }


def _rate(work: Work, entry: Entry) -> float:
    """FLOP/s in a contender's matrix product."""
    m, k, n = work.product or (0, 0, 0)
    return 2 * m * k * n / median(entry.products)


def _entry(work: Work, entry: Entry, product: float | None, least: float | None) -> Found:
    seconds = median(entry.seconds)
    rate = None if work.kind == "read" else work.flops / seconds
    return {
        "threads": entry.threads,
        "steps": entry.steps,
        "seconds": entry.seconds,
        "told": spread([work.told(s) for s in entry.seconds]),
        "gflops": rate and rate / 1e9,
        "product_gflops": product and product / 1e9,
        "share_of_own_product": rate / product if rate and product else None,
        "share_of_limit": least and least / seconds,
        **entry.facts,
    }


def write(found: Found, path: Path) -> None:
    """Write the JSON, without paths of this machine, to a new file that then replaces the old one."""
    text = json.dumps(found, indent=1).replace(str(ROOT), ".")
    partly = path.with_suffix(".partly")
    partly.write_text(text + "\n", encoding="utf-8")
    partly.replace(path)


def read(path: Path) -> Found:
    """Read the JSON of a run; fields that the earliest runs lack are filled in.

    Raises:
        ValueError: the file does not hold the results of a run.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not {"works", "machine", "quick"} <= found.keys():
        msg = f"{path.name} does not hold the results of a run: give a JSON of benchmarks/results"
        raise ValueError(msg)
    return {"device": "cpu", "gpu": {}, "ceilings": {}, "tests": {}, "failed": {}} | found
