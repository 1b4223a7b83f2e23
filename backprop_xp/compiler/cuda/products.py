"""Matrix products by cuBLASLt, which a CUDA graph can capture; CuPy refuses its own under capture.

A product is planned once for its shapes, before capture: while a stream is capturing, the library must
not be asked for an algorithm.
"""

from collections.abc import Sequence
from ctypes import c_double
from functools import cached_property
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakValueDictionary, finalize

import numpy as np

from ...arrays import Array
from ...errors import BackpropError, unavailable
from . import cublaslt
from .cublaslt import Matrix, Plan, Precision, matrix

PRECISIONS = {
    "float32": Precision(cublaslt.COMPUTE_32F, cublaslt.R_32F, cublaslt.R_32F),
    "tf32": Precision(cublaslt.COMPUTE_TF32, cublaslt.R_32F, cublaslt.R_32F),
    "bfloat16": Precision(cublaslt.COMPUTE_32F, cublaslt.R_16BF, cublaslt.R_32F),
    "float16": Precision(cublaslt.COMPUTE_32F, cublaslt.R_16F, cublaslt.R_32F),
}
# Whether planning a product times all algorithms on offer. Off: the choice, and with it the last bits of
# results, would differ from run to run. The benchmarks measure both.
TIMED = False
_TIMES = 5  # how often a product is repeated when it is timed
VECTOR_BYTES = _ALIGNED = 16  # the widest access of a thread
_FLOAT64 = Precision(cublaslt.COMPUTE_64F, cublaslt.R_64F, cublaslt.R_64F, c_double)


class Problem(NamedTuple):
    """What a plan depends on.

    Attributes:
        device: the device's number.
        precision: the types of the product.
        matrices: both factors and the result.
        alignments: those of these and of an epilogue's vector, in bytes.
        epilogue: a key of cublaslt.EPILOGUES.
    """

    device: int
    precision: Precision
    matrices: tuple[Matrix, ...]
    alignments: tuple[int, ...]
    epilogue: str


class Workspace:
    """Scratch memory for products; allocated when it is first used."""

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy

    @cached_property
    def memory(self) -> Any:
        """A pointer to WORKSPACE_BYTES on the current device."""
        return self.cupy.cuda.alloc(cublaslt.WORKSPACE_BYTES)


# The workspaces of streams that own one, by device and address; each is freed with the stream's owner.
OWN_WORKSPACES: WeakValueDictionary[tuple[int, int], Workspace] = WeakValueDictionary()


