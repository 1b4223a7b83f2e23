"""An explanation as it shows itself in a notebook: diagram, table and sentences of each step; no script."""

from collections.abc import Mapping
from html import escape
from typing import Any

from .diagram import COLOURS, as_svg
from .text import ARROWS, heading
from .words import name_of, number, pair, sentences, sign_of

MOST_STEPS = 12

Json = Mapping[str, Any]


def as_html(data: Json) -> str:
    """The first steps of an explanation as a fragment of HTML."""
    parts = []
    for run in data["runs"]:
        parts.append(f"<h3>{escape(run['title'])}</h3>" if run["title"] else "")
        for k, step in enumerate(run["steps"][:MOST_STEPS]):
            parts.append(_step(run, step, k, data["sentences"]))
        if (left := len(run["steps"]) - MOST_STEPS) > 0:
            parts.append(f"<p>… and {left} more steps</p>")
    return "".join(parts)


def _step(run: Json, step: Json, k: int, table: Mapping[str, str]) -> str:
    head = f"<h4>{escape(heading(run, step, k)).replace('step', 'Step', 1)}</h4>"
    rows = "".join(_row(run, why) for why in step["why"])
    told = "".join(
        f"<details><summary>Why {escape(name_of(run, why['block'], why['at']))}?</summary><ol>"
        + "".join(f"<li>{escape(each)}</li>" for each in sentences(step, why, table))
        + "</ol></details>"
        for why in step["why"]
    )
    titles = "".join(f"<th>{each}</th>" for each in ("weight", "input", "δ", "change", "after"))
    return (
        f"{head}{as_svg(run, step)}<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>{told}"
    )


def _row(run: Json, why: Json) -> str:
    sign = sign_of(why["change"])
    cells = [
        escape(name_of(run, why["block"], why["at"])),
        "" if why["input"] is None else number(why["input"]),
        "" if why["delta"] is None else number(why["delta"]),
        f'<span style="color:{COLOURS[sign]}">{ARROWS[sign]} {number(why["change"], sign=True)}</span>',
        pair(why["before"], why["after"])[1],
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
