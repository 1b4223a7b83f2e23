"""Train on a file of any size, and print the peak of anonymous memory beyond that of the imports.

    python scripts/memory.py [--backend NAME] [--gigabytes X] [--rows N]

784-512-256-10 is trained with Adam, in shuffled batches of 128, on a memory-mapped sparse file of zeros.
Memory is RssAnon of /proc/self/status, sampled every 10 ms by a thread: what the process itself holds,
without the pages of the file. With --rows only the first rows of the file are used. 200 MB are a failure.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import backprop_xp as bp

FEATURES = 784
GOAL = 200  # megabytes


def anonymous() -> float:
    """Megabytes (10⁶ bytes) of anonymous memory."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.partition("RssAnon:")[2].split()[0]) * 1024 / 1e6


class Peak:
    """A thread that samples the memory while the block runs.

    Attributes:
        most: the peak, in megabytes.
    """

    def __enter__(self) -> "Peak":
        self.most, self.ends = anonymous(), threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self) -> None:
        """Sample the memory until the block ends."""
        while not self.ends.wait(0.01):
            self.most = max(self.most, anonymous())

    def __exit__(self, *_: object) -> None:
        self.ends.set()
        self.thread.join()


def main() -> int:
    """Train, and print the peak and the speed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--rows", type=int)
    args = parser.parse_args()
    rows = int(args.gigabytes * 1e9) // (4 * FEATURES)
    xp = bp.backends.get(args.backend).xp
    float(xp.sum(xp.ones(3)))  # what the library allocates at its first use
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        with path.open("wb") as file:
            file.truncate(rows * FEATURES * 4)
        x = np.memmap(path, "float32", "r", shape=(rows, FEATURES))[: args.rows]
        source = bp.data.Sliced(x, np.zeros(len(x), dtype="int32"), units=10)
        net = bp.chain(FEATURES, bp.Dense(512, bp.relu), bp.Dense(256, bp.relu), bp.Dense(10))
        learner = bp.Learner(net, bp.softmax_cross_entropy, bp.Adam(1e-3))
        before, began = anonymous(), time.perf_counter()
        with Peak() as peak:
            w, s = learner.init(seed=7, backend=args.backend)
            bp.fit(learner, w, s, source, batch_size=128)
        speed = len(x) / (time.perf_counter() - began)
    print(
        f"{args.backend}: {len(x):,} rows of a file of {args.gigabytes:g} GB, {peak.most - before:.0f} MB of "
        f"anonymous memory above the import ({before:.0f} MB), {speed:,.0f} rows/s"
    )
    return int(peak.most - before >= GOAL)


if __name__ == "__main__":
    raise SystemExit(main())
