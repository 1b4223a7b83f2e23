"""`--gpu` without a GPU: the parts, the time they may take, and that who fails or hangs costs nobody else.

What runs on a GPU alone is tried here as far as it goes: the library's contender on the stand-in for CuPy.
"""

import importlib.util
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import array_api_compat
import numpy as np
import pytest

from backprop_xp import backends
from backprop_xp.backends import _cublaslt, _graph, _rows

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks" / "__main__.py").exists():
    pytest.skip("the benchmarks are not part of this installation", allow_module_level=True)
sys.path.insert(0, str(ROOT))

cli, contenders, stored, engine = (
    importlib.import_module(f"benchmarks.{name}") for name in ("cli", "contenders", "data", "engine")
)
checks, data, driver, goals, process, report, run, works = (
    importlib.import_module(f"benchmarks.gpu.{name}")
    for name in ("checks", "data", "driver", "goals", "process", "report", "run", "works")
)
ours = importlib.import_module("benchmarks.contenders.gpu_ours")
plain = importlib.import_module("benchmarks.contenders.gpu_plain")


def test_without_a_gpu_one_sentence_says_so(capsys, monkeypatch):
    monkeypatch.setattr(driver, "gpu", dict)
    assert cli.main(["--gpu"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("benchmarks: error: no GPU was found")
    assert (told.err.count("\n"), told.out) == (1, "")


@pytest.fixture
def tests(tmp_path):
    path = tmp_path / "test_three.py"
    path.write_text(
        "import pytest\n"
        "def test_a_hundred_replayed(): pass\n"
        "def test_wrong(): assert 1 == 2\n"
        "def test_left_out(): pytest.skip('no GPU')\n"
    )
    return path


def test_who_fails_or_hangs_costs_nobody_else_a_result(tmp_path, tests):
    hanging = sorted(works.PLANTED, key=lambda each: "hang" not in each.name)
    plan = run.Plan(tmp_path, 60.0, 3, works.dry(), (*hanging, *works.DRY), quick=True, tests=str(tests),
                    seconds=20.0)  # fmt: skip
    found = run.Run(plan).all()
    assert json.loads(plan.path.read_text()) == json.loads(json.dumps(found))
    assert not found["failed"]
    assert {"copy", "float32", "h2d"} <= found["ceilings"]["best"].keys()
    assert [found["tests"][kind] for kind in ("passed", "failed", "skipped")] == [1, 1, 1]
    assert found["tests"]["told"]["test_left_out"] == "no GPU"
    g1, g4, g5 = found["works"]
    assert g1["failed"].keys() == {each.name for each in works.PLANTED}
    assert "RuntimeError: ['planted']" in g1["failed"]["planted failure"]
    assert g1["failed"]["planted hang"] == "ended: its 0.5 s are spent"
    assert g1["failed"]["planted late hang"] == "ended: its 1.5 s are spent"
    assert g1["contenders"].keys() == {each.name for each in works.DRY}
    for work in (g1, g4, g5):
        assert work["reference"] == "reference on the host"
        assert all(len(each["seconds"]) == 3 for each in work["contenders"].values())
        assert all(share > 0 for told in work["shares"].values() for share in told.values())
    for told in ("planted hang: not timed: ended", "test_wrong: assert 1 == 2", "QUICK"):
        assert told in report.table(found)
    with pytest.raises(ValueError, match="quick"):
        report.draw(found, tmp_path)


def test_what_has_no_time_left_is_told_and_what_fails_is_kept(tmp_path, monkeypatch):
    def broken(*_, **__):
        msg = "no such luck"
        raise OSError(msg)

    monkeypatch.setattr(checks, "ceilings", broken)
    plan = run.Plan(tmp_path, 0.0, 1, works.dry()[:1], works.DRY, quick=True, tests="")
    started = run.Run(plan)
    assert started.all()["failed"] == dict.fromkeys(
        ("ceilings", "G1"), "not begun: the time of the whole run is spent"
    )
    monkeypatch.setattr(started, "clock", process.Clock(60.0))
    monkeypatch.setattr(started, "_work", broken)
    assert set(started.all()["failed"].values()) == {"OSError: no such luck"}
    assert report.table(json.loads(plan.path.read_text()))


def test_a_program_that_hangs_is_ended_and_what_it_wrote_is_kept():
    code = "import time; print('first', flush=True); time.sleep(60)"
    status, out, _ = process.run(["-c", code], 1.5, device="cpu")
    assert (status, out) == (None, "first\n")
    told = checks.tests("no_such_file.py", 20.0, device="cpu")
    assert told["status"] == 4
    assert "no_such_file.py" in " ".join(told["end"])


def test_works_contenders_and_goals_agree():
    assert not {each.name for each in works.RACERS} & {each.name for each in contenders.CONTENDERS}
    known = {each.name for each in works.CONTENDERS}
    for work in works.WORKS:
        families = {each.family for each in works.CONTENDERS if each.does(work)}
        assert {"ours", "torch", "jax"} <= families, work.name
        assert 0 < work.check <= work.least
    for each in works.RACERS:
        module, _, cls = each.where.partition(":")
        assert f"class {cls}" in (ROOT / "benchmarks" / "contenders" / f"{module}.py").read_text()
        assert contenders.by_name(each.name) is each
    for goal in goals.GOALS:
        assert {goal.ours, *goal.rivals} <= known
        assert goal.work == "all" or goal.work in {work.name for work in works.WORKS}
        assert goals.told(goal._asdict() | {"rival": ""})
        for name in (goal.ours, *goal.rivals):
            work = next((work for work in works.WORKS if work.name == goal.work), None)
            assert work is None or contenders.by_name(name).does(work), (goal, name)


@pytest.mark.parametrize("argv", [["--works", "G9"], ["--contenders", "nobody"]])
def test_unknown_names_are_told(argv, capsys):
    assert cli.main(["--gpu", "--quick", *argv]) == 2
    assert "there is no" in capsys.readouterr().err


def measured(name, seconds, facts=None):
    """A work as it stands in the results, all its contenders of the same pace but ours."""
    work = next(work for work in works.WORKS if work.name == name)
    each = {c.name: seconds if c.family == "ours" else 2 * seconds for c in works.CONTENDERS if c.does(work)}
    names = [n for n in each if n.startswith("ours")]
    found = {
        "name": name, "title": work.title, "unit": work.told_as, "reference": "", "failed": {},
        "facts": facts or {}, "contenders": {n: {"seconds": [s], "told": {"median": s, "low": s, "high": s}}
                                             for n, s in each.items()},
        "ratios": {a: {b: {"median": each[b] / each[a]} for b in each if b != a} for a in names},
        "step_seconds": {n: {"median": s} for n, s in each.items()},
    }  # fmt: skip
    best = {"copy": 3e12, "h2d": 50e9, "tf32": 400e12}
    return found | {"shares": goals.shares(work, found, best)}


def test_goals_are_judged_against_the_runs_own_ceilings():
    g1 = measured("G1", 30e-6, {"ours cupy": {"kernels": 26}})
    g3, g4, g5 = measured("G3/tf32", 4e-3), measured("G4'", 200e-6), measured("G5", 300e-6)
    judged = goals.judge([g1, g3, g4, g5], {"replay": ["passed", "skipped", "failed"]})
    by = {(goal["work"], goal["level"], goal["measure"], goal["rival"]): goal for goal in judged}
    assert by["G1", "goal", "kernels", ""]["met"] is False
    assert by["G1", "goal", "microseconds", ""]["found"] == pytest.approx(30)
    assert by["G1", "goal", "times", "jax scan gpu"]["met"] is True
    assert by["G1", "must", "times", "ours cupy eager"]["found"] == pytest.approx(1)
    assert by["G3/tf32", "must", "product", ""]["found"] == pytest.approx(1168e9 / 4e-3 / 400e12, rel=0.01)
    weights = 1025 * 4096 + 4097 * 4096 + 4097 * 1024
    assert by["G4'", "goal", "weights", ""]["found"] == pytest.approx(16 * weights / 200e-6 / 3e12)
    assert by["G5", "must", "stream", ""]["found"] == pytest.approx(1.0)
    assert by["G2", "must", "times", "torch eager gpu"]["met"] is None
    assert by["all", "must", "bitwise", ""]["found"] == 0.5


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    found = {"quick": False, "works": [measured("G1", 1e-5), measured("G3/tf32", 1e-3)], "gpu": {"name": "a"}}
    paths = report.draw(found, tmp_path)
    assert all(path.stat().st_size > 1000 for path in paths)


def test_ceilings_keep_the_best_of_all_libraries():
    found = {"best": {}, "by": {}, "failed": {}, "versions": {}}
    checks._sort("cupy", [{"name": "copy", "value": 2.0}, {"name": "node", "value": 2.0}], found)
    told = [{"name": "copy", "value": 1.0}, {"name": "node", "value": 1.0}, {"name": "h2d", "failed": "why"}]
    checks._sort("torch", [*told, {"name": "version x", "value": 3}], found)
    assert found["best"] == {"copy": 2.0, "node": 1.0}
    assert found["failed"] == {"torch h2d": "why"}
    assert found["versions"] == {"x": 3}


def test_a_driver_is_read(monkeypatch):
    def write(value):
        return lambda place, *_: setattr(place._obj, "value", value) or 0

    lib = SimpleNamespace(
        cuInit=lambda _: 0, cuDeviceGetCount=write(2), cuDeviceGet=write(0), cuDriverGetVersion=write(12080),
        cuDeviceGetName=lambda name, *_: setattr(name, "value", b"A card"),
        cuDeviceTotalMem_v2=write(80 * 10**9),
    )  # fmt: skip
    monkeypatch.setattr(driver, "_library", lambda: lib)
    monkeypatch.setattr(driver, "_driver", lambda: "570")
    assert driver.gpu() == {
        "name": "A card", "gigabytes": 80.0, "gpus": 2, "driver_cuda": "12.8", "driver": "570"
    }  # fmt: skip
    lib.cuInit = lambda _: 100
    assert driver.gpu() == {}


def small(work):
    """Of a few weights, its batches come several times."""
    return replace(work, widths=(12, 8, 4), steps=3, batch=min(work.batch, 8), check=40)


def neighbour(name):
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cupy(monkeypatch, settled):
    """The stand-in, as if it were installed and found a GPU."""
    fake = neighbour("fake_cupy")
    for name, module in fake.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(array_api_compat, "cupy", sys.modules["array_api_compat.cupy"], raising=False)
    monkeypatch.setattr(backends, "_open", cache(backends._open.__wrapped__))
    monkeypatch.setattr(backends, "_by_type", {})
    monkeypatch.setattr(_cublaslt, "loaded", lambda lt=fake.Lt(): lt)
    monkeypatch.setattr(_rows, "kernel", fake.rows)
    found = sys.modules["cupy"]
    for pool in {found.cuda.MemoryPool, type(found.get_default_memory_pool())}:
        monkeypatch.setattr(pool, "total_bytes", lambda _: 10**6, raising=False)
    return sys.modules["cupy"]


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize(
    ("name", "each"),
    [
        pytest.param(name, each, id=f"{name}-{each.name}")
        for name in ("G1", "G2'", "G3/bf16", "G4", "G4'", "G5", "G5u8")
        for each in works.CONTENDERS
        if "cupy" in each.name and name.partition("/")[0] in each.works
    ],
)
def test_our_contender_computes_the_references_losses_on_the_stand_in(name, each, tmp_path, monkeypatch):
    monkeypatch.setattr(_graph, "UPDATES", _graph.UPDATES)
    work = small(next(work for work in works.WORKS if work.name == name))
    assert each.does(work)
    data.make(work, tmp_path)
    of = stored.load(work, tmp_path)
    running = each.open(work, of, 1)
    gap = engine.difference(running.run(work.check).tolist(), plain.Reference(work, of, 1).run(work.check))
    assert gap <= work.tolerance
    assert running.facts().get("kernels", 0) > 5 or "eager" in each.name


@pytest.fixture
def single():
    """JAX as it is outside these tests: without float64."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.mark.usefixtures("single")
@pytest.mark.parametrize(
    ("name", "rival"),
    [
        ("G3/bf16", "torch eager gpu"),
        ("G5u8", "torch slices gpu"),
        ("G1", "jax scan gpu"),
        ("G5u8", "jax slices gpu"),
    ],
)
def test_rivals_compute_the_references_losses_on_the_processor(name, rival, tmp_path, monkeypatch):
    each = contenders.by_name(rival)
    pytest.importorskip(each.family)
    work = small(next(work for work in works.WORKS if work.name == name))
    module = importlib.import_module(f"benchmarks.contenders.gpu_{each.family}")
    monkeypatch.setattr(
        module, *(("_DEVICE", "cpu") if each.family == "torch" else ("set_jax", lambda _: None))
    )
    data.make(work, tmp_path)
    of = stored.load(work, tmp_path)
    found = [float(loss) for loss in each.open(work, of, 1).run(work.check)]
    assert engine.difference(found, plain.Reference(work, of, 1).run(work.check)) <= work.tolerance


@pytest.mark.parametrize("name", ["G1", "G3/tf32", "G5u8"])
def test_the_reference_on_the_gpu_is_the_one_on_the_host(name, tmp_path, monkeypatch):
    monkeypatch.setattr(plain.OnCuPy, "namespace", lambda _: np)
    work = small(next(work for work in works.WORKS if work.name == name))
    data.make(work, tmp_path)
    of = stored.load(work, tmp_path)
    found, expected = (cls(work, of, 1).run(work.check) for cls in (plain.OnCuPy, plain.Reference))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_tests_that_were_ended_are_counted_as_far_as_they_came():
    out = "tests/a.py::test_x[a b] PASSED  [ 10%]\ntests/a.py::test_y SKIPPED (no)\ntests/a.py::test_z"
    assert checks._printed(out) == [("test_x[a b]", "passed", ""), ("test_y", "skipped", "")]
