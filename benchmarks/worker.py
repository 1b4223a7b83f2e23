"""One contender on one work, and the questions it answers; in a process of its own, as lines of JSON.

It is opened once and then asked to `go` in every round, so that neither start nor compilation is timed.
"""

import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

from .contenders import Contender
from .data import load
from .works import Work

Answer = dict[str, Any]


class Failed(Exception):
    """A contender that does not run, computes something else, or takes too long."""


class Worker:
    """A contender, opened at the first question."""

    def __init__(self, contender: Contender, work: Work, folder: Path, threads: int) -> None:
        self.contender, self.work, self.folder, self.threads = contender, work, folder, threads
        self.peak = 0.0  # before the factors of a product are made

    @cached_property
    def running(self) -> Any:
        """The object of the contender's class."""
        return self.contender.open(self.work, load(self.work, self.folder), self.threads)

    def ask(self, what: str, steps: int = 0) -> Answer:
        """The answer to one of: losses, go, product, facts.

        Raises:
            Failed: the library raised an exception; its message is the result.
        """
        answers = {"losses": self.losses, "go": self.go, "product": self.product, "facts": self.facts}
        try:
            return answers[what](steps)
        except Exception as error:
            first = str(error).strip().partition("\n")[0]
            msg = f"{type(error).__name__}: {first}"
            raise Failed(msg) from error

    def close(self) -> None:
        """End it; here there is nothing to do."""

    def losses(self, steps: int) -> Answer:
        """The losses of the first steps, for the check, and the seconds until they are there.

        At the first question these include what comes before a first step: weights, tracing, compilation.
        """
        begin = perf_counter()
        run = getattr(self.running, "check", self.running.run)
        losses = [float(each) for each in run(steps)]
        return {"losses": losses, "seconds": perf_counter() - begin}

    def go(self, steps: int) -> Answer:
        """Seconds for a number of steps."""
        begin = perf_counter()
        self.running.run(steps)
        return {"seconds": perf_counter() - begin}

    def product(self, _: int) -> Answer:
        """Seconds of the library's own matrix product of the work's size, where it has one."""
        gemm = getattr(self.running, "gemm", None)
        if gemm is None:
            return {"seconds": None}
        self.peak = self.peak or peak()
        gemm()
        begin = perf_counter()
        gemm()
        return {"seconds": perf_counter() - begin}

    def facts(self, _: int) -> Answer:
        """The peak of memory during the training, 10⁶ bytes, and what the contender's `facts` returns.

        On a GPU, the contender's own figure, the GPU's memory, takes the place of the host's.
        """
        further = getattr(self.running, "facts", dict)
        return {"megabytes": self.peak or peak(), **further()}


def peak() -> float:
    """The peak of this process's memory so far, 10⁶ bytes, as Linux reports it."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) * 1024 / 1e6 for row in rows if row.startswith("VmHWM"))


def command(contender: Contender, work: Work, folder: Path, threads: int) -> list[str]:
    """The arguments of Python that start a worker."""
    given = {"contender": asdict(contender), "work": asdict(work), "folder": str(folder), "threads": threads}
    return ["-m", f"{__package__}.worker", json.dumps(given)]


def serve(argument: str) -> None:
    """Answer questions until there are no more; what a library prints goes to standard error."""
    given = json.loads(argument)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    work, contender = _made(Work, given["work"]), _made(Contender, given["contender"])
    with suppress(Exception):  # the error is reported when the contender is opened
        contender.load()  # before it is asked for, so that contenders load at the same time
    worker = Worker(contender, work, Path(given["folder"]), given["threads"])
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = worker.ask(question["what"], question["steps"])
        except Failed as why:
            answer = {"failed": str(why)}
        print(json.dumps(answer), file=answers, flush=True)


def _made(cls: type[Any], given: dict[str, Any]) -> Any:
    return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})


if __name__ == "__main__":
    serve(sys.argv[1])
