"""The checks of a run on a GPU beside timing, each in a process of its own, so that a crash ends no other.

Run as `python -m benchmarks.gpu_checks WHAT DEVICE …`; a line of JSON is printed. On the device 'cpu' the
stand-in of the tests takes the place of CuPy, so that all of this can be tried.

    product DEVICE EPILOGUE PRECISION ALIGNMENT   products of some shapes against float64
    scan DEVICE                                   a small scan, for compute-sanitizer
    kernels DEVICE WORK                           the time of each kernel of a step
"""

import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product as combinations
from pathlib import Path
from typing import Any

import numpy as np

import backprop_xp as bp

from . import data, internals, works
from .contenders import CONTENDERS
from .processes import ROOT, program

SHAPES = ((128, 784, 512), (784, 128, 512), (128, 256, 10), (33, 65, 129), (64, 1, 32))  # m, k, n
ALIGNMENTS = (4, 8, 16, 256)  # bytes, of the result and of the vector
BOUNDS = {"float32": 2**-21, "tf32": 2**-8, "bfloat16": 2**-6, "float16": 2**-9}
_AT_ONCE = 8
_SANITIZER = "compute-sanitizer"
_STEPS = 64  # how many steps are profiled
_MOST_KERNELS = 24  # how many kernels are listed

Found = dict[str, Any]


# ---------------------------------------------------------------- the programs
def stand_in() -> Any:
    """Install the tests' stand-in in place of CuPy, as if there were a GPU; return it."""
    path = ROOT / "tests" / "fake_cupy.py"
    spec = importlib.util.spec_from_file_location("fake_cupy", path)
    assert spec is not None
    assert spec.loader is not None
    fake = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake)
    sys.modules.update(fake.modules())
    import array_api_compat

    array_api_compat.cupy = sys.modules["array_api_compat.cupy"]
    internals.stand_in(fake)
    return sys.modules["cupy"]


def product(cupy: Any, epilogue: str, precision: str, alignment: int) -> Found:
    """Products with an epilogue, of matrices and a vector that are aligned to exactly so many bytes.

    Returns:
        The shapes that ran as one kernel and those that are not supported, and the largest error, as a share
        of the bound for this precision.
    """
    multiply, draw = internals.unguarded_products(cupy, precision), np.random.default_rng(0)
    found: Found = {"done": [], "not supported": [], "error": 0.0}

    def placed(shape: tuple[int, ...], values: Any = 0.0) -> Any:
        """An array at that alignment."""
        count, offset = int(np.prod(shape)), alignment // 4 % 128
        whole = cupy.empty((count + 128,), dtype=np.float32)
        part = cupy.reshape(whole[offset : offset + count], shape)
        part[...] = values
        return part

    for m, k, n in SHAPES:
        a, b = (draw.standard_normal(shape).astype("f4") for shape in ((m, k), (k, n)))
        bias = draw.standard_normal(n).astype("f4")
        out, vector = placed((m, n)), placed((n,), cupy.asarray(bias))
        given = cupy.asarray(a), cupy.asarray(b), out
        try:
            done = multiply.matmul_with_epilogue(epilogue, *given, vector) if epilogue else True
            if not epilogue:
                multiply(given[0], given[1], out=out)
        except bp.BackpropError:
            done = False
        found["done" if done else "not supported"].append([m, k, n])
        if done:
            exact, size = a.astype("f8") @ b, np.abs(a).astype("f8") @ np.abs(b)
            if epilogue.startswith("add"):
                exact, size = exact + bias, size + np.abs(bias)
            exact = np.maximum(exact, 0) if "maximum" in epilogue else exact
            gaps = [(out, exact, size)]
            gaps += [(vector, b.sum(axis=0, dtype="f8"), np.abs(b).sum(axis=0))] * (epilogue == "sum")
            far = [np.max(np.abs(cupy.asnumpy(x) - y) / np.maximum(z, 1e-30)) for x, y, z in gaps]
            found["error"] = max(found["error"], float(max(far)) / BOUNDS[precision])
    return found


