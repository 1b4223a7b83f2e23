"""Validation, early stopping, and callbacks, which are functions of a `Record`."""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, NamedTuple

from ..arrays import Array
from ..errors import BackpropError, got_instead, listed
from ..layers import check_count
from ..learner import Learner
from ..number import is_number
from ..step import State
from .evaluate import check_metrics, check_source, measure
from .metrics import Metric, is_better

NOTE = "early_stop"  # the name under which a run saves the state of early stopping


class Record(NamedTuple):
    """What a callback is given after an epoch: w and s, and the figures of an `Epoch`.

    Attributes:
        w: the weights, valid until the callback returns; keep copies with `learner.snapshot`.
        s: the state, likewise.
        epoch: the number of the epoch, from 1.
        rows: the rows trained on.
        loss: the mean loss of these rows.
        seconds: wall-clock time.
        rows_per_second: rows / seconds.
        validation: the mean loss of the validation rows, None where they were not evaluated.
        metrics: those of the validation rows, by name.
    """

    w: Array
    s: State
    epoch: int
    rows: int
    loss: float
    seconds: float
    rows_per_second: float
    validation: float | None
    metrics: Mapping[str, float]


Callback = Callable[[Record], Any]


@dataclass(frozen=True)
class Validate:
    """Held-out data on which the net is evaluated after an epoch: by its loss, and by metrics.

    Args:
        source: the data.
        metrics: metrics of `bp.metrics` by names of your own; the value of each must be one number.
        every: evaluate after every so many epochs, counted from the first of the training.
        batch_size: rows at a time.

    Raises:
        BackpropError: `source` is no source of data, or settings are out of range; metrics are checked
            when the training begins.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    >>> train, held_out = (bp.data.Teacher(seed=1, n=n, features=2) for n in (1000, 100))
    >>> validate = Validate(held_out, {"r2": bp.metrics.r2}, every=2)
    >>> w, s, history = bp.fit(learner, *learner.init(), train, epochs=4, validate=validate)
    >>> [list(epoch.metrics) for epoch in history]
    [[], ['r2'], [], ['r2']]
    """

    source: Any
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    every: int = 1
    batch_size: int = 1024

    def __post_init__(self) -> None:
        check_source(self.source)
        object.__setattr__(self, "every", check_count(self.every, "every= of Validate"))
        object.__setattr__(self, "batch_size", check_count(self.batch_size, "the batch size of Validate"))

    def judge(self, learner: Learner, w: Array) -> Callable[..., dict[str, float]]:
        """A function of w and s that returns the loss and metrics, compiled for the library of these weights.

        Raises:
            BackpropError: data or metrics that do not fit the learner.
        """
        check_metrics(learner, self.metrics)
        learner.check_source(self.source)
        if whole := [name for name, metric in self.metrics.items() if not metric.is_number]:
            msg = (
                f"{listed(whole)} is not a single number, as a metric of each epoch must be: compute it "
                "after training, with bp.train.measure"
            )
            raise BackpropError(msg)
        compiled = learner.compile_evaluate(w, predictions=bool(self.metrics))
        settings: dict[str, Any] = {"batch_size": self.batch_size, "compiled": compiled}
        return partial(measure, learner, source=self.source, metrics=self.metrics, **settings)


def validation(given: Any) -> Validate | None:
    """The argument `validate=`, a source of data or a `Validate`, as the latter."""
    return given if given is None or isinstance(given, Validate) else Validate(given)


@dataclass(frozen=True)
class EarlyStop:
    """End a training when a figure has not improved for some epochs, and return the best weights.

    They are returned however the training ends: `fit` gives the w and s of the best epoch, and errors that
    end it have them as an attribute `best`. (Prechelt: Early stopping, but when?, 1998.)

    Args:
        figure: "loss", the validation loss or, without validation, the training loss; or the name of a
            validation metric.
        patience: the number of epochs without improvement after which the training ends; only epochs that
            were validated count.
        min_delta: a figure must be better by more than this to count as an improvement.

    Raises:
        BackpropError: settings out of range.

    >>> import numpy as np
    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(1, bp.layers.Linear(1)), update=bp.GradientDescent("3"))
    >>> w, s = learner.init()
    >>> x = np.ones((4, 1), dtype=np.float32)
    >>> _, _, history = bp.fit(learner, w, s, bp.data.Stored(x, x), epochs=50, stop=EarlyStop(patience=2))
    >>> len(history)
    3
    """

    figure: str = "loss"
    patience: int = 5
    min_delta: float = 0

    def __post_init__(self) -> None:
        figure: Any = self.figure
        if not isinstance(figure, str):
            msg = f"the figure of EarlyStop is 'loss' or the name of a metric, got {figure!r}"
            raise BackpropError(msg)
        object.__setattr__(self, "patience", check_count(self.patience, "the patience of EarlyStop"))
        if not is_number(self.min_delta) or not 0 <= self.min_delta < inf:
            msg = f"min_delta of EarlyStop must be a finite number, 0 or more, got {self.min_delta!r}"
            raise BackpropError(msg)


