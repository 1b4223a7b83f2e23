"""The articles as a small site: a page for each, on which its nets are stepped through, and an index.

Every page is one file that opens from a folder without a network. The index has the counts of printed
figures that agree and the errata, the report's own.
"""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from .. import insight
from ..insight.explain import Explanation
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
_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.55 system-ui, "DejaVu Sans", sans-serif; max-width: 46rem; margin: 2rem auto; }
body { padding: 0 1rem; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #8886; }
td { vertical-align: top; }
.wide { overflow-x: auto; }
a { color: #0a5fa5; }
@media (prefers-color-scheme: dark) { body { background: #15171b; color: #eceae4; } a { color: #74c0f7; } }
summary { cursor: pointer; }
"""
_TITLE = "Five articles on backpropagation, recomputed"


def site(folder: str | Path) -> list[Path]:
    """Write the site: `index.html` and one page an article.

    Args:
        folder: made if it is not there.

    Returns:
        The files, the index first.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files, entries = [], []
    for article in load():
        results = [run(example) for example in article.examples]
        name = f"article-{article.number}.html"
        page = explanation(article).page(title=article.title)
        (folder / name).write_text(page, encoding="utf-8")
        files.append(folder / name)
        entries.append(_entry(article, results, name))
    index = folder / "index.html"
    index.write_text(_index("".join(entries)), encoding="utf-8")
    return [index, *files]


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
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{view}<title>{_TITLE}</title>'
        f"<style>{_STYLE}</style></head>"
        f"<body><main><h1>{_TITLE}</h1><p>{about}</p>{entries}</main></body></html>"
    )


def _entry(article: Article, results: list[Result], page: str) -> str:
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
        f"<section><h2>{article.number}. {escape(article.title)}</h2><p>{escape(article.about)}</p>"
        f'<p><a href="{page}">Step through its nets</a> <span class="soft">({told})</span></p>'
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
