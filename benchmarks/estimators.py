"""W8: the estimators compared with other libraries' MLPs: how long `fit` takes, and how good the result is.

    python -m benchmarks.estimators                        # some minutes
    python -m benchmarks.estimators --rounds 3 --only wine,diabetes
    python -m benchmarks.estimators --score a.json         # accuracy alone, on a busy machine
    python -m benchmarks.estimators --scores a.json        # times alone, on a quiet one

scikit-learn always takes part; skorch and Keras (see `mlps.py`) where they are installed. All get the same
rows of float64, standardised in advance, the same widths, Adam with the same rate and constants, batches of
min(200, rows), the same number of epochs, no penalty, and no early stopping. Fits are timed in interleaved
rounds after a warm-up, with one thread each. A cold fit is the first one in a new process, imports not
counted. Accuracy (R² for regression) is the mean over folds and seeds.
"""

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from . import machine, mlps
from .processes import ROOT, environment
from .results import ratio, spread

FOLDER = Path(__file__).parent / "results" / "estimators"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- estimators -->", "<!-- /estimators -->"
WIDTHS = (100,)


class Case(NamedTuple):
    """A table to learn.

    Attributes:
        rows: the number of rows; scikit-learn's own data sets are used whole.
        epochs: the epochs of a fit.
        rate: the learning rate of Adam.
        folds: the folds of the cross-validation.
        seeds: how many seeds, for the folds and the first weights.
    """

    rows: int
    epochs: int
    rate: float = 0.003
    folds: int = 5
    seeds: int = 2


CASES = {
    "wine": Case(178, 200),
    "diabetes": Case(442, 100),
    "breast cancer": Case(569, 100),
    "digits": Case(1797, 50),
    "covertype-shaped 300": Case(300, 200, seeds=4),
    "covertype-shaped 3,000": Case(3000, 50),
    "covertype-shaped 30,000": Case(30_000, 10, folds=3, seeds=1),
    "covertype-shaped 100,000": Case(100_000, 4, folds=3, seeds=1),
}


def data(name: str) -> tuple[Any, Any]:
    """The rows of a case, and their targets; columns and numeric targets are standardised."""
    from sklearn import datasets

    own = {"wine": "load_wine", "diabetes": "load_diabetes", "breast cancer": "load_breast_cancer",
           "digits": "load_digits"}.get(name)  # fmt: skip
    x, y = getattr(datasets, own)(return_X_y=True) if own else covertype_shaped(CASES[name].rows)
    y = (y - y.mean()) / y.std() if name == "diabetes" else y
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1), y


