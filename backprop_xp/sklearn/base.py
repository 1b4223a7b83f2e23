"""The base class of the two estimators: `fit` is a thin layer over `bp.fit`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, Self

from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state, check_X_y
from sklearn.utils.sparsefuncs import mean_variance_axis
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, validate_data

from .. import backends
from ..arrays import Array
from ..errors import BackpropError, listed
from ..initialization import GlorotUniform
from ..insight import Explanation, explain
from ..layers import Dense, Embedding, check_count
from ..learner import Learner
from ..losses import Loss
from ..step import State
from ..train import EarlyStop, Validate, fit
from . import saved
from .callbacks import CallbackSupportMixin, Calls, with_callbacks
from .place import HOST, backend_of, check_same_place, floats, moved, rows
from .settings import batch_size, learner_of, net_of
from .steps import compiled_step, few_threads
from .table import Table, categories_of, check_frame, coded, frame_of, moved_table

ROWS = 1 << 14  # predicted at a time


class Batch(NamedTuple):
    """Rows to train on, in one library and on one device.

    Attributes:
        x: the inputs.
        t: the targets, as the loss takes them.
        weight: the weight of each row, shape (rows,); None for 1.
    """

    x: Table
    t: Array
    weight: Array | None

    def split(self, index: Any) -> "Batch":
        """The rows with these numbers."""
        weight = None if self.weight is None else rows(self.weight, index)
        return Batch(self.x.split(index), rows(self.t, index), weight)


class Backprop(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    CallbackSupportMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
    ABC,
):
    """The base class of the estimators; see `BackpropRegressor` for the settings."""

    learner_: Learner
    weights_: Array
    state_: State
    n_iter_: int
    loss_curve_: list[float]
    validation_curve_: list[float]
    categories_: dict[str, list[str]]

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
        self._set(locals())

    def _set(self, given: Mapping[str, Any]) -> None:
        """Store each setting as an attribute of the same name, as scikit-learn requires."""
        for name in self._get_param_names():
            setattr(self, name, given[name])

    # ------------------------------------------------------------ where the two estimators differ
    @abstractmethod
    def _read_targets(self, y: Any, classes: Any = None) -> None:
        """Find out from y what kind of targets these are, such as its classes."""

    @abstractmethod
    def _targets(self, y: Any, like: Array) -> tuple[Array, int]:
        """The targets as the loss takes them, in the library of `like`, and the number of output units."""

    @abstractmethod
    def _loss(self) -> Loss:
        """The loss that was given, or the default."""

    def _weights(self, y: Any, weight: Array | None, like: Array) -> Array | None:
        """The sample weights, multiplied by the weights of their classes; None if all are 1."""
        return weight

    @property
    def _kept(self) -> tuple[str, ...]:
        """The names of fitted attributes that `save` writes."""
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
        """Train for `max_iter` epochs, or until the loss has not improved for `patience` epochs.

        Args:
            X: inputs, shape (rows, features).
            y: targets, shape (rows,) or (rows, outputs).
            sample_weight: a weight for each row, 0 or more; None for 1. They are scaled to a mean of 1. A row
                of weight 2 counts as two such rows, exactly so if every step uses all rows.
            X_val: inputs to validate on after each epoch. Without them, validation uses a share of X if
                `early_stopping` is set.
            y_val: the targets of X_val.
            sample_weight_val: the weights of X_val.

        Returns:
            The estimator itself.

        Raises:
            ValueError: scikit-learn's checks refuse X, y or the weights.
            BackpropError: a setting is out of range, or a warm start has other layers than before.
        """
        again = self.warm_start and self.__sklearn_is_fitted__()
        x, t = self._checked(X, y, reset=not again, like=self.weights_ if again else None)
        if not again:
            self._read_targets(t)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        whole = train = self._batch(x, t, sample_weight)
        held_out = None
        if X_val is not None:
            x_val, t_val = self._checked(X_val, y_val, reset=False, like=x.like)
            held_out = self._batch(x_val, t_val, sample_weight_val)
        elif self.early_stopping:
            train, held_out = self._share(whole, seed)
        if not again:
            self._set_scale(train)
        self._begin(train, self._units, seed, again=again)
        calls = Calls(self, X, y, None if sample_weight is None else {"sample_weight": sample_weight})
        self._train(train, held_out, check_count(self.max_iter, "max_iter"), calls)
        calls.end()
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        first = not self.__sklearn_is_fitted__()
        x, t = self._checked(X, y, reset=first, like=None if first else self.weights_)
        if first:
            self._read_targets(t, classes)
        train = self._batch(x, t, sample_weight)
        if first:
            self._set_scale(train)
            self._begin(
                train, self._units, int(check_random_state(self.random_state).randint(2**31 - 1)), again=False
            )
        self._train(train, None, 1, None)
        return self

    def _checked(self, X: Any, y: Any, *, reset: bool, like: Array | None) -> tuple[Table, Any]:
        """X and y as checked arrays; X as floats, in the library and on the device of `like`, if given."""
        if like is not None:
            check_same_place(X, like, f"{type(self).__name__}.fit")
        if y is None:
            msg = f"requires y to be passed, but the target y is None: {type(self).__name__} learns from it"
            raise ValueError(msg)
        settings = {"dtype": "numeric", "multi_output": True, "y_numeric": self._numeric}
        found = self._coded(X, reset=reset)
        if found is None:
            numbers, y = validate_data(self, X, y, accept_sparse="csr", reset=reset, **settings)
            found = Table(floats(numbers))
        else:
            numbers, y = check_X_y(found.numbers, y, ensure_min_features=0, estimator=self, **settings)
            found = found._replace(numbers=floats(numbers))
        return (found if like is None else moved_table(found, like)), y

    def _coded(self, X: Any, *, reset: bool) -> Table | None:
        """The unchecked numbers and the category codes of a frame with text columns; None for other inputs.

        Args:
            X: the inputs.
            reset: whether the categories are taken from X; otherwise X must have the columns of `fit`.
        """
        if reset:
            frame = frame_of(X)
            self.categories_ = {} if frame is None else categories_of(frame)
        if not self.categories_:
            return None
        frame = check_frame(X, self.categories_)
        if reset:
            self.n_features_in_ = len(frame.columns)
            self.feature_names_in_ = HOST.asarray(frame.columns, dtype=object)
        elif frame.columns != (names := self.feature_names_in_.tolist()):
            msg = (
                "The feature names should match those that were passed during fit, in the same order: "
                f"{listed(names)}; got {listed(frame.columns)}"
            )
            raise ValueError(msg)
        return Table(*coded(frame, self.categories_))

    def _batch(self, x: Table, y: Any, sample_weight: Any) -> Batch:
        weight, like = None, x.like
        if sample_weight is not None:
            foreign = {backend_of(a).name for a in (like, sample_weight)} != {"numpy"}
            if foreign and not isinstance(sample_weight, Real):
                there = backend_of(sample_weight).name != "numpy"
                sample_weight = moved(sample_weight if there else HOST.asarray(sample_weight), like)
            weight = _check_sample_weight(
                sample_weight, x.numbers, dtype=like.dtype, ensure_non_negative=True
            )
        weight = self._weights(y, weight, like)
        if weight is not None:
            xp = backends.of(like).xp
            total = float(xp.sum(weight))
            if total == 0:
                msg = "Sample weights must not be all zero; at least one sample weight is positive."
                raise ValueError(msg)
            weight = weight * (x.n / total)
        t, self._units = self._targets(y, like)
        return Batch(x, t, weight)

    def _share(self, whole: Batch, seed: int) -> tuple[Batch, Batch]:
        """The rows to train on, and a random share of them set aside for validation."""
        n, share = whole.x.n, self.validation_fraction
        if not 0 < share < 1 or n < 2:
            msg = (
                "validation_fraction must be between 0 and 1, and there must be at least 2 rows; got "
                f"validation_fraction={share!r} and {n} rows"
            )
            raise BackpropError(msg)
        order = HOST.random.RandomState(seed).permutation(n)
        k = min(max(1, round(n * share)), n - 1)
        return whole.split(order[k:]), whole.split(order[:k])

    def _set_scale(self, train: Batch) -> None:
        """Compute the weighted mean and standard deviation of each column, if `standardize` is set."""
        for name in ("mean_", "scale_"):
            self.__dict__.pop(name, None)
        if not self.standardize or not train.x.numbers.shape[1]:
            return
        numbers, v = train.x.numbers, train.weight
        if train.x.is_sparse:
            self.mean_, variance = mean_variance_axis(numbers, axis=0, weights=v)
        else:
            xp = backends.of(numbers).xp
            v = (xp.ones_like(numbers[:, 0]) if v is None else v)[:, None] / train.x.n
            self.mean_ = xp.sum(v * numbers, axis=0)
            variance = xp.sum(v * xp.square(numbers - self.mean_), axis=0)
        xp = backends.of(variance).xp
        self.scale_ = xp.where(variance > 0, xp.sqrt(variance), xp.ones_like(variance))

    def _scaled(self, x: Table) -> Table:
        return x._replace(scale=(self.mean_, self.scale_)) if hasattr(self, "mean_") else x

    def _begin(self, train: Batch, units: int, seed: int, *, again: bool) -> None:
        """Make the learner and its initial weights and state; a warm start keeps the earlier ones."""
        features, counts = train.x.numbers.shape[1], [len(known) for known in self.categories_.values()]
        net = net_of(self.hidden, self.activation, self.dropout, features, units, counts)
        learner = learner_of(net, self._loss(), self.get_params(deep=False), train.x.n)
        if not again:
            self.n_iter_, self.loss_curve_, self.validation_curve_ = 0, [], []
            initial = {
                f"{node.name}.w": GlorotUniform() for node in net.nodes if isinstance(node.layer, Dense)
            }
            self.weights_, self.state_ = learner.init(seed, like=train.x.like, initial=initial)
            self._forget_unknown(learner)
        elif learner.net != self.learner_.net:
            msg = (
                "the layers have changed since the last fit: a warm start needs the same net; keep hidden, "
                "activation and dropout, or set warm_start=False"
            )
            raise BackpropError(msg)
        elif learner.update != self.learner_.update:
            blocks = self.learner_.weights(self.weights_)
            self.weights_, self.state_ = learner.init(seed, like=self.weights_, weights=blocks)
        self.learner_ = learner
        self._n_features_out = learner.net.outputs[-2][-1]

    def _forget_unknown(self, learner: Learner) -> None:
        """Set the last row of each embedding to 0: it is shared by unknown and missing categories."""
        blocks = learner.weights(self.weights_)
        for node in learner.net.nodes:
            if isinstance(node.layer, Embedding):
                blocks[f"{node.name}.w"][-1, :] = 0

    def _train(self, train: Batch, held_out: Batch | None, epochs: int, calls: Calls | None) -> None:
        n = train.x.n
        size = batch_size(self.batch_size, n)
        ends = calls is not None and self.patience is not None
        own = [] if calls is None else [calls] * calls.active
        source = self._source(train)
        validate = None if held_out is None else self._source(held_out)
        with few_threads(self.learner_, self.weights_, size):
            w, s, history = fit(
                self.learner_,
                self.weights_,
                self.state_,
                source,
                epochs=epochs,
                batch_size=size,
                shuffle=size < n,
                progress="auto" if self.verbose else None,
                validate=None if validate is None else Validate(validate),
                step=compiled_step(self.learner_, self.weights_),
                stop=EarlyStop("loss", self.patience, self.tol) if ends else None,
                callbacks=[*own, *self.callbacks],
            )
        self.weights_, self.state_ = w, s
        self.n_iter_ += len(history)
        self.loss_curve_ = [*self.loss_curve_, *(epoch.loss for epoch in history)]
        found = [epoch.validation for epoch in history if epoch.validation is not None]
        self.validation_curve_ = [*self.validation_curve_, *found]

    def _source(self, batch: Batch) -> Any:
        return self._scaled(batch.x).source(batch.t, batch.weight, self._units)

    # ------------------------------------------------------------ predictions
    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "weights_")

    def _inputs(self, X: Any, method: str) -> Table:
        check_is_fitted(self)
        check_same_place(X, self.weights_, f"{type(self).__name__}.{method}")
        found = self._coded(X, reset=False)
        if found is None:
            found = Table(validate_data(self, X, dtype="numeric", accept_sparse="csr", reset=False))
        else:
            numbers = check_array(found.numbers, ensure_min_features=0, estimator=self)
            found = found._replace(numbers=numbers)
        return self._scaled(moved_table(found, self.weights_))

    def _output(self, X: Any, method: str, *, net_input: bool) -> Array:
        def predicted(x: Any) -> Array:
            w, s = self.weights_, self.state_
            return self.learner_.predict(w, s, x, net_input=net_input, batch_size=ROWS)

        return self._by_piece(X, method, predicted)

    def _by_piece(self, X: Any, method: str, function: Callable[[Any], Array]) -> Array:
        """A function of the net's inputs, called on all rows at once; sparse rows a few at a time."""
        found = [function(piece.x) for piece in self._inputs(X, method).pieces()]
        return found[0] if len(found) == 1 else HOST.concat(found)

    def transform(self, X: Any) -> Array:
        """The outputs of the last hidden layer, shape (rows, units): the features that the net has learnt.

        Args:
            X: inputs, shape (rows, features).

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: X has other columns than in `fit`, or NaN.
        """

        def hidden(x: Any) -> Array:
            name = self.learner_.net.nodes[-2].name
            return self.learner_.outputs(self.weights_, self.state_, x, name, batch_size=ROWS)[name]

        return self._by_piece(X, "transform", hidden)

    def explain(self, X: Any, y: Any, **settings: Any) -> Explanation:
        """Explain how each weight would change, and why, in a training step on these rows.

        The estimator itself is not changed. `print` shows the explanation; its method `page` writes it as a
        web page.

        Args:
            X: inputs of a few rows, shape (rows, features).
            y: their targets.
            settings: those of `bp.explain`, such as batch_size=8 or language="de".

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: X or y does not have the form of `fit`.
            BackpropError: as for `bp.explain`.
        """
        x = self._inputs(X, "explain")
        _, y = self._checked(X, y, reset=False, like=self.weights_)
        t, _ = self._targets(y, x.like)
        labels = {"outputs": self._output_names()} | settings.pop("labels", {})
        if hasattr(self, "feature_names_in_"):
            names = [str(name) for name in self.feature_names_in_]
            numbers = [name for name in names if name not in self.categories_]
            labels = {"inputs": [*numbers, *self.categories_]} | labels
        labels = {name: each for name, each in labels.items() if each}
        return explain(self.learner_, self.weights_, self.state_, x.x, t, labels=labels, **settings)

    def _output_names(self) -> list[str]:
        return []

    # ------------------------------------------------------------ files
    def save(self, path: str | Path) -> None:
        """Save the fitted estimator in a safetensors file, which holds no code.

        `load` reads it as an estimator, `bp.load` as a learner with weights and state. Callbacks,
        `random_state` and `verbose` are not saved.

        Args:
            path: the path of the file; an existing regular file is replaced.

        Raises:
            NotFittedError: `fit` was not called.
            FileError: the file cannot be written, or a setting cannot be expressed as data.
        """
        check_is_fitted(self)
        saved.save(self, path)

    def to_onnx(self, *, opset: int = 17) -> Any:
        """The predictions of the net as an `onnx.ModelProto`; `onnx.save(model, path)` writes it.

        The model takes the columns of X as they are: if the estimator standardizes, the model does too. With
        categories, it has an input "numbers" for the other columns, and inputs "category1", … for the codes.
        The code of a category is its position in `categories_`; a missing or unknown one has the number of
        categories as its code. The output is that of `bp.to_onnx`; a net with one output unit for two classes
        gives the probability of the second class. Classes, column names and categories are in the model's
        metadata as JSON.

        Args:
            opset: the version of ONNX's operators, from 17 to 21.

        Raises:
            NotFittedError: `fit` was not called.
            BackpropError: as for `bp.to_onnx`, such as for a layer that ONNX lacks.
        """
        check_is_fitted(self)
        return saved.exported(self, opset)

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
        """Load an estimator from a file that `save` wrote.

        Args:
            path: the path of the file.
            known: classes of your own that the estimator uses, by name, as in {"Swish": Swish}.
            like: an array whose library and device the weights get.
            backend: without `like`, the name of the library; None for the one chosen by
                `with bp.backend(...)`, or NumPy.
            device: a device of that library.

        Raises:
            FileError: the file cannot be read, or holds no estimator of this class.
        """
        return saved.load(cls, path, known, like, backend, device)  # type: ignore[no-any-return]

    def _adopt(self, coefs: Any, intercepts: Any, n_iter: int, curve: list[float]) -> None:
        """Become fitted with these weight matrices and biases (NumPy arrays, one per layer) and figures."""
        net = net_of(self.hidden, self.activation, 0, self.n_features_in_, coefs[-1].shape[1])
        self.learner_ = learner_of(net, self._loss(), self.get_params(deep=False), 200)
        values = [each for pair in zip(coefs, intercepts, strict=True) for each in pair]
        given = dict(zip(net.shapes, values, strict=True))
        self.weights_, self.state_ = self.learner_.init(like=coefs[0], weights=given)
        self._n_features_out, self._units = net.outputs[-2][-1], net.outputs[-1][-1]
        self.n_iter_, self.loss_curve_, self.validation_curve_, self.categories_ = n_iter, curve, [], {}

    def _take(self, learner: Learner, w: Array, s: Any, found: Mapping[str, Any]) -> None:
        """Become fitted with a learner, its weights and state, and the fitted attributes by name."""
        self.learner_, self.weights_, self.state_ = learner, w, s
        self._n_features_out, self._units = learner.net.outputs[-2][-1], learner.net.outputs[-1][-1]
        for name in self._kept:
            setattr(self, name, found[name])
        for name in ("mean_", "scale_"):
            if name in found:
                setattr(self, name, moved(HOST.asarray(found[name], dtype="float64"), w))
        self.categories_ = dict(found.get("categories_", {}))
        for name, values in saved.taken_arrays(found).items():
            setattr(self, name, values)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
