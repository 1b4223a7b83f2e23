"""Random bits as a function of (seed, stream, index): nothing is stored, any slice can be computed.

Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as
1, 2, 3, SC 2011). A word is an unsigned 32-bit integer, or a signed one if a library lacks the
unsigned operations (its `xp.word` is the dtype); the bits are the same.
"""

from math import pi
from typing import Any

from .arrays import Array, Namespace, as_integer
from .errors import BackpropError

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA
_ROUNDS_OF_SHUFFLE = 8


def check_seed(seed: Any) -> int:
    """A seed as an int, if it is an integer of 32 bits."""
    found = as_integer(seed)
    if found is None or not 0 <= found < 1 << 32:
        msg = f"a seed must be an integer with 0 <= seed < 2**32, got {seed!r}"
        raise BackpropError(msg)
    return found


def word(xp: Namespace) -> Any:
    """The 32-bit integer dtype used for random bits in this library."""
    return getattr(xp, "word", None) or xp.uint32


def constant(value: int, dtype: Any, *, xp: Namespace) -> int:
    """The low 32 bits of a number as a Python integer that fits `dtype`, signed or unsigned."""
    value &= 0xFFFFFFFF
    signed = xp.isdtype(dtype, "signed integer")
    return value - (1 << 32) if signed and value >= 1 << 31 else value


def _rotate(x: Array, r: int, signed: bool) -> Array:
    high = x >> (32 - r)
    return (x << r) | (high & ((1 << r) - 1) if signed else high)


def threefry(key: tuple[Any, Any], counter: tuple[Array, Array], *, xp: Namespace) -> tuple[Array, Array]:
    """Two words of random bits for a key of two words and a counter of two words.

    Args:
        key: two words, Python integers or 0-d arrays.
        counter: two arrays of words that broadcast together.
        xp: their namespace.

    Returns:
        Two arrays of words, of the broadcast shape.

    >>> import numpy as np
    >>> zero = np.zeros(1, dtype=np.uint32)
    >>> [hex(int(x[0])) for x in threefry((0, 0), (zero, zero), xp=np)]
    ['0x6b200159', '0x99ba4efe']
    """
    x0, x1 = counter
    dtype = x0.dtype
    device = getattr(x0, "device", None)  # JAX's tracers have none
    k0, k1 = (
        xp.full((), constant(k, dtype, xp=xp), dtype=dtype, device=device) if isinstance(k, int) else k
        for k in key
    )
    keys = (k0, k1, k0 ^ k1 ^ constant(_PARITY, dtype, xp=xp))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    signed = xp.isdtype(dtype, "signed integer")  # whose shift to the right copies the sign
    for block in range(5):
        for turn in range(4):
            x0 = x0 + x1
            x1 = _rotate(x1, _ROTATIONS[4 * (block % 2) + turn], signed) ^ x0
        x0 = x0 + keys[(block + 1) % 3]
        x1 = x1 + keys[(block + 2) % 3] + (block + 1)
    return x0, x1


def bits(
    seed: Any, stream: Any, start: int, n: int, *, xp: Namespace, device: Any = None
) -> tuple[Array, Array]:
    """Two words for each index start, …, start + n - 1 of a stream.

    Seed and stream are integers, or words of shape (k, 1) for k streams in one call.

    >>> import numpy as np
    >>> whole, part = bits(7, 0, 0, 8, xp=np), bits(7, 0, 5, 3, xp=np)
    >>> bool((whole[0][5:] == part[0]).all() and (whole[1][5:] == part[1]).all())
    True
    """
    before_carry = (1 << 32) - start % (1 << 32)
    if n > before_carry:
        ends = (
            bits(seed, stream, start, before_carry, xp=xp, device=device),
            bits(seed, stream, start + before_carry, n - before_carry, xp=xp, device=device),
        )
        return tuple(xp.concat(pair, axis=-1) for pair in zip(*ends, strict=True))
    dtype = word(xp)
    low, high = (constant(part, dtype, xp=xp) for part in (start, start >> 32))
    low, high = (xp.full((n,), part, dtype=dtype, device=device) for part in (low, high))
    low = low + xp.astype(xp.arange(n, dtype=xp.int32, device=device), dtype)
    return threefry((seed & 0xFFFFFFFF if isinstance(seed, int) else seed, stream), (low, high), xp=xp)


