"""Ctrl-C while a net trains, in processes of their own."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import backprop_xp as bp
from backprop_xp import cli
from backprop_xp.files.folder import step_files

ROOT = Path(bp.__file__).resolve().parent.parent
SCRIPT = """
import sys
import numpy as np, backprop_xp as bp

def tell(report):
    if not told and report.rows < report.total_rows:
        told.append(report)
        print("training", flush=True)
        sys.stdin.readline()

told = []
learner = bp.Learner(bp.chain(3, bp.Dense(5, bp.tanh), bp.Dense(1)), update=bp.Adam(0.01))
data = bp.data.Teacher(1, 20_000, 3, hidden=(4,))
settings = {"batch_size": 16, "began": 0}
whole = bp.fit(learner, *learner.init(), data, epochs=3, **settings)
w, s, _ = bp.fit(learner, *learner.init(), data, epochs=1, **settings)
settings["epochs"] = 3
try:
    bp.fit(learner, w, s, data, **settings, progress=tell)
except KeyboardInterrupt as error:
    went_on = bp.fit(learner, error.w, error.s, data, **settings)
    same = [np.array_equal(a, b) for a, b in zip((went_on.w, went_on.s.step), (whole.w, whole.s.step))]
    print(int(error.s.step), all(same), error)
"""

IN_A_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from backprop_xp import cli
sys.exit(cli.main())
"""


@contextmanager
def closing_in(seconds, process):
    """Kill a process that is still silent after so many seconds: then the test fails, and does not hang."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@pytest.fixture
def training():
    """A process that waits in the middle of an epoch."""
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    try:
        assert process.stdout.readline() == "training\n", process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_ends_the_steps_under_way_and_training_can_go_on(training):
    training.send_signal(signal.SIGINT)
    time.sleep(0.1)
    assert training.poll() is None, "the steps under way are finished first"
    told, errors = training.communicate("go on\n", timeout=60)
    assert errors == ""
    step, same, *message = told.split()
    assert 1250 < int(step) < 2500, "in the second epoch"
    assert same == "True"
    assert message == ["after", "step", f"{step};", "the", "error", "has", "w", "and", "s"]


def test_a_second_ctrl_c_ends_at_once(training):
    training.send_signal(signal.SIGINT)
    time.sleep(2)  # two signals that arrive together are one
    training.send_signal(signal.SIGINT)
    with closing_in(60, training):
        told = training.stdout.readline()  # although the steps under way never end
    assert told == "1250 True at once; the error has w and s from the beginning of the epoch\n"


def test_ctrl_c_while_a_net_is_evaluated_loses_nothing():
    class Validation(bp.data.Stored):
        def rows(self, start, stop):
            raise KeyboardInterrupt

    learner = bp.Learner(bp.chain(3, bp.Dense(1)))
    data = bp.data.Teacher(1, 100, 3, hidden=(4,))
    w, s = learner.init()
    with pytest.raises(KeyboardInterrupt) as why:
        bp.fit(learner, w, s, data, validate=Validation(*data.rows(0, 10)))
    assert int(why.value.s.step) == 4
    assert why.value.w.tolist() == bp.fit(learner, w, s, data).w.tolist()


def typed(words, after, key):
    """What a command writes to a terminal on which a key is pressed after some text; and its status."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, *words],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
    ) as process:  # fmt: skip
        os.close(theirs)
        told, pressed = b"", False
        with suppress(OSError):  # which is how Linux tells the end
            while part := os.read(ours, 4096):
                told += part
                if after in told and not pressed:
                    os.write(ours, key)
                    pressed = True
    os.close(ours)
    return told.decode(), process.returncode


def test_ctrl_c_in_a_terminal_saves_says_how_to_go_on_and_costs_no_bit(tmp_path, capsys):
    words = ["train", "--rows", "40000", "--batch-size", "4", "--layers", "16", "--epochs", "12"]
    stopped, whole = str(tmp_path / "a"), str(tmp_path / "b")
    told, status = typed([*words, "--run", stopped, "--every", "500 steps"], b"saved", b"\x03")
    assert status == 130, told
    assert "Traceback" not in told
    assert f"saved; resume with: backprop-xp resume {stopped}" in " ".join(told.split())
    assert cli.main(["resume", stopped, "--quiet"]) == 0
    assert cli.main([*words, "--run", whole, "--quiet"]) == 0
    assert cli.main(["resume", whole]) == 0
    assert "12 of 12 are made already" in capsys.readouterr().out
    ended = [bp.load(max(step_files(Path(folder)))) for folder in (stopped, whole)]
    assert ended[0][1].tobytes() == ended[1][1].tobytes()
