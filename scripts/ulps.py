"""The errors of exp, expm1, log, log1p and tanh of the machine code, in units in the last place.

    python scripts/ulps.py [EVERY]    # every bit pattern of float32, or every EVERY-th

float64 has too many, so dense samples are compared with long double, where that is more precise.
The exit status is 1 if anything is more than two units away, or if NaN or an infinity is wrong.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from backprop_xp.backends import get
from backprop_xp.compiler.cpu.compiled import Planned

FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh")
MOST = 2.0
BLOCK = 1 << 22
SAMPLES = 20_000_000


def machine_code() -> Callable[[Any], tuple[Any, ...]]:
    """The functions of an array, compiled."""

    def functions(x: Any, *, xp: Any) -> tuple[Any, ...]:
        return tuple(getattr(xp, name)(x) for name in FUNCTIONS)

    step = Planned(get("numpy"), functions, native=True)
    step(np.ones(BLOCK, dtype="float32"))
    if step.not_native:
        msg = f"there is no machine code here: {step.not_native}"
        raise SystemExit(msg)
    return step


def ulps(found: Any, exact: Any) -> Any:
    """The error in units in the last place of the dtype of `found`."""
    near = exact.astype(found.dtype)
    unit = np.maximum(np.spacing(np.abs(near)), np.finfo(found.dtype).smallest_subnormal)
    distance = np.abs(found.astype(exact.dtype) - exact) / unit
    same = (found == near) | (np.isnan(found) & np.isnan(near))
    return np.where(same, 0, np.where(np.isnan(distance), np.inf, distance)).astype("float64")


def patterns(every: int) -> Iterator[Any]:
    """All bit patterns of float32, or every `every`-th, in blocks of one size."""
    for start in range(0, 1 << 32, BLOCK * every):
        bits = start + every * np.arange(BLOCK, dtype=np.uint64)
        yield (bits & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.float32)


def samples() -> Iterator[Any]:
    """Numbers of float64 of all magnitudes, and many around 0 and 1."""
    rng = np.random.default_rng(0)
    for k in range(-(-SAMPLES // BLOCK)):
        scale = (1e-8, 1e-3, 0.3, 1.0, 30.0)[k % 5]
        part = BLOCK // 4
        some = [
            rng.integers(0, 1 << 63, part, dtype=np.uint64) << np.uint64(1),
            1 + rng.normal(size=part) * 0.1,
        ]
        bits = some[0].view(np.float64) * np.where(rng.random(part) < 0.5, 1, -1)
        yield np.concatenate([bits, some[1], rng.normal(size=BLOCK - 2 * part) * scale])


def main() -> int:
    """Compare, print the largest error of each function, and return the exit status."""
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    functions, bad = machine_code(), False
    longer = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant
    kinds = [(np.float64, patterns(every))] + [(np.longdouble, samples())] * longer
    for kind, blocks in kinds:
        worst = dict.fromkeys(FUNCTIONS, (0.0, 0.0))
        with np.errstate(all="ignore"):
            for x in blocks:
                exact = x.astype(kind)
                for name, found in zip(FUNCTIONS, functions(x), strict=True):
                    distance = ulps(found, getattr(np, name)(exact))
                    at = int(np.argmax(distance))
                    worst[name] = max(worst[name], (float(distance[at]), float(x[at])))
        for name, (distance, x) in worst.items():
            print(f"{'float32' if kind is np.float64 else 'float64'} {name}: {distance:.3f} at {x!r}")
            bad |= distance > MOST
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
