"""The commands for files of models and runs: `resume`, `runs`, `plot`, `show` and `export`."""

import argparse
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import terminal
from ..arrays import Array
from ..errors import FileError, listed, unavailable
from ..files import RunDir
from ..files.atomic import not_written, write_whole
from ..files.folder import read_log, read_settings, step_files
from ..files.locks import is_locked
from ..files.model import content, load, told
from ..files.safetensors import HASH, opened
from ..learner import Learner
from ..onnx import to_onnx
from ..printed import settings, table
from ..step import State
from . import models, workers

_FEW = 5  # names that are shown
_FEWEST = 0.1  # share of an epoch's rows whose mean loss is drawn; that of fewer is noise


def add_parsers(commands: Any, formatter: Any, resume: Callable[[argparse.Namespace], int]) -> None:
    """Add the commands to the parser.

    Args:
        commands: of the parser.
        formatter: of the help.
        resume: the command `resume`, which trains.
    """

    def parser(name: str, run: Callable[[argparse.Namespace], int], brief: str) -> Any:
        found = commands.add_parser(name, help=brief, description=run.__doc__, formatter_class=formatter)
        found.set_defaults(run=run)
        return found.add_argument

    add = parser("resume", resume, "resume a training that was stopped")
    add("folder", metavar="DIR", help="the folder given to train --run")
    add("--epochs", type=int, metavar="N", help="passes over all rows, those already made included")
    add("--data", metavar="FILE", help="the file, for a run that trained on one")
    workers.option(add)
    add("--json", action="store_true", help="print one line of JSON, as train does")
    add("--quiet", action="store_true", help="print the result only")
    other_bits_option(add)
    add = parser("runs", runs, "list the runs in a folder")
    add("folder", metavar="DIR", nargs="?", default="runs", help="the folder that holds them")
    add = parser("plot", plot, "draw the losses of a run")
    add("folder", metavar="DIR", help="the folder of the run")
    add("--out", metavar="FILE", help="the picture, .png, .svg or .pdf (default: loss.png in the folder)")
    add = parser("show", show, "show what is in a model file or checkpoint")
    add("file", metavar="FILE", help="a file written by bp.save or by a run, or the folder of a run")
    add = parser("export", export, "write what a model file predicts as an ONNX model")
    add(
        "file",
        metavar="MODEL",
        help="a file that bp.save, an estimator's save or a run wrote, or the folder of a run",
    )
    add("out", metavar="FILE.onnx", help="the file to write")
    add(
        "--opset",
        type=int,
        default=17,
        metavar="N",
        help="the version of ONNX's operators, 17 to 21",
    )


def other_bits_option(add: Any) -> None:
    """The option `--allow-other-bits`, of all commands that resume a run."""
    add("--allow-other-bits", action="store_true",
        help="go on although other kernels run now than before, so that last bits may differ")  # fmt: skip


def restored(run: RunDir, learner: Learner, like: Array) -> tuple[Array, State] | None:
    """What a run restores; a damaged checkpoint is named on standard error."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        state = run.restore(learner, like=like)
    for each in found:
        print(f"backprop-xp: {each.message}", file=sys.stderr, flush=True)
    return state


def command_of(folder: str, other: Mapping[str, Any]) -> list[str]:
    """The arguments of the command that began a run; settings in `other` that are not None replace them.

    They go through the parser of the command, which refuses names and values that it does not know.
    """
    command = read_settings(_run(folder)).get("command")
    if not isinstance(command, dict):
        msg = f"the run in {folder} was not begun by backprop-xp train: resume it with bp.fit(..., run=run)"
        raise FileError(msg)
    if command.get("data") is None:  # a file, which says itself how many features and outputs there are
        command = {name: each for name, each in command.items() if name not in ("features", "outputs")}
    words = []
    for name, value in (command | {name: each for name, each in other.items() if each is not None}).items():
        if value is None or value is False:
            continue
        text = ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
        words.append(f"--{name.replace('_', '-')}" + ("" if value is True else f"={text}"))
    return words


def runs(args: argparse.Namespace) -> int:
    """List the runs in a folder: their states, how far each came, and its losses.

    A run is running; or finished, after all its epochs or by early stopping; or else stopped, and goes on
    with backprop-xp resume.
    """
    folder = Path(args.folder)
    try:
        inside = folder.iterdir() if folder.exists() else ()
        found = sorted(each for each in [folder, *inside] if (each / "run.json").is_file())
    except OSError as error:
        msg = f"{folder} cannot be read: {error.strerror}"
        raise FileError(msg) from error
    if not found:
        msg = (
            f"there is no run in {folder}: backprop-xp train --run {shlex.quote(str(folder / 'a'))} makes one"
        )
        raise FileError(msg)
    rows = [["run", "state", "step", "epoch", "loss", "validation", "last line"]]
    print(table([*rows, *map(_row, found)], right=[2, 3, 4, 5], width=terminal.columns()))
    return 0


def _row(folder: Path) -> list[str]:
    log = read_log(folder)
    steps = max((int(each.name[5:17]) for each in step_files(folder)), default=0)
    epochs = [each for each in log if each.get("event") == "epoch"]
    figures = {name: next((e[name] for e in reversed(epochs) if _number(e.get(name))), None)
               for name in ("epoch", "loss", "validation")}  # fmt: skip
    shown = ["–" if each is None else f"{each:.6g}" for each in figures.values()]
    last = str(log[-1].get("time", ""))[:19].replace("T", " ") if log else ""
    ended = "finished" if log and log[-1].get("event") == "finished" else "stopped"
    state = "running" if is_locked(folder / "lock") else ended
    return [folder.name, state, str(steps), *shown, last]


def _run(given: str) -> Path:
    """The folder of a run.

    Raises:
        FileError: there is no run in it.
    """
    if not (Path(given) / "run.json").is_file():
        msg = f"there is no run in {given}: backprop-xp runs DIR lists the runs in a folder"
        raise FileError(msg)
    return Path(given)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def plot(args: argparse.Namespace) -> int:
    """Draw the losses of a run by the steps it made: training, within epochs too, and validation."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        library = "matplotlib"
        raise unavailable(library, library, "plot", error) from error
    folder = _run(args.folder)
    log = read_log(folder)
    rows = max((e["rows"] for e in log if _number(e.get("rows"))), default=0)
    drawn = [e for e in log if _number(e.get("loss")) and e.get("rows", rows) >= _FEWEST * rows]
    curves = {
        "training": [(e["step"], e["loss"]) for e in drawn],
        "validation": [(e["step"], e["validation"]) for e in log if _number(e.get("validation"))],
    }
    if not curves["training"]:
        msg = f"there is no loss in {folder / 'log.jsonl'} yet"
        raise FileError(msg)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, points in curves.items():
        if points:
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
    axes.set(xlabel="step", ylabel="loss", title=folder.name)
    if all(loss > 0 for points in curves.values() for _, loss in points):
        axes.set_yscale("log")
    axes.legend()
    out = Path(args.out) if args.out else folder / "loss.png"
    try:
        figure.savefig(out)
    except (OSError, ValueError) as error:
        raise not_written(out, error) from error
    print(out)
    return 0


