"""The processor, the compiler and its cache on disk, and the BLAS that NumPy has loaded."""

import ctypes
import hashlib
import os
import stat
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from .function import Target

_GEMM = {"float32": "cblas_sgemm", "float64": "cblas_dgemm"}
VERSION = 1  # of the generated code; to be raised when its rounding changes
_KEPT = 512  # the most object files in the cache; the least recently used are deleted


@cache
def llvm() -> Any:
    """The binding of llvmlite, ready to compile for this processor.

    Raises:
        ImportError: llvmlite is not installed.
    """
    import llvmlite.binding

    llvmlite.binding.initialize_native_target()
    llvmlite.binding.initialize_native_asmprinter()
    return llvmlite.binding


@cache
def host() -> Target:
    """This processor."""
    found = llvm().get_host_cpu_features()
    return target(llvm().get_process_triple(), llvm().get_host_cpu_name(), found.flatten())


def rounding() -> str | None:
    """What the last bits of results depend on: size of registers, fused multiply-add; None: no llvmlite."""
    try:
        found = host()
    except ImportError:
        return None
    fused = "multiplications and additions fused" if found.fused else "none fused"
    return f"machine code {VERSION}, registers of {found.bytes} bytes, {fused}"


def target(triple: str, cpu: str, features: str) -> Target:
    """A processor by its name and features.

    >>> target("x86_64-unknown-linux-gnu", "x86-64", "+sse4.2,+avx2,+fma").bytes
    32
    """
    there = {each[1:] for each in features.split(",") if each.startswith("+")}
    if not triple.startswith(("x86_64", "i686", "amd64")):
        return Target(triple, cpu, features, 16, 32, fused=triple.startswith(("aarch64", "arm64")))
    wide, registers = (64, 32) if "avx512f" in there else (32 if there & {"avx", "avx2"} else 16, 16)
    return Target(triple, cpu, features, wide, registers, "fma" in there)


@cache
def gemm() -> dict[str, tuple[int, str]]:
    """For each dtype, the address and the integer type of gemm in NumPy's own BLAS, if they are found."""
    try:
        numpy = sys.modules["numpy._core._multiarray_umath"]
        library = ctypes.CDLL(numpy.__file__ or "")  # its symbols, and those of the libraries it loads
    except (KeyError, AttributeError, OSError):
        return {}
    found = {}
    for dtype, name in _GEMM.items():
        for full, integer in (
            (f"scipy_{name}64_", "i64"), (f"{name}64_", "i64"), (f"scipy_{name}", "i32"), (name, "i32"),
        ):  # fmt: skip
            with suppress(AttributeError):
                found[dtype] = ctypes.cast(getattr(library, full), ctypes.c_void_p).value or 0, integer
                break
    return found


class Code:
    """Machine code in memory.

    Args:
        text: LLVM IR.
        target: what it is compiled for; it can run only on that processor.

    Attributes:
        object: the object file.
        cached: whether it was found on disk.
    """

    def __init__(self, text: str, target: Target) -> None:
        path = _path(text, target)
        known = None if path is None else _read(path)
        self.cached = known is not None
        self.object = known or object_code(text, target)
        if path is not None and known is None:
            _write(path, self.object)
        binding = llvm()
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine(target))
        self._engine.add_object_file(binding.ObjectFileRef.from_data(self.object))
        self._engine.finalize_object()

    def function(self, name: str, *kinds: Any) -> Any:
        """A function of the module, without a result; its calls release Python's GIL."""
        return ctypes.CFUNCTYPE(None, *kinds)(self._engine.get_function_address(name))


def optimized(text: str, target: Target) -> Any:
    """A module parsed, verified and optimized.

    Raises:
        RuntimeError: LLVM rejects it.
    """
    binding = llvm()
    module = binding.parse_assembly(text)
    module.verify()
    machine = _machine(target)
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    return module


def object_code(text: str, target: Target) -> bytes:
    """An object file of a module."""
    return bytes(_machine(target).emit_object(optimized(text, target)))


def assembly(text: str, target: Target) -> str:
    """The assembly of a module."""
    return str(_machine(target).emit_assembly(optimized(text, target)))


def _machine(target: Target) -> Any:
    found = llvm().Target.from_triple(target.triple)
    return found.create_target_machine(cpu=target.cpu, features=target.features, opt=2, jit=True)


# ---------------------------------------------------------------- the cache
def _path(text: str, target: Target) -> Path | None:
    """The path of its object file in the cache; None if no folder is safe from other users."""
    folder = _folder()
    if folder is None:
        return None
    version = ".".join(map(str, llvm().llvm_version_info))
    parts = (version, target.triple, target.cpu, target.features, text)
    return folder / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}.o"


def _folder() -> Path | None:
    """A folder that belongs to the user, and that nobody else can write to; None if there is none."""
    base = os.environ.get("XDG_CACHE_HOME")
    with suppress(OSError, RuntimeError):
        folder = (Path(base) if base else Path.home() / ".cache") / "backprop_xp" / "native"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        own = not hasattr(os, "getuid") or found.st_uid == os.getuid()
        if own and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return folder
    return None


def _read(path: Path) -> bytes | None:
    """An object file, if it agrees with the digest before it; else None."""
    with suppress(OSError):
        data = path.read_bytes()
        digest, found = data[:32], data[32:]
        if hashlib.sha256(found).digest() == digest:
            path.touch()
            return found
    return None


def _write(path: Path, data: bytes) -> None:
    """Cache an object file; if it cannot be written, it is compiled again next time."""
    with suppress(OSError):
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        Path(temporary).replace(path)
        files = sorted(path.parent.glob("*.o"), key=lambda each: each.stat().st_mtime)
        for old in files[:-_KEPT]:
            old.unlink(missing_ok=True)
