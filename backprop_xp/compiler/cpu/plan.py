"""The plan: a program as calls, and the memory of every value.

simplify -> write_back -> concat_in_place -> lower -> group -> allocate; `emit` binds it to arrays and
runs it. Gradients are computed inside the flat gradient, an update rule runs in blocks that
stay in the processor's cache, and new state is stored over the old.
"""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from ..ir import VIEWS, Aliases, Op, Program, Ref, apply, refs
from ..memory import Pool, buffer
from ..placement import concat_in_place, copied_parts, last_uses, write_back
from ..simplify import simplify
from .lower import Call, Lowering

BLOCK = 32768  # elements; blocks this long of an update rule's vectors stay in the second-level cache

View = Callable[[Any], Any]


class Plan:
    """One program as calls, and the memory of every value.

    Args:
        program: of f(*state, *held, *rows) -> (*new_state, *out).
        donate: how many of its arguments are state.
        hold: how many after them are held.

    Attributes:
        program: the simplified program.
        state: the values of the state.
        held: the values of the held arguments.
        rows: the values of the rows.
        results: the tree of the results beside the state.
        out: the values in that tree.
        calls: the NumPy calls, in order.
        groups: for each call the number of the loop over blocks it is in, None outside one.
        buffers: the arrays the plan owns, by value; state is bound later.
        views: for each value that is a view: the value it is a view of, and a function that takes the view.
        multiplications: how many the largest product has.
    """

    def __init__(self, program: Program, donate: int, hold: int) -> None:
        self.program = simplify(program)
        placed = concat_in_place(write_back(self.program, donate), can_write=lambda _: True)
        self.aliases = Aliases(placed.ops)
        self.state, self.held = refs(placed.inputs[:donate]), refs(placed.inputs[donate : donate + hold])
        self.rows = refs(placed.inputs[donate + hold :])
        self.results = placed.outputs[donate:] if donate else placed.outputs
        self.out = refs(self.results)
        lowering = Lowering(placed.values)
        self.values, self.views = lowering.values, lowering.views
        self.calls = [call for op in placed.ops for call in self._calls(op, placed, lowering)]
        self.multiplications = max((self._multiplications(c) for c in self.calls), default=0)
        self._assign_in_place(placed)
        self.groups = self._grouped()
        self.buffers: dict[int, Any] = dict(placed.constants)
        self.buffers |= {r.value: buffer(self.values[r.value]) for r in self.rows}
        for value in {v for each in placed.slices.items() for v in (each[0], each[1].whole)}:
            self.buffers[value] = self._sliced(value, placed)
        self._allocate()
        self.source: Any = None  # written when the plan is first bound

    def root(self, value: int) -> int:
        """The value that owns the memory of this one."""
        while value in self.views:
            value = self.views[value][0]
        return value

    def touched(self, call: Call) -> list[int]:
        """The memory a call reads or writes."""
        found = (*refs(call.args), *refs(tuple(call.kw.values())), call.out)
        return list(dict.fromkeys(self.root(r.value) for r in found))

    # ------------------------------------------------------------ calls
    def _calls(self, op: Op, program: Program, lowering: Lowering) -> Iterator[Call]:
        """The calls of one operation: none for a view; a concatenation copies only parts not in place."""
        if op.name in VIEWS:
            self.views[op.out] = op.args[0].value, _view(op.name, op.args[1:], op.kw)
        elif op.name == "concat" and self.values[op.out].ndim == 1:
            for start, part in copied_parts(op, program, self.aliases).items():
                target = self._part(op.out, slice(start, start + self.values[part].size))
                yield Call(np.copyto, (target, Ref(part)), target, {}, by_name=False)
        else:
            yield from lowering.lower(op)

    def _part(self, whole: int, place: slice) -> Ref:
        """A new value: part of a vector."""
        self.values.append(self.values[whole][place])
        self.views[len(self.values) - 1] = whole, lambda a: a[place]
        return Ref(len(self.values) - 1)

    def _multiplications(self, call: Call) -> int:
        if call.function is not np.matmul:
            return 0
        left = self.values[call.args[0].value]
        return int(prod(left.shape) * self.values[call.out.value].shape[-1])

    def _assign_in_place(self, program: Program) -> None:
        """Where one elementwise call computes new state, let it write over the old: no copy is left."""
        held = {r.value for r in self.state}
        for copy in [c for c in self.calls if c.assigns]:
            old, new = (r.value for r in copy.args)
            root = self.root(new)
            others = [c for c in self.calls if c is not copy]
            writers = [k for k, c in enumerate(others) if self.root(c.out.value) == root]
            readers = [k for k, c in enumerate(others) if old in self.touched(c)]
            alone = len(writers) == 1 and root == new and root not in held and root not in program.slices
            if alone and max(readers, default=-1) <= writers[0] and self._in_step(others[writers[0]], old):
                self.views[root] = old, lambda a: a
                self.calls = others

    def _in_step(self, call: Call, root: int) -> bool:
        """Whether a call reads this memory only element by element, in step with what it writes."""
        out = self.values[call.out.value]
        mine = [r.value for r in refs(call.args) if self.root(r.value) == root]
        return call.elementwise and all(v == root and self.values[v].shape == out.shape for v in mine)

    def _grouped(self) -> list[int | None]:
        """For each call its group: neighbouring elementwise calls on long vectors run block by block."""
        groups: list[int | None] = []
        length = 0
        for call in self.calls:
            shape = self.values[call.out.value].shape
            shapes = {np.shape(self.values[a.value] if isinstance(a, Ref) else a) for a in call.args}
            long = len(shape) == 1 and shape[0] > BLOCK
            if not (long and call.elementwise and call.by_name and shapes <= {shape, ()}):
                groups.append(None)
                continue
            joins = groups and groups[-1] is not None and length == shape[0]
            groups.append(groups[-1] if joins else len(groups))
            length = shape[0]
        return groups

    # ------------------------------------------------------------ memory
    def _sliced(self, value: int, program: Program) -> Any:
        """The buffer of a vector, or of what is computed inside one."""
        if value in self.buffers:
            return self.buffers[value]
        like = self.values[value]
        if value not in program.slices:
            self.buffers[value] = buffer(like)
            return self.buffers[value]
        whole, start = program.slices[value]
        return self._sliced(whole, program)[start : start + like.size].reshape(like.shape)

    def _allocate(self) -> None:
        """A buffer for every value that has none: a linear scan over the calls."""
        touched = [self.touched(call) for call in self.calls]
        ends = last_uses(touched, kept=[self.root(r.value) for r in self.out])
        lives: dict[int, list[int]] = {}
        for k, values in enumerate(touched):
            for v in values:
                lives.setdefault(v, []).append(k)
        given = {r.value for r in (*self.state, *self.held)}
        viewed = {self.root(op.out) for op in self.program.ops if op.name in VIEWS}
        pool = Pool()
        self.blocked: set[int] = set()
        for k, call in enumerate(self.calls):
            out = self.root(call.out.value)
            ending = [v for v in touched[k] if v in ends[k] and v in pool.used]
            if out not in self.buffers and out not in given:
                like, own = self.values[out], self.groups[k]
                if own is not None and out not in viewed and {self.groups[j] for j in lives[out]} == {own}:
                    self.blocked.add(out)
                    like = like[:BLOCK]
                reused = self._reusable(call, out, ending)
                if reused is None:
                    self.buffers[out] = pool.take(out, like)
                else:
                    self.buffers[out] = pool.reuse_buffer(reused, out, like)
                    ending.remove(reused)
            for v in ending:
                pool.release(v)

    def _reusable(self, call: Call, out: int, ending: list[int]) -> int | None:
        """An argument whose live range ends here and whose buffer the result can take over."""
        like = self.values[out]
        for v in ending:
            fits = self.values[v].nbytes == like.nbytes and (v in self.blocked) == (out in self.blocked)
            mine = [r.value for r in refs(call.args) if self.root(r.value) == v]
            straight = all(self.values[m].shape == like.shape and self._contiguous(m) for m in mine)
            if call.elementwise and fits and straight and mine:
                return v
        return None

    def _contiguous(self, value: int) -> bool:
        """Whether a value is the whole memory of its owner, in order."""
        whole, like = self.values[self.root(value)], self.values[value]
        while value in self.views:
            source = self.views[value][0]
            if self.values[source].shape != self.values[value].shape:
                return False
            value = source
        return bool(whole.nbytes == like.nbytes)


def _view(name: str, rest: tuple[Any, ...], kw: dict[str, Any]) -> View:
    return lambda a: apply(name, (a, *rest), kw)
