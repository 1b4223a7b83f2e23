"""A thin binding of cuBLASLt by ctypes: eleven functions, and the constants they take.

It makes no choices; `products` does. With ctypes, the arguments can be tested without a GPU.
"""

import ctypes as c
import logging
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from ...arrays import Array
from ...errors import BackendUnavailable, how_to_install

WORKSPACE_BYTES = 32 << 20  # what cuBLAS itself takes on Hopper
ALGORITHMS = 8  # how many the heuristic is asked for
WIDEST_ALIGNMENT = 256  # bytes: the alignment that the library assumes by default
_INVALID, _UNSUPPORTED = 7, 15  # of cublasStatus_t: either means "not supported"
_OUT_OF_MEMORY = 3
SUMS_OF_ONE_ROW = 120304  # the version from which BGRADA is right for one row
R_32F, R_64F, R_16F, R_16BF = 0, 1, 2, 14  # of cudaDataType_t
COMPUTE_32F, COMPUTE_64F, COMPUTE_TF32 = 68, 70, 77  # of cublasComputeType_t
EPILOGUES = {  # of cublasLtEpilogue_t, by the operations they do
    "": 1,
    "add": 4,  # BIAS
    "add maximum": 6,  # RELU_BIAS
    "sum": 256,  # BGRADA: the sum of the library's left factor, which is our right one
}
_TRANSPOSE_A, _TRANSPOSE_B, _EPILOGUE, _BIAS_POINTER = 3, 4, 7, 8  # of cublasLtMatmulDescAttributes_t
_MAX_WORKSPACE, _ALIGNMENT_OF_A = 1, 5  # of cublasLtMatmulPreferenceAttributes_t; B, C and D follow A
_LOG = logging.getLogger(__name__)
_STATUS = {1: "not initialized", 3: "out of memory", 7: "invalid value", 8: "architecture mismatch",
           13: "execution failed", 14: "internal error", 15: "not supported"}  # fmt: skip


class OutOfMemory(RuntimeError):
    """The library found no memory on the device."""


class Precision(NamedTuple):
    """The types of a product.

    Attributes:
        compute: the type of the arithmetic, a cublasComputeType_t.
        operands: the type of both factors, a cudaDataType_t.
        result: the type of the result and of the scalars alpha and beta, likewise.
        scalar: the ctype of alpha and beta.
    """

    compute: int
    operands: int
    result: int
    scalar: Any = c.c_float


