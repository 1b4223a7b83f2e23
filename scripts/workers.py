"""Check that any number of workers gets the same bits, and that if one fails, all end.

    python scripts/workers.py [--backend NAME] [--sizes 1,2,3,4,5,6,7,8] [--failures]

A small net with dropout is trained by each number of workers; then once more, stopped after each epoch and
continued by another number. Weights and state must have the bits of one worker alone. With --failures each
of two workers in turn is killed, raises, exits, crashes, is stopped, or hangs: all processes must end
within half a minute, with a message, and the run must go on from its last checkpoint to the same bits.
"""

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import backprop_xp as bp

EPOCHS, ROWS, BATCH = 3, 219, 32  # the last batch has 27 rows
MOST_SECONDS = 30


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _raise() -> None:
    msg = "a worker's own error"
    raise RuntimeError(msg)


FAILURES = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exception": _raise,
    "exit": lambda: sys.exit(3),
    "exit at once": lambda: os._exit(3),
    "segfault": _crash,
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "hang": lambda: time.sleep(1000),
}


def train(
    workers: object, backend: str = "numpy", folder: Path | None = None, epochs: int = EPOCHS
) -> tuple[object, object]:
    """Train the small net; return w and s."""
    net = bp.chain(4, bp.Dense(8, bp.tanh), bp.layers.Dropout(0.25), bp.Dense(1))
    learner = bp.Learner(net, update={"*.b": bp.GradientDescent(0.05), "*": bp.Adam(0.01)})
    rows = bp.data.Teacher(1, ROWS, 4, hidden=(4,)).rows(0, ROWS)
    data = bp.data.Sliced(*rows, window=64, block=8)  # of which each worker reads its own part
    settings = {"epochs": epochs, "batch_size": BATCH, "workers": workers}
    if folder is None:
        return bp.fit(learner, *learner.init(7, backend=backend), data, **settings)[:2]
    with bp.RunDir(folder, every="1 step", workers=workers) as run:
        w, s = run.restore(learner, backend=backend) or learner.init(7, backend=backend)
        return bp.fit(learner, w, s, data, run=run, **settings)[:2]


def bits(state: object) -> str:
    """A hash of weights and state."""
    memory = [np.asarray(bp.backends.host(a)).tobytes() for a in bp.arrays.leaves(state)]
    return hashlib.sha256(b"".join(memory)).hexdigest()[:16]


def child(args: argparse.Namespace) -> None:
    """One worker: print its rank and the hash of its result."""
    workers = bp.workers.mpi(patience=args.patience)
    if args.failure and workers.rank == args.rank:
        sums, usual = [0], workers.sum

        def failing(*given: object) -> object:
            sums[0] += 1
            if sums[0] == 5:
                FAILURES[args.failure]()
            return usual(*given)

        workers.sum = failing
    state = train(workers, args.backend, args.folder, args.epochs)
    sys.stdout.write(f"worker {workers.rank} {bits(state)}\n")  # one write, since others write too


def start(size: int, *words: str) -> tuple[int, list[str], str, float]:
    """Run workers to their end; return the status, the hash of each, their output, and the seconds."""
    own = str(Path(sys.executable).parent)
    mpiexec = shutil.which("mpiexec", path=own) or shutil.which("mpiexec")
    command = [mpiexec, "-n", str(size), sys.executable, __file__, "--child", *words]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    found = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("worker ")]
    return done.returncode, found, done.stdout + done.stderr, time.perf_counter() - began


def check_sizes(backend: str, sizes: list[int], whole: str, root: Path) -> None:
    """Check each number of workers, and a run that is continued by one number after the other."""
    for size in sizes:
        status, found, said, seconds = start(size, "--backend", backend)
        assert (status, found) == (0, [whole] * size), (size, status, found, said)
        print(f"{size} workers: {whole}, {seconds:.1f} s", flush=True)
    changes = (sizes[::-1] * EPOCHS)[:EPOCHS]
    for epoch, size in enumerate(changes, 1):
        words = ["--backend", backend, "--folder", str(root / "elastic"), "--epochs", str(epoch)]
        status, found, said, _ = start(size, *words)
        assert status == 0, said
    assert set(found) == {whole}, found
    print(f"{', then '.join(map(str, changes))} workers: {whole}", flush=True)


def check_failures(backend: str, whole: str, root: Path, patience: str) -> None:
    """Check each failure, of worker 0 and of worker 1."""
    for failure in FAILURES:
        for rank in (0, 1):
            folder = root / f"{failure}-{rank}"
            words = ["--backend", backend, "--folder", str(folder), "--patience", patience]
            status, _, said, seconds = start(2, *words, "--failure", failure, "--rank", str(rank))
            assert status, f"{failure} of worker {rank}: the launcher says that all went well"
            silent = failure == "exit at once"  # the launcher ends the other; the command reports it
            assert silent or said.strip(), f"{failure} of worker {rank}: no message"
            assert seconds < MOST_SECONDS, f"{failure} of worker {rank}: {seconds:.0f} s"
            steps = len(list(folder.glob("step-*")))
            assert steps, f"{failure} of worker {rank}: no checkpoint"
            again = bits(train(bp.workers.Alone(), backend, folder))
            assert again == whole, f"{failure} of worker {rank}: {again} after going on, not {whole}"
            print(f"{failure} of worker {rank}: status {status} after {seconds:.1f} s, same bits", flush=True)


def main() -> int:
    """Run the checks that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--sizes", default="1,2,3,4,5,6,7,8")
    parser.add_argument("--failures", action="store_true")
    parser.add_argument("--patience", default="15")
    for name, kind in (("folder", Path), ("failure", str), ("rank", int), ("epochs", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.epochs = args.epochs or EPOCHS
    if args.child:
        args.patience = float(args.patience)
        child(args)
        return 0
    whole = bits(train(bp.workers.Alone(), args.backend))
    with tempfile.TemporaryDirectory() as root:
        check_sizes(args.backend, [int(each) for each in args.sizes.split(",")], whole, Path(root))
        if args.failures:
            check_failures(args.backend, whole, Path(root), args.patience)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
