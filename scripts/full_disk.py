"""Let a disk run full during training, and check that nothing is lost.

    python scripts/full_disk.py

A net is trained in a run directory on a tmpfs of 128 KiB, in a mount namespace of its own, and keeps every
checkpoint until the disk is full. That must raise a BackpropError; no temporary file may be left, and every
checkpoint that was announced must verify. Once there is room again, the run must go on from the newest one,
and end with the weights and state of a run that was never stopped, bit for bit.
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import backprop_xp as bp
from backprop_xp.files.folder import step_files, verify

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def train(folder: Path | None, keep: int, told: list[int]) -> str:
    """Train to the end; return a hash of weights and state."""
    net = bp.chain(4, bp.Dense(8, bp.tanh), bp.Dense(1))
    learner, data = bp.Learner(net, update=bp.Adam(0.01)), bp.data.Teacher(1, 120, 4, hidden=(4,))
    settings: dict[str, Any] = {"epochs": 5, "batch_size": 16}
    if folder is None:
        w, s, _ = bp.fit(learner, *learner.init(7), data, **settings)
    else:
        with bp.RunDir(folder, keep=keep, every="1 step", saved=told.append) as run:
            w, s = run.restore(learner) or learner.init(7)
            w, s, _ = bp.fit(learner, w, s, data, run=run, **settings)
    return hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in bp.arrays.leaves((w, s)))).hexdigest()


def inside(disk: Path) -> None:
    """The check, on a small disk."""
    filler, folder, told = disk / "filler", disk / "run", list[int]()
    filler.write_bytes(bytes(40_000))
    try:
        train(folder, 1000, told)
    except bp.BackpropError as error:
        words = str(error)
        assert "No space left on device" in words, words
    else:
        msg = "the disk was not full"
        raise AssertionError(msg)
    assert len(told) > 3, told
    left = [each.name for each in folder.iterdir() if each.name.endswith(".tmp")]
    assert not left, f"temporary files stay: {left}"
    steps = sorted(int(path.name[5:17]) for path in step_files(folder))
    assert steps == told, (steps, told)
    for path in step_files(folder):
        verify(path)
    filler.unlink()
    assert train(folder, 3, told) == train(None, 3, told), "the run does not end like the one never stopped"
    print(f"{words}: {len(steps)} checkpoints are good, and the run went on to the same bits")


def main() -> int:
    """Mount the disk and check; exit status 77 if this system does not allow that."""
    if sys.argv[1:2] == ["--inside"]:
        inside(Path(sys.argv[2]))
        return 0
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        print("nothing was checked: this system does not allow users to create a mount namespace")
        return 77
    with tempfile.TemporaryDirectory() as disk:
        mount = 'mount -t tmpfs -o size=128k tmpfs "$1" && exec "$2" "$3" --inside "$1"'
        words = [*NAMESPACE, "sh", "-c", mount, "sh", disk, sys.executable, __file__]
        return subprocess.run(words, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
