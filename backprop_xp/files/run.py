"""The folder of a run: checkpoints from which a training resumes, whenever and however it was stopped.

    lock  run.json  log.jsonl  step-000000000400.safetensors …  best.safetensors

A checkpoint is a model file that also holds what the run needs to resume: the step at which it began, the
figures of its epochs, and what is done of the epoch in progress. It is on the disk, whole, before an older
one is removed. No file points to the latest checkpoint: it is the newest one that verifies.
"""

import json
import os
import re
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from math import isfinite, isnan
from pathlib import Path
from shutil import copyfile
from typing import Any

from .. import __version__, backends
from ..arrays import Array
from ..compiler.compiled import Compiled
from ..errors import FileError
from ..layers import check_count
from ..learner import Learner
from ..step import State
from ..train.batches import ORDER
from ..train.chunk_length import LONGEST
from ..train.loop import Epoch, Partial, Resumed, as_int
from ..workers import Exchange
from .atomic import SUFFIX, not_written, write_whole
from .folder import BEST, OWN, read_log, step_files, step_of, verify
from .locks import locked
from .model import HISTORY, RULES, checked_path, read_arrays, to_backend, told, write_model
from .safetensors import Reader, opened
from .units import encode

_UNITS = {"s": 1, "min": 60, "h": 3600}
_FIGURES = len(Epoch._fields) - 1  # the fields of an epoch, without its metrics


