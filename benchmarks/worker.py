"""One contender on one work in a process of its own: it answers lines of JSON with lines of JSON.

It is started once and told `go` for every round, so that neither its start nor its compiling is timed.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from .contenders import Contender
from .data import load
from .works import Work

Answer = dict[str, Any]


class Worker:
    """A contender, opened, and what it can be asked."""

    def __init__(self, contender: Contender, work: Work, folder: Path, threads: int) -> None:
        self.running = contender.open(work, load(work, folder), threads)
        self.peak = 0.0  # before the factors of a product are made

    def ask(self, what: str, steps: int = 0) -> Answer:
        """The answer to one of: losses, go, product, memory, facts."""
        answers: dict[str, Callable[[int], Answer]] = {
            "losses": self.losses,
            "go": self.go,
            "product": self.product,
            "memory": self.memory,
            "facts": self.facts,
        }
        return answers[what](steps)

    def close(self) -> None:
        """Nothing more will be asked."""

    def losses(self, steps: int) -> Answer:
        """The losses of the first steps, for the check."""
        return {"losses": [float(each) for each in self.running.run(steps)]}

    def go(self, steps: int) -> Answer:
        """Seconds for a number of steps: on the clock, and of all cores together."""
        begin, busy = perf_counter(), process_time()
        self.running.run(steps)
        return {"seconds": perf_counter() - begin, "busy": process_time() - busy}

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

    def memory(self, _: int) -> Answer:
        """The most memory the process has held for its training, in megabytes."""
        return {"megabytes": self.peak or peak()}

    def facts(self, _: int) -> Answer:
        """What a contender tells of itself, such as its kernels a step."""
        told = getattr(self.running, "facts", None)
        return {"facts": told() if told else {}}


def peak() -> float:
    """The most memory held so far, 10⁶ bytes. (Linux carries ru_maxrss over from the parent process.)"""
    status = Path("/proc/self/status")
    if status.exists():
        line = next((row for row in status.read_text().splitlines() if row.startswith("VmHWM")), "")
        if line:
            return int(line.split()[1]) * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def environment(threads: int, device: str = "cpu") -> dict[str, str]:
    """Environment variables that hold every library to a device and a number of threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NPROC")
    limits = dict.fromkeys(names, str(threads))
    if device == "gpu":
        shared = {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        return {**os.environ, **limits, **shared, "CUPY_NVRTC_USE_PCH": "1"}
    if threads == 1:
        limits["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return {**os.environ, **limits, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def start(contender: Contender, work: Work, folder: Path, threads: int) -> list[str]:
    """The command that starts a worker."""
    told = {"contender": asdict(contender), "work": asdict(work), "folder": str(folder), "threads": threads}
    return [sys.executable, "-m", f"{__package__}.worker", json.dumps(told)]


def hide(extras: tuple[str, ...]) -> None:
    """Let the library find none of these in this process."""
    for name in extras:
        sys.modules[name] = None  # type: ignore[assignment]
    os.environ["BACKPROP_XP_MKL"] = "0" if "mkl" in extras else "1"


def serve(argument: str) -> None:
    """Answer until the questions end; what a library prints goes to standard error."""
    told = json.loads(argument)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    work, contender = _made(Work, told["work"]), _made(Contender, told["contender"])
    worker = None
    hide(contender.hides)
    with suppress(Exception):  # it is told when the contender is opened
        contender.load()  # before it is asked for, so that contenders load at the same time
    for line in sys.stdin:
        question = json.loads(line)
        try:
            worker = worker or Worker(contender, work, Path(told["folder"]), told["threads"])
            answer = worker.ask(question["what"], question["steps"])
        except Exception as error:  # whatever a library throws is its result
            answer = {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"}
        print(json.dumps(answer), file=answers, flush=True)


def _made(cls: type[Any], told: dict[str, Any]) -> Any:
    return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in told.items()})


if __name__ == "__main__":
    serve(sys.argv[1])
