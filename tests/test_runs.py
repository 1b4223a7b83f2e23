"""Run directories: a training that is stopped in any way goes on bit for bit, and loses no checkpoint."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import cli
from backprop_xp.compiler.compiled import Compiled
from backprop_xp.errors import FileError
from backprop_xp.files import run as runs
from backprop_xp.files.folder import read_log, step_files, verify

ROOT = Path(__file__).resolve().parent.parent
SOURCE = bp.data.Teacher(1, 200, 3, hidden=(4,))
LEARNER = bp.Learner(bp.chain(3, bp.Dense(5, bp.tanh), bp.Dense(1)), update=bp.Adam(0.01))
SETTINGS = {"epochs": 3, "batch_size": 16}


class Stop(Exception):
    """A process that ends."""


def same(a, b):
    """Whether weights and states are bit for bit the same."""
    pairs = zip(bp.arrays.leaves(a), bp.arrays.leaves(b), strict=True)
    return all(np.array_equal(bp.backends.host(x), bp.backends.host(y)) for x, y in pairs)


def train(folder, *, stop=None, keep=3, every="1 step", learner=LEARNER, source=SOURCE, **settings):
    """Train in a run directory; a checkpoint at the step `stop` is the last thing that is done."""
    told = []

    def saved(step):
        told.append(step)
        if step == stop:
            raise Stop

    with bp.RunDir(folder, keep, every, saved=saved) as run:
        w, s = run.restore(learner) or learner.init(7)
        return bp.fit(learner, w, s, source, **SETTINGS | settings, run=run), told


def names(folder):
    return sorted(each.name for each in folder.iterdir())


@pytest.fixture(scope="module")
def whole():
    """The training that is never stopped, without a run directory."""
    return bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **SETTINGS)


@pytest.mark.parametrize(
    ("name", "window"), [("numpy", 200), ("numpy", 64), ("torch", 64), ("jax", 64), ("strict", 200)]
)
def test_a_training_that_is_stopped_within_an_epoch_goes_on_bit_for_bit(name, window, tmp_path):
    try:
        bp.backends.get(name)
    except bp.errors.BackendUnavailable as reason:
        pytest.skip(str(reason))
    source = bp.data.Stored(*(bp.asarray(a, backend=name, dtype="float32") for a in SOURCE.rows(0, 200)))
    source.window = window
    with bp.backend(name):
        step = LEARNER.compile(LEARNER.init(7)[0])
        (w, s, history), _ = train(tmp_path / "whole", source=source, step=step)
        for stop in (5, 17):
            with pytest.raises(Stop):
                train(tmp_path / "a", stop=stop, source=source, step=step)
        (w2, s2, history2), _ = train(tmp_path / "a", source=source, step=step)
    assert same((w2, s2), (w, s))
    assert [each[:3] for each in history2] == [each[:3] for each in history], "epochs, their rows and losses"


def test_the_newest_are_kept_and_a_finished_run_adds_nothing(tmp_path, whole):
    fitted, told = train(tmp_path, keep=2)
    assert told == list(range(1, 40))
    assert names(tmp_path) == [
        "lock", "log.jsonl", "run.json", "step-000000000038.safetensors", "step-000000000039.safetensors"
    ]  # fmt: skip
    assert same(fitted[:2], whole[:2])
    again, told = train(tmp_path)
    assert told == []
    assert again.history == fitted.history
    assert same(again[:2], whole[:2])
    longer, _ = train(tmp_path, epochs=4)
    assert [each.epoch for each in longer.history] == [1, 2, 3, 4]
    assert same(longer[:2], bp.fit(LEARNER, *whole[:2], SOURCE, epochs=1, batch_size=16)[:2])


@pytest.mark.parametrize(
    ("every", "wanted"),
    [("1 h", [39]), ("1 epoch", [13, 26, 39]), ("2 epochs", [26, 39]), ("0 s", None), ("10 steps", None)],
)
def test_checkpoints_come_as_often_as_asked(every, wanted, tmp_path):
    told = train(tmp_path, every=every)[1]
    assert told[-1] == 39
    if wanted is not None:
        assert told == wanted
    elif every == "10 steps":
        assert all(10 <= b - a < 20 for a, b in zip([0, *told], told[:-1], strict=False))


def test_a_checkpoint_is_announced_when_it_is_there(tmp_path):
    def saved(step):
        assert verify(tmp_path / f"step-{step:012}.safetensors")

    with bp.RunDir(tmp_path, every="1 epoch", saved=saved) as run:
        bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **SETTINGS, run=run)


def test_the_best_is_kept_under_its_name_and_remembered(tmp_path):
    held_out = bp.data.Stored(*SOURCE.rows(0, 50))
    losses = iter([3.0, 1.0, 2.0, 0.5, 0.7])
    judged = {}

    def measure(*_, **__):
        return {"loss": next(losses)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["backprop_xp.train.watching"], "measure", measure)
        for epochs, best in ((3, 2), (4, 4), (5, 4)):
            fitted, _ = train(tmp_path, keep=1, every="1 epoch", epochs=epochs, validate=held_out)
            judged[best] = bp.load(tmp_path / "best.safetensors")[2]
            assert int(judged[best].step) == 13 * best
    assert [each.validation for each in fitted.history] == [3.0, 1.0, 2.0, 0.5, 0.7]


def test_where_a_file_system_has_no_hard_links_the_best_is_a_copy(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    held_out = bp.data.Stored(*SOURCE.rows(0, 50))
    train(tmp_path, every="1 epoch", epochs=2, validate=held_out)
    best = tmp_path / "best.safetensors"
    assert best.stat().st_nlink == 1
    assert bp.load(best)[0] == LEARNER


def test_notes_are_saved_with_each_checkpoint(tmp_path):
    with bp.RunDir(tmp_path) as run:
        run.notes["patience"] = 3
        bp.fit(LEARNER, *LEARNER.init(7), SOURCE, run=run)
    with bp.RunDir(tmp_path) as run:
        run.restore(LEARNER)
        assert run.notes == {"patience": 3}


# ---------------------------------------------------------------- what goes wrong
def test_a_second_trainer_is_refused_before_anything_is_written(tmp_path):
    with bp.RunDir(tmp_path):
        before = names(tmp_path)
        with pytest.raises(FileError, match="another process trains in"):
            bp.RunDir(tmp_path)
        assert names(tmp_path) == before
        code = f"import backprop_xp as bp; bp.RunDir({str(tmp_path)!r})"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert "FileError: another process trains in" in done.stderr
    bp.RunDir(tmp_path).close()


def test_own_temporary_files_are_removed_and_no_others(tmp_path):
    own = [".step-000000000400.safetensors.12.ab.tmp", ".best.safetensors.1.link.tmp", ".run.json.1.f.tmp"]
    other = [".a.safetensors.12.ab.tmp", "step-000000000400.safetensors.tmp", "notes.txt"]
    for name in own + other:
        (tmp_path / name).touch()
    bp.RunDir(tmp_path).close()
    assert names(tmp_path) == sorted(["lock", *other])


def test_the_newest_that_verifies_is_resumed_and_the_damaged_are_told(tmp_path, whole):
    with pytest.raises(Stop):
        train(tmp_path, stop=20)
    newest = tmp_path / "step-000000000020.safetensors"
    data = newest.read_bytes()
    newest.write_bytes(data[:-100] + bytes([data[-100] ^ 4]) + data[-99:])
    with pytest.warns(UserWarning, match=r"step-000000000019.* is resumed, since .*0020.*SHA-256"):
        fitted, told = train(tmp_path, keep=1)
    assert told[0] == 20
    assert same(fitted[:2], whole[:2])
    assert "step-000000000020.safetensors.damaged" in names(tmp_path)


def test_where_no_checkpoint_verifies_nothing_begins_anew(tmp_path):
    train(tmp_path, every="1 epoch")
    for path in step_files(tmp_path):
        os.truncate(path, 100)
    with pytest.raises(FileError, match=r"no checkpoint in .* can be resumed: .*0039.*0013"):
        train(tmp_path)


def test_checkpoints_that_were_not_restored_are_not_written_over(tmp_path):
    train(tmp_path, every="1 epoch")
    with bp.RunDir(tmp_path) as run, pytest.raises(FileError, match="holds checkpoints already: resume with"):
        bp.fit(LEARNER, *LEARNER.init(7), SOURCE, run=run)
    with bp.RunDir(tmp_path) as run:
        run.restore(LEARNER)
        with pytest.raises(FileError, match="goes on at step 39, with the w"):
            bp.fit(LEARNER, *LEARNER.init(7), SOURCE, **SETTINGS, run=run)
    with pytest.raises(FileError, match="this RunDir is closed"):
        bp.fit(LEARNER, *LEARNER.init(7), SOURCE, run=run)


def other(**changes):
    settings = {"net": LEARNER.net, "loss": LEARNER.loss, "update": LEARNER.update, "shards": 1}
    return bp.Learner(**settings | changes)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"batch_size": 8}, "batch_size was 16, now 8"),
        ({"shuffle": False}, "shuffle was true, now false"),
        ({"source": bp.data.Teacher(1, 201, 3, hidden=(4,))}, "rows was 200, now 201"),
        ({"learner": other(shards=2)}, "shards was 1, now 2"),
        ({"learner": other(update=bp.Adam(0.1))}, r"update was .*0\.01.* now .*0\.1"),
    ],
)  # fmt: skip
def test_other_settings_are_refused_and_named(change, why, tmp_path):
    with pytest.raises(Stop):
        train(tmp_path, stop=5)
    before = names(tmp_path)
    with pytest.raises(FileError, match=f"cannot go on bit for bit: .*{why}"):
        train(tmp_path, **change)
    assert names(tmp_path) == before


def test_another_seed_is_refused(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path, stop=5)
    with bp.RunDir(tmp_path) as run:
        w, s = run.restore(LEARNER)
        with pytest.raises(FileError, match="seed was 7, now 8"):
            bp.fit(LEARNER, w, s._replace(seed=s.seed + 1), SOURCE, **SETTINGS, run=run)


def test_another_version_of_the_orders_is_refused(tmp_path, monkeypatch):
    train(tmp_path)
    monkeypatch.setattr(runs, "ORDER", runs.ORDER + 1)
    with pytest.raises(FileError, match=r"version of orders was \d, now \d"):
        train(tmp_path)


def test_a_loss_that_is_no_number_leaves_the_last_good_checkpoint(tmp_path):
    wild = bp.Learner(LEARNER.net, update=bp.GradientDescent(1e4))
    with pytest.raises(bp.errors.Diverged), np.errstate(all="ignore"):
        train(tmp_path, learner=wild)
    with bp.RunDir(tmp_path) as run:
        w, _ = run.restore(wild)
    assert np.all(np.isfinite(w))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_is_full_ends_the_training_with_a_named_error(
    number, tmp_path, monkeypatch, capsys, whole
):
    with pytest.raises(Stop):
        train(tmp_path, stop=5)
    before = [name for name in names(tmp_path) if name.startswith("step")]

    def fail(_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(FileError, match="cannot be written: "):
            train(tmp_path)
    assert [name for name in names(tmp_path) if name not in ("lock", "log.jsonl", "run.json")] == before
    assert same(train(tmp_path)[0][:2], whole[:2])


def test_a_training_that_fills_a_small_disk_loses_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "scripts" / "full_disk.py")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the run went on to the same bits" in done.stdout


def test_a_log_line_that_was_not_finished_and_later_ones_are_left_out(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path, stop=20)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"event": "epoch", "step": 26, "loss": 1}\n{"event": "ep')
    train(tmp_path)
    epochs = [each for each in read_log(tmp_path) if each["event"] == "epoch"]
    assert [each["step"] for each in epochs] == [13, 26, 39]


@pytest.mark.parametrize("every", ["60", 60, "0 steps", "1.5 epochs", "-1 s", "60 days"])
def test_a_time_that_is_none_is_refused(every, tmp_path):
    with pytest.raises(FileError, match="every= must be a time such as '60 s'"):
        bp.RunDir(tmp_path, every=every)


# ---------------------------------------------------------------- the command, signals and kills
COMMAND = ["train", "--rows", "2000", "--layers", "8", "--rate", "0.05"]


def command(*words, **settings):
    return subprocess.Popen(
        [sys.executable, "-m", "backprop_xp", *words], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "COLUMNS": "1000"}, **settings,
    )  # fmt: skip


@pytest.fixture
def interruptible():
    """Processes started now get SIGINT even where the tests do not, as in a script's background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1], ids=lambda each: each.name
)
def test_a_signal_ends_the_step_saves_and_tells_how_to_go_on(number, tmp_path, interruptible):
    process = command(*COMMAND, "--epochs", "1000", "--run", str(tmp_path / "a"), "--every", "1 step")
    first = next(line for line in process.stdout if line.startswith("saved"))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    steps = [int(each.split()[1]) for each in (first + out).splitlines() if each.startswith("saved")]
    last = err.splitlines()[-1]
    assert last.startswith(
        f"backprop-xp: stopped after step {steps[-1]:,} of 63,000, in epoch 1 of 1000; saved; "
    )
    assert last.endswith(f"resume with: backprop-xp resume {tmp_path / 'a'}")
    assert max(step_files(tmp_path / "a")).name == f"step-{steps[-1]:012}.safetensors"


