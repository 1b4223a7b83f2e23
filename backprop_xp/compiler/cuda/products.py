"""Matrix products by cuBLASLt, which a CUDA graph can capture; CuPy refuses its own under capture.

A product is planned once for its shapes, before capture: while a stream is capturing, the library must
not be asked for an algorithm.
"""

from ctypes import c_double
from threading import Lock, get_ident
from typing import Any, NamedTuple

from ...arrays import Array, Namespace
from ...errors import BackpropError
from . import cublaslt
from .cublaslt import Matrix, Plan, Precision, matrix

PRECISIONS = {
    "float32": Precision(cublaslt.COMPUTE_32F, cublaslt.R_32F, cublaslt.R_32F),
    "tf32": Precision(cublaslt.COMPUTE_TF32, cublaslt.R_32F, cublaslt.R_32F),
    "bfloat16": Precision(cublaslt.COMPUTE_32F, cublaslt.R_16BF, cublaslt.R_32F),
    "float16": Precision(cublaslt.COMPUTE_32F, cublaslt.R_16F, cublaslt.R_32F),
}
_FLOAT64 = Precision(cublaslt.COMPUTE_64F, cublaslt.R_64F, cublaslt.R_64F, c_double)


class Problem(NamedTuple):
    """What a plan depends on.

    Attributes:
        device: its number.
        precision: of the product.
        matrices: both factors and the result.
        alignments: in bytes, of these and of the vector of an epilogue.
        epilogue: of cublaslt.EPILOGUES.
    """

    device: int
    precision: Precision
    matrices: tuple[Matrix, ...]
    alignments: tuple[int, ...]
    epilogue: str


