"""A CuPy of NumPy arrays and a cuBLASLt on raw pointers, with capture and replay.

While a stream is captured it refuses what the real ones refuse. Here a capture executes what it records,
on a GPU it does not; so at its end every array is restored. All work is done at once, in the order in which
it is given; but every launch is refused that no event orders after what other streams do with the same
memory, for on a GPU it might come first. That is stricter than to run streams in some other order: no
values need to differ for it to be seen. Memory comes from pools that hand it out again, as the real ones do,
so what a graph still uses and CuPy holds free is overwritten here, too.
"""

import ctypes
import functools
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import repeat
from types import ModuleType, SimpleNamespace
from typing import ClassVar
from weakref import WeakSet, WeakValueDictionary, finalize, ref

import numpy as np

from backprop_xp.compiler.cuda.executable import chain
from backprop_xp.compiler.ir import OPERATIONS


class CaptureError(RuntimeError):
    """What CuPy raises for work that cannot be captured."""


class OutOfMemoryError(MemoryError):
    def __init__(self, size, total, limit=0):
        super().__init__(f"Out of memory allocating {size} bytes (allocated so far: {total} bytes)")


class CUDARuntimeError(RuntimeError):
    def __init__(self, message, status):
        super().__init__(message)
        self.status = status


class CUDADriverError(CUDARuntimeError):
    pass


class Memory:
    """Memory of the device, and the launches that wrote and read it last."""

    known: ClassVar[WeakValueDictionary] = WeakValueDictionary()  # by the array that owns it

    def __init__(self, size, root=None):
        if root is None:
            device.allocate(size)
            root = np.empty(size + 512, dtype=np.uint8)
        self.root, self.size, self.user = root, size, lambda: None
        self.written, self.read = (0, 0), {}  # the last write, and by stream the last read
        Memory.known[id(root)] = self

    @property
    def raw(self):
        """Its bytes, at a multiple of 512 as CuPy's pool allocates."""
        return self.root[-self.root.ctypes.data % 512 :][: self.size]

    def use(self, stream, write):
        """A stream uses this next: after what others do with it."""
        stream.comes_after(self.written)
        if not write:
            self.read[stream.ptr] = stream.tick()
            return
        for mark in self.read.items():
            stream.comes_after(mark)
        self.written, self.read = (stream.ptr, stream.tick()), {}

    def pooled(self, arena=None):
        """What arrays hold of it; without it, the memory is back in its arena."""
        found = self.user()
        if found is None:
            found = Pooled(self)
            self.user = ref(found)
            if arena is not None:
                finalize(found, arena.append, self).atexit = False
        return found


class Pooled:
    """The use of some memory by all views of an array; CuPy's `a.data.mem`."""

    def __init__(self, memory):
        self.memory = memory


def memory_of(value):
    """The memory an array lies in."""
    while isinstance(value.base, np.ndarray):
        value = value.base
    return Memory.known.get(id(value)) or Memory(value.nbytes, value)


def allocated(value):
    """A copy in memory of the current pool."""
    pointer = device.malloc(value.nbytes)
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    place = np.ndarray(value.shape, value.dtype, pointer.mem.memory.raw, order=order)
    place[...] = value
    device.uses(place, write=True)
    return ndarray(place, pointer.mem)


