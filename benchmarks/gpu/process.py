"""Processes that are ended when their time is spent: contenders, and programs that print JSON."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import Any

from .. import worker
from ..contenders import Contender
from ..engine import Failed, Remote
from ..works import Work

ROOT = Path(__file__).resolve().parent.parent.parent


class Clock:
    """The time of a whole run.

    Args:
        seconds: it may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.begin = seconds, monotonic()

    def spent(self) -> float:
        """Seconds gone."""
        return monotonic() - self.begin

    def left(self) -> float:
        """Seconds left, 0 at least."""
        return max(0.0, self.seconds - self.spent())


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process that leads a session, with the processes it has started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError):
        process.kill()


class Bounded(Remote):
    """A contender in a process of its own that has so much time to answer in, all answers together.

    Args:
        contender: from the table.
        work: the work.
        folder: its data.
        clock: of the run.
        seconds: the contender's own; what it waits for others is not counted.
    """

    def __init__(self, contender: Contender, work: Work, folder: Path, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds, self.left = clock, seconds, seconds
        threads = work.threads[0]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in close)
        self.process = subprocess.Popen(
            worker.start(contender, work, folder, threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.log, text=True, cwd=ROOT, env=worker.environment(threads, work.device),
            start_new_session=True,
        )  # fmt: skip

    def ask(self, what: str, steps: int = 0) -> dict[str, Any]:
        """Send a question, wait for the answer while there is time.

        Raises:
            Failed: there was none, or none in time.
        """
        allowed, begin = min(self.left, self.clock.left()), monotonic()
        timer = Timer(allowed, end, [self.process])
        timer.start()
        try:
            print(json.dumps({"what": what, "steps": steps}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()  # type: ignore[union-attr]
        except OSError:
            line = ""
        finally:
            timer.cancel()
        gone = monotonic() - begin
        self.left -= gone
        if not line:
            raise Failed(self._late() if gone >= allowed else self._told())
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def _late(self) -> str:
        if self.left <= 0:
            return f"ended: its {self.seconds:g} s are spent"
        return "ended: the time of the whole run is spent"

    def _told(self) -> str:
        self.log.seek(0)
        told = self.log.read().strip().splitlines()
        return f"its process ended: {told[-1] if told else 'nothing was said'}"

    def close(self) -> None:
        """End the process, killing it if need be."""
        if self.log.closed:
            return
        with suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0 if self.left <= 0 else 10)
        if self.process.poll() is None:
            end(self.process)
            self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]
        self.log.close()


def run(command: Sequence[str], seconds: float, *, device: str = "gpu") -> tuple[int | None, str, str]:
    """A program's status, None where it was ended, and what it wrote to its output and its errors."""
    environment = worker.environment(os.cpu_count() or 1, device)
    if device == "gpu" and "JAX_PLATFORMS" not in os.environ:
        del environment["JAX_PLATFORMS"]  # tests are left out where JAX finds no GPU
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT,
            env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                end(process)
                process.wait()
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read()
