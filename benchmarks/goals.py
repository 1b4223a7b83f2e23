"""The goals, as data, and whether the results of a run meet them."""

from statistics import median
from typing import Any, NamedTuple

from . import works

LEVELS = ("must", "goal", "stretch")
_AT_MOST = ("memory", "megabytes", "kernels", "microseconds")
_TORCH = ("torch eager", "torch fused", "torch compile")
_EAGER, _COMPILE, _GRAPH, _SCAN = ("torch eager",), ("torch compile",), ("torch graph",), ("jax scan",)
_FUSED, _JIT, _PLAIN, _LOADER = ("torch fused",), ("jax jit",), ("plain numpy",), ("torch DataLoader",)
_NUMPY, _JAX, _FILE = "ours numpy", "ours jax", "ours numpy file"
_NATIVE = "ours native"
_FIT, _SCANS, _SKLEARN = "ours numpy fit", ("ours numpy scans",), ("scikit-learn fit",)
_CUPY, _MANY, _OWN_EAGER = "ours cupy", "ours cupy 256 a graph", ("ours cupy eager",)


class Goal(NamedTuple):
    """One goal, at up to three levels.

    Attributes:
        work: the name of a work, or the stem of several; "all" for a run on a GPU as a whole.
        ours: the contender of ours that is judged.
        measure: what is compared:
            'times': how many times as fast as the fastest rival;
            'product': share of its own matrix product;
            'limit': share of the work's limit (see `limits`);
            'memory': share of the memory of the rival that needs least;
            'megabytes', 'kernels' (of a step), 'microseconds' (of a step);
            'bitwise': share of the tests of replays that passed;
            'no dW': no array for the gradient of the weights; it is checked in the code, not measured.
        rivals: the contenders it is compared with, where they took part.
        must: the lowest acceptable value; for the measures in `_AT_MOST` the highest.
        goal: a better value.
        stretch: a better one still.
    """

    work: str
    ours: str
    measure: str
    rivals: tuple[str, ...] = ()
    must: float | None = None
    goal: float | None = None
    stretch: float | None = None


GOALS: tuple[Goal, ...] = (
    Goal("W0", _FIT, "times", _SCANS, must=0.5),
    Goal("W0/300", _FIT, "times", _SKLEARN, must=2, goal=4, stretch=10),
    Goal("W0/1347", _FIT, "times", _SKLEARN, must=1.3, goal=4, stretch=10),
    Goal("W0/10000", _FIT, "times", _SKLEARN, must=2, goal=4, stretch=10),
    Goal("W0/300", f"{_NATIVE} fit", "times", _SKLEARN, goal=4, stretch=10),
    Goal("W0/1347", f"{_NATIVE} fit", "times", _SKLEARN, goal=4, stretch=10),
    Goal("W0/10000", f"{_NATIVE} fit", "times", _SKLEARN, goal=4, stretch=10),
    Goal("W1a", _NATIVE, "times", _SCAN, must=1.3, goal=1.5, stretch=2),
    Goal("W1b", _NATIVE, "times", _SCAN, must=1.1, goal=1.2, stretch=2),
    Goal("W1", _NUMPY, "times", _PLAIN, must=2.5, goal=25),
    Goal("W1", _NUMPY, "times", _EAGER, goal=150),
    Goal("W1", _JAX, "times", _SCAN, must=0.95),
    Goal("W2", _NATIVE, "times", _SCAN, must=2.2, goal=2.5, stretch=3),
    Goal("W2", _NATIVE, "times", _TORCH, must=18, goal=23),
    Goal("W2", _NUMPY, "times", _TORCH, must=5, goal=6.5),
    Goal("W2", _NUMPY, "times", _PLAIN, must=1.8),
    Goal("W2", _NUMPY, "times", _JIT, goal=1, stretch=1.5),
    Goal("W2", _JAX, "times", _SCAN, goal=1),
    Goal("W2", _JAX, "times", _TORCH, goal=15),
    Goal("W3", _NATIVE, "times", _SCAN, must=1.08, goal=1.12, stretch=1.2),
    Goal("W3", _NATIVE, "times", _FUSED, must=2, goal=2.3),
    Goal("W3", _NUMPY, "times", _FUSED, must=0.8),
    Goal("W3", _JAX, "times", _FUSED, must=1.2, goal=1.28),
    Goal("W3", "ours torch", "times", _FUSED, must=1),
    Goal("W4", _NUMPY, "product", must=0.90, goal=0.95, stretch=0.98),
    Goal("W4", _NUMPY, "memory", _TORCH, must=0.55),
    Goal("W5r", "ours read", "times", ("torch DataLoader read",), must=15),
    Goal("W5", _FILE, "times", _LOADER, must=1.25),
    Goal("W5", _FILE, "times", ("ours numpy in memory",), goal=0.95, stretch=0.99),
    Goal("W5", _FILE, "megabytes", must=100),
    Goal("W6", _NATIVE, "times", _SCAN, must=1.5, goal=1.8, stretch=2),
    Goal("W6", _NATIVE, "times", _TORCH, must=8, goal=10),
    Goal("W6", _NUMPY, "times", _TORCH, must=4, goal=5),
    Goal("W6", _NUMPY, "times", _PLAIN, must=1.4),
    Goal("W6", _NUMPY, "times", _JIT, goal=1, stretch=1.3),
    Goal("G1", _CUPY, "times", _OWN_EAGER, must=5, goal=10),
    Goal("G1", _CUPY, "times", _EAGER, must=4),
    Goal("G1", _CUPY, "times", _GRAPH, goal=1.5, stretch=3),
    Goal("G1", _CUPY, "times", _SCAN, goal=1.5),
    Goal("G1", _CUPY, "kernels", goal=15),
    Goal("G1", _CUPY, "microseconds", goal=35, stretch=12),
    Goal("G2", _CUPY, "times", _OWN_EAGER, must=4, goal=8),
    Goal("G2", _CUPY, "times", _EAGER, must=3),
    Goal("G2", _CUPY, "times", _COMPILE, goal=1.2),
    Goal("G2", _CUPY, "kernels", goal=12),
    Goal("G2", _CUPY, "microseconds", goal=40, stretch=25),
    Goal("G2'", _CUPY, "times", _COMPILE, must=1),
    Goal("G2'", _CUPY, "microseconds", goal=76, stretch=57),  # twice, and one and a half times, the floor
    Goal("G3", _CUPY, "times", _COMPILE, must=0.97, stretch=1.03),
    Goal("G3", _CUPY, "times", _EAGER, goal=1.15),
    Goal("G3/tf32", _CUPY, "limit", must=0.70, goal=0.80, stretch=0.86),
    Goal("G3/bf16", _CUPY, "limit", must=0.60, goal=0.72, stretch=0.80),
    Goal("G3d", _CUPY, "times", _COMPILE, must=0.97, stretch=1.03),
    Goal("G3d", _CUPY, "times", _EAGER, goal=1.15),
    Goal("G3d/tf32", _CUPY, "limit", must=0.70, goal=0.80, stretch=0.86),
    Goal("G3d/bf16", _CUPY, "limit", must=0.60, goal=0.72, stretch=0.80),
    Goal("G4", _MANY, "times", _OWN_EAGER, must=5),
    Goal("G4", _MANY, "times", _EAGER, must=5),
    Goal("G4", _MANY, "times", _PLAIN, goal=2, stretch=10),
    Goal("G4", _MANY, "microseconds", stretch=4),
    Goal("G4'", _CUPY, "no dW", must=1),
    Goal("G4'", _CUPY, "limit", goal=0.60, stretch=0.80),  # the stretch is the same share of three passes
    Goal("G5", _CUPY, "limit", must=0.85, goal=0.92, stretch=0.97),
    Goal("G5u8", _CUPY, "limit", must=0.85, goal=0.92, stretch=0.97),
    Goal("all", _CUPY, "bitwise", must=1),
)

