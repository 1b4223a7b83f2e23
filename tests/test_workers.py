"""Workers: the same bits for any number of them, one end for all, and what is refused."""

import contextlib
import ctypes
import importlib.util
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backprop_xp as bp
from backprop_xp import cli, nccl, workers
from backprop_xp.files.folder import step_files
from backprop_xp.files.locks import is_locked
from backprop_xp.step import Gradient, cuts, total
from backprop_xp.train.fit import _loop as made_loop

ROOT = Path(__file__).resolve().parent.parent
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
with_mpi = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None, reason="MPI is not here"
)


def opened_script():
    spec = importlib.util.spec_from_file_location("workers_script", ROOT / "scripts" / "workers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = opened_script()


@pytest.fixture(scope="module")
def whole():
    """The bits of one worker alone."""
    return SCRIPT.bits(SCRIPT.train(workers.Alone()))


# ---------------------------------------------------------------- the tree
def lent(vectors):
    """Each vector in the same memory, which is overwritten with the next one."""
    memory = np.empty_like(vectors[0]) if len(vectors) else None
    for each in vectors:
        memory[...] = each
        yield memory


@given(parts=st.integers(1, 20), size=st.integers(1, 20), seed=st.integers(0, 99))
def test_the_tree_over_any_number_of_workers_is_that_of_a_step(parts, size, seed):
    vectors = np.random.default_rng(seed).standard_normal((parts, 3)).astype("float32")
    want = total([Gradient(v, v[0], ()) for v in vectors]).g
    rows = {}
    for rank in range(size):
        own = workers.owned(rank, size, parts)
        there = lent(vectors[own.start : own.stop])
        for first, last in workers.nodes(0, parts, own):
            rows[first, last] = np.empty(3, "float32")
            room = workers.room_for(parts, rows[first, last])
            workers.tree_sum(first, last, workers._from(there), rows[first, last], room)
        assert next(there, None) is None
    assert len({part for k in range(size) for part in workers.owned(k, size, parts)}) == parts
    found = np.empty(3, "float32")
    workers.tree_sum(0, parts, lambda i, j: rows.get((i, j)), found, workers.room_for(parts, found))
    assert found.tobytes() == want.tobytes()


def small(**settings):
    net = bp.chain(3, bp.Dense(4, bp.tanh), bp.layers.Dropout(0.5), bp.Dense(1))
    return bp.Learner(net, update=bp.Adam(0.01), **settings)


def fitted(learner, rows=45, batch_size=20, **settings):
    data = bp.data.Teacher(1, rows, 3, hidden=(4,))
    return bp.fit(learner, *learner.init(3), data, epochs=2, batch_size=batch_size, **settings)


@pytest.mark.parametrize("batch_size", [20, 3], ids=["a short last batch", "fewer rows than shards"])
def test_one_worker_has_the_bits_of_a_step_in_shards(batch_size):
    want = fitted(small(shards=8), batch_size=batch_size)
    found = fitted(small(), batch_size=batch_size, workers=workers.Alone())
    assert SCRIPT.bits(found[:2]) == SCRIPT.bits(want[:2])
    assert [each.loss for each in found.history] == pytest.approx([each.loss for each in want.history])
    other = fitted(small(), batch_size=batch_size, workers=workers.Alone(shards=2))
    assert SCRIPT.bits(other[:2]) != SCRIPT.bits(want[:2])
    own = fitted(small(shards=8), batch_size=batch_size, workers=workers.Alone(shards=2))
    assert SCRIPT.bits(own[:2]) == SCRIPT.bits(want[:2])


class Counted(bp.data.Sliced):
    """Rows in windows of small blocks, and how many were read in training."""

    def rows(self, start, stop):
        self.read = getattr(self, "read", 0) + stop - start
        return super().rows(start, stop)


@dataclass(frozen=True)
class Optimistic:
    """w − η (2 g − the g before), which keeps g itself; a number that is read lets it run eagerly."""

    rate: float = 0.05
    moments: ClassVar[int] = 1

    def scalars(self, state, *, dtype, xp):
        return (self.rate,)

    def element(self, g, w, before, rate, *, xp):
        assert float(g[0]) < 1e30
        return w - rate * (2 * g - before), g


@pytest.mark.filterwarnings("ignore:.*eager")
def test_a_rule_may_keep_the_gradient_of_a_step_in_shards():
    want, found = (
        fitted(replace(small(shards=8), update=Optimistic()), **settings)
        for settings in ({}, {"workers": workers.Alone()})
    )
    np.testing.assert_allclose(found.w, want.w, rtol=1e-5)


def test_a_worker_reads_its_own_part_of_a_window_and_has_the_same_bits():
    x, t = np.random.default_rng(0).standard_normal((2, 512, 3)).astype("float32")
    found, read = [], []
    for own in (None, (0, 2), (1, 2)):
        source = Counted(x, t[:, :1], window=64, block=4)
        loop, _ = made_loop(
            small(), *small().init(3), source, epochs=2, batch_size=16, shuffle=True, show=None, step=None,
            each=True, validate=None, began=None, workers=workers.Alone(),
        )  # fmt: skip
        usual = loop.batches.pieces
        if own:
            loop.batches.pieces = lambda window, _=None, own=own, usual=usual: usual(window, own)
        loop.own_rows, taken = True, []
        step = loop.step._step

        def noted(w, s, rows, index, own=own, step=step, taken=taken):
            parts = cuts(index.shape[0], 8)
            mine = workers.owned(*(own or (0, 1)), len(parts))
            taken.append([np.asarray(rows[0])[index[slice(*parts[k])]] for k in mine])
            return step(w, s, rows, index)

        loop.step._step = noted
        list(loop.records())
        found.append(taken)
        read.append(source.read)
    whole, first, second = found
    for a, b, c in zip(whole, first, second, strict=True):
        assert np.array_equal(np.concatenate(a), np.concatenate(b + c))
    assert read == [1024, 512, 512]


# ---------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("action", "why"),
    [
        (lambda: workers.Alone(shards=0), "the number of shards must be a positive integer"),
        (lambda: workers.mpi(patience=0), "patience must be a number of seconds above 0"),
        (lambda: fitted(small(), workers=2), "workers must be what bp.workers.mpi"),
        (lambda: fitted(small(), workers=workers.Mpi), "workers must be what bp.workers.mpi"),
        (
            lambda: fitted(small(), workers=workers.Alone(), step=small().compile(np.zeros(1))),
            "step= is compiled for one process alone",
        ),
        (
            lambda: fitted(
                replace(small(), update=bp.GradientDescent(0.1), order="layer by layer"),
                workers=workers.Alone(),
            ),
            "write order='together'",
        ),
        (
            lambda: fitted(
                bp.Learner(bp.chain(3, bp.layers.BatchNorm(), bp.Dense(1))), workers=workers.Alone()
            ),
            "such as BatchNorm, need whole batches: leave workers= out",
        ),
        (
            lambda: fitted(small(shards=2), workers=Pretended(1, 3)),
            "3 workers need at least as many shards, got 2",
        ),
    ],
)
def test_what_workers_cannot_share_is_refused(action, why):
    with pytest.raises(bp.BackpropError, match=why):
        action()


