"""The command `predict`: the rows of a file by a net that `train --data FILE --run DIR` trained."""

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import terminal
from ..checks import check_finite
from ..data.preprocessing import Preprocessing
from ..errors import BackpropError, FileError
from ..files import RunDir
from ..files.atomic import write_whole
from ..files.folder import BEST, step_files
from ..files.model import checked_path, load, told
from ..files.safetensors import opened

NOTE = "table"  # of a run: the names, classes and scales of what it trains on
_ROWS = 1 << 14  # that are predicted at once
_LARGEST_NOTE = 1 << 19  # characters: with each checkpoint they are written into its header
_PREDICT = """Predict the rows of a file with a net that was trained on another one.

The run has kept the names of the columns, their scales and the names of the classes: columns are found by
name, in any order, and others are ignored. There is a line of CSV for each row: the class and its
probability, or the number, in the unit of the target."""
_EXAMPLES = """examples:
  backprop-xp train --data flowers.csv --target kind --run runs/flowers
  backprop-xp predict runs/flowers --data new.csv --out kinds.csv"""


def add_parser(commands: Any, formatter: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: of the parser.
        formatter: of the help.
    """
    parser = commands.add_parser(
        "predict",
        help="predict the rows of a file",
        formatter_class=formatter,
        description=_PREDICT,
        epilog=_EXAMPLES,
    )
    parser.set_defaults(run=predict)
    parser.add_argument("model", metavar="DIR", help="the folder of a run, or a checkpoint in it")
    parser.add_argument("--data", metavar="FILE", required=True,
                        help="the rows: .csv, .parquet, .npy or .npz, as for train")  # fmt: skip
    parser.add_argument("--out", metavar="FILE", help="write a .csv file (default: to standard output)")


def keep(run: RunDir, preprocessing: Preprocessing) -> None:
    """Let a run keep the scales with its checkpoints; where it goes on, they must be those it has.

    Raises:
        FileError: it was begun on another table.
    """
    kept = run.notes.get(NOTE)
    if kept is None:
        note = preprocessing._asdict()
        if len(str(note)) <= _LARGEST_NOTE:
            run.notes[NOTE] = note
        else:
            why = f"{len(preprocessing.features):,} features, {len(preprocessing.classes):,} classes"
            terminal.complain(f"backprop-xp: scales are not kept, there are too many ({why}): no `predict`")
    elif not Preprocessing.parsed(kept).agrees(preprocessing):
        msg = f"the run in {run.path} began on other columns, classes or rows: give it the same file"
        raise FileError(msg)


def model_file(given: str) -> Path:
    """The file of a model; of a run's folder the best checkpoint, as early stopping says, else the newest.

    Raises:
        FileError: there is no file, or no checkpoint in the folder.
    """
    path = checked_path(given)
    if not path.is_dir():
        return path
    found = [path / BEST] if (path / BEST).exists() else sorted(step_files(path))
    if not found:
        msg = f"there is no checkpoint in {path}"
        raise FileError(msg)
    return found[-1]


def kept(about: Mapping[str, Any]) -> Preprocessing | None:
    """What a model file tells of the table it was trained on, None where it tells nothing.

    Raises:
        FileError: that is damaged.
    """
    run = about.get("run")
    notes = run.get("notes") if isinstance(run, dict) else None
    return Preprocessing.parsed(notes[NOTE]) if isinstance(notes, dict) and NOTE in notes else None


def predict(args: argparse.Namespace) -> int:
    """Predict the rows of a file, block by block."""
    path = model_file(args.model)
    with opened(path) as reader:
        preprocessing = kept(told(reader))
    if preprocessing is None:
        msg = (
            f"{path} does not say what its columns are, as runs of `train --data FILE --run DIR` do: use "
            "bp.load or, for an estimator, its load"
        )
        raise FileError(msg)
    learner, w, s = load(path, backend="numpy")
    inputs, shapes = preprocessing.inputs(args.data, str(w.dtype)), learner.net.outputs
    ends = (len(preprocessing.features),), (len(preprocessing.classes) or 1,)
    if len(learner.net.inputs) > 1 or (shapes[0], shapes[-1]) != ends:
        msg = f"what {path} says of the columns of its table is not of its net"
        raise FileError(msg)

    def lines() -> Iterator[bytes]:
        for start in range(0, inputs.n, _ROWS):
            x = inputs.rows(start, min(start + _ROWS, inputs.n))[0]
            check_finite(x, "inputs", start)
            head = [] if start else [preprocessing.header]
            yield _csv([*head, *preprocessing.answers(learner.predict(w, s, x))])

    if args.out is None:
        for each in lines():
            sys.stdout.write(each.decode())
        return 0
    out = Path(args.out)
    if out.suffix.lower() != ".csv" or out.resolve() == Path(args.data).resolve():
        msg = f"predictions are written to a .csv file, another one than --data, got {args.out!r}"
        raise BackpropError(msg)
    write_whole(out, lines())
    print(f"{out}: {inputs.n:,} rows, predicted by {path}")
    return 0


def _csv(rows: list[list[Any]]) -> bytes:
    """Rows as lines of CSV; numbers as they come back."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
