"""W7: two workers beside one, and Torch's DistributedDataParallel on gloo; 784-512-256-10, batch 1,024.

    python -m benchmarks.workers [--rounds N] [--steps N]

Every process has one thread of BLAS. In each round all contenders run one after the other, started anew,
and warmed up before they are timed. Their losses of the first steps are compared. The result goes to
benchmarks/results/workers.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import backprop_xp as bp
from backprop_xp.train.shared import compile_shared, sharded

from . import machine
from .processes import ROOT

BATCH, STORED, WARM, CHECKED, TOLERANCE = 1024, 4, 10, 5, 1e-3
FOLDER = Path(__file__).parent / "results" / "workers"
WHOLE, ONE, TWO = "ours whole", "ours one worker", "ours two workers"
FEW = "ours two workers, two shards"
TORCH, DDP = "torch one process", "torch DDP gloo two processes"
PROCESSES = {WHOLE: 1, ONE: 1, TWO: 2, FEW: 2, TORCH: 1, DDP: 2}
Run = Callable[[int], Any]


def data() -> tuple[bp.Learner, Any, Any, Any, Any]:
    """The learner, its first weights and state, and the stored rows."""
    net = bp.chain(784, bp.Dense(512, bp.relu), bp.Dense(256, bp.relu), bp.Dense(10))
    learner = bp.Learner(net, bp.softmax_cross_entropy, bp.Adam(1e-3))
    draw = np.random.default_rng(0)
    x = draw.random((STORED * BATCH, 784), dtype="float32")
    return learner, *learner.init(seed=7), x, draw.integers(0, 10, len(x), dtype="int32")


def index(steps: int) -> Any:
    """The rows of each step: the stored batches, again and again."""
    return np.arange(steps)[:, None] % STORED * BATCH + np.arange(BATCH)


class Timed:
    """The exchange of a sum, and the seconds it takes, waiting for the other worker among them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        bp.workers.Shared.exchange = self.timed(bp.workers.Shared.exchange)  # type: ignore[method-assign]

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            begin = perf_counter()
            found = function(*args)
            self.seconds += perf_counter() - begin
            return found

        return call


def ours(name: str) -> tuple[Run, Timed | None, int]:
    """Steps of this library: whole batches, or shards of one worker or two."""
    learner, w, s, x, t = data()
    shards = 2 if name == FEW else bp.workers.SHARDS
    workers: Any = bp.workers.mpi(shards) if name in (TWO, FEW) else bp.workers.Alone()
    step = learner.compile(w) if name == WHOLE else compile_shared(sharded(learner, workers), w, workers)
    state = [*step.pack(*learner.snapshot(w, s))]

    def run(steps: int) -> Any:
        *state[:], losses = step.scan(*state, x, t, index(steps))
        return losses

    return run, Timed() if name in (TWO, FEW) else None, workers.rank


def torches(rank: int, meeting: str) -> tuple[Run, None, int]:
    """Steps of Torch, by its manual; with a meeting place those of two processes."""
    import torch

    torch.set_num_threads(1)
    learner, w, _, x, t = data()
    layers = [torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 256), torch.nn.ReLU(),
              torch.nn.Linear(256, 10)]  # fmt: skip
    named = learner.weights(w)
    with torch.no_grad():
        for k, layer in enumerate(layers[::2], 1):
            layer.weight.copy_(torch.from_numpy(named[f"dense{k}.w"].T.copy()))
            layer.bias.copy_(torch.from_numpy(named[f"dense{k}.b"].copy()))
    model: Any = torch.nn.Sequential(*layers)
    size = 1
    if meeting:
        size = 2
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=size
        )
        model = torch.nn.parallel.DistributedDataParallel(model)
    rule = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    part = BATCH // size
    rows = [slice(k * BATCH + rank * part, k * BATCH + (rank + 1) * part) for k in range(STORED)]
    batches = [(torch.from_numpy(x[own].copy()), torch.from_numpy(t[own].astype("int64"))) for own in rows]

    def run(steps: int) -> Any:
        losses = []
        for k in range(steps):
            inputs, labels = batches[k % STORED]
            rule.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()
            rule.step()
            losses.append(loss.detach())
        found = torch.stack(losses)
        if size > 1:
            torch.distributed.all_reduce(found)
        return found.numpy() / size

    return run, None, rank


