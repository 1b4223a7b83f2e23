"""Initial values of weights and layer state, the same on every backend."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from . import backends, rng
from .arrays import Array
from .params import Param

_AT_ONCE = 1 << 16  # numbers drawn in one part; each part is converted before the next is drawn


def initial_values(
    params: Mapping[Any, Param], seed: int, stream: int
) -> Iterator[tuple[Any, Iterator[Array]]]:
    """The initial values of each parameter, flat and in parts, so that little memory is needed.

    Args:
        params: by name; each continues in the random stream where the one before ended.
        seed: of the run.
        stream: number of the stream of random bits.

    Returns:
        Pairs of a name and an iterator over float64 vectors on the host, drawn lazily.

    >>> [(name, [part.shape for part in parts]) for name, parts in initial_values({"w": Param((2, 3))}, 0, 0)]
    [('w', [(6,)])]
    """
    start = 0
    for name, param in params.items():
        yield name, _uniform(param, seed, stream, start)
        start += prod(param.shape)


def _uniform(param: Param, seed: int, stream: int, start: int) -> Iterator[Array]:
    """Numbers drawn uniformly from centre ± spread."""
    xp, size = backends.get("numpy").xp, prod(param.shape)
    for first in range(0, size, _AT_ONCE):
        words = rng.bits(seed, stream, start + first, min(_AT_ONCE, size - first), xp=xp)
        yield param.centre + param.spread * (2 * rng.uniform(words, xp.float64, xp=xp) - 1)