def test_a_second_signal_ends_at_once():
    code = """
import time, backprop_xp as bp
from backprop_xp.train.loop import interrupts
with interrupts("SIGTERM") as noted:
    print("here", flush=True)
    while not noted:
        time.sleep(0.01)
    print("noted", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    process.terminate()
    assert process.stdout.readline() == "noted\n"
    process.terminate()
    assert process.wait(timeout=10) == -signal.SIGTERM
    process.stdout.close()


def test_resume_goes_on_with_a_file(tmp_path, capsys):
    lines = ["a,b,kind", *(f"{k % 7},{k % 5},{'pq'[k % 2]}" for k in range(200))]
    (tmp_path / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    file = ["--data", str(tmp_path / "table.csv")]
    train = ["train", *file, "--layers", "4", "--json", "--quiet"]
    assert cli.main([*train, "--epochs", "3", "--run", str(tmp_path / "whole")]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert cli.main([*train, "--epochs", "2", "--run", str(tmp_path / "part")]) == 0
    capsys.readouterr()
    assert cli.main(["resume", str(tmp_path / "part"), "--epochs", "3", "--json", "--quiet"]) == 2
    assert "name it again, as --data FILE" in capsys.readouterr().err
    assert cli.main(["resume", str(tmp_path / "part"), *file, "--epochs", "3", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == whole["loss"]


def test_resume_goes_on_under_other_kernels_only_where_that_is_allowed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BACKPROP_XP_NATIVE", "0")
    folder = str(tmp_path)
    assert cli.main([*COMMAND, "--epochs", "1", "--run", folder, "--quiet"]) == 0
    monkeypatch.setattr(Compiled, "code", "those of another machine")
    words = ["resume", folder, "--epochs", "2", "--json", "--quiet"]
    assert cli.main(words) == 2
    assert "--allow-other-bits" in " ".join(capsys.readouterr().err.split())
    assert cli.main([*words, "--allow-other-bits"]) == 0
    assert len(json.loads(capsys.readouterr().out)["history"]) == 2


def test_resume_goes_on_with_the_settings_of_train(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    folder = str(tmp_path / "a")
    words = [*COMMAND, "--json", "--quiet"]
    assert cli.main([*words, "--epochs", "3"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert cli.main([*words, "--epochs", "1", "--run", folder, "--every", "1 epoch"]) == 0
    capsys.readouterr()
    assert cli.main(["resume", folder, "--epochs", "3", "--json", "--quiet"]) == 0
    resumed = json.loads(capsys.readouterr().out)
    assert resumed["loss"] == whole["loss"]
    assert [each["epoch"] for each in resumed["history"]] == [1, 2, 3]
    assert cli.main([*words, "--rate", "0.06", "--run", folder]) == 2
    assert "update was" in capsys.readouterr().err

    assert cli.main(["runs", str(tmp_path)]) == 0
    line = capsys.readouterr().out.splitlines()[1].split()
    assert line[:4] == ["a", "finished", "189", "3"]
    newest = max(step_files(tmp_path / "a"))
    assert cli.main(["show", str(newest)]) == 0
    told = capsys.readouterr().out
    for text in (
        "Dense(8, Tanh())",
        "GradientDescent(0.05)",
        "steps    189",
        "epochs   3",
        "as it was written",
    ):
        assert text in told
    os.truncate(newest, newest.stat().st_size - 1)
    assert cli.main(["show", str(newest)]) == 2
    assert cli.main(["resume", folder, "--quiet"]) == 0
    assert "is resumed, since" in capsys.readouterr().err
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert cli.main(["plot", folder]) == 0
    assert (tmp_path / "a" / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["resume", "{}"], "there is no run in"),
        (["runs", "{}/none"], "there is no run in"),
        (["runs", "{}"], "there is no run in"),
        (["plot", "{}"], "there is no run in"),
        (["show", "{}"], "there is no checkpoint in"),
        (["show", "{}/none"], "none cannot be read: No such file"),
    ],
)
def test_a_folder_that_is_no_run_is_told_in_one_line(words, why, tmp_path, capsys):
    if words[0] == "plot":
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert cli.main([each.format(tmp_path) for each in words]) == 2
    told = capsys.readouterr().err
    assert why in told
    assert told.count("\n") == 1


def test_runs_are_finished_or_stopped_and_fit_a_narrow_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(Stop):
        train(tmp_path / "a", stop=5)
    train(tmp_path / "b")
    assert cli.main(["runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "state" in line] == ["  state       stopped", "  state       finished"]
    assert max(map(len, lines)) <= 40
    train(tmp_path / "a")
    assert cli.main(["runs", str(tmp_path)]) == 0
    assert "stopped" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"command": 1}', '{"command": {"epochs": "x"}}', '{"command": {"a b": 1}}']
)
def test_settings_that_were_tampered_with_are_refused(text, tmp_path, capsys):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(SystemExit, match="2"):
        sys.exit(cli.main(["resume", str(tmp_path)]))
    assert "error" in capsys.readouterr().err


def test_a_training_killed_twenty_times_loses_nothing():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "kill.py"), "20"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "20 kills in" in done.stdout
