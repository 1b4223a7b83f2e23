"""The articles' figures with ours beside them: as text, or as JSON."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from .examples import Article, load
from .runner import BRANCH, EQUAL, ERRATUM, MARKS, ROUNDED, WRONG, Figure, Mark, Result, flat, run
from .writing import columns, label, paragraph, shown, width

FEW = 3  # for an example with fewer printed figures, our values are shown too
LINES = 12  # lines of our values, when all articles are shown
INDENT = "    "  # of tables of our values
_MORE = {
    "backprop-xp articles --article 2": "every figure of one beside ours",
    "backprop-xp articles --all": "all of them",
    "backprop-xp articles --backend numpy": "what floats make of them",
    "backprop-xp articles --page site": "pages to step through",
}
MARK_NAMES = {
    EQUAL: "equal",
    ROUNDED: "equal after rounding",
    ERRATUM: "errata of the articles",
    BRANCH: "float branch",
    WRONG: "wrong",
}


def main(
    backend: str | None = None, as_json: bool = False, only: int | None = None, *, brief: bool = False
) -> int:
    """Recompute the articles and print their figures with ours beside them.

    Args:
        backend: by name; without one fractions, and NumPy where values are irrational.
        as_json: print one JSON document.
        only: the number of an article, 1 to 5, to show only this one, with all its values.
        brief: show one line for each article.

    Returns:
        The exit status: 0, or 1 where a figure that should agree does not.

    Raises:
        BackendUnavailable: the library is not installed.
        BackpropError: there is no such backend, or no such article.

    >>> from contextlib import redirect_stdout
    >>> from io import StringIO
    >>> with redirect_stdout(StringIO()) as out:
    ...     status = main(only=3)
    >>> print(status, out.getvalue().splitlines()[-1])
    0 2 figures: 0 equal, 0 equal after rounding, 2 errata of the articles, 0 wrong
    """
    found = [(article, [run(example, backend) for example in article.examples]) for article in load(only)]
    results = [result for _, results in found for result in results]
    if as_json:
        sys.stdout.write(json.dumps(document(found, backend), indent=1, ensure_ascii=False) + "\n")
    else:
        lines = summary(found) if brief and only is None else text(found, whole=only is not None)
        for line in lines:
            sys.stdout.write(line.rstrip() + "\n")
    return 0 if all(result.ok for result in results) else 1


def counted(results: Iterable[Result]) -> dict[Mark, int]:
    """The number of figures with each mark."""
    count = Counter(figure.mark for result in results for figure in result.figures)
    return {mark: count[mark] for mark in MARKS}


# -------------------------------------------------------------- JSON
def document(found: Sequence[tuple[Article, list[Result]]], backend: str | None) -> dict[str, Any]:
    """All examples, figures and values as one JSON document; fractions are text."""
    count = counted(result for _, results in found for result in results)
    articles = [
        {"number": article.number, "title": article.title, "examples": [_example(r) for r in results]}
        for article, results in found
    ]
    return {
        "backend": backend or "exact",
        "counts": {"figures": sum(count.values()), **count},
        "articles": articles,
    }


def _example(result: Result) -> dict[str, Any]:
    example = result.example
    figures = [
        {
            "path": figure.printed.path,
            "printed": figure.printed.text,
            "value": figure.printed.value,
            "ours": _plain(figure.ours),
            "mark": figure.mark,
            **({"why": example.erratum} if figure.mark == ERRATUM else {}),
        }
        for figure in result.figures
    ]
    return {
        "id": example.id,
        "title": example.title,
        "source": example.source,
        "formula": example.formula,
        "backend": result.arithmetic.backend,
        "dtype": result.arithmetic.kind,
        "inputs": example.inputs,
        "figures": figures,
        "values": _plain(result.values),
        "branch": result.branch,
        "erratum": example.erratum,
        "note": example.note,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Fraction) else value


# -------------------------------------------------------------- text
def text(found: Sequence[tuple[Article, list[Result]]], *, whole: bool) -> Iterator[str]:
    """The report, line by line.

    Args:
        found: articles with their results.
        whole: show all our values; else at most `LINES` lines of them, and only for examples with few
            printed figures.
    """
    results = [result for _, results in found for result in results]
    kinds = dict.fromkeys(
        "fractions" if r.arithmetic.exact else f"{r.arithmetic.backend} {r.arithmetic.kind}" for r in results
    )
    where = ", and in ".join(kinds) + (" where values are irrational" if len(kinds) > 1 else "")
    yield from paragraph(f"The articles, computed in {where}.", "")
    yield from paragraph(
        "Each printed figure is beside ours; rows, steps and samples are counted from 1.", ""
    )
    for article, own in found:
        yield from ("", "=" * width(), *paragraph(article.title, f"Article {article.number}: "))
        yield from (*paragraph(article.about, ""), "=" * width())
        formula = ""
        for result in own:
            yield from _example_text(result, article.number, formula, whole=whole)
            formula = result.example.formula
    yield ""
    count = counted(results)
    parts = [f"{n} {MARK_NAMES[mark]}" for mark, n in count.items() if n or mark != BRANCH]
    yield from paragraph(", ".join(parts), f"{sum(count.values())} figures: ")


def summary(found: Sequence[tuple[Article, list[Result]]]) -> Iterator[str]:
    """A line for each article, their sum, and the commands that show more."""
    rows = [(str(article.number), _title(article), _told(own)) for article, own in found]
    yield from columns(rows, "")
    yield ""
    yield from paragraph(_told([result for _, results in found for result in results]), "All: ")
    yield ""
    wide = max(map(len, _MORE)) + max(map(len, _MORE.values())) + 2 <= width()
    yield from columns(list(_MORE.items()), "") if wide else _MORE


def _title(article: Article) -> str:
    """The title without the name of its series and without remarks."""
    return article.title.partition(" (")[0].rpartition(" - ")[2]


def _told(results: Iterable[Result]) -> str:
    """The number of printed figures, and of those that agree."""
    count = counted(results)
    errata = "erratum" if count[ERRATUM] == 1 else "errata"
    counts = {"equal": count[EQUAL] + count[ROUNDED], errata: count[ERRATUM],
              "in another float branch": count[BRANCH], "WRONG": count[WRONG]}  # fmt: skip
    told = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
    total = sum(count.values())
    return f"{total} {'figure' if total == 1 else 'figures'}: {told}"


def _example_text(result: Result, number: int, last_formula: str, *, whole: bool) -> Iterator[str]:
    example = result.example
    yield ""
    yield from paragraph(example.title, f"{example.id}: ", "  ")
    if example.source:
        yield from paragraph(example.source, "  From: ")
    if whole:
        again = example.formula == last_formula
        yield from paragraph("as before" if again else example.formula, "  Formula: ")
    if result.figures:
        rows = [
            (label(figure.printed.path), figure.printed.text, _ours(figure), figure.mark)
            for figure in result.figures
        ]
        yield from columns([("", "article", "ours", ""), *rows])
    if result.branch:
        yield from paragraph(result.branch, "  Floats: ")
    if whole or len(result.figures) < FEW:
        lines = list(_values(result))
        yield "  our values"
        yield from lines if whole else lines[:LINES]
        if len(lines) > LINES and not whole:
            yield f"    … and {len(lines) - LINES} more lines: --article {number} shows all"
    for head, remark in (("Erratum", example.erratum), ("Note", example.note)):
        if remark:
            yield from paragraph(remark, f"  {head}: ")


def _ours(figure: Figure) -> str:
    if figure.printed.path.endswith("correct"):
        return "right" if figure.ours else "wrong"
    return shown(figure.ours)


def _values(result: Result) -> Iterator[str]:
    """Our values: steps of a net node by node; rows as a table if it fits, else one value per line."""
    rest = dict(result.values)
    if result.example.kind == "net":
        yield from _steps(rest.pop("steps"), result.example.inputs["layers"])
    rows = rest.pop("rows", None)
    if rows:
        briefly = [[shown(value, brief=True) for value in row.values()] for row in rows]
        table = [["row", *rows[0]], *([str(k), *row] for k, row in enumerate(briefly, 1))]
        natural = sum(max(len(cell) for cell in column) + 2 for column in zip(*table, strict=True))
        fits = natural + len(INDENT) <= width()
        yield from columns(table if fits else list(_lines({"rows": rows}, "")), INDENT)
    if rest:
        yield from columns(list(_lines(rest, "")), INDENT)


def _steps(steps: list[dict[str, Any]], layers: list[dict[str, Any]]) -> Iterator[str]:
    kinds = ["input", *(layer["kind"] for layer in layers)]
    for k, step in enumerate(steps):
        for n, sample in enumerate(step.get("per_sample", [step]), step.get("sample", 0)):
            nodes = zip(kinds, sample["outputs"], sample["flow"], strict=True)
            table = [(f"{v} {kind}", shown(o), shown(e)) for v, (kind, o, e) in enumerate(nodes)]
            yield from columns([(f"step {k + 1}, sample {n + 1}", "o", "e = ∂E/∂o"), *table], INDENT)
        rest = {key: value for key, value in step.items() if key not in ("outputs", "flow", "per_sample")}
        yield from columns(list(_lines(rest, f"steps.{k}")), INDENT)


def _lines(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _lines(each, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for k, each in enumerate(value):
            yield from _lines(each, f"{path}.{k}")
    elif type(value) is not int and any(each is not None for each in flat(value)):
        yield label(path), shown(value)  # bare ints are positions, which the label has already