class Pretended(workers.Alone):
    """Two workers of which the other says something else."""

    def __init__(self, rank=0, size=2, other=lambda value: value):
        super().__init__()
        self.rank, self.size, self.other = rank, size, other

    def gather(self, value):
        return [value, self.other(value)]


@pytest.mark.parametrize("name", ["gradient", "data", "order of rows", "weights"])
def test_workers_that_compute_otherwise_are_refused(name):
    def other(value):
        return value | {name: "another"} if isinstance(value, dict) else value

    with pytest.raises(bp.BackpropError, match=f"workers 1 and worker 0 differ in their {name}"):
        fitted(small(), workers=Pretended(other=other))


def test_workers_with_other_settings_are_refused():
    def other(value):
        return [value[0] | {"batch_size": 7}, *value[1:]] if isinstance(value[0], dict) else value

    with pytest.raises(bp.BackpropError, match=r"worker 1 was started with .*: batch_size is 7, not 20"):
        fitted(small(), workers=Pretended(other=other))


def test_a_run_of_other_shards_is_refused_and_one_that_does_not_know_the_workers(tmp_path):
    learner, data = small(), bp.data.Teacher(1, 45, 3, hidden=(4,))
    with bp.RunDir(tmp_path / "a") as run:
        bp.fit(learner, *learner.init(3), data, run=run, workers=workers.Alone())
    with bp.RunDir(tmp_path / "a") as run:
        w, s = run.restore(learner)
        with pytest.raises(bp.BackpropError, match="shards was 8, now 1"):
            bp.fit(learner, w, s, data, epochs=2, run=run)
        with pytest.raises(bp.BackpropError, match=r"write bp.RunDir\(path, workers=workers\)"):
            bp.fit(learner, w, s, data, epochs=2, run=run, workers=Pretended())


def test_a_run_of_another_worker_touches_nothing(tmp_path):
    with bp.RunDir(tmp_path / "a", workers=Pretended(rank=1, other=lambda value: value)) as run:
        assert not run.due(10**9)
        run.save(*small().init())
    assert not (tmp_path / "a").exists()


