"""The benchmarks: the tables agree, what is computed is checked, figures are counted right. Never a speed."""

import importlib
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

INF, NAN = float("inf"), float("nan")
ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks" / "__main__.py").exists():
    pytest.skip("the benchmarks are not part of this installation", allow_module_level=True)
sys.path.insert(0, str(ROOT))

cli, contenders, goals, picture, processes, race, report, results, run, worker, works = (
    importlib.import_module(f"benchmarks.{name}")
    for name in ("cli", "contenders", "goals", "picture", "processes", "race", "report", "results", "run",
                 "worker", "works")
)  # fmt: skip
plain = importlib.import_module("benchmarks.contenders.plain")
CONTENDERS = {each.name: each for each in contenders.CONTENDERS}
PLANTED = """
from time import sleep
from benchmarks.contenders.plain import Plain

class Failing:
    def __init__(self, work, data, threads):
        raise RuntimeError("planted")

class Hanging:
    def __init__(self, work, data, threads):
        sleep(600)

class HangingLate(Plain):
    runs = 0

    def run(self, steps):  # is ready, then does not answer in the second round
        self.runs += 1
        if self.runs > 7:
            sleep(600)
        return super().run(steps)
"""


def test_every_work_has_ours_rivals_and_a_reference():
    for work in works.WORKS:
        families = {contenders.family(each.name) for each in contenders.CONTENDERS if each.does(work)}
        others = {"jax"} if work.device == "cuda" else set() if work.regular else {"plain"}
        assert families >= {"ours", "torch"} | others, work.name
        assert any(each.does(work) for each in contenders.REFERENCES), work.name
        assert len(work.activations) == len(work.widths) - 1
        assert 0 < work.check <= (work.most if work.device == "cpu" else work.least)


def test_every_contender_is_in_the_package_and_does_some_work():
    assert len(CONTENDERS) == len(contenders.CONTENDERS)
    for each in (*contenders.CONTENDERS, *contenders.REFERENCES):
        for device in each.devices:
            assert any(each.does(work) for work in works.WORKS if work.device == device), each.name
        module, _, cls = each.where.partition(":")
        source = ROOT / "benchmarks" / "contenders" / f"{module[1:]}.py"
        assert f"class {cls}" in source.read_text(encoding="utf-8")


def test_every_goal_names_works_and_contenders_that_do_them():
    for goal in goals.GOALS:
        assert any(getattr(goal, level) is not None for level in goals.LEVELS)
        assert {goal.ours, *goal.rivals} <= CONTENDERS.keys()
        named = [work for work in works.WORKS if goal.work in (work.name, work.stem)]
        assert named or goal.work == "all"
        for work in named:
            assert CONTENDERS[goal.ours].does(work), (goal, work.name)
            assert not goal.rivals or any(CONTENDERS[name].does(work) for name in goal.rivals)
        assert goals.told({"value": 1, "rival": ""} | goal._asdict())


@pytest.mark.parametrize(
    ("wanted", "device", "names"),
    [
        ("W1", "cpu", ["W1a", "W1b"]),
        ("W5", "cpu", ["W5r", "W5"]),
        ("W6/2,W3", "cpu", ["W3", "W3/1", "W6/2"]),
        ("G3,G2", "cuda", ["G2", "G3/tf32", "G3/bf16"]),
        ("G2',G3d/bf16", "cuda", ["G2'", "G3d/bf16"]),
    ],
)
def test_works_are_found_by_name(wanted, device, names):
    assert [work.name for work in works.find(wanted, device)] == names


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("argv", "what"), [(["--works", "W99"], "no work 'W99'"),
                                            (["--contenders", "nobody"], "no contender nobody")])  # fmt: skip
def test_unknown_names_are_told(device, argv, what, capsys):
    assert cli.main(["--device", device, "--quick", *argv]) == 2
    assert what in capsys.readouterr().err


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
        assert len(each["first_call"]) == 1
        assert each["first_call"][0] >= 0
        assert each["share_of_limit"] > 0


def test_a_run_is_read_as_it_was_written(quick, tmp_path):
    path = tmp_path / "a.json"
    results.write(quick, path)
    assert results.read(path) == quick
    path.write_text("[]")
    assert cli.main(["--draw", str(path)]) == 2


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda p: p.stem
)
def test_earlier_runs_can_be_shown(path, tmp_path):
    found = results.read(path)
    assert all(work["name"] in report.table(found) for work in found["works"])
    page = tmp_path / "page.md"
    page.write_text(f"{report.BEGIN}\n{report.END}\n", encoding="utf-8")
    report.fill(found, page)
    text = page.read_text(encoding="utf-8")
    assert "| W3 | ours jax |" in text
    assert "| W4 | ours numpy: 0.9 of its own matrix product | must | " in text
    pytest.importorskip("matplotlib")
    assert all(each.stat().st_size > 1000 for each in picture.draw(found, tmp_path / "picture"))


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
        picture.draw(quick, tmp_path / "benchmarks")


