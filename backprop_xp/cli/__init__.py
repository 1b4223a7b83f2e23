"""The command line, `backprop-xp`: the parser, and the short commands."""

import argparse
import re
import sys
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from .. import __version__, backends, terminal
from ..errors import BackpropError, unavailable
from . import data as data_options
from . import demo, explain, files, predict, train
from . import workers as workers_options

_NARROW = 70  # columns
_ABOUT = """Backpropagation that can be read, trusted and run anywhere.

What a person does, in this order:

  1. see it         backprop-xp demo
  2. understand it  backprop-xp articles
  3. train a net    backprop-xp train --data FILE.csv --target COLUMN --run runs/a
  4. go on          backprop-xp resume runs/a
  5. ask why        backprop-xp explain --article 2 --page why.html"""
_ARTICLES = """Recompute every number of the five introductory articles and compare it with the printed one.

Without options: a line for each article. The status is 1 if a figure is wrong that should agree."""
_COMPLETION = """Print a script that lets the shell complete commands and options on Tab. For bash, once:

  backprop-xp complete bash > ~/.local/share/bash-completion/completions/backprop-xp"""


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help that keeps paragraphs, shows the defaults of options that have one, and breaks no word apart."""

    def __init__(self, prog: str, **settings: Any) -> None:
        width = terminal.columns(110) - 2
        settings |= {"width": width, "max_help_position": 24 if width >= _NARROW else 6}
        super().__init__(prog, **settings)
        self._columns = width

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_default = action.default not in (None, False, argparse.SUPPRESS)
        return super()._get_help_string(action) if has_default else action.help

    def _split_lines(self, text: str, width: int) -> list[str]:
        return terminal.whole_words(" ".join(text.split()), width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if all(len(line) <= self._columns for line in text.splitlines()):
            return super()._fill_text(text, width, indent)
        return terminal.folded(_unwrapped(textwrap.dedent(text)), self._columns)


class _Parser(argparse.ArgumentParser):
    """A parser that fails where its help cannot be written, and whose usage is short on a narrow terminal."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, what was perhaps meant, and where to find help."""
        found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        near = get_close_matches(found[1], re.findall(r"[\w-]+", found[2]), 1) if found else []
        if near:
            message = f"there is no {found[1]!r}: did you mean {near[0]!r}? If not, see"  # type: ignore[index]
        else:
            message = f"{message}: see"
        _refused(f"{message} {self.prog} --help")
        sys.exit(2)

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)

    def format_help(self) -> str:
        self.usage = self.usage or ("%(prog)s [options]" if terminal.columns() < _NARROW else None)
        return super().format_help()