class Products:
    """The `matmul` of the CuPy backend.

    Args:
        cupy: the module.
        precision: one of PRECISIONS; products of float64 are computed in float64.
    """

    def __init__(self, cupy: Any, precision: str = "float32") -> None:
        self.cupy, self.precision = cupy, PRECISIONS[precision]
        self.to_bfloat16 = cupy.fuse(self._to_bfloat16)
        self.plans: dict[Problem, Plan | None] = {}
        self.unsupported: set[Any] = set()  # products with an epilogue that the library does not do in one
        self.handles: dict[Any, Any] = {}
        self.workspaces: dict[Any, Any] = {}
        self._library: Any = None
        self._lock = Lock()

    @property
    def lt(self) -> Any:
        """cuBLASLt, loaded when the first product is computed."""
        if self._library is None:
            self._library = cublaslt.loaded()
        return self._library

    def __call__(self, a: Array, b: Array, /, *, out: Array = None) -> Array:
        """The product a b, written into `out` where it is given."""
        if not self._supports(a, b):
            return self.cupy.matmul(a, b, out=out)  # no layer needs it; errors are CuPy's own
        if out is None:
            out = self.cupy.empty((a.shape[0], b.shape[1]), dtype=a.dtype)
        self._multiply(a, b, out)
        return out

    def matmul_with_epilogue(self, epilogue: str, a: Array, b: Array, out: Array, vector: Array) -> bool:
        """A product and its epilogue as one kernel; False, and nothing done, where cuBLASLt cannot.

        Args:
            epilogue: 'add' for a bias, 'add maximum' for a bias and ReLU, 'sum' for the sum of b over rows.
            a: the left factor.
            b: the right factor.
            out: where the result goes.
            vector: the bias, or where the sum goes.
        """
        key = (epilogue, a.device.id, a.dtype, a.shape, a.strides, b.shape, b.strides)
        if key in self.unsupported or not self._supports(a, b):
            return False
        if vector.dtype != out.dtype or vector.strides != out.strides[1:]:
            return False
        narrow = self._precision_of(b).operands in (cublaslt.R_16F, cublaslt.R_16BF)
        if epilogue == "sum" and narrow:  # the sum would be of the rounded factor
            return False
        done = self._multiply(a, b, out, epilogue, vector)
        if not done:
            self.unsupported.add(key)
        return done

    def _supports(self, a: Array, b: Array) -> bool:
        same = a.dtype == b.dtype and a.dtype in (self.cupy.float32, self.cupy.float64)
        return bool(same and a.ndim == b.ndim == 2 and a.size and b.size and a.shape[1] == b.shape[0])

    def _precision_of(self, a: Array) -> Precision:
        return self.precision if a.dtype == self.cupy.float32 else _FLOAT64

    def _to_bfloat16(self, bits: Array) -> Array:
        return bfloat16(bits, xp=self.cupy)

    def _operand(self, a: Array, precision: Precision) -> Array:
        """A factor in the type of the operands, one of its axes contiguous."""
        if precision.operands == cublaslt.R_16F:
            return a.astype(self.cupy.float16)
        if precision.operands == cublaslt.R_16BF:  # as bits: CuPy has no such type
            return self.to_bfloat16(a.view(self.cupy.uint32))
        return a if matrix(a) else self.cupy.ascontiguousarray(a)

    def _multiply(self, a: Array, b: Array, out: Array, epilogue: str = "", vector: Array = None) -> bool:
        """C = A B of row-major matrices, as Cᵀ = Bᵀ Aᵀ of column-major ones; False if there is no plan."""
        stream, device, precision = self.cupy.cuda.get_current_stream(), a.device.id, self._precision_of(a)
        a, b = self._operand(a, precision), self._operand(b, precision)
        arrays = b, a, out
        with_vector = arrays if vector is None else (*arrays, vector)
        matrices: tuple[Any, ...] = tuple(map(matrix, arrays))
        problem = Problem(device, precision, matrices, tuple(map(_alignment, with_vector)), epilogue)
        if problem not in self.plans:
            self.plans[problem] = self._plan(problem, stream, vector)
        plan = self.plans[problem]
        if plan is None:
            return False
        handle, workspace = self._handle(device), self._workspace(device, stream)
        with self._lock:  # threads share the descriptor, which holds the address of the vector
            self._set_vector(plan.product, vector)
            status = cublaslt.multiply(self.lt, handle, plan, arrays, workspace, stream)
        if epilogue and status in cublaslt.UNSUPPORTED and not stream.is_capturing():
            return False
        cublaslt.check(status)
        return True

    def _plan(self, problem: Problem, stream: Any, vector: Array) -> Plan | None:
        """Descriptors and algorithm of a product; None where cuBLASLt does not support its epilogue."""
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
        alignments = *of_factors, of_result[0], min(of_result)  # D's is the vector's, too
        algorithm = cublaslt.algorithm(self.lt, self._handle(problem.device), product, layouts, alignments)
        if algorithm is not None:
            return Plan(product, layouts, algorithm, precision.scalar)
        if problem.epilogue:
            return None
        msg = (
            f"cuBLASLt has no algorithm for the product {left.shape} by {right.shape}: "
            "take another precision or batch size"
        )
        raise BackpropError(msg)

    def _set_vector(self, product: Any, vector: Array) -> None:
        if vector is not None:
            cublaslt.set_bias_pointer(self.lt, product, vector.data.ptr)

    def _handle(self, device: int) -> Any:
        """The handle of this thread, on this device."""
        key = (device, get_ident())
        if key not in self.handles:
            self.handles[key] = cublaslt.new_handle(self.lt)
        return self.handles[key]

    def _workspace(self, device: int, stream: Any) -> Any:
        """The workspace of a stream: products that run at the same time must not share one."""
        key = (device, stream.ptr)
        if key not in self.workspaces:
            self.workspaces[key] = self.cupy.cuda.alloc(cublaslt.WORKSPACE_BYTES)
        return self.workspaces[key]


def bfloat16(bits: Array, *, xp: Namespace) -> Array:
    """The upper 16 of the 32 bits of float32, rounded to nearest, ties to even; NaN stays NaN.

    >>> import numpy as np
    >>> numbers = np.asarray([1, -2, 1.00390625, 1.01171875], dtype="float32")
    >>> [hex(bits) for bits in bfloat16(numbers.view("uint32"), xp=np)]
    ['0x3f80', '0xc000', '0x3f80', '0x3f82']
    """
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return xp.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7FC0, rounded).astype(xp.uint16)


def _alignment(a: Array) -> int:
    """The largest power of two that divides the address, within what the library looks at."""
    address = a.data.ptr
    lowest_bit = address & -address
    return min(lowest_bit, cublaslt.WIDEST_ALIGNMENT) if address else cublaslt.WIDEST_ALIGNMENT
