"""NCCL: workers that have a GPU each exchange vectors without going through the host.

Written from the manuals of NCCL and CuPy, and tested only with a stand-in: no machine with two GPUs was
available.
"""

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from .arrays import Array

_LOOKS, _NAP = 2000, 5e-5


class Nccl:
    """The two exchanges that a sum along the fixed tree needs, between the GPUs of the workers.

    Args:
        cupy: the module.
        communicator: the NCCL communicator.
        size: the number of workers.
        silent: called when another worker does not answer.
        patience: the seconds to wait before that.
    """

    def __init__(
        self, cupy: Any, communicator: Any, size: int, silent: Callable[[], Any], patience: float
    ) -> None:
        self._cupy, self._communicator, self._size = cupy, communicator, size
        self._silent, self._patience = silent, patience
        self._done = cupy.cuda.Event(disable_timing=True)

    def swap(self, send: Array, received: Array, counts: Sequence[int]) -> None:
        """Send row k of `send` to worker k, and receive `counts[k]` numbers from it."""
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
        """Gather the parts of all workers in `whole`, in the order of their ranks."""
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
    """NCCL between the GPUs of all workers; None if it is missing, or if two workers share a GPU.

    Args:
        cupy: the module.
        device: the GPU of this worker.
        workers: the exchange; every worker calls this function.
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
        key = bytes(numbers) if in_bytes else tuple(numbers)  # which of them depends on CuPy's version
        communicator = nccl.NcclCommunicator(workers.size, key, workers.rank)
    return Nccl(cupy, communicator, workers.size, silent, patience)