class Matrix(NamedTuple):
    """A row-major array, or the transposed view of one, as the column-major matrix of its transpose.

    Attributes:
        rows: of the column-major matrix in memory.
        columns: likewise.
        leading: the leading dimension: elements from one column to the next.
        transposed: whether the array is a transposed view.
    """

    rows: int
    columns: int
    leading: int
    transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the array."""
        return (self.rows, self.columns) if self.transposed else (self.columns, self.rows)


class Plan(NamedTuple):
    """A planned product; its descriptors live as long as the process.

    Attributes:
        product: its descriptor.
        layouts: of A, B and C.
        algorithm: one of those that the heuristic offered.
        scalar: the ctype of alpha and beta.
    """

    product: Any
    layouts: tuple[Any, ...]
    algorithm: Any
    scalar: Any


def matrix(a: Array) -> Matrix | None:
    """A 2-D array as cuBLASLt describes it; None where neither axis is contiguous."""
    m, n = a.shape
    to_next_row, to_next_column = (stride // a.dtype.itemsize for stride in a.strides)
    if (to_next_column == 1 or n == 1) and (to_next_row >= n or m == 1):
        return Matrix(n, m, to_next_row if m > 1 else n, transposed=False)
    if (to_next_row == 1 or m == 1) and (to_next_column >= m or n == 1):
        return Matrix(m, n, to_next_column if n > 1 else m, transposed=True)
    return None


def loaded() -> Any:
    """The cuBLASLt library of CUDA.

    Raises:
        BackendUnavailable: it is not installed.
    """
    try:
        pathfinder = import_module("cuda.pathfinder")
        return c.CDLL(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path)
    except (ImportError, RuntimeError, OSError) as error:
        msg = f"cuBLASLt was not found ({error}): {how_to_install('cuda12')}"
        raise BackendUnavailable(msg) from error


def check(status: int) -> None:
    """Raise the error of a status, if it is one."""
    if status:
        msg = f"cuBLASLt failed: {_STATUS.get(status, 'status')} ({status})"
        raise OutOfMemory(msg) if status == _OUT_OF_MEMORY else RuntimeError(msg)


def refused(status: int, what: object) -> bool:
    """Whether a status says that something is not supported, which is logged; other errors are raised.

    "Invalid value" may also be an error of ours, so it is logged as a warning.
    """
    if status not in (_INVALID, _UNSUPPORTED):
        check(status)
        return False
    _LOG.log(
        logging.WARNING if status == _INVALID else logging.INFO, "cuBLASLt: %s: %s", _STATUS[status], what
    )
    return True


def new_handle(lt: Any) -> Any:
    """A handle of the library, for the current device."""
    return _new(lt.cublasLtCreate)


def new_product(lt: Any, precision: Precision, factors: Sequence[Matrix], epilogue: str) -> Any:
    """The descriptor of a product."""
    product = _new(lt.cublasLtMatmulDescCreate, c.c_int(precision.compute), c.c_int(precision.result))
    setter = lt.cublasLtMatmulDescSetAttribute
    for attribute, factor in zip((_TRANSPOSE_A, _TRANSPOSE_B), factors, strict=True):
        _set(setter, product, attribute, c.c_int32(factor.transposed))
    _set(setter, product, _EPILOGUE, c.c_uint32(EPILOGUES[epilogue]))
    return product


def set_bias_pointer(lt: Any, product: Any, address: int) -> None:
    """Set where a product with an epilogue reads the bias, or writes the sum."""
    _set(lt.cublasLtMatmulDescSetAttribute, product, _BIAS_POINTER, c.c_void_p(address))


def new_layout(lt: Any, kind: int, m: Matrix) -> Any:
    """The layout of a matrix in memory; `kind` is the cudaDataType_t of its elements."""
    numbers = c.c_int(kind), c.c_uint64(m.rows), c.c_uint64(m.columns), c.c_int64(m.leading)
    return _new(lt.cublasLtMatrixLayoutCreate, *numbers)


def algorithms(
    lt: Any, handle: Any, product: Any, layouts: Sequence[Any], alignments: Sequence[int], what: object
) -> list[Any]:
    """The algorithms that the library's heuristic offers, by its estimate the fastest first; maybe none.

    Args:
        lt: the library.
        handle: its handle.
        product: the descriptor of the product.
        layouts: those of A, B and C; D is C.
        alignments: those of A, B, C and D, in bytes.
        what: the product, for the log.
    """
    preference = _new(lt.cublasLtMatmulPreferenceCreate)
    setter = lt.cublasLtMatmulPreferenceSetAttribute
    _set(setter, preference, _MAX_WORKSPACE, c.c_size_t(WORKSPACE_BYTES))
    for k, alignment in enumerate(alignments):
        _set(setter, preference, _ALIGNMENT_OF_A + k, c.c_uint32(alignment))
    results, count = (c.c_uint64 * 12 * ALGORITHMS)(), c.c_int()  # 96 bytes each; the algorithm comes first
    status = lt.cublasLtMatmulAlgoGetHeuristic(
        handle, product, *layouts, layouts[-1], preference, c.c_int(ALGORITHMS), results, c.byref(count)
    )
    lt.cublasLtMatmulPreferenceDestroy(preference)
    return [] if refused(status, what) else [results[k] for k in range(count.value)]


def multiply(lt: Any, handle: Any, plan: Plan, arrays: Sequence[Array], workspace: Any, stream: Any) -> int:
    """Enqueue a product, D = 1·A B + 0·C, where D is C; return the status.

    Args:
        lt: the library.
        handle: its handle.
        plan: the plan of the product.
        arrays: A, B and C.
        workspace: memory of WORKSPACE_BYTES.
        stream: CuPy's.
    """
    one, zero = plan.scalar(1), plan.scalar(0)
    a, b, out = (c.c_void_p(each.data.ptr) for each in arrays)
    of_a, of_b, of_out = plan.layouts
    status: int = lt.cublasLtMatmul(
        handle, plan.product, c.byref(one), a, of_a, b, of_b, c.byref(zero), out, of_out, out, of_out,
        plan.algorithm, c.c_void_p(workspace.ptr), c.c_size_t(WORKSPACE_BYTES), c.c_void_p(stream.ptr),
    )  # fmt: skip
    return status


def _new(create: Any, *args: Any) -> Any:
    """A new object of the library, made by create(&object, ...)."""
    made = c.c_void_p()
    check(create(c.byref(made), *args))
    return made


def _set(setter: Any, descriptor: Any, attribute: int, value: Any) -> None:
    check(setter(descriptor, c.c_int(attribute), c.byref(value), c.c_size_t(c.sizeof(value))))
