"""Watching a training: metrics, validation, early stopping, callbacks, and what is shown."""

import json
import math
import sys
import warnings

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import cli
from backprop_xp.errors import BackpropError, Diverged, FileError
from backprop_xp.files import model
from backprop_xp.train import metrics
from backprop_xp.train.progress import Bar, line

RNG = np.random.default_rng(3)
N, CLASSES, SIZES = 200, 4, (70, 130)  # of batches, in which sums are added up
LABELS = RNG.integers(0, CLASSES, N)
LOGITS = RNG.normal(size=(N, CLASSES)) + 2 * np.eye(CLASSES)[LABELS]
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
NUMBERS = RNG.normal(size=(N, 2)) + 1e6
GUESSES = NUMBERS + RNG.normal(size=(N, 2))
WEIGHTS = RNG.integers(0, 4, N).astype(float)
ONE = PROBABILITIES[:, :1]  # one unit: the probability of class 1
BINARY = (LABELS == 0).astype(float)[:, None]

SOURCE = bp.data.Teacher(1, 200, 3, hidden=(4,))
LEARNER = bp.Learner(bp.chain(3, bp.Dense(5, bp.tanh), bp.Dense(1)), update=bp.Adam(0.01))
HELD_OUT = bp.data.Teacher(2, 50, 3, hidden=(4,))
SETTINGS = {"epochs": 8, "batch_size": 16}


def same(a, b):
    """Whether weights and states are bit for bit the same."""
    return all(np.array_equal(x, y) for x, y in zip(bp.arrays.leaves(a), bp.arrays.leaves(b), strict=True))


def measured(metric, p, t, weights):
    """A metric of rows, batch by batch."""
    total = None
    for rows in (slice(0, SIZES[0]), slice(SIZES[0], N)):
        own = metric.sums(p[rows], t[rows], weights[rows], xp=np)
        total = own if total is None else tuple(a + b for a, b in zip(total, own, strict=True))
    return metric.value(*total, xp=np)


# ---------------------------------------------------------------- metrics
def of_sklearn(name, metric, p, t, v):
    """The same figure by scikit-learn."""
    from sklearn import metrics as theirs

    labels = t if t.ndim == 1 else t[:, 0].astype(int)
    both = np.hstack([1 - p, p]) if p.shape[1] == 1 else p
    best = both.argmax(1)
    return {
        "accuracy": lambda: theirs.accuracy_score(labels, best, sample_weight=v),
        "top_k": lambda: theirs.top_k_accuracy_score(labels, both, k=metric.k, sample_weight=v),
        "balanced_accuracy": lambda: theirs.balanced_accuracy_score(labels, best, sample_weight=v),
        "confusion_matrix": lambda: theirs.confusion_matrix(labels, best, sample_weight=v),
        "log_loss": lambda: theirs.log_loss(labels, both, sample_weight=v),
        "auc": lambda: theirs.roc_auc_score(
            labels, both[:, 1] if both.shape[1] == 2 else both, multi_class="ovr", sample_weight=v
        ),
        "mean_absolute_error": lambda: theirs.mean_absolute_error(t, p, sample_weight=v),
        "mean_squared_error": lambda: theirs.mean_squared_error(t, p, sample_weight=v),
        "r2": lambda: theirs.r2_score(t, p, sample_weight=v),
    }[name]()


@pytest.mark.parametrize("weights", [np.ones(N), WEIGHTS], ids=["rows", "weighted rows"])
@pytest.mark.parametrize("name", list(metrics.ALL))
def test_a_metric_is_what_scikit_learn_says(name, weights):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    metric = metrics.TopK(2) if name == "top_k" else metrics.ALL[name]
    cases = [(GUESSES, NUMBERS)] if metric.of == "numbers" else [(PROBABILITIES, LABELS), (ONE, BINARY)]
    for p, t in cases[: 1 if name == "top_k" else 2]:
        theirs = of_sklearn(name, metric, p, t, weights)
        # sums in another order differ by n ε at most; deviations of targets of about 10⁶ are known to 10⁶ ε
        loose = 1e-9 if name == "r2" else 0
        np.testing.assert_allclose(measured(metric, p, t, weights), theirs, rtol=1e-13, atol=loose)