def scan(cupy: Any) -> Found:
    """A few steps by graphs, on rows on the device and on the host."""
    net = bp.chain(20, bp.Dense(16, bp.activations.ReLU(">")), bp.Dense(10))
    learner = bp.Learner(net, bp.softmax_cross_entropy, bp.Adam(0.01))
    draw = np.random.default_rng(0)
    x, t = draw.standard_normal((64, 20)).astype("f4"), draw.integers(0, 10, 64).astype(np.int32)
    index = draw.integers(0, 64, (20, 8)).astype(np.int32)
    w, s = learner.init(seed=1, backend="cupy")
    step = learner.compile(w)
    w, s, _ = step.scan(w, s, *map(cupy.asarray, (x, t, index)))
    w, s, losses = step.scan(w, s, x, t, index)
    return {"loss": float(cupy.asnumpy(losses)[-1]), "steps": 40}


def kernels(device: str, name: str) -> Found:
    """The microseconds of each kernel of a step, and how often it runs, by Torch's profiler."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    work = next(work for work in works.WORKS if work.name == name)
    work = replace(work, steps=min(work.steps, 64)) if device == "cuda" else works.quick(work)
    ours = next(c for c in CONTENDERS if c.name == ("ours cupy" if device == "cuda" else "ours numpy"))
    on_gpu = device == "cuda"
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        data.make(work, Path(folder))
        running = ours.open(work, data.load(work, Path(folder)), 1)
        running.run(_STEPS)
        with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
            running.run(_STEPS)
            if on_gpu:
                torch.cuda.synchronize()
    rows = [
        (e.key, e.count, e.device_time_total if on_gpu else e.cpu_time_total) for e in seen.key_averages()
    ]
    rows = sorted(rows, key=lambda row: -row[2])[:_MOST_KERNELS]
    return {"work": name, "kernels": [{"name": key[:120], "times a step": count / _STEPS,
                                       "microseconds a step": micro / _STEPS}
                                      for key, count, micro in rows]}  # fmt: skip


def main(what: str, device: str, *rest: str) -> None:
    """Run one program and print what it finds, or why it failed."""
    try:
        if what == "kernels":
            found = kernels(device, *rest)
        else:
            cupy = stand_in() if device == "cpu" else __import__("cupy")
            found = scan(cupy) if what == "scan" else product(cupy, rest[0], rest[1], int(rest[2]))
    except Exception as error:  # reported to the process that reads the line
        found = {"failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
    print(json.dumps(found), flush=True)
    if "failed" in found:
        sys.exit(1)


# ---------------------------------------------------------------- running the programs
def ask(words: Sequence[str], seconds: float, device: str, before: Sequence[str] = ()) -> Found:
    """Run one program; return what it finds, or why it failed."""
    what, *rest = words
    command = ["-m", f"{__package__}.gpu_checks", what, device, *rest]
    status, out, err = program(command, seconds, device, before)
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if not lines:
        last = (err.strip().splitlines() or ["it printed nothing"])[-1]
        return {"failed": "its time is spent" if status is None else f"status {status}: {last}"}
    found: Found = json.loads(lines[-1])
    return found if status == 0 or "failed" in found else found | {"failed": f"status {status}"}


def products(seconds: float, device: str) -> Iterator[tuple[str, Found]]:
    """Every epilogue in every precision at every alignment, some at a time; a crash affects only its own."""
    few = device == "cpu"
    cases = combinations(("", "add", "add maximum", "sum"), ("float32",) if few else BOUNDS, ALIGNMENTS)
    chosen = [case for case in cases if not few or (case[0] in ("", "sum") and case[2] in (4, 16))]
    with ThreadPoolExecutor(2 if few else _AT_ONCE) as pool:
        asked = {
            f"{epilogue or 'none'}, {precision}, {alignment} bytes": pool.submit(
                ask, ("product", epilogue, precision, str(alignment)), seconds, device
            )
            for epilogue, precision, alignment in chosen
        }
        for name, future in asked.items():
            yield name, future.result()


def sanitized(seconds: float, device: str) -> Found:
    """A small scan under compute-sanitizer, where it is found."""
    tool = shutil.which(_SANITIZER) or shutil.which(_SANITIZER, path="/usr/local/cuda/bin")
    if tool is None:
        return {"skipped": f"{_SANITIZER} is not installed"}
    return ask(("scan",), seconds, device, before=(tool, "--error-exitcode", "9"))


if __name__ == "__main__":
    main(*sys.argv[1:])
