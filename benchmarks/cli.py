"""The command line of the benchmarks."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import picture, report, results
from .contenders import CONTENDERS, missing, taking_part
from .engine import note, race
from .gpu import report as gpu_report
from .gpu import run as gpu_run
from .worker import Worker
from .works import WORKS, find, sized

RESULTS = Path(__file__).resolve().parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Run, list or draw; the exit status.

    Args:
        argv: the words after the command's name; those of the process unless given.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        if args.list:
            print(_listed())
        elif args.draw:
            _draw(json.loads(args.draw.read_text(encoding="utf-8")))
        elif args.gpu:
            _run_gpu(args)
        else:
            _run(args)
    except (ValueError, OSError, ImportError) as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("benchmarks", description="The library and others on the same work.")
    add = parser.add_argument
    add("--works", metavar="W1,W2,…", default="", help="only these (default: all)")
    add("--contenders", metavar="NAME,…", default="", help="only these (default: all that are installed)")
    add("--rounds", type=int, metavar="N", default=7, help="how often each contender is timed (default: 7)")
    add("--gigabytes", type=float, metavar="X", default=0.4, help="size of the file of W5 (default: 0.4)")
    add(
        "--quick", action="store_true", help="tiny sizes, to see that everything runs; the times mean nothing"
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        default=RESULTS,
        help="where the JSON goes (default: benchmarks/results)",
    )
    add(
        "--draw",
        type=Path,
        metavar="FILE.json",
        help="draw the picture and fill in the page from an earlier run",
    )
    add(
        "--gpu",
        action="store_true",
        help="all there is to find out on a GPU: ceilings, tests, works; in one go",
    )
    add("--budget", type=float, metavar="S", default=gpu_run.BUDGET,
        help="seconds that --gpu may take (default: 1400)")  # fmt: skip
    add("--list", action="store_true", help="say which works and contenders there are")
    return parser


def _run(args: argparse.Namespace) -> None:
    if args.rounds < 1:
        msg = f"there is at least one round, got {args.rounds}"
        raise ValueError(msg)
    wanted = _wanted(args.contenders)
    works = find(args.works, quick=args.quick)
    works = works if args.quick else sized(works, args.gigabytes)
    for name, what in missing().items():
        note(f"{name} does not take part: {what} is not installed")
    how: dict[str, Any] = {"start": Worker, "rest": 0.0} if args.quick else {}  # quick: all in this process
    path = args.out / f"{results.today()}-cpu{'-quick' if args.quick else ''}.json"
    args.out.mkdir(parents=True, exist_ok=True)
    races, found = [], {}
    for work in works:
        able = [each for each in taking_part(work) if not (args.quick and each.slow)]
        contenders = [each for each in able if not wanted or each.name in wanted]
        races.append(race(work, contenders, args.rounds, say=note, **how))
        found = results.of_run(races, rounds=args.rounds, quick=args.quick)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")  # kept if the rest is stopped
    print(report.table(found))
    note(f"written: {path.name}")


def _run_gpu(args: argparse.Namespace) -> None:
    names = [name.strip() for name in args.contenders.split(",") if name.strip()]
    gpu_run.main(gpu_run.plan(args.out, args.budget, args.rounds, args.works, names, quick=args.quick))


def _wanted(names: str) -> list[str]:
    """The names of contenders, parted by commas."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := set(wanted) - {each.name for each in CONTENDERS}:
        msg = f"there is no contender {', '.join(sorted(unknown))}; --list names them"
        raise ValueError(msg)
    return wanted


def _draw(found: dict[str, Any]) -> None:
    if "gpu" in found:
        note(f"drawn: {', '.join(path.name for path in gpu_report.draw(found, picture.FOLDER))}")
        return
    paths = picture.draw(found)
    report.fill(found)
    note(f"drawn: {', '.join(path.name for path in paths)}; filled in: {report.PAGE.name}")


def _listed() -> str:
    lines = [f"{work.name:6} {work.title}" for work in WORKS]
    absent = missing()
    for each in CONTENDERS:
        state = f"not installed: {absent[each.name]}" if each.name in absent else "takes part"
        lines.append(f"{each.name:22} {', '.join(each.works):19} {state}")
    return "\n".join(lines)
