"""Before any test: a flag that SciPy reads at its import, no machine code, and which doctests there are."""

import os
from importlib.util import find_spec

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # scikit-learn asks for it where arrays are of any library

# Tests of bits are of NumPy's calls, which round as eager code does; test_native.py turns machine code on.
os.environ.setdefault("BACKPROP_XP_NATIVE", "0")

_missing = {name for name in ("sklearn", "torch", "pandas", "onnx", "onnxruntime") if not find_spec(name)}
collect_ignore_glob = [
    *["docs/sklearn.md"] * bool(_missing),
    *["docs/onnx.md"] * bool(_missing & {"onnx", "onnxruntime"}),
    *["backprop_xp/sklearn/*"] * ("sklearn" in _missing),
    *["backprop_xp/onnx/*"] * ("onnx" in _missing),
]