def _unwrapped(text: str) -> str:
    """Paragraphs, each in one line; lines that are indented stay as they are."""
    lines: list[str] = []
    for line in text.splitlines():
        goes_on = lines and line and lines[-1] and not line.startswith(" ") and not lines[-1].startswith(" ")
        if goes_on and not lines[-1].endswith(":"):
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments after the command's name; without them those of the process.

    Returns:
        The exit status: 0; 1 if a figure of the articles is wrong; 2 for an error of the user; 130
        after Ctrl-C, 143 after the signal TERM; 141 if the output pipe was closed.
    """
    terminal.prepare()
    try:
        return _run(argv)
    except BackpropError as error:
        return _refused(str(error))
    except MemoryError as error:
        return _refused(f"there is not enough memory ({error}): use fewer units, features or rows of a batch")
    except KeyboardInterrupt as error:
        terminal.complain(f"backprop-xp: stopped {error}".rstrip())
        return 128 + int(getattr(error, "signal", 2))
    except BrokenPipeError:
        terminal.discard(sys.stdout)
        return 141
    except OSError as error:
        terminal.discard(sys.stdout)
        return _refused(f"{error.filename or 'the output'} cannot be written: {error.strerror or error}")


def _run(argv: Sequence[str] | None) -> int:
    """Run a command to its end, the last byte of its output included."""
    if sys.stdout is None:
        msg = "standard output is closed: send it to a file, or to /dev/null"
        raise BackpropError(msg)
    try:
        parser = _parser()
        args = parser.parse_args(argv)
        args.words = list(sys.argv[1:] if argv is None else argv)
        if not hasattr(args, "run"):
            parser.print_help(sys.stderr)
            return 2
        status: int = args.run(args)
        return status
    finally:
        sys.stdout.flush()


def _refused(why: str) -> int:
    """Print an error in one line; its last part, what to do, is bold on a terminal."""
    told, colon, advice = " ".join(why.split()).rpartition(": ")
    red, bold = (terminal.style(name, sys.stderr) for name in ("red", "bold"))
    terminal.complain(f"{red('backprop-xp: error:')} {told}{colon}{bold(advice) if colon else advice}")
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("backprop-xp", description=_ABOUT, formatter_class=_Help)
    parser.add_argument("--version", action="version", version=f"backprop-xp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    demo.add_parser(commands, _Help)
    text = commands.add_parser(
        "articles", help="recompute every number of the five articles", description=_ARTICLES,
        formatter_class=_Help,
    )  # fmt: skip
    text.set_defaults(run=_articles)
    text.add_argument("--article", type=int, metavar="N", help="article N, 1 to 5, with all its values")
    text.add_argument("--all", action="store_true", help="every printed figure of all articles beside ours")
    text.add_argument(
        "--backend", metavar="NAME",
        help=f"the array library: {', '.join(backends.names())} (default: exact, fractions, where possible)",
    )  # fmt: skip
    text.add_argument("--json", action="store_true", help="print JSON instead of text")
    text.add_argument(
        "--page", metavar="DIR", help="write a small site on which the nets are stepped through"
    )
    train.add_parser(commands, _Help)
    predict.add_parser(commands, _Help)
    files.add_parsers(commands, _Help, _resume)
    explain.add_parser(commands, _Help)
    written = commands.add_parser(
        "data", help="write synthetic data to a file", description=data_options.DATA,
        epilog=data_options.DATA_EXAMPLES, formatter_class=_Help,
    )  # fmt: skip
    data_options.data_options(written)
    listing = commands.add_parser(
        "backends", help="list the array libraries", description=_backends.__doc__, formatter_class=_Help
    )
    listing.set_defaults(run=_backends)
    completion = commands.add_parser(
        "complete",
        help="print a script for completion on Tab",
        description=_COMPLETION,
        formatter_class=_Help,
    )
    completion.set_defaults(run=_completion)
    completion.add_argument("shell", choices=["bash", "zsh"], help="bash or zsh")
    return parser


def _resume(args: argparse.Namespace) -> int:
    """Go on with a training that was stopped, from the newest checkpoint that is not damaged."""
    if isinstance(args.workers, int):
        return workers_options.launch(args.words, args.workers, args.folder)
    words = files.command_of(args.folder, {"epochs": args.epochs, "data": args.data})
    if not any(word.startswith("--data=") for word in words):
        msg = "this run was trained on a file: name it again, as --data FILE"
        raise BackpropError(msg)
    more = [f"--{name}" for name in ("json", "quiet", "allow-other-bits")
            if getattr(args, name.replace("-", "_"))]  # fmt: skip
    more += [] if args.workers is None else [f"--workers={args.workers}"]
    again = _parser().parse_args(["train", f"--run={args.folder}", *words, *more])
    return train.train(again)


def _articles(args: argparse.Namespace) -> int:
    """Recompute the articles."""
    from .. import articles

    if args.page:
        from ..articles.site import site

        index, *pages = site(args.page)
        print(f"written: {index} and {len(pages)} pages")
        return 0
    shown = {"as_json": args.json, "only": args.article, "brief": not args.all}
    return articles.main(backend=args.backend, **shown)


def _completion(args: argparse.Namespace) -> int:
    """Print a script of completion for a shell."""
    try:
        import shtab
    except ImportError as error:
        library = "shtab"
        raise unavailable(library, library, "cli", error) from error
    parser = _parser()
    (commands,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))  # noqa: SLF001
    for command in commands.choices.values():
        for action in command._actions:  # noqa: SLF001
            kind = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}.get(str(action.metavar))
            if kind is not None:
                action.complete = kind
    print(shtab.complete(parser, args.shell))
    return 0


def _backends(_: argparse.Namespace) -> int:
    """List the array libraries: version and device of those that run here, the reason for the others."""
    for name in backends.names():
        try:
            to = backends.get(name)
        except BackpropError as reason:
            print(terminal.folded(f"{name:8} -    {reason}", hang=14))
            continue
        root = type(to.asarray([0], to.xp.int32, None)).__module__.partition(".")[0]
        device = to.device_of(to.asarray([0], to.xp.int32, None)) or "cpu"
        found = f"{name:8} yes  {root} {sys.modules[root].__version__}, device {device}"
        print(terminal.folded(found, hang=14))
    return 0