# ---------------------------------------------------------------- GPUs, by a stand-in
class Wire:
    """NCCL between threads: what a worker sends waits for the other; groups are done at their end."""

    NCCL_FLOAT32, NCCL_FLOAT64, available = 7, 8, True

    def __init__(self, size):
        self.way = {(i, j): queue.Queue() for i in range(size) for j in range(size)}
        self.here = threading.local()

    def groupStart(self):
        self.here.sent, self.here.wanted = [], []

    def groupEnd(self):
        for at, way in self.here.sent:
            way.put(at)
        for at, size, way in self.here.wanted:
            ctypes.memmove(at, way.get(timeout=20), size)


class Communicator:
    def __init__(self, wire, rank):
        self.wire, self.rank = wire, rank

    def send(self, at, count, kind, to, _):
        size = count * (4 if kind == Wire.NCCL_FLOAT32 else 8)
        self.wire.here.sent.append((ctypes.string_at(at, size), self.wire.way[self.rank, to]))

    def recv(self, at, count, kind, of, _):
        size = count * (4 if kind == Wire.NCCL_FLOAT32 else 8)
        self.wire.here.wanted.append((at, size, self.wire.way[of, self.rank]))

    def allGather(self, at, into, count, kind, _):
        size = count * (4 if kind == Wire.NCCL_FLOAT32 else 8)
        self.wire.groupStart()
        for k in range(2):
            self.send(at, count, kind, k, None)
            self.recv(into + k * size, count, kind, k, None)
        self.wire.groupEnd()


class OnGpu(np.ndarray):
    """An array that has an address as CuPy's have."""

    data = property(lambda self: SimpleNamespace(ptr=self.ctypes.data))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slices_that_go_by_NCCL_are_added_up_along_the_same_tree(dtype):
    vectors = np.random.default_rng(0).standard_normal((5, 7)).astype(dtype)
    want, found, wire = workers.Alone().sum(lent(vectors), 5, np.empty(7, dtype)), {}, Wire(2)
    event = SimpleNamespace(record=lambda _: None, done=True)
    cuda = SimpleNamespace(
        nccl=wire, get_current_stream=lambda: SimpleNamespace(ptr=0), Event=lambda **_: event
    )

    def work(rank):
        own = workers.owned(rank, 2, 5)
        to = workers.Buffers(rank, 2, 5, np.empty(7, dtype))
        for name in ("send", "whole", "received", "part"):
            setattr(to, name, getattr(to, name).view(OnGpu))
        to.rows = {node: row.view(OnGpu) for node, row in to.rows.items()}
        carrier = nccl.Nccl(SimpleNamespace(cuda=cuda), Communicator(wire, rank), 2, None, 1.0)
        given = workers._from(lent(vectors[own.start : own.stop]))
        found[rank] = to.sum(given, carrier, np.empty(7, dtype).view(OnGpu))

    each = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join(30)
    assert [found[rank].tobytes() for rank in range(2)] == [want.tobytes()] * 2


def test_where_NCCL_is_silent_the_training_ends():
    event, ends = SimpleNamespace(record=lambda _: None, done=False), []
    cuda = SimpleNamespace(
        nccl=Wire(1), get_current_stream=lambda: SimpleNamespace(ptr=0), Event=lambda **_: event
    )
    nccl.Nccl(SimpleNamespace(cuda=cuda), None, 1, lambda: ends.append(1), 0.01)._wait(None)
    assert ends == [1]


@pytest.mark.parametrize(
    ("gpus", "there"), [(["0", "1"], True), (["0", "0"], False), (["0", None], False)],
    ids=["a GPU each", "one GPU for both", "one without NCCL"],
)  # fmt: skip
@pytest.mark.parametrize("key", [b"key", (1, -2)], ids=["bytes", "numbers"])
def test_NCCL_is_taken_where_each_worker_has_a_GPU_of_its_own(gpus, there, key):
    def other(value):
        return [value[0] and [value[0][0], gpus[1]] if gpus[1] else None, *value[1:]]

    made = []
    module = SimpleNamespace(
        available=True, get_unique_id=lambda: key, NcclCommunicator=lambda *given: made.append(given)
    )
    runtime = SimpleNamespace(deviceGetPCIBusId=lambda _: gpus[0])
    cuda = SimpleNamespace(nccl=module, runtime=runtime, Event=lambda **_: None)
    device = contextlib.nullcontext()
    device.id = 0
    given = Pretended(other=other)
    found = nccl.connected(SimpleNamespace(cuda=cuda), device, given, None, 1.0)
    assert (found is not None) == there
    assert made == [(2, key, 0)] * there