def child(name: str, rank: int, meeting: str, steps: int) -> None:
    """One process of a contender; the first says what it found."""
    run, timed, rank = torches(rank, meeting) if name in (TORCH, DDP) else ours(name)
    losses = [float(loss) for loss in run(WARM)[:CHECKED]]
    if timed:
        timed.seconds = 0.0
    begin = perf_counter()
    run(steps)
    seconds = perf_counter() - begin
    if rank == 0:
        share = timed.seconds / seconds if timed else None
        print(json.dumps({"seconds": seconds / steps, "exchange": share, "losses": losses}))
    if name == DDP:
        import torch

        torch.distributed.destroy_process_group()  # else it may abort at the end of the process


def started(name: str, steps: int) -> dict[str, Any]:
    """What a contender finds, in processes of its own."""
    own = [sys.executable, "-m", "benchmarks.workers", "--child", name, "--steps", str(steps)]
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    settings: dict[str, Any] = {"cwd": ROOT, "env": os.environ | one, "text": True, "stdout": subprocess.PIPE}
    with tempfile.TemporaryDirectory() as folder:
        if name == DDP:
            meeting = ["--meeting", str(Path(folder) / "meeting")]
            commands = [[*own, *meeting, "--rank", str(rank)] for rank in (0, 1)]
        elif name in (TWO, FEW):
            beside = str(Path(sys.executable).parent)
            mpiexec = shutil.which("mpiexec", path=beside) or shutil.which("mpiexec") or "mpiexec"
            commands = [[mpiexec, "-n", "2", *own]]
        else:
            commands = [own]
        each = [subprocess.Popen(command, **settings) for command in commands]
        said = [process.communicate(timeout=300)[0] for process in each]
    if any(process.returncode for process in each):
        msg = f"{name} failed"
        raise RuntimeError(msg)
    return next(json.loads(line) for text in said for line in text.splitlines() if line.startswith("{"))


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """A table in Markdown: times, speeds beside one process, and the share of the exchange."""
    rows = [
        "| | processes | ms/step | × ours whole | × own one process | exchange |",
        "|---|---|---|---|---|---|",
    ]
    for name, each in found.items():
        own = TORCH if name in (TORCH, DDP) else ONE

        def ratio(other: str, each: Any = each) -> str:
            pairs = zip(found[other], each, strict=True)
            return f"{median(a['seconds'] / b['seconds'] for a, b in pairs):.2f}"

        shares = [one["exchange"] for one in each if one["exchange"] is not None]
        exchange = f"{100 * median(shares):.1f} %" if shares else ""
        time = 1e3 * median(one["seconds"] for one in each)
        rows.append(
            f"| {name} | {PROCESSES[name]} | {time:.2f} | {ratio(WHOLE)} | {ratio(own)} | {exchange} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Time, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--child", choices=tuple(PROCESSES), help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--meeting", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.rank, args.meeting, args.steps)
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in PROCESSES}
    names = list(PROCESSES)
    for k in range(args.rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            found[name].append(started(name, args.steps))
    for name, each in found.items():
        first = np.asarray([each[0]["losses"], found[WHOLE][0]["losses"]])
        if abs(first[0] - first[1]).max() > TOLERANCE * first[1].mean():
            msg = f"{name} computes something else: losses {first.tolist()}"
            raise RuntimeError(msg)
    print(table(found))
    args.out.mkdir(parents=True, exist_ok=True)
    told = {
        "date": machine.today(), "machine": machine.host(), "versions": machine.versions(),
        "batch": BATCH, "steps": args.steps, "contenders": found,
    }  # fmt: skip
    path = args.out / f"{machine.today()}.json"
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
