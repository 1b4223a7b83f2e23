"""The GPU as its driver tells it, without any other library and without using it."""

import ctypes as c
import shutil
import subprocess
from typing import Any

_NAMES = ("libcuda.so.1", "libcuda.so", "nvcuda.dll")


def gpu() -> dict[str, Any]:
    """The first GPU: its name, memory and the CUDA of its driver; empty where there is none."""
    lib = _library()
    if lib is None or lib.cuInit(0):
        return {}
    count, cuda, device, memory = c.c_int(), c.c_int(), c.c_int(), c.c_size_t()
    name = c.create_string_buffer(256)
    if lib.cuDeviceGetCount(c.byref(count)) or not count.value or lib.cuDeviceGet(c.byref(device), 0):
        return {}
    lib.cuDriverGetVersion(c.byref(cuda))
    lib.cuDeviceGetName(name, len(name), device)
    lib.cuDeviceTotalMem_v2(c.byref(memory), device)
    return {
        "name": name.value.decode(),
        "gigabytes": round(memory.value / 1e9, 1),
        "gpus": count.value,
        "driver_cuda": f"{cuda.value // 1000}.{cuda.value % 1000 // 10}",
        "driver": _driver(),
    }


def _library() -> Any:
    for name in _NAMES:
        try:
            return c.CDLL(name)
        except OSError:
            continue
    return None


def _driver() -> str:
    """The driver's own version, where nvidia-smi tells it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    question = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(question, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip().partition("\n")[0] if told.returncode == 0 else ""
