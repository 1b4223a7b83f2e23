"""The command line as a newcomer meets it."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest

import backprop_xp as bp
from backprop_xp import articles, backends, cli, terminal
from backprop_xp.cli import demo

SMALL = ["train", "--rows", "2000", "--layers", "8", "--epochs", "2"]
ROOT = Path(bp.__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal as wide as any line."""
    monkeypatch.setenv("COLUMNS", "1000")


def run(*words, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "backprop_xp", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"} | environment,
    )


def shell(words, **environment):
    """What `python -m backprop_xp WORDS`, redirected, prints on either stream, and its status."""
    command = f"'{sys.executable}' -m backprop_xp {words}"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=ROOT,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": ""} | environment,
    )
    return done.stdout, done.stderr, done.returncode


def test_train_tells_what_it_does_and_what_came_of_it(capsys):
    assert cli.main(SMALL) == 0
    told = capsys.readouterr()
    for text in (
        "net      8 → 8 → 1 units, tanh; 81 weights",
        "2,000 rows",
        "numpy, float32",
        "its floor of 0.005",
    ):
        assert text in told.out
    assert "rows/s" in told.out
    assert [line[:9] for line in told.err.splitlines() if line.endswith("rows/s")] == [
        "epoch 1/2",
        "epoch 2/2",
    ]


