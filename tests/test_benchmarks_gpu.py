"""The benchmarks of a GPU without one: its parts, and our contenders on the stand-in for CuPy."""

import importlib
import importlib.util
import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import array_api_compat
import numpy as np
import pytest

from backprop_xp import backends
from backprop_xp.compiler.cuda import cublaslt, graph, products, row_kernel

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks" / "__main__.py").exists():
    pytest.skip("the benchmarks are not part of this installation", allow_module_level=True)
sys.path.insert(0, str(ROOT))

(
    cli, contenders, data, goals, gpu_checks, gpu_tests, limits, machine, picture, probes, processes, race,
    report, run, works,
) = (
    importlib.import_module(f"benchmarks.{name}")
    for name in ("cli", "contenders", "data", "goals", "gpu_checks", "gpu_tests", "limits", "machine",
                 "picture", "probes", "processes", "race", "report", "run", "works")
)  # fmt: skip
ALL = {work.name: work for work in works.find("", "cuda")}
CONTENDERS = {each.name: each for each in contenders.CONTENDERS}
REFERENCES = {each.name: each for each in contenders.REFERENCES}


def test_without_a_gpu_one_sentence_says_so(capsys, monkeypatch):
    monkeypatch.setattr(machine, "gpu", dict)
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


def small(name, device="cuda"):
    """A work of few weights, whose batches come several times."""
    work = ALL[name]
    return replace(work, device=device, widths=(12, 8, 4), steps=3, batch=min(work.batch, 8), check=40)


def test_all_parts_of_a_run_are_tried_on_the_processor(tmp_path, tests):
    chosen = [works.quick(ALL[name]) for name in ("G1", "G4", "G5u8")]
    able = [CONTENDERS["ours numpy"], CONTENDERS["plain numpy"], CONTENDERS["ours cupy"]]
    plan = run.Run("cuda", chosen, able, 3, 60.0, tmp_path, quick=True, tests=str(tests))
    found = plan.all()
    assert json.loads(plan.path.read_text()) == json.loads(json.dumps(found))
    assert not found["failed"]
    assert {"copy", "float32", "h2d"} <= found["ceilings"]["best"].keys()
    assert [found["tests"][kind] for kind in ("passed", "failed", "skipped")] == [1, 1, 1]
    assert found["tests"]["told"]["test_left_out"] == "no GPU"
    g1, g4, g5 = found["works"]
    assert g4["contenders"].keys() == {"ours numpy", "plain numpy"}
    for work in (g1, g4, g5):
        assert work["reference"] == "reference on the host"
        assert all(len(each["seconds"]) == 3 for each in work["contenders"].values())
    for work in (g1, g4):
        assert all(each["share_of_limit"] > 0 for each in work["contenders"].values())
    for told in ("test_wrong: assert 1 == 2", "GB/s copied", "QUICK"):
        assert told in report.table(found)
    with pytest.raises(ValueError, match="quick"):
        picture.draw(found, tmp_path / "picture")


def test_the_first_command_on_a_gpu_is_tried_here(tmp_path, monkeypatch):
    """Products and a scan by the stand-in, in processes of their own; a tool that does nothing."""
    tool = tmp_path / "compute-sanitizer"
    tool.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert (
        cli.main(["--gpu", "--quick", "--parts", "truth", "--out", str(tmp_path / "a"), "--budget", "120"])
        == 0
    )
    (path,) = (tmp_path / "a").iterdir()
    found = json.loads(path.read_text())
    assert path.name.endswith("-cuda-truth-quick.json")
    assert set(found["products"]) == {f"{e}, float32, {n} bytes" for e in ("none", "sum") for n in (4, 16)}
    assert all(each["error"] < 1 and len(each["done"]) == 5 for each in found["products"].values())
    assert found["sanitizer"]["steps"] == 40
    assert (found["works"], found["failed"]) == ([], {})
    assert "compute-sanitizer: nothing found" in report.table(found)


