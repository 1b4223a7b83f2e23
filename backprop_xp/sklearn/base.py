"""What the two estimators share: `fit` is a thin layer over `bp.fit`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, Self

from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import backends
from ..arrays import Array
from ..data import Stored
from ..errors import BackpropError, FileError
from ..files.model import checked_path, content, read_arrays, to_backend, told, write_model
from ..files.safetensors import opened
from ..files.units import decode, encode
from ..insight import Explanation, explain
from ..layers import check_count
from ..learner import Learner
from ..losses import Loss
from ..step import State
from ..train import EarlyStop, Validate, fit
from ..train.watching import Record
from .place import HOST, backend_of, check_same_place, floats, moved, rows
from .settings import batch_size, learner_of, net_of

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn 1.8

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """scikit-learn's own callbacks: it has none before 1.9."""

    def with_callbacks(method: Any) -> Any:
        """The method as it is."""
        return method


ROWS = 1 << 14  # that are predicted at a time
NOT_SAVED = ("callbacks", "random_state", "verbose")


class Batch(NamedTuple):
    """Rows to learn from, in one library and on one device.

    Attributes:
        x: inputs.
        t: targets as the loss takes them.
        weight: of rows, None for 1.
    """

    x: Array
    t: Array
    weight: Array | None

    @property
    def source(self) -> Stored:
        """The rows as a source of data."""
        return Stored(self.x, self.t, weight=self.weight)

    def split(self, index: Any) -> "Batch":
        """Some of the rows."""
        return Batch(*(None if a is None else rows(a, index) for a in self))


