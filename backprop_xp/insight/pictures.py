"""Pictures of an explanation, drawn by matplotlib. They read the document alone.

`PICTURES` lists them: the diagram of a step, each weight's share in the change of each sample's loss, the
situations of the weights by layer, predicted beside actual changes of the loss, and exact numbers beside
rounded ones.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import isfinite
from typing import Any

from ..errors import BackpropError, listed
from .diagram import COLOURS, DOWN, HIGH, INK, LINE, SOFT, STAY, UP, WIDE, diagram
from .words import name_of, number, sign_of

MOST_COLUMNS = 24

Json = Mapping[str, Any]


def picture(data: Json, kind: str = "diagram", step: int = -1, run: int = 0) -> Any:
    """A matplotlib figure.

    Args:
        data: the document of an explanation.
        kind: one of PICTURES.
        step: its number, from 0; −1 for the last.
        run: its number.

    Raises:
        BackpropError: there is no such picture, step or run, or matplotlib is not installed.
    """
    if kind not in PICTURES:
        msg = f"there is no picture {kind!r}; there are {listed(PICTURES)}"
        raise BackpropError(msg)
    runs = data["runs"]
    if not -len(runs) <= run < len(runs):
        msg = f"there is no run {run}: there are {len(runs)}, counted from 0"
        raise BackpropError(msg)
    own = runs[run]
    if not -len(own["steps"]) <= step < len(own["steps"]):
        msg = f"there is no step {step} in run {run}: there are {len(own['steps'])}, counted from 0"
        raise BackpropError(msg)
    at = own["steps"][step]
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = 'pictures need matplotlib: pip install "backprop-xp[plot]"'
        raise BackpropError(msg) from error
    figure = Figure(figsize=(8, 4.5), layout="constrained", facecolor="white")
    PICTURES[kind](figure, own, at)
    return figure


def _diagram(figure: Any, run: Json, step: Json) -> None:
    """The units of a step with their δ, and on each line how its weight moved."""
    from matplotlib.patches import FancyBboxPatch

    drawn = diagram(run, step)
    figure.set_size_inches(max(5.0, drawn.width / 80), max(2.5, drawn.height / 80))
    axes = figure.subplots()
    axes.set(xlim=(-6, drawn.width + 6), ylim=(drawn.height + 6, -6), aspect="equal")
    axes.axis("off")
    for line in drawn.lines:
        style = {1: "-", 0: "-", -1: "--"}[line.sign]
        axes.plot(
            [line.x1, line.x2],
            [line.y1, line.y2],
            style,
            color=COLOURS[line.sign],
            lw=2.4 if line.sign else 0.8,
            zorder=1,
        )
        if line.text:
            x, y = line.tag
            around = {"boxstyle": "round,pad=0.25", "fc": "white", "ec": LINE}
            colour = COLOURS[line.sign]
            axes.text(x, y, line.text, color=colour, ha="center", va="center", fontsize=9, bbox=around)
    for box in drawn.boxes:
        edge: dict[str, Any] = {"ec": DOWN, "ls": "--"} if box.closed else {"ec": LINE}
        corner = box.x - WIDE / 2, box.y - HIGH / 2
        axes.add_patch(
            FancyBboxPatch(corner, WIDE, HIGH, "round,pad=0,rounding_size=9", fc="white", zorder=3, **edge)
        )
        text = f"{box.name}\n{box.value}" if box.value else box.name
        axes.text(box.x, box.y, text, ha="center", va="center", fontsize=9, color=INK, zorder=4)


def _shares(figure: Any, run: Json, step: Json) -> None:
    """A row for each sample, a column for each weight: by how much the weight changed the sample's loss."""
    from matplotlib.colors import TwoSlopeNorm

    known = step["effect"][0]["shares"]
    moved = [why for why in step["why"] if sign_of(why["change"]) and why["block"] in known][:MOST_COLUMNS]
    values = [[_share(each, why) for why in moved] for each in step["effect"]]
    axes = figure.subplots()
    if not moved:
        axes.axis("off")
        axes.text(
            0.5,
            0.5,
            "no weight moved in this step, or the net is too large for shares",
            ha="center",
            color=SOFT,
        )
        return
    largest = max(abs(v) for row in values for v in row) or 1.0
    axes.imshow(values, cmap="PuOr_r", norm=TwoSlopeNorm(0, -largest, largest), aspect="auto")
    for i, row in enumerate(values):
        for j, v in enumerate(row):
            colour = "white" if abs(v) > 0.6 * largest else INK
            axes.text(j, i, number(repr(v), 3, sign=True), ha="center", va="center", fontsize=9, color=colour)
    labels = [name_of(run, why["block"], why["at"]) for why in moved]
    axes.set_xticks(
        range(len(moved)),
        labels,
        rotation=30 if len(moved) > 3 else 0,
        ha="right" if len(moved) > 3 else "center",
    )
    axes.set_yticks(
        range(len(values)), [f"{run['samples'][each['sample']]['label']}" for each in step["effect"]]
    )
    axes.set_title("Change of each sample's loss, by weight (− is better)", fontsize=11)


