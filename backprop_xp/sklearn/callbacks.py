"""Support for scikit-learn's own callbacks, which it has since version 1.9."""

from collections.abc import Callable
from functools import partial
from typing import Any

from ..train.watching import Record

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin
    from sklearn.callback import with_callbacks as with_callbacks
except ImportError:  # scikit-learn 1.8

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """An empty base class: scikit-learn 1.8 has no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """The method, unchanged."""
        return method


class Calls:
    """Calls scikit-learn's callbacks after each epoch.

    Args:
        estimator: the estimator that is being fitted.
        X: the inputs given to `fit`.
        y: the targets given to `fit`.
        metadata: {"sample_weight": the weights given to `fit`}; None without weights.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, metadata: Any) -> None:
        self.estimator, self.told = estimator, {"X": X, "y": y, "metadata": metadata}
        self.context: Any = None
        if hasattr(estimator, "_init_callback_context"):
            self.context = estimator._init_callback_context(max_subtasks=int(estimator.max_iter))
            self.context.call_on_fit_task_begin(estimator=estimator, **self.told)

    @property
    def active(self) -> bool:
        """Whether the estimator has callbacks of scikit-learn."""
        return bool(getattr(self.estimator, "_skl_callbacks", ()))

    def __call__(self, record: Record) -> Any:
        """Report the end of an epoch; False means that a callback ends the training."""
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
        """Report the end of the training."""
        if self.context is not None:
            self.context.call_on_fit_task_end(
                estimator=self.estimator, reconstruction_attributes=dict, **self.told
            )
