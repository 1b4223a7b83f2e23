"""The parts before the works: what the machine can do at most, and the tests."""

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from . import process

TESTS = "tests/test_gpu.py"
LOWER_IS_BETTER = ("node",)
_LINE = re.compile(r"^[^\s:]+::(.+) (PASSED|FAILED|ERROR|SKIPPED)\b", re.MULTILINE)


def ceilings(libraries: tuple[str, ...], memory: float, seconds: float, *, device: str) -> dict[str, Any]:
    """The best figure of any library for each ceiling, all figures, and what failed.

    Args:
        libraries: that measure, one after the other.
        memory: of the GPU, bytes.
        seconds: all together.
        device: 'gpu', or 'cpu' to try.
    """
    n = 256 if device == "cpu" else 8192 if memory > 6e9 else 4096
    size = 1 << 22 if device == "cpu" else int(min(4e9, memory / 4))
    found: dict[str, Any] = {"n": n, "copied_bytes": size, "best": {}, "by": {}, "failed": {}, "versions": {}}
    for library in libraries:
        command = ["-m", f"{__package__}.probes", library, str(n), str(size)]
        status, out, err = process.run(command, seconds / len(libraries), device=device)
        told = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        _sort(library, told, found)
        if status is None:
            found["failed"][library] = "ended: its time is spent"
        elif status:
            found["failed"][library] = (err.strip().splitlines() or ["nothing was said"])[-1]
    return found


def _sort(library: str, told: list[dict[str, Any]], found: dict[str, Any]) -> None:
    best, by = found["best"], found["by"].setdefault(library, {})
    for each in told:
        name = each["name"]
        if "failed" in each:
            found["failed"][f"{library} {name}"] = each["failed"]
        elif name.startswith("version "):
            found["versions"][name.removeprefix("version ")] = each["value"]
        else:
            by[name] = each["value"]
            choose = min if name in LOWER_IS_BETTER else max
            best[name] = choose(best.get(name, each["value"]), each["value"])


def tests(path: str, seconds: float, *, device: str) -> dict[str, Any]:
    """Counts of a test file, which of its tests failed, and the end of what was printed."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        report = Path(name) / "tests.xml"
        command = ["-m", "pytest", path, "-v", "-p", "no:cacheprovider", "-p", "no:randomly",
                   f"--junitxml={report}"]  # fmt: skip
        status, out, err = process.run(command, seconds, device=device)
        cases = _cases(report) or _printed(out)
    count = {kind: sum(k == kind for _, k, _ in cases) for kind in ("passed", "failed", "skipped")}
    return {
        "file": Path(path).name,
        **count,
        "ended": "its time is spent" if status is None else "",
        "status": status,
        "replay": [kind for case, kind, _ in cases if "replayed" in case or "replay" in case],
        "told": {case: text for case, kind, text in cases if kind != "passed"},
        "end": [] if status == 0 else _without_paths((out + err).strip().splitlines()[-15:]),
    }


def _cases(report: Path) -> list[tuple[str, str, str]]:
    """Each test with what came of it and why; none where there is no report."""
    if not report.exists():
        return []
    found = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        kinds = {each.tag: (each.get("message") or "").partition("\n")[0] for each in case}
        bad = kinds.get("failure", kinds.get("error"))
        kind = "failed" if bad is not None else "skipped" if "skipped" in kinds else "passed"
        why = bad if bad is not None else kinds.get("skipped", "")
        found.append((case.get("name") or "", kind, why))
    return found


def _printed(out: str) -> list[tuple[str, str, str]]:
    """The same of tests that were ended, as far as they came."""
    kinds = {"PASSED": "passed", "FAILED": "failed", "ERROR": "failed", "SKIPPED": "skipped"}
    return [(case, kinds[word], "") for case, word in _LINE.findall(out)]


def _without_paths(lines: list[str]) -> list[str]:
    """Without the folders of this machine."""
    return [line.replace(str(process.ROOT), ".").replace(sys.prefix, "…") for line in lines]
