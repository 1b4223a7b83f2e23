"""The command line: `backprop-xp train`, `articles` and `backends`."""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from . import __version__, activations, backends, losses, updates
from .data import Teacher
from .errors import BackpropError
from .layers import Dense
from .learner import Learner
from .net import chain
from .train import fit

_UNSEEN = 10_000  # rows on which the trained net is judged
_LOSSES = {
    "regression": ("half_squared_error", "squared_error", "mean_squared_error", "mean_absolute_error"),
    "classification": ("softmax_cross_entropy", "categorical_cross_entropy"),
}
_SHOWN = ("run", "json", "quiet")
_ABOUT = """Backpropagation that can be read, trusted and run anywhere.

  backprop-xp train       a net learns made-up data whose best possible loss is known
  backprop-xp articles    every number of the five introductory articles, computed again
  backprop-xp backends    the array libraries on this machine"""
_TRAIN = """Train a net on data made by a random 'teacher' net.

The teacher labels random inputs and adds noise. As the noise is known, so is the loss that no net can
beat, its floor: the closer the loss comes to the floor, the more was learnt. Any number of rows can be
asked for; they are made while they are needed and never stored."""
_TRAIN_EXAMPLES = """examples:
  backprop-xp train
  backprop-xp train --task classification --outputs 10 --layers 128,64 --epochs 10
  backprop-xp train --backend jax --rows 1000000 --batch-size 256 --rate 0.3
  backprop-xp train --quiet --json"""


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults are told, paragraphs are kept, options without a default say nothing of it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.default not in (None, False, argparse.SUPPRESS)
        return super()._get_help_string(action) if told else action.help


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 2 for an error of the user, 130 after Ctrl-C.

    Args:
        argv: the words after the command's name; those of the process unless given.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if not hasattr(args, "run"):
        parser.print_help(sys.stderr)
        return 2
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except BackpropError as error:
        print("backprop-xp: error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("backprop-xp: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: no more errors
        return 141
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("backprop-xp", description=_ABOUT, formatter_class=_Help)
    parser.add_argument("--version", action="version", version=f"backprop-xp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _train_parser(commands)
    text = commands.add_parser(
        "articles", help="compute the articles' numbers", description=_articles.__doc__
    )
    text.set_defaults(run=_articles)
    text.add_argument("--article", type=int, metavar="N", help="only this one, 1 to 5, with all its values")
    text.add_argument(
        "--backend", metavar="NAME", help="the array library (default: exact fractions where possible)"
    )
    text.add_argument("--json", action="store_true", help="print JSON instead of text")
    listing = commands.add_parser("backends", help="list the array libraries", description=_backends.__doc__)
    listing.set_defaults(run=_backends)
    return parser


def _train_parser(commands: Any) -> None:
    """The options of `train`, in four groups."""
    parser = commands.add_parser(
        "train",
        help="train a net on made-up data",
        formatter_class=_Help,
        description=_TRAIN,
        epilog=_TRAIN_EXAMPLES,
    )
    parser.set_defaults(run=_train)
    add = parser.add_argument_group("the data").add_argument
    add("--data", choices=["teacher"], default="teacher", help="where the rows come from")
    add("--task", choices=list(_LOSSES), default="regression", help="numbers to predict, or classes")
    add("--rows", type=int, metavar="N", default=100_000, help="rows to learn from")
    add("--features", type=int, metavar="N", default=8, help="numbers in a row of inputs")
    add("--outputs", type=int, metavar="N", help="numbers, or classes, to predict (default: 1, or 4 classes)")
    add("--noise", type=float, metavar="X", default=0.1,
        help="standard deviation added to the numbers, or share of wrong labels")  # fmt: skip
    add = parser.add_argument_group("the net and how it learns").add_argument
    add(
        "--layers", type=_widths, metavar="N,N,…", default="64,64", help="units of the hidden layers, or none"
    )
    add("--activation", choices=list(activations.ALL), metavar="NAME", default="tanh",
        help=f"of the hidden layers: {', '.join(activations.ALL)}")  # fmt: skip
    add("--loss", choices=[name for names in _LOSSES.values() for name in names], metavar="NAME",
        help=f"what is made small: {' or '.join(', '.join(names) for names in _LOSSES.values())} "
        "(default: the first that fits the task)")  # fmt: skip
    add("--update", choices=list(updates.ALL), default="gradient_descent", help="the update rule")
    add(
        "--rate", type=float, metavar="X", help="learning rate (default: that of the rule, 0.1; adam's 0.001)"
    )
    add("--batch-size", type=int, metavar="N", default=32, help="rows of one update")
    add("--epochs", type=int, metavar="N", default=5, help="how often every row is learnt from")
    add("--seed", type=int, metavar="N", default=0, help="of data, first weights and shuffling")
    _place_options(parser)


def _place_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the machine").add_argument
    add(
        "--backend", metavar="NAME", help=f"the array library: {', '.join(backends.names())} (default: numpy)"
    )
    add("--device", metavar="NAME", help="such as cpu or cuda:0, in the library's words")
    add("--dtype", choices=["float32", "float64"], default="float32", help="type of all numbers")
    add = parser.add_argument_group("what is shown").add_argument
    add(
        "--json",
        action="store_true",
        help="print one line of JSON on standard output, the text on standard error",
    )
    add("--quiet", action="store_true", help="print the result only")


def _widths(text: str) -> tuple[int, ...]:
    try:
        return () if text in ("", "none") else tuple(int(part) for part in text.split(","))
    except ValueError:
        msg = f"hidden layers are numbers such as 64,64, or none; got {text!r}"
        raise argparse.ArgumentTypeError(msg) from None


# ---------------------------------------------------------------- train
def _train(args: argparse.Namespace) -> int:
    """Train, tell what is done, and compare the loss with its floor."""
    out = sys.stderr if args.json else sys.stdout
    place = {"backend": args.backend, "device": args.device, "dtype": args.dtype}
    source, learner = _teacher(args, args.rows, place), _learner(args)
    w, s = learner.init(args.seed, **place)
    floor = source.floor(learner.loss)
    if not args.quiet:
        print(_described(args, learner, floor, backends.of(w)), file=out, flush=True)
    unseen = _teacher(args, args.rows + _UNSEEN, place).rows(args.rows, args.rows + _UNSEEN)
    found: dict[str, Any] = {"parameters": learner.net.layout.size, "floor": floor}
    found["loss_before"], _ = _judged(learner, w, s, *unseen)
    progress = None if args.quiet else "auto"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Diverged tells of overflow
        w, s, history = fit(
            learner, w, s, source, epochs=args.epochs, batch_size=args.batch_size, progress=progress
        )
    found["loss"], found["right"] = _judged(learner, w, s, *unseen)
    found["seconds"] = sum(epoch.seconds for epoch in history)
    found["rows_per_second"] = sum(epoch.rows for epoch in history) / found["seconds"]
    print(_told(args, found), file=out, flush=True)
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name not in _SHOWN}
        settings |= {"loss": _loss(args), "outputs": _outputs(args), "backend": backends.of(w).name}
        epochs = [epoch._asdict() for epoch in history]
        print(json.dumps({"settings": settings} | found | {"history": epochs}))
    return 0


def _outputs(args: argparse.Namespace) -> int:
    given: int | None = args.outputs
    return given if given is not None else 4 if args.task == "classification" else 1


def _loss(args: argparse.Namespace) -> str:
    return args.loss or _LOSSES[args.task][0]


def _teacher(args: argparse.Namespace, rows: int, place: dict[str, Any]) -> Teacher:
    shape = {"features": args.features, "outputs": _outputs(args), "task": args.task, "noise": args.noise}
    return Teacher(args.seed, rows, **shape, **place)


def _learner(args: argparse.Namespace) -> Learner:
    loss = _loss(args)
    last = activations.softmax if loss == "categorical_cross_entropy" else activations.identity
    hidden = [Dense(units, activations.ALL[args.activation]) for units in args.layers]
    net = chain(args.features, *hidden, Dense(_outputs(args), last))
    rule = updates.ALL[args.update]
    return Learner(net, losses.ALL[loss], rule() if args.rate is None else rule(args.rate))


def _described(args: argparse.Namespace, learner: Learner, floor: float, to: backends.Backend) -> str:
    """What is going to be done."""
    widths = " → ".join(str(units) for units in (args.features, *args.layers, _outputs(args)))
    hidden = f", {args.activation}" if args.layers else ""
    features, outputs = _counted(args.features, "feature"), _counted(_outputs(args), "number")
    predicted = outputs if args.task == "regression" else f"{_outputs(args)} classes"
    batches = f"batches of {args.batch_size}, {_counted(args.epochs, 'epoch')}"
    device = args.device or ("cpu" if to.name == "numpy" else "default")
    return f"""\
net      {widths} units{hidden}; {learner.net.layout.size:,} weights and biases
data     {args.rows:,} rows labelled by a random teacher: {features}, {predicted}, noise {args.noise:g}
loss     {_loss(args).replace("_", " ")}; its floor, that of the noise alone, is {floor:.4g}
update   {args.update.replace("_", " ")}, rate {learner.update.rate:g}, {batches}
backend  {to.name}, {args.dtype}, device {device}
"""


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _judged(learner: Learner, w: Any, s: Any, x: Any, t: Any) -> tuple[float, float | None]:
    """The mean loss on rows, and the share of right answers among them where they are labels."""
    xp = backends.of(w).xp
    loss = float(xp.mean(learner.losses(w, s, x, t)))
    if t.ndim > 1:
        return loss, None
    right = xp.argmax(learner.predict(w, s, x), axis=1) == t
    return loss, float(xp.mean(xp.astype(right, w.dtype)))


def _told(args: argparse.Namespace, found: dict[str, Any]) -> str:
    """What came of it."""
    loss, floor = found["loss"], found["floor"]
    side = "above" if loss >= floor else "below"
    far = f", {abs(loss / floor - 1):.1%} {side} its floor of {floor:.4g}" if floor else ""
    lines = [
        f"loss     {loss:.4g}{far}; it was {found['loss_before']:.4g} before training",
        f"speed    {found['rows_per_second']:,.0f} rows/s, {found['seconds']:.1f} s",
        f"         (the losses are means over {_UNSEEN:,} rows that were not trained on)",
    ]
    if found["right"] is not None:
        best = f"with this noise {1 - args.noise:.1%} are possible"
        lines.insert(1, f"right    {found['right']:.1%} of the answers; {best}")
    return "\n".join(lines)


# ---------------------------------------------------------------- articles, backends
def _articles(args: argparse.Namespace) -> int:
    """Compute every number of the five introductory articles, and compare it with what is printed."""
    from . import articles

    return articles.main(backend=args.backend, as_json=args.json, only=args.article)


def _backends(_: argparse.Namespace) -> int:
    """List the array libraries: those that run here with version and device, the others with the reason."""
    for name in backends.names():
        try:
            to = backends.get(name)
        except BackpropError as reason:
            print(f"{name:8} -    {reason}")
            continue
        root = type(to.asarray([0], to.xp.int32, None)).__module__.partition(".")[0]
        device = to.device_of(to.asarray([0], to.xp.int32, None)) or "cpu"
        print(f"{name:8} yes  {root} {sys.modules[root].__version__}, device {device}")
    return 0