@pytest.mark.parametrize(
    ("part", "names"), [("small", ["G1", "G2", "G4"]), ("large", ["G3/tf32", "G5", "G3/bf16"])]
)
def test_the_other_commands_on_a_gpu_are_tried_here(part, names, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")  # which profiles
    words = ["--contenders", "ours numpy,plain numpy", "--rounds", "2", "--out", str(tmp_path)]
    assert cli.main(["--gpu", "--quick", "--parts", part, "--budget", "120", *words]) == 0
    (path,) = tmp_path.iterdir()
    found = json.loads(path.read_text())
    assert [work["name"] for work in found["works"]] == names
    assert found["failed"] == {}
    assert list(found["kernels"]) == (names if part == "small" else [])
    assert "copy" in found["ceilings"]["best"]


def test_a_part_that_is_unknown_or_not_of_a_gpu_is_told(capsys):
    assert cli.main(["--gpu", "--quick", "--parts", "tiny"]) == 2
    assert cli.main(["--gpu", "--quick", "--parts", "small", "--works", "G1"]) == 2
    assert cli.main(["--quick", "--parts", "small"]) == 2
    told = capsys.readouterr().err
    assert "a part is one of truth, small, large, got 'tiny'" in told
    assert "add --gpu" in told


def test_a_product_that_kills_its_process_is_told_and_the_others_go_on(monkeypatch):
    answers = {"4": (139, "", "Segmentation fault"), "16": (0, '{"done": [], "error": 0}', "")}
    monkeypatch.setattr(gpu_checks, "program", lambda words, *_: answers[words[-1]])
    found = dict(gpu_checks.products(1.0, "cpu"))
    assert found["sum, float32, 4 bytes"] == {"failed": "status 139: Segmentation fault"}
    assert found["sum, float32, 16 bytes"] == {"done": [], "error": 0}


def test_warnings_of_a_driver_fail_no_test_of_a_gpu(monkeypatch):
    asked = []
    monkeypatch.setattr(gpu_tests, "program", lambda words, *_: asked.append(words) or (0, "", ""))
    gpu_tests.run("x.py", 1.0, "cuda")
    assert "filterwarnings=default" in asked[0]


def test_ceilings_that_fail_cost_no_work(tmp_path, monkeypatch):
    def broken(*_, **__):
        msg = "no such luck"
        raise OSError(msg)

    monkeypatch.setattr(limits, "measure", broken)
    chosen = [works.quick(ALL["G1"])]
    found = run.Run("cuda", chosen, [CONTENDERS["ours numpy"]], 1, 60.0, tmp_path, quick=True, tests="").all()
    assert found["failed"] == {"ceilings": "OSError: no such luck"}
    assert found["works"][0]["contenders"].keys() == {"ours numpy"}
    assert report.table(found)


def test_a_program_that_hangs_is_ended_and_what_it_wrote_is_kept():
    code = "import time; print('first', flush=True); time.sleep(60)"
    status, out, _ = processes.program(["-c", code], 1.5, "cpu")
    assert (status, out) == (None, "first\n")
    told = gpu_tests.run("no_such_file.py", 20.0, "cpu")
    assert told["status"] == 4
    assert "no_such_file.py" in " ".join(told["end"])


def measured(name, seconds, best, **facts):
    """A work as it stands in the results, all its contenders of the same pace but ours."""
    work = ALL[name]
    able = [each.name for each in contenders.CONTENDERS if each.does(work)]
    found = race.Race(work, None, processes.Clock(60.0))
    found.reference = "none"
    for each in able:
        pace = seconds if each.startswith("ours") else 2 * seconds
        found.entries[each] = race.Entry(None, 4, 20, pace, [pace], facts={"megabytes": 1.0})
    found.entries["ours cupy"].facts |= facts
    return importlib.import_module("benchmarks.results").of_race(found, best)


def test_goals_are_judged_against_the_runs_own_ceilings():
    best = {"copy": 3e12, "h2d": 50e9, "tf32": 400e12}
    g1, g3 = measured("G1", 30e-6, best, kernels=26), measured("G3/tf32", 4e-3, best)
    g4, g5 = measured("G4'", 200e-6, best), measured("G5", 300e-6, best)
    judged = goals.judge([g1, g3, g4, g5], {"replay": ["passed", "skipped", "failed"]}, "cuda")
    by = {(goal["work"], goal["level"], goal["measure"], *goal["rivals"]): goal for goal in judged}
    assert by["G1", "goal", "kernels"]["met"] is False
    assert by["G1", "goal", "microseconds"]["found"] == pytest.approx(30)
    assert by["G1", "goal", "times", "jax scan"]["met"] is True
    assert by["G1", "must", "times", "ours cupy eager"]["found"] == pytest.approx(1)
    assert by["G3/tf32", "must", "limit"]["found"] == pytest.approx(1168e9 / 4e-3 / 400e12, rel=0.01)
    weights = 1025 * 4096 + 4097 * 4096 + 4097 * 1024
    assert by["G4'", "goal", "limit"]["found"] == pytest.approx(16 * weights / 200e-6 / 3e12)
    assert by["G5", "must", "limit"]["found"] == pytest.approx(1.0)
    assert by["G4'", "must", "no dW"]["met"] is None
    assert by["G2", "must", "times", "torch eager"]["met"] is None
    assert by["all", "must", "bitwise"]["found"] == 0.5


def test_rows_from_the_host_are_bound_by_the_bus_where_that_is_slower():
    g5 = measured("G5", 300e-6, {"h2d": 1e9})
    assert g5["contenders"]["ours cupy"]["share_of_limit"] == pytest.approx(
        4096 * (784 * 4 + 4) / 1e9 / 300e-6
    )


def test_the_picture_and_the_tables_are_made(tmp_path):
    done = [measured("G1", 1e-5, {}, kernels=16), measured("G3/tf32", 1e-3, {"tf32": 4e14})]
    card = {"name": "A card", "gigabytes": 80.0, "gpus": 1, "driver": "570"}
    plan = run.Run("cuda", [], [], 7, 60.0, tmp_path)
    found = plan.found | {"works": done, "gpu": card, "goals": goals.judge(done, {}, "cuda")}
    told = report.table(found)
    assert "A card, 80.0 GB, driver 570" in told
    assert "kernels" in told
    assert "16 kernels" not in told
    pytest.importorskip("matplotlib")
    paths = picture.draw(found, tmp_path / "picture")
    assert all(path.stat().st_size > 1000 for path in paths)


def test_what_is_probed_is_kept_whatever_else_fails(monkeypatch):
    told = [
        {"name": "copy", "value": 2.0},
        {"name": "h2d", "failed": "why"},
        {"name": "version x", "value": 3},
    ]
    out = "some warning\n" + "\n".join(map(json.dumps, told))
    monkeypatch.setattr(limits, "program", lambda *_: (None, out, ""))
    found = limits.measure(8e9, 1.0, "cuda")
    assert found["best"] == {"copy": 2.0}
    assert found["failed"] == {"h2d": "why", "the rest": "ended: its time is spent"}
    assert found["versions"] == {"x": 3}


def test_a_driver_is_read(monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda _: "nvidia-smi")
    told = SimpleNamespace(stdout="A card, 76294, 570.1\nA card, 76294, 570.1\n")
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: told)
    assert machine.gpu() == {"name": "A card", "gigabytes": 80.0, "gpus": 2, "driver": "570.1"}
    told.stdout = ""
    assert machine.gpu() == {}
    monkeypatch.setattr(machine.shutil, "which", lambda _: None)
    assert machine.gpu() == {}


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
    monkeypatch.setattr(cublaslt, "loaded", lambda lt=fake.Lt(): lt)
    monkeypatch.setattr(row_kernel, "compiled", fake.rows)
    return sys.modules["cupy"]


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize(
    ("name", "each"),
    [
        pytest.param(name, each, id=f"{name}-{each.name}")
        for name in ("G1", "G2'", "G3/bf16", "G4", "G4'", "G5", "G5u8")
        for each in contenders.CONTENDERS
        if "cupy" in each.name and each.does(ALL[name])
    ],
)
def test_our_contender_computes_the_references_losses_on_the_stand_in(name, each, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "UPDATES", graph.UPDATES)  # what contenders set is undone
    monkeypatch.setattr(products, "TIMED", False)
    monkeypatch.setattr(products.Products, "matmul_with_epilogue", products.Products.matmul_with_epilogue)
    running, of = opened(each, small(name), tmp_path)
    gap = race.difference(running.run(40).tolist(), referred(small(name), of))
    assert gap <= ALL[name].tolerance
    facts = running.facts()
    assert facts["megabytes"] >= 1
    assert facts.get("kernels", 0) > 5 or "eager" in each.name


