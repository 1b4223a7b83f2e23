"""Read the folder of a run, without its lock: checkpoints, the log and the settings.

A checkpoint is step-000000000400.safetensors; best.safetensors is a second name of the best one.
"""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import FileError
from .atomic import SUFFIX
from .model import read_text, told
from .safetensors import opened
from .units import parse_unit_json

BEST = "best.safetensors"
_STEP = re.compile(r"step-(\d{12})\.safetensors")
OWN = re.compile(rf"\.(step-\d{{12}}\.safetensors|{re.escape(BEST)}|run\.json|log\.jsonl)\.\d+\.\w+\{SUFFIX}")
_LARGEST_TEXT = 1 << 20


def step_files(folder: Path) -> list[Path]:
    """The checkpoints in a folder."""
    try:
        return [each for each in folder.iterdir() if _STEP.fullmatch(each.name)]
    except OSError as error:
        msg = f"{folder} cannot be read: {error.strerror}"
        raise FileError(msg) from error


def step_of(path: Path) -> int:
    """The step after which a checkpoint was saved, from its name."""
    return int(path.name[5:17])


def verify(path: Path) -> dict[str, Any]:
    """Check that a model file is whole and unchanged.

    Returns:
        Its metadata.

    Raises:
        FileError: it is not.
    """
    with opened(path) as reader:
        reader.verify()
        return told(reader)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; those that cannot be read are left out."""
    found = []
    with suppress(OSError), (folder / "log.jsonl").open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with suppress(ValueError, RecursionError):
                each = json.loads(line)
                if isinstance(each, dict) and isinstance(each.get("step"), int):
                    found.append(each)
    return found


def read_settings(folder: Path) -> dict[str, Any]:
    """The contents of run.json.

    Raises:
        FileError: the file is missing, or not a JSON object.
    """
    found = parse_unit_json(read_text(folder / "run.json", _LARGEST_TEXT))
    if not isinstance(found, dict):
        msg = f"{folder / 'run.json'} must hold a JSON object, got a {type(found).__name__}"
        raise FileError(msg)
    return found
