"""`train --workers N`: starts the workers on this machine, and says how they ended."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import workers
from ..errors import BackpropError, how_to_install
from ..layers import check_count

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PASSED_ON = ("SIGINT", "SIGTERM", "SIGUSR1")


def count(text: str) -> int | str:
    """A number of workers, or 'mpi' for those that a launcher started."""
    if text == "mpi":
        return text
    try:
        return check_count(int(text), "the number of workers")
    except ValueError:
        msg = f"workers must be a number such as 2, or mpi under a launcher; got {text!r}"
        raise argparse.ArgumentTypeError(msg) from None


def option(add: Any) -> None:
    """The option `--workers`."""
    add("--workers", type=count, metavar="N",
        help="processes on this machine that share each batch, with the same bits for any number; 'mpi' "
        "where mpirun or srun starts this command itself")  # fmt: skip


def exchange(args: argparse.Namespace) -> workers.Exchange | None:
    """The exchange between workers, or shards, that the options ask for; sets `args.shards`."""
    if args.workers is not None:
        args.shards = workers.SHARDS if args.shards is None else args.shards
        return workers.mpi(shards=args.shards)
    if args.shards is None or check_count(args.shards, "the number of shards") == 1:
        return None
    return workers.Alone(args.shards)


def launch(words: Sequence[str], number: int, folder: str | None) -> int:
    """Run a command as several workers, and return the status with which they end.

    The signals INT, TERM and USR1 are passed on to them. Where MPI ends the workers that are left, they
    cannot print why; then it is printed here.

    Raises:
        BackpropError: there is no MPI.
    """
    own = str(Path(sys.executable).parent)
    mpiexec = shutil.which("mpiexec", path=own) or shutil.which("mpiexec")
    if mpiexec is None:
        msg = f"there is no mpiexec, which starts workers: pip install mpich, and {how_to_install('mpi')}"
        raise BackpropError(msg)
    command = [mpiexec, "-n", str(number), sys.executable, "-m", "backprop_xp", *words, "--workers=mpi"]
    environment = os.environ | dict.fromkeys(_ONE_THREAD, "1")
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    came: list[int] = []

    def passed_on(which: int, _: Any) -> None:
        came.append(which)
        if os.name != "nt":  # where the console has sent it to all of them already
            process.send_signal(which)

    before = {
        each: signal.signal(each, passed_on) for name in _PASSED_ON if (each := getattr(signal, name, None))
    }
    try:
        status = process.wait()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    status = status if status >= 0 else 128 - status
    if status not in (0, 2, *(128 + each for each in came)):  # which a worker has explained
        lost = f"the last checkpoint is good, resume with: backprop-xp resume {folder} --workers {number}"
        how = lost if folder else "nothing was saved: use --run DIR"
        print(f"backprop-xp: the workers ended with status {status}; {how}", file=sys.stderr, flush=True)
    return status
