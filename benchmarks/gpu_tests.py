"""The GPU tests as a part of a run: their counts, and what failed and why."""

import re
import sys
from pathlib import Path
from typing import Any

from .processes import ROOT, program

PATH = "tests/test_gpu.py"
_KINDS = {"PASSED": "passed", "FAILED": "failed", "ERROR": "failed", "SKIPPED": "skipped"}
_CASE = re.compile(r"^[^\s:]+::(.+?) (PASSED|FAILED|ERROR|SKIPPED)(?: \((.*)\))?(?:\s+\[ *\d+%\])?$", re.M)
_WHY = re.compile(r"^(?:FAILED|ERROR) [^\s:]+::(.+?) - (.*)$", re.M)


def run(path: str, seconds: float, device: str) -> dict[str, Any]:
    """Run a test file: counts, the tests that failed, and the end of what was printed."""
    words = ["-m", "pytest", path, "-v", "-rfE", "-p", "no:cacheprovider", "-p", "no:randomly"]
    words += ["-o", "filterwarnings=default"]  # warnings of other versions are no failure
    status, out, err = program(words, seconds, device)
    cases = read(out)
    end = (out + err).strip().splitlines()[-15:]
    return {
        "file": Path(path).name,
        **{kind: sum(found == kind for _, found, _ in cases) for kind in ("passed", "failed", "skipped")},
        "ended": "its time is spent" if status is None else "",
        "status": status,
        "replay": [kind for case, kind, _ in cases if "replay" in case],
        "told": {case: why for case, kind, why in cases if kind != "passed"},
        "end": [] if status == 0 else [row.replace(str(ROOT), ".").replace(sys.prefix, "…") for row in end],
    }


def read(out: str) -> list[tuple[str, str, str]]:
    """Each test that was run, its result, and the reason if it did not pass."""
    why = dict(_WHY.findall(out))
    return [(case, _KINDS[word], why.get(case, told)) for case, word, told in _CASE.findall(out)]
