"""Whether two commits compute the same bits: run it before and after a refactoring.

    python scripts/same_bits.py BEFORE [AFTER]      # AFTER is the working tree unless a commit is named

A hundred random nets run on every installed backend, eager and compiled, with the package of each commit in
a process of its own. Every result is hashed with its type and shape; for an error its class is compared.
The exit status is 1 if anything differs.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

NAMES = {  # what the cases need of the package, and where it is or was defined
    "activations": ".activations.ALL", "losses": ".losses.ALL", "asarray": ".asarray", "backend": ".backend",
    "GradientDescent": ".updates.GradientDescent", "Momentum": ".updates.Momentum", "Adam": ".updates.Adam",
    "Dense": ".layers.Dense", "Activate": ".layers.Activate", "named": ".net.named .net.name",
    "chain": ".net.chain", "add": ".net.add", "concat": ".net.concat", "Learner": ".learner.Learner",
    "fit": ".train.fit", "per_sample": ".train.per_sample", "Stored": ".data.Stored",
}  # fmt: skip
UNITS = {  # the cases are drawn from these; newer ones are missing in the commits compared with
    "activations": "identity relu leaky_relu sigmoid tanh softmax",
    "losses": "half_squared_error squared_error mean_squared_error mean_absolute_error binary_cross_entropy "
              "categorical_cross_entropy sigmoid_cross_entropy softmax_cross_entropy",
}  # fmt: skip
RATIONAL = {"identity", "relu", "leaky_relu", "half_squared_error", "squared_error", "mean_squared_error",
            "mean_absolute_error", "huber", "quantile", "hinge"}  # fmt: skip
ENDS = {"binary_cross_entropy": "sigmoid", "categorical_cross_entropy": "softmax"}  # losses of probabilities
CASES = range(100)
JAX = {"float32": (0, 9, 49, 62, 69), "float64": (20, 39, 59, 79)}  # compiling takes seconds
EXACT_AT_MOST = 100  # weights times rows: fractions grow with every step
MANY = 500_000  # steps of a scan that Numba, where it is installed, compiles for a tiny net
ROOT = Path(__file__).resolve().parent.parent
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

Told = dict[str, dict[str, dict[str, str]]]  # by place, case and result


class Case(NamedTuple):
    """A learner and its data; all of it follows from the number k."""

    k: int
    text: str
    learner: Any
    x: Any
    t: Any
    batch: int
    rational: bool

    def suits(self, name: str, dtype: str) -> bool:
        """Whether it runs on this backend: on fractions if rational and small, on JAX if listed there."""
        if name == "exact":
            return self.rational and self.learner.net.layout.size * self.batch <= EXACT_AT_MOST
        return name != "jax" or self.k in JAX[dtype]


def package() -> SimpleNamespace:
    """The names of the package that is imported here."""

    def found(places: str) -> Any:
        for place in places.split():
            module, _, name = place.rpartition(".")
            try:
                return getattr(import_module(module or ".", "backprop_xp"), name)
            except (ImportError, AttributeError):
                continue
        sys.exit(f"the package has none of {places}: add the new name to NAMES")

    made = {name: found(places) for name, places in NAMES.items()}
    units = {kind: {name: made[kind][name] for name in names.split()} for kind, names in UNITS.items()}
    return SimpleNamespace(**made | units)


def sizes(k: int, draw: Any) -> tuple[list[int], int]:
    """The units of the input and of every layer, and the rows of a batch."""
    if k % 5 == 0:
        return [2, 2, 2, 1], 1  # a step of single numbers
    if k % 10 == 9:
        return [6, 5, 5, 4], 4  # one shape for many cases, which JAX compiles once
    if k % 25 == 12:
        return [128, 256, 64], 8  # so many weights that they are updated in blocks
    most = 4 if k % 5 == 1 else 40
    return draw.integers(1, most + 1, draw.integers(2, 6)).tolist(), int(draw.integers(1, 9))


def rule(bp: SimpleNamespace, k: int, rate: float, layers: list[str]) -> Any:
    """The k-th update rule."""

    def falling(count: Any, *, xp: Any) -> Any:  # noqa: ARG001
        return rate / (1 + count)

    each = {name: rate / (1 + i) for i, name in enumerate(layers)}
    rules = (
        bp.GradientDescent(rate), bp.GradientDescent(falling), bp.GradientDescent(each),
        bp.GradientDescent(rate, limit=0.5), bp.GradientDescent(each, limit=0.75, floor=0.01),
        bp.Momentum(rate), bp.Momentum(falling, 0.5, nesterov=True),
        bp.Adam(rate), bp.Adam(each, 0.5, 0.75),
    )  # fmt: skip
    return rules[k % len(rules)]


def data(draw: Any, features: int, units: int, n: int, targets: str) -> tuple[Any, Any]:
    """Inputs, sometimes bytes, and targets of a kind that the loss takes."""
    x = draw.normal(size=(n, features)).round(2)
    x = draw.integers(0, 256, (n, features)).astype("uint8") if draw.random() < 0.2 else x
    if targets == "distribution":
        labels = draw.random() < 0.5
        return x, draw.integers(0, units, n).astype("int32") if labels else draw.dirichlet([1] * units, n)
    if targets in {"counts", "signs"}:
        return x, draw.integers(0, 9, (n, units)) * 1.0 if targets == "counts" else draw.choice(
            [-1.0, 1], (n, units)
        )
    drawn = draw.random if targets == "probabilities" else draw.normal
    return x, drawn(size=(n, units)).round(2)


def case(k: int, bp: SimpleNamespace) -> Case:
    """The k-th case."""
    draw = np.random.default_rng(k)
    kind = [*bp.losses][k % len(bp.losses)]
    loss, (units, batch) = bp.losses[kind], sizes(k, draw)
    if loss.targets == "distribution":
        units[-1] = max(2, units[-1])
    plain = draw.random() < (0.75 if k % 5 < 2 else 0.25)
    fs = draw.choice([f for f in bp.activations if f in RATIONAL or not plain], len(units) - 1).tolist()
    fs[-1] = ENDS.get(kind, fs[-1])
    items: list[Any] = []
    width = {"input": units[0]}
    for i, (n, f) in enumerate(zip(units[1:], fs, strict=True), 1):
        if i > 1 and k % 5 and draw.random() < 0.4:
            alike = [name for name in width if width[name] == units[i - 1]]
            items.append(bp.add(alike[0]) if len(alike) > 1 else bp.concat(str(draw.choice([*width]))))
        bias, apart = bool(draw.random() < 0.8), draw.random() < 0.2
        dense = bp.Dense(n, bias=bias) if apart else bp.Dense(n, bp.activations[f], bias)
        items += [bp.named(f"layer{i}", dense), *([bp.Activate(bp.activations[f])] if apart else [])]
        width[f"layer{i}"] = n
    net, layers = bp.chain(units[0], *items), [*width][1:]
    if len(layers) > 1 and k % 25 != 12 and draw.random() < 0.3:
        net = net.freeze(f"{draw.choice(layers)}{draw.choice(['', '.w'])}")
    update = rule(bp, k // len(bp.losses), float(draw.choice([0.01, 0.02])), layers)
    by_layer = isinstance(update, bp.GradientDescent) and draw.random() < 0.4
    settings = str(draw.choice(["mean", "sum"])), "layer by layer" if by_layer else "together"
    x, t = data(draw, units[0], units[-1], 2 * batch + (batch + 1) // 2, loss.targets)
    rational = {*fs, kind} <= RATIONAL and not isinstance(update, bp.Adam) and x.dtype != np.uint8
    text = ", ".join(["-".join(map(str, units)), *fs, kind, type(update).__name__, *settings])
    learner = bp.Learner(net, loss, update, *settings, to_input=bool(draw.random() < 0.1))
    return Case(k, text, learner, x, t, batch, rational)


def digest(value: Any) -> str:
    """The SHA-256 of every array in tuples and mappings, with its type and shape; fractions as text.

    An empty tuple counts as absent, so that a later state may have more parts, if these are empty.
    """
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (tuple, list)):
        told = " ".join(digest(each) for each in value if not (isinstance(each, tuple) and not each))
    elif type(value).__module__.startswith("backprop_xp"):
        told = repr(value.tolist())
    else:
        a = np.asarray(value)
        told = f"{a.dtype} {a.shape} {a.tobytes().hex()}"
    return hashlib.sha256(told.encode()).hexdigest()


def results(case: Case, bp: SimpleNamespace, name: str, dtype: str) -> dict[str, str]:
    """The digests of everything that a case computes on one backend."""
    learner, draw = case.learner, np.random.default_rng(case.k)
    index = draw.integers(0, len(case.x), (3, case.batch))
    biases = {b: draw.normal(size=n).round(2) for b, n in learner.net.shapes.items() if b.endswith(".b")}
    partial = {"partial": True} if "partial" in signature(learner.init).parameters else {}
    w, s = learner.init(case.k, backend=name, dtype=dtype, weights=biases, **partial)

    def put(a: Any) -> Any:
        return bp.asarray(a, like=w, dtype=None if a.dtype.kind == "f" else str(a.dtype))

    def each_batch(step: Callable[..., Any]) -> tuple[Any, Any, Any]:
        (new, state), losses = learner.snapshot(w, s), []
        for batch in batches:
            new, state, loss = step(new, state, *batch)
            losses.append(loss)
        return new, state, losses

    def fitted() -> tuple[Any, Any, Any]:  # with so few batches that nothing depends on the clock
        done = bp.fit(learner, w, s, bp.Stored(x, t), batch_size=case.batch)
        return done.w, done.s, [epoch.loss for epoch in done.history]

    x, t, compiled = put(case.x), put(case.t), learner.compile(w)
    batches = [(put(case.x[rows]), put(case.t[rows])) for rows in index]
    tasks: dict[str, Callable[[], Any]] = {
        "init": lambda: (w, s),
        "step": lambda: each_batch(learner.step),
        "compiled step": lambda: each_batch(compiled),
        "scan": lambda: compiled.scan(*learner.snapshot(w, s), x, t, index),
        "predict": lambda: learner.predict(w, s, batches[0][0]),
        "losses": lambda: learner.losses(w, s, *batches[0]),
        "gradient": lambda: learner.gradient(w, s, *batches[0]),
        "per_sample": lambda: bp.per_sample(learner, w, s, x, t),
        "fit": fitted,
    }
    if case.k == CASES[0] and name == "numpy":
        many = np.resize(index, (MANY, case.batch))
        tasks["long scan"] = lambda: compiled.scan(*learner.snapshot(w, s), x, t, many)
    return {"case": case.text} | attempted(tasks)


def attempted(tasks: dict[str, Callable[[], Any]]) -> dict[str, str]:
    """The digest of each task's result, or the class of its error."""
    told = {}
    for task, compute in tasks.items():
        try:
            found = compute()
        except Exception as error:
            told[task] = f"error {type(error).__name__}"
            continue
        parts = zip((" w", " s", " loss"), found, strict=False) if isinstance(found, tuple) else [("", found)]
        told |= {task + part: digest(value) for part, value in parts}
    return told