def uniform(words: tuple[Array, Array], dtype: Any, *, xp: Namespace) -> Array:
    """Uniform numbers in [0, 1): 24 random bits in float32, else 53; equal on all backends."""
    first, second = words
    if dtype == xp.float32:
        return xp.astype((first >> 8) & 0xFFFFFF, dtype) / 16777216
    high = xp.astype((first >> 5) & 0x7FFFFFF, dtype)
    low = xp.astype((second >> 6) & 0x3FFFFFF, dtype)
    return (high * 67108864 + low) / 9007199254740992


def normal(words: tuple[Array, Array], dtype: Any, *, xp: Namespace) -> tuple[Array, Array]:
    """Two independent standard normal numbers from each pair of words.

    r = √(−2 ln(1 − u₁)), r cos 2πu₂ and r sin 2πu₂ (Box and Muller, 1958). Logarithm and cosine
    differ by an ulp or two between libraries, so normals do too.
    """
    first, second = words
    radius = xp.sqrt(-2 * xp.log(1 - uniform((first, second), dtype, xp=xp)))
    angle = 2 * pi * uniform((second, first), dtype, xp=xp)
    return radius * xp.cos(angle), radius * xp.sin(angle)


def _mix(x: Array, key: Array) -> Array:
    """A keyed bijective hash of words (the finalizer of MurmurHash3, Appleby 2011)."""
    x = x ^ key
    x = (x ^ (x >> 16)) * 0x85EBCA6B
    x = (x ^ (x >> 13)) * 0xC2B2AE35
    return x ^ (x >> 16)


def permutation(seed: Any, stream: Any, n: int, start: int, stop: int, *, xp: Namespace) -> Array:
    """Entries start, …, stop - 1 of a random permutation of 0, …, n - 1, without storing the rest.

    A Feistel network over the smallest number of bits that holds n, applied again until the value is
    below n: cycle walking (Black and Rogaway: Ciphers with arbitrary finite domains, 2002). Runs on
    the host, as the number of repetitions depends on values.

    Args:
        seed: selects the permutation, together with `stream`; or words of shape (k, 1), for k
            permutations in one call.
        stream: the number of a stream, or words of shape (k, 1).
        n: the number of entries, up to 2³² - 1.
        start: the first entry wanted.
        stop: one past the last entry wanted.
        xp: NumPy, or another namespace with integer-array indexing and unsigned 32-bit integers.

    Returns:
        int64 array of length stop - start, or of shape (k, stop - start).

    >>> import numpy as np
    >>> sorted(permutation(1, 0, 10, 0, 10, xp=np).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    keys, _ = bits(seed, stream, 0, _ROUNDS_OF_SHUFFLE, xp=xp)
    entries = xp.astype(xp.arange(start, stop, dtype=xp.int64), xp.uint32)
    x = _feistel(entries, [keys[..., r : r + 1] for r in range(_ROUNDS_OF_SHUFFLE)], n)
    shape, x = x.shape, xp.reshape(x, (-1,))
    outside = xp.nonzero(x >= n)[0]
    while outside.size:
        own = xp.reshape(keys, (-1, _ROUNDS_OF_SHUFFLE))[outside // shape[-1], :]
        walked = _feistel(x[outside], [own[:, r] for r in range(_ROUNDS_OF_SHUFFLE)], n)
        x[outside] = walked
        outside = outside[walked >= n]
    return xp.reshape(xp.astype(x, xp.int64), shape)


def _feistel(x: Array, keys: list[Array], n: int) -> Array:
    """A bijection of the words below the power of two that holds n (Luby and Rackoff, 1988)."""
    high = max(2, (n - 1).bit_length()) // 2
    low = max(2, (n - 1).bit_length()) - high
    left, right, masks = x >> low, x & ((1 << low) - 1), ((1 << high) - 1, (1 << low) - 1)
    for r, key in enumerate(keys):
        left, right = right, left ^ (_mix(right, key) & masks[r % 2])
    return (left << low) | right
