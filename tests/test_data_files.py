"""A person's own file, and files of synthetic rows: what is read, said, held out and written."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backprop_xp as bp
from backprop_xp import cli
from backprop_xp.data import files, parts, writing
from backprop_xp.data.preprocessing import Preprocessing

ROWS = np.random.default_rng(0).normal(size=(60, 3))
KINDS = ["npy", "npz", "csv", "parquet"]


@pytest.fixture
def saved(tmp_path):
    """`saved(kind, rows)`: the path of a file of these rows; the last column is the target."""

    def save(kind, rows):
        path, rows = tmp_path / f"rows.{kind}", np.asarray(rows)
        if kind == "npy":
            np.save(path, rows)
        elif kind == "npz":
            np.savez(path, x=rows[:, :-1], t=rows[:, -1])
        elif kind == "csv":
            lines = ["a,b,t", *(",".join(map(repr, row)) for row in rows.tolist())]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        else:
            pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
            from pyarrow import parquet

            parquet.write_table(pa.table(dict(zip("abt", rows.T, strict=True))), path, row_group_size=16)
        return str(path)

    return save


@pytest.mark.parametrize("kind", KINDS)
def test_any_slice_of_a_file_equals_the_slice_of_its_rows(kind, saved):
    table = files.open_table(saved(kind, ROWS), dtype="float64")
    assert (table.n, table.features, table.task) == (60, 2, "regression")
    for start, stop in ((0, 60), (15, 17), (59, 60)):
        x, t = table.rows(start, stop)
        assert np.array_equal(np.hstack([x, t]), ROWS[start:stop])


@pytest.mark.parametrize("kind", ["npy", "npz", "csv"])
def test_whole_numbers_of_few_values_are_classes_unless_told_otherwise(kind, saved):
    path = saved(kind, np.column_stack([ROWS, np.arange(60) % 4 * 3.0])[:, 1:])
    assert files.open_table(path).classes == (0, 3, 6, 9)
    assert files.open_table(path, task="regression").classes == ()


TEXT = "\ufeffname; size ;kind\nx;1.5;good\n\ny;2e3;bad\n'z';-1;good\n"


def test_a_text_file_has_names_separators_and_text(tmp_path):
    path = tmp_path / "rows.CSV"
    path.write_text(TEXT, encoding="utf-8")
    table = files.open_table(str(path), drop=["name"])
    x, t = table.rows(0, 3)
    assert (table.names, table.target, table.classes) == (("size",), "kind", ("bad", "good"))
    assert (x.tolist(), t.tolist()) == ([[1.5], [2000.0], [-1.0]], [1, 0, 1])
    path.write_text("\n" + TEXT.lstrip("\ufeff"), encoding="utf-8")
    assert files.open_table(str(path), drop=["name"]).rows(0, 3)[0].tolist() == x.tolist()
    for mark in "\t|":
        path.write_text(f"1{mark}2\n3{mark}4\n", encoding="utf-8")
        assert files.open_table(str(path), "0").rows(0, 2)[0].tolist() == [[2.0], [4.0]]
    path.write_text("P(a|b),t\n1,2\n3,4\n", encoding="utf-8")
    assert files.open_table(str(path)).names == ("P(a|b)",)


@pytest.mark.parametrize(
    ("name", "text", "settings", "message"),
    [
        ("a.xls", "", {}, "a file of data ends in '.csv'"),
        ("a.csv", None, {}, "there is no file"),
        ("a.csv", "", {}, "it is empty"),
        ("a.csv", "a,b\n", {}, "it has no rows"),
        ("a.csv", "a,a\n1,2\n", {}, "two columns have the same name"),
        ("a.csv", "a,b\n1,2\n3\n", {}, "line 3 has 1 cells, but there are 2 columns"),
        ("a.csv", "a,b\n1,2\n", {"target": "c"}, "there is no column 'c'; the columns are 'a', 'b'"),
        ("a.csv", "a,b\n1,2\n", {"drop": ["c"]}, "there is no column 'c'"),
        ("a.csv", "a,b\nx,2\n", {}, "columns that hold no numbers: 'a'"),
        ("a.npy", "no array", {}, "cannot be read"),
        ("a.npz", "no archive", {}, "cannot be read: it is no array of numbers, or damaged"),
        ("a.npz", b"PK\x03\x04cut", {}, "cannot be read: File is not a zip file"),
        ("a.csv", b"a,b\n\xff,2\n", {}, "it is not text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_a_sentence(tmp_path, name, text, settings, message):
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(bp.BackpropError, match=message):
        files.open_table(str(tmp_path / name), **settings)


def test_an_array_file_with_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.asarray([[{}]]), allow_pickle=True)
    with pytest.raises(bp.BackpropError, match="cannot be read: it is no array of numbers"):
        files.open_table(str(tmp_path / "a.npy"))
    with (tmp_path / "c.npz").open("wb") as file:
        np.save(file, np.ones((3, 2)))
    with pytest.raises(bp.BackpropError, match=r"it is a single array: name it \.npy"):
        files.open_table(str(tmp_path / "c.npz"))
    np.savez(tmp_path / "b.npz", x=np.float64(3), t=np.ones(3))
    with pytest.raises(bp.BackpropError, match="x is a single number, and rows are needed"):
        files.open_table(str(tmp_path / "b.npz"))


# ---------------------------------------------------------------- held out, standardized
@given(n=st.integers(2, 3000), rows=st.integers(1, 400), block=st.integers(1, 40), seed=st.integers(0, 9))
def test_two_parts_of_a_source_are_all_its_rows(n, rows, block, seed):
    whole = np.arange(n)[:, None]
    source = bp.data.Sliced(whole, whole * 1.0, dtype="float64", block=block)
    kept, out = parts.split(source, min(rows, n - 1), seed)
    x, held = (part.rows(0, part.n)[0][:, 0].tolist() for part in (kept, out))
    assert sorted(x + held) == list(range(n))
    assert 1 <= len(held) <= max(rows, n // 1000)  # at least a block
    start, stop = sorted((seed * len(x) // 11, len(x) * 7 // 8 + 1))
    assert kept.rows(start, stop)[0][:, 0].tolist() == x[start:stop]
    assert parts.first_rows(kept, stop).rows(0, stop)[0][:, 0].tolist() == x[:stop]


def test_columns_get_mean_zero_and_variance_one_and_a_constant_one_zeros():
    x = np.column_stack([1e6 + ROWS[:, 0], np.full(60, 7.0), 1e-8 * ROWS[:, 1]])
    source = bp.data.Sliced(x, ROWS[:, 2] - 5, dtype="float64", window=16)
    part = parts.Part(source, [(0, 60)])
    mean, spread = parts.statistics(part)
    x, t = parts.Standardized(part, mean, spread).rows(0, 60)
    assert np.allclose(x.mean(axis=0), 0, atol=1e-9)
    assert np.allclose(x.std(axis=0), [1, 0, 1], rtol=1e-9)
    assert (t.mean(), t.std()) == (pytest.approx(0, abs=1e-12), pytest.approx(1))
    assert spread[1] == pytest.approx(ROWS[:, 2].std())


# ---------------------------------------------------------------- the command line
@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
@pytest.mark.parametrize("name", ["checkerboard", "friedman1"])
def test_a_written_set_is_read_as_it_was_generated(kind, name, tmp_path, monkeypatch, capsys):
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    monkeypatch.setattr(writing, "_ROWS", 64)
    path = str(tmp_path / f"rows.{kind}")
    assert cli.main(["data", name, "--rows", "150", "--seed", "3", "--out", path]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: 150 rows of {name}, ")
    assert [each.name for each in tmp_path.iterdir()] == [f"rows.{kind}"]
    want = bp.data.sets.ALL[name](3, 150)
    table = files.open_table(path, "t" if kind != "npy" else None)
    assert table.task == want.task
    for a, b in zip(table.rows(0, 150), want.rows(0, 150), strict=True):
        assert np.array_equal(a, b)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, capsys, monkeypatch):
    assert cli.main(["data", "parity", "--out", str(tmp_path / "rows.txt")]) == 2
    assert "ends in '.npy', '.npz', '.parquet'" in capsys.readouterr().err
    monkeypatch.setattr(bp.data.Parity, "rows", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["data", "parity", "--out", str(tmp_path / "rows.npy")])
    assert list(tmp_path.iterdir()) == []


FLOWERS = "\n".join(["length,name", *(f"{k % 3 + k / 1000},{'abc'[k % 3]}" for k in range(200))])


def test_a_net_learns_ones_own_classes_and_says_what_it_did(tmp_path, capsys):
    path = tmp_path / "flowers.csv"
    path.write_text(FLOWERS, encoding="utf-8")
    command = [
        "train",
        "--data",
        str(path),
        "--epochs",
        "60",
        "--layers",
        "8",
        "--update",
        "adam",
        "--rate",
        "0.05",
    ]
    assert cli.main(command) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "1 → 8 → 3 units" in told
    assert "180 rows of flowers.csv: 1 feature, target 'name', 3 classes (a, b, c)" in told
    assert "20 other rows are held out; inputs are standardized" in told
    assert "right 100.0% of the answers speed" in told
    assert cli.main([*command, "--quiet", "--json", "--rows", "100", "--backend", "numpy"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["floor"], found["settings"]["rows"], found["history"][0]["rows"]) == (None, 100, 100)
    assert found["settings"]["task"] == "classification"


def test_numbers_are_predicted_in_their_own_unit(tmp_path, capsys):
    rows = ROWS[np.arange(600) % 60]
    np.save(tmp_path / "rows.npy", np.column_stack([rows[:, :2], 1000 + 50 * rows[:, 0]]))
    command = ["train", "--data", str(tmp_path / "rows.npy"), "--epochs", "20", "--layers", "none", "--json"]
    assert cli.main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["r2"] > 0.999
    assert found["root_mean_square_error"] < 1
    assert found["loss_before"] > 0.1


# ---------------------------------------------------------------- predicted by a run
def trained(folder, text, capsys):
    """The folder of a run that was trained on a text file."""
    (folder / "rows.csv").write_text(text, encoding="utf-8")
    command = ["train", "--data", str(folder / "rows.csv"), "--run", str(folder / "run"), "--quiet"]
    assert cli.main([*command, "--epochs", "3", "--layers", "8", "--update", "adam", "--rate", "0.05"]) == 0
    capsys.readouterr()
    return folder / "run"


def predicted(capsys, *words):
    """The lines that `predict` prints, cell by cell."""
    assert cli.main(["predict", *map(str, words)]) == 0
    return [line.split(",") for line in capsys.readouterr().out.splitlines()]


def test_other_rows_are_predicted_with_the_names_scales_and_classes_of_the_training(tmp_path, capsys):
    run = trained(tmp_path, FLOWERS, capsys)
    (tmp_path / "new.csv").write_text("id,length\nx,2.1\ny,0.05\n", encoding="utf-8")
    head, *rows = predicted(capsys, run, "--data", tmp_path / "new.csv")
    assert head == ["name", "probability"]
    assert [name for name, _ in rows] == ["c", "a"]
    assert all(1 / 3 < float(probability) <= 1 for _, probability in rows)
    checkpoint = max(run.glob("step-*"))
    learner, w, s = bp.load(checkpoint)
    with bp.RunDir(run) as opened:
        opened.restore(learner)
        scales = Preprocessing.parsed(opened.notes["table"])
    x = ((np.asarray([[2.1]], dtype="float32") - scales.mean) / scales.scale).astype("float32")
    assert float(rows[0][1]) == float(learner.predict(w, s, x).max())
    out = tmp_path / "kinds.csv"
    told = predicted(capsys, checkpoint, "--data", tmp_path / "new.csv", "--out", out)
    assert told == [[f"{out}: 2 rows", f" predicted by {checkpoint}"]]
    assert [line.split(",") for line in out.read_text("utf-8").splitlines()] == [head, *rows]


def test_an_update_is_explained_in_the_numbers_and_classes_of_the_table(saved, tmp_path, capsys):
    run = trained(tmp_path, FLOWERS, capsys)

    def explained(run, *words):
        assert cli.main(["explain", "--model", str(run), "--json", *words]) == 0
        return json.loads(capsys.readouterr().out)["runs"][0]

    own = explained(run, "--inputs", "2.1", "--targets", "c")
    learner, w, s = bp.load(max(run.glob("step-*")))
    with bp.RunDir(run) as opened:
        opened.restore(learner)
        scales = Preprocessing.parsed(opened.notes["table"])
    x = ((np.asarray([[2.1]], dtype="float32") - scales.mean) / scales.scale).astype("float32")
    loss = float(learner.losses(w, s, x, np.asarray([2], dtype="int32"))[0])
    assert float(own["steps"][0]["loss"]) == pytest.approx(loss, rel=1e-6)
    assert own["net"]["layers"][0]["labels"] == ["length"]
    assert cli.main(["show", str(max(run.glob("step-*")))]) == 0
    assert "target 'name', 3 classes, by the columns 'length'" in capsys.readouterr().out
    for words, told in (("--inputs 1 --targets d", "the table has no class 'd'"),
                        ("--inputs 1,2 --targets a", "a row has 1 numbers, 'length'; got 2"),
                        ("--inputs 1;2 --targets a", "2 samples and --targets 1: equally many")):  # fmt: skip
        assert cli.main(["explain", "--model", str(run), *words.split()]) == 2
        assert told in capsys.readouterr().err

    numbers = Preprocessing([], "", [1, 2.5, True], [], [])
    assert numbers.labels_of(["2.50", "True"]) == [1, 2]
    command = ["train", "--data", saved("npz", ROWS), "--run", str(tmp_path / "numbers"), "--layers", "none"]
    assert cli.main([*command, "--epochs", "1", "--task", "regression", "--quiet"]) == 0
    capsys.readouterr()
    mean = ROWS.mean(axis=0)
    assert explained(tmp_path / "numbers", "--inputs", f"{mean[0]} {mean[1]}", "--targets", f"{mean[2]}")


def test_a_model_of_a_table_is_exported_with_its_scales(saved, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    run, out = trained(tmp_path, FLOWERS, capsys), str(tmp_path / "model.onnx")
    assert cli.main(["export", str(max(run.glob("step-*"))), out]) == 0
    (tmp_path / "new.csv").write_text("length\n2.1\n0.05\n", encoding="utf-8")
    capsys.readouterr()
    _, *wanted = predicted(capsys, run, "--data", tmp_path / "new.csv")
    session = onnxruntime.InferenceSession(out)
    (found,) = session.run(None, {"input": np.asarray([[2.1], [0.05]], dtype="float32")})
    told = session.get_modelmeta().custom_metadata_map
    assert [json.loads(told["classes"])[k] for k in found.argmax(axis=1)] == [name for name, _ in wanted]
    np.testing.assert_allclose(found.max(axis=1), [float(share) for _, share in wanted], rtol=1e-5)
    path, numbers = saved("npz", ROWS), tmp_path / "numbers"
    assert cli.main(["train", "--data", path, "--run", str(numbers), "--epochs", "1", "--quiet"]) == 0
    assert cli.main(["export", str(max(numbers.glob("step-*"))), out]) == 0
    assert "in standard deviations of the target" in capsys.readouterr().err


def test_numbers_come_in_the_unit_of_their_column_in_blocks_and_from_the_best_epoch(
    saved, tmp_path, capsys, monkeypatch
):
    table = np.column_stack([ROWS[:, :2], 1000 + 50 * ROWS[:, 0]])
    path, run = saved("npz", table), tmp_path / "run"
    command = ["train", "--data", path, "--run", str(run), "--quiet", "--batch-size", "4", "--layers", "none"]
    assert cli.main([*command, "--epochs", "30", "--stop-after", "9"]) == 0
    capsys.readouterr()
    np.savez(tmp_path / "new.npz", x=ROWS[:, :2])
    whole = predicted(capsys, run, "--data", tmp_path / "new.npz")
    assert whole[0] == ["t"]
    assert np.allclose(np.asarray(whole[1:], dtype="float64")[:, 0], table[:, 2], atol=5)
    best = run / "best.safetensors"
    monkeypatch.setattr("backprop_xp.cli.predict._ROWS", 16)
    blocks = predicted(capsys, best, "--data", tmp_path / "new.npz")
    assert np.allclose(np.asarray(blocks[1:], dtype="float64"), np.asarray(whole[1:], dtype="float64"), 1e-6)


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("width\n1\n", [], "has no column 'length', which the net was trained on; its columns are 'width'"),
        ("length,id\n1,a\n,b\n", [], "inputs must be finite numbers; 1 of 2 are NaN or infinite"),
        ("length\n1\nx\n", [], "columns that hold no numbers: 'length'"),
        ("", [], "it is empty"),
        (None, [], "there is no file"),
        ("length\n1\n", ["--out", "new.csv"], "another one than --data"),
        ("length\n1\n", ["--out", "a.txt"], "are written to a .csv file"),
    ],
)
def test_rows_that_cannot_be_predicted_are_refused_in_a_sentence(
    tmp_path, capsys, monkeypatch, text, words, message
):
    monkeypatch.chdir(tmp_path)
    run = trained(tmp_path, FLOWERS, capsys)
    if text is not None:
        (tmp_path / "new.csv").write_text(text, encoding="utf-8")
    assert cli.main(["predict", str(run), "--data", "new.csv", *words]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.out == ""


def test_a_model_that_knows_no_table_predicts_no_file(tmp_path, capsys):
    learner = bp.Learner(bp.chain(1, bp.Dense(1)))
    bp.save(tmp_path / "net.safetensors", learner, *learner.init())
    assert cli.main(["predict", str(tmp_path / "net.safetensors"), "--data", "new.csv"]) == 2
    assert "does not say what its columns are" in capsys.readouterr().err
    assert cli.main(["predict", str(tmp_path), "--data", "new.csv"]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err


def test_a_run_goes_on_with_the_table_it_began_on_alone(tmp_path, capsys):
    run, path = trained(tmp_path, FLOWERS, capsys), tmp_path / "rows.csv"
    assert cli.main(["resume", str(run), "--data", str(path), "--epochs", "4", "--quiet"]) == 0
    path.write_text(FLOWERS.replace("length", "width"), encoding="utf-8")
    assert cli.main(["resume", str(run), "--data", str(path), "--epochs", "5", "--quiet"]) == 2
    assert "began on other columns, classes or rows" in capsys.readouterr().err


def test_what_is_too_long_for_a_checkpoint_is_left_out_and_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("backprop_xp.cli.models._LARGEST_NOTE", 10)
    (tmp_path / "rows.csv").write_text(FLOWERS, encoding="utf-8")
    command = ["train", "--data", str(tmp_path / "rows.csv"), "--run", str(tmp_path / "run"), "--quiet"]
    assert cli.main([*command, "--epochs", "1", "--layers", "none"]) == 0
    assert "scales are not kept, there are too many (1 features, 3 classes)" in capsys.readouterr().err


GOOD = {"features": ["a"], "target": "t", "classes": [], "mean": [0.0, 1.0], "scale": [1.0, 2.0]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": "a"},
        {"features": ["a", "b"]},
        {"target": None},
        {"classes": ["x"]},
        {"classes": [[]]},
        {"mean": [0.0, None]},
        {"mean": [0.0, float("nan")]},
        {"scale": [1.0, 0.0]},
        {"scale": [1.0]},
        {"more": 1},
    ],
)
def test_a_damaged_table_of_a_run_is_refused(wrong):
    assert Preprocessing.parsed(GOOD)._asdict() == GOOD
    with pytest.raises(bp.errors.FileError, match="of the columns of its table is damaged"):
        Preprocessing.parsed(GOOD | wrong)
    with pytest.raises(bp.errors.FileError, match="of the columns of its table is damaged"):
        Preprocessing.parsed(list(GOOD))


# ---------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "flowers"], "there are no data named 'flowers': give one of 'teacher'"),
        (["--data", "friedman1", "--outputs", "2"], "friedman1 has no setting outputs"),
        (["--data", "parity", "--task", "regression"], "parity has no setting task"),
        (["--data", "rows.csv", "--noise", "1"], "--noise is a setting of synthetic data"),
        (["--data", "rows.csv"], "there is no file 'rows.csv'"),
    ],
)
def test_data_that_are_not_there_are_told(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(set(bp.data.sets.ALL) - {"teacher", "three_rows"}))
def test_every_set_can_be_trained_on(name, capsys, monkeypatch):
    monkeypatch.setattr(cli.data_options, "UNSEEN", 100)
    assert (
        cli.main(["train", "--data", name, "--rows", "200", "--epochs", "1", "--layers", "4", "--quiet"]) == 0
    )
    assert "loss" in capsys.readouterr().out
