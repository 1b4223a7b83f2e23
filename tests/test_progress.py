"""Progress: what is reported while a net trains, and how it is shown."""

import io
import math
import sys

import pytest

import backprop_xp as bp
from backprop_xp.train.chunk_length import ChunkLength
from backprop_xp.train.progress import Bar, Lines, opened


@pytest.fixture
def trained():
    """`trained(w, s, **settings)`: a small net fitted to 90 rows, in batches of 16."""
    net = bp.Learner(bp.chain(3, bp.Dense(5, bp.tanh), bp.Dense(1)), update=bp.GradientDescent(0.05))
    data = bp.data.Teacher(1, 90, 3, hidden=(4,))

    def fit(w=None, s=None, **settings):
        start = net.init() if w is None else (w, s)
        return bp.fit(net, *start, data, batch_size=16, **settings)

    return fit


def test_reports_count_rows_and_epochs(trained):
    reports = []
    trained(epochs=3, progress=reports.append)
    ends = [report for report in reports if report.rows == report.total_rows]
    assert [report.epoch for report in ends] == [1, 2, 3]
    assert all(report.epochs == 3 and report.total_rows == 90 for report in reports)
    assert [report.rows for report in reports[:2]] == [16, 32]
    assert ends[-1].seconds_left == 0
    assert all(math.isfinite(report.loss) and report.rows_per_second > 0 for report in reports)


def test_a_progress_that_returns_false_stops_the_training(trained):
    part = trained(epochs=3, progress=lambda report: report.rows < 32)
    assert [epoch.rows for epoch in part.history] == [32]
    assert int(part.s.step) == 2


def test_a_run_that_goes_on_reports_rows_done_before(trained):
    reports = []
    part = trained(progress=lambda report: report.rows < 32)
    trained(part.w, part.s, began=0, progress=reports.append)
    assert [report.rows for report in reports[:2]] == [48, 64]
    assert reports[-1].rows == 90


def test_lines_tell_epochs_and_now_and_then():
    told = io.StringIO()
    show = Lines(told, every=1000)
    for rows in (10, 20):
        show(bp.train.Report(1, 2, rows, 20, 0.5, 100.0, 9.0))
    assert told.getvalue() == "epoch 1/2  loss 0.5  100 rows/s  9 s left\n"
    Lines(told, every=0)(bp.train.Report(1, 2, 10, 20, 0.5, 100.0, 9.0))
    assert told.getvalue().splitlines()[1] == "epoch 1/2 (50%)  loss 0.5  100 rows/s  9 s left"


def test_many_short_epochs_are_not_all_told():
    told = io.StringIO()
    show = Lines(told, every=1000)
    for epoch in range(1, 101):
        show(bp.train.Report(epoch, 100, 20, 20, 0.5, 100.0, 0.0))
    assert told.getvalue().splitlines() == ["epoch 100/100  loss 0.5  100 rows/s"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines(monkeypatch):
    with opened("auto") as show:
        assert isinstance(show, Lines)
    pytest.importorskip("rich")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with opened("auto") as show:
        assert isinstance(show, Bar)
        show(bp.train.Report(1, 1, 20, 20, 0.5, 100.0, 0.0))
    assert "epoch 1/1  loss 0.5  100 rows/s" in terminal.getvalue()
    monkeypatch.setenv("COLUMNS", "40")
    with opened("auto") as show:
        show(bp.train.Report(1, 2, 10, 20, 0.5, 100.0, 0.0))
    assert "epoch 1/2 (50%)\n" in terminal.getvalue(), "all of it, with no figure cut off"


def test_the_pace_finds_a_length_and_keeps_it():
    chunk, second = ChunkLength(), 0.0
    lengths = []
    step = 0
    for _ in range(30):
        step, second = step + chunk.between, second + chunk.between * 0.001 * (1 + 0.3 * (step % 2))
        chunk.read(step, second)
        lengths.append(chunk.length)
    assert lengths[0] == 1
    assert set(lengths[1:]) == {128}


def test_where_each_length_is_compiled_it_changes_only_if_it_is_wrong_by_sixteen():
    found = []
    for tolerance in (4, 16):
        chunk = ChunkLength(tolerance=tolerance)
        step, second = 0, 0.0
        for pace in (0.01, 0.01, 0.0012, 0.0012, 0.0001, 0.0001):  # seconds a step
            step, second = step + chunk.between, second + chunk.between * pace
            chunk.read(step, second)
            found.append(chunk.length)
    assert found == [1, 16, 16, 128, 128, 1024, 1, 16, 16, 16, 1024, 1024]
    chunk = ChunkLength(length=1024, fresh=False, tolerance=16)
    chunk.read(1024, 0.001)
    assert chunk.length == 4096, "the longest, whatever the factor"
