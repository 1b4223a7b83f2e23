"""Training that can be killed at any moment and started again: it ends with the same bits.

python examples/resume.py runs/a
"""

import sys

import backprop_xp as bp


def main(folder: str, epochs: int = 50) -> float:
    """Train, or go on, and return the loss of the last epoch."""
    data = bp.data.Teacher(seed=1, n=20_000, features=8)
    learner = bp.Learner(bp.chain(8, bp.Dense(32, bp.tanh), bp.Dense(1)), update=bp.Adam(0.003))
    with bp.RunDir(folder, every="5 s") as run:
        w, s = run.restore(learner) or learner.init(seed=7)
        w, s, history = bp.fit(learner, w, s, data, epochs=epochs, run=run)
    print(f"{len(history)} epochs, loss {history[-1].loss:.6f}; its floor is {data.floor(learner.loss):.6f}")
    return history[-1].loss


if __name__ == "__main__":
    main(*sys.argv[1:2])
