"""Fusion: operations become kernels, and results land where they belong.

One kernel are elementwise operations of one shape; operations that run row by row, sums over columns
among them; and a product with its epilogue: the bias and the ReLU behind it, or the sum of its right
factor, which is the bias gradient beside a weight's. This is decided from the program alone, so that
it can be counted and tested without a device.
"""

from typing import NamedTuple

from ..ir import ASSIGN, ELEMENTWISE, REDUCTIONS, VIEWS, Aliases, Op, Program, Ref, reads, refs
from ..placement import concat_in_place, conflict, copied_parts, last_uses, write_back
from ..simplify import simplify
from . import row_kernel

WRITES_INTO = frozenset({"matmul", "sum", "concat"})  # can write into memory they are given


class Kernel(NamedTuple):
    """What runs as one kernel: operations that are fused, or a single other operation.

    Attributes:
        ops: in order.
        reads: the values they need from outside.
        makes: the values they make for others.
        ends: the values whose memory nobody needs after this kernel.
    """

    ops: tuple[Op, ...]
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    ends: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """'elementwise', 'rows', or the operation it begins with: 'matmul', 'concat' or one alone."""
        first = self.ops[0].name
        if first in ("matmul", "concat") or (len(self.ops) == 1 and first not in ELEMENTWISE):
            return first
        return "rows" if any(op.name in REDUCTIONS for op in self.ops) else "elementwise"

    def parts(self) -> "tuple[Kernel, Kernel]":
        """A product, and its epilogue, as kernels of their own."""
        product, *rest = self.ops
        within = {op.out for op in rest}
        needed = [v for op in rest for v in reads(op) if v not in within]
        made = (product.out,)
        return (
            Kernel((product,), tuple(reads(product)), made),
            Kernel(tuple(rest), tuple(dict.fromkeys(needed)), tuple(v for v in self.makes if v not in made)),
        )