class Gpu:
    """The state of the device: the current stream and pool, the graph being captured, the memory left."""

    def __init__(self):
        self.stream = self.malloc = None
        self.nodes = self.journal = self.node = None
        self.limit = None
        self.kernels = self.fallbacks = 0
        self.tracing = False
        self.seen = {}  # by stream, the launches that the host knows to be done
        self.copies = []  # from the host, under way: its array, what it held, the launch
        self.times = repeat(1.0)  # between events
        self.touched = {}  # by the graph being captured: memory, and whether it is written

    def allocate(self, size):
        if self.limit is not None and size > self.limit:
            msg = f"Out of memory allocating {size} bytes"
            raise CUDARuntimeError(msg, OUT_OF_MEMORY)

    @property
    def capturing(self):
        return self.nodes is not None

    def forbid(self, what):
        if self.capturing:
            msg = f"{what} while a stream is captured"
            raise CaptureError(msg)

    def uses(self, value, write):
        memory = memory_of(value)
        if self.capturing:
            self.touched[memory] = self.touched.get(memory, False) or write
        else:
            memory.use(self.stream, write)

    def reads(self, value):
        self.uses(value, write=False)

    def writes(self, value):
        """An array is about to be written: a capture, or an attempt, keeps its old contents."""
        if self.journal is not None:
            self.journal.append((value, value.copy()))
        self.uses(value, write=True)

    def restore(self, since=0):
        for value, old in reversed(self.journal[since:]):
            value[...] = old
        del self.journal[since:]

    def launched(self, again):
        """A kernel was launched: a node of the graph, or part of the node of a fused function."""
        if self.node is not None:
            self.node.append(again)
        elif self.capturing:
            self.nodes.append(again)
        else:
            self.kernels += 1

    def knows(self, clock):
        """The host knows that these launches are done; until then what they copy from it must stay."""
        for host, old, _ in self.copies:
            if not np.array_equal(host, old, equal_nan=host.dtype.kind == "f"):
                msg = "memory of the host was overwritten while it was copied to the device"
                raise Unordered(msg)
        merge(self.seen, clock)
        self.copies = [each for each in self.copies if self.seen.get(each[2][0], 0) < each[2][1]]


OUT_OF_MEMORY = 2
device = Gpu()


def plain(x):
    if isinstance(x, ndarray):
        return x.value
    if isinstance(x, (tuple, list)):
        return type(x)(map(plain, x))
    if isinstance(x, np.ndarray) and x.ndim:
        msg = f"Unsupported type {type(x)}"
        raise TypeError(msg)
    return x


def arrays(tree):
    if isinstance(tree, np.ndarray):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for each in tree:
            yield from arrays(each)


def run(function, *args, **kw):
    kw.pop("device", None)
    if device.tracing and not (isinstance(function, np.ufunc) or function in (np.where, np.astype, cast)):
        msg = f"{function} has no counterpart in a fused function"
        raise TypeError(msg)
    args, kw = plain(args), {k: plain(v) for k, v in kw.items()}
    into = kw.pop("out", None)
    kw |= {} if into is None else {"out": into}
    with np.errstate(all="ignore"):
        if into is not None:
            device.writes(into)
        made = np.asarray(function(*args, **kw))
    if into is None and any(np.may_share_memory(a, made) for a in arrays(args)):
        return ndarray(made)  # a view: nothing is launched
    for each in arrays(args):
        device.reads(each)
    found = allocated(made) if into is None else ndarray(made)
    made = found.value
    device.launched(lambda: np.copyto(made, function(*args, **kw)))
    return found


def cast(a, dtype):
    return a.astype(dtype)


def index(key):
    for k in key if isinstance(key, tuple) else (key,):
        if isinstance(k, (list, np.ndarray)) or getattr(k, "dtype", None) == np.bool_:
            device.forbid("a host array or a mask as index")
    return plain(key)


class Pointer:
    def __init__(self, mem, ptr):
        self.mem, self.ptr = mem, ptr


