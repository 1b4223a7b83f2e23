"""Random bits: the published answers, the same bits on every backend, any slice equal to the whole."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backprop_xp import backends, rng

ONES = 0xFFFFFFFF
KNOWN = [  # Random123 1.09, kat_vectors: threefry2x32, 20 rounds
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]
seeds, streams = st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)
starts = st.one_of(st.integers(0, 2**20), st.integers(2**32 - 300, 2**32 + 300), st.integers(0, 2**63))


def unsigned(words):
    """Words as the unsigned integers whose bits they are, on the host."""
    return np.asarray(backends.host(words)).astype(np.int64) % 2**32


def made(place, *arguments):
    return tuple(
        unsigned(part)
        for part in rng.bits(*arguments, xp=place.xp, device=place.backend.device(place.device))
    )


# ---------------------------------------------------------------- known answers
@pytest.mark.parametrize(("key", "counter", "answer"), KNOWN, ids=["zeros", "ones", "digits of pi"])
def test_threefry_gives_the_published_answers(key, counter, answer, any_place):
    words = [any_place.words([c] * 3) for c in counter]
    for given_key in (key, tuple(any_place.words(k) for k in key)):
        got = rng.threefry(given_key, tuple(words), xp=any_place.xp)
        assert [unsigned(part).tolist() for part in got] == [[a] * 3 for a in answer]
        assert all(part.dtype == rng.word(any_place.xp) for part in got)


def test_threefry_broadcasts_its_counter(any_place):
    index = any_place.words(np.arange(5))
    for step in (0, 2**32 - 1):
        for key in ((2**32 - 1, 7), (any_place.words(2**32 - 1), 7)):
            got = rng.threefry(key, (any_place.words(step), index), xp=any_place.xp)
            want = rng.threefry(key, (any_place.words([step] * 5), index), xp=any_place.xp)
            for a, b in zip(got, want, strict=True):
                assert unsigned(a).tolist() == unsigned(b).tolist()


def threefry_of_integers(key, counter):
    """Threefry-2x32-20 as the paper writes it, on Python integers."""
    keys = (*key, 0x1BD11BDA ^ key[0] ^ key[1])
    x, y = (counter[0] + keys[0]) & ONES, (counter[1] + keys[1]) & ONES
    for r in range(20):
        x = (x + y) & ONES
        turn = (13, 15, 26, 6, 17, 29, 16, 24)[r % 8]
        y = ((y << turn | y >> (32 - turn)) & ONES) ^ x
        if r % 4 == 3:
            n = r // 4 + 1
            x, y = (x + keys[n % 3]) & ONES, (y + keys[(n + 1) % 3] + n) & ONES
    return x, y


@given(seeds, streams, starts, st.integers(1, 5))
def test_bits_are_threefry_of_seed_stream_and_index(seed, stream, start, n):
    got = np.stack(rng.bits(seed, stream, start, n, xp=np), axis=1).tolist()
    counters = [(i & ONES, i >> 32 & ONES) for i in range(start, start + n)]
    assert got == [list(threefry_of_integers((seed, stream), counter)) for counter in counters]


# ---------------------------------------------------------------- slices and places
@given(seeds, streams, starts, st.integers(1, 200), st.data())
def test_any_slice_equals_the_whole(seed, stream, start, n, data):
    first = data.draw(st.integers(0, n - 1))
    last = data.draw(st.integers(first + 1, n))
    whole = rng.bits(seed, stream, start, n, xp=np)
    part = rng.bits(seed, stream, start + first, last - first, xp=np)
    for a, b in zip(whole, part, strict=True):
        assert a[first:last].tolist() == b.tolist()


PLACES = [(0, 0, 0, 100), (2**32 - 1, 2**31, 7, 64), (1, 2, 2**32 - 3, 6), (5, 2**16, 2**63 - 4, 5)]


@pytest.mark.parametrize("where", PLACES, ids=str)
def test_bits_are_equal_on_every_backend(where, any_place, home):
    for a, b in zip(made(any_place, *where), made(home, *where), strict=True):
        assert a.tolist() == b.tolist()


@pytest.mark.parametrize("where", PLACES, ids=str)
@pytest.mark.parametrize("width", [32, 64])
def test_uniforms_are_equal_on_every_backend_bit_for_bit(where, width, place):
    xp = place.xp
    words = rng.bits(*where, xp=xp, device=place.backend.device(place.device))
    got = backends.host(rng.uniform(words, getattr(xp, f"float{width}"), xp=xp))
    want = rng.uniform(rng.bits(*where, xp=np), getattr(np, f"float{width}"), xp=np)
    assert got.dtype == want.dtype == f"float{width}"
    assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("where", PLACES, ids=str)
def test_exact_uniforms_are_the_fractions_that_float64_holds(where):
    exact = backends.get("exact").xp
    got = rng.uniform(rng.bits(*where, xp=exact), exact.rational, xp=exact)
    want = rng.uniform(rng.bits(*where, xp=np), np.float64, xp=np)
    assert got.tolist() == [Fraction(value) for value in want.tolist()]


@pytest.mark.parametrize("width", [32, 64])
def test_normals_agree_on_every_backend_within_ulps(width, place):
    xp, n = place.xp, 2000
    words = rng.bits(3, 1, 0, n, xp=xp, device=place.backend.device(place.device))
    got = rng.normal(words, getattr(xp, f"float{width}"), xp=xp)
    dtype = np.dtype(f"float{width}")
    for a, b in zip(got, rng.normal(rng.bits(3, 1, 0, n, xp=np), dtype.type, xp=np), strict=True):
        radius = np.maximum(abs(b), 1)  # a cosine near zero has the angle's error, not its own
        assert np.max(abs(backends.host(a) - b) / radius) <= 8 * np.finfo(dtype).eps


def test_permutations_are_these_whatever_the_machine():
    """They are computed on the host for every library, so that known entries are all there is to show."""
    assert rng.permutation(7, 3, 10, 0, 10, xp=np).tolist() == [7, 9, 3, 1, 4, 6, 0, 8, 2, 5]
    assert rng.permutation(7, 3, 300, 295, 300, xp=np).tolist() == [30, 56, 41, 118, 144]
    most = (1 << 32) - 1
    assert rng.permutation(most, 0, most, 0, 3, xp=np).tolist() == [3218943064, 4098016329, 1417888466]


def test_many_permutations_in_one_call_are_those_of_many_calls():
    words = np.arange(6, dtype=np.uint32).reshape(3, 2)
    many = rng.permutation(words[:, :1], words[:, 1:], 37, 5, 30, xp=np)
    assert many.tolist() == [rng.permutation(int(a), int(b), 37, 5, 30, xp=np).tolist() for a, b in words]


# ---------------------------------------------------------------- distributions
def chi_square(counts):
    """(Σ (n − m)² / m − df) / √(2 df): about standard normal for a uniform."""
    counts = np.asarray(counts, dtype="float64")
    mean, df = counts.mean(), counts.size - 1
    return (np.sum((counts - mean) ** 2) / mean - df) / np.sqrt(2 * df)


def test_uniforms_lie_in_zero_to_one():
    low, high = (np.full(1, v, dtype=np.uint32) for v in (0, ONES))
    for dtype, most in ((np.float32, 1 - 2**-24), (np.float64, 1 - 2**-53)):
        assert rng.uniform((low, low), dtype, xp=np).tolist() == [0]
        assert rng.uniform((high, high), dtype, xp=np).tolist() == [most]


@pytest.mark.parametrize("stream", range(3))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniforms_are_uniform(dtype, stream):
    u = rng.uniform(rng.bits(11, stream, 0, 100_000, xp=np), np.dtype(dtype), xp=np)
    assert np.all((u >= 0) & (u < 1))
    assert abs(chi_square(np.histogram(u, bins=100, range=(0, 1))[0])) < 4
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 4 / np.sqrt(u.size)


def test_each_bit_is_set_half_the_time():
    for words in rng.bits(1, 2, 0, 20_000, xp=np):
        for bit in range(32):
            assert abs(np.mean(words >> bit & 1) - 0.5) < 4.5 * 0.5 / np.sqrt(20_000)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_have_the_moments_of_a_normal(dtype):
    a, b = rng.normal(rng.bits(2, 0, 0, 100_000, xp=np), np.dtype(dtype), xp=np)
    both = np.concatenate([a, b]).astype("float64")
    assert np.all(np.isfinite(both))
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(both**power) - moment) < 4 * np.sqrt(spread / both.size)
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(a.size)


def test_seeds_and_streams_differ():
    drawn = {
        rng.bits(seed, stream, 0, 4, xp=np)[0].tobytes()
        for seed in (0, 1, 2, 2**31, 2**32 - 1)
        for stream in (0, 1, 2**16, 2**32 - 1)
    }
    assert len(drawn) == 20


# ---------------------------------------------------------------- permutations
@pytest.mark.parametrize("n", [*range(1, 34), 63, 64, 65, 255, 256, 257, 1000, 4095, 4096, 4097, 65_537])
def test_permutation_is_a_permutation(n):
    for seed in (0, 2**32 - 1):
        order = rng.permutation(seed, 1, n, 0, n, xp=np)
        assert order.dtype == np.int64
        assert np.array_equal(np.sort(order), np.arange(n))


@given(st.integers(1, 3000), seeds, st.integers(0, 100), st.data())
def test_any_slice_of_a_permutation_equals_the_whole(n, seed, stream, data):
    start = data.draw(st.integers(0, n - 1))
    stop = data.draw(st.integers(start + 1, n))
    whole = rng.permutation(seed, stream, n, 0, n, xp=np)
    assert rng.permutation(seed, stream, n, start, stop, xp=np).tolist() == whole[start:stop].tolist()


@pytest.mark.parametrize("n", [2**31 + 5, 2**32 - 1])
def test_permutations_of_very_many_give_their_slices_without_the_rest(n):
    part = rng.permutation(5, 0, n, n - 1000, n, xp=np)
    assert len(set(part.tolist())) == 1000
    assert np.all((part >= 0) & (part < n))
    assert abs(np.mean(part / n) - 0.5) < 4 / np.sqrt(12 * 1000)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_permutations_of_few_are_about_equally_often(n):
    counts = dict.fromkeys(permutations(range(n)), 0)
    for seed in range(2400):
        counts[tuple(rng.permutation(seed, 0, n, 0, n, xp=np).tolist())] += 1
    assert min(counts.values()) > 0
    assert chi_square(list(counts.values())) < 5


def test_every_place_is_about_equally_often_taken_by_every_value():
    n, many = 10, 3000
    counts = np.zeros((n, n))
    for seed in range(many):
        counts[np.arange(n), rng.permutation(seed, 9, n, 0, n, xp=np)] += 1
    assert abs(chi_square(counts)) < 5


def test_permutations_differ_by_seed_and_stream():
    orders = {
        rng.permutation(seed, stream, 50, 0, 50, xp=np).tobytes()
        for seed in range(20)
        for stream in range(20)
    }
    assert len(orders) == 400
