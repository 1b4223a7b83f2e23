"""The command `predict`: predicts the rows of a file, by a net that `train --data FILE --run DIR` trained."""

import argparse
import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..checks import check_finite
from ..errors import BackpropError, FileError
from ..files.atomic import write_whole
from ..files.model import load, told
from ..files.safetensors import opened
from .models import kept, model_file

_ROWS = 1 << 14  # predicted at once
_PREDICT = """Predict the rows of a file with a net that was trained on another one.

The run has kept the names of the columns, their scales and the names of the classes: columns are found by
name, in any order, and others are ignored. For each row, a line of CSV is written: the class and its
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
        msg = f"{path} is damaged: the columns of its table do not fit its net"
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
        msg = f"predictions are written to a .csv file other than --data, got {args.out!r}"
        raise BackpropError(msg)
    write_whole(out, lines())
    print(f"{out}: {inputs.n:,} rows, predicted by {path}")
    return 0


def _csv(rows: list[list[Any]]) -> bytes:
    """Rows as lines of CSV; numbers as they come back."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