class Device:
    def __init__(self, number=0):
        self.id = number

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    __hash__ = None  # as of the real one

    def __repr__(self):
        return f"<CUDA Device {self.id}>"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class ndarray:
    __array_ufunc__ = None

    def __init__(self, value, mem=None):
        self.value, self.mem = value, mem or memory_of(value).pooled()

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    strides = property(lambda self: self.value.strides)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    nbytes = property(lambda self: self.value.nbytes)
    device = property(lambda self: Device())
    data = property(lambda self: Pointer(self.mem, self.value.ctypes.data))

    def __array_namespace__(self, *, api_version=None):
        return sys.modules["array_api_compat.cupy"]

    def get(self):
        device.forbid("a device-to-host copy")
        device.reads(self.value)
        device.stream.synchronize()
        return self.value.copy()

    def set(self, value, stream):
        device.forbid("a host-to-device copy")
        assert stream.non_blocking
        if (value.shape, value.dtype) != (self.shape, self.dtype):
            msg = f"{value.dtype} of {value.shape} is set into {self.dtype} of {self.shape}"
            raise ValueError(msg)
        assert value.flags.c_contiguous
        assert self.value.flags.c_contiguous
        with stream:
            device.writes(self.value)
        self.value[...] = value
        device.copies.append((value, value.copy(), (stream.ptr, stream.clock[stream.ptr])))

    tolist = item = __bool__ = __float__ = __int__ = __index__ = lambda self: self.get().item()
    __hash__ = None

    def __array__(self, *_, **__):
        msg = "Implicit conversion to a NumPy array is not allowed."
        raise TypeError(msg)

    def copy(self):
        return run(np.copy, self)

    def astype(self, dtype, copy=True):
        return run(cast, self, dtype)

    def view(self, dtype):
        return ndarray(self.value.view(dtype))

    def __len__(self):
        return len(self.value)

    def __iter__(self):
        return (self[k] for k in range(len(self)))

    def __getitem__(self, key):
        key = index(key)
        return run(lambda a: a[key], self)

    def __setitem__(self, key, other):
        key, other = index(key), plain(other)
        if device.tracing and key is not Ellipsis:
            msg = "a fused function takes no part of an array"
            raise TypeError(msg)
        for each in arrays((other, key)):
            device.reads(each)
        device.writes(self.value)
        self.value[key] = other
        device.launched(lambda: self.value.__setitem__(key, other))

    def __matmul__(self, other):
        return matmul(self, other)


def operators():
    names = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "pow": "power",
             "mod": "remainder", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
             "lshift": "left_shift", "rshift": "right_shift"}  # fmt: skip
    for short, name in names.items():
        function = getattr(np, name)
        setattr(ndarray, f"__{short}__", lambda a, b, f=function: run(f, a, b))
        setattr(ndarray, f"__r{short}__", lambda a, b, f=function: run(f, b, a))

        def inplace(a, b, f=function):
            run(f, a, b, out=a)
            return a

        setattr(ndarray, f"__i{short}__", inplace)
    for short, name in {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
                        "ge": "greater_equal"}.items():  # fmt: skip
        setattr(ndarray, f"__{short}__", lambda a, b, f=getattr(np, name): run(f, a, b))
    for short, name in {"neg": "negative", "abs": "abs", "invert": "invert"}.items():
        setattr(ndarray, f"__{short}__", lambda a, f=getattr(np, name): run(f, a))


operators()
ndarray.__module__ = "cupy"


# ---------------------------------------------------------------- streams, graphs, memory
class Unordered(AssertionError):
    """Two streams use the same memory, and nothing says which of them comes first."""


def merge(into, clock):
    for stream, tick in clock.items():
        into[stream] = max(into.get(stream, 0), tick)


class Event:
    def __init__(self, disable_timing=False):
        self.recorded, self.clock = 0, {}

    def record(self, stream):
        device.forbid("an event")
        self.recorded += 1
        self.clock = dict(stream.clock)

    def synchronize(self):
        device.forbid("a synchronization")
        device.knows(self.clock)


