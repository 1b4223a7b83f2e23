"""Check that an installed backprop_xp is complete; run it with the Python it is installed in.

    python scripts/check_package.py

It checks what a wheel can lack (the marker py.typed, the articles' data, the command) and trains a step.
"""

import json
import shutil
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import numpy as np

import backprop_xp as bp


def check_place() -> str:
    """The package under test is the installed one, not a checkout, and its versions agree."""
    here = Path(bp.__file__).resolve().parent
    assert here.parent != Path(__file__).resolve().parent.parent, f"{here} is the checkout, not installed"
    assert metadata.version("backprop-xp") == bp.__version__
    return f"backprop_xp {bp.__version__} in {here}"


def check_types() -> str:
    """The package has the marker that tells type checkers it is typed."""
    assert resources.files("backprop_xp").joinpath("py.typed").is_file(), "py.typed is missing"
    return "py.typed is included"


def check_training() -> str:
    """A training step of a small net gives the known weights."""
    learner = bp.Learner(bp.chain(2, bp.Dense(1)), bp.half_squared_error, bp.GradientDescent(0.1))
    w, s = learner.init(dtype="float64", weights={"dense1.w": [[1], [2]], "dense1.b": [0]})
    w, s, loss = learner.step(w, s, np.asarray([[1.0, 1.0]]), np.asarray([[1.0]]))
    assert float(loss) == 2.0
    np.testing.assert_allclose(w, [0.8, 1.8, -0.2])
    return "a step of training gives the known weights"


def check_command() -> str:
    """The command is installed beside this Python and finds the articles' data."""
    command = shutil.which("backprop-xp", path=str(Path(sys.executable).parent))
    assert command, "the command backprop-xp is missing"
    done = subprocess.run([command, "articles", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"backprop-xp articles --json failed: {done.stderr}"
    assert json.loads(done.stdout), "backprop-xp articles --json shows nothing"
    return f"backprop-xp articles --json prints {len(done.stdout)} characters"


def main() -> None:
    """Run all checks and print a line for each; exit at the first that fails."""
    for check in (check_place, check_types, check_training, check_command):
        try:
            print(check(), flush=True)
        except AssertionError as why:
            sys.exit(f"{check.__name__}: {why}")


if __name__ == "__main__":
    main()
