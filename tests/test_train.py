"""The loop: every row once an epoch, runs that go on bit for bit, and what is said when it diverges."""

import sys
import threading

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends
from backprop_xp.compiler.cpu import compiled
from backprop_xp.losses import HalfSquaredError
from backprop_xp.train.batches import Batches
from backprop_xp.train.chunk_length import ChunkLength


def learner(rate=0.05, loss=bp.half_squared_error, outputs=1, **settings):
    net = bp.chain(3, bp.Dense(5, bp.tanh), bp.Dense(outputs))
    return bp.Learner(net, loss, bp.GradientDescent(rate), **settings)


def source(place=None, n=100, window=None, **settings):
    """A teacher's rows; stored, where a place is given, so that each library has the same."""
    teacher = bp.data.Teacher(1, n, 3, hidden=(4,), **settings)
    if place is None:
        return teacher
    x, t = teacher.rows(0, n)
    stored = bp.data.Stored(place.array(x), place.array(t, "int32" if t.ndim == 1 else None))
    stored.window = window or n
    return stored


def stop_after(reports):
    """A progress that stops the training after some reports."""
    left = [reports]

    def show(report):
        left[0] -= 1
        return left[0] > 0

    return show


def equal(a, b):
    """Whether two values of tuples and arrays are the same, bit for bit."""
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return np.array_equal(backends.host(a), backends.host(b))


class Noted:
    """Rows that are their own numbers, and which slices were asked for."""

    def __init__(self, n, window):
        self.n, self.window, self.asked = n, window, []

    def rows(self, start, stop):
        self.asked.append((start, stop))
        x = np.arange(start, stop, dtype=np.float32)[:, None]
        return x, x


# ---------------------------------------------------------------- fit
def test_a_window_that_holds_less_than_all_is_asked_for_in_turn():
    noted = Noted(100, 30)
    net = bp.Learner(bp.chain(1, bp.layers.Linear(1)), update=bp.GradientDescent(1e-6))
    bp.fit(net, *net.init(), noted, batch_size=8, epochs=2)
    half = len(noted.asked) // 2
    epochs = noted.asked[:half], noted.asked[half:]
    for asked in epochs:
        assert sorted(row for start, stop in asked for row in range(start, stop)) == list(range(100))
    assert epochs[0] != epochs[1]


def test_training_comes_near_the_floor():
    data = source(n=20_000)
    net = learner(0.2)
    history = bp.fit(net, *net.init(), data, epochs=6).history
    assert [epoch.epoch for epoch in history] == [1, 2, 3, 4, 5, 6]
    assert data.floor(net.loss) < history[-1].loss < 1.3 * data.floor(net.loss)


def test_fit_is_steps_on_the_rows_of_its_order(place):
    net, data = learner(), source(place, n=22)
    w, s = place.init(net)
    found = bp.fit(net, w, s, data, batch_size=4, epochs=2)
    x, t = data.rows(0, 22)
    for begin in (0, 6):
        losses, order = [], Batches(22, 4, 22, 22, 0, True)
        for window in order.windows(begin, 0):
            for k in (row for chunk in order.chunks(window, lambda: 1) for row in chunk):
                at = place.array(k.tolist(), "int32")
                batch = (place.xp.take(a, at, axis=0) for a in (x, t))
                w, s, loss = net.step(w, s, *batch)
                losses += [float(loss)] * len(k)
        assert len(losses) == 22
        assert found.history[begin // 6].loss == pytest.approx(np.mean(losses), rel=1e-12)
    assert np.allclose(backends.host(found.w), backends.host(w), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 8, 13, 26])
def test_a_stopped_run_goes_on_bit_for_bit(place, steps, monkeypatch):
    net, data = learner(), source(place, n=70, window=30)
    w, s = place.init(net, seed=3)
    whole = bp.fit(net, w, s, data, batch_size=8, epochs=3)
    with monkeypatch.context() as patch:
        patch.setattr(ChunkLength, "read", lambda pace, step, second: setattr(pace, "step", step))
        part = bp.fit(net, w, s, data, batch_size=8, epochs=3, progress=stop_after(steps))
    assert (int(part.s.step), int(whole.s.step)) == (steps, 27)
    rest = bp.fit(net, part.w, part.s, data, batch_size=8, epochs=3, began=0)
    assert equal(rest[:2], whole[:2])
    assert sum(e.rows for e in part.history + rest.history) == 210


def test_rows_of_the_host_are_sent_a_window_at_a_time(place, monkeypatch):
    net, data = learner(), source(place, n=70, window=30)
    w, s = place.init(net)
    rows = bp.data.Stored(*(backends.host(a) for a in data.rows(0, 70)))
    rows.window = 30
    if place.name == "strict":
        with pytest.raises(bp.BackpropError, match="inputs must be a strict array"):
            bp.fit(net, w, s, rows)
        return
    taken, asarray = [], place.backend.asarray
    monkeypatch.setattr(
        place.backend, "asarray", lambda a, *where: taken.append(np.shape(a)) or asarray(a, *where)
    )
    found = bp.fit(net, w, s, rows, batch_size=8)
    sent = sorted(shape for shape in taken if shape[1:] == (3,))
    assert sent == ([(22, 3), (24, 3), (24, 3)] if place.name in ("jax", "torch") else [])
    assert equal(found[:2], bp.fit(net, w, s, data, batch_size=8)[:2])


