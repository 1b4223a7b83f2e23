"""Progress of a training: a report, and two ways to show it on standard error."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import signature
from time import perf_counter
from typing import Any, NamedTuple, TextIO

from ..errors import BackpropError, in_bytes

_SECONDS_A_LINE = 3.0
_EPOCHS_LISTED = 50


class Report(NamedTuple):
    """The progress of a training.

    Attributes:
        epoch: the number of the current epoch, from 1.
        epochs: the number of epochs.
        rows: rows of this epoch that are done; `total_rows` at its end.
        total_rows: rows of an epoch.
        loss: the mean loss per row so far in this epoch, each computed before the update it led to.
        rows_per_second: the average since the call of `fit`.
        seconds_left: the estimated time until the last epoch ends.
        smoothed: the mean loss of about the last 50 steps; newer ones count more.
        validation: the mean loss of the validation rows after this epoch; None before its end.
        metrics: those of the validation rows after this epoch; empty before its end.
        memory: bytes that arrays take up on the device; None on the host, or if it is not known.
    """

    epoch: int
    epochs: int
    rows: int
    total_rows: int
    loss: float
    rows_per_second: float
    seconds_left: float
    smoothed: float | None = None
    validation: float | None = None
    metrics: Mapping[str, float] = {}
    memory: int | None = None


Show = Callable[[Report], Any]
Progress = Show | str | None


def line(report: Report) -> str:
    """A report as one line of text.

    >>> line(Report(2, 5, 500, 1000, 0.25, 12000.0, 3.2))
    'epoch 2/5 (50%)  loss 0.25  12,000 rows/s  3 s left'
    >>> line(Report(5, 5, 1000, 1000, 0.125, 12000.0, 0.0, validation=0.25, metrics={"accuracy": 0.9}))
    'epoch 5/5  loss 0.125  validation 0.25  accuracy 0.9  12,000 rows/s'
    """
    ended = report.rows == report.total_rows
    parts = [f"epoch {report.epoch}/{report.epochs}"]
    parts[0] += "" if ended else f" ({report.rows / report.total_rows:.0%})"
    figures = {"loss": report.loss, "smoothed": None if ended else report.smoothed}
    figures |= {"validation": report.validation, **report.metrics}
    parts += [f"{name} {figure:.4g}" for name, figure in figures.items() if figure is not None]
    parts.append(f"{report.rows_per_second:,.0f} rows/s")
    if report.seconds_left >= 0.5:
        parts.append(f"{duration(report.seconds_left)} left")
    if report.memory is not None:
        parts.append(f"{in_bytes(report.memory)} on the device")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(3.2), duration(150), duration(7500), duration(1e6)
    ('3 s', '2 min', '2 h 5 min', '277 h 46 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60} min"


class Lines:
    """Progress as lines of text: one per epoch, if there are at most 50, and one every few seconds.

    Args:
        to: a text stream; None for standard error.
        every: seconds between two lines within an epoch.
    """

    def __init__(self, to: TextIO | None = None, every: float = _SECONDS_A_LINE) -> None:
        self._to, self._every, self._last = to, every, perf_counter()

    def __call__(self, report: Report) -> None:
        """Print the report if it is time."""
        now = perf_counter()
        ended = report.rows == report.total_rows
        last = ended and report.epoch == report.epochs
        if last or (ended and report.epochs <= _EPOCHS_LISTED) or now - self._last >= self._every:
            self._last = now
            print(line(report), file=self._to or sys.stderr, flush=True)


class Bar:
    """Progress as a bar, drawn by rich, with a line above it for each finished epoch.

    The line beside the bar keeps the figures of the last validation.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=Console(stderr=True, highlight=False), transient=True)
        self._task = self._bar.add_task("", total=None)
        self._bar.start()
        self._validated: dict[str, Any] = {}

    def __call__(self, report: Report) -> None:
        """Advance the bar."""
        done = (report.epoch - 1) * report.total_rows + report.rows
        total = report.epochs * report.total_rows
        if report.validation is not None:
            self._validated = {"validation": report.validation, "metrics": report.metrics}
        shown = line(report._replace(**self._validated))
        self._bar.update(self._task, completed=done, total=total, description=shown)
        if report.rows == report.total_rows and report.epochs <= _EPOCHS_LISTED:
            self._bar.console.print(line(report))

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


@contextmanager
def opened(progress: Progress) -> Iterator[Show]:
    """The function that shows a report, for a value of `progress=`; a bar is removed afterwards.

    Raises:
        BackpropError: the value is neither 'auto', None nor a function of one argument.
    """
    if progress is None or (progress == "auto" and sys.stderr is None):
        yield lambda _: None
    elif callable(progress):
        _check_takes_a_report(progress)
        yield progress
    elif progress != "auto":
        msg = f"progress must be 'auto', None or a function of a Report, got {progress!r}"
        raise BackpropError(msg)
    elif sys.stderr.isatty() and find_spec("rich"):
        bar = Bar()
        try:
            yield bar
        finally:
            bar.close()
    else:
        yield Lines()


def _check_takes_a_report(function: Any) -> None:
    try:
        signature(function).bind(None)
    except TypeError as error:
        msg = f"progress must be a function of one argument, a Report; {function!r}: {error}"
        raise BackpropError(msg) from error
    except ValueError:  # a function without a signature, such as some builtins
        pass
