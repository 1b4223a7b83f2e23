"""The order of rows: each once an epoch, and the same however often a run is stopped."""

import numpy as np
import pytest

from backprop_xp.train.batches import Batches, window_and_block


@pytest.mark.parametrize("n", [1, 5, 64, 97])
@pytest.mark.parametrize("window", [1, 10, 1000])
@pytest.mark.parametrize(("shuffle", "forwards"), [(True, False), (False, False), (True, True)])
def test_an_epoch_meets_every_row_once(n, window, shuffle, forwards):
    batches = Batches(n, 4, *window_and_block(n, 4, window, 5), 7, shuffle, forwards)
    rows, sizes = met(batches, 0)
    assert sorted(rows) == list(range(n))
    assert len(sizes) == batches.steps
    assert sorted(sizes)[1:] == [4] * (len(sizes) - 1)
    if not shuffle:
        assert rows == list(range(n))
    if forwards:  # windows as they lie, each shuffled
        each = [sorted(rows[k : k + batches.window]) for k in range(0, n, batches.window)]
        assert [row for part in each for row in part] == list(range(n))
        assert all(len(window.blocks) == 1 for window in batches.windows(0, 0))


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
def test_an_epoch_begun_goes_on_where_it_stood(skip):
    batches = Batches(103, 4, 40, 10, 3, True)
    rows, sizes = met(batches, 26)
    assert met(batches, 26, skip)[0] == rows[sum(sizes[:skip]) :]
    assert batches.left(batches.windows(26, skip)) == sum(sizes[skip:])
