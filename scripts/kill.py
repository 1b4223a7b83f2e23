"""Kill a training at random moments and check that nothing is lost.

    python scripts/kill.py [COUNT] [--backend NAME] [--seed N]

A small net is trained in a run directory, with a checkpoint after every step. The process is killed by
SIGKILL, also at its start and while it writes, and started again until it is done. After each kill the newest
checkpoint that was announced must be there; at the end weights, state and the best checkpoint must be
those of a run that was never stopped, bit for bit, and no temporary file may be left.
On NumPy processes are forked, which saves the imports; on other backends they are spawned.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import backprop_xp as bp
from backprop_xp.files.folder import step_files, verify

_EPOCHS, _ROWS, _BATCH = 3, 120, 16


def train(folder: Path, backend: str) -> None:
    """Train to the end in a run directory; print a line for each checkpoint once it is on the disk."""
    net = bp.chain(4, bp.Dense(8, bp.tanh), bp.Dense(1))
    learner = bp.Learner(net, update={"*.b": bp.GradientDescent(0.05), "*": bp.Adam(0.01)})
    place = {"backend": backend, "dtype": "float32"}
    data = bp.data.Teacher(1, _ROWS, 4, hidden=(4,), **place)
    held_out = bp.data.Stored(*bp.data.Teacher(2, 50, 4, hidden=(4,), **place).rows(0, 50))
    with bp.RunDir(
        folder, keep=2, every="1 step", saved=lambda step: print("saved", step, flush=True)
    ) as run:
        w, s = run.restore(learner, backend=backend) or learner.init(7, **place)
        bp.fit(learner, w, s, data, epochs=_EPOCHS, batch_size=_BATCH, validate=held_out, run=run)


def start(folder: Path, backend: str) -> tuple[int, int]:
    """Start the training in a process of its own; return its id, and the pipe its output is read from."""
    read, write = os.pipe()
    if backend != "numpy":
        command = [sys.executable, __file__, "--child", str(folder), "--backend", backend]
        process = subprocess.Popen(command, stdout=write)
        os.close(write)
        process.returncode = 0  # `until` waits for it
        return process.pid, read
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads; there is one thread
        pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    os.dup2(write, 1)
    status = 1
    try:
        train(folder, backend)
        status = 0
    finally:
        os._exit(status)


def until(folder: Path, backend: str, seconds: float | None) -> tuple[int, list[int]]:
    """Train, and kill the process after so many seconds; return its status and its announced checkpoints."""
    pid, read = start(folder, backend)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(read, "rb") as output:
        lines = output.read().decode().split("\n")[:-1]
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, [int(line.split()[1]) for line in lines]


def bits(path: Path) -> str:
    """A hash of the weights and the state in a checkpoint."""
    _, w, s = bp.load(path, backend="numpy")
    return hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in bp.arrays.leaves((w, s)))).hexdigest()


def result(folder: Path) -> tuple[str, str]:
    """Hashes of the last checkpoint and of the best."""
    return bits(max(step_files(folder))), bits(folder / "best.safetensors")


def good(path: Path) -> bool:
    """Whether a checkpoint verifies."""
    try:
        verify(path)
    except bp.BackpropError:
        return False
    return True


def main() -> int:
    """Kill COUNT times, and check after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", nargs="?", type=int, default=100)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        train(args.child, args.backend)
        return 0
    drawn, writing, early, runs, kills = random.Random(args.seed), 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as root:
        began = time.perf_counter()
        status, told = until(Path(root) / "whole", args.backend, None)
        longest = time.perf_counter() - began
        assert status == 0, "the training that is not stopped fails"
        whole = result(Path(root) / "whole")
        print(f"whole: {longest:.2f} s, {len(told)} checkpoints, {whole[0][:16]}", flush=True)
        while kills < args.count:
            folder = Path(root) / f"run{runs}"
            last, status = 0, -1
            while status != 0:
                alive = kills >= args.count
                status, told = until(folder, args.backend, None if alive else drawn.uniform(0, longest))
                assert status in (0, -signal.SIGKILL), f"the training ended with {status}"
                last = max([last, *told])
                newest = max((int(p.name[5:17]) for p in folder.glob("step-*") if good(p)), default=0)
                assert newest >= last, f"checkpoint {last} was announced, {newest} is the newest"
                if status:
                    kills += 1
                    early += newest == 0
                    writing += any(folder.glob(".*.tmp"))
            left = [p.name for p in folder.iterdir() if p.name.endswith(".tmp")]
            assert not left, f"temporary files stay: {left}"
            assert result(folder) == whole, f"{folder.name} does not end like the whole training"
            runs += 1
    print(
        f"{kills} kills in {runs} runs on {args.backend}, {early} before the first checkpoint, {writing} in "
        "writing: every run ended bit for bit like the one never stopped, none lost a checkpoint"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
