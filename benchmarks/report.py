"""Results as a table for the terminal, and as the table of the page on performance."""

from pathlib import Path
from typing import Any

from . import goals
from .contenders import CONTENDERS, by_name

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
_OTHERS = dict.fromkeys(each.family for each in CONTENDERS if each.family != "ours")
RIVALS = {family: "plain numpy" if family == "numpy" else family for family in _OTHERS}


def number(value: float | None) -> str:
    """Three digits, however large."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(found: dict[str, Any]) -> str:
    """All works and goals, for the terminal."""
    machine = found["machine"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores; {found['rounds']} rounds, {found['date']}"
        + ("; QUICK: sizes too small to mean anything" if found["quick"] else ""),
        *(f"not installed: {name} ({what})" for name, what in found["missing"].items()),
    ]
    for work in found["works"]:
        lines += ["", *_work(work)]
    lines += ["", *(_goal(goal) for goal in found["goals"] if goal["level"] == "must")]
    further = [goal for goal in found["goals"] if goal["level"] != "must" and goal["met"]]
    lines += [_goal(goal) for goal in further]
    return "\n".join(lines)


def _goal(goal: dict[str, Any]) -> str:
    return f"{goal['level']:7}  {goal['work']:5}  {goals.told(goal):62}  {goals.verdict(goal)}"


def _work(work: dict[str, Any]) -> list[str]:
    ours = list(work["ratios"])
    limit = work["limit_gflops"]
    speed = f"; matrix products here: {number(limit)} GFLOP/s" if limit else ""
    lines = [
        f"{work['name']}  {work['title']}",
        f"data: {work['rows']:,} rows, made at {number(work['rows_made_per_second'])} rows/s{speed}",
    ]
    heads = [work["unit"], "quartiles", "threads", "MB", "limit", *(f"/ {name}" for name in ours)]
    rows = [["", *heads]]
    for name, each in work["contenders"].items():
        told, share = each["told"], each["share_of_limit"]
        ratios = [number(work["ratios"][a][name]["median"]) if a != name else "1" for a in ours]
        spread = f"{number(told['low'])} to {number(told['high'])}"
        part = f"{share:.1%}" if share else ""
        cells = [number(told["median"]), spread, str(each["threads"]), number(each["megabytes"]), part]
        rows.append([name, *cells, *ratios])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return [*lines, *(f"{name}: not timed: {why}" for name, why in work["failed"].items())]


def best(work: dict[str, Any], ours: str, family: str) -> tuple[str, dict[str, float]] | None:
    """The fastest rival of a family, and its time over ours."""
    ratios = work["ratios"].get(ours, {})
    there = {name: r for name, r in ratios.items() if by_name(name).family == family}
    if not there:
        return None
    name = min(there, key=lambda each: there[each]["median"])
    return name, there[name]


def markdown(found: dict[str, Any]) -> str:
    """The table of the page on performance."""
    machine, versions = found["machine"], found["versions"]
    used = ", ".join(f"{name} {v}" for name, v in versions.items())
    place = f"{machine['processor']}, {machine['cores']} cores"
    lines = [
        f"{place}, {found['date']}; {found['rounds']} interleaved rounds; {used}.",
        "",
        "| work | ours | time (quartiles) | of the limit | memory, MB "
        + "".join(f"| × {RIVALS[f]} " for f in RIVALS) + "|",
        "|---|---|---|---|---" + "|---" * len(RIVALS) + "|",
    ]  # fmt: skip
    for work in found["works"]:
        for ours in work["ratios"]:
            each = work["contenders"][ours]
            told, share = each["told"], each["share_of_limit"]
            time = (
                f"{number(told['median'])} {work['unit']} ({number(told['low'])} to {number(told['high'])})"
            )
            rivals = [best(work, ours, family) for family in RIVALS]
            cells = [f"{number(r[1]['median'])} ({r[0]})" if r else "" for r in rivals]
            part = f"{share:.1%}" if share else ""
            row = [work["name"], ours, time, part, number(each["megabytes"]), *cells]
            lines.append(f"| {' | '.join(row)} |")
    lines += ["", "| work | goal | level | result |", "|---|---|---|---|"]
    lines += [
        f"| {goal['work']} | {goals.told(goal)} | {goal['level']} | {goals.verdict(goal)} |"
        for goal in found["goals"]
    ]
    return "\n".join(lines)


def fill(found: dict[str, Any], page: Path = PAGE) -> None:
    """Write the results between the page's markers.

    Raises:
        ValueError: the page has no markers.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        msg = f"{page.name} has no {BEGIN} … {END}"
        raise ValueError(msg)
    page.write_text(f"{before}{BEGIN}\n{markdown(found)}\n{END}{after}", encoding="utf-8")
