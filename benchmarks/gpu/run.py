"""The whole run, part by part, within its time; the JSON is written after each."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import results
from ..contenders import Contender, installed
from ..engine import note
from ..works import Work
from . import checks, driver, goals, race, report, works
from .process import ROOT, Clock

BUDGET = 1400.0
_TOLD = (
    "cupy-cuda12x", "cupy-cuda13x", "torch", "triton", "jax", "jaxlib", "jax-cuda12-plugin",
    "jax-cuda13-plugin", "nvidia-cublas-cu12", "nvidia-cublas", "cuda-pathfinder", "array-api-compat",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        out: the folder of the JSON.
        budget: seconds of everything together.
        rounds: how often each contender is timed.
        works: in order.
        contenders: who takes part, where they can.
        quick: on the processor, small.
        tests: the file of tests, empty for none.
        seconds: of a contender.
    """

    out: Path
    budget: float
    rounds: int
    works: list[Work]
    contenders: tuple[Contender, ...]
    quick: bool = False
    tests: str = checks.TESTS
    seconds: float = race.SECONDS

    @property
    def device(self) -> str:
        """Where it runs."""
        return "cpu" if self.quick else "gpu"

    @property
    def path(self) -> Path:
        """The JSON."""
        return self.out / f"{results.today()}-gpu{'-quick' if self.quick else ''}.json"


def plan(out: Path, budget: float, rounds: int, wanted: str, names: list[str], *, quick: bool) -> Plan:
    """The plan that the command line asks for.

    Raises:
        ValueError: there is no GPU, or no work or contender of this name.
    """
    if not quick and not driver.gpu():
        msg = "no GPU was found: --gpu needs an NVIDIA GPU and its driver (nvidia-smi shows both)"
        raise ValueError(msg)
    known = works.DRY if quick else works.CONTENDERS
    if unknown := set(names) - {each.name for each in known}:
        msg = f"there is no contender {', '.join(sorted(unknown))} here; there are " + ", ".join(
            each.name for each in known
        )
        raise ValueError(msg)
    chosen = tuple(each for each in known if not names or each.name in names)
    return Plan(
        out, budget, rounds, works.find(wanted, works.dry() if quick else list(works.WORKS)), chosen, quick
    )


class Run:
    """A plan at work.

    Attributes:
        found: the results so far.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.clock = plan, Clock(plan.budget)
        told = {name: v for name in _TOLD if (v := installed(name))}
        self.found: dict[str, Any] = {
            "gpu": {} if plan.quick else driver.gpu(), "quick": plan.quick, "date": results.today(),
            "rounds": plan.rounds, "budget": plan.budget, "seconds": 0.0, "machine": results.machine(),
            "versions": results.versions() | told, "ceilings": {}, "tests": {}, "works": [], "failed": {},
            "missing": {each.name: ", ".join(each.missing) for each in plan.contenders if each.missing},
            "goals": [],
        }  # fmt: skip

    def all(self) -> dict[str, Any]:
        """Every part that time allows; the results."""
        self.plan.out.mkdir(parents=True, exist_ok=True)
        self._part("ceilings", self._ceilings)
        if self.plan.tests:
            self._part("tests", self._tests)
        for work in self.plan.works:
            self._part(work.name, lambda work=work: self._work(work))
        return self.found

    def _part(self, name: str, run: Callable[[], None]) -> None:
        """One part: what goes wrong in it is a result too."""
        least = 0.5 if self.plan.quick else 20.0
        if self.clock.left() < least:
            self.found["failed"][name] = "not begun: the time of the whole run is spent"
        else:
            note(f"{name} ({self.clock.left():.0f} s left)")
            try:
                run()
            except Exception as error:  # one part may not cost the others
                self.found["failed"][name] = f"{type(error).__name__}: {error}"
                note(f"{name}: {self.found['failed'][name]}")
        self._write()

    def _write(self) -> None:
        """The results so far; a file is never half written."""
        self.found["seconds"] = round(self.clock.spent(), 1)
        self.found["goals"] = goals.judge(self.found["works"], self.found["tests"])
        text = json.dumps(self.found, indent=1).replace(str(ROOT), ".")
        path = self.plan.path
        partly = path.with_suffix(".partly")
        partly.write_text(text + "\n", encoding="utf-8")
        partly.replace(path)

    def _ceilings(self) -> None:
        libraries = ("numpy",) if self.plan.quick else ("cupy", "torch")
        memory = self.found["gpu"].get("gigabytes", 1.0) * 1e9
        seconds = min(120.0, self.clock.left() / 4)
        self.found["ceilings"] = checks.ceilings(libraries, memory, seconds, device=self.plan.device)
        self.found["versions"] |= self.found["ceilings"]["versions"]

    def _tests(self) -> None:
        seconds = min(300.0, self.clock.left() / 3)
        self.found["tests"] = checks.tests(self.plan.tests, seconds, device=self.plan.device)

    def _work(self, work: Work) -> None:
        able = [each for each in self.plan.contenders if each.does(work) and not each.missing]
        references = works.REFERENCES[1:] if self.plan.quick or work.batch == 1 else works.REFERENCES
        racing = race.Racing(work, self.clock, self.plan.seconds, note)
        told = racing.run(able, references, self.plan.rounds)
        told["shares"] = goals.shares(work, told, self.found["ceilings"].get("best", {}))
        self.found["works"].append(told)


def main(chosen: Plan) -> None:
    """Run, print the tables, draw the picture beside the JSON where that can be done."""
    found = Run(chosen).all()
    print(report.table(found))
    note(f"written: {chosen.path.name}")
    try:
        note(f"drawn: {', '.join(path.name for path in report.draw(found, chosen.out))}")
    except (ValueError, ImportError, OSError) as why:
        note(f"not drawn: {why}")