def test_rows_of_probabilities_are_classes_too():
    rows = np.eye(CLASSES)[LABELS]
    for name in ("accuracy", "balanced_accuracy", "confusion_matrix", "log_loss", "top_k"):
        metric = metrics.ALL[name]
        assert measured(metric, PROBABILITIES, rows, WEIGHTS) == measured(
            metric, PROBABILITIES, LABELS, WEIGHTS
        )


def test_a_metric_that_is_not_defined_is_nan():
    nothing = np.zeros(N)
    for metric in (metrics.accuracy, metrics.balanced_accuracy, metrics.log_loss):
        assert math.isnan(measured(metric, PROBABILITIES, LABELS, nothing))
    assert math.isnan(measured(metrics.r2, GUESSES, NUMBERS, nothing))
    constant = np.ones((N, 1))
    assert measured(metrics.r2, constant, constant, WEIGHTS) == 1
    assert measured(metrics.r2, constant + 1, constant, WEIGHTS) == 0


def test_of_equal_probabilities_the_first_class_comes_first():
    p, t, v = np.full((3, 3), 1 / 3), np.asarray([0, 1, 2]), np.ones(3)
    found = [metrics.TopK(k).value(*metrics.TopK(k).sums(p, t, v, xp=np), xp=np) for k in (1, 2, 3)]
    assert found == [1 / 3, 2 / 3, 1]


@pytest.mark.parametrize(
    ("name", "loss", "units"),
    [
        ("accuracy", bp.half_squared_error, 1),
        ("accuracy", bp.losses.sigmoid_cross_entropy, 3),
        ("r2", bp.softmax_cross_entropy, 3),
    ],
)
def test_a_metric_refuses_what_it_cannot_tell_of(name, loss, units):
    learner = bp.Learner(bp.chain(2, bp.Dense(units)), loss)
    data = bp.data.Stored(np.zeros((4, 2)), np.zeros((4, units)))
    with pytest.raises(BackpropError, match=r"needs (classes|numbers)"):
        bp.train.measure(learner, *learner.init(dtype="float64"), data, {name: metrics.ALL[name]})


def test_auc_without_scikit_learn_is_a_sentence(monkeypatch):
    monkeypatch.setattr(metrics, "find_spec", lambda _: None)
    with pytest.raises(BackpropError, match="pip install scikit-learn"):
        metrics.auc.check(bp.softmax_cross_entropy, 3)


@pytest.mark.parametrize(
    ("name", "window", "size"), [("numpy", 80, 15), ("strict", 80, 15), ("torch", 200, 50), ("jax", 200, 50)]
)
def test_metrics_of_a_net_are_those_of_its_predictions(name, window, size, monkeypatch):
    """In batches, the last one short; with weights, and labels that are ignored."""
    try:
        bp.backends.get(name)
    except bp.errors.BackendUnavailable as reason:
        pytest.skip(str(reason))
    monkeypatch.setattr(sys.modules["backprop_xp.train.evaluate"], "_PREDICTIONS", 150)
    loss = bp.losses.SoftmaxCrossEntropy(ignored=-1)
    learner = bp.Learner(bp.chain(3, bp.Dense(CLASSES)), loss)
    w, s = learner.init(1, dtype="float64", backend=name)
    x, t = RNG.normal(size=(N, 3)), np.where(RNG.random(N) < 0.2, -1, LABELS).astype("int32")
    data = bp.data.Stored(*(bp.asarray(a, like=w) for a in (x,)), bp.asarray(t, backend=name, dtype="int32"),
                          loss=loss, weight=bp.asarray(WEIGHTS, like=w))  # fmt: skip
    data.window = window
    wanted = {"right": metrics.accuracy, "taken": metrics.confusion_matrix}
    found = bp.train.measure(learner, w, s, data, wanted, batch_size=size)
    p = bp.backends.host(learner.predict(w, s, bp.asarray(x, like=w)))
    v = np.where(t < 0, 0, WEIGHTS)
    taken = np.zeros((CLASSES, CLASSES))
    np.add.at(taken, (np.maximum(t, 0), p.argmax(1)), v)
    assert np.array_equal(found["taken"], taken)
    assert found["right"] == np.trace(taken) / v.sum()
    assert found["loss"] == pytest.approx(
        bp.train.evaluate(learner, w, s, data, batch_size=size), rel=1e-14
    )  # n ε


