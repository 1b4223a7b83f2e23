"""The articles: the library gives every value of the oracle, and the report tells the truth."""

import json
import os
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

os.environ.setdefault("JAX_ENABLE_X64", "1")

from backprop_xp import BackpropError, articles
from backprop_xp.articles import report, runner
from backprop_xp.articles.nets import Arithmetic, make

ORACLE = json.loads(Path(__file__).with_name("oracles").joinpath("articles.json").read_text("utf-8"))
WANTED = {example["id"]: example for example in ORACLE["examples"]}
FOUND = {example.id: example for article in articles.load() for example in article.examples}
LIBRARY = {"numpy": "numpy", "torch": "torch", "jax": "jax"}

# An exact 0 stands before a ReLU here too; the file marks only examples of the kind "net".
ZERO_BEFORE_RELU = {"gd-forward-before", "gd-sample-1", "gd-sample-3", "wb-flow-not-needed", "ascii-zero"}


def is_irrational(value):
    if isinstance(value, dict):
        return any(is_irrational(each) for each in value.values())
    if isinstance(value, list):
        return any(is_irrational(each) for each in value)
    return isinstance(value, str) and "." in value


def numbers(wanted):
    if is_irrational(wanted["expected"]):
        return "floats"
    marked = wanted.get("float64") == "differs" or wanted.get("exact_zero_before_relu")
    return "fractions alone" if marked or wanted["id"] in ZERO_BEFORE_RELU else "fractions"


BACKENDS = {"floats": tuple(LIBRARY), "fractions": ("exact", *LIBRARY), "fractions alone": ("exact",)}
CASES = [(name, backend) for name, wanted in WANTED.items() for backend in BACKENDS[numbers(wanted)]]


def differences(want, got, path="", tolerance=None):
    """Paths at which a value of ours is not the oracle's; exact ones are compared as fractions."""
    if isinstance(want, dict):
        if not isinstance(got, dict) or set(want) != set(got):
            return [f"{path}: keys differ"]
        return [d for key in want for d in differences(want[key], got[key], f"{path}.{key}", tolerance)]
    if isinstance(want, list):
        if not isinstance(got, list) or len(want) != len(got):
            return [f"{path}: lengths differ"]
        pairs = enumerate(zip(want, got, strict=True))
        return [d for k, (a, b) in pairs for d in differences(a, b, f"{path}.{k}", tolerance)]
    return [] if same(want, got, tolerance) else [f"{path}: {want!r} is not {got!r}"]


def same(want, got, tolerance):
    if want is None or isinstance(want, (bool, int)):
        return type(want) is type(got) and want == got
    try:
        value = Fraction(want)
    except ValueError:
        return type(got) is str and want == got
    if type(got) is Fraction:
        return got == value
    return (
        tolerance is not None and type(got) is float and abs(Fraction(got) - value) <= tolerance * abs(value)
    )


def test_the_package_holds_the_same_examples():
    assert sorted(FOUND) == sorted(WANTED)
    assert len(FOUND) == 49
    for name, wanted in WANTED.items():
        found = FOUND[name]
        assert found.inputs == wanted["inputs"]
        assert [vars(printed) for printed in found.printed] == wanted["printed"]
        assert (found.kind, found.title) == (wanted["kind"], wanted["title"])
        assert (found.erratum, found.note) == (wanted["erratum"], wanted.get("note"))
        assert found.numbers == numbers(wanted)


def test_the_articles_are_the_five():
    titles = [article["title"] for article in ORACLE["articles"]]
    assert [article.number for article in articles.load()] == [1, 2, 3, 4, 5]
    assert {article.title for article in articles.load()} < set(titles)
    for article in articles.load():
        for example in article.examples:
            assert WANTED[example.id]["article"] == (example.source or article.title)


def test_every_kind_is_used():
    assert {example.kind for example in FOUND.values()} == set(runner.KINDS)


@pytest.mark.parametrize(("name", "backend"), CASES, ids=[f"{n}-{b}" for n, b in CASES])
def test_every_value_is_the_oracles(name, backend):
    if backend in LIBRARY:
        pytest.importorskip(LIBRARY[backend], reason=f"{backend} is not installed")
    result = articles.run(FOUND[name], backend)
    tolerance = None if backend == "exact" else Fraction(1, 10**12)
    assert differences(WANTED[name]["expected"], result.values, tolerance=tolerance) == []
    assert result.ok
    assert result.branch is None


