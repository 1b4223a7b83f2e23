"""A record as kernel launches: elementwise neighbours become one, and results land where they belong.

This is decided from the record alone, so that it can be counted and tested without a device.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ._record import ELEMENTWISE, VIEWS, Op, Record, Ref, refs
from ._simplify import Roots, simplify

ASSIGN = "assign"  # an operation of launches alone: old[...] = new, where state is written back
_INTO = frozenset({"matmul", "sum", "concat"})  # can write into memory they are given


class Launch(NamedTuple):
    """What runs as one kernel: elementwise operations of one shape, or a single other operation.

    Attributes:
        ops: in order.
        reads: the values they need from outside.
        makes: the values they make for others.
        ends: the values whose memory nobody needs after this launch.
    """

    ops: tuple[Op, ...]
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    ends: tuple[int, ...] = ()


class Home(NamedTuple):
    """Where a value belongs: from `start` on in the vector `whole`."""

    whole: int
    start: int


class Schedule:
    """The launches of a record of step(w, s, x, t) -> (w, s, loss).

    Args:
        record: of the step; its new state is written back into the old.

    Attributes:
        launches: in order.
        values: of each number an array of its shape and dtype.
        views: of each view the operation that makes it.
        homes: of the parts of a vector their places in it.
        constants: the arrays of values that depend on no input.
        state: the numbers of w and the leaves of s.
        batch: those of x and t.
        loss: that of the loss.
    """

    def __init__(self, record: Record) -> None:
        record, self.constants = simplify(record)
        self.values = list(record.values)
        self.views = {op.out: op for op in record.ops if op.name in VIEWS}
        self.roots = Roots(record.ops)
        w, s, x, t = record.inputs
        new_w, new_s, loss = record.outputs
        self.state = [r.value for r in refs((w, s))]
        self.batch = [r.value for r in refs((x, t))]
        self.loss = loss.value
        ops = self._written_back([op for op in record.ops if op.name not in VIEWS], refs((new_w, new_s)))
        self.homes = dict(self._homes(ops))
        self.launches = self._with_ends([self._launch(group, ops) for group in self._grouped(ops)])

    # ------------------------------------------------------------ what an operation touches
    def _reads(self, op: Op) -> set[int]:
        return {r.value for r in refs(op.args)}

    def _memory(self, op: Op) -> set[int]:
        return {self.roots[v] for v in self._reads(op)}

    def _conflict(self, group: list[Op], op: Op) -> bool:
        """Whether an operation must stay behind a group: it needs its results, or spoils its memory."""
        made, touched = {self.roots[g.out] for g in group}, set().union(*map(self._memory, group))
        writes = {self.roots[op.out]} if op.inplace else set()
        return bool(made & (self._memory(op) | writes) or writes & touched)

    # ------------------------------------------------------------ state
    def _written_back(self, ops: list[Op], new: list[Ref]) -> list[Op]:
        """New state goes into the memory of the old as soon as nobody reads the old any more."""
        pairs = [(old, r.value) for old, r in zip(self.state, new, strict=True) if self.roots[r.value] != old]
        for k, (old, value) in enumerate(pairs):
            if self.roots[value] in self.state:  # two states that change places
                self.values.append(self.values[value])
                pairs[k] = old, len(self.values) - 1
                ops.append(
                    Op("astype", (Ref(value), self.values[value].dtype), {}, pairs[k][1], inplace=False)
                )
        for old, value in pairs:
            assign = Op(ASSIGN, (Ref(old), Ref(value)), {}, old, inplace=True)
            last = max((k for k, op in enumerate(ops) if self._conflict([op], assign)), default=-1)
            ops.insert(last + 1, assign)
        return ops

    # ------------------------------------------------------------ grouping
    def _grouped(self, ops: list[Op]) -> list[list[Op]]:
        """Each operation in the latest group that it fits into, if none behind that one holds it."""
        groups: list[list[Op]] = []
        for op in ops:
            for group in reversed(groups):
                if self._fits(group, op):
                    group.append(op)
                    break
                if self._conflict(group, op):
                    groups.append([op])
                    break
            else:
                groups.append([op])
        return groups

    def _fits(self, group: list[Op], op: Op) -> bool:
        """Whether element i of all of them depends on elements i of what they share."""
        if not (_fusable(op) and _fusable(group[0])):
            return False
        if self.values[op.out].shape != self.values[group[0].out].shape:
            return False
        together = [*group, op]
        whole = {self.roots[g.out]: g.out for g in together if g.inplace or g is not op}
        return all(whole.get(self.roots[v], v) == v for g in together for v in self._reads(g))

    def _launch(self, group: list[Op], ops: list[Op]) -> Launch:
        inside = set(map(id, group))
        outer = [op for op in ops if id(op) not in inside]
        needed = set().union(*map(self._memory, outer)) | {self.roots[self.loss]}
        fresh = [op.out for op in group if not op.inplace]
        reads = [r.value for op in group for r in refs(op.args) if r.value not in fresh]
        if group[0].name == "concat":
            reads = list(self.strangers(group[0]).values())
        return Launch(tuple(group), tuple(dict.fromkeys(reads)), tuple(v for v in fresh if v in needed))

    # ------------------------------------------------------------ memory
    def _places(self, op: Op) -> Iterator[tuple[int, int]]:
        """The parts of a joined vector, each with where it begins."""
        start = 0
        for part in op.args[0]:
            yield part.value, start
            start += self.values[part.value].size

    def _homes(self, ops: list[Op]) -> Iterator[tuple[int, Home]]:
        """Products and sums that are joined into a vector are computed there."""
        makers = {op.out: op.name for op in ops if not op.inplace}
        for op in ops:
            if op.name == "concat" and self.values[op.out].ndim == 1:
                for part, start in self._places(op):
                    root = self.roots[part]
                    if makers.get(root) in _INTO and self.values[root].size == self.values[part].size:
                        yield root, Home(op.out, start)

    def strangers(self, op: Op) -> dict[int, int]:
        """The parts of a joined vector that are not computed there, by where they begin."""
        return {start: part for part, start in self._places(op)
                if self.homes.get(self.roots[part]) != Home(op.out, start)}  # fmt: skip

    def _with_ends(self, launches: list[Launch]) -> list[Launch]:
        """Each launch with the values that end with it."""
        kept = {*self.state, *self.batch, self.roots[self.loss], *self.constants}
        done, seen = [], set(kept)
        for launch in reversed(launches):
            here = {self.roots[v] for v in (*launch.reads, *launch.makes)}
            done.append(launch._replace(ends=tuple(sorted(here - seen))))
            seen |= here
        return done[::-1]


def _fusable(op: Op) -> bool:
    return op.name in ELEMENTWISE or op.name == ASSIGN
