"""The regressor."""

from typing import Any, Self

from sklearn.base import MultiOutputMixin, RegressorMixin

from .. import losses
from ..arrays import Array
from ..losses import Loss
from .base import Backprop
from .place import moved
from .settings import loss_of


class BackpropRegressor(MultiOutputMixin, RegressorMixin, Backprop):  # type: ignore[misc]
    """A net that predicts numbers, as an estimator of scikit-learn.

    X is a list, a data frame or a NumPy array; or, with `sklearn.config_context(array_api_dispatch=True)`
    and the environment variable SCIPY_ARRAY_API=1, an array of Torch, JAX or CuPy: then everything fitted
    stays in its library and on its device, and so do predictions. float32 stays float32; bytes (uint8)
    count as numbers from 0 to 255. Sparse matrices of SciPy are made dense a few rows at a time. In data
    frames, columns of text are categories, each with an embedding; unknown and missing categories share its
    last row, which begins as zeros.

    Args:
        hidden: the widths of the hidden layers; or layers, or both, as for `bp.chain`: (64,
            bp.layers.LayerNorm(), bp.Dense(32, bp.tanh)).
        activation: the activation of hidden layers given by their widths: a name in `bp.activations.ALL`, or
            an activation; or a list with one for each of them.
        loss: a name in `bp.losses.ALL`, such as "huber", "poisson" or "quantile" (the median); or a loss,
            such as bp.losses.Quantile(0.9). None for half the squared error.
        update: the update rule: a name in `bp.updates.ALL`; or a rule, such as bp.updates.AdamW(0.01).
        rate: the learning rate of a rule given by name, a number or one of `bp.schedules`.
        schedule: how that rate changes: "cosine" or "one_cycle", over all steps, or "plateau". None: it
            does not.
        dropout: the fraction of units dropped after each hidden layer given by its width.
        penalty: a number for `bp.updates.L2` on all weights but biases; or as for `bp.Learner`.
        clip: a bound on the gradient, such as bp.updates.ClipByNorm(1).
        batch_size: rows in each step; "auto" is min(200, rows).
        max_iter: the number of epochs, at most.
        patience: the number of epochs without a lower loss (the validation loss, if there is one) after
            which training ends; the best weights are kept. None: train for `max_iter` epochs.
        tol: a loss must be lower by more than this to count as lower.
        early_stopping: hold out a fraction of the rows for validation; or give rows of your own as X_val to
            `fit`.
        validation_fraction: this fraction.
        standardize: scale each column of X to mean 0 and standard deviation 1, by the rows of `fit`, or of
            the first `partial_fit`.
        warm_start: `fit` continues with the weights and state (such as Adam's moments) of the last `fit`.
        callbacks: functions of a `bp.train.Record`, called after each epoch; one that returns False ends
            the training. scikit-learn's own callbacks are set by `set_callbacks`.
        random_state: determines the initial weights (Glorot's uniform, for any activation), the order of
            rows, dropout and the rows held out.
        verbose: show progress on standard error.

    Attributes:
        learner_: the `bp.Learner`; with `weights_` and `state_`, all functions of `backprop_xp` can be used.
        weights_: the vector w of all weights.
        state_: the state s.
        n_iter_: the number of epochs so far.
        loss_curve_: the mean loss of each epoch.
        validation_curve_: the validation loss after each epoch; empty without validation.
        n_features_in_: the number of columns of X.
        feature_names_in_: their names, if X was a data frame.
        categories_: the categories of each column of text, by its name.
        mean_, scale_: the mean and standard deviation of each column, if `standardize`.

    >>> from backprop_xp.sklearn import BackpropRegressor
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0]
    >>> model = BackpropRegressor((), rate=0.1, max_iter=1000, patience=None, random_state=0).fit(X, y)
    >>> model.predict([[10.0]]).round(2)
    array([21.])
    """

    _numeric = True

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch on these rows; the first call draws the initial weights.

        Args:
            X: inputs, shape (rows, features).
            y: targets, shape (rows,) or (rows, outputs).
            sample_weight: a weight for each row.
        """
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any) -> Array:
        """Predictions, shape (rows,), or (rows, outputs) if y had two axes.

        Args:
            X: inputs, shape (rows, features).
        """
        o = self._output(X, "predict", net_input=False)
        return o[:, 0] if self._flat else o

    def _read_targets(self, y: Any, classes: Any = None) -> None:
        self._flat = y.ndim == 1

    def _targets(self, y: Any, like: Array) -> tuple[Array, int]:
        t = moved(y, like)
        t = t if t.ndim == 2 else t[:, None]
        return t, t.shape[1]

    def _loss(self) -> Loss:
        return loss_of(self.loss, losses.half_squared_error, ("numbers", "counts"))

    @property
    def _kept(self) -> tuple[str, ...]:
        return (*super()._kept, "_flat")
