"""Text in 100 columns, or fewer: paragraphs, tables, and numbers in a readable form."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from ..terminal import columns as columns_of_terminal
from ..terminal import whole_words

_WIDTH = 100
ONE = {"rows": "row", "steps": "step", "per_sample": "sample", "losses": "loss"}


def width() -> int:
    """The width of a line in characters: 100, or that of a narrower terminal."""
    return columns_of_terminal(_WIDTH)


def paragraph(text: str, head: str, indent: str | None = None) -> list[str]:
    """Text wrapped at the width, after a heading, with a hanging indent."""
    after = " " * len(head) if indent is None else indent
    return whole_words(text, width(), initial_indent=head, subsequent_indent=after)


def label(path: str) -> str:
    """The path of a value in words; positions are counted from 1.

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
    """A value as text: a fraction with its decimal beside it; a long fraction as a decimal only.

    Args:
        value: a number, a word, a boolean, or nested lists of these.
        brief: leave out the decimal beside a fraction.

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
    """Rows of text in aligned columns, wrapped between words so that all fit the width, if they can."""
    table = list(zip(*rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in table]
    words = [max((len(word) for cell in column for word in cell.split()), default=0) for column in table]
    while sum(widths) + 2 * len(widths) + len(indent) > width():
        room = [each if each > max(8, word) else 0 for each, word in zip(widths, words, strict=True)]
        if not any(room):
            break
        widths[room.index(max(room))] -= 1
    for row in rows:
        cells = [whole_words(cell, each) or [""] for cell, each in zip(row, widths, strict=True)]
        for k in range(max(len(cell) for cell in cells)):
            parts = [cell[k] if k < len(cell) else "" for cell in cells]
            yield indent + "  ".join(f"{part:{each}}" for part, each in zip(parts, widths, strict=True))
