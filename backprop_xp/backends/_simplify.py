"""What a record does not need to do: the same thing twice, what nobody reads, what never changes."""

from typing import Any

from ._record import CREATION, VIEWS, Op, Record, Ref, apply, mapped, refs


class Roots:
    """Which memory a value lies in: a view lies in that of the array it is a view of."""

    def __init__(self, ops: list[Op]) -> None:
        self._of: dict[int, int] = {}
        for op in ops:
            if op.name in VIEWS:
                self._of[op.out] = self[op.args[0].value]

    def __getitem__(self, value: int) -> int:
        return self._of.get(value, value)


def simplify(record: Record) -> tuple[Record, dict[int, Any]]:
    """The record without repetition, and the values in it that are constant.

    Args:
        record: from `record`.

    Returns:
        The shorter record, and the arrays of the values that do not depend on any input.
    """
    ops, same = _without_repetition(record)
    outputs = mapped(record.outputs, lambda r: Ref(same.get(r.value, r.value)))
    roots = Roots(ops)
    written = {roots[op.out] for op in ops if op.inplace}
    constants: dict[int, Any] = {}
    kept = []
    for op in ops:
        found = {r.value for r in refs(op.args)}
        fixed = (op.name in CREATION or found) and found <= constants.keys() and roots[op.out] not in written
        if op.name in ("zeros_like", "ones_like"):
            fixed = roots[op.out] not in written
        if fixed and not op.inplace:
            args = mapped(op.args, lambda r: constants.get(r.value, record.values[r.value]))
            constants[op.out] = apply(op.name, args, op.kw)
        else:
            kept.append(op)
    kept = _without_waste(kept, roots, written, outputs)
    used = {r.value for op in kept for r in refs(op.args)} | {r.value for r in refs(outputs)}
    shorter = Record(kept, record.values, record.inputs, outputs)
    return shorter, {v: a for v, a in constants.items() if v in used}


def _without_repetition(record: Record) -> tuple[list[Op], dict[int, int]]:
    """Operations equal in name and arguments, with no write in between, done once."""
    roots = Roots(record.ops)
    version: dict[int, int] = {}
    seen: dict[Any, int] = {}
    same: dict[int, int] = {}
    ops = []
    for op in record.ops:
        args = mapped(op.args, lambda r: Ref(same.get(r.value, r.value)))
        out = same.get(op.out, op.out)
        if op.inplace:
            version[roots[out]] = version.get(roots[out], 0) + 1
            ops.append(op._replace(args=args, out=out))
            continue
        versions = tuple(version.get(roots[r.value], 0) for r in refs(args))
        key = (op.name, repr(args), repr(sorted(op.kw.items())), versions)
        if key in seen:
            same[op.out] = seen[key]
        else:
            seen[key] = op.out
            ops.append(op._replace(args=args))
    written = {roots[op.out] for op in ops if op.inplace}
    if any(roots[v] in written for v in same):
        return record.ops, {}  # two equal arrays of which one is changed later are two
    return ops, same


def _without_waste(ops: list[Op], roots: Roots, written: set[int], outputs: Any) -> list[Op]:
    needed = {r.value for r in refs(outputs)}
    kept = []
    for op in reversed(ops):
        if op.out in needed or (op.inplace and roots[op.out] in written) or roots[op.out] in needed:
            needed |= {r.value for r in refs(op.args)} | {roots[r.value] for r in refs(op.args)}
            kept.append(op)
    return kept[::-1]
