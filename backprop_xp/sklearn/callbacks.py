"""scikit-learn's own callbacks, which it has since 1.9."""

from collections.abc import Callable
from functools import partial
from typing import Any

from ..train.watching import Record

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin
    from sklearn.callback import with_callbacks as with_callbacks
except ImportError:  # scikit-learn 1.8

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """scikit-learn's own callbacks: it has none before 1.9."""

    def with_callbacks(method: Any) -> Any:
        """The method as it is."""
        return method


class Calls:
    """scikit-learn's callbacks, told of each epoch after it has ended.

    Args:
        estimator: that is being fitted.
        X: the inputs that `fit` was given.
        y: its targets.
        metadata: its weights of rows by their name, None where there are none.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, metadata: Any) -> None:
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
