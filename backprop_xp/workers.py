"""Workers: processes that train one net together, each on its part of every batch.

A batch is cut into a fixed number of shards, and the gradients of these are added up along one fixed
binary tree. A worker adds up the parts of the tree that it owns, and the tree goes on across workers, so
that the result has the same bits for any number of workers, one among them. It depends on the number of
shards, which a run records.

`bp.fit(..., workers=bp.workers.mpi())` is all that a program needs; see docs/workers.md.
"""

import json
import os
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol, cast

from . import backends
from .arrays import Array, mapped
from .errors import BackpropError, unavailable
from .layers import check_count
from .nccl import Nccl, connected
from .shared_memory import shared

SHARDS = 8
_SPINS = 2000  # looks before a worker sleeps between them
_NAP = 5e-5  # seconds
_WORD = 1.0  # seconds that worker 0 has to say what went wrong, before others do
_START = 300.0  # seconds until all workers have begun, at least
FAILED = 75  # the exit status of workers that give up; of <sysexits.h>: try again later


Write = Callable[[int, Array], None]  # write(k, out): the vector of part k, into out


class Exchange(Protocol):
    """How workers share what they have: the seam between the two halves of a step.

    Attributes:
        rank: the number of this worker, from 0.
        size: how many there are, at most as many as shards.
        shards: parts of a batch, where the learner does not say (with `shards=` above 1).
    """

    rank: int
    size: int
    shards: int

    def memory(self, w: Array) -> Any:
        """The backend of the vectors that are summed: NumPy, or that of the weights w, on their device."""

    def sum(self, write: "Write", parts: int, out: Array) -> Array:
        """The sum of the vectors of all parts along the fixed tree, on every worker.

        Args:
            write: writes the vector of a part; it is called for those that this worker owns, in order.
            parts: how many there are, on all workers.
            out: is overwritten with the sum; of the backend `memory`.
        """

    def broadcast(self, arrays: Any) -> Any:
        """A tree of arrays as worker 0 has it; all workers give one of the same shapes and dtypes."""

    def gather(self, value: Any) -> list[Any]:
        """A value of JSON from each worker, on every worker."""

    def end(self, message: str, status: int = FAILED) -> NoReturn:
        """End the training of all workers, with a word on standard error."""