# ---------------------------------------------------------------- devices
@pytest.fixture(scope="module")
def on_devices():
    """What a process with eight devices says."""
    pytest.importorskip("jax", reason="JAX is not installed")
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_cpu_multi_thread_eigen=false"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "scripts" / "devices.py")], cwd=ROOT, text=True,
        capture_output=True, env={**os.environ, **flags}, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_one_two_four_and_eight_devices_give_the_same_bits(on_devices):
    found = [line.split() for line in on_devices if "devices, batches of" in line]
    assert [int(words[0]) for words in found] == [1, 2, 4, 8]
    assert len({words[-1] for words in found}) == 1


def test_a_run_goes_on_with_another_number_of_devices_and_not_with_processes(on_devices):
    assert "8 devices, then 4: the same bits" in on_devices
    assert "on_devices was true, now null" in on_devices[-1]


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (lambda: workers.devices(0), "the number of devices must be a positive integer"),
        (lambda: workers.devices(1024), "must be 1, 2, 4, … of those there are, got 1024"),
        (lambda: workers.devices(3), "must be 1, 2, 4, … of those there are, got 3"),
        (lambda: fitted(small(), workers=workers.devices(1)), r"arrays of JAX, got numpy: learner.init\("),
    ],
)
def test_devices_that_cannot_share_are_refused(action, why):
    pytest.importorskip("jax", reason="JAX is not installed")
    with pytest.raises(bp.BackpropError, match=why):
        action()


# ---------------------------------------------------------------- processes
@with_mpi
def test_two_three_and_four_workers_have_one_workers_bits_and_take_up_each_others_runs(tmp_path, whole):
    for epochs, size in enumerate([4, 2, 3], 1):
        status, found, said, _ = SCRIPT.start(size, "--folder", str(tmp_path / "a"), "--epochs", str(epochs))
        assert (status, len(found), len(set(found))) == (0, size, 1), said
    assert set(found) == {whole}
    assert not is_locked(tmp_path / "a" / "lock")


@with_mpi
def test_two_workers_have_one_workers_bits_on_torch():
    pytest.importorskip("torch")
    status, found, said, _ = SCRIPT.start(2, "--backend", "torch", "--epochs", "1")
    assert status == 0, said
    assert set(found) == {SCRIPT.bits(SCRIPT.train(workers.Alone(), "torch", epochs=1))}


@with_mpi
@pytest.mark.parametrize(
    ("failure", "rank", "word"),
    [
        ("kill", 0, "KILLED|killed|Killed"),
        ("exception", 1, "a worker's own error"),
        ("hang", 0, "worker 1 of 2: no word from another worker for 1 s"),
    ],
)
def test_no_worker_outlives_another_and_the_last_checkpoint_is_good(failure, rank, word, tmp_path, whole):
    words = ["--failure", failure, "--rank", str(rank), "--patience", "1"]
    status, found, said, seconds = SCRIPT.start(2, "--folder", str(tmp_path / "a"), *words)
    assert status
    assert not found
    assert seconds < 20
    assert any(each in said for each in word.split("|")), said
    assert len(step_files(tmp_path / "a")) >= 3
    assert SCRIPT.bits(SCRIPT.train(workers.Alone(), folder=tmp_path / "a")) == whole


COMMAND = ["train", "--rows", "2000", "--layers", "8", "--epochs", "1000", "--every", "1 step", "--keep", "1"]


@with_mpi
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["told to stop", "one is killed"])
def test_the_command_says_the_last_word_for_its_workers(number, tmp_path, capsys):
    folder = str(tmp_path / "a")
    process = subprocess.Popen(
        [sys.executable, "-m", "backprop_xp", *COMMAND, "--workers", "2", "--run", folder],
        cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "COLUMNS": "1000"},
    )  # fmt: skip
    next(line for line in process.stdout if line.startswith("saved"))
    if number == signal.SIGTERM:
        process.send_signal(number)
    else:
        os.kill(_worker_of(process.pid), number)
    began = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    last = [line for line in err.splitlines() if line.startswith("backprop-xp: ")]
    assert len(last) == 1
    assert f"go on with: backprop-xp resume {folder}" in last[0]
    if number == signal.SIGTERM:
        assert process.returncode == 128 + number
        step = max(step_files(Path(folder))).name[5:17]
        assert f"stopped after step {int(step):,} of" in last[0]
        assert [line for line in out.splitlines() if line.startswith("saved")][-1] == f"saved {int(step)}"
        done = int(step) // 63 + 1
        assert cli.main(["resume", folder, "--epochs", str(done), "--quiet"]) == 0
    else:
        assert process.returncode
        assert "the workers ended with status" in last[0]


def _worker_of(pid):
    """A Python process below the command's launcher."""
    for _ in range(4):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pid = int(children[-1])
        if b"--workers=mpi" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            name = Path(f"/proc/{pid}/comm").read_text()
            if name.startswith("python"):
                return pid
    msg = "there is no worker"
    raise AssertionError(msg)