def work(tree: str) -> None:
    """Print the digests of all cases with the package of this tree, as JSON."""
    import backprop_xp

    if not Path(backprop_xp.__file__).is_relative_to(tree):
        sys.exit(f"{backprop_xp.__file__} was imported, which is not in {tree}")
    warnings.simplefilter("ignore")
    bp, told = package(), {}
    cases = [case(k, bp) for k in CASES]
    floats = [(name, dtype) for name in ("numpy", "torch", "jax", "strict") for dtype in JAX]
    for place in [*floats, ("exact", "rational")]:
        try:
            with bp.backend(place[0]):
                told[" ".join(place)] = {c.k: results(c, bp, *place) for c in cases if c.suits(*place)}
        except ImportError:  # it is not installed
            continue
    print(json.dumps(told))


def measured(tree: Path) -> Told:
    """The digests of all cases with the package of a tree, from a process of its own."""
    env = os.environ | dict.fromkeys(THREADS, "1") | {"JAX_ENABLE_X64": "1", "PYTHONPATH": str(tree)}
    command = [sys.executable, __file__, "--work", str(tree)]
    done = subprocess.run(command, cwd=tree, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"the cases did not run in {tree}: see the error above")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def unpacked(commit: str, folder: Path) -> Path:
    """The package as it was at a commit, in this folder."""
    packed = folder.with_suffix(".zip")
    command = ["git", "archive", "--format=zip", f"--output={packed}", commit, "backprop_xp"]
    if subprocess.call(command, cwd=ROOT):
        sys.exit(f"there is no package at {commit!r}: see git's message above")
    shutil.unpack_archive(packed, folder)
    return folder


