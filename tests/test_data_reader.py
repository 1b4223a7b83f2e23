"""The reader thread: the same bits, errors in order, no thread left behind, and memory that stays flat."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp.train.read_ahead import ReadAhead

ROOT = Path(bp.__file__).resolve().parent.parent
LEARNER = bp.Learner(bp.chain(3, bp.Dense(4, bp.tanh), bp.Dense(1)), update=bp.Adam(0.01))


class Source(bp.data.Stored):
    """Rows, of which it is known who read which, and when; some raise."""

    def __init__(self, raises=None, at=None):
        x = np.random.default_rng(1).normal(size=(200, 3))
        super().__init__(x, x[:, :1])
        self.window, self.block, self.readers, self.raises, self.at, self.read = 40, 10, [], raises, at, 0

    def rows(self, start, stop):
        self.readers.append(threading.current_thread().name)
        self.read += stop - start
        if self.at is not None and self.read > self.at:
            raise self.raises
        return super().rows(start, stop)


def threads():
    return [thread.name for thread in threading.enumerate() if "reader" in thread.name]


def fitted(source, **settings):
    return bp.fit(LEARNER, *LEARNER.init(dtype="float64"), source, batch_size=8, epochs=2, **settings)


def test_rows_are_read_by_another_thread_with_the_same_bits(monkeypatch):
    source = Source()
    ahead = fitted(source, validate=source)
    assert {name.partition("_")[0] for name in source.readers} == {"MainThread", "backprop-xp-reader"}
    assert threads() == []
    monkeypatch.setattr(ReadAhead, "ahead", lambda self, place: None)
    alone = Source()
    plain = fitted(alone, validate=alone)
    assert set(alone.readers) == {"MainThread"}
    assert np.array_equal(ahead.w, plain.w)
    assert [e.loss for e in ahead.history] == [e.loss for e in plain.history]
    assert [e.validation for e in ahead.history] == [e.validation for e in plain.history]


@pytest.mark.parametrize("validated", [False, True], ids=["alone", "validated"])
@pytest.mark.parametrize("window", [40, 200], ids=["windows", "whole"])
def test_what_a_fit_held_goes_with_it(window, validated, tmp_path):
    source = Source()
    source.window = window
    gc.collect()
    gc.disable()  # what goes by itself does not wait for a collection
    try:
        fitted(source, run=bp.RunDir(tmp_path), validate=source if validated else None)
        gone = weakref.ref(source)
        del source
        assert gone() is None
    finally:
        gc.enable()


def test_while_steps_run_the_next_window_alone_is_read():
    events, together = [], threading.Barrier(2, timeout=10)

    def read(place):
        events.append(f"reads {place}")
        if place:
            together.wait()
        return np.zeros(1)

    with ReadAhead(read) as reader:
        for k in range(3):
            reader(k)
            reader.ahead(k + 1 if k < 2 else None)
            events.append(f"uses {k}")
            if k < 2:
                together.wait()  # ends only if the next is read meanwhile
    assert [event for event in events if "reads" in event] == ["reads 0", "reads 1", "reads 2"]
    assert threads() == []


def test_rows_of_a_library_with_devices_are_read_where_they_are_used():
    torch = pytest.importorskip("torch", reason="Torch is not installed")
    names = []
    with ReadAhead(lambda _: names.append(threading.current_thread().name) or torch.zeros(1)) as reader:
        for k in range(2):
            reader(k)
            reader.ahead(k + 1)
    assert names == ["MainThread", "MainThread"]


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_of_the_reader_comes_when_its_rows_are_due(error):
    broken, seen = Source(error, at=80), []  # in the third window of 40 rows

    def scan(self, *args):
        seen.append(args[-1].shape[0])
        return whole(self, *args)

    step = LEARNER.compile(LEARNER.init(dtype="float64")[0])
    whole = type(step).scan
    step.scan = scan.__get__(step)
    with pytest.raises(type(error)) as why:
        fitted(broken, step=step)
    assert why.value is error
    assert sum(seen) == 10, "the steps of the two windows before are made"
    assert threads() == []


def test_no_thread_is_left_by_a_training_that_is_stopped_or_diverges():
    fitted(Source(), progress=lambda report: False)
    assert threads() == []
    wild = bp.Learner(LEARNER.net, update=bp.GradientDescent(1e200))
    with pytest.raises(bp.errors.Diverged), np.errstate(all="ignore"):
        bp.fit(wild, *wild.init(dtype="float64"), Source(), batch_size=8, epochs=3)
    assert threads() == []
    training = bp.train.epochs(LEARNER, *LEARNER.init(dtype="float64"), Source(), epochs=3)
    next(training)
    assert threads() == []


def test_the_reader_sees_what_the_caller_chose():
    with bp.backend("exact"), ReadAhead(lambda _: (bp.backends.get().name, np.zeros(1))) as reader:
        reader(0)
        reader.ahead(1)
        assert reader(1)[0] == "exact"


FLAT = """
import sys
import numpy as np, backprop_xp as bp

def anonymous():
    text = open("/proc/self/status").read()
    return int(text.partition("RssAnon:")[2].split()[0]) // 1024

class Checked(bp.data.Sliced):
    def rows(self, start, stop):
        most[0] = max(most[0], anonymous())
        return super().rows(start, stop)

rows, features = int(sys.argv[2]), 1000
before, most = anonymous(), [0]
x = np.memmap(sys.argv[1], np.float32, "r", shape=(rows, features))
learner = bp.Learner(bp.chain(features, bp.Dense(8, bp.tanh), bp.Dense(1)))
source = Checked(x, target=-1) if sys.argv[3] == "column" else Checked(x, np.zeros((rows, 1), np.float32))
learner = bp.Learner(bp.chain(source.features, bp.Dense(8, bp.tanh), bp.Dense(1)))
bp.fit(learner, *learner.init(), source, batch_size=1024)
print(max(most[0], anonymous()) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.parametrize("target", ["array", "column"])
def test_a_file_larger_than_memory_would_train_in_flat_memory(tmp_path, target):
    path, rows = tmp_path / "rows", 75_000
    with path.open("wb") as file:
        file.truncate(rows * 1000 * 4)  # 300 MB of zeros that take no place
    done = subprocess.run(
        [sys.executable, "-c", FLAT, str(path), str(rows), target],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert int(done.stdout) < 200, "MB of anonymous memory above the import"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_on_jax_a_file_trains_within_200_megabytes():
    pytest.importorskip("jax", reason="jax is not installed")
    command = [sys.executable, ROOT / "scripts" / "memory.py", "--backend", "jax", "--rows", "40000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "anonymous memory above the import" in done.stdout
