"""Before any test: a flag of SciPy that is read when it is imported, and which doctests there are."""

import os
from importlib.util import find_spec

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # scikit-learn asks for it where arrays are of any library

_missing = {name for name in ("sklearn", "torch", "pandas", "onnx", "onnxruntime") if not find_spec(name)}
collect_ignore_glob = [
    *["docs/sklearn.md"] * bool(_missing),
    *["docs/onnx.md"] * bool(_missing & {"onnx", "onnxruntime"}),
    *["backprop_xp/sklearn/*"] * ("sklearn" in _missing),
    *["backprop_xp/onnx/*"] * ("onnx" in _missing),
]