@dataclass
class Stopping:
    """The state of early stopping during a training.

    Attributes:
        rule: the settings.
        larger: whether a larger figure is better.
        best: the best figure so far.
        epoch: the epoch in which it was reached.
        step: the step after which it was reached.
        waited: validated epochs since then.
        kept: copies of the weights and the state at that step.
    """

    rule: EarlyStop
    larger: bool
    best: float | None = None
    epoch: int = 0
    step: int = 0
    waited: int = 0
    kept: tuple[Array, State] | None = None

    @property
    def ends(self) -> bool:
        """Whether the training is to end."""
        return self.waited >= self.rule.patience

    def see(self, learner: Learner, record: Record, step: int) -> bool:
        """Take an epoch into account; return whether it is the best so far."""
        loss = record.loss if record.validation is None else record.validation
        figure = loss if self.rule.figure == "loss" else record.metrics[self.rule.figure]
        if not is_better(figure, self.best, larger=self.larger, by=float(self.rule.min_delta)):
            self.waited += 1
            return False
        self.best, self.epoch, self.step, self.waited = figure, record.epoch, step, 0
        self.kept = learner.snapshot(record.w, record.s)
        return True

    def note(self) -> dict[str, Any]:
        """What a run saves of this, to resume from."""
        told = {"best": self.best, "epoch": self.epoch, "step": self.step, "waited": self.waited}
        return {"figure": self.rule.figure, **told}

    def go_on(self, note: Any) -> None:
        """Restore what an earlier process saved.

        Raises:
            BackpropError: it is for another figure, or damaged.
        """
        known = note if isinstance(note, Mapping) else {}
        if known.get("figure") != self.rule.figure:
            msg = (
                f"this run's early stopping watches {known.get('figure')!r}, not {self.rule.figure!r}: use "
                "the same figure as before, or another folder"
            )
            raise BackpropError(msg)
        counts = {name: known.get(name) for name in ("epoch", "step", "waited")}
        if not all(type(n) is int and n >= 0 for n in counts.values()) or not (
            known.get("best") is None or is_number(known["best"])
        ):
            msg = f"the state of early stopping in the run's folder is damaged: {note!r}"
            raise BackpropError(msg)
        self.best = known["best"]
        vars(self).update(counts)


def stopping(stop: Any, validate: Validate | None) -> Stopping | None:
    """The state with which early stopping begins, from the argument `stop=`; None without it.

    Raises:
        BackpropError: it is no `EarlyStop`, or validation has no metric of that name.
    """
    if stop is None:
        return None
    if not isinstance(stop, EarlyStop):
        msg = f"stop must be such as bp.train.EarlyStop('loss', patience=5), {got_instead(stop)}"
        raise BackpropError(msg)
    if stop.figure == "loss":
        return Stopping(stop, larger=False)
    metrics = {} if validate is None else validate.metrics
    if stop.figure not in metrics:
        known = listed(["loss", *metrics])
        msg = f"EarlyStop watches {stop.figure!r}, but validate= has only {known}"
        raise BackpropError(msg)
    return Stopping(stop, larger=metrics[stop.figure].larger_is_better)


def check_callbacks(callbacks: Any) -> list[Callback]:
    """The argument `callbacks=`, as a list of functions.

    Raises:
        BackpropError: one of them is not a function.
    """
    found = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    for each in found:
        if not callable(each):
            msg = f"callbacks must be functions of a bp.train.Record, got {each!r}"
            raise BackpropError(msg)
    return found


def warn_health(health: Callable[..., Iterable[str]], learner: Learner, *batch: Any) -> Callback:
    """A callback that warns once of each kind of problem that keeps a net from learning.

    Args:
        health: a function of (learner, w, s, *batch) that returns problems as sentences, such as
            `bp.insight.health`.
        learner: the net, its loss and its update rule.
        batch: rows on which the net is examined after each epoch; a few hundred are enough.

    Warns:
        UserWarning: with the epoch and the sentence.

    >>> import backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    >>> source = bp.data.Teacher(seed=1, n=100, features=2)
    >>> def health(learner, w, s, *batch):
    ...     return ["dense1: 2 of 3 units are closed"]
    >>> callback = warn_health(health, learner, *source.rows(0, 10))
    >>> with warnings.catch_warnings(record=True) as found:
    ...     warnings.simplefilter("always")
    ...     trained = bp.fit(learner, *learner.init(), source, epochs=3, callbacks=[callback])
    >>> [str(each.message) for each in found]
    ['epoch 1: dense1: 2 of 3 units are closed']
    """
    told: set[str] = set()

    def callback(record: Record) -> None:
        for sentence in health(learner, record.w, record.s, *batch):
            kind = re.sub(r"(?<![a-zA-Z])[\d.]+(e[+-]?\d+)?", "", sentence)  # not the 1 of dense1
            if kind not in told:
                told.add(kind)
                warnings.warn(f"epoch {record.epoch}: {sentence}", stacklevel=2)

    return callback
