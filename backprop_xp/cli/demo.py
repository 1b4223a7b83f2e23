"""The command `demo`: what this library is, on one screen; everything is computed while it is shown."""

import argparse
import re
from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

from .. import backends, insight, terminal
from ..activations import relu, tanh
from ..data import Stored, Teacher
from ..insight.text import as_rows
from ..layers import Activate, Dense, Linear
from ..learner import Learner
from ..losses import half_squared_error, softmax_cross_entropy
from ..net import chain
from ..train import fit, per_sample
from ..updates import Adam, GradientDescent

ABOUT = """Show on one screen what this library is.

The trap of floats from the second article, why one weight moved, a net beside the lowest loss
possible, and the time of a step beside the fastest of Torch (with its fused Adam) and scikit-learn that is
installed, in five rounds each. JAX, on which this library runs too, is compared in docs/performance.md."""
_X, _T = [[100, 2000, 100], [200, 0, 0], [0, 2000, 3000]], [[0], [1], [1]]
_W = ["1/200", "-3/11600", "1/5800"]
_LABELS = {"inputs": ["broccoli", "strawberries", "workout"], "outputs": ["health"]}
_EPOCHS, _ROWS, _BAR, _HANG = 2, 20_000, 30, 3
_WIDTHS, _BATCH, _STEPS, _ROUNDS = (32, 64, 64, 10), 32, 300, 5
_NEXT = {
    "backprop-xp explain --article 2 --page why.html": "every weight, on a page",
    "backprop-xp train --data FILE.csv --target COLUMN": "a table of your own",
    "backprop-xp articles": "five articles, recomputed",
}


def add_parser(commands: Any, formatter: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo", help="show what this is, on one screen", description=ABOUT, formatter_class=formatter
    )
    parser.set_defaults(run=demo)


def demo(_: argparse.Namespace) -> int:
    """Show all parts, and what to do next."""
    _say("backprop_xp: backpropagation that can be read, trusted and run anywhere", bold="backprop_xp")
    for k, (title, part) in enumerate(_PARTS.items(), 1):
        _say(f"\n{k}  {title}", bold=title)
        part()
    _say("\nNext", bold="Next")
    room = max(map(len, _NEXT)) + 2
    wide = terminal.columns() >= room + max(map(len, _NEXT.values())) + _HANG
    for command, what in _NEXT.items():
        _say(f"   {command}{(' ' * (room - len(command)) + what) * wide}", blue=command)
    return 0


def _say(text: str, **colours: str) -> None:
    """Print text, wrapped where the terminal is narrow, with parts of it in colours."""
    told = terminal.folded(text, hang=_HANG)
    for name, part in colours.items():
        split = r"\s+".join(map(re.escape, part.split()))  # where the line was wrapped
        told = re.sub(split, _styled(terminal.style(name)), told)
    print(told, flush=True)


def _styled(style: Callable[[str], str]) -> Callable[[re.Match[str]], str]:
    return lambda found: style(found[0])


def _neuron(backend: str) -> tuple[Learner, Any, Any, Any, Any]:
    """The neuron of the second article, with its samples."""
    exact = backend == "exact"
    learner = Learner(chain(3, Linear(1, bias=False), Activate(relu)), update=GradientDescent("1/10000000"))
    weights = {"dense1.w": [[each if exact else float(Fraction(each))] for each in _W]}
    w, s = learner.init(backend=backend, weights=weights, dtype=None if exact else "float64")
    return learner, w, s, backends.asarray(_X, like=w), backends.asarray(_T, like=w)


def _trap() -> None:
    """One epoch on fractions and in float64."""
    for name, backend in (("in fractions", "exact"), ("in float64", "numpy")):
        learner, w, s, x, t = _neuron(backend)
        w, s, _ = per_sample(learner, w, s, x, t)
        outputs = ", ".join(f"{float(o):g}" for o in learner.predict(w, s, x)[:, 0].tolist())
        told = f"   {name:12}  0, 1, 0 → {outputs}: "
        if backend == "exact":
            _say(f"{told}learnt", green="learnt")
        else:
            _say(f"{told}nothing learnt (a rounded 0 closed the ReLU)", red="nothing learnt")


def _why() -> None:
    """Why one weight moved, in the sentences of the explanation."""
    learner, w, s, x, t = _neuron("exact")
    found = insight.explain(learner, w, s, x[2:, ...], t[2:, ...], labels=_LABELS)
    row = next(row for row in as_rows(found.data) if row["weight"].startswith("strawberries"))
    gave, _, pull, moved = row["why"].partition(" Checked")[0].split(". ")
    _say(f"   {row['weight']}: {gave}. {pull}. {moved}")


