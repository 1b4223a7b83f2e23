"""The house in order: versions agree, names are told, imports are light, scripts start on bare Python."""

import ast
import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import backprop_xp as bp

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(bp.__file__).parent
GIT = shutil.which("git")
SCRIPT = ROOT / "scripts" / "bxp.py"
ROOMS = sorted({*re.findall(r"`bp\.(\w+)`", bp.__doc__), "backends", "net", "params", "step"})


def names():
    """The public names: those of the package, and those that its rooms make themselves."""
    found = {f"bp.{name}": each for name, each in vars(bp).items() if not name.startswith("_")}
    for room in ROOMS:
        for name, each in vars(getattr(bp, room)).items():
            if not name.startswith("_") and getattr(each, "__module__", "").startswith(f"backprop_xp.{room}"):
                found[f"bp.{room}.{name}"] = each
    return found


NAMES = names()
TEXT = {"", ".cff", ".css", ".html", ".ini", ".json", ".md", ".py", ".svg", ".toml", ".txt", ".yaml", ".yml"}


def text_files():
    """The project's own files: those git knows or would take; without git, those in no hidden folder."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False) if GIT else None
    found = [ROOT / line for line in done.stdout.splitlines()] if done else []
    if not found:
        found = [path for path in ROOT.rglob("*") if "/." not in path.relative_to(ROOT.parent).as_posix()]
    return [path for path in found if path.is_file() and path.suffix in TEXT]


def test_pyproject_takes_the_version_from_the_package():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in told["project"]
    assert told["project"]["dynamic"] == ["version"]
    assert ROOT / told["tool"]["hatch"]["version"]["path"] == ROOT / "backprop_xp" / "__init__.py"


def test_the_citation_names_this_version():
    found = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert found == [bp.__version__]


def test_the_changelog_opens_with_this_version():
    found = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert found[0] == bp.__version__


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_public_name_is_told(name):
    doc = NAMES[name].__doc__
    assert doc
    assert doc.strip()


def test_public_names_are_grouped_by_room():
    assert {"bp.layers.Linear", "bp.losses.squared_error", "bp.data.Stored", "bp.errors.Diverged"} <= set(
        NAMES
    )
    for room in ROOMS:
        assert any(name.startswith(f"bp.{room}.") for name in NAMES), room


def test_the_reference_has_a_page_for_every_room():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    assert {"", *ROOMS} <= set(reference.MODULES)
    for short in {"", *ROOMS} - {"sklearn"}:
        module = importlib.import_module(f"backprop_xp.{short}".rstrip("."))
        shown = {f"bp.{short}.{name}".replace("..", ".") for name, _ in reference.names(module)}
        own = {name for name in NAMES if name.rpartition(".")[0] == f"bp.{short}".rstrip(".")}
        assert {name for name in own if not inspect.ismodule(NAMES[name])} <= shown, short


def test_importing_the_library_imports_no_optional_one():
    heavy = {"torch", "jax", "cupy", "rich", "matplotlib", "array_api_strict", "hypothesis", "pytest"}
    code = f"import sys, backprop_xp; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_no_file_names_a_folder_of_its_authors():
    folder = re.compile(r"(?<![\w.:/])/(?:home|root|Users|work)/[\w.]")
    files = text_files()
    assert SCRIPT in files
    for path in files:
        assert not folder.findall(path.read_text(encoding="utf-8")), path


@pytest.fixture
def bxp(tmp_path, monkeypatch):
    """The start script as a module, its environment in an empty folder."""
    spec = importlib.util.spec_from_file_location("bxp", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path)
    monkeypatch.setattr(module, "STAMP", tmp_path / "bxp.json")
    monkeypatch.setattr(module, "PYTHON", tmp_path / "bin" / "python")
    return module


@pytest.fixture
def machine(bxp, monkeypatch):
    """A machine on which only some commands work: those in which one of these words stands."""

    def build(*works):
        tried = []

        def quiet(*command):
            words = " ".join(map(str, command))
            tried.append(words)
            return any(word in words for word in works)

        monkeypatch.setattr(bxp, "quiet", quiet)
        monkeypatch.setattr(shutil, "which", lambda name, path=None: name)
        return tried

    return build


def test_the_start_script_imports_the_standard_library_only():
    found = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    assert found
    assert found <= sys.stdlib_module_names


def test_the_start_script_parses_on_old_pythons():
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 6))


def test_the_start_script_shows_its_help():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("demo", "test", "setup"))


def test_what_follows_test_goes_to_pytest_in_order(bxp):
    known, rest = bxp.parse(["test", "-k", "a or b", "tests/test_house.py", "-x"])
    assert known.command == "test"
    assert rest == ["-k", "a or b", "tests/test_house.py", "-x"]


@pytest.mark.parametrize("argv", [["demo", "--fast"], ["lint"], ["fly"], []])
def test_the_start_script_refuses_what_it_does_not_know(bxp, argv, capsys):
    with pytest.raises(SystemExit) as why:
        bxp.main(argv)
    assert why.value.code == 2
    assert "bxp.py" in capsys.readouterr().err


def test_an_unknown_extra_is_refused_by_name(bxp):
    with pytest.raises(SystemExit, match=r"no extra 'tests'; it must be one of .*lint.*test"):
        bxp.main(["setup", "tests"])


def test_venv_makes_the_environment_where_it_can(bxp, machine):
    tried = machine("-m venv --clear", "-m pip --version")
    bxp.make_venv()
    assert not any(words.startswith("uv ") or "--python" in words for words in tried)


def test_uv_makes_the_environment_where_venv_cannot(bxp, machine):
    tried = machine("uv venv", "-m pip --version")
    bxp.make_venv()
    assert [words for words in tried if words.startswith("uv venv")]
    assert not any("--without-pip" in words for words in tried)


def test_another_pip_fills_the_environment_where_neither_can(bxp, machine, monkeypatch):
    tried = machine("-m venv --clear --without-pip", "pip3 --python")
    monkeypatch.setattr(bxp, "has_pip", lambda: any(words.startswith("pip3 --python") for words in tried))
    bxp.make_venv()
    assert tried[-1].startswith("pip3 --python")
    assert tried[-1].endswith("install pip")


def test_where_nothing_works_the_sentence_names_the_package(bxp, machine):
    tried = machine()
    with pytest.raises(SystemExit, match="python3-venv is missing: sudo apt install python3-venv"):
        bxp.make_venv()
    ways = [" -m venv ", "uv venv ", "--without-pip"]
    first = [next(n for n, words in enumerate(tried) if way in words) for way in ways]
    assert first == sorted(first)


def test_what_an_environment_holds_is_kept_when_only_pip_is_missing(bxp, machine):
    tried = machine("--version", "-m ensurepip")
    bxp.make_venv()
    assert not any("--clear" in words for words in tried)


@pytest.fixture
def installs(bxp, monkeypatch):
    """The pip commands that would have been run."""
    calls = []
    bxp.PYTHON.parent.mkdir()
    bxp.PYTHON.touch()
    monkeypatch.setattr(bxp, "has_pip", lambda: True)
    monkeypatch.setattr(bxp.subprocess, "call", lambda command, **_: calls.append(command) or 0)
    return calls


def test_a_second_use_installs_nothing(bxp, installs):
    bxp.ensure("test")
    bxp.ensure("test")
    bxp.ensure()
    assert len(installs) == 1


def test_a_missing_extra_is_added_to_those_there(bxp, installs):
    bxp.ensure("jax", "lint")
    bxp.ensure("test")
    bxp.ensure("jax", "lint", "test")
    assert len(installs) == 2
    assert any(word.endswith("[jax,test]") for word in installs[1])
    assert any(word.startswith("ruff==") for word in installs[1])


def test_a_changed_pyproject_installs_again(bxp, installs, monkeypatch):
    bxp.ensure("test")
    monkeypatch.setattr(bxp, "fingerprint", lambda: "changed")
    bxp.ensure()
    assert len(installs) == 2
    assert any(word.endswith("[test]") for word in installs[1])


def test_a_failed_installation_leaves_no_stamp(bxp, installs, monkeypatch):
    monkeypatch.setattr(bxp.subprocess, "call", lambda *_, **__: 1)
    with pytest.raises(SystemExit, match="installation failed"):
        bxp.ensure("test")
    assert not bxp.STAMP.exists()
