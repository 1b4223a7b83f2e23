"""Processes that are ended when their time is spent: contenders, and programs that print something."""

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

from . import worker
from .contenders import Contender
from .worker import Failed
from .works import Work

ROOT = Path(__file__).resolve().parent.parent
_SECONDS = {"cpu": 900.0, "cuda": 75.0}  # of a contender, where the table says no other
_SLOW = 2.4  # times that, for one that is slow to get ready


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


def environment(threads: int, device: str) -> dict[str, str]:
    """Environment variables that hold every library to a device and a number of threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NPROC")
    found = {**os.environ, **dict.fromkeys(names, str(threads))}
    if device == "cuda":
        shared = {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        return {**found, **shared, "CUPY_NVRTC_USE_PCH": "1"}
    if threads == 1:
        found["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return {**found, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def _end(process: subprocess.Popen[Any]) -> None:
    """Kill a process that leads a session, with the processes it has started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError):
        process.kill()
    process.wait()


class Process:
    """A worker in a process of its own that has so much time to answer in, all answers together.

    What it waits for others is not counted.

    Args:
        clock: of the run.
        contender: from the table.
        work: the work.
        folder: its data.
        threads: it may use.
    """

    def __init__(self, clock: Clock, contender: Contender, work: Work, folder: Path, threads: int) -> None:
        usual = _SECONDS[work.device] * (_SLOW if contender.slow else 1)
        self.clock, self.seconds = clock, contender.seconds or usual
        self.left = self.seconds
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in close)
        self.process = subprocess.Popen(
            [sys.executable, *worker.command(contender, work, folder, threads)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, start_new_session=True,
            env=environment(threads, work.device),
        )  # fmt: skip

    def ask(self, what: str, steps: int = 0) -> dict[str, Any]:
        """Send a question, wait for the answer while there is time.

        Raises:
            Failed: there was none, or none in time.
        """
        allowed, begin = min(self.left, self.clock.left()), monotonic()
        timer = Timer(allowed, _end, [self.process])
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
        whose = "the time of the whole run is" if self.left > 0 else f"its {self.seconds:g} s are"
        return f"ended: {whose} spent"

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
        try:
            self.process.wait(0 if self.left <= 0 else 10)
        except subprocess.TimeoutExpired:
            _end(self.process)
        self.process.stdout.close()  # type: ignore[union-attr]
        self.log.close()


def program(words: Sequence[str], seconds: float, device: str) -> tuple[int | None, str, str]:
    """A Python program's status, None where it was ended, and what it wrote to its output and its errors."""
    found = environment(os.cpu_count() or 1, device) | {"COLUMNS": "400"}
    if device == "cuda" and "JAX_PLATFORMS" not in os.environ:
        del found["JAX_PLATFORMS"]  # tests are left out where JAX finds no GPU
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT, env=found,
            start_new_session=True,
        )  # fmt: skip
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                _end(process)
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read()
