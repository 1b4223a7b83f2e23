"""Model files read by programs that do not know this library: Torch and JAX with safetensors alone."""

import subprocess
import sys

import numpy as np
import pytest

import backprop_xp as bp

pytest.importorskip("safetensors", reason="safetensors is not installed")

TORCH = """
import sys, numpy, torch
from safetensors.torch import load_file
path, folder = sys.argv[1:]
blocks = load_file(path)
nn = torch.nn
net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.Softmax(dim=1))
with torch.no_grad():
    for name, layer in (("dense1", net[0]), ("dense2", net[2])):
        layer.weight.copy_(blocks[name + ".w"].T)  # Torch's matrices are out x in
        layer.bias.copy_(blocks[name + ".b"])
    p = net(torch.from_numpy(numpy.load(folder + "/x.npy"))).numpy()
"""

JAX = """
import sys, numpy, jax
from safetensors.numpy import load_file
path, folder = sys.argv[1:]
blocks = load_file(path)
x = numpy.load(folder + "/x.npy")
hidden = jax.nn.relu(x @ blocks["dense1.w"] + blocks["dense1.b"])
p = numpy.asarray(jax.nn.softmax(hidden @ blocks["dense2.w"] + blocks["dense2.b"]))
"""

ENDS = """
numpy.save(folder + "/p.npy", p)
assert "backprop_xp" not in sys.modules
"""


@pytest.mark.parametrize(("library", "script"), [("torch", TORCH), ("jax", JAX)])
def test_a_script_without_this_library_reads_a_model_file(library, script, tmp_path):
    pytest.importorskip(library, reason=f"{library} is not installed")
    learner = bp.Learner(
        bp.chain(4, bp.Dense(6, bp.relu), bp.Dense(3)), bp.softmax_cross_entropy, bp.Adam(0.01)
    )
    w, s = learner.init(7)
    x = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
    for _ in range(3):
        w, s, _ = learner.step(w, s, x, np.arange(9, dtype="int32") % 3)
    bp.save(tmp_path / "net.safetensors", learner, w, s)
    np.save(tmp_path / "x.npy", x)
    command = [sys.executable, "-c", script + ENDS, str(tmp_path / "net.safetensors"), str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, check=True)
    found, wanted = np.load(tmp_path / "p.npy"), learner.predict(w, s, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)  # sums of 6 products of float32, and e^x
