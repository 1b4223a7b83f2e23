"""Model files as the commands name them, and what a run keeps of the table it was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import terminal
from ..data.preprocessing import Preprocessing
from ..errors import FileError
from ..files import RunDir
from ..files.folder import BEST, step_files
from ..files.model import checked_path

NOTE = "table"  # of a run: the names, classes and scales of what it trains on
_LARGEST_NOTE = 1 << 19  # characters: with each checkpoint they are written into its header


def keep(run: RunDir, preprocessing: Preprocessing) -> None:
    """Let a run keep the scales with its checkpoints; where it goes on, they must be those it has.

    Raises:
        FileError: it was begun on another table.
    """
    kept = run.notes.get(NOTE)
    if kept is None:
        note = preprocessing._asdict()
        if len(str(note)) <= _LARGEST_NOTE:
            run.notes[NOTE] = note
        else:
            why = f"{len(preprocessing.features):,} features, {len(preprocessing.classes):,} classes"
            terminal.complain(
                f"backprop-xp: scales are not kept, there are too many ({why}): this run cannot `predict`"
            )
    elif not Preprocessing.parsed(kept).agrees(preprocessing):
        msg = f"the run in {run.path} began on other columns, classes or rows: use the same file"
        raise FileError(msg)


def model_file(given: str) -> Path:
    """The file of a model; of a run's folder the best checkpoint, as early stopping says, else the newest.

    Raises:
        FileError: there is no file, or no checkpoint in the folder.
    """
    path = checked_path(given)
    if not path.is_dir():
        return path
    found = [path / BEST] if (path / BEST).exists() else sorted(step_files(path))
    if not found:
        msg = f"there is no checkpoint in {path}"
        raise FileError(msg)
    return found[-1]


def kept(about: Mapping[str, Any]) -> Preprocessing | None:
    """What a model file keeps of the table it was trained on; None where it keeps nothing.

    Raises:
        FileError: what it keeps is damaged.
    """
    run = about.get("run")
    notes = run.get("notes") if isinstance(run, dict) else None
    return Preprocessing.parsed(notes[NOTE]) if isinstance(notes, dict) and NOTE in notes else None
