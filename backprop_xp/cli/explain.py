"""The command `explain`: why each weight moves, for an article, for typed weights, or for a model file."""

import argparse
import sys
from fractions import Fraction
from typing import Any

from .. import activations, backends, insight, terminal
from ..articles import load as articles_of
from ..articles.site import explanation
from ..backends import asarray
from ..data.preprocessing import Preprocessing
from ..errors import BackpropError
from ..files import load
from ..files.model import told
from ..files.safetensors import opened
from ..insight.explain import MOST, Explanation
from ..insight.pictures import PICTURES
from ..layers import Activate, Linear
from ..learner import Learner
from ..net import chain
from ..number import from_text
from ..updates import GradientDescent
from .models import kept, model_file

ABOUT = """Explain why each weight moves, in words; each claim is checked by measuring it.

Give an article (--article 2), or a neuron of your own (--weights, --inputs, --targets), or a model file or
run directory (--model) with rows to learn from. Numbers may be fractions; they are then exact. For a run
of `train --data FILE`, give numbers and classes as in its table: they are standardized as in training."""
EXAMPLES = """examples:
  backprop-xp explain --article 2 --page why.html
  backprop-xp explain --weights "1/2 -1/4" --inputs "2 -3; 1 0" --targets "3; 0" --rate 1/10
  backprop-xp explain --model net.safetensors --inputs "0.5 1 2" --targets 1
  backprop-xp explain --model runs/flowers --inputs "5.1 3.5" --targets rose --page why.html"""


_OF_NETS = {"bias": None, "activation": "relu", "rate": "1/10", "inputs": None, "targets": None,
            "names": None, "batch_size": 1, "most": MOST}  # fmt: skip