def test_the_defaults_come_near_the_floor(capsys):
    assert cli.main(["train", "--json", "--quiet", "--epochs", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["floor"] < found["loss"] < 1.25 * found["floor"] < found["loss_before"] / 20


def test_classification_tells_how_many_answers_are_right(capsys):
    assert cli.main([*SMALL, "--task", "classification", "--rate", "0.5", "--noise", "0.2"]) == 0
    told = capsys.readouterr().out
    assert "4 classes" in told
    assert "with this noise at most 80.0% are possible" in told


@pytest.mark.parametrize("loss", [name for names in cli.train.LOSSES.values() for name in names])
def test_every_loss_can_be_asked_for(loss, capsys):
    task = "classification" if "cross" in loss else "regression"
    assert cli.main([*SMALL, "--loss", loss, "--task", task, "--outputs", "2", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["loss"] == loss
    assert found["loss"] < found["loss_before"]


def test_json_is_the_one_line_on_standard_output(capsys):
    assert cli.main([*SMALL, "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert told.out.count("\n") == 1
    assert len(found["history"]) == 2
    assert found["settings"]["backend"] == "numpy"
    assert "its floor" in told.err


def test_quiet_prints_the_result_alone(capsys):
    assert cli.main([*SMALL, "--quiet"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("loss ")
    assert told.err == ""


def test_the_same_seed_gives_the_same_loss(capsys):
    losses = []
    for seed in ("3", "3", "4"):
        assert cli.main([*SMALL, "--json", "--quiet", "--seed", seed]) == 0
        losses.append(json.loads(capsys.readouterr().out)["loss"])
    assert losses[0] == losses[1] != losses[2]


def test_another_backend_comes_to_the_same_loss(capsys):
    pytest.importorskip("torch")
    losses = []
    for name in ("torch", "numpy"):
        words = ["--json", "--quiet", "--backend", name, "--dtype", "float64", "--layers", "none"]
        assert cli.main([*SMALL, *words]) == 0
        losses.append(json.loads(capsys.readouterr().out)["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backend", "fortran"], "a backend must be one of"),
        (["--backend", "exact"], "training needs tanh, sine and logarithm, which the exact backend does not"),
        (["--device", "cuda:0"], "runs on device 'cpu', got 'cuda:0'"),
        (["--rows", "0"], "the number of rows must be a positive integer"),
        (["--outputs", "0"], "must be a positive integer, got 0"),
        (["--layers", "8,0"], "must be a positive integer, got 0"),
        (["--batch-size", "0"], "the batch size must be a positive integer"),
        (["--epochs", "-1"], "the number of epochs must be a positive integer"),
        (["--rate", "nan"], "a rate must be a positive finite number"),
        (["--rate", "1e30"], "training diverged"),
        (["--seed", "-1"], "a seed must be an integer"),
        (["--noise", "-1"], "a standard deviation"),
        (["--noise", "1e308"], "a standard deviation from 0 to 1e+15, got 1e+308"),
        (["--features", "0"], "the number of features must be a positive integer, got 0"),
        (["--epochs", "0"], "the number of epochs must be a positive integer, got 0"),
        (["--layers", "100000000"], "GB of memory, for 1,000,000,001 weights and biases"),
        (["--rows", str(10**12)], "GB of memory, for 81 weights and biases, 1,000,000,000,000 rows"),
        (["--rows", str(10**12), "--batch-size", str(10**12)], "batches of 1,000,000,000,000 rows"),
        (["--rows", str(10**400)], "GB of memory"),
        (["--seed", str(2**32)], "a seed must be an integer"),
        (["--task", "classification", "--outputs", "1"], "2 or more classes"),
        (["--loss", "softmax_cross_entropy"], "the floor of SoftmaxCrossEntropy on regression is not known"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(words, message, capsys):
    assert cli.main([*SMALL, "--quiet", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("backprop-xp: error: ")
    assert message in lines[0]


@pytest.mark.parametrize("words", [["--layers", "a,b"], ["--loss", "mae"], ["--rows", "many"], ["--fly"]])
def test_words_that_are_not_understood_are_refused(words, capsys):
    with pytest.raises(SystemExit) as why:
        cli.main([*SMALL, *words])
    assert why.value.code == 2
    assert words[-1] in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ([], ["1. see it backprop-xp demo", "5. ask why", "articles", "backends", "--version"]),
        (["train"], ["examples:", "--batch-size N", "(default: 100,000", "floor", "half_squared_error"]),
        (["articles"], ["--article N", "--json"]),
        (["backends"], ["array libraries"]),
    ],
)
def test_help_tells_what_there_is(words, texts, capsys):
    with pytest.raises(SystemExit) as why:
        cli.main([*words, "--help"])
    assert why.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert all(text in told for text in texts)


@pytest.mark.parametrize("columns", ["40", "80", "120"])
def test_the_demo_fits_the_screen_and_tells_what_to_do_next(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(demo, "_STEPS", 10)
    monkeypatch.setattr(demo, "import_module", lambda name: importlib.import_module(f"{name}_is_missing"))
    assert cli.main(["demo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert len(lines) <= (24 if int(columns) >= 80 else 48)
    told = " ".join(" ".join(lines).split())
    for text in ("0.43, 1, 1.3: learnt", "0, 1, 0: nothing learnt", "So the weight increases by 0.0002.",
                 "floor", "uncompiled", "explain --article 2 --page why.html"):  # fmt: skip
        assert text in told
    assert "\x1b" not in told


def test_the_demo_times_every_rival_that_is_installed(monkeypatch, capsys):
    pytest.importorskip("torch", reason="the rival is Torch")
    monkeypatch.setattr(demo, "_STEPS", 10)
    demo._speed()
    assert re.search(r"Torch [\d,]+ µs|scikit-learn [\d,]+ µs", capsys.readouterr().out)


def test_articles_begin_with_a_line_each(capsys):
    assert cli.main(["articles"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines[:5]] == list("12345")
    assert lines[6] == "All: 107 figures: 95 equal, 12 errata"
    assert sum("backprop-xp articles --" in line for line in lines) == 4


@pytest.mark.parametrize("shell_name", ["bash", "zsh"])
def test_completion_is_printed_for_a_shell(shell_name, capsys):
    pytest.importorskip("shtab", reason="shtab is not installed")
    assert cli.main(["complete", shell_name]) == 0
    assert "--batch-size" in capsys.readouterr().out


def test_a_misspelt_command_is_guessed(capsys):
    with pytest.raises(SystemExit):
        cli.main(["trian"])
    assert capsys.readouterr().err == (
        "backprop-xp: error: there is no 'trian': did you mean 'train'? If not, see backprop-xp --help\n"
    )


class Terminal(StringIO):
    def isatty(self):
        return True


def test_an_error_is_coloured_on_a_terminal_and_what_to_do_is_bold(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert cli.main([*SMALL, "--backend", "exact"]) == 2
    told = sys.stderr.getvalue()
    assert told.startswith("\x1b[31mbackprop-xp: error:\x1b[0m training needs tanh")
    assert "\x1b[1muse --backend numpy" in told
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.style("red", Terminal())("plain") == "plain"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert terminal.style("red", Terminal())("plain") == "plain"
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert terminal.style("red", StringIO())("red") == "\x1b[31mred\x1b[0m"


def test_without_a_command_the_help_is_shown(capsys):
    assert cli.main([]) == 2
    assert "backprop-xp train" in capsys.readouterr().err


def test_version_is_told(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"backprop-xp {bp.__version__}\n"


def test_backends_are_listed_with_the_reason_where_one_is_missing(capsys, monkeypatch):
    real = backends.get

    def get(name=None):
        if name == "torch":
            msg = "PyTorch is not installed: pip install it"
            raise bp.errors.BackendUnavailable(msg)
        return real(name)

    monkeypatch.setattr(backends, "get", get)
    assert cli.main(["backends"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(lines) == set(backends.names())
    assert "yes  numpy" in lines["numpy"]
    assert lines["torch"].endswith("-    PyTorch is not installed: pip install it")


def test_articles_are_handed_on(monkeypatch):
    asked = []
    monkeypatch.setattr(articles, "main", lambda **given: asked.append(given) or 1)
    assert cli.main(["articles", "--article", "2", "--backend", "numpy", "--json"]) == 1
    assert asked == [{"backend": "numpy", "as_json": True, "only": 2, "brief": True}]


def test_ctrl_c_ends_politely(monkeypatch, capsys):
    def stop(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.train, "fit", stop)
    assert cli.main(SMALL) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "backprop-xp: stopped before the first step"


@pytest.fixture
def interruptible():
    """Processes started now get SIGINT even where the tests do not, as in a script's background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_module_is_the_command_and_can_be_interrupted(interruptible):
    process = run("train", "--epochs", "1000")
    try:
        assert process.stdout.readline().startswith("net ")
        process.stderr.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert re.fullmatch(
        r"backprop-xp: stopped after step [\d,]+ of 3,125,000, in epoch \d+ of 1000", told.splitlines()[-1]
    )
    assert "Traceback" not in told


def test_a_pipe_that_is_closed_is_no_error():
    process = run("train", "--rows", "1000")
    process.stdout.close()
    assert process.wait(timeout=30) == 141
    assert all(line.startswith("epoch") for line in process.stderr.read().splitlines())
    process.stderr.close()


# ---------------------------------------------------------------- streams and terminals
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("words", ["train --help", "articles --article 3", "train --rows 500 --epochs 1"])
def test_any_encoding_will_do(words, encoding):
    out, err, status = shell(words, PYTHONIOENCODING=encoding)
    assert status == 0, err
    assert b"Traceback" not in err
    assert b"?" not in out
    if words.startswith("train --rows"):
        assert b"8 -> 64 -> 64 -> 1 units" in out


def test_signs_have_plain_forms():
    assert terminal.plain("→ ∂E/∂o ≈ η Σ √2² é │━") == "-> dE/do ~ eta sum sqrt2^2 e |-"
    assert terminal.plain("漢") == "?"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_powers_stay_powers_in_every_encoding(encoding):
    told = "10⁻¹⁷ µs, 2³²".encode(encoding, "backprop_xp.plain").decode(encoding)
    assert told.replace("µ", "u").replace("³²", "^32") == "10^-17 us, 2^32"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words", ["train --rows 500 --epochs 1 --quiet", "backends", "train --help", "--version"]
)
def test_a_full_disk_is_told_in_one_line(words, unbuffered):
    _, err, status = shell(f"{words} >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert err.decode() == "backprop-xp: error: the output cannot be written: No space left on device\n"
    assert status == 2


@pytest.mark.parametrize("words", ["train --rows 500", "backends"])
def test_a_closed_output_is_told_in_one_line(words):
    _, err, status = shell(f"{words} >&-")
    assert err.decode() == (
        "backprop-xp: error: standard output is closed: send it to a file, or to /dev/null\n"
    )
    assert status == 2


def test_what_is_meant_for_a_closed_standard_error_goes_nowhere():
    out, _, status = shell("train --rows 500 --epochs 1 --json 2>&-")
    assert status == 0
    assert json.loads(out)["history"]
    assert shell("train --epochs 0 2>&-")[::2] == (b"", 2)


@pytest.mark.parametrize(
    "words", ["--help", "train --help", "articles --help", "train --rows 500 --epochs 1"]
)
def test_text_fits_a_narrow_terminal(words):
    out, _, status = shell(words, COLUMNS="40", PYTHONIOENCODING="utf-8")
    lines = out.decode().splitlines()
    assert status == 0
    assert max(map(len, lines)) <= 40
    wide = shell(words, COLUMNS="110", PYTHONIOENCODING="utf-8")[0].decode()
    usage = {*re.findall(r"[\w\[\]-]+", wide.partition("\n\n")[0])}
    if "--help" in words:
        assert {*" ".join(lines).split()} <= {*wide.split(), *usage, "[options]"}, "no word is broken apart"


def test_tables_of_articles_fit_a_narrow_terminal_where_words_do(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    assert cli.main(["articles", "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(len(line) > 50 for line in lines) < 0.1 * len(lines)
    assert {word for line in lines for word in line.split()} >= {"sigmoid", "equal", "rounding"}


def test_memory_that_ends_is_told_in_one_line(monkeypatch, capsys):
    def take(*_, **__):
        msg = "Unable to allocate 9 TiB"
        raise MemoryError(msg)

    monkeypatch.setattr(cli.train, "fit", take)
    assert cli.main([*SMALL, "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("backprop-xp: error: there is not enough memory (Unable to")


def test_training_is_not_offered_in_fractions(capsys, monkeypatch):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    assert "cupy, jax, numpy, strict, torch (default: numpy)" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setenv("BACKPROP_XP_BACKEND", "exact")
    assert cli.main(SMALL) == 2
    assert "use --backend numpy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("explain --weights 1e999999999 --inputs 1 --targets 1", "'1e999999999' is not a number"),
        ("explain --article 2 --most 1 --names a", "leave out --names, --most"),
        ("explain --article 2 --page {here}", "{here} cannot be written: Is a directory"),
        ("articles --page {here}/file", "{here}/file cannot be written: File exists"),
        (
            "data teacher --rows 9 --out {here}/no/x.npy",
            "/no/x.npy cannot be written: No such file or directory",
        ),
        ("show {here}/empty", "empty is damaged or no file of this kind: it is empty"),
        ("show {here}/file", "its first bytes give a header of"),
        ("train --rows 10 --run=", "the path of a file must not be empty text"),
        ("train --data {here}/file.csv --drop a", "no column is left as a feature beside the target 'b'"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / "empty").touch()
    (tmp_path / "file").write_text("a file that is something else\n")
    (tmp_path / "file.csv").write_text("a,b\n1,2\n3,4\n")
    assert cli.main(words.format(here=tmp_path).split()) == 2
    err = capsys.readouterr().err
    assert told.format(here=tmp_path) in err
    assert err.count("\n") == 1


def test_an_explanation_respects_a_narrow_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    assert cli.main(["explain", "--weights", "1/2 -1/4", "--inputs", "2 -3", "--targets", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert {"x1 → neuron", "  input   2", "  change  ▲ +0.25", "  after   0.75"} <= set(lines)