# ---------------------------------------------------------------- validation
def test_figures_of_validation_come_every_so_many_epochs():
    validate = bp.train.Validate(HELD_OUT, {"r2": metrics.r2, "off": metrics.mean_absolute_error}, every=3)
    fitted = bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **SETTINGS, validate=validate)
    assert [epoch.epoch for epoch in fitted.history if epoch.validation is not None] == [3, 6]
    assert [sorted(epoch.metrics) for epoch in fitted.history[:3]] == [[], [], ["off", "r2"]]
    plain = bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **SETTINGS, validate=HELD_OUT)
    assert same(fitted[:2], plain[:2])
    assert plain.history[5].validation == pytest.approx(fitted.history[5].validation, rel=1e-6)  # float32


def test_a_rate_that_waits_on_a_plateau_is_told_of_validations_alone():
    learner = bp.Learner(LEARNER.net, update=bp.GradientDescent(bp.schedules.Plateau(0.1)))
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bp.Learner, "observe", lambda _, s, loss: told.append(loss) or s)
        validate = bp.train.Validate(HELD_OUT, every=2)
        history = bp.fit(learner, *learner.init(), SOURCE, epochs=4, validate=validate).history
    assert told == [history[1].validation, history[3].validation]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"validate": lambda: bp.train.Validate(HELD_OUT, {"r2": "r2"})}, "such as bp.metrics.accuracy"),
        ({"validate": lambda: bp.train.Validate(HELD_OUT, {"loss": metrics.r2})}, "not 'loss'"),
        ({"validate": lambda: bp.train.Validate(HELD_OUT, [metrics.r2])}, "by name"),
        ({"validate": lambda: bp.train.Validate(HELD_OUT, every=0)}, "every= of Validate"),
        ({"validate": lambda: bp.train.Validate(3)}, "a source of data"),
        ({"stop": lambda: 5}, "stop must be such as"),
        ({"stop": lambda: bp.train.EarlyStop("r2")}, r"watches 'r2', but validate= has only 'loss'"),
        ({"stop": lambda: bp.train.EarlyStop(patience=0)}, "the patience"),
        ({"stop": lambda: bp.train.EarlyStop(min_delta=-1)}, "min_delta"),
        ({"stop": lambda: bp.train.EarlyStop(3)}, "the figure"),
        ({"callbacks": lambda: [3]}, "callbacks must be functions"),
    ],
)
def test_what_watches_is_checked_before_training(settings, why):
    with pytest.raises(BackpropError, match=why):
        bp.fit(LEARNER, *LEARNER.init(), SOURCE, **{name: make() for name, make in settings.items()})


def test_a_matrix_is_refused_as_a_figure_of_an_epoch():
    learner = bp.Learner(bp.chain(3, bp.Dense(2)), bp.softmax_cross_entropy)
    data = bp.data.Stored(np.zeros((4, 3), "float32"), np.zeros(4, int), units=2)
    validate = bp.train.Validate(data, {"taken": metrics.confusion_matrix})
    with pytest.raises(BackpropError, match=r"'taken' is not a single number"):
        bp.fit(learner, *learner.init(), data, validate=validate)


# ---------------------------------------------------------------- early stopping


@pytest.fixture
def judged():
    """`judged(figures, name)`: from now on validation tells these figures, epoch by epoch."""
    with pytest.MonkeyPatch.context() as patch:

        def tell(figures, name="loss"):
            values = iter(figures)

            def measure(*_, **__):
                return {"loss": 1.0, "r2": 1.0, name: next(values)}

            patch.setattr(sys.modules["backprop_xp.train.watching"], "measure", measure)

        yield tell