def test_a_run_is_drawn(quick, tmp_path):
    pytest.importorskip("matplotlib")
    paths = picture.draw(quick | {"quick": False}, tmp_path / "benchmarks")
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
    assert race.difference(found, [1.0, 3.0]) == pytest.approx(gap)


@pytest.mark.parametrize("name", ["W0/300", "W0/1347"])  # without, and with, a short last batch
def test_epochs_are_compared_in_the_rows_own_order_and_timed_shuffled(name):
    work = works.quick(*works.find(name))
    work = replace(work, batch=60 if name == "W0/300" else 64)
    able = [each for each in contenders.CONTENDERS if each.does(work) and not each.missing]
    found = raced(work, able, 2, worker.Worker)
    assert found.failed == {}
    assert found.reference == "reference in epochs"
    assert found.entries.keys() == {each.name for each in able}
    assert {"ours numpy fit", "ours numpy scans", "plain numpy fit"} <= found.entries.keys()
    assert work.shares.sum() == pytest.approx(1)
    for entry in found.entries.values():
        shuffled, again = (list(entry.worker.running.run(3)) for _ in range(2))
        checked = entry.worker.ask("losses", 3)["losses"]
        assert race.difference(shuffled, checked) > 1e-4
        assert race.difference(shuffled, again) < 0.1  # a run begins with the first weights


class Wrong(plain.Plain):
    """A rival whose weights grow by a thousandth in every step."""

    def update(self, k, g):
        super().update(k, g)
        self.params[k] *= 1.001


def raced(work, able, rounds, start=None):
    clock = processes.Clock(60.0)
    return race.Race(work, start or partial(processes.Process, clock), clock).run(able, rounds)


def test_a_rival_that_computes_something_else_is_told_and_not_timed(monkeypatch):
    monkeypatch.setattr(plain, "Wrong", Wrong, raising=False)
    work = works.quick(*works.find("W2"))
    wrong = contenders.Contender("wrong", "benchmarks.contenders.plain:Wrong", (), ("W2",))
    found = raced(work, [CONTENDERS["plain numpy"], wrong], 1, worker.Worker)
    assert list(found.entries) == ["plain numpy"]
    assert found.reference == "reference on the host"
    assert "losses differ" in found.failed["wrong"]


def test_a_contender_runs_in_a_process_of_its_own():
    work = works.quick(*works.find("W2"))
    broken = contenders.Contender(
        "plain numpy read", ".plain:Reading", (), ("W2",)
    )  # not meant for this work
    found = raced(work, [CONTENDERS["ours numpy"], broken], 2)
    assert len(found.entries["ours numpy"].seconds) == 2
    assert found.entries["ours numpy"].facts["megabytes"] > 10
    assert set(found.failed) == {"plain numpy read"}


def test_the_faster_number_of_threads_is_kept():
    work = replace(works.quick(*works.find("W2")), threads=(1, 2))
    started = []

    class Paced(worker.Worker):
        def __init__(self, contender, work, folder, threads):
            super().__init__(contender, work, folder, threads)
            started.append(threads)

        def go(self, steps):
            return {"seconds": steps / self.threads}

    found = raced(work, [CONTENDERS["plain numpy"]], 1, Paced)
    assert (found.entries["plain numpy"].threads, started) == (2, [2, 1, 2])  # of them the reference's first


def test_the_first_call_is_told_without_the_time_of_its_steps(monkeypatch):
    work = replace(works.quick(*works.find("W2")), threads=(1, 2))

    class Slow(worker.Worker):
        def losses(self, steps):
            return super().losses(steps) | {"seconds": 4.0 / self.threads + steps * 1e-3}

        def go(self, steps):
            return {"seconds": steps * 1e-3}

    found = raced(work, [CONTENDERS["plain numpy"]], 1, Slow)
    told = results.of_race(found, {})["contenders"]["plain numpy"]
    assert told["first_call"] == pytest.approx([4.0, 2.0])
    assert report.first_call(told) == "4.00, then 2.00"