def opened(each, work, folder):
    """A contender, ready, and its data."""
    data.make(work, folder)
    of = data.load(work, folder)
    return each.open(work, of, 1), of


def referred(work, of):
    """The losses of the reference on the host."""
    return REFERENCES["reference on the host"].open(work, of, 1).run(work.check)


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
        ("G3/bf16", "torch eager"),
        ("G5u8", "torch slices"),
        ("G1", "jax scan"),
        ("G5u8", "jax slices"),
    ],
)
def test_rivals_compute_the_references_losses_on_the_processor(name, rival, tmp_path):
    pytest.importorskip(contenders.family(rival))
    work = small(name, device="cpu")
    running, of = opened(CONTENDERS[rival], work, tmp_path)
    found = [float(loss) for loss in running.run(work.check)]
    assert race.difference(found, referred(work, of)) <= work.tolerance


@pytest.mark.parametrize("name", ["G1", "G3/tf32", "G5u8"])
def test_the_reference_on_the_gpu_is_the_one_on_the_host(name, tmp_path, monkeypatch):
    sent = []
    stand_in = SimpleNamespace(**vars(np) | {"asarray": lambda a: sent.append(a) or a})
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    running, of = opened(REFERENCES["reference on the GPU"], small(name), tmp_path)
    np.testing.assert_allclose(running.run(40), referred(small(name), of), rtol=1e-9)
    assert len(sent) == 4 + 2 * 3  # the weights and biases of two layers, three batches of x and t


def test_tests_that_were_ended_are_counted_as_far_as_they_came():
    out = "tests/a.py::test_x[a b] PASSED  [ 10%]\ntests/a.py::test_y SKIPPED (no)\ntests/a.py::test_z"
    assert gpu_tests.read(out) == [("test_x[a b]", "passed", ""), ("test_y", "skipped", "no")]


# ---------------------------------------------------------------- what bounds the speed
def test_every_probe_of_the_gpu_runs_on_the_processor(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(torch.cuda, "graph", lambda _: nullcontext())
    before = torch.get_float32_matmul_precision()
    try:
        found = {name: measure() for name, measure in probes.of_gpu(8, 1 << 12, "cpu")}
    finally:
        torch.set_float32_matmul_precision(before)
    assert found.pop("version torch's cuda") == torch.version.cuda
    assert list(found) == ["copy", "float32", "tf32", "bfloat16", "float16", "h2d", "d2h", "node"]
    assert all(0 < value < float("inf") for value in found.values())


def test_ceilings_are_measured_by_a_program_of_their_own():
    found = limits.measure(8e9, 60.0, "cpu")
    assert found["failed"] == {}
    assert set(found["best"]) == {"copy", "float32", "h2d"}
