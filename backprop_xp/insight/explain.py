"""Explained updates: why each weight moved, as data for text, tables, pictures and pages.

An explanation is one JSON document (`schema.json`). Its numbers are text, exact on the exact backend; its
sentences are keys of one table (`languages/*.json`), with slots that a view fills. All numbers come from
the library's own passes: a trace of each step, and further forward passes for what is claimed: that a
move alone changes the net input as meant, what the loss would be with this weight alone moved, and each
weight's exact share of the change (`shares`).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from .. import backends
from ..arrays import Array, leaves
from ..errors import BackpropError, FileError, listed
from ..groups import check_patterns
from ..layers import check_count
from ..learner import Learner
from ..printed import settings
from ..step import State
from .document import ExplainedStep, of_rows
from .labels import Labels
from .notebook import as_html
from .page import TITLE, as_page
from .pictures import picture
from .text import as_rows, as_text
from .trace import check_learner

SCHEMA, VERSION = "backprop-xp/explained-updates", "1.0"
MOST = 64  # weights and samples that are explained one by one, unless more are asked for
MOST_STEPS = 1000

Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Explained updates: a document, and its views.

    Attributes:
        data: the document; see `schema.json` in this package.
    """

    data: Json

    def to_json(self, *, indent: int | None = None) -> str:
        """The document as text."""
        return json.dumps(self.data, ensure_ascii=False, indent=indent)

    def text(self, width: int | None = None) -> str:
        """Every step as plain text: a table of the weights, why each moved, what it did to every sample.

        Args:
            width: characters of a line; tables that are wider are printed as a block of lines for each row.
        """
        return as_text(self.data, width)

    def table(self) -> list[Json]:
        """One row for each weight and step, for a data frame: its numbers, fractions or floats, and why.

        >>> import backprop_xp as bp
        >>> net = bp.chain(1, bp.layers.Linear(1, bias=False))
        >>> learner = bp.Learner(net, update=bp.GradientDescent("1/10"))
        >>> w, s = learner.init(backend="exact", weights={"dense1.w": [[1]]})
        >>> (row,) = bp.explain(learner, w, s, *(bp.asarray([[a]], like=w) for a in (2, 3))).table()
        >>> row["weight"], row["input"], row["delta"], row["change"], row["share"]
        ('x1 → dense1', Fraction(2, 1), Fraction(-1, 1), Fraction(1, 5), Fraction(-8, 25))
        """
        return as_rows(self.data)

    def picture(
        self, kind: str = "diagram", path: str | Path | None = None, *, step: int = -1, run: int = 0
    ) -> Any:
        """A picture as a matplotlib figure, saved to `path` if one is given.

        Args:
            kind: one of `pictures.PICTURES`.
            path: of a .png, .svg or .pdf.
            step: its number, from 0; −1 for the last.
            run: which of several nets, from 0.
        """
        figure = picture(self.data, kind, step, run)
        if path is not None:
            _written(path, lambda: figure.savefig(path, dpi=160))
        return figure

    def _repr_html_(self) -> str:
        return as_html(self.data)

    def page(self, path: str | Path | None = None, title: str = TITLE) -> str:
        """The page, one HTML file that needs no network; written to `path`, if one is given."""
        found = as_page(self.data, title)
        if path is not None:
            _written(path, lambda: Path(path).write_text(found, encoding="utf-8"))
        return found

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        steps = sum(len(run["steps"]) for run in self.data["runs"])
        return f"Explanation({steps} steps; print it, or see .text(), .to_json())"


def _written(path: str | Path, write: Callable[[], Any]) -> None:
    try:
        write()
    except (OSError, ValueError) as error:  # ValueError: of matplotlib, for a suffix it does not know
        msg = f"{path} cannot be written: {getattr(error, 'strerror', None) or error}"
        raise FileError(msg) from error


def sentences(language: str) -> dict[str, str]:
    """The table of sentences of a language.

    Raises:
        BackpropError: there is no such language.

    >>> sentences("en")["move.up"], sentences("de")["move.up"]
    ('So the weight increases by {change}.', 'Also wird das Gewicht um {change} größer.')
    """
    folder = files(__package__).joinpath("languages")
    there = sorted(
        each.name.removesuffix(".json") for each in folder.iterdir() if each.name.endswith(".json")
    )
    if language not in there:
        msg = f"there are no sentences in {language!r}; there are {listed(there)}"
        raise BackpropError(msg)
    return dict(json.loads(folder.joinpath(f"{language}.json").read_text(encoding="utf-8")))


