"""The benchmarks: the tables agree, what is computed is checked, figures are counted right. Never a speed."""

import importlib
import json
import sys
from pathlib import Path

import pytest

INF, NAN = float("inf"), float("nan")
ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks" / "__main__.py").exists():
    pytest.skip("the benchmarks are not part of this installation", allow_module_level=True)
sys.path.insert(0, str(ROOT))

cli, contenders, engine, goals, picture, report, results, works = (
    importlib.import_module(f"benchmarks.{name}")
    for name in ("cli", "contenders", "engine", "goals", "picture", "report", "results", "works")
)
worker = importlib.import_module("benchmarks.worker")
plain = importlib.import_module("benchmarks.contenders.plain")


def test_every_work_has_ours_and_rivals():
    for work in works.WORKS:
        families = {each.family for each in contenders.CONTENDERS if each.does(work)}
        assert {"ours", "torch", "numpy"} <= families, work.name
        assert len(work.activations) == len(work.widths) - 1
        assert 0 < work.check <= work.batches


def test_every_contender_is_in_the_package_and_does_some_work():
    names = [each.name for each in contenders.CONTENDERS]
    assert len(set(names)) == len(names)
    for each in contenders.CONTENDERS:
        assert any(each.does(work) for work in works.WORKS)
        module, _, cls = each.where.partition(":")
        source = ROOT / "benchmarks" / "contenders" / f"{module}.py"
        assert f"class {cls}" in source.read_text(encoding="utf-8")


def test_every_goal_names_a_work_and_contenders():
    known = {each.name for each in contenders.CONTENDERS}
    for goal in goals.GOALS:
        assert goal.level in goals.LEVELS
        assert works.find(goal.work)
        assert {goal.ours, *goal.rivals} <= known


@pytest.mark.parametrize(
    ("wanted", "names"), [("W1", ["W1a", "W1b"]), ("W5", ["W5r", "W5"]), ("W6/2,W3", ["W3", "W6/2"])]
)
def test_works_are_found_by_name(wanted, names):
    assert [work.name for work in works.find(wanted)] == names


def test_an_unknown_work_is_told(capsys):
    assert cli.main(["--works", "W9"]) == 2
    assert "no work 'W9'" in capsys.readouterr().err


def test_the_products_of_a_step_are_counted():
    work = works.Work("", "", (3, 4, 2), 5, 1)
    assert work.flops == 2 * 5 * (3 * 4 + 4 * 2) + 2 * 5 * (3 * 4 + 4 * 2) + 2 * 5 * 4 * 2


