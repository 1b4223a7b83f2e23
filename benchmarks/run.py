"""A whole run, part by part, within a given time; the JSON is written after each part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from . import goals, gpu_checks, gpu_tests, limits, machine, results
from .contenders import Contender, missing
from .processes import Clock, Process
from .race import Race, Start, note
from .worker import Worker
from .works import Work

PARTS = {"truth": "", "small": "G1,G2,G4", "large": "G3,G5"}  # of a run on a GPU: their works


@dataclass
class Run:
    """A run of some works.

    Attributes:
        device: 'cpu' or 'cuda', the device of the works.
        works: what is run, in this order.
        contenders: those that take part in the works they can do.
        rounds: how often each contender is timed.
        budget: seconds for everything together.
        out: the folder of the JSON.
        quick: run small works on the processor.
        tests: the file of tests that a run on a GPU includes, empty for none.
        parts: of a run on a GPU, of PARTS: only these; empty for all but what 'truth' and 'small' add.
        found: the results so far.
    """

    device: str
    works: Sequence[Work]
    contenders: Sequence[Contender]
    rounds: int
    budget: float
    out: Path
    quick: bool = False
    tests: str = gpu_tests.PATH
    parts: Sequence[str] = ()
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = Clock(self.budget)
        self.start: Start = Worker if self.quick else partial(Process, self.clock)  # quick: in this process
        self.found = {
            "device": self.device, "gpu": machine.gpu() if self.runs_on == "cuda" else {},
            "quick": self.quick, "date": machine.today(), "rounds": self.rounds, "budget": self.budget,
            "seconds": 0.0, "machine": machine.host(), "versions": machine.versions(),
            "missing": missing(self.runs_on), "ceilings": {}, "tests": {}, "works": [], "failed": {},
            "goals": [], "products": {}, "sanitizer": {}, "kernels": {},
        }  # fmt: skip

    @property
    def runs_on(self) -> str:
        """The device used: a quick run tries the works of a GPU on the processor."""
        return "cpu" if self.quick else self.device

    @property
    def path(self) -> Path:
        """The path of the JSON."""
        words = [self.found["date"], self.device, *self.parts, *["quick"] * self.quick]
        return self.out / f"{'-'.join(words)}.json"

    def all(self) -> dict[str, Any]:
        """Run every part that time allows, and return the results."""
        self.out.mkdir(parents=True, exist_ok=True)
        truth = "truth" in self.parts
        if truth:
            self.part("products", self.check_products)
        if self.device == "cuda" and self.works:
            self.part("ceilings", self.measure_ceilings)
        if self.device == "cuda" and self.tests and (truth or not self.parts):
            self.part("tests", self.run_tests)
        if truth:
            self.part("sanitizer", self.sanitize)
        for work in self.works:
            self.part(work.name, partial(self.race, work))
            if "small" in self.parts and work.name in PARTS["small"].split(","):
                self.part(f"kernels of {work.name}", partial(self.look_at_kernels, work))
        return self.found

    def part(self, name: str, run: Callable[[], None]) -> None:
        """Run one part; if it fails, record why."""
        if self.clock.left() < (0.5 if self.quick else 20.0):
            self.found["failed"][name] = "not begun: the time of the whole run is spent"
        else:
            note(f"{name} ({self.clock.left():.0f} s left)")
            try:
                run()
            except Exception as error:  # the other parts go on
                self.found["failed"][name] = f"{type(error).__name__}: {error}"
                note(f"{name}: {self.found['failed'][name]}")
        self.write()

    def write(self) -> None:
        """Write what was found so far."""
        self.found["seconds"] = round(self.clock.spent(), 1)
        self.found["goals"] = goals.judge(self.found["works"], self.found["tests"], self.device)
        results.write(self.found, self.path)

    def measure_ceilings(self) -> None:
        """Measure the ceilings of the machine."""
        memory = self.found["gpu"].get("gigabytes", 1.0) * 1e9
        seconds = min(120.0, self.clock.left() / 4)
        self.found["ceilings"] = limits.measure(memory, seconds, self.runs_on)
        self.found["versions"] |= self.found["ceilings"]["versions"]

    def check_products(self) -> None:
        """Every epilogue, precision and alignment, each in a process of its own."""
        seconds = min(60.0, self.clock.left() / 4)
        for name, found in gpu_checks.products(seconds, self.runs_on):
            self.found["products"][name] = found
            self.write()

    def sanitize(self) -> None:
        """A small scan under compute-sanitizer."""
        seconds = min(120.0, self.clock.left() * 0.9)
        self.found["sanitizer"] = gpu_checks.sanitized(seconds, self.runs_on)

    def look_at_kernels(self, work: Work) -> None:
        """The times of the kernels of a step."""
        seconds = min(60.0, self.clock.left() / 2)
        self.found["kernels"][work.name] = gpu_checks.ask(("kernels", work.name), seconds, self.runs_on)

    def run_tests(self) -> None:
        """Run the tests that need a GPU."""
        seconds = min(300.0, self.clock.left() / 3)
        self.found["tests"] = gpu_tests.run(self.tests, seconds, self.runs_on)

    def race(self, work: Work) -> None:
        """Run one work by all contenders that do it."""
        able = [each for each in self.contenders if each.does(work) and not each.missing]
        rest = 0.25 if self.runs_on == "cpu" and not self.quick else 0.0
        race = Race(work, self.start, self.clock, rest).run(able, self.rounds)
        self.found["works"].append(results.of_race(race, self.found["ceilings"].get("best", {})))
