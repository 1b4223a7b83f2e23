"""Which operations run row by row, with reductions over the columns, as one kernel.

This is decided from the program alone, for every target that has such kernels: on a GPU the lanes of a warp
share a row; on a CPU each lane of a vector register has a row of its own.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from .ir import ASSIGN, CREATION, OPERATIONS, OTHER, OTHER_ELEMENTWISE, REDUCTIONS, VIEWS, Aliases, Op, reads

WIDEST = 256  # columns: 8 for each lane of a warp, which fit into registers
TYPES = frozenset({"float32", "float64", "int32", "int64", "uint32", "uint8", "int8", "bool"})
OF_FLOATS = frozenset(
    {"exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos", "pow", "isfinite", "isnan", "abs"}
)
COMBINED = {"sum": "add", "mean": "add", "max": "maximum", "min": "minimum"}  # the operations of reductions
# Views are no kernels; created arrays are mostly constants; products, concatenation and gathering do not go
# row by row; C's remainder has another sign than NumPy's; nothing here uses the other functions.
NOT_ROWWISE = (
    VIEWS
    | CREATION
    | OTHER
    | OTHER_ELEMENTWISE
    | {"remainder", "floor_divide", "prod", "all", "any", "argmax", "argmin"}
)
ROWWISE = (OPERATIONS | {ASSIGN}) - NOT_ROWWISE - COMBINED.keys()


def fits(ops: list[Op], values: Sequence[Any], aliases: Aliases) -> bool:
    """Whether operations can be one kernel: no row needs another, except through scalars of the batch."""
    shape = shape_of(ops, values)
    if shape is None or not 1 < shape[1] <= WIDEST or not all(_goes_row_by_row(op, values) for op in ops):
        return False
    made: dict[int, int] = {}  # by memory
    for op in ops:
        out = values[op.out]
        if out.shape not in (shape, (shape[0], 1), shape[:1], ()) or (op.inplace and op.name != ASSIGN):
            return False
        for v in reads(op):
            local = aliases[v] in made
            if local and made[aliases[v]] != v:  # a view of a local
                return False
            if not _is_at_hand(op, values[v], out, shape, local=local):
                return False
        made[aliases[op.out]] = op.out
    return True


def shape_of(ops: Sequence[Op], values: Sequence[Any]) -> tuple[int, int] | None:
    """Rows and columns of the first array that is reduced."""
    for op in ops:
        if op.name in REDUCTIONS and values[op.args[0].value].ndim == 2:
            return values[op.args[0].value].shape  # type: ignore[no-any-return]
    return None


def _is_at_hand(op: Op, source: Any, out: Any, shape: tuple[int, int], *, local: bool) -> bool:
    """Whether the lanes of a row (for a scalar, the last block) have what `out` needs of `source`.

    Args:
        op: the operation.
        source: one of its arguments.
        out: its result.
        shape: rows and columns of the kernel.
        local: whether the kernel has computed `source`.
    """
    if op.name in REDUCTIONS:
        if out.ndim:
            return op.kw.get("axis") in (-1, 1) and bool(source.shape == shape)
        return local and COMBINED[op.name] == "add" and source.shape in (shape[:1], (shape[0], 1))
    return not local or bool(source.ndim == out.ndim)


def _goes_row_by_row(op: Op, values: Sequence[Any]) -> bool:
    """Whether an operation can be part of such a kernel, for these types."""
    types: list[np.dtype[Any]] = [values[v].dtype for v in (op.out, *reads(op))]
    if not all(dtype.name in TYPES for dtype in types):
        return False
    if any(isinstance(a, float) and not isfinite(a) for a in op.args):
        return False
    if op.name in REDUCTIONS:
        return op.name in COMBINED and op.kw.keys() <= {"axis", "keepdims"} and types[0].kind == "f"
    if op.name in OF_FLOATS:
        return types[-1].kind == "f"
    return op.name in ROWWISE