class Products:
    """The `matmul` of the CuPy backend.

    Args:
        cupy: the module.
        precision: one of PRECISIONS; products of float64 are computed in float64.

    Raises:
        BackendUnavailable: the precision is bfloat16, and ml_dtypes, which has this type, is not installed.
    """

    def __init__(self, cupy: Any, precision: str = "float32") -> None:
        self.cupy, self.precision = cupy, PRECISIONS[precision]
        self.narrow = _dtype_16(precision)
        self.plans: dict[Problem, Plan | None] = {}
        self.unsupported: set[Any] = set()  # products whose epilogue the library cannot fuse
        self.handles: dict[int, Any] = {}  # by device
        self.workspaces: dict[tuple[int, int], Workspace] = {}  # of callers' streams: there are few
        self._library: Any = None
        self._lock = Lock()

    @property
    def lt(self) -> Any:
        """cuBLASLt, loaded when the first product is computed."""
        if self._library is None:
            self._library = cublaslt.loaded()
            finalize(self, _destroy, self._library, self.handles).atexit = False
        return self._library

    def __call__(self, a: Array, b: Array, /, *, out: Array = None) -> Array:
        """The product a b, written into `out` where it is given.

        Raises:
            BackpropError: cuBLASLt has no algorithm for it.
        """
        if not self._supports(a, b):
            return self.cupy.matmul(a, b, out=out)  # no layer needs it; errors are CuPy's own
        if out is None:
            out = self.cupy.empty((a.shape[0], b.shape[1]), dtype=a.dtype)
        if not self._multiply(a, b, out):
            aligned = self.cupy.empty(out.shape, dtype=out.dtype)
            if _alignment(out) >= _ALIGNED or not self._multiply(a, b, aligned):
                msg = (
                    f"cuBLASLt has no algorithm for the product {a.shape} by {b.shape}: "
                    "try another precision or batch size"
                )
                raise BackpropError(msg)
            out[...] = aligned
        return out

    def matmul_with_epilogue(self, epilogue: str, a: Array, b: Array, out: Array, vector: Array) -> bool:
        """Compute a product and its epilogue as one kernel; False, and nothing is done, if cuBLASLt cannot.

        Args:
            epilogue: 'add' for a bias, 'add maximum' for a bias and ReLU, 'sum' for the sum of b over rows.
            a: the left factor.
            b: the right factor.
            out: receives the result.
            vector: the bias, or the array that receives the sum.
        """
        key = (epilogue, a.device.id, a.dtype, a.shape, a.strides, b.shape, b.strides)
        if key in self.unsupported or not self._supports(a, b):
            return False
        if vector.dtype != out.dtype or vector.strides != out.strides[1:]:
            return False
        if vector.data.ptr % VECTOR_BYTES:  # kernels may read it in wider pieces: pytorch#194497
            return False
        if epilogue == "sum":
            if self._precision_of(b).operands in (cublaslt.R_16F, cublaslt.R_16BF):
                return False  # cuBLASLt would sum the rounded factor
            if b.shape[0] == 1 and self.lt.cublasLtGetVersion() < cublaslt.SUMS_OF_ONE_ROW:
                return False
        done = self._multiply(a, b, out, epilogue, vector)
        if not done:
            self.unsupported.add(key)
        return done

    def operand(self, a: Array) -> Array:
        """A factor in the dtype in which it is multiplied, with the same order of axes in memory."""
        return a if self.narrow is None or a.dtype != self.cupy.float32 else a.astype(self.narrow)

    def _supports(self, a: Array, b: Array) -> bool:
        same = a.dtype == b.dtype and a.dtype in (self.cupy.float32, self.cupy.float64, self.narrow)
        return bool(same and a.ndim == b.ndim == 2 and a.size and b.size and a.shape[1] == b.shape[0])

    def _precision_of(self, a: Array) -> Precision:
        return _FLOAT64 if a.dtype == self.cupy.float64 else self.precision

    def _multiply(self, a: Array, b: Array, out: Array, epilogue: str = "", vector: Array = None) -> bool:
        """C = A B of row-major matrices, as Cᵀ = Bᵀ Aᵀ of column-major ones; False if there is no plan."""
        stream, precision = self.cupy.cuda.get_current_stream(), self._precision_of(a)
        a, b = (
            each if matrix(each) else self.cupy.ascontiguousarray(each) for each in map(self.operand, (a, b))
        )
        arrays = b, a, out
        with_vector = arrays if vector is None else (*arrays, vector)
        matrices: tuple[Any, ...] = tuple(map(matrix, arrays))
        alignments = tuple(map(_alignment, with_vector))
        problem = Problem(a.device.id, precision, matrices, alignments, epilogue)
        if problem not in self.plans:  # planning a product computes it
            self.plans[problem] = self._plan(problem, arrays, vector, stream)
            return self.plans[problem] is not None
        plan = self.plans[problem]
        if plan is not None:
            cublaslt.check(self._launch(plan, arrays, vector, stream))
        return plan is not None

    def _launch(self, plan: Plan, arrays: Sequence[Array], vector: Array, stream: Any) -> int:
        """Enqueue a product; return the status."""
        device = arrays[0].device.id
        handle, workspace = self._handle(device), self._workspace(device, stream)
        with self._lock:  # threads share the descriptor, which holds the address of the vector
            self._set_vector(plan.product, vector)
            return cublaslt.multiply(self.lt, handle, plan, arrays, workspace, stream)

    def _plan(self, problem: Problem, arrays: Sequence[Array], vector: Array, stream: Any) -> Plan | None:
        """Plan a product, and compute it; None where cuBLASLt has no algorithm that does it.

        Raises:
            RuntimeError: the stream is being captured: the library must not be called for a plan then.
        """
        right, left, _ = problem.matrices
        if stream.is_capturing():
            msg = (
                f"the product {left.shape} by {right.shape} was not planned before capture: "
                "run the step once without capture"
            )
            raise RuntimeError(msg)
        precision = problem.precision
        product = cublaslt.new_product(self.lt, precision, (right, left), problem.epilogue)
        self._set_vector(product, vector)
        kinds = precision.operands, precision.operands, precision.result
        layouts = tuple(
            cublaslt.new_layout(self.lt, kind, m) for kind, m in zip(kinds, problem.matrices, strict=True)
        )
        of_factors, of_result = problem.alignments[:2], problem.alignments[2:]
        alignments = *of_factors, of_result[0], min(of_result)  # D's counts for the vector, too
        handle = self._handle(problem.device)
        offered = cublaslt.algorithms(self.lt, handle, product, layouts, alignments, problem)
        plans = (Plan(product, layouts, algorithm, precision.scalar) for algorithm in offered)
        able = (p for p in plans if not cublaslt.refused(self._launch(p, arrays, vector, stream), problem))
        if TIMED:
            return min(able, key=lambda p: self._milliseconds(p, arrays, vector, stream), default=None)
        return next(able, None)

    def _milliseconds(self, plan: Plan, arrays: Sequence[Array], vector: Array, stream: Any) -> float:
        """The time of _TIMES products, in milliseconds."""
        begin, end = (self.cupy.cuda.Event() for _ in range(2))
        begin.record(stream)
        for _ in range(_TIMES):
            cublaslt.check(self._launch(plan, arrays, vector, stream))
        end.record(stream)
        end.synchronize()
        return float(self.cupy.cuda.get_elapsed_time(begin, end))

    def _set_vector(self, product: Any, vector: Array) -> None:
        if vector is not None:
            cublaslt.set_bias_pointer(self.lt, product, vector.data.ptr)

    def _handle(self, device: int) -> Any:
        """The handle of a device, which threads may share."""
        if device not in self.handles:
            self.handles[device] = cublaslt.new_handle(self.lt)
        return self.handles[device]

    def _workspace(self, device: int, stream: Any) -> Any:
        """The workspace of a stream: products that run at the same time must not share one."""
        key = (device, stream.ptr)
        own = OWN_WORKSPACES.get(key) or self.workspaces.get(key)
        if own is None:
            own = self.workspaces[key] = Workspace(self.cupy)
        return own.memory


def _dtype_16(precision: str) -> Any:
    """The dtype that factors are rounded to, None if they are not rounded."""
    if precision == "float16":
        return np.dtype(np.float16)
    if precision != "bfloat16":
        return None
    try:
        from ml_dtypes import bfloat16
    except ImportError as error:
        name = "ml_dtypes"
        raise unavailable(name, name, "cuda12", error) from error
    return np.dtype(bfloat16)


def _destroy(lt: Any, handles: dict[int, Any]) -> None:
    for handle in handles.values():
        lt.cublasLtDestroy(handle)


def _alignment(a: Array) -> int:
    """The largest power of two that divides the address, at most the widest that the library looks at."""
    address = a.data.ptr
    lowest_bit = address & -address
    return min(lowest_bit, cublaslt.WIDEST_ALIGNMENT) if address else cublaslt.WIDEST_ALIGNMENT
