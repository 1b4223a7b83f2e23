"""Matrix products by Intel's MKL, where the extra `mkl` is installed and BACKPROP_XP_MKL=1 is set.

On some processors MKL is faster than the BLAS inside NumPy, on others slower: `python -m
benchmarks` tells. It is asked for and not tried out, since its numbers differ in the last bits. It
serves replayed plans alone: their buffers never move, so a product is one foreign call.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

PAYS = 4_000_000  # multiplications in a product; below, NumPy's BLAS has the shorter way in
_ROW_MAJOR, _AS_IS, _TRANSPOSED = 101, 111, 112
_FILES = ("lib/libmkl_rt.so.3", "lib/libmkl_rt.so.2", "Library/bin/mkl_rt.3.dll", "Library/bin/mkl_rt.2.dll")
_INT, _AT = ctypes.c_int, ctypes.c_void_p


@cache
def loaded() -> Any:
    """MKL's single dynamic library, or None where it is not asked for or not installed."""
    if os.environ.get("BACKPROP_XP_MKL") != "1":
        return None
    for file in _FILES:
        path = Path(sys.prefix) / file
        if path.is_file():
            try:
                return ctypes.CDLL(str(path))
            except OSError:
                return None
    return None


def product(a: Any, b: Any, out: Any) -> Callable[[], None] | None:
    """A call that writes the product of two matrices into out, or None where NumPy has to do it."""
    real = {np.dtype(np.float32): ctypes.c_float, np.dtype(np.float64): ctypes.c_double}.get(out.dtype)
    sides = [_side(m) for m in (a, b) if m.ndim == 2 and m.dtype == out.dtype]
    if loaded() is None or real is None or len(sides) < 2 or None in sides or not out.flags.c_contiguous:
        return None
    gemm = getattr(loaded(), "cblas_sgemm" if real is ctypes.c_float else "cblas_dgemm")
    gemm.restype, gemm.argtypes = None, [*(_INT,) * 6, real, _AT, _INT, _AT, _INT, real, _AT, _INT]
    (turn_a, line_a), (turn_b, line_b) = (side for side in sides if side)
    (m, n), k = out.shape, a.shape[1]
    factors = (a.ctypes.data, line_a, b.ctypes.data, line_b)
    return partial(gemm, _ROW_MAJOR, turn_a, turn_b, m, n, k, 1.0, *factors, 0.0, out.ctypes.data, n)


def _side(m: Any) -> tuple[int, int] | None:
    """How a matrix lies in memory, as it is or transposed, and the length of a line."""
    if m.flags.c_contiguous:
        return _AS_IS, m.shape[1]
    return (_TRANSPOSED, m.shape[0]) if m.flags.f_contiguous else None
