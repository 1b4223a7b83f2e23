"""Before any test: a flag of SciPy that is read when it is imported, and which doctests there are."""

import os
from importlib.util import find_spec

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # scikit-learn asks for it where arrays are of any library

_NEEDED = {  # what some doctests need, which may be missing
    "backprop_xp/sklearn/*": ("sklearn",),
    "docs/sklearn.md": ("sklearn", "torch"),
    "docs/scipy.md": ("scipy",),
}
collect_ignore_glob = ["docs/*.py", "docs/gallery/*.py"]  # which are run when the site is built
collect_ignore_glob += [path for path, names in _NEEDED.items() if not all(map(find_spec, names))]
