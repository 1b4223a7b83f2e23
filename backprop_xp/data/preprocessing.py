"""How a training prepared the columns of a file, so that the same is done to rows that are predicted."""

import json
from collections.abc import Sequence
from math import isclose, isfinite
from typing import Any, NamedTuple

from .. import backends
from ..arrays import Array
from ..errors import BackpropError, FileError, listed
from .files import open_features
from .parts import Standardized
from .tables import Table

_ROUNDING = 1e-6  # by this share of a scale the statistics of the same rows may differ between machines


class Preprocessing(NamedTuple):
    """Names, classes and scales of a table that a net was trained on.

    Attributes:
        features: the names of the columns, in the order of the net's inputs.
        target: the name of the column that is predicted.
        classes: the values that labels 0, 1, … stand for; empty where the target is a number.
        mean: the mean of each feature, and last of a numeric target.
        scale: their standard deviations, 1 where a column is constant.

    >>> import numpy as np
    >>> from backprop_xp.data.files import Columns
    >>> table = Columns({"width": np.asarray([2.0, 4.0]), "kind": np.asarray(["rose", "tulip"])}, "kind")
    >>> found = Preprocessing.of(table, [np.asarray([3.0])], [np.asarray([1.0])])
    >>> found
    Preprocessing(features=['width'], target='kind', classes=['rose', 'tulip'], mean=[3.0], scale=[1.0])
    >>> found.answers(np.asarray([[0.25, 0.75]]))
    [['tulip', 0.75]]
    """

    features: list[str]
    target: str
    classes: list[Any]
    mean: list[float]
    scale: list[float]

    @classmethod
    def of(cls, table: Table, mean: Sequence[Array], scale: Sequence[Array]) -> "Preprocessing":
        """The preprocessing of a table that was standardized.

        Args:
            table: the table to train on.
            mean: the means of the inputs, and of a numeric target, as returned by `statistics`.
            scale: their standard deviations, likewise.
        """
        classes = [each if isinstance(each, (str, int, float)) else str(each) for each in table.classes]
        numbers = [[float(value) for part in parts for value in part] for parts in (mean, scale)]
        return cls(list(table.names), table.target, classes, *numbers)

    @classmethod
    def parsed(cls, data: Any) -> "Preprocessing":
        """A `Preprocessing` from the data in a file.

        Raises:
            FileError: they are damaged.
        """
        if not isinstance(data, dict) or data.keys() != set(cls._fields) or not _is_whole(**data):
            msg = "the file's description of the columns of its table is damaged"
            raise FileError(msg)
        return cls(**data)

    def agrees(self, other: "Preprocessing") -> bool:
        """Whether another table has the same columns and classes and, up to rounding, the same scales."""
        near = (
            abs(a - b) <= _ROUNDING * s and isclose(s, t, rel_tol=_ROUNDING)
            for a, b, s, t in zip(self.mean, other.mean, self.scale, other.scale, strict=False)
        )
        return self[:3] == other[:3] and all(near)

    def inputs(self, path: str, dtype: Any) -> Standardized:
        """The columns of a file that the net needs as inputs, standardized as in training.

        Raises:
            BackpropError: the file cannot be read, or lacks one of these columns.
        """
        host = backends.get("numpy").xp
        parts = (host.asarray(each[: len(self.features)]) for each in (self.mean, self.scale))
        mean, scale = ((part,) for part in parts)
        return Standardized(open_features(path, self.features, dtype), mean, scale)

    def standardized(self, x: Array, t: Array) -> tuple[Array, Array]:
        """Rows in the units of the table, standardized as the net needs them; numeric targets likewise."""
        n = len(self.features)
        if x.ndim != 2 or x.shape[1] != n:
            msg = f"a row has {n} numbers, {listed(self.features)}; got {x.shape[-1]}"
            raise BackpropError(msg)
        mean, scale = (backends.asarray(each, like=x) for each in (self.mean, self.scale))
        return (x - mean[:n]) / scale[:n], t if self.classes else (t - mean[n:]) / scale[n:]

    def labels_of(self, names: Sequence[str]) -> list[int]:
        """The labels of classes, from their names as `predict` prints them; "2" and "2.0" are one number.

        Raises:
            BackpropError: there is no such class.
        """
        known = {str(name): k for k, name in enumerate(self.classes)}
        numbers: dict[float | None, int] = {
            float(name): k for k, name in enumerate(self.classes) if not isinstance(name, str)
        }
        found = [known.get(name, numbers.get(_number(name))) for name in names]
        if missing := [name for name, label in zip(names, found, strict=True) if label is None]:
            msg = f"the table has no class {listed(missing)}; its classes are {listed(known)}"
            raise BackpropError(msg)
        return [label for label in found if label is not None]

    @property
    def labels(self) -> dict[str, list[str]]:
        """Names of the net's inputs and outputs, for explanations."""
        return {"inputs": self.features, "outputs": [str(name) for name in self.classes] or [self.target]}

    def for_onnx(self, name: str) -> dict[str, Any]:
        """Keyword arguments of `bp.to_onnx` for a model whose input `name` takes the table's own numbers."""
        n = len(self.features)
        told = {key: json.dumps(value) for key, value in self._asdict().items()}
        mean, scale = (backends.get("numpy").xp.asarray(each[:n]) for each in (self.mean, self.scale))
        return {"scale": {name: (mean, scale)}, "metadata": told}

    def answers(self, y: Array) -> list[list[Any]]:
        """A list for each prediction: the class and its probability, or the number in the table's unit.

        Args:
            y: what the net predicts, probabilities or one number for each row.
        """
        y = backends.host(y)
        if not self.classes:
            return [[float(value) * self.scale[-1] + self.mean[-1]] for value in y[:, 0]]
        best = y.argmax(axis=1)
        return [[self.classes[k], float(row[k])] for k, row in zip(best, y, strict=True)]

    @property
    def header(self) -> list[str]:
        """The column names of what `answers` returns."""
        return [self.target, "probability"] if self.classes else [self.target]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_whole(features: Any, target: Any, classes: Any, mean: Any, scale: Any) -> bool:
    """Whether data read from a file have the types, lengths and ranges of a `Preprocessing`."""
    many = ((features, (str,)), (classes, (str, int, float)), (mean, (float,)), (scale, (float,)))
    if not isinstance(target, str) or not all(_is_list(values, kinds) for values, kinds in many):
        return False
    numbers = len(features) + (not classes)
    return len(mean) == len(scale) == numbers and all(map(isfinite, [*mean, *scale])) and min(scale) > 0


def _is_list(values: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(values, list) and all(isinstance(value, kinds) for value in values)