class Fused:
    """The kernels of a program of step(w, s, x, t) -> (w, s, loss).

    Args:
        program: of the step; its new state is written back into the old.

    Attributes:
        kernels: in order.
        program: simplified and placed.
        views: of each view the operation that makes it.
        aliases: which memory each value lies in.
        state: the numbers of w and the leaves of s.
        batch: those of x and t.
        loss: that of the loss.
    """

    def __init__(self, program: Program) -> None:
        program = write_back(simplify(program), donated=2)
        self.views = {op.out: op for op in program.ops if op.name in VIEWS}
        self.aliases, self.values = Aliases(program.ops), program.values
        self.state = [r.value for r in refs(program.inputs[:2])]
        self.batch = [r.value for r in refs(program.inputs[2:])]
        self.loss = program.outputs[2].value
        ops = self._gate_from_output([op for op in program.ops if op.name not in VIEWS])
        kernels = [self._kernel(group, ops) for group in self._grouped(ops)]
        alone = {op.out for each in kernels if each.kind in WRITES_INTO for op in each.ops}
        self.program = concat_in_place(program, lambda op: op.name in WRITES_INTO and op.out in alone)
        self.kernels = self._with_ends([self._with_copies(kernel) for kernel in kernels])

    # ------------------------------------------------------------ grouping
    def _gate_from_output(self, ops: list[Op]) -> list[Op]:
        """Where max(net, 0) > 0 there net > 0: a gate that is open above 0 reads o, and nobody needs net."""
        changed = {self.aliases[op.out] for op in ops if op.inplace}
        outputs: dict[int, int] = {}
        told = []
        for op in ops:
            net = op.args[0].value if _with_zero(op, "maximum", "greater") else -1
            if op.name == "greater" and net in outputs:
                told.append(op._replace(args=(Ref(outputs[net]), 0)))
                continue
            if op.name == "maximum" and net >= 0 and not changed & {self.aliases[net], op.out}:
                outputs[net] = op.out
            told.append(op)
        return told

    def _memory(self, op: Op) -> set[int]:
        """The memory an operation reads."""
        return {self.aliases[v] for v in reads(op)}

    def _grouped(self, ops: list[Op]) -> list[list[Op]]:
        """Each operation in the latest group that it fits into, if none behind that one holds it."""
        groups: list[list[Op]] = []
        readers: dict[int, list[Op]] = {}
        for op in ops:
            for root in self._memory(op):
                readers.setdefault(root, []).append(op)
        for op in ops:
            for group in reversed(groups):
                together = [*group, op]
                if (
                    self._follows(together, readers)
                    or self._elementwise(together)
                    or row_kernel.fits(together, self.values, self.aliases)
                ):
                    group.append(op)
                    break
                if conflict(group, op, self.aliases):
                    groups.append([op])
                    break
            else:
                groups.append([op])
        return groups

    def _elementwise(self, together: list[Op]) -> bool:
        """Whether element i of all of them depends on elements i of what they share."""
        shape = self.values[together[0].out].shape
        if not all(_fusable(op) and self.values[op.out].shape == shape for op in together):
            return False
        whole = {self.aliases[g.out]: g.out for g in together if g.inplace or g is not together[-1]}
        return all(whole.get(self.aliases[v], v) == v for g in together for v in reads(g))

    def _follows(self, together: list[Op], readers: dict[int, list[Op]]) -> bool:
        """Whether a product takes the last operation along: the sum of its right factor, its bias, ReLU."""
        product, *between, op = together
        if product.name != "matmul" or self.values[product.out].ndim != 2 or op.inplace:
            return False
        if _with_zero(op, "maximum"):
            return [each.name for each in between] == ["add"] and op.args[0].value == between[0].out
        if between:
            return False
        if op.name == "sum":
            return op.args == product.args[1:] and op.kw == {"axis": 0}
        return op.name == "add" and op.args[0] == Ref(product.out) and self._is_bias(op, readers)

    def _is_bias(self, op: Op, readers: dict[int, list[Op]]) -> bool:
        """Whether the product should add this: only ReLU comes behind, or nothing that adds it in passing."""
        net, bias = op.args
        width, behind = self.values[op.out].shape[1:], readers.get(op.out, [])
        if not isinstance(bias, Ref) or self.values[bias.value].shape != width or readers[net.value] != [op]:
            return False
        if len(behind) == 1 and _with_zero(behind[0], "maximum"):
            return True
        return op.out != self.loss and not any(_fusable(each) or each.name in REDUCTIONS for each in behind)

    def _kernel(self, group: list[Op], ops: list[Op]) -> Kernel:
        inside = set(map(id, group))
        outer = [op for op in ops if id(op) not in inside]
        needed = set().union(*map(self._memory, outer)) | {self.aliases[self.loss]}
        fresh = [op.out for op in group if not op.inplace]
        given = [v for op in group for v in reads(op) if v not in fresh]
        return Kernel(tuple(group), tuple(dict.fromkeys(given)), tuple(v for v in fresh if v in needed))

    # ------------------------------------------------------------ memory
    def copied_parts(self, op: Op) -> dict[int, int]:
        """The parts of a joined vector that are not computed inside it, by where they begin."""
        return copied_parts(op, self.program, self.aliases)

    def _with_copies(self, kernel: Kernel) -> Kernel:
        """Joining reads only what is not in its place."""
        if kernel.kind != "concat":
            return kernel
        return kernel._replace(reads=tuple(dict.fromkeys(self.copied_parts(kernel.ops[0]).values())))

    def _with_ends(self, kernels: list[Kernel]) -> list[Kernel]:
        """Each kernel with the values that end with it."""
        kept = {*self.state, *self.batch, self.aliases[self.loss], *self.program.constants}
        ends = last_uses([{self.aliases[v] for v in (*k.reads, *k.makes)} for k in kernels], kept)
        return [k._replace(ends=tuple(sorted(own))) for k, own in zip(kernels, ends, strict=True)]


def _fusable(op: Op) -> bool:
    return op.name in ELEMENTWISE or op.name == ASSIGN


def _with_zero(op: Op, *names: str) -> bool:
    """Whether an operation is one of these, of an array and the constant 0."""
    return op.name in names and isinstance(op.args[0], Ref) and op.args[1] == 0