def owned(rank: int, size: int, parts: int) -> range:
    """The parts that a worker owns.

    >>> [owned(k, 3, 8) for k in range(3)]
    [range(0, 2), range(2, 5), range(5, 8)]
    """
    return range(parts * rank // size, parts * (rank + 1) // size)


def nodes(first: int, last: int, own: range) -> list[tuple[int, int]]:
    """The largest parts (first, last) of the tree over parts first to last − 1 that lie in a range.

    >>> nodes(0, 8, range(0, 2)), nodes(0, 8, range(2, 5))
    ([(0, 2)], [(2, 4), (4, 5)])
    """
    if own.start <= first and last <= own.stop:
        return [(first, last)]
    if last <= own.start or own.stop <= first:
        return []
    middle = (first + last) // 2
    return nodes(first, middle, own) + nodes(middle, last, own)


def tree_sum(
    first: int, last: int, given: Callable[[int, int, Array], Array], out: Array, room: Sequence[Array]
) -> Array:
    """The sum over a part of the tree: in `out`, or where it is given.

    Args:
        first: where the part begins.
        last: where it ends.
        given: given(first, last, out) is the sum over a part that is known, written to out or where it lies
            already; else None.
        out: may be overwritten.
        room: vectors for sums on the way, as `room_for` makes them; overwritten.

    >>> import numpy as np
    >>> known = {(0, 2): np.ones(1), (2, 3): np.ones(1) * 10, (3, 4): np.ones(1) * 20}
    >>> out = np.empty(1)
    >>> tree_sum(0, 4, lambda i, j, _: known.get((i, j)), out, room_for(4, out)).tolist()
    [31.0]
    """
    there = given(first, last, out)
    if there is not None:
        return there
    middle = (first + last) // 2
    left = tree_sum(first, middle, given, out, room)
    right = tree_sum(middle, last, given, room[0], room[1:])
    return backends.of(out).xp.add(left, right, out=out)


def room_for(parts: int, like: Array) -> list[Array]:
    """Vectors for the sums on the way to that of so many parts."""
    xp = backends.of(like).xp
    return [xp.empty_like(like) for _ in range((parts - 1).bit_length())]


def single(write: Write) -> Callable[[int, int, Array], Array]:
    """What `tree_sum` is given where single parts are written."""

    def given(first: int, last: int, out: Array) -> Array:
        if last - first > 1:
            return None
        write(first, out)
        return out

    return given


class Alone:
    """One worker, with the bits that any number of them would have.

    Args:
        shards: as for `mpi`.

    >>> import numpy as np
    >>> Alone().sum(lambda k, out: out.fill(k), 4, np.empty(2)).tolist()
    [6.0, 6.0]
    """

    rank, size = 0, 1

    def __init__(self, shards: int = SHARDS) -> None:
        self.shards = check_count(shards, "the number of shards")
        self._sums: dict[Any, Sums] = {}

    def __repr__(self) -> str:
        return f"Alone(shards={self.shards})"

    def memory(self, w: Array) -> Any:
        """NumPy."""
        return backends.get("numpy")

    def sum(self, write: Write, parts: int, out: Array) -> Array:
        """The sum of all vectors along the fixed tree."""
        key = parts, out.shape, str(out.dtype)
        if key not in self._sums:
            self._sums[key] = Sums(0, 1, parts, out)
        return self._sums[key].sum(write, out)

    def broadcast(self, arrays: Any) -> Any:
        """The arrays themselves."""
        return arrays

    def gather(self, value: Any) -> list[Any]:
        """The value itself, in a list."""
        return [value]

    def end(self, message: str, status: int = FAILED) -> NoReturn:
        """Raise the message."""
        raise BackpropError(message)


class Devices(Alone):
    """The devices of one process, on JAX; see `devices`, which makes it."""

    def __init__(self, shards: int, count: int | None) -> None:
        super().__init__(shards)
        self.jax = cast("Any", backends.get("jax"))
        self.mesh = self.jax.mesh(None if count is None else check_count(count, "the number of devices"))
        self.count = int(self.mesh.size)

    def __repr__(self) -> str:
        return f"Devices({self.count}, shards={self.shards})"

    def broadcast(self, arrays: Any) -> Any:
        """The arrays, with a copy on every device.

        Raises:
            BackpropError: they are not JAX's.
        """

        def sent(a: Array) -> Array:
            if not self.jax.owns(a):
                msg = (
                    f"devices() is for arrays of JAX, got {backends.of(a).name}: learner.init(backend='jax')"
                )
                raise BackpropError(msg)
            return self.jax.on_all(self.mesh, a)

        return mapped(arrays, sent)


class Mpi:
    """The workers of an MPI communicator; see `mpi`, which makes it.

    Nothing here waits for ever: where another worker is silent for `patience` seconds, all are ended.
    """

    def __init__(self, module: Any, shards: int, patience: float) -> None:
        self._mpi, self._comm, self._patience = module, module.COMM_WORLD.Dup(), float(patience)
        self.rank, self.size = int(self._comm.rank), int(self._comm.size)
        self.shards = check_count(shards, "the number of shards")
        self._met = False
        self._nccl: Nccl | None = None
        self._sums: dict[Any, Sums] = {}

    def __repr__(self) -> str:
        return f"Mpi(worker {self.rank} of {self.size}, shards={self.shards}, patience={self._patience:g})"

    def memory(self, w: Array) -> Any:
        """NumPy; or CuPy, where each worker has a GPU of its own, by NCCL, which nobody has tried yet."""
        to: Any = backends.of(w)
        if to.name == "cupy" and self.size > 1:
            self._meet()
            self._nccl = connected(to.cupy, to.device_of(w), self, self._silent, self._patience)
        return to if self._nccl is not None else backends.get("numpy")

    def sum(self, write: Write, parts: int, out: Array) -> Array:
        """The sum along the fixed tree: each worker finishes its slice of the vector, and all get all."""
        key = parts, out.shape, str(out.dtype)
        if key not in self._sums:
            self._sums[key] = self._made(parts, out)
        return self._sums[key].sum(write, out)

    def _made(self, parts: int, like: Array) -> "Sums":
        """Sums in memory that all workers share, else by messages."""
        given = self.rank, self.size, parts, like
        if self.size == 1:
            return Sums(*given)
        if self._nccl is not None:
            return Shared(*given, self._nccl)
        return Shared(*given, self, shared(Shared.bytes_of(*given[1:]), self))

    def meet(self) -> None:
        """Wait until all are here; what they wrote to shared memory before can be read after."""
        self._wait(self._comm.Ibarrier())

    def swap(self, send: Array, received: Array, counts: Sequence[int]) -> None:
        """Row k of `send` goes to worker k, whose numbers come in its place, `counts[k]` of them."""
        to = [send, [send.size // self.size] * self.size]
        self._wait(self._comm.Ialltoallv(to, [received, counts]))

    def collect(self, part: Array, whole: Array) -> None:
        """The parts of all workers, one after the other."""
        self._wait(self._comm.Iallgather(part, whole))

    def broadcast(self, arrays: Any) -> Any:
        """A tree of arrays as worker 0 has it, each in its library and on its device."""
        if self.size == 1:
            return arrays
        self._meet()

        def sent(a: Array) -> Array:
            to = backends.of(a)
            memory = backends.get("numpy").xp.asarray(to.to_host(a), copy=True)
            self._wait(self._comm.Ibcast([memory, self._mpi.BYTE], 0))
            return to.committed(to.asarray(memory, a.dtype, to.device_of(a)))

        return mapped(arrays, sent)

    def gather(self, value: Any) -> list[Any]:
        """A value of JSON from each worker, on every worker."""
        self._meet()
        text = json.dumps(value).encode()
        sizes = array("q", [0] * self.size)
        self._wait(self._comm.Iallgather(array("q", [len(text)]), sizes))
        found, byte = bytearray(sum(sizes)), self._mpi.BYTE
        self._wait(self._comm.Iallgatherv([text, byte], [found, sizes.tolist(), byte]))
        ends = [sum(sizes[:k]) for k in range(self.size + 1)]
        return [json.loads(found[ends[k] : ends[k + 1]]) for k in range(self.size)]

    def end(self, message: str, status: int = FAILED) -> NoReturn:
        """Say a word and end all workers; worker 0 says it first where all have the same one."""
        if self.rank:
            time.sleep(_WORD)
        sys.stderr.write(f"backprop-xp: worker {self.rank} of {self.size}: {message}\n")
        sys.stderr.flush()
        self._comm.Abort(status)
        raise SystemExit(status)

    def hook(self, before: Callable[..., Any]) -> Callable[..., Any]:
        """What ends all workers where one ends with an exception, after that was shown as usual."""

        def ends(kind: type[BaseException], error: BaseException, trace: Any) -> None:
            if hasattr(error, "signal"):  # which all workers know of, since `fit` told them
                before(kind, error, trace)
                return
            if self.rank:
                time.sleep(_WORD)
            before(kind, error, trace)
            self.end(f"ended by {kind.__name__}; the last checkpoint is good")

        return ends

    def _meet(self) -> None:
        """Workers may begin at different times, since one reads a checkpoint and others do not."""
        if not self._met:
            self._met = True
            self._wait(self._comm.Ibarrier(), max(self._patience, _START))

    def _wait(self, request: Any, patience: float | None = None) -> None:
        patience = self._patience if patience is None else patience
        until, looks = time.monotonic() + patience, 0
        while not request.Test():
            looks += 1
            if looks > _SPINS:
                time.sleep(_NAP)
                if time.monotonic() > until:
                    self._silent(patience)

    def _silent(self, patience: float | None = None) -> NoReturn:
        self.end(
            f"no word from another worker for {patience or self._patience:g} s: it ended or hangs; all are "
            "ended, the last checkpoint is good (steps that take longer need a longer patience=)"
        )


class Sums:
    """Sums along the tree over so many parts, and their memory; in this base class of one worker alone.

    Args:
        rank: the number of this worker.
        size: how many there are.
        parts: of the tree.
        like: a vector; its library, length and dtype are used.
    """

    def __init__(self, rank: int, size: int, parts: int, like: Array) -> None:
        self.parts, self.size = parts, size
        self.nodes = [nodes(0, parts, owned(k, size, parts)) for k in range(size)]
        self.own = self.nodes[rank]
        self.room = room_for(parts, like)
        self.length = -(-like.size // size)  # of the slice that a worker finishes

    def sum(self, write: Write, out: Array) -> Array:
        """The sum over the tree, written to `out`."""
        tree_sum(0, self.parts, single(write), out, self.room)
        return out


class Shared(Sums):
    """Workers who add up where the others read it, and finish a slice for all.

    Args:
        rank, size, parts, like: as for `Sums`.
        carrier: has `swap` and `collect`.
        memory: that all workers share, of `bytes_of` bytes; None where vectors are sent and received.
    """

    def __init__(
        self, rank: int, size: int, parts: int, like: Array, carrier: Any, memory: Any = None
    ) -> None:
        super().__init__(rank, size, parts, like)
        xp, length = backends.of(like).xp, self.length
        order = [node for each in self.nodes for node in each]
        self.carrier = carrier
        self.counts = [len(each) * length for each in self.nodes]
        if memory is None:
            self.mine = xp.zeros((len(self.own), size * length), dtype=like.dtype)
            self.whole, self.part = (xp.zeros(n, dtype=like.dtype) for n in (size * length, length))
            self.send = xp.zeros((size, len(self.own), length), dtype=like.dtype)
            if len(self.own) == 1:
                self.send = xp.reshape(self.mine, (size, 1, length))
            self.received = xp.zeros(len(order) * length, dtype=like.dtype)
            slices = xp.reshape(self.received, (len(order), length))
        else:
            every = xp.reshape(xp.frombuffer(memory, dtype=like.dtype), (len(order) + 1, size * length))
            first, place = sum(map(len, self.nodes[:rank])), slice(rank * length, (rank + 1) * length)
            self.mine, self.whole = every[first : first + len(self.own), :], every[-1, :]
            self.part, slices = self.whole[place], every[:, place]
            self.received = None
        self.rows = {node: slices[k, :] for k, node in enumerate(order)}
        self.rest = room_for(parts, self.part)

    @staticmethod
    def bytes_of(size: int, parts: int, like: Array) -> int:
        """The memory that workers share."""
        count = sum(len(nodes(0, parts, owned(k, size, parts))) for k in range(size))
        return int((count + 1) * size * -(-like.size // size) * like.dtype.itemsize)

    def sum(self, write: Write, out: Array) -> Array:
        """The sum over the tree, of which this worker's parts are written here."""
        given = single(write)
        for own, (first, last) in zip(self.mine, self.own, strict=True):
            tree_sum(first, last, given, own[: out.size], self.room)
        return self.exchange(out)

    def exchange(self, out: Array) -> Array:
        """The sum over the tree, where each worker has added up its own parts."""
        xp, whole = backends.of(out).xp, self.whole
        if self.received is None:
            self.carrier.meet()
        else:
            if len(self.own) > 1:
                each = xp.reshape(self.mine, (len(self.own), *self.send.shape[::2]))
                self.send[...] = xp.permute_dims(each, (1, 0, 2))
            self.carrier.swap(self.send, self.received, self.counts)
        found = tree_sum(0, self.parts, lambda i, j, _: self.rows.get((i, j)), self.part, self.rest)
        if found is not self.part:
            self.part[...] = found
        if self.received is None:
            self.carrier.meet()
        else:
            whole = out if out.size == whole.size else whole
            self.carrier.collect(self.part, whole)
        if whole is not out:
            out[...] = whole[: out.size]
        return out


def devices(count: int | None = None, shards: int = SHARDS) -> Devices:
    """Several devices of this machine, on JAX: one process, one compiled step, in which each computes shards.

    The result has the same bits for 1, 2, 4, … devices, and other ones than that of processes. Weights, state
    and rows have a copy on each device. On virtual devices of a processor also set
    XLA_FLAGS=--xla_cpu_multi_thread_eigen=false: then XLA does not cut large products by its threads.

    Args:
        count: how many, a power of two; None for all there are.
        shards: parts of a batch, where the learner has the default of `shards=1`; a multiple of `count`.

    Raises:
        BackendUnavailable: JAX is not installed.
        BackpropError: there are fewer devices, or their number is no power of two.
    """
    return Devices(shards, count)


def mpi(shards: int = SHARDS, patience: float = 20.0) -> Mpi:
    """The workers that MPI's launcher started, as `mpiexec -n 4 python train.py` does; by mpi4py.

    Each runs the same program. Without a launcher it is one worker. BLAS uses one thread in each: set
    OMP_NUM_THREADS=1 before the start. A worker that ends with an exception ends all of them, as does one
    that is silent.

    Args:
        shards: parts of a batch, where the learner has the default of `shards=1`; a learner's own number
            above 1 is used as it is. At least as many as workers.
        patience: seconds without a word from another worker, after which all are ended: longer than the
            longest step, read of a window, and checkpoint.

    Raises:
        BackendUnavailable: mpi4py, or MPI itself, is not installed (`pip install mpich` is an MPI).
    """
    check_count(shards, "the number of shards")
    if not isinstance(patience, (int, float)) or not 0 < patience < float("inf"):
        msg = f"patience must be a number of seconds above 0, got {patience!r}"
        raise BackpropError(msg)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for libraries that are loaded later
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no MPI library
        cause = error if isinstance(error, ImportError) else ImportError(str(error))
        library = "mpi4py"
        raise unavailable(library, library, "mpi", cause) from error
    found = Mpi(MPI, shards, patience)
    if found.size > 1:
        sys.excepthook = found.hook(sys.excepthook)
    return found
