"""The contenders of one work: checked, then timed in interleaved rounds; those that fail are left out."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from time import sleep
from typing import Any

from . import data
from .contenders import REFERENCES, Contender
from .processes import Clock, Process
from .worker import Failed, Worker
from .works import Work

Asked = Worker | Process
Start = Callable[[Contender, Work, Path, int], Asked]


@dataclass
class Entry:
    """A contender in a race.

    Attributes:
        worker: the contender, ready to run.
        threads: the number it runs on.
        steps: how many a round has.
        pace: seconds per step, measured before the first round.
        seconds: seconds per step, one figure for each round.
        products: seconds of its own matrix product, one figure for each round.
        facts: memory and further figures, asked for at the end. `first_call` are the seconds before the
            first step, compilation among them: at the first start, and with other threads at the next,
            where what the first compiled is found on disk.
    """

    worker: Asked
    threads: int
    steps: int
    pace: float
    seconds: list[float] = field(default_factory=list)
    products: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


class Race:
    """A work, its contenders and their times.

    Args:
        work: the work.
        start: opens a contender.
        clock: the time of the whole run.
        rest: seconds to wait before each measurement, so that another library's threads go to sleep.

    Attributes:
        reference: the name of the reference the losses were compared with, or why there was none.
        entries: by name of the contender, in the table's order.
        failed: by name of the contender, why it was not timed.
    """

    def __init__(self, work: Work, start: Start, clock: Clock, rest: float = 0.0) -> None:
        self.work, self.start, self.clock, self.rest = work, start, clock, rest
        self.reference = ""
        self.entries: dict[str, Entry] = {}
        self.failed: dict[str, str] = {}
        self._first: dict[str, list[float]] = {}
        self._expected: list[float] | None = None
        self._opened: list[Asked] = []

    def run(self, contenders: Sequence[Contender], rounds: int) -> "Race":
        """Check, then time, the contenders.

        Args:
            contenders: those that take part.
            rounds: how many; in each, all run one after the other. Fewer are made if time is short.
        """
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
            data.make(self.work, Path(name))
            try:
                self._compute_reference(Path(name))
                for each, threads, worker in self._started(contenders, Path(name)):
                    self._admit(each, threads, worker)
                for k in range(rounds):
                    self._round(k)
                self._ask_facts()
            finally:
                for worker in self._opened:
                    worker.close()
        self._keep_whole_rounds()
        return self

    def _open(self, contender: Contender, folder: Path, threads: int) -> Asked:
        self._opened.append(self.start(contender, self.work, folder, threads))
        return self._opened[-1]

    def _compute_reference(self, folder: Path) -> None:
        """The losses of the first steps in float64, by the first reference that runs."""
        for each in (each for each in REFERENCES if each.does(self.work)):
            worker = self._open(each, folder, self.work.threads[-1])
            try:
                self._expected = worker.ask("losses", min(self.work.check, self.work.most))["losses"]
            except Failed as why:
                self.reference = f"none ({each.name}: {why})"
                note(f"{self.work.name}: losses are not compared: {each.name}: {why}")
            else:
                self.reference = each.name
                return
            finally:
                worker.close()

    def _started(
        self, contenders: Sequence[Contender], folder: Path
    ) -> Iterator[tuple[Contender, int, Asked]]:
        """Every contender on each number of threads, opened when its turn comes, so as not to disturb others.

        For a GPU all are opened at once: there are cores enough, and libraries take long to load.
        """
        turns = ((each, n, self._open(each, folder, n)) for each in contenders for n in self.work.threads)
        return iter(list(turns)) if self.work.device == "cuda" else turns

    def _admit(self, contender: Contender, threads: int, worker: Asked) -> None:
        """Check a contender, warm it up, and find its number of steps; of two entries the faster is kept."""
        work, name = self.work, contender.name
        if name in self.failed:
            worker.close()
            return
        try:
            checked = min(work.check, work.most)
            answer = worker.ask("losses", checked)
            self._check(answer["losses"], work.tolerance * contender.allowance)
            least = min(work.least, work.most)
            worker.ask("go", least)
            pace = worker.ask("go", least)["seconds"] / least
            steps = min(work.most, max(least, int(work.seconds / pace)))
            worker.ask("go", steps)  # a new length may mean a new compilation
            pace = worker.ask("go", steps)["seconds"] / steps
        except Failed as why:
            self.entries.pop(name, None)
            self._out(name, worker, why)
            return
        self._first.setdefault(name, []).append(max(0.0, answer["seconds"] - checked * pace))
        entry, other = Entry(worker, threads, steps, pace), self.entries.get(name)
        if other:
            entry, slower = sorted((entry, other), key=lambda each: each.pace)
            slower.worker.close()
        self.entries[name] = entry
        on = f" on {threads} threads" if len(work.threads) > 1 else ""
        note(f"{work.name} {name}{on}: {work.told(pace):,.4g} {work.told_as}")

    def _check(self, found: list[float], allowed: float) -> None:
        gap = 0.0 if self._expected is None else difference(found, self._expected)
        if gap > allowed:
            msg = f"its losses differ from the reference by {gap:.2g} of their mean; {allowed:g} is allowed"
            raise Failed(msg)

    def _out(self, name: str, worker: Asked, why: Failed) -> None:
        self.failed[name] = str(why)
        worker.close()
        note(f"{self.work.name} {name}: {why}")

    def _round(self, k: int) -> None:
        """Every contender once, each round beginning with another; none is begun that time does not allow."""
        names = list(self.entries)
        k %= max(1, len(names))
        for name in names[k:] + names[:k]:
            entry = self.entries[name]
            if self.clock.left() < 3 * entry.pace * entry.steps + 0.5:
                continue
            sleep(self.rest)
            try:
                self._measure(entry)
            except Failed as why:
                self._out(name, self.entries.pop(name).worker, why)

    def _measure(self, entry: Entry) -> None:
        entry.worker.ask("go", min(self.work.least, entry.steps))  # fills the caches again
        seconds = entry.worker.ask("go", entry.steps)["seconds"]
        product = entry.worker.ask("product")["seconds"] if self.work.product else None
        entry.seconds.append(seconds / entry.steps)
        entry.products += [] if product is None else [product]

    def _ask_facts(self) -> None:
        for name, entry in list(self.entries.items()):
            try:
                entry.facts = {"first_call": self._first[name], **entry.worker.ask("facts")}
            except Failed as why:
                self._out(name, self.entries.pop(name).worker, why)

    def _keep_whole_rounds(self) -> None:
        """Keep only the rounds that all contenders finished, so that ratios compare the same rounds."""
        for name in [name for name, entry in self.entries.items() if not entry.seconds]:
            self.failed[name] = "ready, but the time of the whole run was spent"
            del self.entries[name]
        rounds = min((len(entry.seconds) for entry in self.entries.values()), default=0)
        for entry in self.entries.values():
            del entry.seconds[rounds:]


def difference(found: Sequence[float], expected: Sequence[float]) -> float:
    """The largest difference of losses, as a share of the mean loss; a single loss is compared with it."""
    expected = [fmean(expected)] if len(found) == 1 else expected
    if len(found) != len(expected):
        return float("inf")
    scale = fmean(abs(each) for each in expected)
    gaps = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    return max(gaps) / scale if all(gap == gap for gap in gaps) else float("inf")


def note(text: str) -> None:
    """Print progress to standard error."""
    print(text, file=sys.stderr, flush=True)
