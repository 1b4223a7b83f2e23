"""The articles as a small site: a page for each, on which its nets are stepped through, and an index.

Every page is one file that opens from a folder without a network. The index counts the printed figures
that agree and lists the errata, as the report does.
"""

from collections.abc import Iterator
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from .. import insight
from ..insight.diagram import as_svg
from ..insight.explain import Explanation
from ..insight.words import sign_of
from .examples import Article, Example, load
from .nets import Model, linear, model
from .report import MARK_NAMES, counted
from .runner import ERRATUM, Result, arithmetic_for, run
from .writing import label, shown

Json = dict[str, Any]

BROCCOLI = {
    "inputs": ["broccoli", "strawberries", "workout"],
    "outputs": ["health"],
    "samples": ["bad shape", "good shape", "good, too"],
}
_TITLE = "Five articles on backpropagation, recomputed"


def site(folder: str | Path) -> list[Path]:
    """Write the site: `index.html` and one page for each article.

    Args:
        folder: made if it is not there.

    Returns:
        The files, the index first.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written, entries = [], []
    for article in load():
        results = [run(example) for example in article.examples]
        name = f"article-{article.number}.html"
        found = explanation(article)
        (folder / name).write_text(found.page(title=article.title), encoding="utf-8")
        written.append(folder / name)
        entries.append(_entry(article, results, name, _diagram(found.data)))
    index = folder / "index.html"
    index.write_text(_index("".join(entries)), encoding="utf-8")
    return [index, *written]


def explanation(article: Article, language: str = "en") -> Explanation:
    """The nets of an article, each explained step by step."""
    runs = [each for example in article.examples for each in _runs(article, example, language)]
    first, *rest = (found.data for found in runs)
    return Explanation(first | {"runs": [*first["runs"], *(own for data in rest for own in data["runs"])]})


def _runs(article: Article, example: Example, language: str) -> Iterator[Explanation]:
    """The explanation of an example: of a net in the general form, or of one step of three weights."""
    settings: Json = {"batch_size": 1, "epochs": 1, "labels": None, "language": language}
    if example.kind == "net":
        form = example.inputs
        samples = [(sample["x"], sample["y"]) for sample in form["samples"]]
        whole = form["mode"] != "per_sample"
        settings |= {"batch_size": len(samples) if whole else 1, "epochs": form.get("epochs", 1)}
        settings["labels"] = BROCCOLI if article.number == 2 else None
    elif example.kind == "update_direction":
        given = example.inputs
        form = {
            "layers": [linear([given["w2"]]), {"kind": "relu"}],
            "loss": "half_squared_error",
            "rate": given["alpha"],
        }
        samples = [(given["o1"], [given["y"]])]
    else:
        return
    made = model(form, arithmetic_for(example, None))
    yield _explained(made, samples, article, example, frozen=not form.get("update_biases", True), **settings)


def _explained(
    made: Model, samples: Any, article: Article, example: Example, *, frozen: bool, **settings: Any
) -> Explanation:
    learner, w, s = made.learner, made.w, made.s
    if frozen:
        learner, w, s = learner.freeze([b for b in learner.net.shapes if b.endswith(".b")], w, s)
    array = made.arithmetic.array
    x, t = array([list(x) for x, _ in samples]), array([list(t) for _, t in samples])
    found = insight.explain(learner, w, s, x, t, title=example.title, **settings)
    (own,) = found.data["runs"]
    own |= {"id": example.id, "article": article.title, "about": article.about}
    return found


# ---------------------------------------------------------------- the index
def _index(entries: str) -> str:
    about = (
        "Every printed figure beside ours, in fractions where values are rational. Step through each "
        "net, and read why every weight moved."
    )
    style = files(__package__).joinpath("data", "site.css").read_text(encoding="utf-8")
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{view}<title>{_TITLE}</title>'
        f"<style>{style}</style></head>"
        f'<body><main><h1>{_TITLE}</h1><p class="soft">{about}</p>{entries}</main></body></html>'
    )


def _diagram(data: Any) -> str:
    """The first step in which a weight moves, as SVG."""
    steps = [(run, step) for run in data["runs"] for step in run["steps"]]
    moving = (pair for pair in steps if any(sign_of(why["change"]) for why in pair[1]["why"]))
    return as_svg(*next(moving, steps[0]))


def _entry(article: Article, results: list[Result], page: str, diagram: str) -> str:
    count = counted(results)
    told = ", ".join(f"{n} {MARK_NAMES[mark]}" for mark, n in count.items() if n) or "no printed figures"
    rows = "".join(_row(result) for result in results if result.figures)
    titles = "".join(f"<th>{each}</th>" for each in ("figure", "article", "ours", "verdict"))
    table = (
        "<details><summary>The printed figures beside ours</summary>"
        f'<div class="wide" tabindex="0" role="region" aria-label="Figures of article {article.number}">'
        f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )
    errata = "".join(
        f"<li>{escape(result.example.erratum or '')}</li>"
        for result in results
        if any(figure.mark == ERRATUM for figure in result.figures)
    )
    return (
        f'<section><div class="top"><div><h2>{article.number}. {escape(article.title)}</h2>'
        f'<p>{escape(article.about)}</p><p class="soft">Printed figures: {told}.</p>'
        f'<p><a class="go" href="{page}" aria-label="Step through its nets, article {article.number}">'
        f"Step through its nets</a></p></div><figure>{diagram}</figure></div>"
        + (table if rows else "")
        + (f"<details><summary>Errata</summary><ul>{errata}</ul></details>" if errata else "")
        + "</section>"
    )


def _row(result: Result) -> str:
    return "".join(
        f"<tr><td>{escape(label(figure.printed.path))}</td><td>{escape(figure.printed.text)}</td>"
        f"<td>{escape(shown(figure.ours))}</td><td>{escape(figure.mark)}</td></tr>"
        for figure in result.figures
    )
