"""Processes with a limit of time: contenders, and programs whose output is read."""

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
_SECONDS = {"cpu": 900.0, "cuda": 75.0}  # for a contender, unless the table says otherwise
_SLOW = 2.4  # times as much for a contender that is slow to get ready


class Clock:
    """The time of a whole run.

    Args:
        seconds: how long it may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.begin = seconds, monotonic()

    def spent(self) -> float:
        """Seconds since the start."""
        return monotonic() - self.begin

    def left(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self.seconds - self.spent())


def environment(threads: int, device: str) -> dict[str, str]:
    """Environment variables that set the device and the number of threads of every library."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NPROC")
    found = {**os.environ, **dict.fromkeys(names, str(threads))}
    if device == "cuda":
        shared = {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        return {**found, **shared, "CUPY_NVRTC_USE_PCH": "1"}
    if threads == 1:
        found["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return {**found, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def _caches(folder: Path) -> dict[str, str]:
    """Folders of compiled code that are empty at the first start of a contender, and its own at the next."""
    return {"XDG_CACHE_HOME": str(folder / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}


def _end(process: subprocess.Popen[Any]) -> None:
    """Kill a process that leads a session, with the processes it has started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError):
        process.kill()
    process.wait()


class Process:
    """A worker in a process of its own, with a limit of time for all its answers together.

    Time in which it is not asked anything does not count.

    Args:
        clock: the time of the whole run.
        contender: what is run.
        work: the work.
        folder: where the work's data are.
        threads: how many it may use.
    """

    def __init__(self, clock: Clock, contender: Contender, work: Work, folder: Path, threads: int) -> None:
        usual = _SECONDS[work.device] * (_SLOW if contender.slow else 1)
        self.clock, self.seconds = clock, contender.seconds or usual
        self.left = self.seconds
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in close)
        self.process = subprocess.Popen(
            [sys.executable, *worker.command(contender, work, folder, threads)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, start_new_session=True,
            env=environment(threads, work.device) | _caches(folder),
        )  # fmt: skip

    def ask(self, what: str, steps: int = 0) -> dict[str, Any]:
        """Send a question, and wait for the answer while there is time.

        Raises:
            Failed: there was no answer in time, or it says that something failed.
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
            raise Failed(self._late() if gone >= allowed else self._ended())
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def _late(self) -> str:
        whose = "the time of the whole run is" if self.left > 0 else f"its {self.seconds:g} s are"
        return f"ended: {whose} spent"

    def _ended(self) -> str:
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        return f"its process ended: {lines[-1] if lines else 'it printed nothing'}"

    def close(self) -> None:
        """End the process; kill it if it does not end by itself."""
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


def program(
    words: Sequence[str], seconds: float, device: str, before: Sequence[str] = ()
) -> tuple[int | None, str, str]:
    """Run a Python program: its status, None if its time was spent, its output and its standard error.

    Args:
        words: the arguments of Python.
        seconds: how long it may take.
        device: 'cpu' or 'cuda'.
        before: another program that runs it.
    """
    found = environment(os.cpu_count() or 1, device) | {"COLUMNS": "400"}
    if device == "cuda" and "JAX_PLATFORMS" not in os.environ:
        del found["JAX_PLATFORMS"]  # tests are left out where JAX finds no GPU
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [*before, sys.executable, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT,
            env=found, start_new_session=True,
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
