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
    """A scikit-learn estimator: a neural net that predicts numbers, one or several per row.

    X is a list, a frame, a NumPy array or a SciPy sparse matrix, which is made dense a few rows at a time.
    With `sklearn.config_context(array_api_dispatch=True)` and the environment variable SCIPY_ARRAY_API=1 it
    may also be an array of Torch, JAX or CuPy: weights and predictions then stay in that library and on that
    device. float32 stays float32; bytes (uint8) are numbers from 0 to 255. Text columns of frames are
    categories, each column with its own embedding. Unknown and missing categories share the last row of the
    embedding, which begins as zeros.

    Args:
        hidden: the widths of the hidden layers; or layers, or both, as for `bp.chain`: (64,
            bp.layers.LayerNorm(), bp.Dense(32, bp.tanh)).
        activation: the activation of the layers given by width, a name from `bp.activations.ALL` or the
            activation itself; or a list with one for each.
        loss: a name from `bp.losses.ALL`, such as "huber", "poisson" or "quantile" (the median); or a loss
            object, such as bp.losses.Quantile(0.9). None for half the squared error.
        update: the update rule, a name from `bp.updates.ALL`; or a rule object, such as
            bp.updates.AdamW(0.01).
        rate: the learning rate of a rule given by name, a number or one of `bp.schedules`; a rule object has
            its own.
        schedule: a schedule of this learning rate: "cosine" or "one_cycle" over all steps, or "plateau";
            None for none.
        dropout: the share of outputs dropped after each hidden layer given by its width.
        penalty: a number λ for `bp.updates.L2(λ)` on all weights but biases; or as for `bp.Learner`.
        clip: a bound on the gradient, such as bp.updates.ClipByNorm(1).
        batch_size: the rows of a step; "auto" is min(200, rows).
        max_iter: the largest number of epochs.
        patience: `fit` ends after this many epochs without a lower loss and takes the weights of the best
            epoch; the loss is that of validation, if there is one. None: it always trains `max_iter` epochs.
        tol: a loss counts as lower if it is lower by more than this.
        early_stopping: whether a share of the rows is set aside for validation; `fit` also takes rows of your
            own, as X_val.
        validation_fraction: this share, between 0 and 1.
        standardize: whether each column of X is scaled to mean 0 and standard deviation 1, both computed on
            the training rows of `fit`, or of the first `partial_fit`.
        warm_start: whether `fit` continues from the weights and state (such as Adam's moments) of the last
            fit.
        callbacks: functions of a `bp.train.Record`, called after each epoch; one that returns False ends
            the training. scikit-learn's own callbacks are set by `set_callbacks`.
        random_state: the seed of the initial weights (Glorot's uniform initialization, whatever the
            activation), the order of rows, dropout, and the rows set aside for validation.
        verbose: whether progress is shown on standard error.

    Attributes:
        learner_: the `bp.Learner`; all of `backprop_xp` works on it, with `weights_` and `state_`.
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
        ValueError: by `fit` and `predict`, if scikit-learn's checks refuse X or y.

    >>> from backprop_xp.sklearn import BackpropRegressor
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0]
    >>> model = BackpropRegressor((), rate=0.1, max_iter=1000, patience=None, random_state=0).fit(X, y)
    >>> model.predict([[10.0]]).round(2)
    array([21.])
    """

    _numeric = True

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one epoch on these rows; the first call initializes the net.

        Args:
            X: inputs, shape (rows, features).
            y: targets, shape (rows,) or (rows, outputs).
            sample_weight: a weight for each row, 0 or more; None for 1.

        Returns:
            The estimator itself.

        Raises:
            ValueError: scikit-learn's checks refuse X, y or the weights.
            BackpropError: a setting is out of range.
        """
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any) -> Array:
        """The predicted numbers, shape (rows,), or (rows, outputs) if y had two axes.

        Args:
            X: inputs, shape (rows, features).

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: X has other columns than in `fit`, or NaN.
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