def compare(before: Told, after: Told) -> bool:
    """Print a table of the backends and the first cases that differ; return whether all are equal."""
    differing = []
    print(f"{'backend':16}{'cases':>7}{'equal':>7}{'different':>11}{'refused':>9}")
    for place in before | after:
        old, new = before.get(place, {}), after.get(place, {})
        count: Counter[str] = Counter()
        for k in old | new:
            a, b = old.get(k, {}), new.get(k, {})
            if names := [name for name in a | b if a.get(name) != b.get(name)]:
                differing.append(f"{place}, case {k} ({(b or a)['case']}): {', '.join(names)}")
            refused = any(value.startswith("error") for value in a.values())
            count["different" if names else "refused" if refused else "equal"] += 1
        print(f"{place:16}{count.total():7}{count['equal']:7}{count['different']:11}{count['refused']:9}")
    for line in differing[:10]:
        print(line)
    if more := differing[10:]:
        print(f"and {len(more)} more")
    return not differing


def main(argv: list[str]) -> int:
    """Compare two commits, or run the cases for one tree; return the exit status."""
    if argv[:1] == ["--work"]:
        work(argv[1])
        return 0
    parser = argparse.ArgumentParser(description="Whether two commits compute the same bits.")
    parser.add_argument("before", help="a commit")
    parser.add_argument("after", nargs="?", help="another commit (default: the working tree)")
    known = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        trees = [unpacked(known.before, Path(folder) / "before")]
        trees += [unpacked(known.after, Path(folder) / "after") if known.after else ROOT]
        before, after = pool.map(measured, trees)
    return 0 if compare(before, after) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
