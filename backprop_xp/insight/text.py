"""An explanation as plain text, a table of the weights of each step and why each moved; and as rows.

It reads the document alone.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ..printed import table
from .words import name_of, number, pair, sentences, sign_of

Json = Mapping[str, Any]
ARROWS = {1: "▲", 0: "=", -1: "▼"}


def as_table(run: Json, step: Json, width: int | None = None) -> str:
    """The weights of a step: input, δ, change and value after it; ⊣ marks a closed gate."""
    rows = [["weight", "input", "δ", "", "change", "after", ""]]
    for why in step["why"]:
        closed = why.get("slope") is not None and sign_of(why["slope"]) == 0
        rows.append([
            name_of(run, why["block"], why["at"]),
            "" if why["input"] is None else number(why["input"]),
            ("" if why["delta"] is None else number(why["delta"])) + " ⊣" * closed,
            ARROWS[sign_of(why["change"])],
            number(why["change"], sign=True),
            pair(why["before"], why["after"])[1],
            "frozen" if "frozen" in why["says"] else "",
        ])  # fmt: skip
    return table(rows, right=[1, 2, 4, 5], width=width)


def as_text(data: Json, width: int | None = None) -> str:
    """Every step: its table of weights, why each moved, and what the step did to every sample."""
    blocks = []
    for run in data["runs"]:
        blocks += [run["title"]] if run["title"] else []
        for k, step in enumerate(run["steps"]):
            blocks += [heading(run, step, k), as_table(run, step, width)]
            for why in step["why"]:
                said = sentences(step, why, data["sentences"])
                lines = [f"{name_of(run, why['block'], why['at'])}", *(f"  {each}" for each in said)]
                blocks.append("\n".join(lines))
            blocks.append(_effect(run, step, width))
            blocks += _verdict(run, step)
    return "\n\n".join(blocks)


def as_rows(data: Json) -> list[dict[str, Any]]:
    """One row for each weight that is explained in each step, its numbers as fractions or floats."""
    found = []
    for run in data["runs"]:
        value = Fraction if run["arithmetic"]["exact"] else float
        for k, step in enumerate(run["steps"]):
            for why in step["why"]:
                row = {"run": run["id"], "step": k + 1, "weight": name_of(run, why["block"], why["at"])}
                for key in ("input", "delta", "grad", "before", "change", "after", "share"):
                    row[key] = None if why.get(key) is None else value(why[key])
                found.append(row | {"why": " ".join(sentences(step, why, data["sentences"]))})
    return found


def heading(run: Json, step: Json, k: int) -> str:
    """A step's number, its samples, and the loss before and after it."""
    rows = [run["samples"][row]["label"] for row in step["rows"]]
    what = f"sample {rows[0]}" if len(rows) == 1 else f"{len(rows)} samples"
    loss, after = pair(step["loss"], step["loss_after"])
    return f"step {k + 1}: {what}, loss {loss} → {after}"


def _effect(run: Json, step: Json, width: int | None) -> str:
    rows = [["sample", "output", "loss", "", ""]]
    for each in step["effect"]:
        loss, after = pair(each["loss"], each["loss_after"])
        output = ", ".join(f"{a} → {b}" for a, b in map(pair, each["output"], each["output_after"]))
        sign = sign_of(each["change"])
        label, kind = run["samples"][each["sample"]]["label"], {1: "worse", 0: "", -1: "better"}[sign]
        rows.append([label, output, f"{loss} → {after}", ARROWS[sign], kind])
    return table(rows, width=width)


def _verdict(run: Json, step: Json) -> list[str]:
    """Where a type of float would have taken another branch than the exact step."""
    found = []
    for kind, own in step["verdict"].items():
        if own["branches"]:
            first = own["branches"][0]
            exact, rounded = number(first["exact"]), number(first["float"], 2)
            labels = next(each["labels"] for each in run["net"]["layers"] if each["name"] == first["layer"])
            unit = labels[first["unit"]]
            way = f"{kind} takes another branch: the net input of {unit} is {exact}, not {rounded}."
            lost = own["learns_exactly"] and not own["learns"]
            found.append(way + f" In {kind} nothing would be learnt in this step." * lost)
    return found
