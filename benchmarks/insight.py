"""The time of insight compared with a step: counts, votes, agreement, shares; 784-512-256-10, batch 128.

    python -m benchmarks.insight

Each is timed in interleaved rounds with the compiled step; the medians go to benchmarks/results/insight.
"""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import backprop_xp as bp

from . import machine

ROUNDS = 15
FOLDER = Path(__file__).parent / "results" / "insight"


def main() -> None:
    """Time, print a table, and write it as JSON."""
    learner = bp.Learner(bp.chain(784, bp.Dense(512, bp.relu), bp.Dense(256, bp.relu), bp.Dense(10)),
                         bp.softmax_cross_entropy, bp.Adam(1e-3))  # fmt: skip
    w, s = learner.init()
    draw = np.random.default_rng(0)
    x, t = draw.random((128, 784), dtype="float32"), draw.integers(0, 10, 128, dtype="int32")
    after, *_ = learner.step(*learner.snapshot(w, s), x, t)
    step, state = learner.compile(w), [*learner.snapshot(w, s)]

    def stepped() -> None:
        state[:] = step(*state, x, t)[:2]

    measures: dict[str, Callable[[], Any]] = {
        "a compiled step": stepped,
        "a trace": lambda: bp.trace(learner, w, s, x, t),
        "flow (situation counts)": lambda: bp.insight.flow(learner, w, s, x, t),
        "votes": lambda: bp.insight.votes(learner, w, s, x, t),
        "agreement": lambda: bp.insight.agreement(learner, w, s, x, t),
        "shares": lambda: bp.insight.shares(learner, w, after, s, x, t),
        "health": lambda: bp.insight.health(learner, w, s, x, t),
    }
    found: dict[str, list[float]] = {name: [] for name in measures}
    for k in range(ROUNDS + 1):  # the first one warms up
        for name, measure in measures.items():
            begin = perf_counter()
            measure()
            if k:
                found[name].append(perf_counter() - begin)
    unit = median(found["a compiled step"])
    for name, seconds in found.items():
        print(f"{name:26} {median(seconds) * 1e3:7.2f} ms  {median(seconds) / unit:5.1f} steps")
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{machine.today()}.json"
    told = {
        "date": machine.today(),
        "machine": machine.host(),
        "versions": machine.versions(),
        "seconds": found,
    }
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
