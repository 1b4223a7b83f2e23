"""The command line of the benchmarks."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import gpu_tests, machine, picture, report, results, works
from .contenders import CONTENDERS, Contender
from .processes import ROOT
from .race import note
from .run import PARTS, Run

_BUDGET = {"cpu": 7200.0, "cuda": 1400.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run, list or draw, and return the exit status.

    Args:
        argv: the arguments; those of the process unless given.
    """
    args = _parser().parse_args(argv)
    try:
        if args.list:
            print(_listed())
        elif args.draw:
            _draw(args.draw)
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
    parser = argparse.ArgumentParser("benchmarks", description="Time the library and others on equal work.")
    add = parser.add_argument
    add("--device", choices=tuple(_BUDGET), default="cpu",
        help="where the works run; on a GPU, its ceilings and tests come first (default: cpu)")  # fmt: skip
    add("--gpu", action="store_const", const="cuda", dest="device", help="the same as --device cuda")
    add("--parts", metavar="PART,…", default="",
        help="only these parts of a run on a GPU: truth (products, tests, compute-sanitizer), small (G1, G2, "
        "G4 and their kernels), large (G3, G5, with torch.compile); the JSON is their own")  # fmt: skip
    add("--works", metavar="W1,G2,…", default="", help="only these works (default: all for the device)")
    add("--contenders", metavar="NAME,…", default="", help="only these (default: all that are installed)")
    add("--rounds", type=int, metavar="N", default=7, help="how often each contender is timed (default: 7)")
    add("--budget", type=float, metavar="S", help="the most seconds in all (default: 7200, on a GPU 1400)")
    add("--gigabytes", type=float, metavar="X", default=0.4, help="size of the file of W5 (default: 0.4)")
    add("--quick", action="store_true",
        help="tiny sizes on the CPU, to see that everything runs; the times mean nothing")  # fmt: skip
    add("--out", type=Path, metavar="DIR", default=ROOT / "benchmarks" / "results",
        help="the folder for JSON and picture (default: benchmarks/results)")  # fmt: skip
    add("--draw", type=Path, metavar="FILE.json",
        help="from an earlier run draw the picture and write the tables of docs/performance.md")  # fmt: skip
    add("--list", action="store_true", help="list the works and contenders")
    return parser


def _run(args: argparse.Namespace) -> None:
    if args.rounds < 1:
        msg = f"--rounds must be at least 1, got {args.rounds}"
        raise ValueError(msg)
    if args.device == "cuda" and not args.quick and not machine.gpu():
        msg = "no GPU was found: --gpu needs an NVIDIA GPU and its driver (nvidia-smi shows both)"
        raise ValueError(msg)
    parts = [part for part in args.parts.split(",") if part]
    if unknown := set(parts) - PARTS.keys():
        msg = f"a part is one of {', '.join(PARTS)}, got {min(unknown)!r}"
        raise ValueError(msg)
    if parts and args.device != "cuda":
        msg = "--parts are parts of a run on a GPU: add --gpu"
        raise ValueError(msg)
    if parts and args.works:
        msg = "give either --parts or --works: each part has its own works"
        raise ValueError(msg)
    wanted = ",".join(filter(None, (PARTS[part] for part in parts)))
    chosen = works.find(args.works or wanted, args.device) if wanted or not parts else []
    chosen = [replace(work, gigabytes=args.gigabytes) if work.gigabytes else work for work in chosen]
    contenders = _contenders(args.contenders)
    if parts and "large" not in parts:
        contenders = [each for each in contenders if not each.slow]
    if args.quick:  # leave out what takes long to compile
        chosen = [works.quick(work) for work in chosen if len(work.widths) < 8]
        contenders = [each for each in contenders if not each.slow]
    budget = args.budget or _BUDGET[args.device]
    tests = gpu_tests.PATH if not args.quick or not parts else ""  # on the CPU all of them are skipped
    run = Run(args.device, chosen, contenders, args.rounds, budget, args.out, args.quick, tests, parts)
    for name, what in run.found["missing"].items():
        note(f"{name} does not take part: {what} is not installed")
    found = run.all()
    print(report.table(found))
    note(f"{found['seconds']:.0f} s of {budget:g} s; written: {run.path.name}")
    try:
        note(f"drawn: {', '.join(path.name for path in picture.draw(found, run.path))}")
    except (ValueError, ImportError, OSError) as why:
        note(f"not drawn: {why}")


def _contenders(words: str) -> list[Contender]:
    """The contenders with these names, separated by commas; without names all of them."""
    wanted = {name.strip() for name in words.split(",") if name.strip()}
    if unknown := wanted - {each.name for each in CONTENDERS}:
        msg = f"there is no contender {', '.join(sorted(unknown))}: --list shows the names"
        raise ValueError(msg)
    return [each for each in CONTENDERS if not wanted or each.name in wanted]


def _draw(path: Path) -> None:
    found = results.read(path)
    name = "benchmarks" if found["device"] == "cpu" else "benchmarks-gpu"
    note(f"drawn: {', '.join(each.name for each in picture.draw(found, ROOT / 'docs' / name))}")
    if found["device"] == "cpu":
        report.fill(found)
        note(f"filled in: {report.PAGE.name}")


def _listed() -> str:
    lines = [f"{work.name:9} {work.device:5} {work.title}" for work in works.WORKS]
    for each in CONTENDERS:
        state = f"not installed: {', '.join(each.missing)}" if each.missing else "takes part"
        lines.append(f"{each.name:22} {', '.join(each.works)}: {state}")
    return "\n".join(lines)
