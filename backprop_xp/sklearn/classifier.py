"""The classifier."""

from typing import Any, Self

from sklearn.base import ClassifierMixin
from sklearn.utils import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from .. import backends, losses
from ..activations import log_softmax, softplus
from ..arrays import Array
from ..errors import BackpropError
from ..losses import Loss
from .base import Backprop
from .place import HOST, moved, namespace
from .settings import loss_of

_ON_OUTPUTS = (losses.BinaryCrossEntropy, losses.CategoricalCrossEntropy, losses.NegativeLogLikelihood)


def _has_probabilities(self: Any) -> bool:
    loss = losses.ALL.get(self.loss) if isinstance(self.loss, str) else self.loss
    return bool(getattr(loss, "targets", None) != "signs")


class BackpropClassifier(ClassifierMixin, Backprop):  # type: ignore[misc]
    """A scikit-learn estimator: a neural net that predicts classes.

    Targets are binary, multiclass or multilabel (y of zeros and ones, a column per label). Labels are numbers
    or text. X is as for `BackpropRegressor`.

    Args:
        hidden: the widths of the hidden layers; or layers, or both, as for `bp.chain`.
        class_weight: a mapping from label to weight; or "balanced" for weights inversely proportional to the
            class frequencies; None for 1, as multilabel targets need it.
        activation: as for `BackpropRegressor`, which describes all settings below except `loss` in full.
        loss: "softmax_cross_entropy", "sigmoid_cross_entropy" or "hinge"; or a loss object, such as
            bp.losses.SoftmaxCrossEntropy(smoothing=0.1). None for softmax cross-entropy with three or more
            classes, and sigmoid cross-entropy with binary and multilabel targets. With "hinge" there are no
            probabilities.
        update: the update rule, by name or as an object.
        rate: the learning rate of a rule given by name.
        schedule: a schedule of this learning rate over all steps.
        dropout: the share of outputs dropped after each hidden layer given by its width.
        penalty: the strength of an L2 penalty, or as for `bp.Learner`.
        clip: a bound on the gradient.
        batch_size: the rows of a step; "auto" is min(200, rows).
        max_iter: the largest number of epochs.
        patience: the epochs without a lower loss after which the training ends; None: it does not end early.
        tol: a loss counts as lower if it is lower by more than this.
        early_stopping: whether a share of the rows is set aside for validation.
        validation_fraction: this share.
        standardize: whether each column of X is scaled to mean 0 and standard deviation 1.
        warm_start: whether `fit` continues from the weights and state of the last fit.
        callbacks: functions of a `bp.train.Record`, called after each epoch.
        random_state: the seed of everything random.
        verbose: whether progress is shown on standard error.

    Attributes:
        classes_: the labels in ascending order, in the library of y; with multilabel targets 0, 1, ….
        learner_: the `bp.Learner`; see `BackpropRegressor` for this and the following.
        weights_: the vector w of all weights.
        state_: the state s.
        n_iter_: the number of epochs so far.
        loss_curve_: the loss of each epoch.
        validation_curve_: the validation loss after each epoch; empty without validation.
        n_features_in_: the number of columns of X.
        feature_names_in_: the names of the columns, if X was a frame.
        categories_: the categories of each text column, by column name.
        mean_, scale_: the mean and standard deviation of the columns, with `standardize`.

    Raises:
        BackpropError: by `fit`, if a setting is out of range.
        ValueError: by `fit` and the predictions, if scikit-learn's checks refuse X or y.

    >>> from backprop_xp.sklearn import BackpropClassifier
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
    >>> model = BackpropClassifier(hidden=(8,), rate=0.1, random_state=0).fit(X, y)
    >>> model.predict([[0.5], [2.5]]).tolist(), model.classes_.tolist()
    (['low', 'high'], ['high', 'low'])
    """

    _numeric = False

    def __init__(
        self,
        hidden: Any = (32,),
        *,
        class_weight: Any = None,
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

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Train one epoch on these rows; the first call initializes the net.

        Args:
            X: inputs, shape (rows, features).
            y: labels, shape (rows,); or zeros and ones, shape (rows, classes).
            classes: all labels that will ever occur, at the first call; None for those of y. Later calls and
                multilabel targets do not use it.
            sample_weight: a weight for each row, 0 or more; None for 1.

        Returns:
            The estimator itself.

        Raises:
            ValueError: class_weight is "balanced", a label is not among the classes, or scikit-learn's checks
                refuse X or y.
            BackpropError: a setting is out of range.
        """
        if self.class_weight == "balanced":
            msg = "class_weight='balanced' needs all rows at once: set it to a dict for partial_fit"
            raise ValueError(msg)
        return self._partial_fit(X, y, sample_weight, classes)

    # ------------------------------------------------------------ targets
    def _read_targets(self, y: Any, classes: Any = None) -> None:
        check_classification_targets(y)
        self._several = type_of_target(y).startswith("multilabel")
        if self._several:
            self.classes_ = HOST.arange(y.shape[1])
            return
        y = y if y.ndim == 1 else column_or_1d(y, warn=True)
        xp = namespace(y)
        labels = y if classes is None else HOST.asarray(classes) if xp is HOST else xp.asarray(classes)
        self.classes_ = xp.sort(xp.unique_values(labels))
        if self.classes_.shape[0] < 2:
            msg = (
                "This solver needs samples of at least 2 classes in the data, but the data contains only "
                f"one class: {self.classes_[0]!r}"
            )
            raise ValueError(msg)

    def _codes(self, y: Any) -> Array:
        """The index of each label in `classes_`, in the library of y.

        Raises:
            ValueError: a label is not among the classes.
        """
        check_classification_targets(y)
        y = y if y.ndim == 1 else column_or_1d(y, warn=True)
        xp, classes = namespace(y), self.classes_
        if namespace(classes) is not xp:
            classes = backends.host(classes) if xp is HOST else moved(classes, y, y.dtype)
        at = xp.clip(xp.searchsorted(classes, y), 0, classes.shape[0] - 1)
        if not bool(xp.all(xp.take(classes, at, axis=0) == y)):
            msg = f"y has labels that are not among the classes of the first fit: {self.classes_!r}"
            raise ValueError(msg)
        return at

    def _targets(self, y: Any, like: Array) -> tuple[Array, int]:
        xp, kind, n = backends.of(like).xp, self._loss().targets, self.classes_.shape[0]
        if self._several:
            if not type_of_target(y).startswith("multilabel") or y.shape[1] != n:
                msg = f"y must be 0 and 1 in {n} columns, as at the first fit; got shape {tuple(y.shape)}"
                raise ValueError(msg)
            t = moved(y, like)
        else:
            codes = moved(self._codes(y), like, xp.int32)
            if kind == "distribution":
                return codes, n
            t = codes[:, None]
            if n > 2:
                t = t == xp.arange(n, dtype=xp.int32, device=getattr(like, "device", None))
            t = xp.astype(t, like.dtype)
        return (2 * t - 1 if kind == "signs" else t), t.shape[1]

    def _loss(self) -> Loss:
        single = self._several or self.classes_.shape[0] == 2
        usual = losses.sigmoid_cross_entropy if single else losses.softmax_cross_entropy
        kinds = ("probabilities", "signs") if self._several else ("distribution", "probabilities", "signs")
        return loss_of(self.loss, usual, kinds, _ON_OUTPUTS)

    def _weights(self, y: Any, weight: Array | None, like: Array) -> Array | None:
        if self.class_weight is None:
            return weight
        if self._several:
            msg = "class_weight needs one label a row, and y is multilabel: use sample_weight instead"
            raise BackpropError(msg)
        classes = self.classes_ if isinstance(self.classes_, HOST.ndarray) else backends.host(self.classes_)
        codes = backends.host(self._codes(y))
        own = compute_class_weight(self.class_weight, classes=classes, y=classes[codes])[codes]
        own = moved(own, like)
        return own if weight is None else own * weight

    @property
    def _kept(self) -> tuple[str, ...]:
        return (*super()._kept, "_several")

    def _output_names(self) -> list[str]:
        names = [str(each) for each in self.classes_.tolist()]
        return names if self._units == len(names) else names[1:]

    # ------------------------------------------------------------ predictions
    def predict(self, X: Any) -> Any:
        """The predicted label of each row, shape (rows,); multilabel: zeros and ones, shape (rows, classes).

        Args:
            X: inputs, shape (rows, features).

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: X has other columns than in `fit`, or NaN.
        """
        decision = self._decision(self._output(X, "predict", net_input=True))
        xp = backends.of(decision).xp
        if self._several:
            return xp.astype(decision > 0, xp.int64)
        codes = xp.argmax(decision, axis=1) if decision.ndim == 2 else xp.astype(decision > 0, xp.int64)
        return self._labels(codes)

    def _labels(self, codes: Array) -> Any:
        """The labels with these indices, in the library of `codes`; a NumPy array if it lacks their dtype."""
        classes, to = self.classes_, backends.of(codes)
        if isinstance(classes, HOST.ndarray):
            if to.name == "numpy" or not hasattr(to.xp, str(classes.dtype)):
                return classes[backends.host(codes)]
            classes = to.asarray(classes, getattr(to.xp, str(classes.dtype)), to.device_of(codes))
        elif backends.of(classes) is not to or to.device_of(classes) != to.device_of(codes):
            own = backends.host(classes)
            classes = to.asarray(own, getattr(to.xp, str(own.dtype)), to.device_of(codes))
        return to.xp.take(classes, codes, axis=0)

    def decision_function(self, X: Any) -> Array:
        """The logits (net input of the output units) by which `predict` decides.

        Shape (rows, classes): `predict` takes the largest, or with multilabel targets each that is above 0.
        For two classes shape (rows,): above 0 for the second class; with two output units, their difference.

        Args:
            X: inputs, shape (rows, features).

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: X has other columns than in `fit`, or NaN.
        """
        return self._decision(self._output(X, "decision_function", net_input=True))

    def _decision(self, o: Array) -> Array:
        if self._several or self.classes_.shape[0] > 2:
            return o
        return o[:, 0] if o.shape[1] == 1 else o[:, 1] - o[:, 0]

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, shape (rows, classes); not there with the hinge loss.

        Sigmoid outputs of three or more classes are divided by their sum, but not with multilabel targets.

        Args:
            X: inputs, shape (rows, features).

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: X has other columns than in `fit`, or NaN.
        """
        logs = self._log_probabilities(X, "predict_proba")
        return backends.of(logs).xp.exp(logs)

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Array:
        """The logarithm of `predict_proba`, from the logits: it stays finite where a probability rounds to 0.

        Args:
            X: inputs, shape (rows, features).

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: X has other columns than in `fit`, or NaN.
        """
        return self._log_probabilities(X, "predict_log_proba")

    def _log_probabilities(self, X: Any, method: str) -> Array:
        o = self._output(X, method, net_input=True)
        xp = backends.of(o).xp
        if self.learner_.loss.targets == "distribution":
            return log_softmax(o, xp=xp)
        yes = -softplus(-o, xp=xp)
        if self._several:
            return yes
        if o.shape[1] == 1:
            return xp.concat([-softplus(o, xp=xp), yes], axis=1)
        return log_softmax(yes, xp=xp)  # one-vs-rest: ln (p_k / Σ_j p_j)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
