"""What a training on a file did to the columns, so that other rows can be predicted by the same scales."""

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

_ROUNDING = 1e-6  # of a scale: by so much the statistics of the same rows may differ between machines


class Preprocessing(NamedTuple):
    """Names, classes and scales of a table that a net was trained on.

    Attributes:
        features: the names of the columns, in the order of the net's inputs.
        target: the name of the column that is predicted.
        classes: the values that labels 0, 1, … stand for; empty where the target is a number.
        mean: of each feature; of a target that is a number as the last one.
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
        """That of a table that was standardized.

        Args:
            table: the one that is trained on.
            mean: of the inputs, and of a numeric target, as `statistics` gives them.
            scale: likewise.
        """
        classes = [each if isinstance(each, (str, int, float)) else str(each) for each in table.classes]
        numbers = [[float(value) for part in parts for value in part] for parts in (mean, scale)]
        return cls(list(table.names), table.target, classes, *numbers)

    @classmethod
    def parsed(cls, data: Any) -> "Preprocessing":
        """What a file says, where that is whole.

        Raises:
            FileError: it is not.
        """
        if not isinstance(data, dict) or data.keys() != set(cls._fields) or not _is_whole(**data):
            msg = "what the file says of the columns of its table is damaged"
            raise FileError(msg)
        return cls(**data)

    def agrees(self, other: "Preprocessing") -> bool:
        """Whether another table has the same columns, classes and, but for rounding, scales."""
        near = (
            abs(a - b) <= _ROUNDING * s and isclose(s, t, rel_tol=_ROUNDING)
            for a, b, s, t in zip(self.mean, other.mean, self.scale, other.scale, strict=False)
        )
        return self[:3] == other[:3] and all(near)

    def inputs(self, path: str, dtype: Any) -> Standardized:
        """The columns of a file that the net was trained on, standardized as they were then.

        Raises:
            BackpropError: the file cannot be read, or lacks one of them.
        """
        host = backends.get("numpy").xp
        parts = (host.asarray(each[: len(self.features)]) for each in (self.mean, self.scale))
        mean, scale = ((part,) for part in parts)
        return Standardized(open_features(path, self.features, dtype), mean, scale)

    def standardized(self, x: Array, t: Array) -> tuple[Array, Array]:
        """Rows in the units of the table as the net takes them; targets that are numbers likewise."""
        n = len(self.features)
        if x.ndim != 2 or x.shape[1] != n:
            msg = f"a row has {n} numbers, {listed(self.features)}; got {x.shape[-1]}"
            raise BackpropError(msg)
        mean, scale = (backends.asarray(each, like=x) for each in (self.mean, self.scale))
        return (x - mean[:n]) / scale[:n], t if self.classes else (t - mean[n:]) / scale[n:]

    def labels_of(self, names: Sequence[str]) -> list[int]:
        """The labels of classes that are named as `predict` prints them, numbers also in another way.

        Raises:
            BackpropError: there is no such class.
        """
        known = {str(name): k for k, name in enumerate(self.classes)}
        numbers: dict[float | None, int] = {
            float(name): k for k, name in enumerate(self.classes) if not isinstance(name, str)
        }
        found = [known.get(name, numbers.get(_number(name))) for name in names]
        if missing := [name for name, label in zip(names, found, strict=True) if label is None]:
            msg = f"no classes of the table: {listed(missing)}; there are {listed(known)}"
            raise BackpropError(msg)
        return [label for label in found if label is not None]

    @property
    def labels(self) -> dict[str, list[str]]:
        """Names of the net's inputs and outputs, for explanations."""
        return {"inputs": self.features, "outputs": [str(name) for name in self.classes] or [self.target]}

    def for_onnx(self, name: str) -> dict[str, Any]:
        """The keywords of `bp.to_onnx` for a net with an input of this name: it takes the table's numbers."""
        n = len(self.features)
        told = {key: json.dumps(value) for key, value in self._asdict().items()}
        mean, scale = (backends.get("numpy").xp.asarray(each[:n]) for each in (self.mean, self.scale))
        return {"scale": {name: (mean, scale)}, "metadata": told}

    def answers(self, y: Array) -> list[list[Any]]:
        """A row of the answer for each prediction: the class and its probability, or the number in its unit.

        Args:
            y: what the net predicts, probabilities or one number a row.
        """
        y = backends.host(y)
        if not self.classes:
            return [[float(value) * self.scale[-1] + self.mean[-1]] for value in y[:, 0]]
        best = y.argmax(axis=1)
        return [[self.classes[k], float(row[k])] for k, row in zip(best, y, strict=True)]

    @property
    def header(self) -> list[str]:
        """The names of what `answers` gives."""
        return [self.target, "probability"] if self.classes else [self.target]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_whole(features: Any, target: Any, classes: Any, mean: Any, scale: Any) -> bool:
    """Whether data read from a file are those of a `Preprocessing`."""
    many = ((features, (str,)), (classes, (str, int, float)), (mean, (float,)), (scale, (float,)))
    if not isinstance(target, str) or not all(_is_list(values, kinds) for values, kinds in many):
        return False
    numbers = len(features) + (not classes)
    return len(mean) == len(scale) == numbers and all(map(isfinite, [*mean, *scale])) and min(scale) > 0


def _is_list(values: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(values, list) and all(isinstance(value, kinds) for value in values)
