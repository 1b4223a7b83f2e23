"""The estimator of numbers."""

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

    X is a list, a frame, a NumPy array; or, with `sklearn.config_context(array_api_dispatch=True)` and
    the environment variable SCIPY_ARRAY_API=1, an array of Torch, JAX, CuPy: all that is fitted then
    stays in its library and on its device, and so do predictions. float32 stays float32; bytes (uint8)
    count as numbers from 0 to 255. Sparse matrices of SciPy are made dense a few rows at a time. In frames
    columns of text are categories, each with a table of learnt vectors; unknown and missing ones share its
    last row, which begins as zeros.

    Args:
        hidden: the widths of the hidden layers; or layers, or both, as for `bp.chain`: (64,
            bp.layers.LayerNorm(), bp.Dense(32, bp.tanh)).
        activation: of the widths, one of `bp.activations.ALL` by name or as it is; or one for each.
        loss: one of `bp.losses.ALL` by name, such as "huber", "poisson" or "quantile" (the median); or as it
            is, such as bp.losses.Quantile(0.9). None for half the squared error.
        update: the update rule, one of `bp.updates.ALL` by name; or as it is, such as
            bp.updates.AdamW(0.01).
        rate: of a rule by name, a number or one of `bp.schedules`.
        schedule: of the rate over all steps, "cosine", "one_cycle"; or "plateau". None for none.
        dropout: the share that is left out after each hidden layer that is given by its width.
        penalty: a number is that of `bp.updates.L2` on all weights but biases; or as for `bp.Learner`.
        clip: a bound on the gradient, such as bp.updates.ClipByNorm(1).
        batch_size: rows of a step; "auto" is min(200, rows).
        max_iter: epochs, at most.
        patience: the training ends after so many epochs without a lower loss, that of validation where
            there is one; and the best weights are taken. None: it does not.
        tol: a loss is lower if it is so by more than this.
        early_stopping: set a share of the rows aside for validation; `fit` takes rows of your own as X_val.
        validation_fraction: this share.
        standardize: scale each column of X to mean 0 and standard deviation 1, those of the rows of `fit`, or
            of the first `partial_fit`.
        warm_start: `fit` goes on with weights and state (such as Adam's moments) of the last one.
        callbacks: functions of a `bp.train.Record`, called after each epoch; one that returns False ends
            the training. scikit-learn's own callbacks are set by `set_callbacks`.
        random_state: of first weights (in Glorot's bounds before any activation), order of rows, dropout and
            the rows that are set aside.
        verbose: show progress on standard error.

    Attributes:
        learner_: the `bp.Learner`; with `weights_` and `state_` it is what all of `backprop_xp` works on.
        weights_: the vector w of all weights.
        state_: the state s.
        n_iter_: epochs so far.
        loss_curve_: the loss of each.
        validation_curve_: the loss of validation after each; empty where there was none.
        n_features_in_: the columns of X.
        feature_names_in_: their names, where X was a frame.
        categories_: of the columns of text, by name.
        mean_, scale_: of the columns, where they are standardised.

    >>> from backprop_xp.sklearn import BackpropRegressor
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0]
    >>> model = BackpropRegressor((), rate=0.1, max_iter=1000, patience=None, random_state=0).fit(X, y)
    >>> model.predict([[10.0]]).round(2)
    array([21.])
    """

    _numeric = True

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One epoch on these rows; the first call begins.

        Args:
            X: inputs, shape (rows, features).
            y: targets, shape (rows,) or (rows, outputs).
            sample_weight: a weight for each row.
        """
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any) -> Array:
        """What is predicted, shape (rows,), or (rows, outputs) where y had columns.

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