@pytest.mark.parametrize("backend", LIBRARY)
@pytest.mark.parametrize("name", ["gd-net-two-epochs", "batch-of-three"])
def test_float64_learns_nothing_where_the_article_learns(name, backend):
    pytest.importorskip(LIBRARY[backend], reason=f"{backend} is not installed")
    result = articles.run(FOUND[name], backend)
    weights = [[float(Fraction(w)) for w in FOUND[name].inputs["layers"][1]["W"][0]]]
    assert [step["W_after"] for step in result.values["steps"]] == [[weights]] * len(result.values["steps"])
    assert result.values["after"]["outputs"] == [[0], [1], [0]]
    assert result.ok
    assert result.branch.startswith("float64 takes the other branch: nothing is learnt; outputs stay 0, 1, 0")


def test_float32_learns_by_luck_of_rounding():
    result = articles.run(FOUND["gd-net-two-epochs"], "numpy", "float32")
    assert result.values["steps"][2]["W_after"][0][0][1] == pytest.approx(-17 / 290000, rel=1e-5)


@pytest.mark.parametrize("backend", [None, "exact", "numpy"])
def test_the_report_passes(backend, capsys):
    assert articles.main(backend=backend) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    said = " ".join(out.split())
    if backend == "numpy":  # how many differ depends on the order in which a library adds
        assert re.search(r"107 figures: .* 12 errata of the articles, 1\d float branch, 0 wrong$", said)
        assert "nothing is learnt; outputs stay 0, 1, 0" in said
    else:
        assert said.endswith(
            "107 figures: 89 equal, 6 equal after rounding, 12 errata of the articles, 0 wrong"
        )


def test_one_article_shows_every_value(capsys):
    assert articles.main(only=5) == 0
    out = capsys.readouterr().out
    assert "Article 5" in out
    assert "Article 4" not in out
    assert "dL_da1_h2_via_2_h1" in out
    assert "lines more" not in out


def test_json_holds_figures_and_values(capsys):
    assert articles.main(as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["backend"] == "exact"
    assert document["counts"]["figures"] == 107
    assert document["counts"]["erratum of the article"] == 12
    examples = {e["id"]: e for article in document["articles"] for e in article["examples"]}
    assert set(examples) == set(WANTED)
    for name, wanted in WANTED.items():
        if numbers(wanted) != "floats":
            assert examples[name]["values"] == wanted["expected"]
    after = examples["gd-forward-after"]
    assert [f["ours"] for f in after["figures"][:3]] == ["43/100", "1", "13/10"]
    assert [f["mark"] for f in after["figures"]].count("erratum of the article") == 1
    assert all("why" in f for f in after["figures"] if f["mark"] == "erratum of the article")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gd-forward-after", {"value": "0.44"}),  # the article would be wrong, and nobody said so
        ("gd-forward-before", {"agrees": False}),  # an erratum that is none
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_figure_tampered_with_fails(name, change, as_json, monkeypatch, capsys):
    example = FOUND[name]
    printed = (replace(example.printed[0], **change), *example.printed[1:])
    article = replace(articles.load(2)[0], examples=(replace(example, printed=printed),))
    monkeypatch.setattr(report, "load", lambda only=None: (article,))
    assert articles.main(as_json=as_json) == 1
    assert "WRONG: should agree" in capsys.readouterr().out


@pytest.mark.parametrize("only", [0, 6, "2"])
def test_an_unknown_article_is_told(only):
    with pytest.raises(BackpropError, match="an article must be one of 1 to 5"):
        articles.main(only=only)


def test_unknown_kinds_and_layers_are_told():
    with pytest.raises(BackpropError, match="the kind of an example must be one of 'net'"):
        articles.run(replace(FOUND["gd-threshold"], kind="magic"))
    with pytest.raises(BackpropError, match="a layer of an article must be one of 'linear'"):
        make({"kind": "magic"}, Arithmetic())


def test_an_unknown_backend_is_told():
    with pytest.raises(BackpropError, match="a backend must be one of"):
        articles.main(backend="magic")
