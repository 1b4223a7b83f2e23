"""What a run found, as plain data for JSON: times, ratios, shares of the limit, the machine."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import backprop_xp

from . import goals
from .contenders import CONTENDERS, by_name, installed, missing
from .engine import Entry, Race
from .works import Work

Found = dict[str, Any]


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median and the quartiles."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": median(values), "low": low, "high": high}


def ratio(ours: Sequence[float], rival: Sequence[float]) -> dict[str, float]:
    """The rival's time over ours, round by round."""
    return spread([b / a for a, b in zip(ours, rival, strict=True)])


def rate(work: Work, seconds: float) -> float:
    """GFLOP/s of the work's own matrix product."""
    m, k, n = work.product
    return 2 * m * k * n / seconds / 1e9


def of_race(race: Race) -> Found:
    """One work's part of the results."""
    work, entries = race.work, race.entries
    rates = {name: rate(work, median(e.products)) for name, e in entries.items() if e.products}
    limit = max(rates.values(), default=None)
    ours = [name for name in entries if by_name(name).family == "ours"]
    return {
        "name": work.name,
        "title": work.title,
        "unit": work.told_as,
        "rows": work.rows,
        "rows_made_per_second": race.rows_per_second,
        "limit_gflops": limit,
        "contenders": {
            name: _entry(work, e, race.megabytes.get(name), rates.get(name), limit)
            for name, e in entries.items()
        },
        "ratios": {
            a: {b: ratio(entries[a].seconds, entries[b].seconds) for b in entries if b != a} for a in ours
        },
        "failed": race.failed,
    }


def _entry(work: Work, e: Entry, megabytes: float | None, own: float | None, limit: float | None) -> Found:
    gflops = work.flops / median(e.seconds) / 1e9
    computes = work.kind != "read"
    return {
        "threads": e.threads,
        "steps": e.steps,
        "seconds": e.seconds,
        "busy_seconds": e.busy,
        "told": spread([work.told(s) for s in e.seconds]),
        "megabytes": megabytes,
        "gflops": gflops if computes else None,
        "product_gflops": own,
        "share_of_own_product": gflops / own if own and computes else None,
        "share_of_limit": gflops / limit if limit and computes else None,
    }


def of_run(races: Sequence[Race], *, rounds: int, quick: bool) -> Found:
    """The results of a whole run."""
    works = [of_race(race) for race in races]
    return {
        "quick": quick,
        "date": today(),
        "rounds": rounds,
        "machine": machine(),
        "versions": versions(),
        "missing": missing(),
        "works": works,
        "goals": goals.judge(works),
    }


def today() -> str:
    """The date, in UTC."""
    return datetime.now(UTC).date().isoformat()


def machine() -> Found:
    """The processor and what runs on it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((row.partition(":")[2].strip() for row in lines if row.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gigabytes": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Of Python, the library and whoever takes part."""
    names = sorted({"numpy", "threadpoolctl", *(name for each in CONTENDERS for name in each.needs)})
    told = {name: installed(name) for name in names}
    own = {"python": platform.python_version(), "backprop-xp": backprop_xp.__version__}
    return own | {name: v for name, v in told.items() if v}