class RunDir:
    """A folder that keeps the checkpoints of one training, which resumes from the newest that verifies.

    One process at a time may train in it: the folder is locked until `close`, the end of a `with` block, or
    the end of the process. Temporary files that an earlier process left are removed.

    Args:
        path: the path of the folder, which is created if needed.
        keep: the number of newest checkpoints to keep; the best one is kept as well.
        every: the time between checkpoints, "60 s", "5 min" or "2 h", within epochs too; or about
            "500 steps"; or "1 epoch".
        saved: a function, called with the step of each checkpoint once that is on the disk.
        command: settings of the command that trains, to be kept in run.json.
        workers: the workers that train together, as for `bp.fit`. Only worker 0 locks, reads and writes; the
            RunDir of the others only hands them what worker 0 restores.
        allow_other_bits: resume even if other kernels run now than before (with or without machine code, or
            on a processor with other registers), which may differ in the last bits.

    Attributes:
        damaged: checkpoints that did not verify when `restore` looked for the newest, and why.
        notes: further strings and numbers, by name, to be saved with each checkpoint and restored.

    Raises:
        FileError: another process trains in the folder, or it cannot be created.
        BackpropError: settings are out of range.

    >>> import tempfile, backprop_xp as bp
    >>> learner, source = bp.Learner(bp.chain(2, bp.Dense(1))), bp.data.Teacher(seed=1, n=100, features=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for epochs in (2, 4):
    ...         with bp.RunDir(folder) as run:
    ...             w, s = run.restore(learner) or learner.init(seed=7)
    ...             w, s, history = bp.fit(learner, w, s, source, epochs=epochs, run=run)
    ...             print(int(s.step), len(history))
    8 2
    16 4
    """

    def __init__(
        self,
        path: str | Path,
        keep: int = 3,
        every: str = "60 s",
        *,
        saved: Callable[[int], Any] | None = None,
        command: Mapping[str, Any] | None = None,
        workers: Exchange | None = None,
        allow_other_bits: bool = False,
    ) -> None:
        self.path = checked_path(path)
        self._other_bits = allow_other_bits
        self.keep = check_count(keep, "the number of checkpoints to keep")
        self._count, self._unit = parse_every(every)
        self.longest = LONGEST
        if self._unit == "step":
            self.longest = min(LONGEST, 1 << int(self._count).bit_length() - 1)
        self._tell, self._command = saved or (lambda _: None), command
        self.damaged: tuple[tuple[str, str], ...] = ()
        self.notes: dict[str, Any] = {}
        self._history: list[Epoch] = []
        self._best: dict[str, Any] | None = None
        self._run: dict[str, Any] | None = None  # of the checkpoint that was restored
        self._settings: dict[str, Any] | None = None
        self._learner: tuple[Learner, Any] | None = None
        self._step: int | None = None  # of the newest checkpoint
        self._began = 0
        self._kind: str | None = None  # of numbers, in what was restored
        self._last = time.monotonic()
        self.workers = workers
        self.close: Any = weakref.finalize(self, int)
        self._follows = workers is not None and workers.rank > 0
        if self._follows:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(
                self.path / "lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666
            )
        except OSError as error:
            raise not_written(self.path, error) from error
        self.close = weakref.finalize(self, os.close, descriptor)
        try:
            alone = locked(descriptor)
        except OSError as error:  # the file system has no locks
            self.close()
            raise not_written(self.path / "lock", error) from error
        if not alone:
            self.close()
            msg = f"another process trains in {self.path}: wait for its end, or use another folder"
            raise FileError(msg)
        for each in self.path.iterdir():
            if OWN.fullmatch(each.name):
                with suppress(OSError):
                    each.unlink()

    def __enter__(self) -> "RunDir":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r}, keep={self.keep})"

    # ------------------------------------------------------------ resuming
    def restore(
        self, learner: Learner, *, like: Array = None, backend: str | None = None, device: Any = None
    ) -> tuple[Array, State] | None:
        """The weights and state of the newest checkpoint that verifies; None if there are no checkpoints.

        Args:
            learner: the learner that was trained.
            like: an array whose library and device are used.
            backend: without `like`, the name of the library.
            device: a device of that library.

        Raises:
            FileError: no checkpoint verifies; or the newest is of another learner, or of another version
                of the order of rows or of the rules' arithmetic; the message names the difference.

        Warns:
            UserWarning: newer checkpoints are damaged; with the reasons.
        """
        found = None if self._follows else self._restored(learner, like, backend, device)
        return self._of_all(found, learner, like=like, backend=backend, device=device)

    def _of_all(self, found: Any, learner: Learner, **place: Any) -> tuple[Array, State] | None:
        """Worker 0's weights and state, on all workers; None if it has none."""
        if self.workers is None:
            return found  # type: ignore[no-any-return]
        there, kind = self.workers.gather([found is not None, self._kind])[0]
        if there and found is None:
            found = learner.init(**place, dtype=kind)
        return self.workers.broadcast(found) if there else None

    def _restored(
        self, learner: Learner, like: Array, backend: str | None, device: Any
    ) -> tuple[Array, State] | None:
        self._learner = learner, encode(learner)
        damaged: list[tuple[str, str]] = []
        files = sorted(step_files(self.path), reverse=True)
        for path in [*files, *([self.path / BEST] if (self.path / BEST).exists() else [])]:
            try:
                verify(path)
            except FileError as error:
                damaged.append((path.name, str(error)))
                continue
            tree, kind = self._read(path)
            self.damaged, self._kind = tuple(damaged), kind
            if damaged:
                left_out = "; ".join(why for _, why in damaged)
                warnings.warn(f"{path.name} is resumed, since {left_out}", stacklevel=3)
            return to_backend(tree, kind, like, backend, device)
        self.damaged = tuple(damaged)
        if damaged:
            msg = f"no checkpoint in {self.path} can be resumed: {'; '.join(why for _, why in damaged)}"
            raise FileError(msg)
        return None

    def _read(self, path: Path) -> tuple[tuple[Array, State], str]:
        assert self._learner is not None
        learner, data = self._learner
        with opened(path) as reader:
            found = told(reader)
            versions = {"version of orders": found["order"], "version of rules": found["rules"]}
            now = {"version of orders": ORDER, "version of rules": RULES}
            _refuse_other(path, versions | found["learner"], now | data)
            tree, memory = read_arrays(reader, learner, found["dtype"])
            try:
                run = found["run"]
                history = _history(reader, memory, run["metrics"])
                self._began, self._best = int(run["began"]), run["best"]
                partial = None if run["partial"] is None else Partial(*run["partial"])
                self.notes = dict(run["notes"])
                self._run = {"settings": dict(run["settings"]), "partial": partial}
            except (KeyError, TypeError, ValueError):
                reader.refuse("it is no checkpoint of a run")
        self._history, self._step = history, as_int(tree[1].step)
        return tree, found["dtype"]

    def begin(self, learner: Learner, w: Array, s: State, settings: Mapping[str, Any]) -> Resumed:
        """Begin or resume the training; `fit` calls this.

        Raises:
            FileError: the folder's checkpoints have other settings, which are named, or were not restored.
        """
        if not self.close.alive:
            msg = f"this RunDir is closed: open another one, bp.RunDir({str(self.path)!r})"
            raise FileError(msg)
        if self._follows:
            return Resumed(as_int(s.step))
        given, at = dict(settings), as_int(s.step)
        began = given.pop("began")
        if self._learner is None or self._learner[0] is not learner:
            data = encode(learner)
            if self._learner is not None:
                _refuse_other(self.path, self._learner[1], data)
            self._learner = learner, data
        if self._step is None:
            self._begin_anew(w, at if began is None else began, given)
            return Resumed(self._began)
        old = (self._settings if self._run is None else self._run["settings"]) or {}
        old = {"kernels": Compiled.code} | old  # of old checkpoints: no machine code
        if self._other_bits:
            old["kernels"] = given["kernels"]
        _refuse_other(self.path, old, given)
        if at != self._step or began not in (None, self._began):
            msg = (
                f"the run in {self.path} began at step {self._began} and goes on at step {self._step}, with "
                f"the w and s that restore or fit returned; got those of step {at}, and began={began}"
            )
            raise FileError(msg)
        partial = None
        if self._run is not None:
            partial, self._run = self._run["partial"], None
            for path in step_files(self.path):
                if step_of(path) > at:  # it did not verify
                    path.replace(path.with_name(f"{path.name}.damaged"))
            self._link_best()
            self._rewrite_log(at)
            self._log("resumed", at, versions=_versions(w))
        self._settings, self._last = given, time.monotonic()
        return Resumed(self._began, tuple(self._history), partial)

    def _begin_anew(self, w: Array, began: int, settings: dict[str, Any]) -> None:
        if step_files(self.path) or (self.path / BEST).exists():
            msg = (
                f"{self.path} holds checkpoints already: resume with w, s = run.restore(learner), or use "
                "another folder"
            )
            raise FileError(msg)
        self._began, self._settings = began, settings
        to = backends.of(w)
        text = {
            "settings": settings | {"order": ORDER, "rules": RULES},
            "backend": to.name,
            "dtype": str(w.dtype).rpartition(".")[2],
            "versions": _versions(w),
            "command": self._command,
        }
        write_whole(self.path / "run.json", [json.dumps(text, indent=1).encode("utf-8")])
        self._rewrite_log(-1)
        self._log("began", began, versions=_versions(w))
        self._last = time.monotonic()

    # ------------------------------------------------------------ saving
    def due(self, step: int, *, epoch: int | None = None) -> bool:
        """Whether a checkpoint is due: at the end of this epoch, or (None) within one."""
        if self._follows:
            return False
        if self._unit == "epoch":
            return epoch is not None and epoch % self._count == 0
        if self._unit == "step":
            return step - (self._began if self._step is None else self._step) >= self._count
        return time.monotonic() - self._last >= self._count

    def record(self, epoch: Epoch, step: int, *, best: bool | None = None) -> bool:
        """Record an epoch; return whether it is the best so far.

        Args:
            epoch: its figures.
            step: the step after which it ended.
            best: whether it is the best, if early stopping decides that; None to decide by the smallest
                validation loss.
        """
        if self._follows:
            return False
        self._history.append(epoch)
        self._log("epoch", step, **epoch._asdict())
        figure = epoch.validation if isfinite(epoch.validation or 0) else None
        if best is None:
            before = None if self._best is None else self._best["validation"]
            best = figure is not None and (before is None or figure < before)
        if best:
            self._best = {"step": step, "epoch": epoch.epoch, "validation": figure}
        return best

    def best(self, learner: Learner, *, like: Array = None) -> tuple[Array, State] | None:
        """The weights and state of the best epoch, by its validation loss or by early stopping.

        Args:
            learner: the learner that is trained.
            like: an array whose library and device are used.

        Returns:
            w and s; None if no epoch was the best yet, or the file is missing or damaged.

        Raises:
            FileError: they are of another learner.
        """
        return self._of_all(None if self._follows else self._best_weights(learner, like), learner, like=like)

    def _best_weights(self, learner: Learner, like: Array) -> tuple[Array, State] | None:
        path = self.path / BEST
        try:
            verify(path)
        except FileError:
            return None
        with opened(path) as reader:
            found = told(reader)
            _refuse_other(path, found["learner"], encode(learner))
            tree, _ = read_arrays(reader, learner, found["dtype"])
        return to_backend(tree, found["dtype"], like, None, None)

    def save(self, w: Array, s: State, partial: Partial | None = None) -> None:
        """Save a checkpoint; once it is on the disk, remove older ones beyond `keep`.

        Args:
            w: the weights.
            s: the state.
            partial: what is done of the epoch in progress; None at the end of one.

        Raises:
            FileError: it cannot be written; earlier checkpoints are unharmed.
        """
        step = as_int(s.step)
        if step == self._step or self._follows:
            return
        assert self._learner is not None
        learner, data = self._learner
        names = list(dict.fromkeys(name for epoch in self._history for name in epoch.metrics))
        run = {
            "settings": self._settings,
            "began": self._began,
            "partial": partial,
            "best": self._best,
            "notes": self.notes,
            "metrics": names,
        }
        more = []
        if self._history:
            host = backends.get("numpy").xp
            rows = [_row(epoch, names) for epoch in self._history]
            memory = host.asarray(rows, dtype="<f8").tobytes()
            more = [(HISTORY, "F64", (len(rows), len(rows[0])), memory)]
        path = self.path / f"step-{step:012}.safetensors"
        write_model(path, learner, data, w, s, run=run, more=more)
        self._step, self._last = step, time.monotonic()
        self._link_best()
        for old in sorted(step_files(self.path))[: -self.keep]:
            with suppress(OSError):
                old.unlink()
        done: dict[str, Any] = {}
        if partial is not None:
            done = {"rows": partial.rows, "loss": partial.loss / max(partial.rows, 1)}
        self._log("saved", step, **done)
        self._tell(step)

    def _link_best(self) -> None:
        """Give the best checkpoint its second name, if the file of its step exists."""
        path = self.path / f"step-{self._best['step']:012}.safetensors" if self._best else None
        if path is None or not path.exists():
            return
        temporary = path.with_name(f".{BEST}.{os.getpid()}.link{SUFFIX}")
        try:
            temporary.unlink(missing_ok=True)
            try:
                temporary.hardlink_to(path)
            except OSError:  # not every file system has hard links
                copyfile(path, temporary)
            temporary.replace(self.path / BEST)
        except OSError as error:
            raise not_written(self.path / BEST, error) from error
        finally:
            temporary.unlink(missing_ok=True)  # renaming one link of a file to another does nothing

    def stopped(self, step: int) -> str:
        """For a message: where the checkpoint was saved, and how to resume from it."""
        how = f"backprop-xp resume {self.path}" if self._command else "w, s = run.restore(learner)"
        return f"saved in {self.path}, resume with: {how}"

    def finish(self, step: int) -> None:
        """Note in the log that the training has ended: all its epochs are made, or early stopping said so."""
        if not self._follows:
            self._log("finished", step)

    # ------------------------------------------------------------ the log
    def _log(self, event: str, step: int, **figures: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"event": event, "step": step, "time": now} | figures)
        try:
            with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            raise not_written(self.path / "log.jsonl", error) from error

    def _rewrite_log(self, step: int) -> None:
        """Drop lines after this step, since those steps are done again, and lines that cannot be read."""
        kept = [json.dumps(each) for each in read_log(self.path) if each["step"] <= step]
        write_whole(self.path / "log.jsonl", ["".join(f"{line}\n" for line in kept).encode("utf-8")])