def add_parser(commands: Any, formatter: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("explain", help="say why each weight moves", description=ABOUT,
                                 epilog=EXAMPLES, formatter_class=formatter)  # fmt: skip
    parser.set_defaults(run=explain)
    add = parser.add_argument_group("what is explained").add_argument
    add("--article", type=int, metavar="N", help="the nets of article N, 1 to 5")
    add(
        "--model",
        metavar="FILE",
        help="a model file, or the folder of a run: the best checkpoint, else the newest",
    )
    add("--weights", metavar="W …", help="the weights of one neuron, one for each input")
    add("--bias", metavar="B", help="its bias, a negative one as --bias=-1/4 (default: no bias)")
    add("--activation", choices=list(activations.ALL), default=_OF_NETS["activation"], metavar="NAME",
        help=f"activation of the neuron: {', '.join(activations.ALL)}")  # fmt: skip
    add("--rate", default=_OF_NETS["rate"], metavar="X", help="learning rate of the neuron")
    add("--inputs", metavar="X …; …", help="the inputs of each sample, samples separated by ;")
    add("--targets", metavar="T; …", help="what is expected of each sample")
    add("--names", metavar="A,B,…", help="names of the inputs")
    add("--batch-size", type=int, default=1, metavar="N", help="samples per update")
    add = parser.add_argument_group("how it is shown").add_argument
    add("--page", metavar="FILE", help="write a page, one HTML file that needs no network")
    add("--picture", metavar="FILE", help="draw a picture, .png, .svg or .pdf")
    add("--kind", choices=list(PICTURES), default="diagram", help="kind of picture")
    add("--json", action="store_true", help="print the explanation as JSON")
    add("--language", default="en", metavar="NAME", help="language of the sentences: en or de")
    add(
        "--most",
        type=int,
        default=MOST,
        metavar="N",
        help="how many weights to explain, those that moved most",
    )


def explain(args: argparse.Namespace) -> int:
    """Explain, print, and write what is asked for."""
    found = _explanation(args)
    if args.page:
        found.page(args.page)
    if args.picture:
        found.picture(args.kind, args.picture)
    for path in filter(None, (args.page, args.picture)):
        print(f"written: {path}", file=sys.stderr)
    if args.json:
        sys.stdout.write(found.to_json(indent=1) + "\n")
    elif not (args.page or args.picture):
        sys.stdout.write(terminal.folded(found.text(terminal.columns())) + "\n")
    return 0


def _explanation(args: argparse.Namespace) -> Explanation:
    given = [name for name in ("article", "model", "weights") if getattr(args, name) is not None]
    if len(given) != 1:
        msg = "give one of --article N, --model FILE and --weights 'W …'"
        raise BackpropError(msg)
    if args.article is not None:
        if others := [name for name, value in _OF_NETS.items() if getattr(args, name) != value]:
            options = ", ".join("--" + name.replace("_", "-") for name in others)
            msg = f"an article has its own nets, inputs and rate: leave out {options}"
            raise BackpropError(msg)
        (article,) = articles_of(args.article)
        return explanation(article, language=args.language)
    if not args.inputs or not args.targets:
        msg = "give --inputs and --targets: samples separated by ;, the numbers of a sample by spaces"
        raise BackpropError(msg)
    if args.model is None:
        (learner, w, s), table, names = _neuron(args), None, {"outputs": ["neuron"]}
    else:
        (learner, w, s), table = _loaded(args.model)
        names = table.labels if table else {}
    x = asarray(_rows(args.inputs, w), like=w[:0])
    counts = len(_parts(args.inputs)), len(_parts(args.targets))
    if counts[0] != counts[1] or not counts[0]:
        msg = "--inputs has {} samples and --targets {}: give one target for each sample".format(*counts)
        raise BackpropError(msg)
    t = _targets(args.targets, learner, w, table)
    x, t = table.standardized(x, t) if table else (x, t)
    names |= {"inputs": [name.strip() for name in args.names.split(",")]} if args.names else {}
    return insight.explain(learner, w, s, x, t, batch_size=args.batch_size, labels=names, most=args.most,
                           language=args.language)  # fmt: skip


def _neuron(args: argparse.Namespace) -> tuple[Learner, Any, Any]:
    """One neuron, in fractions where its activation needs no other numbers."""
    weights, f = _numbers(args.weights), activations.ALL[args.activation]
    learner = Learner(chain(len(weights), Linear(1, bias=args.bias is not None), Activate(f)),
                      update=GradientDescent(args.rate))  # fmt: skip
    blocks: dict[str, Any] = {"dense1.w": [[each] for each in weights]}
    blocks |= {} if args.bias is None else {"dense1.b": _numbers(args.bias)}
    exact = args.activation in ("identity", "relu", "leaky_relu", "hard_sigmoid", "softsign")
    if not exact:
        blocks = {name: _floats(values) for name, values in blocks.items()}
    place: dict[str, Any] = {"backend": "exact"} if exact else {"backend": "numpy", "dtype": "float64"}
    return learner, *learner.init(weights=blocks, **place)


def _loaded(path: str) -> tuple[tuple[Learner, Any, Any], Preprocessing | None]:
    """A model, and what it says of the table it was trained on."""
    file = model_file(path)
    with opened(file) as reader:
        table = kept(told(reader))
    return load(file), table


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def _rows(text: str, like: Any) -> list[list[Any]]:
    rows = [_numbers(part) for part in _parts(text)]
    for k, row in enumerate(rows):
        if len(row) != len(rows[0]):
            msg = f"sample {k + 1} has {len(row)} numbers, the first has {len(rows[0])}: {text!r}"
            raise BackpropError(msg)
    return rows if backends.of(like).name == "exact" else _floats(rows)


def _targets(text: str, learner: Learner, like: Any, table: Preprocessing | None) -> Any:
    """What is expected; for losses on classes, one number a sample is its label, or the class by its name."""
    if table and table.classes:
        return asarray(table.labels_of(_parts(text)), like=like[:0], dtype="int32")
    rows = _rows(text, like)
    if learner.loss.targets != "distribution" or any(len(row) > 1 for row in rows):
        return asarray(rows, like=like[:0])
    labels = [row[0] for row in rows]
    if any(Fraction(label) % 1 for label in labels):
        msg = f"the targets are labels of classes, 0, 1, 2, …; got {text!r}"
        raise BackpropError(msg)
    return asarray([int(label) for label in labels], like=like[:0], dtype="int32")


def _floats(values: Any) -> Any:
    return [_floats(each) for each in values] if isinstance(values, list) else _float(values)


def _float(text: str) -> float:
    try:
        return float(from_text(text))
    except OverflowError as error:
        msg = f"{text} is too large for a float"
        raise BackpropError(msg) from error


def _numbers(text: str) -> list[str]:
    """The numbers of a text, separated by spaces or commas.

    Raises:
        BackpropError: something is no number.
    """
    words = text.replace(",", " ").split()
    for word in words:
        try:
            from_text(word)
        except (ValueError, ZeroDivisionError) as error:
            msg = f"{word!r} is not a number such as 2, -0.5 or 3/4"
            raise BackpropError(msg) from error
    return words
