"""Damage model files in many ways and check that no damaged file is read as a good one.

    python scripts/damage.py [COUNT] [--seed N]

Bits are flipped, bytes are changed, inserted, deleted and moved, files are cut. Reading the result must
raise a BackpropError, or return the weights and state that were saved. Every third file is given a new
hash, as an attacker would: it may then hold other numbers, but reading it must raise a BackpropError, or
return a learner that fits its weights. Nothing may take longer than a second of CPU time.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import backprop_xp as bp

_SECONDS = 1.0


def originals(folder: Path) -> list[tuple[bytes, Any]]:
    """Model files of several kinds, and what is in them."""
    net = bp.chain(2, bp.Dense(3, bp.tanh), bp.Dense(1))
    exact = bp.chain(2, bp.Dense(2, bp.relu), bp.Dense(1))
    found = []
    for learner, dtype in (
        (bp.Learner(net, update=bp.Adam({"dense1": 0.01, "dense2": "1/50"})), "float32"),
        (bp.Learner(net, bp.losses.sigmoid_cross_entropy, bp.updates.Momentum(), shards=2), "float64"),
        (bp.Learner(exact, update=bp.GradientDescent("1/10")), "rational"),
    ):
        w, s = learner.init(7, backend="exact" if dtype == "rational" else "numpy", dtype=dtype)
        bp.save(folder / "whole", learner, w, s)
        found.append(((folder / "whole").read_bytes(), values(w, s)))
    source = bp.data.Teacher(1, 40, 2, hidden=(2,))
    learner = bp.Learner(net)
    with bp.RunDir(folder / "run") as run:
        w, s, _ = bp.fit(learner, *learner.init(7), source, validate=source, run=run)
    found.append(((folder / "run" / "best.safetensors").read_bytes(), values(w, s)))
    return found


def values(w: Any, s: Any) -> list[Any]:
    """The numbers of weights and state."""
    return [(a.tolist(), str(a.dtype)) for a in bp.arrays.leaves((w, s))]


def damaged(data: bytes, drawn: random.Random) -> bytes:
    """The file with one or a few things damaged."""
    changed = bytearray(data)
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(drawn.choice((1, 1, 1, 2, 5))):
        length = max(len(changed), 1)
        place = drawn.randrange(min(header, length))
        if drawn.random() < 0.5:
            place = drawn.randrange(place, length)
        kind = drawn.randrange(7)
        if kind == 0:
            del changed[place:]
        elif kind == 1 and changed:
            changed[place] ^= 1 << drawn.randrange(8)
        elif kind == 2 and changed:
            changed[place] = drawn.randrange(256)
        elif kind == 3:
            changed[place:place] = drawn.randbytes(drawn.randrange(1, 9))
        elif kind == 4:
            del changed[place : place + drawn.randrange(1, 9)]
        elif kind == 5 and changed:
            other = drawn.randrange(length)
            part = changed[other : other + drawn.randrange(1, 30)]
            changed[place : place + len(part)] = part
        elif changed:  # a digit, a letter or a mark, where the header has some
            changed[place] = drawn.choice(b'0123456789-+eE.",:[]{}tfnaA')
    return bytes(changed)


def with_hash(data: bytes) -> bytes:
    """A file whose last 32 bytes are the hash of those before."""
    return data[:-32] + sha256(data[:-32]).digest()


def attempt(path: Path, whole: tuple[bytes, Any], k: int) -> str:
    """Read the file with damage number k; return the outcome in a few words."""
    drawn = random.Random(k)
    data, wanted = whole
    bad = damaged(data, drawn)
    hostile = k % 3 == 0
    bad = with_hash(bad) if hostile else bad
    path.write_bytes(bad)
    began = time.process_time()
    try:
        learner, w, s = bp.load(path)
    except bp.BackpropError as error:
        found = type(error).__name__
    else:
        learner.weights(w)
        same = values(w, s) == wanted
        assert same or hostile, f"damage {k} gives other numbers"
        found = "the same numbers" if same else "other numbers, with a new hash"
    spent = time.process_time() - began
    assert spent < _SECONDS, f"damage {k} took {spent:.1f} s"
    return found


def main() -> int:
    """Damage COUNT files, and print how often each outcome occurred."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", nargs="?", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    np.seterr(all="raise")
    with tempfile.TemporaryDirectory() as root:
        whole = originals(Path(root))
        path, first = Path(root) / "damaged", args.seed * args.count
        kinds = Counter(attempt(path, whole[k % len(whole)], k) for k in range(first, first + args.count))
    for what, count in kinds.most_common():
        print(f"{count:9,}  {what}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