def test_who_fails_or_hangs_costs_nobody_else_a_result(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text(PLANTED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    work = works.quick(*works.find("W2"))
    planted = [
        contenders.Contender("planted hang", "planted:Hanging", (), ("W2",), seconds=0.5),
        contenders.Contender("planted late hang", "planted:HangingLate", (), ("W2",), seconds=2.5),
        contenders.Contender("planted failure", "planted:Failing", (), ("W2",)),
    ]
    able = [*planted, CONTENDERS["ours numpy"], CONTENDERS["plain numpy"]]
    found = raced(work, able, 3)
    assert found.failed == {
        "planted hang": "ended: its 0.5 s are spent",
        "planted late hang": "ended: its 2.5 s are spent",
        "planted failure": "RuntimeError: planted",
    }
    assert all(len(found.entries[name].seconds) == 3 for name in ("ours numpy", "plain numpy"))
    told = results.of_race(found, {})
    assert told["contenders"].keys() == {"ours numpy", "plain numpy"}


def test_a_part_that_fails_or_has_no_time_left_is_told(tmp_path, monkeypatch):
    def broken(*_):
        msg = "no such luck"
        raise OSError(msg)

    chosen = [works.quick(works.find(name)[0]) for name in ("W2", "W3")]
    late = run.Run("cpu", chosen, [CONTENDERS["plain numpy"]], 1, 0.0, tmp_path, quick=True)
    late.all()
    assert late.found["failed"] == dict.fromkeys(
        ("W2", "W3"), "not begun: the time of the whole run is spent"
    )
    one = run.Run("cpu", chosen, [CONTENDERS["plain numpy"]], 1, 60.0, tmp_path, quick=True)
    monkeypatch.setattr(run.Race, "_round", lambda self, _: broken() if self.work.name == "W2" else None)
    found = one.all()
    assert found["failed"] == {"W2": "OSError: no such luck"}
    assert found["works"][0]["failed"] == {"plain numpy": "ready, but the time of the whole run was spent"}
    assert results.read(one.path) == json.loads(json.dumps(found))
    assert "W2: OSError: no such luck" in report.table(found)


def test_goals_are_judged():
    told = {"seconds": [1.0], "megabytes": 90.0, "share_of_own_product": 0.8}
    found = {
        "name": "W4",
        "contenders": {"ours numpy": told, "torch fused": told | {"megabytes": 300.0}},
        "ratios": {"ours numpy": {"torch fused": {"median": 0.9}}},
    }
    judged = {
        (goal["level"], goal["measure"]): goal
        for goal in goals.judge([found], {}, "cpu")
        if goal["met"] is not None
    }
    assert judged["must", "memory"]["found"] == pytest.approx(0.3)
    assert goals.verdict(judged["must", "memory"]) == "met: 0.3"
    assert goals.verdict(judged["must", "product"]) == "missed: 0.8, 11% short"


def test_the_estimators_are_timed_and_scored_on_equal_work(monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    estimators = importlib.import_module("benchmarks.estimators")
    monkeypatch.setattr(estimators, "CASES", {"diabetes": estimators.Case(442, 2, folds=2, seeds=1)})
    monkeypatch.setattr(estimators, "_cold", lambda name, who: "0.5")
    found = estimators.times("diabetes", 2)
    assert (found["rows"], found["features"]) == (442, 10)
    assert {len(each) for each in found["seconds"].values()} == {2}
    found["accuracy"] = estimators.accuracy("diabetes")
    host = {"processor": "a", "cores": 2}
    told = estimators.table(
        {"machine": host, "date": "d", "versions": {}, "rounds": 2, "cases": {"diabetes": found}}
    )
    assert "| diabetes | 442 × 10 | 2 |" in told
    assert "| scikit-learn, × |" in told
    x, y = estimators.covertype_shaped(500)
    assert (x.shape, set(y)) == ((500, 54), set(range(7)))
    assert x[:, 10:14].sum(axis=1).tolist() == x[:, 14:].sum(axis=1).tolist() == [1.0] * 500


def test_skorch_and_keras_are_beside_the_estimators_where_they_are_installed(monkeypatch):
    estimators, mlps = (importlib.import_module(f"benchmarks.{name}") for name in ("estimators", "mlps"))
    monkeypatch.setattr(mlps, "installed", lambda name: "" if name == "keras" else "1")
    assert mlps.missing("Keras") == "Keras is left out: keras not installed"
    assert list(estimators.estimators("wine")) == ["ours", "scikit-learn", "skorch"]
    monkeypatch.setattr(mlps, "installed", lambda name: "1")
    assert list(estimators.estimators("wine")) == ["ours", "scikit-learn", "skorch", "Keras"]


def test_what_another_library_predicts_is_scored_as_the_estimators_are():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")

    class Same(importlib.import_module("benchmarks.mlps").MLP):
        def fit(self, x, y):
            return self

        def predicted(self, x):
            return x

    x = np.asarray([[0.0, 1.0], [2.0, 1.0], [1.0, 3.0], [4.0, 0.0]])
    for numbers, y, score in ((False, [1, 0, 0, 0], 0.75), (True, [0.0, 2.0, 1.0, 5.0], 1 - 1 / 14)):
        net = Same(4, numbers, 0.01, 1, 0)
        assert net.score(x, np.asarray(y)) == pytest.approx(score)
        assert net.outputs(np.asarray(y)) == (1 if numbers else 2)
