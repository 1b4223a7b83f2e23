"""Train on a CSV file with early stopping, save the model, and predict the held-out rows.

    python examples/csv_to_model.py flowers.csv kind

All columns but the target must be numbers; the values of the target are classes.
"""

import csv
import sys

import numpy as np

import backprop_xp as bp


def main(path: str, target: str, epochs: int = 100) -> float:
    """Train, save net.safetensors, and return the share of right answers on the held-out rows."""
    with open(path, newline="", encoding="utf-8") as file:  # noqa: PTH123
        rows = list(csv.DictReader(file))
    columns = [name for name in rows[0] if name != target]
    classes = sorted({row[target] for row in rows})
    x = np.asarray([[float(row[name]) for name in columns] for row in rows], dtype="float32")
    t = np.asarray([classes.index(row[target]) for row in rows], dtype="int32")

    order = np.random.default_rng(0).permutation(len(x))
    held, kept = order[: len(x) // 5], order[len(x) // 5 :]
    x = (x - x[kept].mean(axis=0)) / x[kept].std(axis=0)  # keep mean and std too, to predict other rows

    net = bp.chain(len(columns), bp.Dense(32, bp.relu), bp.Dense(len(classes)))
    learner = bp.Learner(net, bp.softmax_cross_entropy, bp.Adam(0.01))
    validate = bp.train.Validate(bp.data.Stored(x[held], t[held]), {"accuracy": bp.metrics.accuracy})
    w, s, history = bp.fit(
        learner, *learner.init(seed=0), bp.data.Stored(x[kept], t[kept]),
        epochs=epochs, validate=validate, stop=bp.train.EarlyStop(patience=5),
    )  # fmt: skip
    bp.save("net.safetensors", learner, w, s)
    right = float(np.mean(learner.predict(w, s, x[held]).argmax(axis=1) == t[held]))
    print(f"{len(history)} epochs, {right:.1%} of {len(held)} held-out rows right; saved net.safetensors")
    return right


if __name__ == "__main__":
    main(*sys.argv[1:3])
