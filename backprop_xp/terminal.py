"""The terminal: its width, colours, characters that its encoding lacks, and closed streams."""

import codecs
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from textwrap import wrap
from typing import Any
from unicodedata import decomposition, name

_CODES = {"bold": 1, "red": 31, "green": 32, "blue": 34}  # of ECMA-48
_ANY = 1000  # columns where there is no terminal
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ᵀ]+")
_PLAIN = {
    "→": "->", "←": "<-", "−": "-", "–": "-", "—": "-", "…": "...", "≈": "~", "≤": "<=", "≥": ">=", "≠": "!=",
    "×": "x", "÷": "/", "·": "*", "∂": "d", "Σ": "sum", "√": "sqrt", "∞": "inf", "′": "'", "‖": "||",
    "½": "1/2", "µ": "u", "“": '"', "”": '"', "‘": "'", "’": "'", "│": "|", "━": "-", "─": "-", "█": "#",
}  # fmt: skip


def plain(text: str) -> str:
    """Text in ASCII, with the nearest characters for arrows, signs, Greek letters and bars.

    >>> plain("8 → 4, η ≈ 10⁻³, wᵀ ≤ 2³²")
    '8 -> 4, eta ~ 10^-3, w^T <= 2^32'
    """
    text = _RAISED.sub(r"^\g<0>", text)
    return "".join(each if each.isascii() else _PLAIN.get(each) or _nearest(each) for each in text)


def _nearest(character: str) -> str:
    """The name of a Greek letter, or the ASCII letters in a character's decomposition, or a question mark."""
    words = name(character, "").split()
    if words[:1] == ["GREEK"] and "LETTER" in words:
        word = words[words.index("LETTER") + 1]
        return word.capitalize() if "CAPITAL" in words else word.lower()
    if character == "⁻":
        return "-"
    codes = [part for part in decomposition(character).split() if not part.startswith("<")]
    made = "".join(chr(int(code, 16)) for code in codes)
    return "".join(filter(str.isascii, made)) or "?"


def _encode(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text, start, end = error.object, error.start, error.end
    if raised := _RAISED.match(text, end - 1):  # a power is written in one way, though Latin-1 has ¹²³
        end = raised.end()
    found = plain(text[start:end])
    return found.removeprefix("^") if start and _RAISED.match(text[start - 1]) else found, end


codecs.register_error("backprop_xp.plain", _encode)


def prepare() -> None:
    """Make standard output and error write characters that their encoding lacks in ASCII.

    A closed standard error is replaced, since otherwise its text would go to standard output.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backprop_xp.plain")


def style(name: str, stream: Any = None) -> Callable[[str], str]:
    """A function that makes text bold or coloured on a terminal, and leaves it as it is elsewhere.

    The environment variables NO_COLOR and TERM=dumb switch colours off; so does the old console of Windows.
    FORCE_COLOR switches them on where there is no terminal.

    Args:
        name: 'bold', 'red', 'green' or 'blue'.
        stream: where the text will be written; None for standard output.

    >>> style("red")("no terminal here")
    'no terminal here'
    """
    stream = sys.stdout if stream is None else stream
    old_console = os.name == "nt" and not {"WT_SESSION", "TERM"} & set(os.environ)
    off = os.environ.get("TERM") == "dumb" or old_console or stream is None or not stream.isatty()
    if os.environ.get("NO_COLOR") or (off and not os.environ.get("FORCE_COLOR")):
        return str
    code = _CODES[name]
    return lambda text: f"\x1b[{code}m{text}\x1b[0m"


def discard(stream: Any) -> None:
    """Discard what is still to be written to a broken stream, so that closing it raises nothing."""
    with suppress(OSError, AttributeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def columns(most: int = _ANY) -> int:
    """The width of the terminal, or that in the environment variable COLUMNS; from 20 to `most`."""
    return max(20, min(most, shutil.get_terminal_size((most, 24)).columns))


def folded(text: str, width: int | None = None, hang: int = 0) -> str:
    r"""Text with lines that are too long wrapped between words.

    Args:
        text: one or more lines.
        width: the columns of a line; None for those of the terminal.
        hang: the columns by which continued lines are indented; 0 for two more than the line itself has.

    >>> folded("loss     0.005 above its floor", 20, 9)
    'loss     0.005 above\n         its floor'
    """
    width = width or columns()
    return "\n".join(
        line
        if len(line) <= width
        else "\n".join(whole_words(line, width, subsequent_indent=" " * (hang or _hang(line))))
        for line in text.split("\n")
    )


def whole_words(text: str, width: int, **settings: Any) -> list[str]:
    """Text as lines of at most this width; a longer word has a line of its own."""
    return wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False, **settings)


def _hang(line: str) -> int:
    """The indentation for the continuation of a line: two more than its own, 0 for a line without any."""
    indent = len(line) - len(line.lstrip())
    return indent + 2 if indent else 0


def complain(text: str) -> None:
    """Print a line on standard error, if it can be written to."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 (this is where it is printed)
    except OSError:
        discard(sys.stderr)
