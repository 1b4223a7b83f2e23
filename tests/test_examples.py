"""Every script of `examples/` runs, and does what its first line says."""

import runpy
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples"


def example(name):
    return runpy.run_path(str(FOLDER / name))["main"]


def test_a_csv_file_becomes_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    rows = [f"{random.normal(k)},{random.normal(-k)},{'abc'[k]}" for k in random.integers(3, size=200)]
    Path("table.csv").write_text("\n".join(["p,q,kind", *rows]), encoding="utf-8")
    assert example("csv_to_model.py")("table.csv", "kind", epochs=10) > 0.5
    assert Path("net.safetensors").is_file()


def test_a_run_goes_on_with_the_same_bits(tmp_path):
    main = example("resume.py")
    main(str(tmp_path / "a"), epochs=1)
    assert main(str(tmp_path / "a"), epochs=2) == main(str(tmp_path / "b"), epochs=2)


def test_an_update_is_explained(tmp_path, capsys):
    told = example("explain_update.py")(str(tmp_path / "why.html"))
    assert "rain → growth" in told
    assert "growth" in (tmp_path / "why.html").read_text(encoding="utf-8")


def test_units_of_a_persons_own_are_checked_and_trained(capsys):
    assert example("own_units.py")(epochs=1) < 10
    assert "gradient" in capsys.readouterr().out


def test_real_digits_are_read(capsys):
    pytest.importorskip("sklearn", reason="scikit-learn has the digits")
    assert example("digits.py")(epochs=5) > 0.8


def test_every_example_has_a_test():
    told = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{path.name}"' in told for path in FOLDER.glob("*.py"))
