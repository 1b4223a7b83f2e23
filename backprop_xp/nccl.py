"""NCCL: how workers that have a GPU each exchange vectors without a way through the host.

Written by NCCL's and CuPy's manuals, and tried with a stand-in alone: no machine with two GPUs was at hand.
"""

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from .arrays import Array

_LOOKS, _NAP = 2000, 5e-5


class Nccl:
    """The two exchanges of a sum along the fixed tree, on the GPUs of so many workers.

    Args:
        cupy: the module.
        communicator: of NCCL.
        size: how many workers there are.
        silent: is called where the others do not answer.
        patience: the seconds until then.
    """

    def __init__(
        self, cupy: Any, communicator: Any, size: int, silent: Callable[[], Any], patience: float
    ) -> None:
        self._cupy, self._communicator, self._size = cupy, communicator, size
        self._silent, self._patience = silent, patience
        self._done = cupy.cuda.Event(disable_timing=True)

    def swap(self, send: Array, received: Array, counts: Sequence[int]) -> None:
        """Row k of `send` goes to worker k, whose numbers come in its place, `counts[k]` of them."""
        nccl, stream = self._cupy.cuda.nccl, self._cupy.cuda.get_current_stream()
        kind, size, at = self._kind(send), send.size // self._size, 0
        nccl.groupStart()
        for k, count in enumerate(counts):
            self._communicator.send(send[k].data.ptr, size, kind, k, stream.ptr)
            self._communicator.recv(received[at : at + count].data.ptr, count, kind, k, stream.ptr)
            at += count
        nccl.groupEnd()
        self._wait(stream)

    def collect(self, part: Array, whole: Array) -> None:
        """The parts of all workers, one after the other."""
        stream = self._cupy.cuda.get_current_stream()
        self._communicator.allGather(part.data.ptr, whole.data.ptr, part.size, self._kind(part), stream.ptr)
        self._wait(stream)

    def _kind(self, a: Array) -> int:
        nccl = self._cupy.cuda.nccl
        return {"float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64}[str(a.dtype)]  # type: ignore[no-any-return]

    def _wait(self, stream: Any) -> None:
        self._done.record(stream)
        until, looks = time.monotonic() + self._patience, 0
        while not self._done.done:
            looks += 1
            if looks > _LOOKS:
                time.sleep(_NAP)
                if time.monotonic() > until:
                    self._silent()
                    return


def connected(
    cupy: Any, device: Any, workers: Any, silent: Callable[[], Any], patience: float
) -> Nccl | None:
    """NCCL between the GPUs of all workers; None where it is missing, or two workers have one GPU.

    Args:
        cupy: the module.
        device: the GPU of this worker.
        workers: all of them; each calls this.
        silent: as for `Nccl`.
        patience: as for `Nccl`.
    """
    nccl: Any = getattr(cupy.cuda, "nccl", None)
    there = bool(getattr(nccl, "available", False))
    with device:
        gpu = [socket.gethostname(), cupy.cuda.runtime.deviceGetPCIBusId(device.id)] if there else None
        key: Any = nccl.get_unique_id() if there and workers.rank == 0 else ()
        each = workers.gather([gpu, isinstance(key, bytes), list(key)])
        gpus = [tuple(found) for found, *_ in each if found]
        if len(set(gpus)) < workers.size:
            return None
        _, in_bytes, numbers = each[0]
        key = bytes(numbers) if in_bytes else tuple(numbers)  # as CuPy's versions have it
        communicator = nccl.NcclCommunicator(workers.size, key, workers.rank)
    return Nccl(cupy, communicator, workers.size, silent, patience)
