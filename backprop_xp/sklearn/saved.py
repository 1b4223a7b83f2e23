"""Fitted estimators in files, and as ONNX models."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..errors import FileError
from ..files.model import checked_path, content, read_arrays, to_backend, told, write_model
from ..files.safetensors import opened
from ..files.units import decode, encode
from ..onnx import to_onnx
from .place import HOST
from .table import NUMBERS, host_values

NOT_SAVED = ("callbacks", "random_state", "verbose")
ARRAYS = ("mean_", "scale_", "classes_", "feature_names_in_")


def save(estimator: Any, path: str | Path) -> None:
    """Save a fitted estimator; see `Backprop.save`."""
    settings = {k: v for k, v in estimator.get_params(deep=False).items() if k not in NOT_SAVED}
    about = {
        "class": type(estimator).__name__,
        "settings": encode(_as_tuples(settings)),
        "fitted": _fitted(estimator) | {name: getattr(estimator, name) for name in estimator._kept},
    }
    learner = estimator.learner_
    write_model(
        checked_path(path), learner, encode(learner), estimator.weights_, estimator.state_, estimator=about
    )


def _fitted(estimator: Any) -> dict[str, Any]:
    """The fitted attributes that describe inputs and targets, those that exist, as lists."""
    found = {name: host_values(getattr(estimator, name)) for name in ARRAYS if hasattr(estimator, name)}
    return found | {"categories_": estimator.categories_}


def load(
    kind: type,
    path: str | Path,
    known: Mapping[str, type] | None,
    like: Array,
    backend: str | None,
    device: Any,
) -> Any:
    """Load an estimator; see `Backprop.load`."""
    with opened(checked_path(path)) as reader:
        about = told(reader).get("estimator")
        if not isinstance(about, dict) or about.get("class") != kind.__name__:
            reader.refuse(f"it holds no {kind.__name__}")
        learner, dtypes = content(reader, known)
        tree, _ = read_arrays(reader, learner, dtypes)
    try:
        estimator: Any = kind(**decode(about["settings"], known))
        found = about["fitted"]
        estimator._take(learner, *to_backend(tree, dtypes, like, backend, device), found)
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"{path} does not describe an estimator in the form that save writes: {error}"
        raise FileError(msg) from error
    return estimator


def _as_tuples(value: Any) -> Any:
    """Settings with tuples in place of lists, since files have only tuples."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return tuple(map(_as_tuples, value))
    return {key: _as_tuples(each) for key, each in value.items()} if isinstance(value, dict) else value


def exported(estimator: Any, opset: int) -> Any:
    """A fitted estimator as an ONNX model; see `Backprop.to_onnx`."""
    scale = {}
    if hasattr(estimator, "mean_"):
        inputs = list(estimator.learner_.net.inputs)
        name = NUMBERS if NUMBERS in inputs else inputs[0]
        scale = {name: (estimator.mean_, estimator.scale_)}
    told = {name: value for name, value in _fitted(estimator).items() if name not in {"mean_", "scale_"}}
    metadata = {name.rstrip("_"): json.dumps(value) for name, value in told.items() if value}
    learner, w, s = estimator.learner_, estimator.weights_, estimator.state_
    return to_onnx(learner, w, s, opset=opset, scale=scale, metadata=metadata)


def taken_arrays(found: Mapping[str, Any]) -> dict[str, Any]:
    """The column names and classes in a file as NumPy arrays."""
    kinds = {"feature_names_in_": object, "classes_": None}
    return {name: HOST.asarray(found[name], dtype=kind) for name, kind in kinds.items() if name in found}
