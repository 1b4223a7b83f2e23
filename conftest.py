"""Before any test: a flag that SciPy reads at its import, no machine code, and which doctests there are."""

import os
from importlib.util import find_spec

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # scikit-learn asks for it where arrays are of any library

# Tests of bits are of NumPy's calls, which round as eager code does; test_native.py turns machine code on.
os.environ.setdefault("BACKPROP_XP_NATIVE", "0")
os.environ.pop("FORCE_COLOR", None)  # tests read what is printed as plain text

_NEEDED = {  # what some doctests need, which may be missing
    "backprop_xp/sklearn/*": ("sklearn",),
    "backprop_xp/onnx/*": ("onnx",),
    "backprop_xp/convert.py": ("torch",),
    "docs/sklearn.md": ("sklearn", "torch", "pandas", "onnx", "onnxruntime"),
    "docs/onnx.md": ("onnx", "onnxruntime"),
    "docs/scipy.md": ("scipy",),
    "docs/workers.md": ("jax",),
}
collect_ignore_glob = ["docs/*.py", "docs/gallery/*.py"]  # which are run when the site is built
collect_ignore_glob += [path for path, names in _NEEDED.items() if not all(map(find_spec, names))]
