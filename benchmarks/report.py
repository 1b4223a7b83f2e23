"""Results as tables: for the terminal, and for the page on performance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import goals
from .contenders import family
from .processes import ROOT

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
RIVALS = {"torch": "torch", "jax": "jax", "plain": "plain numpy", "scikit-learn": "scikit-learn",
          "thinc": "thinc", "numba": "numba"}  # fmt: skip
_CEILINGS = {
    "copy": (1e-9, "GB/s copied (read and written)"),
    "float32": (1e-12, "TFLOP/s float32"), "tf32": (1e-12, "TFLOP/s tf32"),
    "bfloat16": (1e-12, "TFLOP/s bfloat16"), "float16": (1e-12, "TFLOP/s float16"),
    "h2d": (1e-9, "GB/s to the GPU, pinned"), "d2h": (1e-9, "GB/s from the GPU, pinned"),
    "node": (1e6, "µs a node of a graph"),
}  # fmt: skip


def number(value: float | None) -> str:
    """Three significant digits; whole numbers from 100 on."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def first_call(contender: dict[str, Any]) -> str:
    """The seconds before the first step, such as '0.52, then 0.21': the second from the cache on disk."""
    return ", then ".join(f"{seconds:.2f}" for seconds in contender.get("first_call", ()))


def best(work: dict[str, Any], ours: str, rival: str) -> tuple[str, dict[str, float]] | None:
    """The fastest contender of a family, and its time over ours."""
    there = {name: ratio for name, ratio in work["ratios"].get(ours, {}).items() if family(name) == rival}
    return min(there.items(), key=lambda each: each[1]["median"], default=None)


def place(found: dict[str, Any]) -> str:
    """The machine of a run."""
    gpu, host = found["gpu"], found["machine"]
    card = f"{gpu['name']}, {gpu['gigabytes']} GB, driver {gpu['driver']}; " if gpu else ""
    return f"{card}{host['processor']}, {host['cores']} cores"


# ---------------------------------------------------------------- for the terminal
def table(found: dict[str, Any]) -> str:
    """All results, part by part, with the reason where a part failed."""
    quick = "; QUICK: sizes too small to mean anything" if found["quick"] else ""
    lines = [f"{place(found)}; {found['rounds']} rounds, {found['date']}{quick}"]
    lines += [f"not installed: {name} ({what})" for name, what in found["missing"].items()]
    lines += [*_ceilings(found["ceilings"]), *_tests(found["tests"]), *_checks(found)]
    for work in found["works"]:
        lines += ["", *_work(work)]
    lines += ["", *(f"{part}: {why}" for part, why in found["failed"].items())]
    if not found["quick"]:
        lines += _goals(found["goals"])
    return "\n".join(lines)


def _ceilings(ceilings: dict[str, Any]) -> list[str]:
    best = ceilings.get("best", {})
    lines = [f"{number(best[k] * scale):>8}  {what}" for k, (scale, what) in _CEILINGS.items() if k in best]
    return lines + [f"not measured: {name}: {why}" for name, why in ceilings.get("failed", {}).items()]


def _tests(tests: dict[str, Any]) -> list[str]:
    if not tests:
        return []
    counts = ", ".join(f"{tests[kind]} {kind}" for kind in ("passed", "failed", "skipped"))
    reasons: dict[str, list[str]] = {}
    for name, why in tests["told"].items():
        reasons.setdefault(why, []).append(name)
    lines = [f"{tests['file']}: {counts}{'; ended: ' + tests['ended'] if tests['ended'] else ''}"]
    for why, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f"  {names[0]}{more}: {why}")
    return lines


