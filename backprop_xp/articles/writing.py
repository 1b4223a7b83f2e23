"""Text in 100 columns: paragraphs, tables, and numbers a reader can take in."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from textwrap import wrap
from typing import Any

WIDTH = 100
ONE = {"rows": "row", "steps": "step", "per_sample": "sample", "losses": "loss"}


def paragraph(said: str, head: str, indent: str | None = None) -> list[str]:
    """Text in lines of at most 100 columns, its head hanging."""
    after = " " * len(head) if indent is None else indent
    return wrap(said, WIDTH, initial_indent=head, subsequent_indent=after)


def label(path: str) -> str:
    """Where a value is, in words; positions are counted from 1.

    >>> label("steps.2.W_after.0.0.1"), label("rows.0.o2")
    ('step 3: W_after 1,1,2', 'row 1: o2')
    """
    words: list[str] = []
    for key in path.split("."):
        if not key.isdigit():
            words.append(key)
        elif words[-1][-1].isdigit() and " " in words[-1]:
            words[-1] += f",{int(key) + 1}"
        else:
            words[-1] = f"{ONE.get(words[-1], words[-1].removesuffix('s'))} {int(key) + 1}"
    return ": ".join(words)


def shown(value: Any, *, brief: bool = False) -> str:
    """A value as text: fractions as they are while they are short, decimals beside them.

    Args:
        value: a number, a word, a truth, or nested lists of these.
        brief: without the decimal beside a fraction.

    >>> from fractions import Fraction
    >>> shown(Fraction(43, 100)), shown([Fraction(1, 3), Fraction(2)]), shown(True)
    ('43/100 = 0.43', '(1/3, 2)', 'true')
    """
    if isinstance(value, list):
        return "(" + ", ".join(shown(each, brief=True) for each in value) + ")"
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    if isinstance(value, float):
        value += 0.0  # no minus before a zero
        return f"{value:.7g}" if brief else f"{value:.12g}"
    if not isinstance(value, Fraction) or value.denominator == 1:
        return str(value)
    whole, decimal = str(value), f"{float(value):.8g}"
    if len(whole) > 16:
        return f"≈{decimal}"
    return whole if brief else f"{whole} {'=' if Fraction(decimal) == value else '≈'} {decimal}"


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> Iterator[str]:
    """Rows of text in aligned columns, 100 wide at most: the widest cells are wrapped."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    while sum(widths) + 2 * len(widths) + len(indent) > WIDTH and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
    for row in rows:
        cells = [wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
        for k in range(max(len(cell) for cell in cells)):
            parts = [cell[k] if k < len(cell) else "" for cell in cells]
            yield indent + "  ".join(f"{part:{width}}" for part, width in zip(parts, widths, strict=True))
