"""Set up a fresh checkout and run the demo or the tests, in one command.

    python3 scripts/bxp.py demo
    python3 scripts/bxp.py test

The first use creates an environment in .venv and installs the project there. Later ones install again
only if pyproject.toml has changed or something is missing. Only the standard library is needed.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - runs before anything is installed, and parses on 3.6
    sys.exit("backprop_xp needs Python 3.11 or newer, and this is Python {}.{}".format(*sys.version_info[:2]))

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "bxp.json"
ADVICE = "python3-venv is missing: sudo apt install python3-venv (or install uv), then run this again"


def quiet(*command: "str | Path") -> bool:
    """Whether a command can be started and succeeds; its output is discarded."""
    try:
        done = subprocess.run(
            [str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


def runs() -> bool:
    """Whether .venv has a working Python; if so, what is installed there is kept."""
    return quiet(PYTHON, "--version")


def has_pip() -> bool:
    """Whether .venv has a working pip."""
    return quiet(PYTHON, "-m", "pip", "--version")


def by_venv() -> bool:
    """Create .venv with the standard library alone."""
    if runs():
        return quiet(PYTHON, "-m", "ensurepip") and has_pip()
    return quiet(sys.executable, "-m", "venv", "--clear", VENV) and has_pip()


def by_uv() -> bool:
    """Create .venv with uv, if uv is installed."""
    uv = shutil.which("uv") or "uv"
    if runs():
        return quiet(uv, "pip", "install", "--python", PYTHON, "pip") and has_pip()
    return quiet(uv, "venv", "--clear", "--seed", "--python", sys.executable, VENV) and has_pip()


def by_pip() -> bool:
    """Create .venv without pip (this Python has no ensurepip), and install pip there with another pip."""
    if not runs() and not quiet(sys.executable, "-m", "venv", "--clear", "--without-pip", VENV):
        return False
    pips = [[sys.executable, "-m", "pip"], ["pip3"], ["pip"]]
    return any(quiet(*pip, "--python", PYTHON, "install", "pip") for pip in pips) and has_pip()


def make_venv() -> None:
    """Create .venv in the first way that works on this machine."""
    print(f"creating {VENV}", flush=True)
    if not (by_venv() or by_uv() or by_pip()):
        sys.exit(ADVICE)


def offers() -> "tuple[dict[str, list[str]], dict[str, list[str]]]":
    """The extras and the dependency groups of pyproject.toml."""
    import tomllib

    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return pyproject["project"]["optional-dependencies"], pyproject["dependency-groups"]


def fingerprint() -> str:
    """A hash of what an installation depends on: pyproject.toml and the project's folder."""
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()).hexdigest()


def stamp() -> "tuple[str, set[str]]":
    """The fingerprint of the last installation, and the extras and groups that are installed."""
    try:
        saved = json.loads(STAMP.read_text(encoding="utf-8"))
        return saved["made_from"], set(saved["extras"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", set()


def ensure(*wanted: str) -> None:
    """Install the project with these extras or groups, if it is not yet; nothing is ever removed."""
    extras, groups = offers()
    for name in wanted:
        if name not in {*extras, *groups}:
            sys.exit(f"there is no extra {name!r}; it must be one of {', '.join(sorted({*extras, *groups}))}")
    made_from, had = stamp()
    if PYTHON.exists() and made_from == fingerprint() and had.issuperset(wanted):
        return
    if not has_pip():
        make_venv()
    names = sorted(had.union(wanted) & {*extras, *groups})
    chosen = ",".join(name for name in names if name in extras)
    needs = [need for name in names if name in groups for need in groups[name]]
    print(f"installing backprop_xp with {', '.join(names) or 'no extras'}", flush=True)
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    if subprocess.call([*pip, "--editable", f"{ROOT}[{chosen}]" if chosen else str(ROOT), *needs]):
        sys.exit("the installation failed; pip's output is above")
    STAMP.write_text(json.dumps({"made_from": fingerprint(), "extras": names}), encoding="utf-8")


def python(*arguments: str) -> int:
    """Run `python -m …` of the environment in the project's folder and return its exit status."""
    env = {**os.environ, "VIRTUAL_ENV": str(VENV)}
    env["PATH"] = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    return subprocess.call([str(PYTHON), "-m", *arguments], cwd=ROOT, env=env)


def demo() -> int:
    """Show on one screen what the library is."""
    ensure("cli", "fast")
    return python("backprop_xp", "demo")


def test(rest: "list[str]") -> int:
    """Run the tests on all cores."""
    ensure("test")
    return python("pytest", "-n", "auto", *rest)


def parse(argv: "list[str]") -> "tuple[argparse.Namespace, list[str]]":
    """The command, and the arguments that `test` passes to pytest."""
    parser = argparse.ArgumentParser(
        prog="bxp.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("demo", help="show on one screen what the library is")
    tests = "run the tests; further arguments go to pytest, as in: test -k exact"
    commands.add_parser("test", help=tests, description=tests, allow_abbrev=False)
    setup = commands.add_parser("setup", help="only install; extras can be named, as in: setup jax test")
    setup.add_argument("extras", nargs="*", metavar="EXTRA", help="an extra or a group of pyproject.toml")
    known, rest = parser.parse_known_args(argv)
    if rest and known.command != "test":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return known, rest


def main(argv: "list[str]") -> int:
    """Run one command and return its exit status."""
    known, rest = parse(argv)
    try:
        if known.command == "setup":
            ensure(*known.extras)
            return 0
        return test(rest) if known.command == "test" else demo()
    except OSError as why:
        sys.exit(f"bxp.py: {why}")
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