def test_the_list_names_works_and_contenders(capsys):
    assert cli.main(["--list"]) == 0
    told = capsys.readouterr().out
    assert all(work.name in told for work in works.WORKS)
    assert all(each.name in told for each in contenders.CONTENDERS)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The JSON of a quick run of two works by two contenders."""
    folder = tmp_path_factory.mktemp("results")
    argv = ["--quick", "--works", "W2,W5r", "--rounds", "3", "--out", str(folder)]
    assert cli.main([*argv, "--contenders", "ours numpy,plain numpy,ours read,plain numpy read"]) == 0
    (path,) = folder.iterdir()
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_run_is_written_with_all_that_is_needed(quick):
    assert quick["quick"] is True
    assert {"date", "rounds", "machine", "versions", "missing", "works", "goals"} <= quick.keys()
    assert {"processor", "cores", "gigabytes", "system"} <= quick["machine"].keys()
    assert {"python", "numpy", "backprop-xp"} <= quick["versions"].keys()
    w2 = quick["works"][1] if quick["works"][0]["name"] == "W5r" else quick["works"][0]
    assert not w2["failed"]
    for each in w2["contenders"].values():
        assert len(each["seconds"]) == 3
        assert each["told"]["low"] <= each["told"]["median"] <= each["told"]["high"]
        assert each["megabytes"] > 0
        assert each["share_of_limit"] > 0


def test_ratios_are_the_rivals_time_over_ours(quick):
    for work in quick["works"]:
        for ours, rivals in work["ratios"].items():
            for rival, told in rivals.items():
                a, b = (work["contenders"][name]["seconds"] for name in (ours, rival))
                assert told["median"] == sorted(y / x for x, y in zip(a, b, strict=True))[1]


def test_the_tables_can_be_written(quick, tmp_path):
    assert "ours numpy" in report.table(quick)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    report.fill(quick, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert "| W2 | ours numpy |" in text


def test_the_page_on_performance_has_its_markers():
    text = report.PAGE.read_text(encoding="utf-8")
    assert text.count(report.BEGIN) == text.count(report.END) == 1
    assert text.index(report.BEGIN) < text.index(report.END)


def test_a_quick_run_is_never_drawn(quick, tmp_path):
    with pytest.raises(ValueError, match="quick"):
        picture.draw(quick, tmp_path)


def test_a_run_is_drawn(quick, tmp_path):
    pytest.importorskip("matplotlib")
    paths = picture.draw(quick | {"quick": False}, tmp_path)
    assert sorted(path.name for path in paths) == ["benchmarks.png", "benchmarks.svg"]
    assert all(path.stat().st_size > 1000 for path in paths)


def test_spreads_and_ratios():
    assert results.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "low": 1.5, "high": 2.5}
    assert results.spread([5.0]) == {"median": 5.0, "low": 5.0, "high": 5.0}
    assert results.ratio([1.0, 2.0, 4.0], [2.0, 8.0, 4.0])["median"] == 2.0


@pytest.mark.parametrize(
    ("found", "gap"),
    [([1.0, 3.0], 0.0), ([1.0, 3.2], 0.1), ([2.0], 0.0), ([1.0, NAN], INF), ([], INF)],
)
def test_losses_are_compared_with_the_reference(found, gap):
    assert engine.difference(found, [1.0, 3.0]) == pytest.approx(gap)


class Wrong(plain.Plain):
    """A rival whose weights grow by a thousandth in every step."""

    def update(self, k, g):
        super().update(k, g)
        self.params[k] *= 1.001


def test_a_rival_that_computes_something_else_is_told_and_not_timed(monkeypatch):
    monkeypatch.setattr(plain, "Wrong", Wrong, raising=False)
    (work,) = works.find("W2", quick=True)
    right, wrong = contenders.by_name("plain numpy"), contenders.Contender("wrong", "numpy", "plain:Wrong")
    race = engine.race(work, [right, wrong], 1, start=worker.Worker, rest=0.0)
    assert list(race.entries) == ["plain numpy"]
    assert "losses differ" in race.failed["wrong"]


def test_a_contender_runs_in_a_process_of_its_own():
    (work,) = works.find("W2", quick=True)
    broken = contenders.Contender("plain numpy read", "numpy", "plain:Reading")  # not meant for this work
    race = engine.race(work, [contenders.by_name("ours numpy"), broken], 2, rest=0.0)
    assert len(race.entries["ours numpy"].seconds) == 2
    assert race.megabytes["ours numpy"] > 10
    assert set(race.failed) == {"plain numpy read"}


def test_goals_are_judged():
    told = {"seconds": [1.0], "megabytes": 90.0, "share_of_own_product": 0.8}
    found = {
        "name": "W4",
        "contenders": {"ours numpy": told, "torch fused": told | {"megabytes": 300.0}},
        "ratios": {"ours numpy": {"torch fused": {"median": 0.9}}},
    }
    judged = {
        (goal["level"], goal["measure"]): goal for goal in goals.judge([found]) if goal["met"] is not None
    }
    assert judged["must", "memory"]["found"] == pytest.approx(0.3)
    assert goals.verdict(judged["must", "memory"]) == "met: 0.3"
    assert goals.verdict(judged["must", "product"]) == "missed: 0.8, 11% short"
