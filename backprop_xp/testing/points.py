"""Numbers to run formulas on: fixed, and none of them at a kink."""

from typing import Any

import numpy as np

from ..arrays import Shape
from ..losses import Loss

ROWS = 4
LARGE = 1e4
DTYPES = ("float32", "float64")


def points(shape: Shape, seed: int, size: float = 6.0) -> Any:
    """Numbers that cover −size … size evenly, in another order for each seed, none at a round number.

    >>> sorted(points((3,), 0, 1.0).tolist())
    [-0.99963, 0.00037, 1.00037]
    """
    n = int(np.prod(shape, dtype=int))
    spread = np.random.default_rng(seed).permutation(np.linspace(-size, size, n) if n > 1 else [size / 3])
    return np.round(np.round(spread, 3) + 0.00037 / (1 + seed), 5).reshape(shape)


def shares(shape: Shape, seed: int) -> Any:
    """Numbers between 0 and 1, none of them round."""
    return np.round(0.5 + points(shape, seed, 0.45), 5)


def targets(loss: Loss, shape: Shape) -> dict[str, Any]:
    """Targets that suit a loss, by their kind."""
    numbers, t = points(shape, 2), shares(shape, 2)
    t[0, :2] = 0.0, 1.0
    labels = np.arange(shape[0], dtype=np.int32) % shape[1]
    found = {
        "numbers": {"numbers": numbers},
        "counts": {"counts": abs(numbers)},
        "signs": {"signs": np.where(numbers < 0, -1.0, 1.0)},
        "probabilities": {"probabilities": t},
        "distribution": {"probabilities": t, "labels": labels},
    }
    return found[loss.targets]


def large(size: float | None = None) -> list[Any]:
    """Rows with numbers of this size and both signs, and with small ones, in each dtype.

    Without a size it is a quarter of the largest number of the dtype.
    """
    found = []
    for dtype in DTYPES:
        n = float(np.finfo(dtype).max) / 4 if size is None else size
        found.append(np.asarray([[n, -n, 0.0], [-n, -n / 2, -1e-30], [1.0, n, n]], dtype=dtype))
    return found


def nearly_certain() -> list[Any]:
    """Rows of probabilities close to 0 and to 1, in each dtype."""
    rows = [[1e-30, 0.5, 1 - 1e-7], [1 - 1e-7, 1e-7, 1e-30]]
    return [np.asarray(rows, dtype=dtype) for dtype in DTYPES]