def _train() -> None:
    """A net on synthetic rows, its loss as a bar after each epoch, beside the floor."""
    data = Teacher(seed=1, n=_ROWS + 2000, features=4, noise=0.1)
    seen, unseen = Stored(*data.rows(0, _ROWS)), data.rows(_ROWS, data.n)
    learner = Learner(chain(4, Dense(32, tanh), Dense(1)), half_squared_error, Adam(0.01))
    w, s = learner.init(seed=0)
    xp, floor = backends.of(w).xp, data.floor(half_squared_error)
    losses = [float(xp.mean(learner.losses(w, s, *unseen)))]
    for _ in range(_EPOCHS):
        w, s, _history = fit(learner, w, s, seen, epochs=1, progress=None)
        losses.append(float(xp.mean(learner.losses(w, s, *unseen))))
    names = ["before", *(f"epoch {k + 1}" for k in range(_EPOCHS)), "floor"]
    room = min(_BAR, terminal.columns() - 25)
    for name, loss in zip(names, [*losses, floor], strict=True):
        length = max(1, round(room * min(1, loss / losses[1] / 2)))
        cut = " …" * (loss > losses[1] * 2)
        last = name == "floor"
        bar, why = "█" * length, "  from the noise alone" * (last and room == _BAR)
        _say(f"   {name:8}  {bar}{cut} {loss:.4f}{why}", **{"green" if last else "blue": bar})


def _speed() -> None:
    """The time of a step beside that of the best rival here."""
    xp = backends.get("numpy").xp
    x = xp.asarray(xp.reshape(xp.arange(_BATCH * _WIDTHS[0]) % 7, (_BATCH, _WIDTHS[0])), dtype="float32")
    t = xp.asarray(xp.arange(_BATCH) % _WIDTHS[-1], dtype="int32")
    runs = {"backprop_xp on NumPy": _ours(x, t)}
    for name, make in (("Torch", _torch), ("scikit-learn", _sklearn)):
        try:
            runs[name] = make(x, t)
        except ImportError:
            continue
    if len(runs) == 1:
        runs["uncompiled"] = _eager(x, t)
    times = _timed(runs)
    (_, ours), *others = times.items()
    rival = min(others, key=lambda each: each[1])
    ratio, fast = rival[1] / ours, "fast" if rival[1] >= ours else "slow"
    told = f"{max(ratio, 1 / ratio):.1f} times as {fast} here"
    net = f"{'-'.join(map(str, _WIDTHS))}, batch {_BATCH}"
    _say(f"   {net}: {ours * 1e6:,.0f} µs, {rival[0]} {rival[1] * 1e6:,.0f} µs: {told}", green=told)


def _timed(runs: dict[str, Callable[[int], Any]]) -> dict[str, float]:
    """Seconds a step: medians of interleaved rounds."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(_STEPS // 10)
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            began = perf_counter()
            run(_STEPS)
            found[name].append((perf_counter() - began) / _STEPS)
    return {name: median(each) for name, each in found.items()}


def _learner() -> Learner:
    first, *hidden, last = _WIDTHS
    net = chain(first, *[Dense(units, relu) for units in hidden], Dense(last))
    return Learner(net, softmax_cross_entropy, Adam())


def _ours(x: Any, t: Any) -> Callable[[int], Any]:
    learner = _learner()
    state = list(learner.init(seed=0))
    step, xp = learner.compile(state[0]), backends.get("numpy").xp

    def run(steps: int) -> None:
        index = xp.zeros((steps, 1), dtype="int64") + xp.arange(_BATCH)
        state[0], state[1], _ = step.scan(*state, x, t, index)

    return run


def _eager(x: Any, t: Any) -> Callable[[int], Any]:
    learner = _learner()
    state = list(learner.init(seed=0))

    def run(steps: int) -> None:
        for _ in range(steps):
            state[0], state[1], _loss = learner.step(*state, x, t)

    return run


def _torch(x: Any, t: Any) -> Callable[[int], Any]:
    torch = import_module("torch")
    sizes = pairwise(_WIDTHS)
    layers = [part for m, n in sizes for part in (torch.nn.Linear(m, n), torch.nn.ReLU())][:-1]
    net, loss = torch.nn.Sequential(*layers), torch.nn.CrossEntropyLoss()
    rule = torch.optim.Adam(net.parameters(), fused=True)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(t).long()

    def run(steps: int) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # faster than all of them on a net of this size
        for _ in range(steps):
            rule.zero_grad()
            loss(net(inputs), labels).backward()
            rule.step()
        torch.set_num_threads(threads)

    return run


def _sklearn(x: Any, t: Any) -> Callable[[int], Any]:
    model = import_module("sklearn.neural_network").MLPClassifier(_WIDTHS[1:-1], batch_size=_BATCH)
    classes = list(range(_WIDTHS[-1]))

    def run(steps: int) -> None:
        for _ in range(steps):
            model.partial_fit(x, t, classes=classes)

    return run


_PARTS = {
    "The trap of floats: one neuron, three samples, one epoch; expected 0, 1, 1": _trap,
    "Why a weight moved": _why,
    "A net learns, and the best possible loss is known": _train,
    "The time of a step, with Adam": _speed,
}
