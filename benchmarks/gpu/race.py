"""One work by all its contenders: checked, timed in interleaved rounds, whoever fails or hangs left out."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import results
from ..contenders import Contender
from ..engine import Entry, Failed, Race, difference
from ..works import Work
from . import data
from .process import Bounded, Clock

SECONDS = 75.0  # a contender's own, where the table says no other
_MOST = 16384  # steps of a round


class Racing:
    """A work in a run.

    Args:
        work: the work.
        clock: of the run.
        seconds: of a contender, where the table says no other.
        say: is told what goes on.
    """

    def __init__(
        self, work: Work, clock: Clock, seconds: float = SECONDS, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.work, self.clock, self.seconds, self.say = work, clock, seconds, say
        self.entries: dict[str, Entry] = {}
        self.failed: dict[str, str] = {}
        self.facts: dict[str, Any] = {}
        self.expected: list[float] = []

    def run(
        self, contenders: Sequence[Contender], references: Sequence[Contender], rounds: int
    ) -> dict[str, Any]:
        """The work's part of the results.

        Args:
            contenders: who takes part.
            references: the first of them that runs is right.
            rounds: at most; fewer where time is short.
        """
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
            folder = Path(name)
            data.make(self.work, folder)
            reference = self._reference(references, folder)
            opened = {each.name: self._start(each, folder) for each in contenders}
            try:
                for each in contenders:
                    self._ready(each.name, opened[each.name])
                for k in range(rounds):
                    self._round(k)
                megabytes = self._asked_last()
            finally:
                for asked in opened.values():
                    asked.close()
        self._even()
        race = Race(self.work, 0.0, self.entries, megabytes, self.failed)
        return results.of_race(race) | {
            "reference": reference, "facts": self.facts, "flops": self.work.flops,
            "precision": self.work.precision, "step_seconds": {
                name: results.spread(e.seconds) for name, e in self.entries.items()},
        }  # fmt: skip

    def _start(self, each: Contender, folder: Path) -> Bounded:
        return Bounded(each, self.work, folder, self.clock, each.seconds or self.seconds)

    def _reference(self, references: Sequence[Contender], folder: Path) -> str:
        """Who gave the losses that others are compared with; else why nobody did."""
        why = "no reference"
        for each in references:
            asked = self._start(each, folder)
            try:
                self.expected = asked.ask("losses", self.work.check)["losses"]
            except Failed as error:
                why = f"not compared: {each.name}: {error}"
            else:
                return each.name
            finally:
                asked.close()
        self.say(f"{self.work.name}: {why}")
        return why

    def _ready(self, name: str, asked: Bounded) -> None:
        """Checked, warm, and with its number of steps; or told why not."""
        work = self.work
        try:
            self._check(asked.ask("losses", work.check)["losses"])
            asked.ask("go", work.least)
            pace = asked.ask("go", work.least)["seconds"] / work.least
            steps = min(_MOST, max(work.least, int(work.seconds / pace)))
            asked.ask("go", steps)  # a new length may mean a new compilation
            pace = asked.ask("go", steps)["seconds"] / steps
            self.entries[name] = Entry(asked, work.threads[0], work.least, steps, pace)
            self.say(f"{work.name} {name}: {work.told(pace):,.4g} {work.told_as}")
        except Failed as why:
            self._out(name, asked, why)

    def _check(self, found: list[float]) -> None:
        gap = difference(found, self.expected) if self.expected else 0.0
        if gap > self.work.tolerance:
            msg = f"its losses differ from the reference by {gap:.2g}; {self.work.tolerance:g} is allowed"
            raise Failed(msg)

    def _out(self, name: str, asked: Bounded, why: Failed) -> None:
        self.failed[name] = str(why)
        asked.close()
        self.say(f"{self.work.name} {name}: {why}")

    def _round(self, k: int) -> None:
        """Every contender once, another one first in each round; what time does not allow is not begun."""
        names = list(self.entries)
        k %= max(1, len(names))
        for name in names[k:] + names[:k]:
            entry = self.entries[name]
            if self.clock.left() < 3 * entry.pace * entry.steps + 0.5:
                continue
            try:
                entry.worker.ask("go", entry.least)
                answer = entry.worker.ask("go", entry.steps)
            except Failed as why:
                del self.entries[name]
                self._out(name, entry.worker, why)  # type: ignore[arg-type]
                continue
            entry.seconds.append(answer["seconds"] / entry.steps)
            entry.busy.append(answer["busy"] / entry.steps)

    def _asked_last(self) -> dict[str, float]:
        megabytes = {}
        for name, entry in self.entries.items():
            with suppress(Failed):
                self.facts[name] = entry.worker.ask("facts")["facts"]
                megabytes[name] = entry.worker.ask("memory")["megabytes"]
        return megabytes

    def _even(self) -> None:
        """Only rounds that all have finished are kept, so that ratios are of like with like."""
        for name in [name for name, e in self.entries.items() if not e.seconds]:
            self.failed[name] = "ready, but the time of the whole run was spent"
            del self.entries[name]
        rounds = min((len(e.seconds) for e in self.entries.values()), default=0)
        for entry in self.entries.values():
            del entry.seconds[rounds:], entry.busy[rounds:]