SITUATIONS = {
    "moved": UP, "input is 0": "#9fb8cc", "blocked": DOWN, "nothing to learn": STAY, "frozen": LINE,
}  # fmt: skip


def _situation(why: Json) -> str:
    says = set(why["says"])
    if "frozen" in says:
        return "frozen"
    if sign_of(why["change"]):
        return "moved"
    if "blocked" in says or "flat" in says:
        return "blocked"
    return "input is 0" if "input.0" in says else "nothing to learn"


def _situations(figure: Any, run: Json, _: Json) -> None:
    """Stacked bars: the share of each layer's weights in each situation, over all steps."""
    blocks = [block for layer in run["net"]["layers"] for block in layer["blocks"]]
    counts = {block: dict.fromkeys(SITUATIONS, 0) for block in blocks}
    for each in run["steps"]:
        for why in each["why"]:
            counts[why["block"]][_situation(why)] += 1
    axes, left = figure.subplots(), [0.0] * len(blocks)
    for name, colour in SITUATIONS.items():
        parts = [counts[b][name] / max(1, sum(counts[b].values())) for b in blocks]
        axes.barh(blocks, parts, left=left, color=colour, label=name, edgecolor="white", height=0.6)
        left = [a + b for a, b in zip(left, parts, strict=True)]
    axes.set(xlim=(0, 1), ylim=(-1, len(blocks)), xlabel="share of the weights, over all steps")
    axes.invert_yaxis()
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(SITUATIONS), frameon=False
    )


def _predicted(figure: Any, run: Json, _: Json) -> None:
    """The change of the loss that the gradient predicted, and the actual one, of every step."""
    found = [
        tuple(_float(each[key]) for key in ("first_order", "loss", "loss_after")) for each in run["steps"]
    ]
    found = [each for each in found if all(map(isfinite, each))]  # a step that diverged cannot be drawn
    predicted = [first for first, *_ in found]
    actual = [after - loss for _, loss, after in found]
    axes = figure.subplots()
    low, high = min(*predicted, *actual, 0.0), max(*predicted, *actual, 0.0)
    room = (high - low or 1.0) * 0.08
    axes.plot([low - room, high + room], [low - room, high + room], color=LINE, zorder=1)
    axes.axhline(0, color=LINE, lw=0.8)
    axes.scatter(predicted, actual, c=[DOWN if v > 0 else UP for v in actual], zorder=2)
    for k, (a, b) in enumerate(zip(predicted, actual, strict=True)):
        if len(predicted) <= MOST_COLUMNS:
            axes.annotate(
                f"{k + 1}", (a, b), textcoords="offset points", xytext=(6, 4), color=SOFT, fontsize=9
            )
    axes.set(xlabel="change of the loss that the gradient predicts", ylabel="change of the loss")
    axes.set_title(
        "Each step: on the line where the prediction holds, above it where the step was too long", fontsize=10
    )


def _floats(figure: Any, run: Json, step: Json) -> None:
    """For each step the share of its numbers that a float cannot hold, and where it takes another branch."""
    axes = figure.subplots()
    kinds = list(step["verdict"])
    if not kinds:
        axes.axis("off")
        axes.text(
            0.5,
            0.5,
            "floats are compared with fractions: explain on the exact backend",
            ha="center",
            color=SOFT,
        )
        return
    width = 0.8 / len(kinds)
    for k, (kind, colour) in enumerate(zip(kinds, (DOWN, STAY, UP), strict=False)):
        own = [each["verdict"][kind] for each in run["steps"]]
        places = [n + (k - (len(kinds) - 1) / 2) * width for n in range(len(own))]
        axes.bar(
            places,
            [each["differ"] / max(1, each["numbers"]) for each in own],
            width,
            color=colour,
            label=kind,
        )
        for x, each in zip(places, own, strict=True):
            if each["branches"]:
                lost = each["learns_exactly"] and not each["learns"]
                axes.annotate(
                    "✗" if lost else "≠",
                    (x, each["differ"] / max(1, each["numbers"])),
                    ha="center",
                    va="bottom",
                    color=INK,
                )
    axes.set_xticks(range(len(run["steps"])), [f"{n + 1}" for n in range(len(run["steps"]))])
    axes.set(ylim=(0, 1.15), xlabel="step", ylabel="share of numbers that are not exact")
    axes.set_title(
        "≠ takes another branch than the exact step; ✗ learns nothing where that learns", fontsize=10
    )
    axes.legend(frameon=False, ncols=len(kinds), loc="upper right")


def _share(each: Json, why: Json) -> float:
    values = each["shares"][why["block"]]
    for k in why["at"]:
        values = values[k]
    return _float(values)


def _float(text: str) -> float:
    return float(text) if text in ("nan", "inf", "-inf") else float(Fraction(text))


PICTURES: dict[str, Callable[[Any, Json, Json], None]] = {
    "diagram": _diagram,
    "shares": _shares,
    "situations": _situations,
    "predicted": _predicted,
    "floats": _floats,
}
