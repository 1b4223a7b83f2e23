"""What the command line trains on: a synthetic set or a person's own file; and `backprop-xp data`."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from .. import backends
from ..arrays import Array
from ..data import files, parts, sets, writing
from ..data.generated import Generated
from ..data.preprocessing import Preprocessing
from ..errors import BackpropError, in_bytes, listed
from ..layers import check_count
from ..learner import Learner
from ..losses import Loss

UNSEEN = 10_000  # rows, not trained on, on which the net is evaluated
_DEFAULTS = {"task": "regression", "features": 8, "noise": 0.1}  # of a teacher
_SHARE = 10  # of a file's rows a tenth is held out
_SHOWN = 6  # classes, by name
DATA = """Write rows of a synthetic data set to a file.

Rows are generated block by block, so there can be more of them than fit into memory. A file that ends in
.npy holds one array, the target in its last column; .npz the arrays x and t; .parquet columns x0, x1, …
and t."""
DATA_EXAMPLES = """examples:
  backprop-xp data two_spirals --rows 1000 --out spirals.npy
  backprop-xp data higgs_shaped --rows 11000000 --out higgs.parquet
  backprop-xp train --data spirals.npy --task classification"""


class Given(NamedTuple):
    """Data to train on.

    Attributes:
        source: what is trained on.
        unseen: inputs and targets that are not.
        about: the data in words.
        best: the highest possible accuracy, where it is known.
        unit: the standard deviation of numeric targets, if they were standardized by it.
        preprocessing: names, classes and scales, of a file.
    """

    source: Any
    unseen: tuple[Array, Array]
    about: str
    best: float | None = None
    unit: float | None = None
    preprocessing: Preprocessing | None = None


def add_options(add: Any) -> None:
    """The options of `train` that say what the data are."""
    add("--data", metavar="NAME", default="teacher",
        help=f"a synthetic set ({', '.join(sets.ALL)}) or a file (.csv, .parquet, .npy, .npz)")  # fmt: skip
    add("--target", metavar="COLUMN", help="the column of the file to predict (default: the last one)")
    add("--drop", metavar="NAME,NAME,…", help="columns of the file to leave out")
    add("--task", choices=["regression", "classification"],
        help="predict numbers, or classes (default: as the data say, regression for a teacher)")  # fmt: skip
    add("--rows", type=int, metavar="N", help="rows of training data (default: 100,000, or all of a file)")
    add("--features", type=int, metavar="N", help="features of a row, the inputs of the net (default: 8)")
    add("--outputs", type=int, metavar="N", help="numbers, or classes, to predict (default: 1, or 4 classes)")
    add("--noise", type=float, metavar="X",
        help="standard deviation of the noise, or share of wrong labels (default: 0.1)")  # fmt: skip


def complete(args: argparse.Namespace) -> None:
    """Fill in what was not given and follows from the data: task, rows, features, outputs, noise."""
    if args.data not in sets.ALL:
        return
    args.rows = 100_000 if args.rows is None else args.rows
    if args.data == "teacher":
        given = {name: value for name, value in vars(args).items() if value is not None}
        vars(args).update(_DEFAULTS | given)
        outputs = 4 if args.task == "classification" else 1
        args.outputs = outputs if args.outputs is None else args.outputs
        return
    made = _synthetic(args, 1, {})
    for name in ("task", "features", "outputs", "noise"):
        setattr(args, name, getattr(made, name, None))


def opened(args: argparse.Namespace, place: dict[str, Any]) -> Given:
    """The data that the options name; `args` is completed with what they say."""
    if args.data in sets.ALL:
        return _generated(args, place)
    if Path(args.data).suffix.lower() not in files.KINDS:
        msg = (
            f"there are no data named {args.data!r}: give one of {listed(sets.ALL)}, or a file that ends in "
            f"{listed(files.KINDS)}"
        )
        raise BackpropError(msg)
    return _from_file(args, place)


def _synthetic(args: argparse.Namespace, rows: int, place: dict[str, Any]) -> Any:
    kind = sets.ALL[args.data]
    own = {each.name for each in fields(kind)} - {each.name for each in fields(Generated)}
    told = {name: getattr(args, name, None) for name in ("task", "features", "outputs", "noise")}
    told = {name: value for name, value in told.items() if value is not None}
    for name in sorted(told.keys() - own):
        if told[name] != getattr(kind, name, None):
            msg = f"{args.data} has no setting {name}; it has {listed(sorted(own)) or 'none'}"
            raise BackpropError(msg)
    if "features" in own and "features" not in told and args.data == "hidden_manifold":
        told["features"] = _DEFAULTS["features"]
    return kind(args.seed, rows, **{name: told[name] for name in told.keys() & own}, **place)


def _generated(args: argparse.Namespace, place: dict[str, Any]) -> Given:
    source = _synthetic(args, args.rows, place)
    unseen = _synthetic(args, args.rows + UNSEEN, place).rows(args.rows, args.rows + UNSEEN)
    noise = f", noise {args.noise:g}" if args.noise is not None else ""
    by = "labelled by a random teacher" if args.data == "teacher" else f"of {args.data}"
    best = source.bayes_error if source.task == "classification" else None
    about = f"{args.rows:,} rows {by}: {_shape(args)}{noise}"
    return Given(source, unseen, about, None if best is None else 1 - best)


def floor(data: Given, loss: Loss) -> float | None:
    """The lowest possible loss, where it is known."""
    unknown = isinstance(data.source, sets.GaussianMixture) and data.source.outputs > 2
    return data.source.floor(loss) if isinstance(data.source, Generated) and not unknown else None


def explained(learner: Learner, w: Array, s: Any, data: Given) -> dict[str, float]:
    """For numeric targets of a file: R² = 1 − Σ(y − t)² / Σ(t − mean)², and the root mean square of y − t."""
    if data.unit is None:
        return {}
    x, t = data.unseen
    xp = backends.of(w).xp
    squares = float(xp.mean((learner.predict(w, s, x) - t) ** 2))
    variance = float(xp.mean((t - xp.mean(t)) ** 2))
    error = {"root_mean_square_error": data.unit * squares**0.5}
    return error | ({"r2": 1 - squares / variance} if variance else {})


def _from_file(args: argparse.Namespace, place: dict[str, Any]) -> Given:
    """The rows of a file: a tenth is held out; mean and variance are those of the others."""
    for name in ("features", "outputs", "noise"):
        if getattr(args, name) is not None:
            msg = f"--{name} is a setting of synthetic data: leave it out for a file"
            raise BackpropError(msg)
    drop = args.drop.split(",") if args.drop else ()
    table = files.open_table(args.data, args.target, drop=drop, task=args.task, dtype=args.dtype)
    train, held = parts.split(table, min(UNSEEN, max(1, table.n // _SHARE)), args.seed)
    if args.rows is not None and args.rows < train.n:
        train = parts.first_rows(train, check_count(args.rows, "the number of rows"))
    mean, spread = parts.statistics(train)
    args.task, args.rows, args.features, args.outputs = table.task, train.n, table.features, table.outputs
    source, unseen = (parts.Standardized(part, mean, spread) for part in (train, held))
    x, t = unseen.rows(0, unseen.n)
    where = {"backend": place["backend"], "device": place["device"]}
    x = backends.asarray(x, **where, dtype=place["dtype"])
    t = backends.asarray(t, **where, dtype="int32" if t.ndim == 1 else place["dtype"])
    numbers = table.task == "regression"
    scaled = "inputs and target are" if numbers else "inputs are"
    target = f"target {table.target!r}" + ("" if numbers else f", {_named(table.classes)}")
    others = f"{_counted(held.n, 'other row')} {'is' if held.n == 1 else 'are'} held out"
    about = (
        f"{train.n:,} rows of {Path(args.data).name}: {_counted(table.features, 'feature')}, {target}; "
        f"{others}; {scaled} standardized to mean 0 and variance 1"
    )
    unit = float(spread[1][0]) if numbers else None
    return Given(source, (x, t), about, unit=unit, preprocessing=Preprocessing.of(table, mean, spread))


def _named(classes: tuple[Any, ...]) -> str:
    shown = ", ".join(map(str, classes[:_SHOWN])) + (", …" if len(classes) > _SHOWN else "")
    return f"{len(classes)} classes ({shown})"


def _shape(args: argparse.Namespace) -> str:
    predicted = _counted(args.outputs, "number") if args.task == "regression" else f"{args.outputs} classes"
    return f"{_counted(args.features, 'feature')}, {predicted}"


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


# ---------------------------------------------------------------- backprop-xp data
def data_options(parser: argparse.ArgumentParser) -> None:
    """The options of `data`."""
    parser.set_defaults(run=_write)
    parser.add_argument("data", metavar="NAME", choices=list(sets.ALL), help=", ".join(sets.ALL))
    add = parser.add_argument
    add("--rows", type=int, metavar="N", default=100_000, help="how many rows")
    add("--out", metavar="FILE", required=True, help="the file: .npy, .npz or .parquet")
    add("--task", choices=["regression", "classification"], help="of a teacher or a hidden manifold")
    add("--features", type=int, metavar="N", help="features of a row, where the set lets one choose")
    add(
        "--outputs",
        type=int,
        metavar="N",
        help="numbers, or classes, to predict, where the set lets one choose",
    )
    add("--noise", type=float, metavar="X", help="standard deviation of the noise, or share of wrong labels")
    add("--seed", type=int, metavar="N", default=0, help="another seed gives other rows")
    add("--dtype", choices=["float32", "float64"], default="float32", help="type of the numbers")


def _write(args: argparse.Namespace) -> int:
    complete(args)
    source = _synthetic(args, args.rows, {"backend": "numpy", "dtype": args.dtype})
    writing.write(source, args.out)
    size = in_bytes(Path(args.out).stat().st_size)
    sys.stdout.write(f"{args.out}: {args.rows:,} rows of {args.data}, {_shape(args)}, {size}\n")
    return 0
