"""Workers: processes that train one net together, each on its part of every batch.

A batch is cut into a fixed number of shards, and their gradients are added up along one fixed binary
tree. Each worker adds up the subtrees of the shards that it owns, and the sum continues along the tree
across workers, so the result has the same bits for any number of workers, including one. It depends on
the number of shards, which a run records.

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
_SPINS = 2000  # polls before a worker sleeps between them
_NAP = 5e-5  # seconds
_WORD = 1.0  # seconds that worker 0 has to print what went wrong, before others do
_START = 300.0  # seconds that all workers have to begin, at least
_KINDS = 16  # of sums whose memory is kept
FAILED = 75  # the exit status of workers that give up; of <sysexits.h>: try again later


Write = Callable[[int, Array], None]  # write(k, out): the vector of part k, into out


class Exchange(Protocol):
    """How workers exchange arrays between the two halves of a step; `Alone` is an example.

    Attributes:
        rank: the number of this worker, from 0.
        size: the number of workers, at most that of shards.
        shards: the number of parts of a batch, unless the learner sets one (`shards=` above 1).
    """

    rank: int
    size: int
    shards: int

    def memory(self, w: Array) -> Any:
        """The backend of the vectors that are summed: NumPy, or that of the weights w, on their device."""

    def sum(self, write: "Write", parts: int, out: Array) -> Array:
        """The sum of the vectors of all parts along the fixed tree, on every worker.

        Args:
            write: writes the vector of a part; it is called for the parts that this worker owns, in order.
            parts: the number of parts on all workers.
            out: overwritten with the sum; an array of the backend `memory`.
        """

    def broadcast(self, arrays: Any) -> Any:
        """A tree of arrays as worker 0 has it; all workers pass one with the same shapes and dtypes."""

    def gather(self, value: Any) -> list[Any]:
        """The JSON values of all workers, in the order of their ranks, on every worker."""

    def end(self, message: str, status: int = FAILED) -> NoReturn:
        """End the training of all workers, with a message on standard error."""


def owned(rank: int, size: int, parts: int) -> range:
    """The parts that a worker owns.

    >>> [owned(k, 3, 8) for k in range(3)]
    [range(0, 2), range(2, 5), range(5, 8)]
    """
    return range(parts * rank // size, parts * (rank + 1) // size)


def nodes(first: int, last: int, own: range) -> list[tuple[int, int]]:
    """The largest subtrees of the tree over parts first to last − 1 that lie in a range, as (first, last).

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
    """The sum over a subtree, parts first to last − 1: `out`, or the array that holds it already.

    Args:
        first: its first part.
        last: one past its last part.
        given: given(i, j, out) is the sum over parts i to j − 1 if it is known, written to out or in an array
            that holds it already; else None.
        out: may be overwritten.
        room: scratch vectors for partial sums, from `room_for`; overwritten.

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
    """Scratch vectors for a `tree_sum` over this many parts.

    >>> import numpy as np
    >>> len(room_for(8, np.zeros(3)))
    3
    """
    xp = backends.of(like).xp
    return [xp.empty_like(like) for _ in range((parts - 1).bit_length())]


def single(write: Write) -> Callable[[int, int, Array], Array]:
    """The argument `given` of `tree_sum` where `write` writes single parts."""

    def given(first: int, last: int, out: Array) -> Array:
        if last - first > 1:
            return None
        write(first, out)
        return out

    return given


class Alone:
    """A single worker, with the same bits as any number of them.

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
    """The JAX devices of one process; made by `devices`."""

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
            BackpropError: they are not arrays of JAX.
        """

        def sent(a: Array) -> Array:
            if not self.jax.owns(a):
                name = backends.of(a).name
                msg = f"devices() needs arrays of JAX, got {name}: write learner.init(backend='jax')"
                raise BackpropError(msg)
            return self.jax.on_all(self.mesh, a)

        return mapped(arrays, sent)


class Mpi:
    """The workers of an MPI communicator; made by `mpi`.

    Nothing here waits for ever: if another worker does not answer for `patience` seconds, all are ended.
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
        """NumPy; or CuPy by NCCL, if each worker has a GPU of its own, which was never run on real GPUs."""
        to: Any = backends.of(w)
        if to.name == "cupy" and self.size > 1:
            self._meet()
            self._nccl = connected(to.cupy, to.device_of(w), self, self._silent, self._patience)
        return to if self._nccl is not None else backends.get("numpy")

    def sum(self, write: Write, parts: int, out: Array) -> Array:
        """The sum along the fixed tree: each worker sums its slice of the vector, then all gather them."""
        key = parts, out.shape, str(out.dtype)
        if key not in self._sums:
            if len(self._sums) == _KINDS:  # each has memory of its own, and a file descriptor
                del self._sums[next(iter(self._sums))]
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
        """Wait until all workers are here; then each can read what the others wrote to shared memory."""
        self._wait(self._comm.Ibarrier())

    def swap(self, send: Array, received: Array, counts: Sequence[int]) -> None:
        """Send row k of `send` to worker k, and receive `counts[k]` numbers from it."""
        to = [send, [send.size // self.size] * self.size]
        self._wait(self._comm.Ialltoallv(to, [received, counts]))

    def collect(self, part: Array, whole: Array) -> None:
        """Gather the parts of all workers in `whole`, in the order of their ranks."""
        self._wait(self._comm.Iallgather(part, whole))

    def broadcast(self, arrays: Any) -> Any:
        """A tree of arrays as worker 0 has it; each array keeps its own library and device."""
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
        """The JSON values of all workers, in the order of their ranks, on every worker."""
        self._meet()
        text = json.dumps(value).encode()
        sizes = array("q", [0] * self.size)
        self._wait(self._comm.Iallgather(array("q", [len(text)]), sizes))
        found, byte = bytearray(sum(sizes)), self._mpi.BYTE
        self._wait(self._comm.Iallgatherv([text, byte], [found, sizes.tolist(), byte]))
        ends = [sum(sizes[:k]) for k in range(self.size + 1)]
        return [json.loads(found[ends[k] : ends[k + 1]]) for k in range(self.size)]

    def end(self, message: str, status: int = FAILED) -> NoReturn:
        """Print a message and end all workers; if all have the same message, worker 0 prints it first."""
        if self.rank:
            time.sleep(_WORD)
        sys.stderr.write(f"backprop-xp: worker {self.rank} of {self.size}: {message}\n")
        sys.stderr.flush()
        self._comm.Abort(status)
        raise SystemExit(status)

    def hook(self, before: Callable[..., Any]) -> Callable[..., Any]:
        """An excepthook that shows an exception by another one, `before`, and then ends all workers."""

        def ends(kind: type[BaseException], error: BaseException, trace: Any) -> None:
            if hasattr(error, "signal"):  # all workers know of it from `fit`
                before(kind, error, trace)
                return
            if self.rank:
                time.sleep(_WORD)
            before(kind, error, trace)
            self.end(f"ended by {kind.__name__}; the last checkpoint is good")

        return ends

    def _meet(self) -> None:
        """Wait until all workers have begun, at different times: one may read a checkpoint, others not."""
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
            f"another worker did not answer for {patience or self._patience:g} s: it ended or hangs; all "
            "workers are ended, the last checkpoint is good (steps that take longer need a longer patience=)"
        )


class Sums:
    """Sums over the whole tree, and their buffers; this base class is for a single worker.

    Args:
        rank: the number of this worker.
        size: the number of workers.
        parts: the number of parts of the tree.
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
    """Sums over the tree by several workers: each adds up its own parts, then one slice for all.

    Args:
        rank, size, parts, like: as for `Sums`.
        carrier: has the methods `swap` and `collect`, and `meet` for shared memory.
        memory: the `bytes_of` bytes that all workers share; None if they exchange messages.
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
        """The size of the memory that workers share."""
        count = sum(len(nodes(0, parts, owned(k, size, parts))) for k in range(size))
        return int((count + 1) * size * -(-like.size // size) * like.dtype.itemsize)

    def sum(self, write: Write, out: Array) -> Array:
        """The sum over the tree; `write` is called for this worker's own parts."""
        given = single(write)
        for own, (first, last) in zip(self.mine, self.own, strict=True):
            tree_sum(first, last, given, own[: out.size], self.room)
        return self.exchange(out)

    def exchange(self, out: Array) -> Array:
        """The sum over the tree, after each worker has added up its own parts."""
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
    """Several JAX devices of this machine: one process and one compiled step, to which each adds some shards.

    The result has the same bits for 1, 2, 4, … devices, but not those of several processes (`mpi`).
    Weights, state and rows are copied to each device. On virtual devices of a CPU also set
    XLA_FLAGS=--xla_cpu_multi_thread_eigen=false, so that XLA does not divide large products by its threads.

    Args:
        count: the number of devices, a power of two; None for all there are.
        shards: the number of parts of a batch, if the learner has the default `shards=1`; a multiple of
            `count`.

    Raises:
        BackendUnavailable: JAX is not installed.
        BackpropError: there are fewer devices, or their number is not a power of two.
    """
    return Devices(shards, count)


def mpi(shards: int = SHARDS, patience: float = 20.0) -> Mpi:
    """The workers that an MPI launcher started, as in `mpiexec -n 4 python train.py`; needs mpi4py.

    Each runs the same program. Without a launcher there is one worker. BLAS should use one thread in each:
    set OMP_NUM_THREADS=1 before the start. A worker that ends with an exception, or that does not answer,
    ends all of them.

    Args:
        shards: the number of parts of a batch, at least that of workers, if the learner has the default
            `shards=1`; a learner's own number above 1 is used instead.
        patience: the seconds that another worker may take to answer before all are ended; longer than the
            longest step, read of a window, or checkpoint.

    Raises:
        BackendUnavailable: mpi4py, or MPI itself, is not installed (`pip install mpich` is an MPI).
        BackpropError: a setting is not positive.
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
