"""All parameters of a net as one flat vector, and the named views into it.

A block is one parameter of one layer, such as "dense1.w". The vector holds every block in net order,
learning or frozen, so its shape never changes. Gradient and moments hold only the blocks that learn,
in the same order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

from .arrays import CONCAT_AT_MOST, Array, Namespace, Shape


class Param(NamedTuple):
    """A parameter that a layer has: its shape, and initial values drawn uniformly from centre ± spread."""

    shape: Shape
    spread: float = 0.0
    centre: float = 0.0


class Block(NamedTuple):
    """One parameter in the flat vector: w[start:stop], reshaped to `shape`."""

    name: str
    shape: Shape
    start: int
    stop: int
    learns: bool


class Span(NamedTuple):
    """Adjacent blocks that learn: w[start:stop] has its gradient at g[first:last]."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Layout:
    """The blocks of a flat vector, in order.

    >>> layout = Layout.of({"dense1.w": (2, 3), "dense1.b": (3,)}, frozen=["dense1.w"])
    >>> layout.size, layout.spans
    (9, (Span(start=6, stop=9, first=0, last=3),))
    """

    blocks: tuple[Block, ...]

    @staticmethod
    def of(shapes: Mapping[str, Shape], frozen: Iterable[str] = ()) -> "Layout":
        """The layout of named shapes, in their order; the blocks named in `frozen` do not learn."""
        fixed, blocks, start = set(frozen), [], 0
        for name, shape in shapes.items():
            stop = start + prod(shape)
            blocks.append(Block(name, tuple(shape), start, stop, name not in fixed))
            start = stop
        return Layout(tuple(blocks))

    @cached_property
    def size(self) -> int:
        """The number of parameters, learning or frozen."""
        return self.blocks[-1].stop if self.blocks else 0

    @cached_property
    def learning(self) -> tuple[Block, ...]:
        """The blocks that learn."""
        return tuple(block for block in self.blocks if block.learns)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The blocks that learn, adjacent ones merged."""
        spans: list[Span] = []
        for block in self.learning:
            n = block.stop - block.start
            if spans and spans[-1].stop == block.start:
                spans[-1] = spans[-1]._replace(stop=block.stop, last=spans[-1].last + n)
            else:
                first = spans[-1].last if spans else 0
                spans.append(Span(block.start, block.stop, first, first + n))
        return tuple(spans)

    @cached_property
    def gradient_slices(self) -> dict[str, slice]:
        """The slice of the gradient that belongs to each learning block, by name."""
        slices, first = {}, 0
        for block in self.learning:
            last = first + block.stop - block.start
            slices[block.name] = slice(first, last)
            first = last
        return slices

    def views(self, w: Array, *, xp: Namespace) -> dict[str, Array]:
        """Each block of w by name, in its shape."""
        if isinstance(w, tuple):
            return {b.name: block for b, block in zip(self.blocks, w, strict=True)}
        return {b.name: xp.reshape(w[b.start : b.stop], b.shape) for b in self.blocks}

    def split(self, w: Array, *, xp: Namespace) -> tuple[Array, ...]:
        """The blocks of w as separate arrays: the other form in which a step accepts weights."""
        return tuple(self.views(w, xp=xp).values())

    def split_learning(self, g: Array, *, xp: Namespace) -> tuple[Array, ...]:
        """The learning blocks of a gradient or a moment as separate arrays."""
        return tuple(xp.reshape(g[self.gradient_slices[b.name]], b.shape) for b in self.learning)

    def learning_part(self, w: Array, *, xp: Namespace) -> Array:
        """The learning blocks of w in one vector."""
        return join([w[span.start : span.stop] for span in self.spans] or [w[:0]], xp=xp)

    def pack(self, grads: Mapping[str, Array], *, xp: Namespace, split: bool = False) -> Array:
        """Gradients given by block name as one vector; with `split` as a tuple of arrays."""
        if split:
            return tuple(grads[b.name] for b in self.learning)
        return join([xp.reshape(grads[b.name], (-1,)) for b in self.learning], xp=xp)

    def within(self, span: Span) -> list[str]:
        """The names of the blocks in a span."""
        return [b.name for b in self.blocks if span.start <= b.start and b.stop <= span.stop]

    def merge(self, w: Array, changed: list[tuple[Span, Array]], *, xp: Namespace) -> Array:
        """The vector w with spans of it replaced."""
        parts, start = [], 0
        for span, new in changed:
            parts += [w[start : span.start]] if start < span.start else []
            parts.append(new)
            start = span.stop
        return join([*parts, w[start:]] if start < self.size else parts, xp=xp)


def join(parts: list[Array], *, xp: Namespace) -> Array:
    """The vectors concatenated, at most eight at a time: CUDA graphs cannot capture CuPy's concat of more.

    >>> import numpy as np
    >>> join([np.ones(1), np.zeros(2)], xp=np).tolist()
    [1.0, 0.0, 0.0]
    """
    while len(parts) > 1:
        groups = [parts[i : i + CONCAT_AT_MOST] for i in range(0, len(parts), CONCAT_AT_MOST)]
        parts = [xp.concat(group) if len(group) > 1 else group[0] for group in groups]
    return parts[0]