@pytest.fixture(scope="module")
def states():
    """w and s after each epoch."""
    found, settings = [LEARNER.init(7)], {**SETTINGS, "epochs": 8}
    for w, s, _ in bp.train.epochs(LEARNER, *LEARNER.init(7), SOURCE, **settings):
        found.append(LEARNER.snapshot(w, s))
    return found


VALIDATE = bp.train.Validate(HELD_OUT, {"r2": metrics.r2})


@pytest.mark.parametrize(
    ("stop", "figures", "ends", "best"),
    [
        (bp.train.EarlyStop(patience=2), [3, 2, 2, 2.5], 4, 2),
        (bp.train.EarlyStop(patience=2), [3, 2, 2, 1, 1, 1], 6, 4),
        (bp.train.EarlyStop(patience=2, min_delta=0.5), [3, 2.6, 2.5], 3, 1),
        (bp.train.EarlyStop(patience=2, min_delta=0.5), [3, 2.6, 2.4, 2, 2], 5, 3),
        (bp.train.EarlyStop("r2", patience=1), [0.1, 0.3, 0.2], 3, 2),
        (bp.train.EarlyStop(patience=2), [math.nan, 3, math.inf, math.nan], 4, 2),
        (bp.train.EarlyStop(patience=9), [3, 2, 1, 2, 3, 4, 5, 6], 8, 3),  # the epochs are over first
    ],
)  # fmt: skip
def test_the_best_weights_are_returned_and_patience_ends(stop, figures, ends, best, judged, states):
    judged(figures, stop.figure)
    w, s, history = bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **SETTINGS, validate=VALIDATE, stop=stop)
    assert len(history) == ends
    assert same((w, s), states[best])


def test_without_validation_the_training_loss_is_looked_at():
    stop = bp.train.EarlyStop(min_delta=9, patience=3)
    fitted = bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **SETTINGS, stop=stop)
    assert len(fitted.history) == 4
    assert int(fitted.s.step) == 13


def test_epochs_that_are_not_validated_do_not_count(judged, states):
    judged([3, 2, 2, 2])
    validate = bp.train.Validate(HELD_OUT, every=2)
    stop = bp.train.EarlyStop(patience=2)
    w, s, history = bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **SETTINGS, validate=validate, stop=stop)
    assert len(history) == 8
    assert same((w, s), states[4])


def test_an_error_that_ends_the_training_has_the_best_weights(judged, states):
    judged([3, 1, 2, 2])

    def callback(record):
        if record.epoch == 3:
            raise KeyboardInterrupt

    settings = SETTINGS | {"validate": VALIDATE, "stop": bp.train.EarlyStop()}
    with pytest.raises(KeyboardInterrupt) as stopped:
        bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **settings, callbacks=[callback])
    assert same(stopped.value.best, states[2])
    judged([3, 1, 2, 2])

    def explode(record):
        if record.epoch == 3:
            record.w[0] = np.nan

    with pytest.raises(Diverged) as diverged:
        bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **settings, callbacks=[explode])
    assert same(diverged.value.best, states[2])


class Stop(Exception):
    """A process that ends."""


def test_a_resumed_run_stops_at_the_same_epoch_with_the_same_bits(tmp_path):
    """It is killed after every fifth checkpoint, within epochs and between them."""
    stop, figures = bp.train.EarlyStop("r2", patience=2), [0.1, 0.4, 0.3, 0.5, 0.5, 0.2, 0.9]

    def run(folder, kill, every):
        made = []

        def saved(step):
            made.append(step)
            if len(made) == kill:
                raise Stop

        with bp.RunDir(folder, 1, every, saved=saved) as run:
            w, s = run.restore(LEARNER) or LEARNER.init(7)
            epoch = int(s.step) // 13
            with pytest.MonkeyPatch.context() as patch:
                values = iter(figures[epoch:])
                patch.setattr(
                    sys.modules["backprop_xp.train.watching"],
                    "measure",
                    lambda *_, **__: {"loss": 1.0, "r2": next(values)},
                )
                return bp.fit(LEARNER, w, s, SOURCE, **SETTINGS, validate=VALIDATE, stop=stop, run=run)

    whole = run(tmp_path / "whole", None, "1 epoch")
    assert len(whole.history) == 6
    assert int(whole.s.step) == 4 * 13
    for _ in range(100):
        try:
            found = run(tmp_path / "a", 5, "3 steps")
            break
        except Stop:
            pass
    assert same(found[:2], whole[:2])
    assert [(*each[:3], each.metrics) for each in found.history] == [
        (*each[:3], each.metrics) for each in whole.history
    ]
    again = run(tmp_path / "a", None, "3 steps")  # which has ended, and does no more
    assert same(again[:2], whole[:2])
    assert len(again.history) == 6
    assert int(bp.load(tmp_path / "a" / "best.safetensors")[2].step) == 52


