"""Matrix products by cuBLASLt, which a CUDA graph can capture; CuPy refuses its own under capture.

Called through ctypes: eleven functions, so that what is handed to the library can be tested without
a GPU. A product is planned once for its shapes, before capture, since the library may not choose an
algorithm while a stream is capturing.
"""

import ctypes as c
from importlib import import_module
from threading import Lock, get_ident
from typing import Any, NamedTuple

from ...arrays import Array, Namespace
from ...errors import BackpropError, unavailable

_WORKSPACE = 32 << 20  # bytes: what cuBLAS itself takes on Hopper
_TRANSPOSE_A, _TRANSPOSE_B, _EPILOGUE, _VECTOR = 3, 4, 7, 8  # of cublasLtMatmulDescAttributes_t
EPILOGUES = {"": 1, "add": 4, "add maximum": 6, "sum": 256}  # of cublasLtEpilogue_t; the sum is BGRADA
_WORKSPACE_BYTES, _ALIGNMENT_OF_A = 1, 5  # of cublasLtMatmulPreferenceAttributes_t; B, C, D follow A
_WIDEST = 256  # bytes: the alignment that the library takes for granted
_STATUS = {1: "not initialized", 3: "out of memory", 7: "invalid value", 8: "architecture mismatch",
           13: "execution failed", 14: "internal error", 15: "not supported"}  # fmt: skip
_CANNOT = (7, 15)
_32F, _64F, _16F, _16BF = 0, 1, 2, 14  # of cudaDataType_t


class Precision(NamedTuple):
    """How a product is computed.

    Attributes:
        compute: of cublasComputeType_t.
        operands: of cudaDataType_t.
        result: likewise; also that of the factors.
        factor: their ctype.
    """

    compute: int
    operands: int
    result: int
    factor: Any = c.c_float


def bfloat16(bits: Array, *, xp: Namespace) -> Array:
    """The upper 16 of the 32 bits of float32, rounded to nearest, ties to even; NaN stays NaN.

    >>> import numpy as np
    >>> numbers = np.asarray([1, -2, 1.00390625, 1.01171875], dtype="float32")
    >>> [hex(bits) for bits in bfloat16(numbers.view("uint32"), xp=np)]
    ['0x3f80', '0xc000', '0x3f80', '0x3f82']
    """
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return xp.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7FC0, rounded).astype(xp.uint16)


_DOUBLE = Precision(70, _64F, _64F, c.c_double)
PRECISIONS = {
    "float32": Precision(68, _32F, _32F),
    "tf32": Precision(77, _32F, _32F),
    "bfloat16": Precision(68, _16BF, _32F),
    "float16": Precision(68, _16F, _32F),
}


class Matrix(NamedTuple):
    """A row-major array, or the transposed view of one, as the column-major matrix of its transpose.

    Attributes:
        rows: of the matrix in memory.
        columns: likewise.
        leading: elements from one column to the next.
        transposed: whether the array is a transposed view.
    """

    rows: int
    columns: int
    leading: int
    transposed: bool


