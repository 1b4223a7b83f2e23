"""The diagram of a step: boxes for units, lines for weights. Geometry and texts, for SVG and matplotlib.

The sign of a change is shown three ways: by colour, by a solid or dashed line, and by ▲ or ▼.
"""

from collections.abc import Mapping
from html import escape
from typing import Any, NamedTuple

from .words import name_of, number, sign_of

MOST_UNITS, MOST_TAGS = 8, 14  # of a layer; of a diagram
UP, DOWN, STAY, INK, SOFT, LINE = "#0a5fa5", "#a84300", "#6d7178", "#1b1d22", "#565b64", "#d5d1c8"
COLOURS = {1: UP, 0: STAY, -1: DOWN}
WIDE, HIGH, _ACROSS, _DOWN = 116, 56, 230, 90  # of a box; from box to box

Json = Mapping[str, Any]


class Box(NamedTuple):
    """A unit: the place of its centre, two texts, and whether its gate is closed."""

    x: float
    y: float
    name: str
    value: str
    closed: bool


class Line(NamedTuple):
    """A weight, or a connection without one: its ends, where its text is, the sign of its change."""

    x1: float
    y1: float
    x2: float
    y2: float
    at: float
    sign: int
    text: str
    title: str

    @property
    def tag(self) -> tuple[float, float]:
        """The point at which the text stands."""
        return self.x1 + self.at * (self.x2 - self.x1), self.y1 + self.at * (self.y2 - self.y1)


class Diagram(NamedTuple):
    """Boxes and lines, and the size of it all."""

    boxes: list[Box]
    lines: list[Line]
    width: float
    height: float


def columns(run: Json) -> list[list[Json]]:
    """Layers in columns: a layer with weights and what only passes its units on (activations, dropout)."""
    found: list[list[Json]] = []
    layers = run["net"]["layers"]
    for layer in layers:
        only = (
            len(layer["inputs"]) == 1 and sum(layer["inputs"][0] in other["inputs"] for other in layers) == 1
        )
        joins = [c for c in found if only and not layer["blocks"] and c[-1]["name"] == layer["inputs"][0]]
        if joins and joins[0][-1]["units"] == layer["units"]:
            joins[0].append(layer)
        else:
            found.append([layer])
    return found


def diagram(run: Json, step: Json) -> Diagram:
    """The diagram of a step's update."""
    drawn = columns(run)
    most = max(min(column[0]["units"], MOST_UNITS) for column in drawn)
    height = max(most, 1) * _DOWN

    def place(c: int, j: int) -> tuple[float, float]:
        shown = min(drawn[c][0]["units"], MOST_UNITS)
        return WIDE / 2 + 4 + c * _ACROSS, (j + 0.5) * height / shown

    boxes = [
        _box(place(c, j), step, column, j)
        for c, column in enumerate(drawn)
        for j in range(min(column[0]["units"], MOST_UNITS))
    ]
    lines: list[Line] = []
    why = {(each["block"], *each["at"]): each for each in step["why"]}
    for c, column in enumerate(drawn):
        for source in column[0]["inputs"]:
            start = next(k for k, other in enumerate(drawn) if any(each["name"] == source for each in other))
            block = f"{column[0]['name']}.w"
            dense = column[0]["kind"] == "dense"
            for i in range(min(drawn[start][0]["units"], MOST_UNITS)):
                for j in range(min(column[0]["units"], MOST_UNITS)):
                    if dense or i == j:
                        own = why.get((block, i, j)) if dense else None
                        (x1, y1), (x2, y2) = place(start, i), place(c, j)
                        ends = x1 + WIDE / 2, y1, x2 - WIDE / 2, y2
                        at = (
                            0.5 if column[0]["units"] == 1 else 0.34 + 0.17 * (j % 3)
                        )  # neighbours do not meet
                        lines.append(Line(*ends, at, *_moved(run, own)))
    if sum(bool(line.text) for line in lines) > MOST_TAGS:
        lines = [line._replace(text="") for line in lines]
    return Diagram(boxes, lines, WIDE + 8 + (len(drawn) - 1) * _ACROSS, height)


def _box(place: tuple[float, float], step: Json, column: list[Json], j: int) -> Box:
    """A unit with its δ (its output, where it has none), and whether its gate is closed."""
    name = column[-1]["labels"][j]
    if len(step["rows"]) > 1:
        return Box(*place, name, "", closed=False)
    flows = step["samples"][0]
    backward = flows["backward"].get(column[0]["name"])
    if backward is None:
        return Box(*place, name, number(flows["forward"][column[-1]["name"]]["o"][j], 3), closed=False)
    slopes = [flows["backward"].get(layer["name"], {}).get("slope") for layer in column]
    closed = any(slope is not None and sign_of(slope[j]) == 0 for slope in slopes)
    return Box(*place, name, f"δ = {number(backward['delta'][j], 3)}" + " ⊣" * closed, closed)


def _moved(run: Json, why: Json | None) -> tuple[int, str, str]:
    if why is None:
        return 0, "", ""
    sign, name = sign_of(why["change"]), name_of(run, why["block"], why["at"])
    change = number(why["change"], 3, sign=True)
    return sign, f"{'▲' if sign > 0 else '▼'} {change}" if sign else "=", f"{name}: {change}"


def as_svg(run: Json, step: Json) -> str:
    """The diagram as SVG, which needs no script."""
    drawn = diagram(run, step)
    lines = [_svg_line(line) for line in drawn.lines]
    boxes = [_svg_box(box) for box in drawn.boxes]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {drawn.width:g} {drawn.height:g}" '
        f'style="max-width:{drawn.width:g}px" role="img" aria-label="The weights that moved in this step" '
        f'font-family="sans-serif" font-size="13" text-anchor="middle">{"".join(lines + boxes)}</svg>'
    )


def _svg_line(line: Line) -> str:
    colour, dash = COLOURS[line.sign], ' stroke-dasharray="8 4"' if line.sign < 0 else ""
    drawn = (
        f'<line x1="{line.x1:g}" y1="{line.y1:g}" x2="{line.x2:g}" y2="{line.y2:g}" stroke="{colour}" '
        f'stroke-width="{3 if line.sign else 1}"{dash}><title>{escape(line.title)}</title></line>'
    )
    if not line.text:
        return drawn
    (x, y), wide = line.tag, 7.4 * len(line.text) + 12
    return (
        f'{drawn}<rect x="{x - wide / 2:g}" y="{y - 12:g}" width="{wide:g}" height="24" rx="12" fill="#fff" '
        f'stroke="{LINE}"/><text x="{x:g}" y="{y + 4:g}" fill="{colour}">{escape(line.text)}</text>'
    )


def _svg_box(box: Box) -> str:
    edge = f'stroke="{DOWN}" stroke-dasharray="3 3"' if box.closed else f'stroke="{LINE}"'
    return (
        f'<rect x="{box.x - WIDE / 2:g}" y="{box.y - HIGH / 2:g}" width="{WIDE}" height="{HIGH}" rx="9" '
        f'fill="#fff" stroke-width="1.5" {edge}/>'
        f'<text x="{box.x:g}" y="{box.y - 6:g}" fill="{SOFT}">{escape(box.name)}</text>'
        f'<text x="{box.x:g}" y="{box.y + 15:g}" fill="{INK}">{escape(box.value)}</text>'
    )
