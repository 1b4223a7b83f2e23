"""Measure the ceilings of the machine, and print a line of JSON for each figure.

Run as `python -m benchmarks.probes DEVICE N BYTES`, for products of N × N matrices and copies of BYTES bytes.
"""

import json
import sys
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import numpy as np

_NODES = 100
_TIMES = 5
_PINNED = 1 << 28  # bytes

Figure = tuple[str, Callable[[], Any]]


def _best(run: Callable[[], Any], ready: Callable[[], Any], times: int) -> float:
    """Seconds per run: the shortest of several measurements, each of `times` runs."""
    run()
    ready()
    found = []
    for _ in range(_TIMES):
        begin = perf_counter()
        for _ in range(times):
            run()
        ready()
        found.append((perf_counter() - begin) / times)
    return min(found)


def of_processor(n: int, size: int) -> Iterator[Figure]:
    """Figures of the CPU, by NumPy; they serve only to check that the rest runs."""
    a, b = (np.zeros(size // 8, dtype="float32") for _ in range(2))
    m = np.ones((n, n), dtype="float32")
    yield "copy", lambda: 2 * a.nbytes / _best(lambda: np.copyto(b, a), int, 2)
    yield "float32", lambda: 2 * n**3 / _best(lambda: m @ m, int, 2)
    yield "h2d", lambda: a.nbytes / _best(lambda: np.copyto(b, a), int, 2)


def of_gpu(n: int, size: int, device: str = "cuda") -> Iterator[Figure]:
    """Figures of the GPU, by Torch rather than our own code; device 'cpu' serves to check that this runs."""
    import torch

    ready = torch.cuda.synchronize if device == "cuda" else int
    count = min(size, _PINNED)

    def copied() -> float:
        a, b = (torch.zeros(size // 8, device=device) for _ in range(2))
        return 2 * a.nbytes / _best(lambda: b.copy_(a), ready, 10)

    def product(dtype: Any, precision: str) -> float:
        torch.set_float32_matmul_precision(precision)
        a, b = (torch.rand((n, n), device=device).to(dtype) for _ in range(2))
        out = torch.empty((n, n), device=device, dtype=dtype)
        return 2 * n**3 / _best(lambda: torch.mm(a, b, out=out), ready, 5)

    def moved(*, up: bool) -> float:
        pinned = torch.zeros(count, dtype=torch.uint8, pin_memory=device == "cuda")
        there = torch.zeros(count, dtype=torch.uint8, device=device)
        to, of = (there, pinned) if up else (pinned, there)
        return count / _best(lambda: to.copy_(of, non_blocking=True), ready, 4)

    def node() -> float:
        a, graph = torch.zeros(1, device=device), torch.cuda.CUDAGraph()
        a += 1
        ready()
        with torch.cuda.graph(graph):
            for _ in range(_NODES):
                a += 1
        return _best(graph.replay, ready, 20) / _NODES

    yield "copy", copied
    yield "float32", lambda: product(torch.float32, "highest")
    yield "tf32", lambda: product(torch.float32, "high")
    yield "bfloat16", lambda: product(torch.bfloat16, "high")
    yield "float16", lambda: product(torch.float16, "high")
    yield "h2d", lambda: moved(up=True)
    yield "d2h", lambda: moved(up=False)
    yield "node", node
    yield "version torch's cuda", lambda: torch.version.cuda


def main(device: str, n: str, size: str) -> None:
    """Measure and print every figure, or why it failed."""
    try:
        figures = {"cpu": of_processor, "cuda": of_gpu}[device](int(n), int(size))
        for name, measure in figures:
            try:
                found = {"name": name, "value": measure()}
            except Exception as error:  # the other figures are still measured
                found = {"name": name, "failed": f"{type(error).__name__}: {error}"}
            print(json.dumps(found), flush=True)
    except Exception as error:  # Torch is not installed, or finds no GPU
        print(json.dumps({"name": "all", "failed": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
