"""A real data set: 1,797 handwritten digits, a tenth of them held out. Needs scikit-learn for the data.

python examples/digits.py
"""

import numpy as np
from sklearn.datasets import load_digits

import backprop_xp as bp


def main(epochs: int = 20) -> float:
    """Train, and return the share of right answers on digits that were not trained on."""
    digits = load_digits()
    x, t = (digits.data / 16).astype("float32"), digits.target.astype("int32")
    order = np.random.default_rng(0).permutation(len(x))
    held, kept = order[:180], order[180:]
    learner = bp.Learner(
        bp.chain(64, bp.Dense(64, bp.relu), bp.Dense(10)), bp.softmax_cross_entropy, bp.Adam(0.003)
    )
    w, s, history = bp.fit(learner, *learner.init(seed=0), bp.data.Stored(x[kept], t[kept]), epochs=epochs)
    metrics = {"accuracy": bp.metrics.accuracy, "confusion": bp.metrics.confusion_matrix}
    found = bp.train.measure(learner, w, s, bp.data.Stored(x[held], t[held]), metrics)
    print(f"{found['accuracy']:.1%} right; rows are digits, columns what they were predicted as:")
    print(np.asarray(found["confusion"], dtype=int))
    return found["accuracy"]


if __name__ == "__main__":
    main()
