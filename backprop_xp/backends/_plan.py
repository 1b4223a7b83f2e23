"""A recorded step replayed on NumPy: one straight line of calls into buffers given out in advance.

record -> simplify -> lower -> place (here) -> bind to arrays and run (`_replay`). Gradients are
computed where the flat gradient wants them, an update rule runs in blocks that stay in the
processor's cache, and new state goes where the old one was.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ._lower import Call, Lowering
from ._record import VIEWS, Record, Ref, apply, refs
from ._simplify import simplify

BLOCK = 32768  # elements: the vectors of an update rule, so long, stay in the second-level cache
_LINE = 64  # bytes of a cache line


class Pool:
    """Buffers for values that do not live at the same time."""

    def __init__(self) -> None:
        self.free: list[Any] = []
        self.used: dict[int, Any] = {}

    def take(self, value: int, like: Any) -> Any:
        """A buffer for a value of this shape and dtype: a free one that fits, else a new one."""
        fits = [k for k, b in enumerate(self.free) if like.nbytes <= b.nbytes <= 2 * like.nbytes + _LINE]
        raw = self.free.pop(min(fits, key=lambda k: self.free[k].nbytes)) if fits else aligned(like.nbytes)
        self.used[value] = raw
        return raw[: like.nbytes].view(like.dtype).reshape(like.shape)

    def pass_on(self, old: int, value: int, like: Any) -> Any:
        """The buffer of a value that ends for one that begins."""
        raw = self.used[value] = self.used.pop(old)
        return raw[: like.nbytes].view(like.dtype).reshape(like.shape)

    def give_back(self, value: int) -> None:
        """The value is not needed any more."""
        self.free.append(self.used.pop(value))


def aligned(size: int) -> Any:
    """Bytes, uninitialised, from the beginning of a cache line on."""
    raw = np.empty(size + _LINE, dtype=np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size]


def buffer(like: Any) -> Any:
    """An uninitialised array of this shape and dtype."""
    return aligned(like.nbytes).view(like.dtype).reshape(like.shape)


class Plan:
    """What one record does, as calls and the memory of every value.

    Args:
        record: of step(w, s, x, t) on NumPy arrays.

    Attributes:
        calls: in order.
        constants: the arrays of values that depend on no input.
        groups: for each call the number of its group of blocks, None outside one.
        buffers: the arrays the plan owns, by value; state is bound later.
        views: values that lie in another's memory, in an order in which they can be made.
        multiplications: of the largest product.
    """

    def __init__(self, record: Record) -> None:
        self.record, self.constants = simplify(record)
        self.buffers = dict(self.constants)
        lowering = Lowering(self.record)
        self.values = lowering.values
        self.views: dict[int, tuple[int, Callable[[Any], Any]]] = {}
        self.calls: list[Call] = []
        for op in self.record.ops:
            if op.name in VIEWS:
                self.views[op.out] = op.args[0].value, _view(op.name, op.args[1:], op.kw)
            else:
                self.calls.extend(lowering.lower(op))
        self.views |= lowering.views
        products = [
            self.values[c.args[0].value].shape + self.values[c.out.value].shape[-1:]
            for c in self.calls
            if c.function is np.matmul
        ]
        self.multiplications = max((prod(shape) for shape in products), default=0)
        w, s, x, t = self.record.inputs
        new_w, new_s, self.loss = self.record.outputs
        self.state, self.batch = refs((w, s)), refs((x, t))
        self._write_back(refs((new_w, new_s)))
        self.buffers |= {r.value: buffer(self.values[r.value]) for r in self.batch}
        self._join()
        self.groups = self._grouped()
        self._place()

    def root(self, value: int) -> int:
        """The value whose memory this one lies in."""
        while value in self.views:
            value = self.views[value][0]
        return value

    def touched(self, call: Call) -> list[int]:
        """The memory a call reads or writes."""
        found = (*refs(call.args), *refs(tuple(call.kw.values())), call.out)
        return list(dict.fromkeys(self.root(r.value) for r in found))

    def _write_back(self, new_state: list[Ref]) -> None:
        """New state belongs into the arrays the old state came in."""
        for old, new in zip(self.state, new_state, strict=True):
            root = self.root(new.value)
            if root == old.value:
                continue
            writers = [k for k, c in enumerate(self.calls) if self.root(c.out.value) == root]
            readers = [k for k, c in enumerate(self.calls) if old.value in self.touched(c)]
            straight = len(writers) == 1 and root == new.value and max(readers, default=-1) <= writers[0]
            if (
                straight
                and self.calls[writers[0]].elementwise
                and self._aligned(self.calls[writers[0]], old.value)
            ):
                self.views[root] = old.value, lambda a: a
            else:
                self.calls.append(Call(np.copyto, (old, new), old, {}, by_name=False))

    def _aligned(self, call: Call, root: int) -> bool:
        """Whether an elementwise call reads this memory only where it would write."""
        out = self.values[call.out.value]
        mine = [r.value for r in refs(call.args) if self.root(r.value) == root]
        return all(v == root and self.values[v].shape == out.shape for v in mine)

    # ------------------------------------------------------------ memory
    def _join(self) -> None:
        """The parts of a vector are computed where the vector wants them."""
        held = {r.value for r in (*self.state, *self.batch)}
        kept = []
        for call in self.calls:
            whole = self.values[call.out.value]
            if call.function is not np.concatenate or whole.ndim != 1:
                kept.append(call)
                continue
            home = self.buffers[call.out.value] = buffer(whole)
            start = 0
            for part in call.args[0]:
                place = home[start : start + self.values[part.value].size]
                root = self.root(part.value)
                like = self.values[root]
                if root in held or root in self.buffers or like.nbytes != place.nbytes:
                    self.values.append(place)
                    target = Ref(len(self.values) - 1)
                    self.buffers[target.value] = place
                    kept.append(Call(np.copyto, (target, part), target, {}, by_name=False))
                else:
                    self.buffers[root] = place.view(like.dtype).reshape(like.shape)
                start += place.size
        self.calls = kept

    def _grouped(self) -> list[int | None]:
        """Neighbouring elementwise calls on long vectors, to be run block by block."""
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

    def _place(self) -> None:
        """A buffer for every value that has none: linear scan over the calls."""
        lives: dict[int, list[int]] = {}
        for k, call in enumerate(self.calls):
            for v in self.touched(call):
                lives.setdefault(v, []).append(k)
        held = {r.value for r in self.state}
        viewed = {self.root(op.out) for op in self.record.ops if op.name in VIEWS}
        forever = self.root(self.loss.value)
        pool = Pool()
        self.blocked: set[int] = set()
        for k, call in enumerate(self.calls):
            out = self.root(call.out.value)
            ending = [v for v in self.touched(call) if lives[v][-1] == k and v in pool.used and v != forever]
            if out not in self.buffers and out not in held:
                like = self.values[out]
                own = self.groups[k]
                if own is not None and out not in viewed and {self.groups[j] for j in lives[out]} == {own}:
                    self.blocked.add(out)
                    like = like[:BLOCK]
                heir = self._heir(call, out, ending)
                if heir is None:
                    self.buffers[out] = pool.take(out, like)
                else:
                    self.buffers[out] = pool.pass_on(heir, out, like)
                    ending.remove(heir)
            for v in ending:
                pool.give_back(v)

    def _heir(self, call: Call, out: int, ending: list[int]) -> int | None:
        """An argument that ends here and whose buffer the result takes over, element by element."""
        like = self.values[out]
        for v in ending:
            fits = self.values[v].nbytes == like.nbytes and (v in self.blocked) == (out in self.blocked)
            mine = [r.value for r in refs(call.args) if self.root(r.value) == v]
            straight = all(self.values[m].shape == like.shape and self._flat(m) for m in mine)
            if call.elementwise and fits and straight and mine:
                return v
        return None

    def _flat(self, value: int) -> bool:
        """Whether a value is its memory from the first byte to the last, in order."""
        whole, like = self.values[self.root(value)], self.values[value]
        while value in self.views:
            source = self.views[value][0]
            if self.values[source].shape != self.values[value].shape:
                return False
            value = source
        return bool(whole.nbytes == like.nbytes)


def _view(name: str, rest: tuple[Any, ...], kw: dict[str, Any]) -> Callable[[Any], Any]:
    return lambda a: apply(name, (a, *rest), kw)
