"""Simplification: common subexpressions, constant folding, dead code. Passes are Program -> Program."""

from dataclasses import replace
from typing import Any

from .ir import CREATION, LIKE, Aliases, Program, Ref, apply, mapped, reads, refs


def simplify(program: Program) -> Program:
    """The program without repetition, without operations on constants, without unused results."""
    return dead_code(fold_constants(common_subexpressions(program)))


def common_subexpressions(program: Program) -> Program:
    """Operations equal in name and arguments, with no write in between, are done once."""
    aliases = Aliases(program.ops)
    version: dict[int, int] = {}
    seen: dict[Any, int] = {}
    same: dict[int, int] = {}
    ops = []
    for op in program.ops:
        args = mapped(op.args, lambda r: Ref(same.get(r.value, r.value)))
        out = same.get(op.out, op.out)
        if op.inplace:
            version[aliases[out]] = version.get(aliases[out], 0) + 1
            ops.append(op._replace(args=args, out=out))
            continue
        versions = tuple(version.get(aliases[r.value], 0) for r in refs(args))
        key = (op.name, repr(args), repr(sorted(op.kw.items())), versions)
        if key in seen:
            same[op.out] = seen[key]
        else:
            seen[key] = op.out
            ops.append(op._replace(args=args))
    written = {aliases[op.out] for op in ops if op.inplace}
    if any(aliases[value] in written for value in same):
        return program  # equal arrays cannot be shared if one of them is changed later
    outputs = mapped(program.outputs, lambda r: Ref(same.get(r.value, r.value)))
    names: dict[int, str] = {}
    for value, name in program.names.items():
        names.setdefault(same.get(value, value), name)
    return replace(program, ops=tuple(ops), outputs=outputs, names=names)


def fold_constants(program: Program) -> Program:
    """Values that depend on no input are computed here, once, and become constants."""
    aliases = Aliases(program.ops)
    written = {aliases[op.out] for op in program.ops if op.inplace}
    constants, ops = dict(program.constants), []
    for op in program.ops:
        needs = () if op.name in LIKE else reads(op)  # these read only a shape
        fixed = (op.name in CREATION or bool(needs)) and constants.keys() >= set(needs)
        if fixed and not op.inplace and aliases[op.out] not in written:
            args = mapped(op.args, lambda r: constants.get(r.value, program.values[r.value]))
            constants[op.out] = apply(op.name, args, op.kw)
        else:
            ops.append(op)
    return replace(program, ops=tuple(ops), constants=constants)


def dead_code(program: Program) -> Program:
    """Operations whose results are not used are left out, and so are unused constants."""
    aliases = Aliases(program.ops)
    needed = {r.value for r in refs(program.outputs)}
    kept = []
    for op in reversed(program.ops):
        if op.inplace or op.out in needed or aliases[op.out] in needed:
            needed |= {*reads(op), *(aliases[v] for v in reads(op))}
            kept.append(op)
    constants = {v: a for v, a in program.constants.items() if v in needed}
    return replace(program, ops=tuple(kept[::-1]), constants=constants)
