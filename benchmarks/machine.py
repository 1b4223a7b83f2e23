"""The machine of a run: processor, GPU, versions, the date."""

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import backprop_xp

from .contenders import CONTENDERS, installed

_REPORTED = (
    "numpy", "threadpoolctl", "cupy-cuda12x", "cupy-cuda13x", "triton", "jaxlib", "jax-cuda12-plugin",
    "jax-cuda13-plugin", "nvidia-cublas-cu12", "nvidia-cublas", "cuda-pathfinder", "array-api-compat",
    "skorch", "keras",
)  # fmt: skip


def today() -> str:
    """The date, in UTC."""
    return datetime.now(UTC).date().isoformat()


def host() -> dict[str, Any]:
    """The processor, its memory and the system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((row.partition(":")[2].strip() for row in lines if row.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gigabytes": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def gpu() -> dict[str, Any]:
    """The first GPU: its name, memory and driver, as nvidia-smi reports them; empty without a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    question = "--query-gpu=name,memory.total,driver_version"
    try:
        lines = subprocess.run([tool, question, "--format=csv,noheader,nounits"], capture_output=True,
                              text=True, timeout=20, check=True).stdout.strip().splitlines()  # fmt: skip
        name, mebibytes, driver = (part.strip() for part in lines[0].split(","))
        gigabytes = round(float(mebibytes) * 2**20 / 1e9, 1)
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return {}
    return {"name": name, "gigabytes": gigabytes, "gpus": len(lines), "driver": driver}


def versions() -> dict[str, str]:
    """The versions of Python, the library and the contenders' distributions."""
    names = sorted({*_REPORTED, *(name for each in CONTENDERS for name in each.needs)})
    own = {"python": platform.python_version(), "backprop-xp": backprop_xp.__version__}
    return own | {name: found for name in names if (found := installed(name))}
