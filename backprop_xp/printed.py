"""How values are printed: settings, shapes, tables, and numbers in aligned columns, at most one screen."""

from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from itertools import zip_longest
from typing import Any

from .arrays import is_array, leaves

EDGE = 3  # rows and columns that are shown at each end of what is abbreviated
MOST = 2 * EDGE + 2  # rows and columns that are shown in full
LONGEST = 24  # lines of a table


def settings(value: Any) -> str:
    """The expression that makes a value, without the settings that have their default.

    >>> from backprop_xp import Dense, relu, tanh
    >>> settings(Dense(3, tanh)), settings(relu)
    ('Dense(3, Tanh())', 'ReLU()')
    """
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {settings(each)}' for key, each in value.items())}}}"
    parameters = getattr(value, "__dataclass_params__", None)
    if parameters is None or not parameters.repr:  # no dataclass, or one with a short form of its own
        return repr(value)
    parts, named = [], False
    for field in fields(value):
        own = getattr(value, field.name)
        if field.default is not MISSING and own == field.default:
            named = True  # what follows can only be given by name
        else:
            parts.append(f"{field.name}={settings(own)}" if named else settings(own))
    return f"{type(value).__name__}({', '.join(parts)})"


def short(tree: Any) -> str:
    """A tree in short: arrays by shape and dtype, 0-d arrays by their number if it can be read.

    >>> import numpy as np
    >>> short((np.asarray(3), np.zeros((2, 4)), ((), ())))
    '(3, (2, 4) float64, ())'
    """
    if isinstance(tree, (tuple, list, dict)):
        return _short(tree)
    if not is_array(tree):
        return str(tree)
    if not tree.ndim:
        try:
            number = float(tree)
            return str(int(number)) if number.is_integer() else f"{number:.6g}"
        except (TypeError, ValueError, RuntimeError):  # while a function is traced, or after a donation
            return str(tree.dtype)
    return f"{tuple(tree.shape)} {str(tree.dtype).rpartition('.')[2]}"


def _short(tree: Any) -> str:
    if hasattr(tree, "_fields"):
        named = zip(tree._fields, tree, strict=True)
        parts = [
            f"{name}={short(each)}" for name, each in named if leaves(each) or not isinstance(each, tuple)
        ]
        return f"{type(tree).__name__}({', '.join(parts)})"
    if isinstance(tree, dict):
        return f"{{{', '.join(f'{name!r}: {short(each)}' for name, each in tree.items())}}}"
    parts = [short(each) for each in abbreviated(tree, "…")] if leaves(tree) else []
    return f"({', '.join(parts)})"


def abbreviated(values: Sequence[Any], gap: Any, most: int = MOST, edge: int = EDGE) -> list[Any]:
    """A sequence, or its two ends with a gap between them.

    >>> abbreviated(range(100), ...)
    [0, 1, 2, Ellipsis, 97, 98, 99]
    """
    return list(values) if len(values) <= most else [*values[:edge], gap, *values[-edge:]]


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = (), width: int | None = None) -> str:
    """Rows of text in columns.

    Args:
        rows: texts; the first row has the names of the columns.
        right: the numbers of the columns that are aligned right.
        width: characters of a line; a table that is wider is printed as a block of lines for each row.

    >>> print(table([["layer", "size"], ["dense1", "12"]], right=[1]))
    layer   size
    dense1    12
    >>> print(table([["layer", "size"], ["dense1", "12"]], width=10))
    dense1
      size  12
    """
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    shown = abbreviated(rows, ["…"], LONGEST, LONGEST // 2)
    if width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        names, *others = shown
        return "\n".join(_block(names, row) for row in others)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if k in right else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in shown
    )


def _block(names: Sequence[str], row: Sequence[str]) -> str:
    """A row of a table as a block of lines; a column without a name belongs to the next that has one."""
    cells: dict[str, list[str]] = {}
    name = next((each for each in reversed(names) if each), "")
    for own, cell in reversed(list(zip(names, row, strict=False))[1:]):
        name = own or name
        cells[name] = [cell, *cells.get(name, [])]
    space = max(map(len, cells), default=0)
    told = [f"  {name:{space}}  {' '.join(filter(None, each))}" for name, each in reversed(cells.items())]
    return "\n".join([row[0], *(line for line in told if len(line) > space + 4)])


def numbers(values: Any, indent: int = 0) -> str:
    """Nested lists of numbers, each column aligned; long lists are abbreviated.

    >>> print(numbers([[1.0, -0.25], [10.0, 2 / 3]]))
    [[ 1,    -0.25],
     [10, 0.666667]]
    >>> numbers([float(k) for k in range(100)])
    '[0, 1, 2, …, 97, 98, 99]'
    """
    text = _each(values, _number)
    if not isinstance(text, list) or not text or not isinstance(text[0], list):
        return f"[{', '.join(text)}]" if isinstance(text, list) else str(text)
    if text[0] and isinstance(text[0][0], list):
        inner = [numbers(part, indent + 1) for part in abbreviated(values, "…")]
    else:
        widths = [max(map(len, column)) for column in zip(*(row for row in text if row != "…"), strict=True)]
        inner = [row if row == "…" else f"[{', '.join(map(str.rjust, row, widths))}]" for row in text]
    return "[" + (",\n" + " " * (indent + 1)).join(inner) + "]"


def _each(values: Any, function: Callable[[Any], str]) -> Any:
    if not isinstance(values, list):
        return function(values)
    return [part if part == "…" else _each(part, function) for part in abbreviated(values, "…")]


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
