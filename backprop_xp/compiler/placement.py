"""Placement: new state is stored over the old state, parts of a vector are computed inside it.

The CPU and the CUDA target use these passes. Memory is identified by the value that owns it, see
`ir.Aliases`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from .ir import ASSIGN, VIEWS, Aliases, Op, Program, Ref, Slice, mapped, reads, refs

_STATE = ("state", "the new written over the old")


def write_back(program: Program, donated: int) -> Program:
    """Assign the first outputs to the first inputs, each as soon as the old value is no longer read.

    Args:
        program: the program of a function whose first results replace its first arguments.
        donated: how many arguments are replaced.
    """
    old = [ref.value for ref in refs(program.inputs[:donated])]
    new = [ref.value for ref in refs(program.outputs[:donated])] if donated else []
    ops, values, aliases = list(program.ops), list(program.values), Aliases(program.ops)
    pairs = [(mine, other) for mine, other in zip(old, new, strict=True) if aliases[other] != mine]
    for k, (mine, other) in enumerate(pairs):
        if aliases[other] in old:  # two states that are swapped
            values.append(values[other])
            pairs[k] = mine, len(values) - 1
            ops.append(Op("astype", (Ref(other), values[other].dtype), {}, pairs[k][1], origin=_STATE))
    taken, outputs = {mine for mine, _ in pairs}, program.outputs

    def kept(ref: Ref) -> Ref:
        """The result; a copy of it where it is old state, which is about to be overwritten."""
        if aliases[ref.value] not in taken:
            return ref
        values.append(values[ref.value])
        ops.append(Op("astype", (ref, values[ref.value].dtype), {}, len(values) - 1, origin=_STATE))
        return Ref(len(values) - 1)

    if taken:
        outputs = (*outputs[:donated], *mapped(outputs[donated:], kept))
    for mine, other in pairs:
        assign = Op(ASSIGN, (Ref(mine), Ref(other)), {}, mine, inplace=True, origin=_STATE)
        last = max((k for k, op in enumerate(ops) if conflict([op], assign, aliases)), default=-1)
        ops.insert(last + 1, assign)
    return replace(program, ops=tuple(ops), values=tuple(values), outputs=outputs)


def conflict(group: Iterable[Op], op: Op, aliases: Aliases) -> bool:
    """Whether an operation depends on a group: it reads what the group writes, or writes what it touches."""
    made = {aliases[g.out] for g in group}
    touched = {aliases[v] for g in group for v in reads(g)}
    mine = {aliases[v] for v in reads(op)}
    writes = {aliases[op.out]} if op.inplace else set()
    return bool(made & (mine | writes) or writes & touched)


def concat_in_place(program: Program, can_write: Callable[[Op], bool]) -> Program:
    """Compute the parts of a concatenated vector inside it, if the operations that make them can write there.

    Args:
        program: the program.
        can_write: whether an operation can write into given memory.
    """
    aliases, slices = Aliases(program.ops), dict(program.slices)
    written = {aliases[op.out] for op in program.ops if op.inplace}  # perhaps after the concatenation
    makers = {op.out for op in program.ops if op.name not in VIEWS and can_write(op)} - written
    for op in program.ops:
        if op.name == "concat" and program.values[op.out].ndim == 1 and op.out not in written:
            for part, start in _parts(op, program):
                owner = aliases[part]
                like, whole = program.values[owner], program.values[op.out]
                fits = like.size == program.values[part].size and like.dtype == whole.dtype
                if fits and owner in makers and owner not in slices:
                    slices[owner] = Slice(op.out, start)
    return replace(program, slices=slices)


def copied_parts(op: Op, program: Program, aliases: Aliases) -> dict[int, int]:
    """The parts of a concatenated vector that are not computed inside it, keyed by where they begin."""
    return {
        start: part
        for part, start in _parts(op, program)
        if program.slices.get(aliases[part]) != Slice(op.out, start)
    }


def _parts(op: Op, program: Program) -> Iterator[tuple[int, int]]:
    """The parts of a concatenated vector, each with where it begins."""
    start = 0
    for part in op.args[0]:
        yield part.value, start
        start += program.values[part.value].size


def last_uses(touched: Sequence[Iterable[int]], kept: Iterable[int] = ()) -> list[set[int]]:
    """For each unit of work, the memory that no later one reads or writes.

    >>> last_uses([{1, 2}, {2, 3}, {3}], kept={3})
    [{1}, {2}, set()]
    """
    seen, found = set(kept), []
    for each in reversed(touched):
        found.append(set(each) - seen)
        seen |= found[-1]
    return found[::-1]
