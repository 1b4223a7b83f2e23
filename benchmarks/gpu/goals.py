"""The goals on a GPU, as data, and whether a run meets them."""

from typing import Any

from ..goals import Goal
from ..works import Work

AT_MOST = ("kernels", "microseconds")
_UNITS = {
    "times": "×",
    "kernels": "kernels a step at most",
    "microseconds": "µs a step at most",
    "product": "of the run's own product rate",
    "weights": "of the copy bandwidth, for four passes over the weights",
    "stream": "of min(pinned H2D, the same on the GPU)",
    "bitwise": "of the replays equal bit for bit",
    "no dW": "no array for the gradient of the weights",
}
_OURS, _MANY = "ours cupy", "ours cupy 256 a graph"
_EAGER, _TORCH, _COMPILE = ("ours cupy eager",), ("torch eager gpu",), ("torch compile gpu",)
_GRAPH, _SCAN, _NUMPY = ("torch graph gpu",), ("jax scan gpu",), ("plain numpy host",)


def _large(work: str, must: float, goal: float, stretch: float) -> tuple[Goal, ...]:
    return (
        Goal(work, "must", _OURS, "times", 0.97, _COMPILE),
        Goal(work, "must", _OURS, "product", must),
        Goal(work, "goal", _OURS, "times", 1.15, _TORCH),
        Goal(work, "goal", _OURS, "product", goal),
        Goal(work, "stretch", _OURS, "times", 1.03, _COMPILE),
        Goal(work, "stretch", _OURS, "product", stretch),
    )


def _streamed(work: str) -> tuple[Goal, ...]:
    levels = (("must", 0.85), ("goal", 0.92), ("stretch", 0.97))
    return tuple(Goal(work, level, _OURS, "stream", value) for level, value in levels)


GOALS: tuple[Goal, ...] = (
    Goal("G1", "must", _OURS, "times", 5, _EAGER),
    Goal("G1", "must", _OURS, "times", 4, _TORCH),
    Goal("G1", "goal", _OURS, "times", 10, _EAGER),
    Goal("G1", "goal", _OURS, "times", 1.5, _GRAPH),
    Goal("G1", "goal", _OURS, "times", 1.5, _SCAN),
    Goal("G1", "goal", _OURS, "kernels", 15),
    Goal("G1", "goal", _OURS, "microseconds", 35),
    Goal("G1", "stretch", _OURS, "microseconds", 12),
    Goal("G1", "stretch", _OURS, "times", 3, _GRAPH),
    Goal("G2", "must", _OURS, "times", 4, _EAGER),
    Goal("G2", "must", _OURS, "times", 3, _TORCH),
    Goal("G2", "goal", _OURS, "times", 8, _EAGER),
    Goal("G2", "goal", _OURS, "times", 1.2, _COMPILE),
    Goal("G2", "goal", _OURS, "kernels", 12),
    Goal("G2", "goal", _OURS, "microseconds", 40),
    Goal("G2", "stretch", _OURS, "microseconds", 25),
    Goal("G2'", "must", _OURS, "times", 1.0, _COMPILE),
    Goal("G2'", "goal", _OURS, "microseconds", 76),  # twice the floor of 38
    Goal("G2'", "stretch", _OURS, "microseconds", 57),
    *_large("G3/tf32", 0.70, 0.80, 0.86),
    *_large("G3/bf16", 0.60, 0.72, 0.80),
    *_large("G3d/tf32", 0.70, 0.80, 0.86),
    *_large("G3d/bf16", 0.60, 0.72, 0.80),
    Goal("G4", "must", _MANY, "times", 5, _EAGER),
    Goal("G4", "must", _MANY, "times", 5, _TORCH),
    Goal("G4", "goal", _MANY, "times", 2, _NUMPY),
    Goal("G4", "stretch", _MANY, "microseconds", 4),
    Goal("G4", "stretch", _MANY, "times", 10, _NUMPY),
    Goal("G4'", "must", _OURS, "no dW", 1),  # is read in the record, not timed
    Goal("G4'", "goal", _OURS, "weights", 0.60),
    Goal("G4'", "stretch", _OURS, "weights", 0.80),  # the same share of three passes
    *_streamed("G5"),
    *_streamed("G5u8"),
    Goal("all", "must", _OURS, "bitwise", 1),
)


def shares(work: Work, found: dict[str, Any], best: dict[str, float]) -> dict[str, dict[str, float]]:
    """What part of the run's own ceilings each contender reaches."""
    return {
        name: {measure: share for measure, share in {
            "product": _part(work.flops / told["median"], best.get(work.precision)),
            "weights": _part(16 * _weights(work) / told["median"], best.get("copy")),
            "stream": _part(work.batch / told["median"], _stream(work, found, best)),
        }.items() if share is not None and _fits(measure, work)}
        for name, told in found["step_seconds"].items()
    }  # fmt: skip


def _fits(measure: str, work: Work) -> bool:
    if work.name.startswith("G5"):
        return measure != "weights"
    return measure == ("weights" if work.batch == 1 else "product")


def _weights(work: Work) -> int:
    return sum((m + 1) * n for m, n in zip(work.widths, work.widths[1:], strict=False))


def _stream(work: Work, found: dict[str, Any], best: dict[str, float]) -> float | None:
    """Rows a second that the slower of the bus and the resident step allows."""
    here = found["step_seconds"].get("ours cupy resident")
    row = work.widths[0] * (1 if work.source == "uint8" else 4) + 4
    return min(best["h2d"] / row, work.batch / here["median"]) if here and "h2d" in best else None


def _part(rate: float, ceiling: float | None) -> float | None:
    return rate / ceiling if ceiling else None


def judge(works: list[dict[str, Any]], tests: dict[str, Any]) -> list[dict[str, Any]]:
    """Every goal: what was found, and whether it is enough; None where it was not measured."""
    by_name = {work["name"]: work for work in works}
    judged = []
    for goal in GOALS:
        found = _replays(tests) if goal.measure == "bitwise" else measured(goal, by_name.get(goal.work))
        less = goal.measure in AT_MOST
        met = None if found is None else found <= goal.value if less else found >= goal.value
        rival = goal.rivals[0] if goal.rivals else ""
        judged.append(goal._asdict() | {"rival": rival, "found": found, "met": met})
    return judged


def measured(goal: Goal, work: dict[str, Any] | None) -> float | None:
    """What a goal is compared with; None where somebody it needs did not take part."""
    if work is None or goal.ours not in work["contenders"]:
        return None
    if goal.measure == "times":
        ratio = work["ratios"].get(goal.ours, {}).get(goal.rivals[0])
        return ratio["median"] if ratio else None
    if goal.measure == "kernels":
        return work["facts"].get(goal.ours, {}).get("kernels")  # type: ignore[no-any-return]
    if goal.measure == "microseconds":
        return float(work["step_seconds"][goal.ours]["median"] * 1e6)
    return work["shares"].get(goal.ours, {}).get(goal.measure)  # type: ignore[no-any-return]


def _replays(tests: dict[str, Any]) -> float | None:
    ran = [kind for kind in tests.get("replay", ()) if kind != "skipped"]
    return ran.count("passed") / len(ran) if ran else None


def told(goal: dict[str, Any]) -> str:
    """A judged goal in words, without its verdict."""
    if goal["measure"] == "no dW":
        return f"{goal['ours']}: {_UNITS['no dW']}"
    return f"{goal['ours']}: {goal['value']:g} {_UNITS[goal['measure']]} {goal['rival']}".rstrip()
