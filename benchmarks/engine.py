"""Any contender on any work: checked against the reference, then timed in interleaved rounds."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from threading import Timer
from time import sleep
from typing import Any, Protocol

from . import data, worker
from .contenders import Contender
from .contenders.plain import Plain, PlainFile, Reading
from .works import Work

_ROOT = Path(__file__).resolve().parent.parent
_TOO_LONG = 900.0  # seconds without an answer
_REST = 0.25  # seconds before each measurement, so that another library's threads have gone to sleep


class Failed(Exception):
    """A contender that does not run, or computes something else."""


class Asked(Protocol):
    """A contender at work, here or in another process."""

    def ask(self, what: str, steps: int = 0) -> dict[str, Any]:
        """The answer to a question."""
        ...

    def close(self) -> None:
        """The end."""
        ...


class Remote:
    """A worker in a process of its own."""

    def __init__(self, contender: Contender, work: Work, folder: Path, threads: int) -> None:
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in close)
        self.process = subprocess.Popen(
            worker.start(contender, work, folder, threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.log, text=True, cwd=_ROOT, env=worker.environment(threads),
        )  # fmt: skip

    def ask(self, what: str, steps: int = 0) -> dict[str, Any]:
        """Send a question, wait for the answer."""
        timer = Timer(_TOO_LONG, self.process.kill)
        timer.start()
        try:
            print(json.dumps({"what": what, "steps": steps}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()  # type: ignore[union-attr]
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            self.log.seek(0)
            told = self.log.read().strip().splitlines()
            msg = f"its process ended: {told[-1] if told else 'nothing was said'}"
            raise Failed(msg)
        return json.loads(line)  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]
        self.log.close()


Start = Callable[[Contender, Work, Path, int], Asked]


@dataclass
class Entry:
    """A contender in a race.

    Attributes:
        worker: it, ready.
        threads: it runs on.
        least: steps that are run before each measurement.
        steps: of a round.
        pace: seconds a step, before the first round.
        seconds: a step, one for each round.
        busy: the same of all cores together.
        products: seconds of its own matrix product, one for each round.
    """

    worker: Asked
    threads: int
    least: int
    steps: int
    pace: float
    seconds: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    products: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Race:
    """What came of one work.

    Attributes:
        work: the work.
        rows_per_second: at which its data were made.
        entries: by contender, in the table's order.
        megabytes: the most memory of each.
        failed: by contender, why it was not timed.
    """

    work: Work
    rows_per_second: float
    entries: dict[str, Entry]
    megabytes: dict[str, float]
    failed: dict[str, str]


def race(
    work: Work, contenders: Sequence[Contender], rounds: int, *, start: Start = Remote, rest: float = _REST,
    say: Callable[[str], None] = lambda _: None,
) -> Race:  # fmt: skip
    """Check, then time, the contenders on a work.

    Args:
        work: the work.
        contenders: from the table.
        rounds: how often each is timed; in every round all of them, one after the other.
        start: opens a contender.
        rest: seconds of quiet before each measurement.
        say: is told what goes on.
    """
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        folder = Path(name)
        speed = data.make(work, folder)
        expected = reference(work, folder)
        entries: dict[str, Entry] = {}
        failed: dict[str, str] = {}
        try:
            for each in contenders:
                try:
                    entries[each.name] = _ready(each, work, folder, expected, start)
                except Failed as why:
                    failed[each.name] = str(why)
                told = failed.get(each.name) or f"{work.told(entries[each.name].pace):,.4g} {work.told_as}"
                say(f"{work.name} {each.name}: {told}")
            for k in range(rounds):
                failed |= _round(entries, k, rest)
            peaks = {name: e.worker.ask("memory")["megabytes"] for name, e in entries.items()}
        finally:
            for entry in entries.values():
                entry.worker.close()
    return Race(work, speed, entries, peaks, failed)


def reference(work: Work, folder: Path) -> list[float]:
    """The losses of the first steps in float64, by hand-written NumPy."""
    cls = {"steps": Plain, "train": PlainFile, "read": Reading}[work.kind]
    return [float(each) for each in cls(work, data.load(work, folder), 1, dtype="float64").run(work.check)]


def difference(found: Sequence[float], expected: Sequence[float]) -> float:
    """The largest difference of losses, as a share of the mean loss; one loss alone is the mean of them."""
    expected = [fmean(expected)] if len(found) == 1 else expected
    if len(found) != len(expected):
        return float("inf")
    scale = fmean(abs(each) for each in expected)
    gaps = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    return max(gaps) / scale if all(gap == gap for gap in gaps) else float("inf")


def _ready(contender: Contender, work: Work, folder: Path, expected: list[float], start: Start) -> Entry:
    """The contender, checked, warm, and on its best number of threads."""
    tried: list[Entry] = []
    try:
        for threads in work.threads:
            tried.append(_opened(contender, work, folder, expected, start, threads))
            if len(tried) == 2:
                tried.sort(key=lambda entry: entry.pace)
                tried.pop().worker.close()
    except BaseException:
        for entry in tried:
            entry.worker.close()
        raise
    return tried[0]


def _opened(
    contender: Contender, work: Work, folder: Path, expected: list[float], start: Start, threads: int
) -> Entry:
    asked = start(contender, work, folder, threads)
    try:
        allowed = work.tolerance * contender.allowance
        _check(_answer(asked, "losses", work.check)["losses"], expected, allowed)
        least = min(work.least, work.batches)
        _answer(asked, "go", least)
        pace = _answer(asked, "go", least)["seconds"] / least
        steps = min(work.batches, max(least, int(work.seconds / pace)))
        _answer(asked, "go", steps)  # a new length may mean a new compilation
        pace = _answer(asked, "go", steps)["seconds"] / steps
    except BaseException:
        asked.close()
        raise
    return Entry(asked, threads, least, steps, pace)


def _check(found: list[float], expected: list[float], allowed: float) -> None:
    gap = difference(found, expected)
    if gap > allowed:
        msg = f"its losses differ from the reference by {gap:.2g} of their mean; {allowed:g} is allowed"
        raise Failed(msg)


def _answer(asked: Asked, what: str, steps: int) -> dict[str, Any]:
    answer = asked.ask(what, steps)
    if "failed" in answer:
        raise Failed(answer["failed"])
    return answer


def _round(entries: dict[str, Entry], k: int, rest: float) -> dict[str, str]:
    """Every contender once, another one first in each round; those that failed, and why, are out."""
    names, failed = list(entries), {}
    k %= max(1, len(names))
    for name in names[k:] + names[:k]:
        sleep(rest)
        try:
            _measure(entries[name])
        except Failed as why:
            failed[name] = str(why)
            entries.pop(name).worker.close()
    return failed


def _measure(entry: Entry) -> None:
    _answer(entry.worker, "go", entry.least)  # what the others have driven out of the cache comes back
    answer = _answer(entry.worker, "go", entry.steps)
    entry.seconds.append(answer["seconds"] / entry.steps)
    entry.busy.append(answer["busy"] / entry.steps)
    product = _answer(entry.worker, "product", 0)["seconds"]
    if product is not None:
        entry.products.append(product)


def note(text: str) -> None:
    """Say something to whoever waits."""
    print(text, file=sys.stderr, flush=True)