def matrix(a: Array) -> Matrix | None:
    """What cuBLASLt needs to know of a 2-D array; None where neither axis is contiguous."""
    (m, n), (down, along) = a.shape, (s // a.dtype.itemsize for s in a.strides)
    if (along == 1 or n == 1) and (down >= n or m == 1):
        return Matrix(n, m, down if m > 1 else n, transposed=False)
    if (down == 1 or m == 1) and (along >= m or n == 1):
        return Matrix(m, n, along if n > 1 else m, transposed=True)
    return None


class MatmulPlan(NamedTuple):
    """A product that was prepared; its descriptors live as long as the process."""

    product: Any
    layouts: tuple[Any, Any, Any]
    algorithm: Any


def loaded() -> Any:
    """The cuBLASLt of CUDA.

    Raises:
        BackendUnavailable: it is not installed.
    """
    try:
        pathfinder = import_module("cuda.pathfinder")
        return c.CDLL(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path)
    except (ImportError, RuntimeError, OSError) as error:
        reason = f"was not found ({error})"
        raise unavailable(library="cuBLASLt", extra="cuda12", reason=reason) from error


class Products:
    """The `matmul` of the CuPy backend.

    Args:
        cupy: the module.
        precision: one of PRECISIONS; products of float64 are computed in float64.
    """

    def __init__(self, cupy: Any, precision: str = "float32") -> None:
        self.cupy, self.precision = cupy, PRECISIONS[precision]
        self.rounded = cupy.fuse(self._rounded)
        self.plans: dict[Any, MatmulPlan | None] = {}
        self.refused: set[Any] = set()
        self.handles: dict[Any, Any] = {}
        self.workspaces: dict[Any, Any] = {}
        self._library: Any = None
        self._lock = Lock()

    @property
    def lt(self) -> Any:
        """The library, loaded when the first product is met."""
        if self._library is None:
            self._library = loaded()
        return self._library

    def __call__(self, a: Array, b: Array, /, *, out: Array = None) -> Array:
        """The product a b, written into `out` where it is given."""
        if not self._suits(a, b):
            return self.cupy.matmul(a, b, out=out)  # with CuPy's own errors; no layer asks for it
        if out is None:
            out = self.cupy.empty((a.shape[0], b.shape[1]), dtype=a.dtype)
        self._multiply(a, b, out)
        return out

    def matmul_with_epilogue(self, names: str, a: Array, b: Array, out: Array, vector: Array) -> bool:
        """A product that takes along what follows it, where the library can do that: whether it was done.

        Args:
            names: one of EPILOGUES: a bias is added, then negative numbers become 0, or b is summed
                over its rows.
            a: the left factor.
            b: the right one.
            out: where the result goes.
            vector: the bias, or where the sum goes.
        """
        key = (names, a.device.id, a.dtype, a.shape, a.strides, b.shape, b.strides)
        if key in self.refused or not (self._suits(a, b) and vector.dtype == out.dtype):
            return False
        if vector.strides != out.strides[1:] or (names == "sum" and self._how(b).operands in (_16F, _16BF)):
            return False  # factors are rounded to 16 bits; sums are of all digits
        done = self._multiply(a, b, out, names, vector)
        if not done:
            self.refused.add(key)
        return done

    def _suits(self, a: Array, b: Array) -> bool:
        same = a.dtype == b.dtype and a.dtype in (self.cupy.float32, self.cupy.float64)
        return bool(same and a.ndim == b.ndim == 2 and a.size and b.size and a.shape[1] == b.shape[0])

    def _how(self, a: Array) -> Precision:
        return self.precision if a.dtype == self.cupy.float32 else _DOUBLE

    def _rounded(self, bits: Array) -> Array:
        return bfloat16(bits, xp=self.cupy)

    def _operand(self, a: Array, how: Precision) -> Array:
        """A factor of a product in the type in which it is multiplied, one of its axes contiguous."""
        if how.operands == _16F:
            return a.astype(self.cupy.float16)
        if how.operands == _16BF:  # as bits: the array library has no such type
            return self.rounded(a.view(self.cupy.uint32))
        return a if matrix(a) else self.cupy.ascontiguousarray(a)

    def _multiply(self, a: Array, b: Array, out: Array, names: str = "", vector: Array = None) -> bool:
        """C = A B of row-major matrices, computed as Cᵀ = Bᵀ Aᵀ of column-major ones."""
        stream, device, how = self.cupy.cuda.get_current_stream(), a.device.id, self._how(a)
        a, b = self._operand(a, how), self._operand(b, how)
        arrays, matrices = (b, a, out), tuple(map(matrix, (b, a, out)))
        aligned = tuple(map(_alignment, arrays if vector is None else (*arrays, vector)))
        key = (device, how.compute, how.operands, matrices, aligned, names)
        if key not in self.plans:
            self.plans[key] = self._planned(key, how, stream, vector)
        plan = self.plans[key]
        if plan is None:
            return False
        handle, room = self._handle(device), self._workspace(device, stream)
        pointers = [c.c_void_p(each.data.ptr) for each in arrays]
        one, zero = how.factor(1), how.factor(0)
        with self._lock:  # the address of the vector is read from the plan, which threads share
            self._point(plan.product, vector)
            status = self.lt.cublasLtMatmul(
                handle, plan.product, c.byref(one), pointers[0], plan.layouts[0], pointers[1],
                plan.layouts[1], c.byref(zero), pointers[2], plan.layouts[2], pointers[2], plan.layouts[2],
                plan.algorithm, c.c_void_p(room.ptr), c.c_size_t(_WORKSPACE), c.c_void_p(stream.ptr),
            )  # fmt: skip
        if names and status in _CANNOT and not stream.is_capturing():
            return False
        _ok(status)
        return True

    def _point(self, product: Any, vector: Array) -> None:
        if vector is not None:
            _set(self.lt.cublasLtMatmulDescSetAttribute, product, _VECTOR, c.c_void_p(vector.data.ptr))

    def _handle(self, device: int) -> Any:
        """The library's handle for this thread."""
        key = (device, get_ident())
        if key not in self.handles:
            self.handles[key] = _new(self.lt.cublasLtCreate)
        return self.handles[key]

    def _workspace(self, device: int, stream: Any) -> Any:
        """Scratch memory of a stream: two products at a time must not share it."""
        key = (device, stream.ptr)
        if key not in self.workspaces:
            self.workspaces[key] = self.cupy.cuda.alloc(_WORKSPACE)
        return self.workspaces[key]

    # ------------------------------------------------------------ plans
    def _planned(self, key: Any, how: Precision, stream: Any, vector: Array) -> MatmulPlan | None:
        """Descriptors and algorithm for a product; None where it cannot take along what follows it."""
        device, _, _, matrices, alignments, names = key
        shapes = " by ".join(str((m.columns, m.rows)[:: -1 if m.transposed else 1]) for m in matrices[1::-1])
        if stream.is_capturing():
            msg = f"the product {shapes} was not planned before capture: run the step once as it is first"
            raise RuntimeError(msg)
        product = _new(self.lt.cublasLtMatmulDescCreate, c.c_int(how.compute), c.c_int(how.result))
        setter = self.lt.cublasLtMatmulDescSetAttribute
        for attribute, m in zip((_TRANSPOSE_A, _TRANSPOSE_B), matrices, strict=False):
            _set(setter, product, attribute, c.c_int32(m.transposed))
        _set(setter, product, _EPILOGUE, c.c_uint32(EPILOGUES[names]))
        self._point(product, vector)
        kinds = (how.operands, how.operands, how.result)
        layouts = tuple(
            _new(self.lt.cublasLtMatrixLayoutCreate, c.c_int(kind), c.c_uint64(m.rows), c.c_uint64(m.columns),
                 c.c_int64(m.leading)) for m, kind in zip(matrices, kinds, strict=True)
        )  # fmt: skip
        algorithm = self._algorithm(device, product, layouts, alignments)
        if algorithm is not None:
            return MatmulPlan(product, layouts, algorithm)
        if names:
            return None
        msg = f"cuBLASLt has no algorithm for the product {shapes}: take another precision or batch size"
        raise BackpropError(msg)

    def _algorithm(self, device: int, product: Any, layouts: Any, alignments: tuple[int, ...]) -> Any:
        """The library's first choice, None if it has none."""
        preference = _new(self.lt.cublasLtMatmulPreferenceCreate)
        setter = self.lt.cublasLtMatmulPreferenceSetAttribute
        _set(setter, preference, _WORKSPACE_BYTES, c.c_size_t(_WORKSPACE))
        for k, bytes_ in enumerate((*alignments[:3], min(alignments[2:]))):  # D's speaks for the vector too
            _set(setter, preference, _ALIGNMENT_OF_A + k, c.c_uint32(bytes_))
        found, count = (c.c_uint64 * 12)(), c.c_int()  # a result of 96 bytes begins with the algorithm
        status = self.lt.cublasLtMatmulAlgoGetHeuristic(
            self._handle(device),
            product,
            *layouts,
            layouts[-1],
            preference,
            c.c_int(1),
            found,
            c.byref(count),
        )
        self.lt.cublasLtMatmulPreferenceDestroy(preference)
        if status not in _CANNOT:
            _ok(status)
        return found if status == 0 and count.value else None


def _alignment(a: Array) -> int:
    address = a.data.ptr
    return min(address & -address, _WIDEST) if address else _WIDEST


def _ok(status: int) -> None:
    if status:
        msg = f"cuBLASLt failed: {_STATUS.get(status, 'status')} ({status})"
        raise RuntimeError(msg)


def _new(function: Any, *args: Any) -> Any:
    """A new object of the library, made by create(&object, ...)."""
    made = c.c_void_p()
    _ok(function(c.byref(made), *args))
    return made


def _set(setter: Any, of: Any, attribute: int, value: Any) -> None:
    _ok(setter(of, c.c_int(attribute), c.byref(value), c.c_size_t(c.sizeof(value))))