class Stream:
    """A queue. Its clock tells, by stream, how many launches come before whatever is launched next."""

    def __init__(self, non_blocking=False, ptr=None):
        self.non_blocking = non_blocking
        self.ptr = id(self) if ptr is None else ptr
        self.clock = {}

    def tick(self):
        """Something is launched here; its place in the order."""
        self.clock[self.ptr] = self.clock.get(self.ptr, 0) + 1
        return self.clock[self.ptr]

    def comes_after(self, mark):
        """What is launched next comes after this."""
        stream, tick = mark
        if max(self.clock.get(stream, 0), device.seen.get(stream, 0)) < tick:
            msg = f"stream {self.ptr} does not wait for launch {tick} of stream {stream}"
            raise Unordered(msg)

    def __enter__(self):
        self.before, device.stream = device.stream, self
        return self

    def __exit__(self, *_):
        device.stream = self.before

    def record(self):
        device.forbid("an event of another stream") if self is not device.stream else None
        event = Event()
        event.clock = dict(self.clock)
        return event

    def wait_event(self, event):
        assert isinstance(event, Event)
        merge(self.clock, event.clock)

    def synchronize(self):
        device.forbid("a synchronization")
        device.knows(self.clock)

    def is_capturing(self):
        return device.capturing

    def begin_capture(self):
        if not self.non_blocking:
            msg = "cannot capture on the default (legacy) stream"
            raise RuntimeError(msg)
        assert not device.capturing
        assert device.stream is self
        device.nodes, device.journal, device.touched = [], [], {}

    def end_capture(self):
        graph = Graph(device.nodes, device.touched)
        device.restore()
        device.nodes = device.journal = device.node = None
        return graph


device.stream = NULL = Stream(ptr=0)


class Graph:
    """What was captured. It holds addresses: memory that is given back to the device under it is an error."""

    alive: ClassVar[WeakSet] = WeakSet()

    def __init__(self, nodes, touched):
        self.nodes, self.touched = nodes, touched
        Graph.alive.add(self)

    def upload(self, stream):
        assert not device.capturing

    def launch(self, stream):
        assert stream.non_blocking
        assert not device.capturing
        for memory, write in self.touched.items():
            memory.use(stream, write)
        with np.errstate(all="ignore"):
            for again in self.nodes:
                again()


def device_memory(size):
    return Pointer(Memory(size), 0)


