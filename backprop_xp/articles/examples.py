"""The five articles as data: their nets, samples, printed figures, and where they are wrong."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from ..errors import BackpropError

Numbers = Literal["fractions", "fractions alone", "floats"]
Marked = Literal["exact", "rounded"]


@dataclass(frozen=True)
class Printed:
    """A figure an article prints.

    Attributes:
        path: which of our values: names and positions (from 0), joined by dots; a path that begins
            with `inputs.` is a given number.
        text: the figure as the article writes it.
        value: the value of the text: a number as text, a word, true or false, or a list of these.
        how: whether the figure is the 'exact' value or a 'rounded' one.
        agrees: whether the article's figure is right.
    """

    path: str
    text: str
    value: Any
    how: Marked
    agrees: bool


@dataclass(frozen=True)
class Example:
    """One worked example.

    Attributes:
        id: its name.
        kind: the key, in `runner.KINDS`, of the function that computes it.
        title: what it shows.
        formula: its formulas, in the article's notation.
        inputs: the given values; numbers are text such as '1/3'.
        numbers: 'fractions' if floats give the same result; 'fractions alone' if rounding of an exact
            zero before a ReLU makes floats take the other branch; 'floats' if values are irrational.
        printed: the article's figures.
        erratum: what is wrong in the article, or None.
        note: a remark, or None.
        source: the source of the example if it is not the article itself, else None.
    """

    id: str
    kind: str
    title: str
    formula: str
    inputs: dict[str, Any]
    numbers: Numbers
    printed: tuple[Printed, ...] = ()
    erratum: str | None = None
    note: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Article:
    """One of the five articles.

    Attributes:
        number: 1 to 5.
        title: its title.
        about: what it teaches.
        examples: in the article's order.
    """

    number: int
    title: str
    about: str
    examples: tuple[Example, ...]


@cache
def load(only: int | None = None) -> tuple[Article, ...]:
    """The articles in order, or one of them.

    Args:
        only: the number of an article, 1 to 5.

    Raises:
        BackpropError: there is no article of this number.

    >>> [article.title for article in load(2)]
    ['The Gradient Descent Algorithm']
    >>> load(2)[0].examples[0].printed[3].text
    '(0)'
    """
    folder = files("backprop_xp.articles").joinpath("data")
    names = sorted(each.name for each in folder.iterdir() if each.name.endswith(".json"))
    found = tuple(_article(json.loads(folder.joinpath(name).read_text("utf-8"))) for name in names)
    if only is None:
        return found
    if chosen := tuple(article for article in found if article.number == only):
        return chosen
    msg = f"an article must be one of 1 to {len(found)}, got {only!r}: " + "; ".join(
        f"{article.number} is {article.title!r}" for article in found
    )
    raise BackpropError(msg)


def _article(data: dict[str, Any]) -> Article:
    return Article(**{**data, "examples": tuple(_example(each) for each in data["examples"])})


def _example(data: dict[str, Any]) -> Example:
    return Example(**{**data, "printed": tuple(Printed(**each) for each in data["printed"])})