def _checks(found: dict[str, Any]) -> list[str]:
    """Products, the scan under compute-sanitizer, and kernels, where they were looked at."""
    lines = []
    for name, each in found.get("products", {}).items():
        able = (
            f"{len(each['done'])} of {len(each['done']) + len(each['not supported'])} shapes"
            if "done" in each
            else ""
        )
        told = each.get("failed") or f"{able}, error {each['error']:.2g} of its bound"
        lines.append(f"product, {name}: {told}")
    if scan := found.get("sanitizer"):
        told = scan.get("failed") or scan.get("skipped") or "nothing found"
        lines.append(f"compute-sanitizer: {told}")
    for name, each in found.get("kernels", {}).items():
        lines += [
            "",
            f"{name}: µs a step, times a step" + (f": {each['failed']}" if "failed" in each else ""),
        ]
        lines += [
            f"{number(k['microseconds a step']):>8}  {k['times a step']:5.3g}  {k['name']}"
            for k in each.get("kernels", ())
        ]
    return lines


def _work(work: dict[str, Any]) -> list[str]:
    ours = [name for name in work["ratios"] if "eager" not in name]
    kernels = any("kernels" in each for each in work["contenders"].values())
    heads = ["", work["unit"], "quartiles", "threads", "MB", "first call, s", "of limit"]
    rows = [[*heads, *["kernels"] * kernels, *(f"/ {name}" for name in ours)]]
    for name, each in work["contenders"].items():
        told, share = each["told"], each["share_of_limit"]
        rows.append([
            name, number(told["median"]), f"{number(told['low'])} to {number(told['high'])}",
            str(each["threads"]), number(each["megabytes"]), first_call(each),
            f"{share:.1%}" if share else "", *[str(each.get("kernels", ""))] * kernels,
            *(number(work["ratios"][a][name]["median"]) if a != name else "1" for a in ours),
        ])  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    limit = work["limit_gflops"]
    speed = f"; limit: {number(limit)} GFLOP/s" if limit else ""
    against = f"; losses compared with: {work['reference']}" if "reference" in work else ""
    return [
        f"{work['name']}  {work['title']}",
        f"{work['rows']:,} rows{speed}{against}",
        *("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows),
        *(f"{name}: not timed: {why}" for name, why in work["failed"].items()),
    ]


def _goals(judged: Sequence[dict[str, Any]]) -> list[str]:
    """The goals that were measured, one by one, and the number of the others."""
    lines = [
        f"{goal['level']:7}  {goal['work']:8}  {goals.told(goal):62}  {goals.verdict(goal)}"
        for goal in judged
        if goal["met"] is not None
    ]
    rest = [goal for goal in judged if goal["met"] is None]
    names = ", ".join(dict.fromkeys(goal["work"] for goal in rest))
    return lines + ([f"goals not measured: {len(rest)} ({names})"] if rest else [])


# ---------------------------------------------------------------- for the page
def markdown(found: dict[str, Any]) -> str:
    """The tables of the page on performance."""
    used = ", ".join(f"{name} {v}" for name, v in found["versions"].items())
    lines = [
        f"{place(found)}, {found['date']}; {found['rounds']} interleaved rounds; {used}.",
        "",
        "| work | ours | time (quartiles) | of the limit | memory, MB | first call, s "
        + "".join(f"| × {title} " for title in RIVALS.values()) + "|",
        "|---|---|---|---|---|---" + "|---" * len(RIVALS) + "|",
    ]  # fmt: skip
    for work in found["works"]:
        lines += [f"| {' | '.join([work['name'], ours, *_cells(work, ours)])} |" for ours in work["ratios"]]
    timed = [work["name"] for work in found["works"]]
    lines += ["", "| work | goal | level | result |", "|---|---|---|---|"]
    lines += [
        f"| {goal['work']} | {goals.told(goal)} | {goal['level']} | {goals.verdict(goal)} |"
        for goal in found["goals"]
        if goal["work"] in timed
    ]
    return "\n".join(lines)


def _cells(work: dict[str, Any], ours: str) -> list[str]:
    each = work["contenders"][ours]
    told, share = each["told"], each["share_of_limit"]
    time = f"{number(told['median'])} {work['unit']} ({number(told['low'])} to {number(told['high'])})"
    rivals = [best(work, ours, rival) for rival in RIVALS]
    times = [f"{number(found[1]['median'])} ({found[0]})" if found else "" for found in rivals]
    return [time, f"{share:.1%}" if share else "", number(each["megabytes"]), first_call(each), *times]


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
