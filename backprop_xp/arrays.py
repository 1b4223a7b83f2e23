"""The types every room shares: an array is whatever the caller's library calls one.

Formulas receive the library's namespace as `xp` and use the Python Array API standard (2024.12)
alone: https://data-apis.org/array-api/.
"""

from typing import Any

Array = Any  # the standard has no protocol for arrays yet
Namespace = Any
Shape = tuple[int, ...]
CONCAT_AT_MOST = 8  # arrays; CuPy copies a table from the host for more, which no CUDA graph takes
