"""Types that every module shares. An array is an array of any library.

Formulas receive the library's namespace as `xp` and use only the Python Array API standard
(2024.12): https://data-apis.org/array-api/.
"""

from typing import Any

Array = Any  # the standard has no typing protocol for arrays yet
Namespace = Any
Shape = tuple[int, ...]
CONCAT_AT_MOST = 8  # arrays; CuPy copies a table from the host for more, which no CUDA graph takes
