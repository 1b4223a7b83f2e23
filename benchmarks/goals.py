"""The goals, as data, and whether a run meets them."""

from typing import Any, NamedTuple

TORCH = ("torch eager", "torch fused", "torch compile")
LEVELS = ("must", "goal", "stretch")


class Goal(NamedTuple):
    """One thing to reach.

    Attributes:
        work: the beginning of the names of the works it is for.
        level: 'must', 'goal' or 'stretch'.
        ours: which of our contenders.
        measure: 'times' (how many times as fast as the fastest rival), 'product' (share of its own
            matrix product), 'memory' (share of the rival's), 'megabytes'.
        value: at least; for memory at most.
        rivals: the fastest of these that took part counts.
    """

    work: str
    level: str
    ours: str
    measure: str
    value: float
    rivals: tuple[str, ...] = ()


GOALS: tuple[Goal, ...] = (
    Goal("W1", "must", "ours numpy", "times", 2.5, ("plain numpy",)),
    Goal("W1", "must", "ours jax", "times", 0.95, ("jax scan",)),
    Goal("W1", "goal", "ours numpy", "times", 25, ("plain numpy",)),
    Goal("W1", "goal", "ours numpy", "times", 150, ("torch eager",)),
    Goal("W1", "stretch", "ours numpy+numba", "times", 1.0, ("jax scan",)),
    Goal("W2", "must", "ours numpy", "times", 5, TORCH),
    Goal("W2", "must", "ours numpy", "times", 1.8, ("plain numpy",)),
    Goal("W2", "goal", "ours numpy", "times", 6.5, TORCH),
    Goal("W2", "goal", "ours numpy", "times", 1.0, ("jax jit",)),
    Goal("W2", "goal", "ours jax", "times", 1.0, ("jax scan",)),
    Goal("W2", "goal", "ours jax", "times", 15, TORCH),
    Goal("W2", "stretch", "ours numpy", "times", 1.5, ("jax jit",)),
    Goal("W3", "must", "ours numpy", "times", 0.8, ("torch fused",)),
    Goal("W3", "must", "ours jax", "times", 1.2, ("torch fused",)),
    Goal("W3", "must", "ours torch", "times", 1.0, ("torch fused",)),
    Goal("W3", "goal", "ours numpy+mkl", "times", 1.0, ("torch fused",)),
    Goal("W3", "goal", "ours jax", "times", 1.28, ("torch fused",)),
    Goal("W3", "stretch", "ours numpy+mkl", "times", 1.2, ("torch fused",)),
    Goal("W4", "must", "ours numpy", "product", 0.90),
    Goal("W4", "must", "ours numpy", "memory", 0.55, TORCH),
    Goal("W4", "goal", "ours numpy", "product", 0.95),
    Goal("W4", "goal", "ours numpy+mkl", "times", 1.05, TORCH),
    Goal("W4", "stretch", "ours numpy", "product", 0.98),
    Goal("W4", "stretch", "ours numpy+mkl", "times", 1.10, TORCH),
    Goal("W5r", "must", "ours read", "times", 15, ("torch DataLoader read",)),
    Goal("W5", "must", "ours numpy file", "times", 1.25, ("torch DataLoader",)),
    Goal("W5", "must", "ours numpy file", "megabytes", 100),
    Goal("W5", "goal", "ours numpy file", "times", 0.95, ("ours numpy in memory",)),
    Goal("W5", "stretch", "ours numpy file", "times", 0.99, ("ours numpy in memory",)),
    Goal("W6", "must", "ours numpy", "times", 4, TORCH),
    Goal("W6", "must", "ours numpy", "times", 1.4, ("plain numpy",)),
    Goal("W6", "goal", "ours numpy", "times", 5, TORCH),
    Goal("W6", "goal", "ours numpy", "times", 1.0, ("jax jit",)),
    Goal("W6", "stretch", "ours numpy", "times", 1.3, ("jax jit",)),
)


def judge(works: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every goal of these works: what was found, and whether it is enough; None if it was not measured."""
    judged = []
    for work in works:
        for goal in GOALS:
            if goal.work not in (work["name"], work["name"].partition("/")[0].rstrip("ab")):
                continue
            found, rival = measured(goal, work)
            less = goal.measure in ("memory", "megabytes")
            met = None if found is None else found <= goal.value if less else found >= goal.value
            judged.append(goal._asdict() | {"work": work["name"], "rival": rival, "found": found, "met": met})
    return judged


def measured(goal: Goal, work: dict[str, Any]) -> tuple[float | None, str]:
    """What a goal is compared with, and the rival that counts."""
    all_of = work["contenders"]
    ours = all_of.get(goal.ours)
    there = [name for name in goal.rivals if name in all_of]
    if ours is None or (goal.rivals and not there):
        return None, ""
    if goal.measure == "product":
        return ours["share_of_own_product"], ""
    if goal.measure == "megabytes":
        return ours["megabytes"], ""
    if goal.measure == "memory":
        rival = min(there, key=lambda name: all_of[name]["megabytes"])
        return ours["megabytes"] / all_of[rival]["megabytes"], rival
    times = {name: work["ratios"][goal.ours][name]["median"] for name in there}
    rival = min(there, key=times.__getitem__)
    return times[rival], rival


def told(goal: dict[str, Any]) -> str:
    """A judged goal in words, without its verdict."""
    unit = {
        "times": f"× {goal['rival'] or ' / '.join(goal['rivals'])}",
        "product": "of its own matrix product",
        "memory": f"of the memory of {goal['rival'] or 'torch'}",
        "megabytes": "MB at most",
    }[goal["measure"]]
    return f"{goal['ours']}: {goal['value']:g} {unit}"


def verdict(goal: dict[str, Any]) -> str:
    """Met, or missed by how much."""
    if goal["met"] is None:
        return "not measured"
    found = f"{goal['found']:.3g}"
    if goal["met"]:
        return f"met: {found}"
    far = goal["found"] / goal["value"]
    return f"missed: {found}, {abs(far - 1):.0%} {'over' if far > 1 else 'short'}"