def explain(
    learner: Learner,
    w: Array,
    s: State,
    *batch: Any,
    batch_size: int = 1,
    epochs: int = 1,
    labels: Mapping[str, Sequence[str]] | None = None,
    layers: str | Iterable[str] = "*",
    most: int = MOST,
    language: str = "en",
    title: str = "",
) -> Explanation:
    """Why each weight moves in the steps that learn from these rows, in their order; w and s are not changed.

    Args:
        learner: makes the steps.
        w: the weights.
        s: the state.
        batch: x, t and, if wanted, sample weights.
        batch_size: rows of a step; with 1, each sample is explained by itself, with more, the samples vote.
        epochs: passes over the rows.
        labels: names of "inputs", "outputs" and "samples", each a list.
        layers: whose weights are explained: names or patterns of layers or blocks.
        most: the number of weights that are explained in a step, those that moved most. It is also the
            largest number of samples that are shown, and of numbers in a block that is shown.
        language: of the sentences, "en" or "de".
        title: of the page.

    Raises:
        BackpropError: a batch that does not fit, labels of the wrong number, layers that are not there, an
            unknown language, more than a thousand steps.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.layers.Linear(1, bias=False)), update=bp.GradientDescent("1/10"))
    >>> w, s = learner.init(backend="exact", weights={"dense1.w": [[1], [0]]})
    >>> x, t = (bp.asarray(a, like=w) for a in ([[1, -2]], [[3]]))
    >>> why = explain(learner, w, s, x, t).data["runs"][0]["steps"][0]["why"][1]
    >>> why["change"], why["says"][:4]
    ('-2/5', ['lower', 'want.up', 'input.-', 'move.down'])
    """
    batch_size = check_count(batch_size, "the batch size")
    most = check_count(most, "the number of weights")
    patterns = [layers] if isinstance(layers, str) else list(layers)
    check_learner(learner)
    learner.check(w, s, *batch)
    check_patterns(patterns, learner.net.shapes, "weights")
    named = Labels(learner, batch, labels or {})
    steps, n = [], leaves(batch)[0].shape[0]
    starts = list(range(0, n, batch_size)) * check_count(epochs, "the number of epochs")
    if len(starts) > MOST_STEPS:
        msg = f"at most {MOST_STEPS:,} steps, got {len(starts):,}: give fewer rows, or a larger batch_size"
        raise BackpropError(msg)
    for start in starts:
        rows = range(start, min(start + batch_size, n))
        after, s_after, _ = learner.step(*learner.snapshot(w, s), *of_rows(batch, rows))
        steps.append(ExplainedStep(learner, w, after, s, batch, rows, named, patterns, most).document())
        w, s = after, s_after
    run = {
        "id": "run",
        "title": title,
        "arithmetic": _arithmetic(w),
        "net": _net(learner, named),
        "rule": "; ".join(settings(each) for each in (learner.update, learner.penalty, learner.clip) if each),
        "frozen": sorted(learner.net.frozen),
        "samples": named.samples(batch),
        "steps": steps,
    }
    return Explanation(
        {
            "schema": SCHEMA,
            "version": VERSION,
            "language": language,
            "sentences": sentences(language),
            "runs": [run],
        }
    )


def _arithmetic(w: Array) -> Json:
    to = backends.of(w)
    kind = str(w.dtype).rpartition(".")[2]
    return {"backend": to.name, "dtype": kind, "exact": to.name == "exact"}


def _net(learner: Learner, named: Labels) -> Json:
    layers = []
    for node, shape in zip(learner.net.nodes, learner.net.outputs, strict=True):
        f = getattr(node.layer, "f", None)
        layers.append({
            "name": node.name,
            "kind": type(node.layer).__name__.lower(),
            "activation": None if f is None else settings(f),
            "units": shape[-1],
            "inputs": list(node.inputs),
            "labels": named.units[node.name],
            "blocks": [b for b in learner.net.shapes if b.rpartition(".")[0] == node.name],
        })  # fmt: skip
    return {"layers": layers, "loss": settings(learner.loss), "reduction": learner.reduction}
