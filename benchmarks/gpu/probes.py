"""What the machine can do at most, measured by one library: prints a line of JSON for each figure.

Run as `python -m benchmarks.gpu.probes LIBRARY N BYTES`.
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
    """Seconds of one run: the shortest of some measurements of a few runs each."""
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


def with_numpy(n: int, size: int) -> Iterator[Figure]:
    """The processor, to try the rest."""
    a, b = (np.zeros(size // 8, dtype="float32") for _ in range(2))
    m = np.ones((n, n), dtype="float32")
    yield "copy", lambda: 2 * a.nbytes / _best(lambda: np.copyto(b, a), int, 2)
    yield "float32", lambda: 2 * n**3 / _best(lambda: m @ m, int, 2)
    yield "h2d", lambda: a.nbytes / _best(lambda: np.copyto(b, a), int, 2)


def with_cupy(n: int, size: int) -> Iterator[Figure]:
    """CuPy, and the library's own products."""
    import cupy

    from backprop_xp.backends import _cublaslt

    ready = cupy.cuda.get_current_stream().synchronize

    def copied() -> float:
        a, b = (cupy.zeros(size // 8, dtype="float32") for _ in range(2))
        return 2 * a.nbytes / _best(lambda: cupy.copyto(b, a), ready, 10)

    def product(precision: str) -> float:
        products, how = _cublaslt.Products(cupy, precision), _cublaslt.PRECISIONS[precision]
        factor = cupy.asarray(np.random.default_rng(0).random((n, n), dtype="float32"))
        a, b = (products._operand(factor, how) for _ in range(2))  # noqa: SLF001
        out = cupy.empty((n, n), dtype="float32")
        return 2 * n**3 / _best(lambda: products._multiply(how, a, b, out), ready, 5)  # noqa: SLF001

    yield "copy", copied
    for name in _cublaslt.PRECISIONS:
        yield name, lambda name=name: product(name)
    yield "h2d", lambda: _cupy_moved(cupy, size, up=True)
    yield "d2h", lambda: _cupy_moved(cupy, size, up=False)
    yield "node", lambda: _cupy_node(cupy)
    yield "version cuda runtime", cupy.cuda.runtime.runtimeGetVersion
    yield "version cuBLASLt", lambda: _version(_cublaslt.loaded().cublasLtGetVersion)


def _cupy_moved(cupy: Any, size: int, *, up: bool) -> float:
    """Bytes a second between pinned memory and the GPU."""
    count = min(size, _PINNED)
    host = np.frombuffer(cupy.cuda.alloc_pinned_memory(count), np.uint8, count)
    there = cupy.zeros(count, dtype=cupy.uint8)
    stream = cupy.cuda.Stream(non_blocking=True)
    if up:
        return count / _best(lambda: there.set(host, stream), stream.synchronize, 4)
    return count / _best(lambda: there.get(stream, out=host, blocking=False), stream.synchronize, 4)


def _cupy_node(cupy: Any) -> float:
    """Seconds of a small kernel in a graph of many that depend on each other."""
    stream, a = cupy.cuda.Stream(non_blocking=True), cupy.zeros(1, dtype="float32")
    with stream:
        a += 1
        stream.synchronize()
        stream.begin_capture()
        for _ in range(_NODES):
            a += 1
        graph = stream.end_capture()
    return _best(lambda: graph.launch(stream), stream.synchronize, 20) / _NODES


def _version(function: Any) -> int:
    import ctypes

    function.restype = ctypes.c_size_t
    return int(function())


def with_torch(n: int, size: int) -> Iterator[Figure]:
    """Torch."""
    import torch

    ready = torch.cuda.synchronize

    def copied() -> float:
        a, b = (torch.zeros(size // 8, device="cuda") for _ in range(2))
        return 2 * a.nbytes / _best(lambda: b.copy_(a), ready, 10)

    def product(dtype: Any, precision: str) -> float:
        torch.set_float32_matmul_precision(precision)
        a, b = (torch.rand((n, n), device="cuda").to(dtype) for _ in range(2))
        out = torch.empty((n, n), device="cuda", dtype=dtype)
        return 2 * n**3 / _best(lambda: torch.mm(a, b, out=out), ready, 5)

    yield "copy", copied
    yield "float32", lambda: product(torch.float32, "highest")
    yield "tf32", lambda: product(torch.float32, "high")
    yield "bfloat16", lambda: product(torch.bfloat16, "high")
    yield "float16", lambda: product(torch.float16, "high")
    yield "h2d", lambda: _torch_moved(torch, size, up=True)
    yield "d2h", lambda: _torch_moved(torch, size, up=False)
    yield "node", lambda: _torch_node(torch)
    yield "version torch's cuda", lambda: torch.version.cuda


def _torch_moved(torch: Any, size: int, *, up: bool) -> float:
    """Bytes a second between pinned memory and the GPU."""
    count = min(size, _PINNED)
    host = torch.zeros(count, dtype=torch.uint8).pin_memory()
    there = torch.zeros(count, dtype=torch.uint8, device="cuda")
    to, of = (there, host) if up else (host, there)
    return count / _best(lambda: to.copy_(of, non_blocking=True), torch.cuda.synchronize, 4)


def _torch_node(torch: Any) -> float:
    """Seconds of a small kernel in a graph of many that depend on each other."""
    a, graph = torch.zeros(1, device="cuda"), torch.cuda.CUDAGraph()
    a += 1
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        for _ in range(_NODES):
            a += 1
    return _best(graph.replay, torch.cuda.synchronize, 20) / _NODES


def main(library: str, n: str, size: str) -> None:
    """Measure and print, whatever fails as text."""
    try:
        figures = {"numpy": with_numpy, "cupy": with_cupy, "torch": with_torch}[library](int(n), int(size))
        for name, measure in figures:
            try:
                told = {"name": name, "value": measure()}
            except Exception as error:  # the other figures are still wanted
                told = {"name": name, "failed": f"{type(error).__name__}: {error}"}
            print(json.dumps(told), flush=True)
    except Exception as error:  # the library is not there, or finds no GPU
        print(json.dumps({"name": "all", "failed": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
