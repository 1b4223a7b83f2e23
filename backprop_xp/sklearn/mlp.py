"""Convert scikit-learn's own MLPs to estimators of this library, and back."""

from typing import Any

from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from .. import activations, backends, losses
from ..errors import BackpropError, got_instead, listed
from ..layers import Dense, Dropout, Input
from .base import Backprop
from .classifier import BackpropClassifier
from .place import HOST
from .regressor import BackpropRegressor

ACTIVATIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
RULES = {"adam": "adam", "sgd": "momentum", "lbfgs": "adam"}


def from_sklearn(mlp: Any) -> Any:
    """Convert a fitted `MLPClassifier` or `MLPRegressor` to an estimator of this library, weights included.

    It makes the same predictions, and can be explained, saved, and trained further with `warm_start` or
    `partial_fit`. The moments of its update rule begin at 0; the solver 'sgd' becomes momentum, and 'lbfgs'
    Adam. The penalty `alpha` and the schedule of the learning rate are not taken over.

    Args:
        mlp: the fitted MLP.

    Returns:
        A `BackpropClassifier` or `BackpropRegressor`.

    Raises:
        BackpropError: it is not an MLP of scikit-learn, or its loss has no counterpart here.
        NotFittedError: it is not fitted.

    >>> from sklearn.neural_network import MLPRegressor
    >>> from backprop_xp.sklearn import from_sklearn
    >>> import warnings; warnings.simplefilter("ignore")
    >>> X, y = [[0.0], [1.0], [2.0]], [0.0, 2.0, 4.0]
    >>> mlp = MLPRegressor(hidden_layer_sizes=(3,), max_iter=5, random_state=0).fit(X, y)
    >>> bool(abs(from_sklearn(mlp).predict(X) - mlp.predict(X)).max() < 1e-14)
    True
    """
    if not isinstance(mlp, (MLPClassifier, MLPRegressor)):
        msg = f"expected a fitted MLPClassifier or MLPRegressor, {got_instead(mlp)}"
        raise BackpropError(msg)
    check_is_fitted(mlp)
    classifier = isinstance(mlp, MLPClassifier)
    loss = None
    if not classifier and mlp.loss != "squared_error":
        loss = mlp.loss
    kind: Any = BackpropClassifier if classifier else BackpropRegressor
    found = kind(
        tuple(w.shape[1] for w in mlp.coefs_[:-1]),
        activation=ACTIVATIONS[mlp.activation],
        loss=loss,
        update=RULES[mlp.solver],
        rate=mlp.learning_rate_init,
        batch_size=mlp.batch_size,
        max_iter=mlp.max_iter,
        patience=mlp.n_iter_no_change,
        tol=mlp.tol,
        early_stopping=mlp.early_stopping,
        validation_fraction=mlp.validation_fraction,
        warm_start=mlp.warm_start,
        random_state=mlp.random_state,
    )
    found.n_features_in_ = mlp.n_features_in_
    if hasattr(mlp, "feature_names_in_"):
        found.feature_names_in_ = mlp.feature_names_in_
    if classifier:
        found.classes_ = mlp.classes_
        found._several = bool(mlp._label_binarizer.y_type_.startswith("multilabel"))
    else:
        found._flat = mlp.n_outputs_ == 1
    found._adopt(mlp.coefs_, mlp.intercepts_, int(mlp.n_iter_), list(getattr(mlp, "loss_curve_", [])))
    return found


def to_sklearn(estimator: Backprop) -> Any:
    """Convert a fitted estimator to an `MLPClassifier` or `MLPRegressor` with the same weights.

    It makes the same predictions. It has no state of the training: its `fit` begins anew.

    Args:
        estimator: a fitted `BackpropClassifier` or `BackpropRegressor`, whose hidden layers are all Dense,
            with biases and one activation that scikit-learn has.

    Returns:
        An `MLPClassifier` or `MLPRegressor`.

    Raises:
        BackpropError: an MLP of scikit-learn cannot have these layers, activations, standardization or loss.
        NotFittedError: it is not fitted.

    >>> from backprop_xp.sklearn import BackpropRegressor, to_sklearn
    >>> model = BackpropRegressor((3,), max_iter=5, random_state=0).fit([[0.0], [1.0]], [0.0, 2.0])
    >>> to_sklearn(model).hidden_layer_sizes
    (3,)
    """
    check_is_fitted(estimator)
    hidden, names = _plain(estimator), {own: name for name, own in ACTIVATIONS.items()}
    known = {activations.ALL[own]: name for own, name in names.items()}
    chosen = {each.f for each in hidden} or {activations.identity}
    if len(chosen) > 1 or not chosen <= set(known) or hasattr(estimator, "mean_"):
        msg = (
            f"an MLP of scikit-learn has one activation for all hidden layers, one of {listed(ACTIVATIONS)}, "
            "and does not standardize its inputs: this net has others"
        )
        raise BackpropError(msg)
    classifier = isinstance(estimator, BackpropClassifier)
    settings = {"activation": known[chosen.pop()], "hidden_layer_sizes": tuple(e.units for e in hidden)}
    mlp = MLPClassifier(**settings) if classifier else MLPRegressor(**settings)
    blocks = estimator.learner_.weights(estimator.weights_)
    host = [HOST.array(backends.host(a)) for a in blocks.values()]
    mlp.coefs_, mlp.intercepts_ = host[::2], host[1::2]
    mlp.n_layers_, mlp.n_outputs_ = len(hidden) + 2, host[-1].shape[0]
    mlp.n_features_in_, mlp.n_iter_ = estimator.n_features_in_, estimator.n_iter_
    if hasattr(estimator, "feature_names_in_"):
        mlp.feature_names_in_ = estimator.feature_names_in_
    mlp.out_activation_ = "identity"
    if isinstance(estimator, BackpropClassifier):
        mlp.out_activation_ = "softmax" if estimator.learner_.loss.targets == "distribution" else "logistic"
        _check_outputs(estimator)
        mlp.classes_ = HOST.asarray(estimator.classes_)
        labels = HOST.eye(len(mlp.classes_), dtype=int) if estimator._several else mlp.classes_
        mlp._label_binarizer = LabelBinarizer().fit(labels)
    elif estimator.learner_.loss == losses.poisson:
        mlp.set_params(loss="poisson")
        mlp.out_activation_ = "exp"
    return mlp


def _plain(estimator: Backprop) -> list[Dense]:
    """The hidden layers, all of them Dense, without Dropout, which does nothing in predictions."""
    nodes = estimator.learner_.net.nodes
    layers = [node.layer for node in nodes if not isinstance(node.layer, (Dropout, Input))]
    dense = [each for each in layers if isinstance(each, Dense) and each.bias]
    if len(dense) < len(layers) or any(len(node.inputs) > 1 for node in nodes):
        msg = "an MLP of scikit-learn has Dense layers with biases, one after the other: this net has others"
        raise BackpropError(msg)
    return dense[:-1]


def _check_outputs(estimator: BackpropClassifier) -> None:
    """Check that the loss is the one of scikit-learn's MLP, which decides about units and activation."""
    n, kind = estimator.classes_.shape[0], estimator.learner_.loss.targets
    fits = kind == ("probabilities" if estimator._several or n == 2 else "distribution")
    if not fits:
        loss = estimator.learner_.loss
        msg = f"scikit-learn's MLP for {n} classes has another loss than {loss}: use loss=None"
        raise BackpropError(msg)