def test_a_run_that_was_stopped_by_another_figure_is_refused(tmp_path):
    settings = SETTINGS | {"epochs": 2, "validate": VALIDATE}
    with bp.RunDir(tmp_path) as run:
        bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **settings, run=run, stop=bp.train.EarlyStop("r2"))
    for note, why in ((None, "early stopping watches 'r2', not 'loss'"), ({"figure": "loss"}, "is damaged")):
        with bp.RunDir(tmp_path) as run:
            state = run.restore(LEARNER)
            run.notes |= {} if note is None else {"early_stop": note}
            with pytest.raises(BackpropError, match=why):
                bp.fit(LEARNER, *state, SOURCE, **settings, run=run, stop=bp.train.EarlyStop())


def test_where_the_best_checkpoint_is_gone_that_is_said(tmp_path, judged):
    judged([1, 2, 3, 4])
    settings = SETTINGS | {"validate": VALIDATE, "stop": bp.train.EarlyStop(patience=8)}
    with bp.RunDir(tmp_path, 1, "1 epoch") as run:
        bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **settings | {"epochs": 2}, run=run)
    (tmp_path / "best.safetensors").unlink()
    with bp.RunDir(tmp_path) as run:
        assert run.best(LEARNER) is None
        state = run.restore(LEARNER)
        with pytest.warns(UserWarning, match="of epoch 1, are no longer in the run's folder"):
            s = bp.fit(LEARNER, *state, SOURCE, **settings | {"epochs": 3}, run=run).s
    assert int(s.step) == 39


# ---------------------------------------------------------------- runs keep metrics
def test_a_run_keeps_metrics_in_its_checkpoints_and_its_log(tmp_path):
    for epochs in (2, 4):
        with bp.RunDir(tmp_path) as run:
            state = run.restore(LEARNER) or LEARNER.init(7)
            validate = bp.train.Validate(HELD_OUT, {"r2": metrics.r2}, every=2)
            fitted = bp.fit(LEARNER, *state, SOURCE, epochs=epochs, validate=validate, run=run)
    assert [list(epoch.metrics) for epoch in fitted.history] == [[], ["r2"], [], ["r2"]]
    lines = [json.loads(each) for each in (tmp_path / "log.jsonl").read_text().splitlines()]
    logged = [each["metrics"] for each in lines if each["event"] == "epoch"]
    assert logged == [dict(epoch.metrics) for epoch in fitted.history]


def test_a_checkpoint_whose_metrics_do_not_fit_is_refused(tmp_path):
    with bp.RunDir(tmp_path) as run:
        bp.fit(LEARNER, *LEARNER.init(7), SOURCE, epochs=1, validate=VALIDATE, run=run)

    with pytest.MonkeyPatch.context() as patch, bp.RunDir(tmp_path) as run:
        real = model.told
        patch.setattr(
            sys.modules["backprop_xp.files.run"],
            "told",
            lambda reader: (found := real(reader)) | {"run": found["run"] | {"metrics": ["r2", "x"]}},
        )
        with pytest.raises(FileError, match="no checkpoint of a run"):
            run.restore(LEARNER)


# ---------------------------------------------------------------- callbacks
def test_a_callback_gets_weights_state_and_figures_and_false_stops():
    records = []

    def callback(record):
        records.append((record.epoch, record.loss, int(record.s.step), record.w.shape, dict(record.metrics)))
        return record.epoch < 3

    fitted = bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **SETTINGS, callbacks=[callback, lambda r: None])
    assert records == [(e.epoch, e.loss, 13 * e.epoch, (26,), {}) for e in fitted.history]
    assert len(fitted.history) == 3


