"""W8: the estimators beside scikit-learn's MLPs, how long `fit` takes and what it is worth.

    python -m benchmarks.estimators                        # some minutes
    python -m benchmarks.estimators --rounds 3 --only wine,diabetes
    python -m benchmarks.estimators --score a.json         # accuracy alone, on a busy machine
    python -m benchmarks.estimators --scores a.json        # times alone, on a quiet one

Both get the same rows of float64, standardised in advance, the same widths, Adam with the same rate and
constants, batches of min(200, rows), the same number of epochs, no penalty, and neither stops early. Their
fits are timed in interleaved rounds after a first one, with one thread of BLAS. A cold fit is the first one
of a new process, whose imports are not counted. Accuracy, for numbers R², is the mean over folds and seeds.
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

from . import machine
from .processes import ROOT
from .results import ratio, spread

FOLDER = Path(__file__).parent / "results" / "estimators"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- estimators -->", "<!-- /estimators -->"
WIDTHS = (100,)
HEAD = (
    "table",
    "rows × columns",
    "epochs",
    "ours, ms",
    "scikit-learn, ms",
    "×",
    "cold: ours, scikit-learn, ms",
    "accuracy (R²): ours, scikit-learn",
)


class Case(NamedTuple):
    """A table to be learnt.

    Attributes:
        rows: how many; of scikit-learn's own sets all.
        epochs: of a fit.
        rate: of Adam.
        folds: of the cross-validation.
        seeds: of the folds and of first weights.
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
    """The rows of a case, and their targets; numbers are standardised."""
    from sklearn import datasets

    own = {"wine": "load_wine", "diabetes": "load_diabetes", "breast cancer": "load_breast_cancer",
           "digits": "load_digits"}.get(name)  # fmt: skip
    x, y = getattr(datasets, own)(return_X_y=True) if own else covertype_shaped(CASES[name].rows)
    y = (y - y.mean()) / y.std() if name == "diabetes" else y
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1), y


def covertype_shaped(n: int) -> tuple[Any, Any]:
    """Ten numbers, two groups of 4 and 40 columns of which one is 1, and seven classes of a random net."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(n, 10))
    groups = [np.eye(k)[rng.integers(0, k, n)] for k in (4, 40)]
    x = np.concatenate([numbers, *groups], axis=1)
    hidden = np.tanh(x @ rng.normal(size=(54, 16)) / 2)
    scores = hidden @ rng.normal(size=(16, 7)) + rng.normal(size=(n, 7)) / 2
    return x, scores.argmax(axis=1)


def estimators(name: str, seed: int = 0) -> dict[str, Any]:
    """Ours and scikit-learn's for a case, unfitted."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    from backprop_xp.sklearn import BackpropClassifier, BackpropRegressor

    case, numbers = CASES[name], name == "diabetes"
    ours = BackpropRegressor if numbers else BackpropClassifier
    theirs = MLPRegressor if numbers else MLPClassifier
    net = ours(WIDTHS, rate=case.rate, max_iter=case.epochs, patience=None, random_state=seed)
    mlp = theirs(
        hidden_layer_sizes=WIDTHS,
        learning_rate_init=case.rate,
        max_iter=case.epochs,
        alpha=0.0,
        n_iter_no_change=10**9,
        tol=0.0,
        random_state=seed,
    )
    return {"ours": net, "scikit-learn": mlp}


def seconds(fit: Callable[[], Any]) -> float:
    """How long a fit takes."""
    begin = perf_counter()
    fit()
    return perf_counter() - begin


def times(name: str, rounds: int) -> dict[str, Any]:
    """Interleaved rounds of fits of a case, with the seconds of each."""
    from threadpoolctl import threadpool_limits

    (x, y), made = data(name), estimators(name)

    def fit(who: str) -> None:
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of convergence, which is not waited for
            made[who].fit(x, y)

    found: dict[str, list[float]] = {who: [] for who in made}
    for k in range(rounds + 1):  # the first one warms up
        for who in list(made) if k % 2 else list(made)[::-1]:
            took = seconds(partial(fit, who))
            if k:
                found[who].append(took)
    cold = {who: float(_cold(name, who)) for who in ("ours", "scikit-learn")}
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
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


def accuracy(name: str) -> dict[str, float]:
    """The mean score of each over folds and seeds, all rows being held out once for each seed."""
    from sklearn.model_selection import KFold, StratifiedKFold
    from threadpoolctl import threadpool_limits

    (x, y), case = data(name), CASES[name]
    found: dict[str, list[float]] = {"ours": [], "scikit-learn": []}
    for seed in range(case.seeds):
        kind = KFold if name == "diabetes" else StratifiedKFold
        for train, test in kind(case.folds, shuffle=True, random_state=seed).split(x, y):
            for who, each in estimators(name, seed).items():
                with threadpool_limits(1), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found[who].append(each.fit(x[train], y[train]).score(x[test], y[test]))
    return {who: float(np.mean(scores)) for who, scores in found.items()}


def table(found: dict[str, Any]) -> str:
    """The results as rows of Markdown."""
    host = found["machine"]
    about = f"{host['processor']}, {host['cores']} cores, {found['date']}"
    version = found["versions"].get("scikit-learn", "")
    rows = [
        f"{about}; scikit-learn {version}, medians and quartiles of {found['rounds']} rounds.",
        "",
        f"| {' | '.join(HEAD)} |",
        "|---" * len(HEAD) + "|",
    ]
    for name, each in found["cases"].items():
        own, rival = (spread([1e3 * s for s in each["seconds"][key]]) for key in ("ours", "scikit-learn"))
        both = (f"{a['median']:,.0f} ({a['low']:,.0f} to {a['high']:,.0f})" for a in (own, rival))
        cold = ", ".join(f"{1e3 * s:,.0f}" for s in each["cold"].values())
        scores = ", ".join(f"{s:.3f}" for s in each["accuracy"].values())
        size = f"{each['rows']:,} × {each['features']}"
        times_ = f"{each['ratio']['median']:.2f} ({each['ratio']['low']:.2f} to {each['ratio']['high']:.2f})"
        rows.append(
            f"| {name} | {size} | {each['epochs']} | {' | '.join(both)} | {times_} | {cold} | {scores} |"
        )
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
    if args.cold:
        name, who = args.cold
        x, y = data(name)
        print(seconds(lambda: estimators(name)[who].fit(x, y)))
        return
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