class MemoryPool:
    """An arena for each stream: blocks that are free, by size. If there is no memory they are given up."""

    def __init__(self, allocator=device_memory):
        self.allocator, self.arenas, self.total = allocator, {}, 0

    def malloc(self, size):
        size = max(512, -(-size // 512) * 512)
        arena = self.arenas.setdefault((device.stream.ptr, size), [])
        memory = arena.pop() if arena else self._new(size)
        return Pointer(memory.pooled(arena), memory.raw.ctypes.data)

    def _new(self, size):
        for _ in range(2):
            try:
                memory = self.allocator(size).mem
            except CUDARuntimeError:  # the only one of `Memory`
                self.free_all_blocks()
            else:
                self.total += size
                return memory
        raise OutOfMemoryError(size, self.total)

    def used_bytes(self):
        return 1_500_000

    def total_bytes(self):
        return self.total

    def free_all_blocks(self):
        free = [memory for arena in self.arenas.values() for memory in arena]
        if any(memory in graph.touched for graph in Graph.alive for memory in free):
            msg = "memory that a graph uses is given back to the device"
            raise UnderGraph(msg)
        self.total -= sum(memory.size for memory in free)
        self.arenas.clear()


class UnderGraph(AssertionError):
    pass


@contextmanager
def using_allocator(malloc):
    before, device.malloc = device.malloc, malloc
    try:
        yield
    finally:
        device.malloc = before


def alloc(size):
    return device.malloc(size)


def one_node(function):
    """One node for all that a function launches."""

    @functools.wraps(function)
    def fused(*args):
        assert device.node is None
        device.node = node = []
        try:
            made = function(*args)
        finally:
            device.node = None
        device.launched(lambda: [again() for again in node])
        return made

    return fused


def fuse(function):
    """As the real one: what fails in one kernel, another engine does silently, here in several."""
    one = one_node(function)

    @functools.wraps(function)
    def fused(*args):
        assert all(isinstance(a, (ndarray, int, float)) for a in args)
        outside = device.journal
        device.journal = [] if outside is None else outside
        begin, device.tracing = len(device.journal), True
        try:
            return one(*args)
        except Exception:
            device.restore(begin)
            device.tracing, device.fallbacks = False, device.fallbacks + 1
            return function(*args)
        finally:
            device.tracing, device.journal = False, outside

    return fused


def gather(index, step, *given, size):
    n = (len(given) - 3) // 3
    data, (batch, rows, widest), columns, out = given[:n], given[n : n + 3], given[n + 3 : -n], given[-n:]
    assert size == batch * widest
    assert widest == max(columns)
    assert (index.shape[1], data[0].shape[0]) == (batch, rows)
    for a, width, into in zip(data, columns, out, strict=True):
        assert (a.shape[0], a[0].size, into.shape[0]) == (rows, width, batch)
        into[...] = a[index[step[0]] % rows]


def stack(step, *given, size):
    n = len(given) // 3
    assert size == max(given[n : 2 * n])
    for a, width, into in zip(given[:n], given[n : 2 * n], given[2 * n :], strict=True):
        assert a.size == width
        into[step[0]] = a


def store(*given, size):
    *given, step = given
    n = len(given) // 2
    assert size == 1
    for a, into in zip(given[:n], given[n:], strict=True):
        into[step[0]] = a
    step += 1


class ElementwiseKernel:
    """A kernel written in C, by the Python twin of its name; it writes into its last arguments."""

    known: ClassVar = {"gather": gather, "stack": stack, "store": store}

    def __init__(self, into, out, operation, name):
        self.into, self.out = ([p for p in each.split(",") if p] for each in (into, out))
        assert all(kind in ("raw", "int64") for kind, *_ in map(str.split, (*self.into, *self.out)))
        self.does = self.known[name]

    def __call__(self, *args, **kw):
        args = plain(args)
        assert len(args) == len(self.into) + len(self.out)
        for a, parameter in zip(args, (*self.into, *self.out), strict=True):
            if parameter.split()[0] == "raw":
                assert a.dtype == parameter.split()[1]
        for a in arrays(args[: len(self.into)]):
            device.reads(a)
        for a in args[len(self.into) :]:
            device.writes(a)
        self.does(*args, **kw)
        device.launched(lambda: self.does(*args, **kw))


def rows(cupy, kernel, values):
    """A row kernel as one node, by the operations that its source is generated from."""
    return one_node(chain(kernel, sys.modules["array_api_compat.cupy"]))


# ---------------------------------------------------------------- the namespaces
def matmul(a, b, out=None):
    if device.capturing:  # CuPy's own error
        msg = "calling cuBLAS API during stream capture is currently unsupported"
        raise NotImplementedError(msg)
    return run(np.matmul, a, b, out=out)


def concat(arrays, axis=0):
    if len(arrays) > 8:
        device.forbid("a table of addresses from the host")
    for _ in arrays[1:]:
        device.launched(lambda: None)  # CuPy copies each by a kernel of its own
    return run(np.concatenate, list(arrays), axis=axis)


def asarray(data, dtype=None, device=None, copy=None):
    if isinstance(data, ndarray):
        return data.astype(dtype or data.dtype) if copy or dtype not in (None, data.dtype) else data
    if np.ndim(data):
        globals()["device"].forbid("a host-to-device copy")
    return allocated(np.array(data, dtype=dtype))


def empty(shape, dtype):
    return allocated(np.full(shape, 77, dtype=dtype))  # new memory holds anything


def take(a, rows, axis=0, out=None):
    made = run(lambda x, k: np.take(x, k, axis=axis, mode="wrap"), a, rows)
    if out is not None:
        out[...] = made
    return made if out is None else out


def masked(a, *_):
    device.forbid("a shape that depends on data")  # which no formula may use
    msg = "the stand-in has no function whose result has a shape that depends on data"
    raise NotImplementedError(msg)


def functions():
    names = {*OPERATIONS, "rint"}
    found = {n: functools.partial(run, getattr(np, n)) for n in names if hasattr(np, n)}
    types = ("float16", "float32", "float64", "int32", "int64", "uint8", "uint16", "uint32",
             "bool_", "pi", "isdtype")  # fmt: skip
    return found | {n: getattr(np, n) for n in types} | {
        "matmul": matmul, "concat": concat, "concatenate": concat, "asarray": asarray, "nonzero": masked,
        "unique_values": masked, "empty": empty, "bool": np.bool_, "copy": ndarray.copy,
        "take": take, "ElementwiseKernel": ElementwiseKernel,
    }  # fmt: skip


def modules():
    """Stand-ins for `cupy` and `array_api_compat.cupy`, with a pool of their own."""
    pool = MemoryPool()
    device.malloc, device.copies, device.limit, device.fallbacks = pool.malloc, [], None, 0
    cupy, compat = ModuleType("cupy"), ModuleType("array_api_compat.cupy")
    vars(cupy).update(functions() | {
        "ndarray": ndarray, "fuse": fuse, "asnumpy": ndarray.get,
        "ascontiguousarray": functools.partial(run, lambda a: np.array(a, order="C")),
        "get_default_memory_pool": lambda: pool,
        "cuda": SimpleNamespace(
            is_available=lambda: True, Stream=Stream, MemoryPool=MemoryPool, Device=Device, Memory=Memory,
            MemoryPointer=Pointer, alloc=alloc,
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
            get_elapsed_time=lambda begin, end: next(device.times),
            Event=Event, alloc_pinned_memory=bytearray,
            get_current_stream=lambda: device.stream, using_allocator=using_allocator,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            runtime=SimpleNamespace(CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1),
        ),
    })  # fmt: skip
    vars(compat).update(functions())
    return {"cupy": cupy, "array_api_compat.cupy": compat}


# ---------------------------------------------------------------- cuBLASLt
KINDS = {0: np.float32, 1: np.float64, 2: np.float16}
if find_spec("ml_dtypes"):
    import ml_dtypes

    KINDS[14] = ml_dtypes.bfloat16


class Lt:
    """cuBLASLt: objects by number, products from addresses alone.

    Args:
        algorithms: how many the heuristic offers.
        epilogues: for which it offers any.
        strict: refuse vectors that are not aligned to 16 bytes.
    """

    def __init__(self, algorithms=1, epilogues=(1, 4, 6, 256), strict=True):
        self.strict = strict
        self.objects, self.algorithms, self.epilogues = {}, algorithms, epilogues
        self.heuristics = self.products = self.destroyed = 0
        self.epilogues_done, self.chosen = [], []  # of each product that was computed
        self.plans = []  # what each algorithm was offered for
        self.fails = {}  # the status of an algorithm, by its place among those that are offered
        self.version = 130100

    def cublasLtGetVersion(self):
        return self.version

    def create(self, into, **what):
        number = len(self.objects) + 1
        self.objects[number] = what
        into._obj.value = number
        return 0

    def cublasLtCreate(self, into):
        return self.create(into)

    def cublasLtDestroy(self, handle):
        self.destroyed += 1
        return 0

    def cublasLtMatmulDescCreate(self, into, compute, scale):
        return self.create(into, compute=compute.value, scale=scale.value)

    def cublasLtMatrixLayoutCreate(self, into, kind, rows, columns, leading):
        assert leading.value >= rows.value
        return self.create(
            into, kind=kind.value, rows=rows.value, columns=columns.value, leading=leading.value
        )

    def cublasLtMatmulPreferenceCreate(self, into):
        return self.create(into)

    def set(self, of, attribute, value, size):
        assert size.value == ctypes.sizeof(value._obj)
        self.objects[of.value][attribute.value] = value._obj.value
        return 0

    cublasLtMatmulDescSetAttribute = cublasLtMatmulPreferenceSetAttribute = set

    def cublasLtMatmulPreferenceDestroy(self, preference):
        return 0

    def cublasLtMatmulAlgoGetHeuristic(self, handle, product, a, b, c, d, preference, most, found, count):
        if device.capturing:
            return 14
        self.heuristics += 1
        self.preference = self.objects[preference.value]
        how = self.objects[product.value]
        assert (how[7] != 1) == (8 in how), "an epilogue has its vector when it is planned"
        narrow = self.objects[a.value]["kind"] in (2, 14)
        none = how[7] not in self.epilogues or (narrow and self.preference[8] % 16)
        count._obj.value = 0 if none else min(self.algorithms, most.value)
        for k in range(count._obj.value):
            self.plans.append((k, self.preference))
            found[k][0] = len(self.plans) - 1
        return 0 if count._obj.value else 15

    def cublasLtMatmul(self, handle, product, alpha, a, la, b, lb, beta, c, lc, d, ld, algorithm, *where):
        workspace, size, stream = where
        assert (alpha._obj.value, beta._obj.value) == (1, 0)
        assert c.value == d.value
        assert workspace.value
        assert size.value
        assert stream.value in (device.stream.ptr, None if device.stream.ptr == 0 else -1)
        how = self.objects[product.value]
        place, preference = self.plans[algorithm[0]]
        for k, pointer in enumerate((a, b, c, d)):
            assert pointer.value % preference[5 + k] == 0, "planned for another alignment"
        assert how.get(8, 0) % preference[8] == 0, "planned for another alignment"
        assert how.get(8, 0) % 16 == 0 or not self.strict, (
            "a vector that kernels may not read in pieces of 16 bytes"
        )
        if place in self.fails:
            return self.fails[place]
        left, right = (self.operand(p, layout, how.get(3 + k, 0))
                       for k, (p, layout) in enumerate(((a, la), (b, lb))))  # fmt: skip
        out = self.matrix(d, ld).T
        vector = self.vector(how, out.shape[1], out.dtype)

        def again():
            with np.errstate(all="ignore"):
                np.copyto(out, np.matmul(wide(right, how["compute"]).T, wide(left, how["compute"]).T))
                self.epilogue(how[7], left, out, vector)

        for each in (out, vector) if how[7] == 256 else (out,):
            if device.journal is not None:  # by address: no order of streams is seen
                device.journal.append((each, each.copy()))
        self.epilogues_done.append(how[7])
        self.chosen.append(place)
        again()
        device.launched(again)
        self.products += 1
        return 0

    def vector(self, how, length, dtype):
        """The vector at the bias pointer, of the type of the result."""
        if how[7] == 1:
            return None
        raw = (ctypes.c_char * (length * dtype.itemsize)).from_address(how[8])
        return np.frombuffer(raw, dtype)

    def epilogue(self, which, left, out, vector):
        """What is done to the product; `out` is the row-major view of the library's matrix."""
        if which in (4, 6):
            out += vector
        if which == 6:
            np.copyto(out, np.where(out > 0, out, 0))  # as reported of the real one, NaN becomes 0
        if which == 256:
            np.sum(left, axis=1, out=vector)

    def matrix(self, pointer, layout):
        """Column-major memory as an array."""
        of = self.objects[layout.value]
        kind, rows, columns, leading = (of[k] for k in ("kind", "rows", "columns", "leading"))
        item = np.dtype(KINDS[kind]).itemsize
        raw = (ctypes.c_char * (((columns - 1) * leading + rows) * item)).from_address(pointer.value)
        return np.ndarray((rows, columns), KINDS[kind], raw, strides=(item, leading * item))

    def operand(self, pointer, layout, transposed):
        m = self.matrix(pointer, layout)
        return m.T if transposed else m


def wide(m, compute):
    """The numbers that the tensor cores multiply, in the type in which they add."""
    if m.dtype.itemsize == 2:
        return m.astype(np.float32)
    if compute == 77:
        return (m.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    return m