def test_a_run_that_a_callback_stops_is_saved(tmp_path):
    with bp.RunDir(tmp_path) as run:
        bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **SETTINGS, callbacks=[lambda r: r.epoch < 2], run=run)
    with bp.RunDir(tmp_path) as run:
        assert int(run.restore(LEARNER)[1].step) == 26


def test_health_is_told_once_for_each_kind():
    def health(learner, w, s, x, t):
        assert x.shape == (5, 3)
        step = int(s.step)
        return [f"dense1: {step} of 20 units are closed", f"dense{1 + (step > 20)}: flow of {step / 1e6:.1e}"]

    callback = bp.train.warn_health(health, LEARNER, *SOURCE.rows(0, 5))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **SETTINGS | {"epochs": 3}, callbacks=[callback])
    assert [str(each.message) for each in found] == [
        "epoch 1: dense1: 13 of 20 units are closed",
        "epoch 1: dense1: flow of 1.3e-05",
        "epoch 2: dense2: flow of 2.6e-05",
    ]


# ---------------------------------------------------------------- what is shown
def test_the_end_of_an_epoch_is_reported_once_with_its_validation():
    reports = []
    validate = bp.train.Validate(HELD_OUT, {"r2": metrics.r2}, every=2)
    history = bp.fit(
        LEARNER, *LEARNER.init(), SOURCE, epochs=2, validate=validate, progress=reports.append
    ).history
    ends = [each for each in reports if each.rows == each.total_rows]
    assert [(each.epoch, each.validation) for each in ends] == [(1, None), (2, history[1].validation)]
    assert ends[1].metrics == history[1].metrics
    assert "validation" in line(ends[1])
    assert "r2" in line(ends[1])


def test_the_smoothed_loss_follows_the_last_steps():
    reports, losses = [], []
    w, s = LEARNER.init(7)
    bp.fit(LEARNER, w, s, SOURCE, **SETTINGS | {"epochs": 1}, progress=reports.append, shuffle=False)
    w, s = LEARNER.snapshot(w, s)
    for first in range(0, 200, 16):
        w, s, loss = LEARNER.step(w, s, *SOURCE.rows(first, min(first + 16, 200)))
        losses.append(float(loss))
    for report in reports:
        done = losses[: -(-report.rows // 16)]
        weights = 0.98 ** np.arange(len(done) - 1, -1, -1)
        # a compiled step may add up in another order, in float32
        assert report.smoothed == pytest.approx(np.average(done, weights=weights), rel=1e-4)


def test_a_line_tells_of_memory_and_long_times():
    report = bp.train.Report(1, 2, 10, 20, 0.5, 100.0, 5400.0, smoothed=0.4, memory=3 * 10**9)
    assert line(report) == (
        "epoch 1/2 (50%)  loss 0.5  smoothed 0.4  100 rows/s  90 min left  3.0 GB on the device"
    )


def test_the_bar_keeps_the_last_validation(monkeypatch):
    pytest.importorskip("rich")
    bar = Bar()
    try:
        bar(bp.train.Report(1, 2, 20, 20, 0.5, 100.0, 0.0, validation=0.25))
        bar(bp.train.Report(2, 2, 10, 20, 0.5, 100.0, 0.0))
        assert "validation 0.25" in bar._bar.tasks[0].description
    finally:
        bar.close()


# ---------------------------------------------------------------- the command
def test_the_command_stops_early_and_tells_which_epoch_is_kept(capsys):
    settings = "--rows 300 --layers none --features 2 --epochs 40 --rate 1 --stop-after 2 --json"
    assert cli.main(["train", *settings.split()]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    losses = [epoch["validation"] for epoch in found["history"]]
    assert len(losses) == found["epochs"] == losses.index(min(losses)) + 3 < 40
    assert found["best_epoch"] == found["epochs"] - 2
    assert found["loss"] == pytest.approx(min(losses), rel=1e-5)  # a mean in float32
    assert f"epochs   {found['epochs']}; the weights are those of epoch {found['best_epoch']}" in err
    assert "r2" in err