def parse_every(every: Any) -> tuple[float, str]:
    """Parse the time between checkpoints: a number, and its unit 's', 'step' or 'epoch'.

    Raises:
        FileError: it has another form.

    >>> parse_every("5 min"), parse_every("500 steps"), parse_every("1 epoch")
    ((300.0, 's'), (500.0, 'step'), (1.0, 'epoch'))
    """
    found = (
        re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h|steps?|epochs?)", every) if isinstance(every, str) else None
    )
    count = float(found[1]) if found else 0.0
    unit = found[2].rstrip("s") if found else ""
    if not found or (unit in ("step", "epoch") and (count < 1 or not count.is_integer())):
        msg = f"every= must be a time such as '60 s', '5 min', '2 h', '500 steps' or '1 epoch', got {every!r}"
        raise FileError(msg)
    return (count, unit) if unit in ("step", "epoch") else (count * _UNITS[found[2]], "s")


def _refuse_other(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Check that settings are the same as before.

    Raises:
        FileError: some differ; the message names them.
    """
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if names:
        each = "; ".join(f"{name} was {_short(old.get(name))}, now {_short(new.get(name))}" for name in names)
        msg = f"{path} cannot go on bit for bit: {each}. Use the same settings as before, or another folder"
        if names == ["kernels"]:
            msg += (
                "; BACKPROP_XP_NATIVE=0 turns machine code off, allow_other_bits=True (--allow-other-bits) "
                "accepts other last bits"
            )
        raise FileError(msg)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _row(epoch: Epoch, names: Sequence[str]) -> list[float]:
    """An epoch as a row of numbers, NaN for missing ones."""
    figures: list[Any] = [*epoch[:_FIGURES], *(epoch.metrics.get(name) for name in names)]
    return [float("nan") if each is None else each for each in figures]


def _history(reader: Reader, data: bytearray, names: Any) -> list[Epoch]:
    place = reader.header.tensors.get(HISTORY)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        reader.refuse("its metrics have no names")
    if place is None:
        return []
    columns = _FIGURES + len(names)
    if place.dtype != "F64" or place.shape[1:] != (columns,):
        reader.refuse(f"its epochs must be F64 in {columns} columns, got {place.dtype} {place.shape}")
    host = backends.get("numpy").xp
    rows = host.frombuffer(data, dtype="<f8", count=place.shape[0] * columns, offset=place.start)
    return [_epoch(each, names) for each in rows.reshape(place.shape).tolist()]


def _epoch(row: Sequence[float], names: Sequence[str]) -> Epoch:
    """An epoch from a row of numbers; without validation, metrics that are NaN are left out."""
    epoch, rows, loss, seconds, speed, judged = row[:_FIGURES]
    metrics = dict(zip(names, row[_FIGURES:], strict=True))
    if isnan(judged):
        metrics = {name: each for name, each in metrics.items() if not isnan(each)}
    return Epoch(int(epoch), int(rows), loss, seconds, speed, None if isnan(judged) else judged, metrics)


def _versions(w: Array) -> dict[str, str]:
    """The versions of Python, of this library, and of the array library."""
    root = type(w).__module__.partition(".")[0].removesuffix("lib")  # JAX's arrays are of jaxlib
    found = {"python": sys.version.split()[0], "backprop_xp": __version__}
    version = getattr(sys.modules.get(root), "__version__", None)
    return found | ({root: str(version)} if version else {})
