"""The order of rows: each once an epoch, and the same however often a run is stopped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backprop_xp.step import cuts
from backprop_xp.train.batches import Batches, window_and_block
from backprop_xp.workers import owned


@given(
    n=st.integers(1, 200), size=st.integers(1, 40), window=st.integers(1, 300), block=st.integers(1, 50),
    shards=st.integers(1, 9), seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from([(True, False), (False, False), (True, True)]),
)  # fmt: skip
def test_an_epoch_meets_every_row_once(n, size, window, block, shards, seed, kind):
    shuffle, forwards = kind
    batches = Batches(n, size, *window_and_block(n, size, window, block), seed, shuffle, forwards, shards)
    rows, sizes = met(batches, 0)
    assert sorted(rows) == list(range(n))
    assert len(sizes) == batches.steps
    assert sorted(sizes)[1:] == [size] * (len(sizes) - 1)
    if not shuffle:
        assert rows == list(range(n))
    if forwards:  # windows as they lie, each shuffled
        each = [sorted(rows[k : k + batches.window]) for k in range(0, n, batches.window)]
        assert [row for part in each for row in part] == list(range(n))
        assert all(len(window.blocks) == 1 for window in batches.windows(0, 0))


@given(
    n=st.integers(20, 200), size=st.integers(1, 12), window=st.integers(1, 60), block=st.integers(1, 9),
    shards=st.integers(2, 9), workers=st.integers(1, 9),
)  # fmt: skip
def test_workers_read_what_their_shards_take_and_little_else(n, size, window, block, shards, workers):
    batches = Batches(n, size, *window_and_block(n, size, window, block), 7, True, shards=shards)
    if not batches.by_shard:
        return
    for window in batches.windows(0, 0):
        where, full = read(window), window.n // size
        for rank in range(workers):
            there = np.full(window.n, -1)
            for at, start, stop in batches.pieces(window, (rank, workers)):
                there[at : at + stop - start] = np.arange(start, stop)
            taken = set(range(full * size, window.n))
            for chunk in batches.chunks(window, lambda: 2):
                parts = cuts(chunk.shape[1], shards)
                for k in owned(rank, workers, len(parts)):
                    taken |= set(chunk[:, slice(*parts[k])].ravel().tolist())
            assert all(there[k] == where[k] for k in taken)
            if taken:
                assert set(np.flatnonzero(there >= 0)) == taken


def test_a_sorted_file_is_mixed_though_shards_have_parts_of_a_window():
    batches = Batches(65_536, 128, 8192, 128, 3, True, shards=8)
    labels = np.arange(65_536) * 10 // 65_536
    rows, _ = met(batches, 0)
    shares = [np.bincount(labels[rows[k : k + 128]], minlength=10) / 128 for k in range(0, 65_536, 128)]
    assert np.mean([np.abs(share - 0.1).sum() / 2 for share in shares]) < 0.2  # neighbouring rows: 0.87


def met(batches, begin, skip=0):
    rows, sizes = [], []
    for window in batches.windows(begin, skip):
        for chunk in batches.chunks(window, lambda: 3):
            rows += read(window)[chunk].ravel().tolist()
            sizes += [chunk.shape[1]] * chunk.shape[0]
    return rows, sizes


def read(window):
    """The rows of a window in the order in which they lie in memory."""
    return np.concatenate([np.arange(start, stop) for start, stop in window.blocks])


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [met(Batches(200, 5, 50, 10, seed, True), begin)[0] for seed in (1, 2) for begin in (0, 40)]
    assert len(set(map(tuple, orders))) == 4


@pytest.mark.parametrize("skip", [1, 9, 10, 11, 25])
@pytest.mark.parametrize("shards", [1, 3])
def test_an_epoch_begun_goes_on_where_it_stood(skip, shards):
    batches = Batches(103, 4, 40, 10, 3, True, shards=shards)
    rows, sizes = met(batches, 26)
    assert met(batches, 26, skip)[0] == rows[sum(sizes[:skip]) :]
    assert batches.left(batches.windows(26, skip)) == sum(sizes[skip:])


def test_full_batches_come_in_few_lengths():
    batches = Batches(1000, 4, 332, 83, seed=0, shuffle=True)
    for length, most in ((1, 83), (8, 17), (32, 5), (64, 3), (100, 1)):
        window = batches.windows(0, 0)[0]
        each = list(batches.chunks(window, lambda length=length: length))
        assert len({len(chunk) for chunk in each} - {1}) <= 1
        assert max(map(len, each)) <= length
        assert len(each) <= most
        assert sorted(np.concatenate(each).reshape(-1).tolist()) == list(range(332))
    grows = iter((1, 1, *[32] * 99))  # asked for twice a chunk at most
    each = list(batches.chunks(batches.windows(0, 0)[0], lambda: next(grows)))
    assert sorted(np.concatenate(each).reshape(-1).tolist()) == list(range(332))
    assert len(each) <= 7, "what is left is cut anew where the length changes"