Judged = dict[str, Any]


def judge(measured: list[dict[str, Any]], tests: dict[str, Any], device: str) -> list[Judged]:
    """Every goal for every work of a device: the value found, and whether it meets the goal.

    Both are None where nothing was measured.
    """
    there = {work["name"]: work for work in measured}
    judged = [
        _judged(goal, level, work.name, there.get(work.name))
        for work in works.find("", device)
        for level in LEVELS
        for goal in GOALS
        if goal.work in (work.name, work.stem) and getattr(goal, level) is not None
    ]
    whole = [goal for goal in GOALS if goal.work == "all" and device == "cuda"]
    return judged + [_judged(goal, "must", "all", tests) for goal in whole]


def _judged(goal: Goal, level: str, name: str, measured: dict[str, Any] | None) -> Judged:
    found, rival = compared(goal, measured) if measured else (None, "")
    value = getattr(goal, level)
    met = None if found is None else found <= value if goal.measure in _AT_MOST else found >= value
    return {"work": name, "level": level, "ours": goal.ours, "measure": goal.measure, "value": value,
            "rivals": goal.rivals, "rival": rival, "found": found, "met": met}  # fmt: skip


def compared(goal: Goal, work: dict[str, Any]) -> tuple[float | None, str]:
    """The measured value and the rival it refers to; None if our contender or all rivals took no part."""
    if goal.measure == "bitwise":
        ran = [kind for kind in work["replay"] if kind != "skipped"]
        return (ran.count("passed") / len(ran) if ran else None), ""
    all_of = work["contenders"]
    ours = all_of.get(goal.ours)
    there = [name for name in goal.rivals if name in all_of]
    if ours is None or (goal.rivals and not there):
        return None, ""
    if goal.measure == "times":
        ratios = work["ratios"][goal.ours]
        rival = min(there, key=lambda name: ratios[name]["median"])
        return ratios[rival]["median"], rival
    if goal.measure == "memory":
        rival = min(there, key=lambda name: all_of[name]["megabytes"])
        return ours["megabytes"] / all_of[rival]["megabytes"], rival
    if goal.measure == "microseconds":
        return median(ours["seconds"]) * 1e6, ""
    stored = {"product": "share_of_own_product", "limit": "share_of_limit"}.get(goal.measure, goal.measure)
    return ours.get(stored), ""


def told(goal: Judged) -> str:
    """A judged goal in words, without the result."""
    rivals = goal["rival"] or " / ".join(goal["rivals"])
    words = {
        "times": f"{goal['value']:g} × {rivals}",
        "product": f"{goal['value']:g} of its own matrix product",
        "limit": f"{goal['value']:g} of the limit",
        "memory": f"{goal['value']:g} of the memory of {rivals}",
        "megabytes": f"{goal['value']:g} MB at most",
        "kernels": f"{goal['value']:g} kernels a step at most",
        "microseconds": f"{goal['value']:g} µs a step at most",
        "bitwise": "all replays equal bit for bit",
        "no dW": "no array for the gradient of the weights",
    }
    return f"{goal['ours']}: {words[goal['measure']]}"


def verdict(goal: Judged) -> str:
    """Whether a goal is met, or by how much it is missed."""
    if goal["met"] is None:
        return "not measured"
    found = f"{goal['found']:.3g}"
    if goal["met"]:
        return f"met: {found}"
    far = goal["found"] / goal["value"]
    return f"missed: {found}, {abs(far - 1):.0%} {'over' if far > 1 else 'short'}"