def show(args: argparse.Namespace) -> int:
    """Show what is in a model file or checkpoint: net, loss, rule, steps, and whether it is intact."""
    path = models.model_file(args.file)
    lines: list[tuple[str, str]] = []
    with opened(path) as reader:
        found, tensors = told(reader), reader.header.tensors
        steps = int.from_bytes(reader.bytes_of("s.step")[:4], "little")
        try:
            learner, _ = content(reader)
            net = learner.net.summary(width=terminal.columns())
            lines += [("loss", settings(learner.loss)), ("update", settings(learner.update))]
        except FileError as error:
            net = "\n".join(
                f"{name}  {each.dtype} {each.shape}"
                for name, each in list(tensors.items())[:20]
                if name != HASH
            )
            lines.append(("learner", str(error)))
        size = f"{path.stat().st_size:,} bytes"
        lines += [("numbers", f"{found['dtype']}, {size} in {len(tensors)} tensors"), ("steps", f"{steps:,}")]
        if isinstance(run := found.get("run"), dict):
            lines += _of_run(run, tensors)
        if kept := models.kept(found):
            classes = f", {len(kept.classes)} classes" if kept.classes else ""
            of = listed(kept.features[:_FEW]) + (", …" if len(kept.features) > _FEW else "")
            lines.append(("table", f"target {kept.target!r}{classes}, by the columns {of}"))
        lines.append(("written", f"by backprop_xp {str(found.get('version'))[:20]}"))
    try:
        with opened(path) as reader:
            reader.verify()
        whole = "as it was written (SHA-256)"
    except FileError:
        whole = "DAMAGED: the bytes are not those that were written (SHA-256)"
    lines.append(("file", whole))
    text = terminal.folded("\n".join([net, "", *(f"{name:9}{text}" for name, text in lines)]), hang=9)
    print("".join(each if each.isprintable() or each == "\n" else "?" for each in text))
    return 0 if whole.startswith("as") else 1


def export(args: argparse.Namespace) -> int:
    """Write what a model file predicts as an ONNX model.

    It includes the scales and categories of an estimator, or the scales of the inputs of a run of
    `train --data FILE`; whatever else such a run keeps of its table is in the model's metadata.
    """
    path = models.model_file(args.file)
    with opened(path) as reader:
        about = told(reader)
    kind = (about.get("estimator") or {}).get("class")
    if kind in {"BackpropClassifier", "BackpropRegressor"}:
        try:
            from .. import sklearn
        except ImportError as error:
            library = "scikit-learn"
            raise unavailable(library, "sklearn", "sklearn", error) from error
        model = getattr(sklearn, kind).load(path).to_onnx(opset=args.opset)
    else:
        learner, w, s = load(path, backend="numpy")
        table = models.kept(about)
        more = table.for_onnx(next(iter(learner.net.inputs))) if table else {}
        model = to_onnx(learner, w, s, opset=args.opset, **more)
        if table and not table.classes:
            unit = "standard deviations of the target from its mean, which the metadata hold"
            terminal.complain(f"backprop-xp: the output is in {unit}")
    write_whole(Path(args.out), [model.SerializeToString()])
    for what, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
        print(f"{what:9}{', '.join(map(_told_of, values))}")
    return 0


def _told_of(value: Any) -> str:
    """An input or output of an ONNX model: its name, dtype and shape."""
    tensor = value.type.tensor_type
    kind = {1: "float32", 7: "int64", 8: "text", 11: "float64"}[tensor.elem_type]
    return f"{value.name} {kind} ({', '.join(d.dim_param or str(d.dim_value) for d in tensor.shape.dim)})"


def _of_run(run: Mapping[str, Any], tensors: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a checkpoint says about its run."""
    epochs = tensors["~history"].shape[0] if "~history" in tensors else 0
    partial, best = run.get("partial"), run.get("best")
    more = f", and {partial[1]:,} rows of the next" if isinstance(partial, list) and len(partial) == 3 else ""
    lines = [("epochs", f"{epochs}{more}")]
    if isinstance(best, dict):
        loss = best.get("validation")
        of_loss = "" if loss is None else f", validation loss {loss}"
        lines.append(("best", f"epoch {best.get('epoch')}{of_loss}"))
    return lines
