"""Fusion: which operations run together as one kernel.

Three patterns are fused: elementwise operations of one shape; operations that run row by row, with
reductions over the columns; a matrix product with its epilogue. This is decided from the program alone,
so it can be counted and tested without a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import rowwise
from .ir import ASSIGN, ELEMENTWISE, REDUCTIONS, VIEWS, Aliases, Op, Program, Ref, reads, refs
from .kernel import Kernel
from .placement import concat_in_place, conflict, copied_parts, last_uses, write_back
from .simplify import simplify

WRITES_INTO = frozenset({"matmul", "sum", "concat"})  # these can write into memory they are given

Readers = dict[int, list[Op]]


@dataclass(frozen=True)
class Fused:
    """A program as kernels.

    Attributes:
        program: simplified; its state is written back, its slices are placed.
        results: the tree of the results beside the state.
        kernels: in the order they run.
        views: for each view, the operation that makes it.
        aliases: for each value, the one whose memory it is in.
    """

    program: Program
    results: Any
    kernels: tuple[Kernel, ...]
    views: dict[int, Op]
    aliases: Aliases


def fuse(program: Program, donate: int) -> Fused:
    """The kernels of a program of f(*state, …) -> (*new_state, *results).

    Args:
        program: the program.
        donate: how many of its arguments are state.
    """
    program = write_back(simplify(program), donate)
    results = program.outputs[donate:] if donate else program.outputs
    aliases = Aliases(program.ops)
    views = {op.out: op for op in program.ops if op.name in VIEWS}
    ops = _gate_from_output([op for op in program.ops if op.name not in VIEWS], aliases)
    returned = Op("return", tuple(refs(results)), {}, -1)  # the last reader, in no group
    groups = _groups(ops, returned, program, aliases)
    memory = {id(op): _memory_read(op, aliases) for op in (*ops, returned)}
    kernels = [_kernel(group, memory) for group in groups]
    can_write = {op.out for each in kernels if each.kind in WRITES_INTO for op in each.ops}
    program = concat_in_place(program, lambda op: op.name in WRITES_INTO and op.out in can_write)
    kernels = [_without_parts_in_place(kernel, program, aliases) for kernel in kernels]
    return Fused(program, results, _with_ends(kernels, returned, program, aliases), views, aliases)


def _gate_from_output(ops: list[Op], aliases: Aliases) -> list[Op]:
    """Replace net > 0 by o > 0 where o = max(net, 0) is there: then net need not be stored."""
    written = {aliases[op.out] for op in ops if op.inplace}
    outputs: dict[int, int] = {}
    rewritten = []
    for op in ops:
        net = op.args[0].value if _with_zero(op, "maximum", "greater") else None
        if op.name == "greater" and net in outputs:
            rewritten.append(op._replace(args=(Ref(outputs[net]), 0)))
            continue
        if op.name == "maximum" and net is not None and not written & {aliases[net], op.out}:
            outputs[net] = op.out
        rewritten.append(op)
    return rewritten


# ---------------------------------------------------------------- groups
def _groups(ops: list[Op], returned: Op, program: Program, aliases: Aliases) -> list[list[Op]]:
    """Put each operation into the latest group that it fits and may move to, else into a new one."""
    readers: Readers = {}
    for op in (*ops, returned):
        for memory in _memory_read(op, aliases):
            readers.setdefault(memory, []).append(op)
    groups: list[list[Op]] = []
    for op in ops:
        for group in reversed(groups):
            if _fits(group, op, program, aliases, readers):
                group.append(op)
                break
            if conflict(group, op, aliases):
                groups.append([op])
                break
        else:
            groups.append([op])
    return groups


def _fits(group: list[Op], op: Op, program: Program, aliases: Aliases, readers: Readers) -> bool:
    together = [*group, op]
    return (
        _is_epilogue(group, op, program, readers)
        or _are_elementwise(together, program.values, aliases)
        or rowwise.fits(together, program.values, aliases)
    )


def _are_elementwise(ops: list[Op], values: Sequence[Any], aliases: Aliases) -> bool:
    """Whether element i of each result depends only on elements i of the other results."""
    shape = values[ops[0].out].shape
    if not all(_elementwise(op) and values[op.out].shape == shape for op in ops):
        return False
    made = {aliases[op.out]: op.out for op in ops if op.inplace or op is not ops[-1]}
    return all(made.get(aliases[v], v) == v for op in ops for v in reads(op))  # a view would shift elements


def _is_epilogue(group: list[Op], op: Op, program: Program, readers: Readers) -> bool:
    """Whether cuBLASLt may compute `op` with the product that opens the group.

    The epilogue is a bias, the ReLU after a bias, or the sum of the right factor over its rows: where the
    product is the gradient of a weight, that sum is the gradient of the bias.
    """
    product, *between = group
    if product.name != "matmul" or program.values[product.out].ndim != 2 or op.inplace:
        return False
    if _with_zero(op, "maximum"):
        return [each.name for each in between] == ["add"] and op.args[0].value == between[0].out
    if between:
        return False
    if op.name == "sum":
        return op.args == product.args[1:] and op.kw == {"axis": 0}
    return op.name == "add" and op.args[0] == Ref(product.out) and _is_bias(op, program, readers)


def _is_bias(op: Op, program: Program, readers: Readers) -> bool:
    """Whether to add the bias in the product's kernel.

    So it is if only a ReLU follows, or if no operation that follows could be fused with the addition.
    """
    product, bias = op.args
    is_row = isinstance(bias, Ref) and program.values[bias.value].shape == program.values[op.out].shape[1:]
    if not is_row or readers[product.value] != [op]:
        return False
    followers = readers.get(op.out, [])
    if len(followers) == 1 and _with_zero(followers[0], "maximum"):
        return True
    could_add_it = any(_elementwise(each) or each.name in REDUCTIONS for each in followers)
    return not could_add_it


def _elementwise(op: Op) -> bool:
    return op.name in ELEMENTWISE or op.name == ASSIGN


def _with_zero(op: Op, *names: str) -> bool:
    """Whether an operation is one of these, of an array and the constant 0."""
    return op.name in names and isinstance(op.args[0], Ref) and op.args[1] == 0


def _memory_read(op: Op, aliases: Aliases) -> set[int]:
    return {aliases[v] for v in reads(op)}


# ---------------------------------------------------------------- kernels
def _kernel(group: list[Op], memory: dict[int, set[int]]) -> Kernel:
    """A group as a kernel, given the memory that each operation reads."""
    inside = set(map(id, group))
    needed = {m for op, read in memory.items() if op not in inside for m in read}
    made = [op.out for op in group if not op.inplace]
    given = dict.fromkeys(v for op in group for v in reads(op) if v not in made)
    return Kernel(tuple(group), tuple(given), tuple(v for v in made if v in needed))


def _without_parts_in_place(kernel: Kernel, program: Program, aliases: Aliases) -> Kernel:
    """A concatenation reads only the parts that it must copy."""
    if kernel.kind != "concat":
        return kernel
    copied = copied_parts(kernel.ops[0], program, aliases)
    return kernel._replace(reads=tuple(dict.fromkeys(copied.values())))


def _with_ends(kernels: list[Kernel], returned: Op, program: Program, aliases: Aliases) -> tuple[Kernel, ...]:
    """Each kernel with the values that no later one uses."""
    kept = {r.value for r in refs(program.inputs)} | _memory_read(returned, aliases) | {*program.constants}
    ends = last_uses([{aliases[v] for v in (*k.reads, *k.makes)} for k in kernels], kept)
    return tuple(k._replace(ends=tuple(sorted(own))) for k, own in zip(kernels, ends, strict=True))