def test_two_calls_are_one_long_one():
    net, data = learner(), source()
    whole = bp.fit(net, *net.init(), data, epochs=3)
    first = bp.fit(net, *net.init(), data, epochs=1)
    assert equal(bp.fit(net, first.w, first.s, data, epochs=2)[:2], whole[:2])


def test_a_run_that_is_over_does_nothing():
    net, data = learner(), source()
    done = bp.fit(net, *net.init(), data, epochs=2)
    again = bp.fit(net, done.w, done.s, data, epochs=2, began=0)
    assert equal(again[:2], done[:2])
    assert again.history == ()


def test_fit_and_per_sample_leave_their_arguments_alone(place):
    net, data = learner(), source(place)
    w, s = place.init(net)
    kept = net.snapshot(w, s)
    bp.fit(net, w, s, data)
    bp.train.per_sample(net, w, s, *data.rows(0, 10))
    assert equal((w, s), kept)


def test_seed_and_step_alone_decide(place):
    net, data = learner(), source(place)
    runs = [bp.fit(net, *place.init(net, seed=seed), data, epochs=2) for seed in (4, 4, 5)]
    assert equal(runs[0][:2], runs[1][:2])
    assert not equal(runs[0].w, runs[2].w)


def test_the_loss_of_a_sum_is_told_for_each_row():
    data = source(n=50)
    runs = [learner(1e-9, reduction=reduction) for reduction in ("mean", "sum")]
    losses = [bp.fit(net, *net.init(), data, batch_size=8).history[0].loss for net in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_batch_may_be_larger_than_the_data():
    net = learner()
    found = bp.fit(net, *net.init(), source(n=10), batch_size=64, epochs=2)
    assert [epoch.rows for epoch in found.history] == [10, 10]
    assert int(found.s.step) == 2


def test_labels_are_learnt_from_as_they_are(place):
    net = learner(loss=bp.softmax_cross_entropy, outputs=3, rate=0.3)
    data = source(place, n=200, outputs=3, task="classification")
    history = bp.fit(net, *place.init(net), data, epochs=4).history
    assert history[-1].loss < history[0].loss


def test_fractions_are_trained_exactly():
    net = bp.Learner(bp.chain(1, bp.layers.Linear(1, bias=False)), update=bp.GradientDescent(0.5))
    w, s = net.init(backend="exact", weights={"dense1.w": [[1]]})
    data = bp.data.Stored(bp.asarray([[1], [2]], like=w), bp.asarray([[0], [0]], like=w))
    assert bp.fit(net, w, s, data, batch_size=2).w.tolist() == [bp.exact.fraction("-1/4")]


class Counted(HalfSquaredError):
    """Counts how often its formula is read, which under JAX is once a compilation."""

    reads = 0

    def value(self, o, t, *, xp):
        Counted.reads += 1
        return super().value(o, t, xp=xp)


def test_more_epochs_and_more_calls_compile_nothing_more():
    pytest.importorskip("jax", reason="jax is not installed")
    net, (x, t) = learner(loss=Counted()), bp.data.Teacher(1, 37, 3, hidden=(4,)).rows(0, 37)
    data = bp.data.Stored(bp.asarray(x, backend="jax"), bp.asarray(t, backend="jax"))
    w, s = net.init(backend="jax")
    net.check(w, s, *data.rows(0, 37))  # which looks at shapes
    Counted.reads = 0
    step = net.compile(w)
    bp.fit(net, w, s, data, batch_size=8, epochs=4, step=step)
    first = Counted.reads
    bp.fit(net, w, s, data, batch_size=8, epochs=50, step=step)
    assert 0 < first <= 4
    assert Counted.reads - first <= 2  # chunks of other lengths, as the pace is known by now


def test_epochs_train_in_the_same_arrays_to_which_a_plan_is_bound_once(monkeypatch):
    made, bound = [], compiled.BoundPlan
    monkeypatch.setattr(compiled, "BoundPlan", lambda *a: made.append(1) or bound(*a))
    learner = bp.Learner(bp.chain(3, bp.Dense(2)), update=bp.Adam())
    w, s = learner.init(0, dtype="float64")
    x = np.random.default_rng(0).normal(size=(7, 3))
    before, source = w.copy(), bp.data.Stored(x, x[:, :2])
    epochs = bp.train.epochs(learner, w, s, source, epochs=5, batch_size=4)
    seen = [(trained.w, trained.w.copy()) for trained in epochs]
    assert len({id(array) for array, _ in seen}) == 1
    assert len({each.tobytes() for _, each in seen}) == 5
    assert len(made) == 2, "one for batches of 4 rows, one for those of 3"
    assert w.tolist() == before.tolist()


def test_a_scan_of_the_same_read_only_state_begins_anew_each_time():
    learner = bp.Learner(bp.chain(3, bp.Dense(2)), update=bp.GradientDescent(0.1))
    w, s = learner.init(0, dtype="float64")
    w.flags.writeable = False
    step, x, index = learner.compile(w), np.ones((4, 3)), np.arange(4)[None]
    found = [step.scan(w, s, x, x[:, :2], index)[0].tolist() for _ in range(3)]
    assert found[0] == found[1] == found[2] != w.tolist()


def test_threads_train_the_same_learner_side_by_side():
    net, data, found = learner(), source(n=2000), {}

    def run(k):
        found[k] = bp.fit(net, *net.init(), data, epochs=2).w

    threads = [threading.Thread(target=run, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    want = bp.fit(net, *net.init(), data, epochs=2).w
    assert all(equal(found[k], want) for k in range(3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "the number of epochs must be a positive integer"),
        ({"batch_size": 2.5}, "the batch size must be a positive integer"),
        ({"began": 1}, "began must be a step from 0 to 0"),
        ({"progress": "yes"}, "'auto', None or a function"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    net = learner()
    with pytest.raises(bp.BackpropError, match=message):
        bp.fit(net, *net.init(), source(), **settings)


def test_what_does_not_fit_the_learner_is_refused():
    net = learner()
    w, s = net.init()
    with pytest.raises(bp.BackpropError, match="a source of data must be one such as"):
        bp.fit(net, w, s, (1, 2))
    with pytest.raises(bp.BackpropError, match=r"inputs must be a numpy array of shape \(batch, 3\)"):
        bp.fit(net, w, s, bp.data.Teacher(0, 10, 4))
    with pytest.raises(bp.BackpropError, match="weights must be finite"):
        bp.fit(net, w * float("nan"), s, source())


# ---------------------------------------------------------------- diverging
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_run_that_diverges_gives_back_the_last_good_weights():
    w, s = learner().init()
    wild = learner(rate=lambda count, *, xp: xp.where(count < 8, 0.05, 1e30))
    good = bp.fit(wild, w, s, source(), epochs=2, batch_size=25)
    with pytest.raises(
        bp.errors.Diverged, match=r"in epoch 3, .* is not finite; use a smaller rate, or"
    ) as why:
        bp.fit(wild, w, s, source(), epochs=5, batch_size=25, progress=lambda _: None)
    assert equal(why.value.w, good.w)
    assert int(why.value.s.step) == 8


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_last_step_into_infinity_is_seen():
    net = bp.Learner(bp.chain(1, bp.layers.Linear(1)), update=bp.GradientDescent(1e38))
    data = bp.data.Stored(np.full((1, 1), 1e3, np.float32), np.full((1, 1), -1e3, np.float32))
    with pytest.raises(
        bp.errors.Diverged, match=r"a weight is not finite; use a smaller rate, such as 1e\+37"
    ):
        bp.fit(net, *net.init(), data)


# ---------------------------------------------------------------- per sample
@pytest.mark.parametrize("f", [bp.activations.identity, bp.relu])
def test_per_sample_is_one_step_after_the_other(any_place, f):
    net = bp.Learner(bp.chain(2, bp.Dense(2, f), bp.Dense(1)), update=bp.GradientDescent(0.25))
    weights = {"dense1.w": [[1, -2], [0.5, 1]], "dense2.w": [[1], [0.5]]}
    w, s = any_place.init(net, weights=weights, partial=True)
    x, t = any_place.array([[1, 0], [0.5, 1], [-1, 0.5]]), any_place.array([[1], [0.5], [0]])
    got = bp.train.per_sample(net, w, s, x, t)
    losses = []
    for k in range(3):
        w, s, loss = net.step(w, s, x[k : k + 1, ...], t[k : k + 1, ...])
        losses.append(loss)
    got_w, got_losses = backends.host(got[0]), backends.host(got[2])
    assert got_losses.shape == (3,)
    if any_place.name == "exact":
        assert got[0].tolist() == w.tolist()
        assert got[2].tolist() == [loss.tolist() for loss in losses]
    rtol = 1e-12 if any_place.dtype != "float32" else 1e-5
    assert np.allclose(got_w, backends.host(w), rtol=rtol)
    assert np.allclose(got_losses, [float(loss) for loss in losses], rtol=rtol)


def test_more_samples_than_a_backend_is_handed_at_once(monkeypatch):
    net, data = learner(), source(n=23)
    whole = bp.train.per_sample(net, *net.init(), *data.rows(0, 23))
    monkeypatch.setattr(sys.modules["backprop_xp.train.fit"], "LONGEST", 5)
    parts = bp.train.per_sample(net, *net.init(), *data.rows(0, 23))
    assert parts[2].shape == (23,)
    assert equal(parts, whole)
    assert int(parts[1].step) == 23
