"""The types that all modules share: an array is an array of whatever library the caller uses.

Formulas receive the library's namespace as `xp` and use nothing but the Python Array API standard
(2024.12): https://data-apis.org/array-api/. Several arrays are passed together as a tree: tuples,
lists and dicts of arrays, nested to any depth.
"""

from collections.abc import Callable
from operator import index
from typing import Any

Array = Any  # the standard has no protocol for arrays yet
Namespace = Any
Shape = tuple[int, ...]

CONCAT_AT_MOST = 8  # arrays; for more, CuPy copies a table from the host, which no CUDA graph captures


def as_integer(value: Any) -> int | None:
    """An integer of Python, NumPy or another library as an int; None for anything else, booleans too.

    >>> import numpy as np
    >>> as_integer(np.int64(3)), as_integer(3.0), as_integer(True), as_integer(np.bool_(True))
    (3, None, None, None)
    """
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        return index(value)
    except TypeError:
        return None


def is_array(value: Any) -> bool:
    """Whether a value is an array of some library.

    >>> import numpy as np
    >>> is_array(np.zeros(2)), is_array([0.0, 0.0])
    (True, False)
    """
    return hasattr(value, "dtype") and not isinstance(value, type)


def mapped(tree: Any, function: Callable[[Any], Any], is_leaf: Callable[[Any], bool] = is_array) -> Any:
    """A tree with the function applied to each array in it; other values stay as they are.

    >>> import numpy as np
    >>> mapped((np.zeros(2), {"a": np.ones(2), "b": 3}), lambda a: a.tolist())
    ([0.0, 0.0], {'a': [1.0, 1.0], 'b': 3})
    """
    if is_leaf(tree):
        return function(tree)
    if isinstance(tree, (tuple, list)):
        parts = [mapped(each, function, is_leaf) for each in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if isinstance(tree, dict):
        return {key: mapped(each, function, is_leaf) for key, each in tree.items()}
    return tree


def leaves(tree: Any, is_leaf: Callable[[Any], bool] = is_array) -> list[Any]:
    """The arrays of a tree, in order.

    >>> import numpy as np
    >>> [a.tolist() for a in leaves((np.zeros(2), {"a": np.ones(1), "b": 3}))]
    [[0.0, 0.0], [1.0]]
    """
    if is_leaf(tree):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (tuple, list)) else ()
    return [leaf for part in parts for leaf in leaves(part, is_leaf)]


def mark(xp: Namespace, part: str, equation: Any) -> None:
    """Tell a recorder which part of a step, and which equation, the next operations belong to.

    Other namespaces ignore it. The equation is a string, or an object with one as the first line of its
    docstring.
    """
    if hasattr(type(xp), "mark"):
        xp.mark(part, equation)


def label(xp: Namespace, array: Array, name: str) -> None:
    """Tell a recorder the name of an array, under which programs show it; other namespaces ignore it."""
    if hasattr(type(xp), "label"):
        xp.label(array, name)
