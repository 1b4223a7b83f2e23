"""A kernel: operations that run as one."""

from typing import NamedTuple

from .ir import ELEMENTWISE, REDUCTIONS, Op, reads


class Kernel(NamedTuple):
    """Operations that run as one kernel.

    Attributes:
        ops: in order.
        reads: the values it is given.
        makes: the values it computes for other kernels.
        ends: the values that no later kernel uses.
    """

    ops: tuple[Op, ...]
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    ends: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """'elementwise', 'rows', 'matmul', or the name of the single operation it is."""
        first = self.ops[0].name
        if first == "matmul" or (len(self.ops) == 1 and first not in ELEMENTWISE):
            return first
        return "rows" if any(op.name in REDUCTIONS for op in self.ops) else "elementwise"

    def split_epilogue(self) -> "tuple[Kernel, Kernel]":
        """The product and its epilogue as two kernels."""
        product, *epilogue = self.ops
        inside = {op.out for op in epilogue}
        needed = dict.fromkeys(v for op in epilogue for v in reads(op) if v not in inside)
        made = tuple(v for v in self.makes if v != product.out)
        return (
            Kernel((product,), tuple(reads(product)), (product.out,)),
            Kernel(tuple(epilogue), tuple(needed), made),
        )