def covertype_shaped(n: int) -> tuple[Any, Any]:
    """Ten numbers, two one-hot groups of 4 and 40 columns, and seven classes given by a noisy random net."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(n, 10))
    groups = [np.eye(k)[rng.integers(0, k, n)] for k in (4, 40)]
    x = np.concatenate([numbers, *groups], axis=1)
    hidden = np.tanh(x @ rng.normal(size=(54, 16)) / 2)
    scores = hidden @ rng.normal(size=(16, 7)) + rng.normal(size=(n, 7)) / 2
    return x, scores.argmax(axis=1)


def estimators(name: str, seed: int = 0) -> dict[str, Callable[[], Any]]:
    """For each library that is installed, a function that returns an unfitted estimator."""
    case, numbers = CASES[name], name == "diabetes"

    def ours() -> Any:
        from backprop_xp.sklearn import BackpropClassifier, BackpropRegressor

        kind = BackpropRegressor if numbers else BackpropClassifier
        return kind(WIDTHS, rate=case.rate, max_iter=case.epochs, patience=None, random_state=seed)

    def theirs() -> Any:
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        return (MLPRegressor if numbers else MLPClassifier)(
            hidden_layer_sizes=WIDTHS,
            learning_rate_init=case.rate,
            max_iter=case.epochs,
            alpha=0.0,
            n_iter_no_change=10**9,
            tol=0.0,
            random_state=seed,
        )

    others = {who: kind for who, kind in mlps.ALL.items() if not mlps.missing(who)}
    settings = (*WIDTHS, numbers, case.rate, case.epochs, seed)
    return {"ours": ours, "scikit-learn": theirs} | {
        who: partial(kind, *settings) for who, kind in others.items()
    }


def seconds(fit: Callable[[], Any]) -> float:
    """How long a fit takes."""
    begin = perf_counter()
    fit()
    return perf_counter() - begin


def times(name: str, rounds: int) -> dict[str, Any]:
    """Interleaved rounds of fits of a case, with the seconds of each."""
    from threadpoolctl import threadpool_limits

    (x, y), made = data(name), {who: make() for who, make in estimators(name).items()}

    def fit(who: str) -> None:
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it did not converge
            made[who].fit(x, y)

    found: dict[str, list[float]] = {who: [] for who in made}
    for k in range(rounds + 1):  # the first one warms up
        for who in list(made) if k % 2 else list(made)[::-1]:
            took = seconds(partial(fit, who))
            if k:
                found[who].append(took)
    cold = {who: float(_cold(name, who)) for who in made}
    return {
        "seconds": found,
        "ratio": ratio(found["ours"], found["scikit-learn"]),
        "cold": cold,
        "epochs": CASES[name].epochs,
        "rows": len(x),
        "features": x.shape[1],
    }


def _cold(name: str, who: str) -> str:
    command = [sys.executable, "-m", "benchmarks.estimators", "--cold", name, who]
    env = environment(1, "cpu")
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


def accuracy(name: str) -> dict[str, float]:
    """The mean score of each estimator over folds and seeds; each seed holds out every row once."""
    from sklearn.model_selection import KFold, StratifiedKFold
    from threadpoolctl import threadpool_limits

    (x, y), case = data(name), CASES[name]
    found: dict[str, list[float]] = {who: [] for who in estimators(name)}
    for seed in range(case.seeds):
        kind = KFold if name == "diabetes" else StratifiedKFold
        for train, test in kind(case.folds, shuffle=True, random_state=seed).split(x, y):
            for who, make in estimators(name, seed).items():
                with threadpool_limits(1), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found[who].append(make().fit(x[train], y[train]).score(x[test], y[test]))
    return {who: float(np.mean(scores)) for who, scores in found.items()}


def table(found: dict[str, Any]) -> str:
    """The results as a Markdown table: milliseconds, how many times as long each rival took, and scores."""
    host, versions, cases = found["machine"], found["versions"], found["cases"]
    about = f"{host['processor']}, {host['cores']} cores, {found['date']}"
    who = list(next(iter(cases.values()))["seconds"])
    used = ", ".join(f"{name} {versions.get(name.lower(), '')}" for name in who[1:])
    of = ", ".join(who)
    head = ["table", "rows × columns", "epochs", "ours, ms", *(f"{name}, ×" for name in who[1:])]
    head += [f"cold, ms: {of}", f"accuracy (R²): {of}"]
    rows = [
        f"{about}; {used}; medians and quartiles of {found['rounds']} rounds.",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for name, each in cases.items():
        own = spread([1e3 * s for s in each["seconds"]["ours"]])
        factors = [ratio(each["seconds"]["ours"], each["seconds"][key]) for key in who[1:]]
        cells = [f"{own['median']:,.0f} ({own['low']:,.0f} to {own['high']:,.0f})"]
        cells += [f"{a['median']:.2f} ({a['low']:.2f} to {a['high']:.2f})" for a in factors]
        cells.append(", ".join(f"{1e3 * each['cold'][key]:,.0f}" for key in who))
        cells.append(", ".join(f"{each['accuracy'][key]:.3f}" for key in who))
        size = f"{each['rows']:,} × {each['features']}"
        rows.append(f"| {name} | {size} | {each['epochs']} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    """Score and time, print a table, and write it as JSON and into docs/performance.md."""
    parser = argparse.ArgumentParser("benchmarks.estimators", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="rounds (default: 7)")
    parser.add_argument("--only", default="", metavar="NAME,…", help="only these tables; nothing is written")
    parser.add_argument(
        "--cold", nargs=2, metavar=("NAME", "WHO"), help="one fit of a new process, in seconds"
    )
    parser.add_argument(
        "--scores", type=Path, metavar="FILE.json", help="take accuracies from an earlier run"
    )
    parser.add_argument(
        "--score", type=Path, metavar="FILE.json", help="compute accuracies alone, into a file"
    )
    args = parser.parse_args()
    os.environ.update(environment(1, "cpu"))  # before JAX and Torch are imported
    if args.cold:
        name, who = args.cold
        (x, y), made = data(name), estimators(name)[who]()
        print(seconds(lambda: made.fit(x, y)))
        return
    for who in mlps.ALL:
        if why := mlps.missing(who):
            print(why)
    chosen = [name.strip() for name in args.only.split(",") if name.strip()]
    if args.scores:
        scores = json.loads(args.scores.read_text(encoding="utf-8"))
    else:
        scores = {name: accuracy(name) for name in chosen or CASES}
    if args.score:
        args.score.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
        return
    found: dict[str, Any] = {
        "date": machine.today(),
        "machine": machine.host(),
        "versions": machine.versions(),
        "rounds": args.rounds,
        "cases": {},
    }
    for name in chosen or CASES:
        found["cases"][name] = times(name, args.rounds) | {"accuracy": scores[name]}
        print(table(found).splitlines()[-1], flush=True)
    if chosen:
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{machine.today()}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
