"""Check that a training on JAX has the same bits on any number of devices of this machine.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python scripts/devices.py [--large]

A small net is trained on 1, 2, 4, … devices, then stopped after each epoch and continued on another number of
devices. With --large also 784-512-256-10 with dropout in batches of 1,024.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import jax
import numpy as np
import workers as script

import backprop_xp as bp


def train(count: int, batch: int) -> str:
    """The bits of the small net after two epochs."""
    learner, data = small()
    start = learner.init(7, backend="jax")
    found = bp.fit(learner, *start, data, epochs=2, batch_size=batch, workers=bp.workers.devices(count))
    return script.bits(found[:2])


def small() -> tuple[bp.Learner, bp.data.Teacher]:
    """A small net, and rows that are on one device."""
    net = bp.chain(4, bp.Dense(8, bp.tanh), bp.layers.Dropout(0.25), bp.Dense(1))
    learner = bp.Learner(net, update={"*.b": bp.GradientDescent(0.05), "*": bp.Adam(0.01)})
    return learner, bp.data.Teacher(1, 59, 4, hidden=(4,), backend="jax")


def large(count: int) -> str:
    """The bits of a larger net after an epoch."""
    net = bp.chain(784, bp.Dense(512, bp.relu), bp.layers.Dropout(0.1), bp.Dense(256, bp.relu), bp.Dense(10))
    learner, drawn = bp.Learner(net, update=bp.Adam(0.001)), np.random.default_rng(0)
    rows = bp.data.Stored(*(drawn.standard_normal((4000, n), dtype="float32") for n in (784, 10)))
    start = learner.init(7, backend="jax")
    return script.bits(bp.fit(learner, *start, rows, batch_size=1024, workers=bp.workers.devices(count))[:2])


def taken_up(counts: list[int], folder: Path) -> str:
    """The bits of a run of which each epoch is trained on the next number of devices."""
    learner, data = small()
    for epochs, count in enumerate(counts, 1):
        with bp.RunDir(folder) as run:
            w, s = run.restore(learner, backend="jax") or learner.init(7, backend="jax")
            devices = bp.workers.devices(count)
            found = bp.fit(learner, w, s, data, epochs=epochs, batch_size=32, run=run, workers=devices)
    return script.bits(found[:2])


def refused(folder: Path) -> str:
    """The error message when processes continue a run of devices."""
    learner, data = small()
    with bp.RunDir(folder) as run:
        w, s = run.restore(learner, backend="jax") or learner.init(7, backend="jax")
        try:
            bp.fit(learner, w, s, data, epochs=9, batch_size=32, run=run, workers=bp.workers.Alone())
        except bp.BackpropError as error:
            return str(error)
    return "a run of devices was continued by processes, and should have been refused"


def main() -> int:
    """Compare the bits, and print them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--large", action="store_true")
    args = parser.parse_args()
    counts = [1 << k for k in range(8) if 1 << k <= min(len(jax.devices()), 8)]
    whole = ""
    for batch in (5, 32) if args.large else (32,):
        found = {count: train(count, batch) for count in counts}
        for count, bits in found.items():
            print(f"{count} devices, batches of {batch}: {bits}", flush=True)
        assert len(set(found.values())) == 1, found
        whole = found[1]
    if args.large:
        found = {count: large(count) for count in counts}
        assert len(set(found.values())) == 1, found
        print(f"{', '.join(map(str, found))} devices, the larger net: {found[1]}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        turns = [counts[-1], counts[len(counts) // 2]]
        assert taken_up(turns, Path(folder)) == whole
        print(f"{turns[0]} devices, then {turns[1]}: the same bits", flush=True)
        print(refused(Path(folder)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
