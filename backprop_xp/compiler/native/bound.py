"""A program compiled to machine code, and bound to arrays."""

import ctypes
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...library import Library
from ..bound import Bound
from ..ir import Program
from ..memory import Pool, aligned, buffer
from ..placement import last_uses
from . import machine
from .function import Target, Unknown
from .layouts import Layout
from .module import Module
from .unrolled import Unrolled

_CHUNK = 0.05  # seconds: a scan runs in chunks this long, so that Python can handle signals in between
_GROWTH = 8  # the most by which a chunk grows, in steps

_POINTER = ctypes.c_void_p


class NativePlan:
    """One program as machine code, and its buffers.

    Args:
        program: of f(*state, *held, *rows) -> (*new_state, *out).
        donate: how many of its arguments are state.
        hold: how many after them are held.
        batch: the batch size of a scan, None for a call.

    Attributes:
        module: the IR.
        results: the tree of the results beside the state.
        buffers: the arrays it owns, by the value that is stored there.
        multiplications: how many the largest product has.

    Raises:
        Unknown: there is no machine code for one of its operations.
        RuntimeError: LLVM rejects the IR.
        ImportError: llvmlite is not installed.
    """

    def __init__(self, program: Program, donate: int, hold: int, batch: int | None) -> None:
        target, found = machine.host(), machine.gemm()
        integers = {dtype: integer for dtype, (_, integer) in found.items()}
        self.module = written(program, donate, hold, batch, target, integers)
        self.code = machine.Code(self.module.text, target)
        self.step = self.code.function("step", _POINTER)
        self.scan: Any = None
        if batch is not None:
            self.scan = self.code.function("scan", _POINTER, _POINTER, _POINTER, ctypes.c_int64, _POINTER)
        self.results = self.module.tree
        self.multiplications = self.module.multiplications
        self.pack = aligned(self.module.packed)
        self.addresses = {f"gemm.{dtype}": address for dtype, (address, _) in found.items()}
        self.buffers: dict[int, Any] = dict(self.module.constants)
        self._allocate()

    def _allocate(self) -> None:
        """Allocate buffers; values whose live ranges do not overlap share one."""
        module, pool = self.module, Pool()
        own = module.buffers()
        for v in module.rows:
            self.buffers[v] = buffer(module.values[v])
        kept = {each.memory for each in module.where}
        for v in own.keys() & kept:
            self.buffers[v] = buffer(own[v])
        touched = [{p.memory for p in call.given if p.memory in own} - kept for call in module.calls]
        for mine, ending in zip(touched, last_uses(touched), strict=True):
            for v in sorted(mine - self.buffers.keys()):
                self.buffers[v] = pool.take(v, own[v])
            for v in sorted(ending):
                pool.release(v)


def written(
    program: Program, donate: int, hold: int, batch: int | None, target: Target, gemm: Mapping[str, str]
) -> Module | Unrolled:
    """The IR of a program: unrolled to straight-line code if it is short, else as kernels."""
    try:
        return Unrolled(program, donate, hold, batch, target)
    except Unknown:
        return Module(program, donate, hold, batch, target, gemm)


class NativeBound(Bound):
    """Machine code bound to a state and to held arguments.

    Args:
        plan: what to run.
        state, held, library: as for `Bound`.
    """

    def __init__(self, plan: NativePlan, state: Any, held: Any, library: Library) -> None:
        super().__init__(state, held, library)
        self.plan, module = plan, plan.module
        arrays = dict(plan.buffers)
        arrays |= dict(zip((*module.state, *module.held), (*self.memory, *self.read), strict=True))
        self._arrays = arrays
        self.rows = [arrays[v] for v in module.rows]
        self.out = [self._view(each) for each in module.where]
        known = {**plan.addresses, "pack": plan.pack.ctypes.data}
        addresses = [known[m] if isinstance(m, str) else arrays[m].ctypes.data for m in module.memories]
        self._table = np.asarray(addresses, dtype=np.uintp)
        self._at = self._table.ctypes.data
        self._steps = 1  # of the next chunk

    def _view(self, like: Layout) -> Any:
        memory = self._arrays[like.memory]
        size = like.dtype.itemsize
        flat = memory.reshape(-1)[like.offset :]
        return np.lib.stride_tricks.as_strided(flat, like.shape, [s * size for s in like.strides])

    def run(self) -> None:
        """One call, on what is in the buffers of the rows."""
        self.plan.step(self._at)

    def into(self, out: Any) -> None:
        """One call; its one result is computed in `out` itself where it has a memory of its own."""
        module, (like,) = self.plan.module, self.plan.module.where
        whole = module.buffers().get(like.memory)
        fits = out.flags.c_contiguous and (out.shape, out.dtype) == (like.shape, like.dtype)
        if not fits or whole is None or like.shape != whole.shape or not like.contiguous:
            super().into(out)
            return
        place = module.memories.index(like.memory)
        own = self._table[place]
        self._table[place] = out.ctypes.data
        try:
            self.run()
        finally:
            self._table[place] = own

    def scan(self, rows: list[Any], index: Any, out: list[Any]) -> None:
        """Many calls, in chunks between which Python can handle signals.

        Args:
            rows: arrays from which each call is given a batch of rows.
            index: the numbers of these rows, shape (steps, batch).
            out: arrays of shape (steps, …), which receive what each call returns.
        """
        rows = [np.ascontiguousarray(a) for a in rows]
        index = np.ascontiguousarray(index, dtype=np.int64)
        sources = np.asarray([a.ctypes.data for a in rows], dtype=np.uintp)
        results = np.asarray([a.ctypes.data for a in out], dtype=np.uintp)
        sizes = np.asarray([a.strides[0] for a in out], dtype=np.uintp)
        done, steps = 0, len(index)
        while done < steps:
            n = min(self._steps, steps - done)
            began = time.perf_counter()
            self.plan.scan(
                self._at,
                sources.ctypes.data,
                index.ctypes.data + done * index.strides[0],
                n,
                results.ctypes.data,
            )
            seconds = time.perf_counter() - began
            wanted = max(1, int(n * _CHUNK / max(seconds, 1e-9)))
            self._steps = min(wanted, _GROWTH * self._steps)
            done += n
            results += sizes * np.uintp(n)
