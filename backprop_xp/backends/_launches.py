"""A record as kernel launches: neighbours become one, and results land where they belong.

One kernel are elementwise operations of one shape; operations that run row by row, sums over columns
among them; and a product with the bias and the ReLU behind it, or with the sum of its right factor,
which is the bias gradient beside a weight's. This is decided from the record alone, so that it can be
counted and tested without a device.
"""

from collections.abc import Iterator
from typing import NamedTuple

from . import _rows
from ._record import ELEMENTWISE, REDUCTIONS, VIEWS, Op, Record, Ref, refs
from ._rows import ASSIGN
from ._simplify import Roots, simplify

_INTO = frozenset({"matmul", "sum", "concat"})  # can write into memory they are given


class Launch(NamedTuple):
    """What runs as one kernel: operations that are fused, or a single other operation.

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

    @property
    def kind(self) -> str:
        """'elementwise', 'rows', or the operation it begins with: 'matmul', 'concat' or one alone."""
        first = self.ops[0].name
        if first in ("matmul", "concat") or (len(self.ops) == 1 and first not in ELEMENTWISE):
            return first
        return "rows" if any(op.name in REDUCTIONS for op in self.ops) else "elementwise"

    def parts(self) -> "tuple[Launch, Launch]":
        """A product, and what follows it, as launches of their own."""
        product, *rest = self.ops
        within = {op.out for op in rest}
        reads = [r.value for op in rest for r in refs(op.args) if r.value not in within]
        made = (product.out,)
        return (
            Launch((product,), tuple(r.value for r in refs(product.args)), made),
            Launch(tuple(rest), tuple(dict.fromkeys(reads)), tuple(v for v in self.makes if v not in made)),
        )


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
        ops = self._told_by_outputs(ops)
        launches = [self._launch(group, ops) for group in self._grouped(ops)]
        self.homes = dict(self._homes(launches))
        self.launches = self._with_ends([self._with_strangers(launch) for launch in launches])

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
    def _told_by_outputs(self, ops: list[Op]) -> list[Op]:
        """Where max(net, 0) > 0 there net > 0: a gate that is open above 0 reads o, and nobody needs net."""
        changed = {self.roots[op.out] for op in ops if op.inplace}
        outputs: dict[int, int] = {}
        told = []
        for op in ops:
            net = op.args[0].value if _with_zero(op, "maximum", "greater") else -1
            if op.name == "greater" and net in outputs:
                told.append(op._replace(args=(Ref(outputs[net]), 0)))
                continue
            if op.name == "maximum" and net >= 0 and not changed & {self.roots[net], op.out}:
                outputs[net] = op.out
            told.append(op)
        return told

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
                    or _rows.fits(together, self.values, self.roots)
                ):
                    group.append(op)
                    break
                if self._conflict(group, op):
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
        whole = {self.roots[g.out]: g.out for g in together if g.inplace or g is not together[-1]}
        return all(whole.get(self.roots[v], v) == v for g in together for v in self._reads(g))

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

    def _launch(self, group: list[Op], ops: list[Op]) -> Launch:
        inside = set(map(id, group))
        outer = [op for op in ops if id(op) not in inside]
        needed = set().union(*map(self._memory, outer)) | {self.roots[self.loss]}
        fresh = [op.out for op in group if not op.inplace]
        reads = [r.value for op in group for r in refs(op.args) if r.value not in fresh]
        return Launch(tuple(group), tuple(dict.fromkeys(reads)), tuple(v for v in fresh if v in needed))

    # ------------------------------------------------------------ memory
    def _places(self, op: Op) -> Iterator[tuple[int, int]]:
        """The parts of a joined vector, each with where it begins."""
        start = 0
        for part in op.args[0]:
            yield part.value, start
            start += self.values[part.value].size

    def _homes(self, launches: list[Launch]) -> Iterator[tuple[int, Home]]:
        """Products and sums that are joined into a vector are computed there."""
        makers = {op.out for each in launches if each.kind in _INTO for op in each.ops if op.name in _INTO}
        for op in (op for each in launches for op in each.ops):
            if op.name == "concat" and self.values[op.out].ndim == 1:
                for part, start in self._places(op):
                    root = self.roots[part]
                    if root in makers and self.values[root].size == self.values[part].size:
                        yield root, Home(op.out, start)

    def _with_strangers(self, launch: Launch) -> Launch:
        """Joining reads only what is not in its place."""
        if launch.kind != "concat":
            return launch
        return launch._replace(reads=tuple(dict.fromkeys(self.strangers(launch.ops[0]).values())))

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


def _with_zero(op: Op, *names: str) -> bool:
    """Whether an operation is one of these, of an array and the constant 0."""
    return op.name in names and isinstance(op.args[0], Ref) and op.args[1] == 0