class Backprop(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    CallbackSupportMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
    ABC,
):
    """The base of the estimators; see `BackpropRegressor` for the settings."""

    learner_: Learner
    weights_: Array
    state_: State
    n_iter_: int
    loss_curve_: list[float]
    validation_curve_: list[float]

    def __init__(
        self,
        hidden: Any = (32,),
        *,
        activation: Any = "relu",
        loss: Any = None,
        update: Any = "adam",
        rate: Any = 0.01,
        schedule: Any = None,
        dropout: Any = 0.0,
        penalty: Any = None,
        clip: Any = None,
        batch_size: Any = "auto",
        max_iter: Any = 200,
        patience: Any = 20,
        tol: Any = 1e-4,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        standardize: Any = False,
        warm_start: Any = False,
        callbacks: Any = (),
        random_state: Any = None,
        verbose: Any = False,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.loss = loss
        self.update = update
        self.rate = rate
        self.schedule = schedule
        self.dropout = dropout
        self.penalty = penalty
        self.clip = clip
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.patience = patience
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.standardize = standardize
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    # ------------------------------------------------------------ what the two differ in
    @abstractmethod
    def _read_targets(self, y: Any, classes: Any = None) -> None:
        """Learn from y what kind of targets there are."""

    @abstractmethod
    def _targets(self, y: Any, like: Array) -> tuple[Array, int]:
        """The targets in y as the loss takes them, where X lies, and how many output units they need."""

    @abstractmethod
    def _loss(self) -> Loss:
        """The loss, as it was given or as it is usual."""

    def _weights(self, y: Any, weight: Array | None, like: Array) -> Array | None:
        """The weights of rows, with those of their classes."""
        return weight

    @property
    def _kept(self) -> tuple[str, ...]:
        """Names of attributes that a file keeps."""
        return ("n_features_in_", "n_iter_", "loss_curve_", "validation_curve_")

    # ------------------------------------------------------------ fit
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train on all rows, `max_iter` epochs or until `patience` ends it.

        Args:
            X: inputs, shape (rows, features).
            y: targets.
            sample_weight: a weight for each row; they are scaled so that their mean is 1. A row of weight 2
                counts as two such rows, exactly so where a step takes all rows.
            X_val: rows of one's own for validation, in place of a share of X.
            y_val: their targets.
            sample_weight_val: their weights.
        """
        again = self.warm_start and self.__sklearn_is_fitted__()
        X, y = self._checked(X, y, reset=not again, like=self.weights_ if again else None)
        if not again:
            self._read_targets(y)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        whole = train = self._batch(X, y, sample_weight)
        held_out = None
        if X_val is not None:
            X_val, y_val = self._checked(X_val, y_val, reset=False, like=X)
            held_out = self._batch(X_val, y_val, sample_weight_val)
        elif self.early_stopping:
            train, held_out = self._share(whole, seed)
        if not again:
            self._set_scale(train)
        self._begin(train, self._units, seed, again=again)
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        calls = _Calls(self, X, y, metadata)
        self._train(train, held_out, check_count(self.max_iter, "max_iter"), calls)
        calls.end()
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        first = not self.__sklearn_is_fitted__()
        X, y = self._checked(X, y, reset=first, like=None if first else self.weights_)
        if first:
            self._read_targets(y, classes)
        train = self._batch(X, y, sample_weight)
        if first:
            self._set_scale(train)
            self._begin(
                train, self._units, int(check_random_state(self.random_state).randint(2**31 - 1)), again=False
            )
        self._train(train, None, 1, None)
        return self

    def _checked(self, X: Any, y: Any, *, reset: bool, like: Array | None) -> tuple[Array, Any]:
        """X and y as arrays; X as floats where `like` lies, if that is given."""
        if like is not None:
            check_same_place(X, like, f"{type(self).__name__}.fit")
        if y is None:
            msg = f"requires y to be passed, but the target y is None: {type(self).__name__} learns from it"
            raise ValueError(msg)
        X, y = validate_data(
            self, X, y, dtype="numeric", multi_output=True, y_numeric=self._numeric, reset=reset
        )
        X = floats(X)
        return (X if like is None else moved(X, like)), y

    def _batch(self, X: Array, y: Any, sample_weight: Any) -> Batch:
        weight = None
        if sample_weight is not None:
            foreign = {backend_of(a).name for a in (X, sample_weight)} != {"numpy"}
            if foreign and not isinstance(sample_weight, Real):
                there = backend_of(sample_weight).name != "numpy"
                sample_weight = moved(sample_weight if there else HOST.asarray(sample_weight), X)
            weight = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
        weight = self._weights(y, weight, X)
        if weight is not None:
            xp = backends.of(X).xp
            total = float(xp.sum(weight))
            if total == 0:
                msg = "Sample weights must not be all zero; at least one sample weight is positive."
                raise ValueError(msg)
            weight = weight * (X.shape[0] / total)
        t, self._units = self._targets(y, X)
        return Batch(X, t, weight)

    def _share(self, whole: Batch, seed: int) -> tuple[Batch, Batch]:
        """The rows to train on, and those set aside for validation."""
        n, share = whole.x.shape[0], self.validation_fraction
        if not 0 < share < 1 or n < 2:
            msg = (
                "validation_fraction must be between 0 and 1, and there must be at least 2 rows; got "
                f"{share} of {n}"
            )
            raise BackpropError(msg)
        order = HOST.random.RandomState(seed).permutation(n)
        k = min(max(1, round(n * share)), n - 1)
        return whole.split(order[k:]), whole.split(order[:k])

    def _set_scale(self, train: Batch) -> None:
        """Mean and standard deviation of each column, where inputs are to be standardised."""
        for name in ("mean_", "scale_"):
            self.__dict__.pop(name, None)
        if not self.standardize:
            return
        xp, v = backends.of(train.x).xp, train.weight
        v = xp.ones_like(train.x[:, 0]) if v is None else v
        v = v[:, None] / train.x.shape[0]
        self.mean_ = xp.sum(v * train.x, axis=0)
        spread = xp.sqrt(xp.sum(v * xp.square(train.x - self.mean_), axis=0))
        self.scale_ = xp.where(spread > 0, spread, xp.ones_like(spread))

    def _scaled(self, X: Array) -> Array:
        return (X - self.mean_) / self.scale_ if hasattr(self, "mean_") else X

    def _begin(self, train: Batch, units: int, seed: int, *, again: bool) -> None:
        """The learner, and its first weights and state; those of before on a warm start."""
        features = train.x.shape[1]
        net = net_of(self.hidden, self.activation, self.dropout, features, units)
        learner = learner_of(net, self._loss(), self.get_params(deep=False), train.x.shape[0])
        if not again:
            self.n_iter_, self.loss_curve_, self.validation_curve_ = 0, [], []
            self.weights_, self.state_ = learner.init(seed, like=train.x)
        elif learner.net != self.learner_.net:
            msg = "the layers have changed since the last fit: a warm start needs the same net"
            raise BackpropError(msg)
        elif learner.update != self.learner_.update:
            blocks = self.learner_.weights(self.weights_)
            self.weights_, self.state_ = learner.init(seed, like=self.weights_, weights=blocks)
        self.learner_ = learner
        self._n_features_out = learner.net.outputs[-2][-1]

    def _train(self, train: Batch, held_out: Batch | None, epochs: int, calls: "_Calls | None") -> None:
        n = train.x.shape[0]
        size = batch_size(self.batch_size, n)
        ends = calls is not None and self.patience is not None
        own = [] if calls is None else [calls] * calls.active
        source = train._replace(x=self._scaled(train.x)).source
        w, s, history = fit(
            self.learner_,
            self.weights_,
            self.state_,
            source,
            epochs=epochs,
            batch_size=size,
            shuffle=size < n,
            progress="auto" if self.verbose else None,
            validate=None if held_out is None else Validate(
                held_out._replace(x=self._scaled(held_out.x)).source
            ),
            stop=EarlyStop("loss", self.patience, self.tol) if ends else None,
            callbacks=[*own, *self.callbacks],
        )  # fmt: skip
        self.weights_, self.state_ = w, s
        self.n_iter_ += len(history)
        self.loss_curve_ = [*self.loss_curve_, *(epoch.loss for epoch in history)]
        found = [epoch.validation for epoch in history if epoch.validation is not None]
        self.validation_curve_ = [*self.validation_curve_, *found]

    # ------------------------------------------------------------ what it has learnt
    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "weights_")

    def _inputs(self, X: Any, method: str) -> Array:
        check_is_fitted(self)
        check_same_place(X, self.weights_, f"{type(self).__name__}.{method}")
        X = validate_data(self, X, dtype="numeric", reset=False)
        return self._scaled(moved(X, self.weights_))

    def _output(self, X: Any, method: str, *, net_input: bool) -> Array:
        x = self._inputs(X, method)
        return self.learner_.predict(self.weights_, self.state_, x, net_input=net_input, batch_size=ROWS)

    def transform(self, X: Any) -> Array:
        """The outputs of the last hidden layer, shape (rows, units): what the net has made of X.

        Args:
            X: inputs, shape (rows, features).
        """
        x, name = self._inputs(X, "transform"), self.learner_.net.nodes[-2].name
        return self.learner_.outputs(self.weights_, self.state_, x, name, batch_size=ROWS)[name]

    def explain(self, X: Any, y: Any, **settings: Any) -> Explanation:
        """Why each weight would move if the net learnt from these rows now; nothing is changed.

        Args:
            X: a few rows, shape (rows, features).
            y: their targets.
            settings: as for `bp.explain`, such as batch_size=8 or language="de".
        """
        x = self._inputs(X, "explain")
        _, y = self._checked(X, y, reset=False, like=self.weights_)
        t, _ = self._targets(y, x)
        labels = {"outputs": self._output_names()} | settings.pop("labels", {})
        if hasattr(self, "feature_names_in_"):
            labels = {"inputs": [str(name) for name in self.feature_names_in_]} | labels
        labels = {name: each for name, each in labels.items() if each}
        return explain(self.learner_, self.weights_, self.state_, x, t, labels=labels, **settings)

    def _output_names(self) -> list[str]:
        return []

    # ------------------------------------------------------------ files
    def save(self, path: str | Path) -> None:
        """Save the fitted estimator in a safetensors file, which holds no code; `bp.load` reads it too.

        Callbacks, `random_state` and `verbose` are not saved.

        Args:
            path: of the file; a regular file that is there already is replaced.

        Raises:
            FileError: it cannot be written, or a setting cannot be written as data.
        """
        check_is_fitted(self)
        settings = {k: v for k, v in self.get_params(deep=False).items() if k not in NOT_SAVED}
        told = {name: getattr(self, name) for name in self._kept}
        for name in ("mean_", "scale_"):
            if hasattr(self, name):
                told[name] = backends.host(getattr(self, name)).tolist()
        for name in ("classes_", "feature_names_in_"):
            if hasattr(self, name):
                found = getattr(self, name)
                told[name] = (found if isinstance(found, HOST.ndarray) else backends.host(found)).tolist()
        about = {
            "class": type(self).__name__,
            "settings": encode(_as_tuples(settings)),
            "fitted": told,
        }
        learner = self.learner_
        write_model(checked_path(path), learner, encode(learner), self.weights_, self.state_, estimator=about)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        known: Mapping[str, type] | None = None,
        like: Array = None,
        backend: str | None = None,
        device: Any = None,
    ) -> Self:
        """The estimator in a file that `save` wrote.

        Args:
            path: of the file.
            known: classes of your own that it uses, by name.
            like: an array whose library and device are used.
            backend: else this library, by name; else NumPy.
            device: of that library.

        Raises:
            FileError: the file cannot be read, or holds no such estimator.
        """
        with opened(checked_path(path)) as reader:
            about = told(reader).get("estimator")
            if not isinstance(about, dict) or about.get("class") != cls.__name__:
                reader.refuse(f"it holds no {cls.__name__}")
            learner, kind = content(reader, known)
            tree, _ = read_arrays(reader, learner, kind)
        try:
            self = cls(**decode(about["settings"], known))
            self._take(learner, *to_backend(tree, kind, like, backend, device), about["fitted"])
        except (KeyError, TypeError, AttributeError) as error:
            msg = f"{path} does not hold an estimator as this library writes it: {error}"
            raise FileError(msg) from error
        return self

    def _adopt(self, coefs: Any, intercepts: Any, n_iter: int, curve: list[float]) -> None:
        """Take over NumPy's matrices and biases of all layers, and what is known of their training."""
        net = net_of(self.hidden, self.activation, 0, self.n_features_in_, coefs[-1].shape[1])
        self.learner_ = learner_of(net, self._loss(), self.get_params(deep=False), 200)
        values = [each for pair in zip(coefs, intercepts, strict=True) for each in pair]
        given = dict(zip(net.shapes, values, strict=True))
        self.weights_, self.state_ = self.learner_.init(like=coefs[0], weights=given)
        self._n_features_out, self._units = net.outputs[-2][-1], net.outputs[-1][-1]
        self.n_iter_, self.loss_curve_, self.validation_curve_ = n_iter, curve, []

    def _take(self, learner: Learner, w: Array, s: Any, found: Mapping[str, Any]) -> None:
        """Take over what was learnt: a learner, its weights and state, and attributes by name."""
        self.learner_, self.weights_, self.state_ = learner, w, s
        self._n_features_out, self._units = learner.net.outputs[-2][-1], learner.net.outputs[-1][-1]
        for name in self._kept:
            setattr(self, name, found[name])
        for name in ("mean_", "scale_"):
            if name in found:
                setattr(self, name, moved(HOST.asarray(found[name], dtype="float64"), w))
        if "feature_names_in_" in found:
            self.feature_names_in_ = HOST.asarray(found["feature_names_in_"], dtype=object)
        if "classes_" in found:
            self.classes_ = HOST.asarray(found["classes_"])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _as_tuples(value: Any) -> Any:
    """Settings with tuples in the place of lists, which files do not have."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return tuple(map(_as_tuples, value))
    return {key: _as_tuples(each) for key, each in value.items()} if isinstance(value, dict) else value


class _Calls:
    """scikit-learn's callbacks, told of each epoch after it has ended."""

    def __init__(self, estimator: Backprop, X: Any, y: Any, metadata: Any) -> None:
        self.estimator, self.told = estimator, {"X": X, "y": y, "metadata": metadata}
        self.context: Any = None
        if hasattr(estimator, "_init_callback_context"):
            self.context = estimator._init_callback_context(max_subtasks=int(estimator.max_iter))
            self.context.call_on_fit_task_begin(estimator=estimator, **self.told)

    @property
    def active(self) -> bool:
        """Whether there are callbacks."""
        return bool(getattr(self.estimator, "_skl_callbacks", ()))

    def __call__(self, record: Record) -> Any:
        """An epoch has ended; False ends the training."""
        epoch = self.context.subcontext(task_name="epoch")
        epoch.call_on_fit_task_begin(estimator=self.estimator, **self.told)
        made: Callable[[], dict[str, Any]] = partial(self._fitted, record)
        stops = epoch.call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes=made, **self.told
        )
        return not stops

    def _fitted(self, record: Record) -> dict[str, Any]:
        w, s = self.estimator.learner_.snapshot(record.w, record.s)
        return {"weights_": w, "state_": s}

    def end(self) -> None:
        """The training has ended."""
        if self.context is not None:
            self.context.call_on_fit_task_end(
                estimator=self.estimator, reconstruction_attributes=dict, **self.told
            )
