"""The works of a GPU and who does them, as data, the most telling first."""

from dataclasses import replace
from typing import Any

from ..contenders import Contender
from ..works import Work

_ALL = ("G1", "G2", "G2'", "G3", "G3d", "G4", "G4'")
_STREAMS = ("G5", "G5u8")
_MEDIUM = (784, 512, 256, 10)
_DEEP = (4096,) * 9
_MOST = {"unit": "µs", "device": "gpu", "threads": (4,), "seconds": 0.3}
_SQUARES: dict[str, Any] = {"loss": "half_squared_error", "rate": 1e-5, "unit": "ms", "check": 3, "least": 3}
_LARGE = (1024, 4096, 4096, 1024)


def _work(name: str, title: str, widths: tuple[int, ...], batch: int, steps: int, **more: Any) -> Work:
    return Work(name, title, widths, batch, steps, **_MOST | {"check": 20, "least": 20} | more)


_G2 = _work("G2", "784-512-256-10 ReLU, softmax, Adam, batch 128", _MEDIUM, 128, 64)
_G3 = _work("G3/tf32", "1024-4096-4096-1024 ReLU, Adam, batch 8192, tf32", _LARGE, 8192, 4,
            precision="tf32", tolerance=2e-3, **_SQUARES)  # fmt: skip
_DEEP_ONE = replace(
    _G3, name="G3d/tf32", title="8 layers of 4096, Adam, batch 16384, tf32", widths=_DEEP, batch=16384,
    steps=2, check=2, least=2, tolerance=5e-3,
)  # fmt: skip
_BF16: dict[str, Any] = {"precision": "bfloat16", "tolerance": 2e-2}

WORKS: tuple[Work, ...] = (
    _work("G1", "64 wide, 4 layers, ReLU, softmax, Adam, batch 256", (64,) * 5, 256, 64),
    _G2,
    _work("G4", "one sample at a time, 784-30-10, gradient descent", (784, 30, 10), 1, 2048, check=64,
          least=64, update="gradient_descent", rate=0.01),
    _G3,
    replace(_G2, name="G2'", title="784-512-256-10, batch 4096, tf32", batch=4096, steps=8,
            precision="tf32", tolerance=2e-3),
    replace(_G2, name="G5", title="784-512-256-10, batch 4096, float32 from the host", batch=4096, steps=32,
            check=32, least=32),
    replace(_G2, name="G5u8", title="784-512-256-10, batch 4096, uint8 from the host", batch=4096, steps=32,
            check=32, least=32, source="uint8"),
    replace(_G3, name="G3/bf16", title="1024-4096-4096-1024, batch 8192, bfloat16", **_BF16),
    _work("G4'", "1024-4096-4096-1024, gradient descent, batch 1", _LARGE, 1, 64,
          update="gradient_descent", **_SQUARES | {"unit": "µs", "check": 8, "least": 8}),
    _DEEP_ONE,
    replace(_DEEP_ONE, name="G3d/bf16", title="8 layers of 4096, batch 16384, bfloat16", **_BF16),
)  # fmt: skip


def _ours(name: str, backend: str, needs: tuple[str, ...], works: tuple[str, ...], **more: Any) -> Contender:
    options = {"backend": backend, **more}
    return Contender(f"ours {name}", "ours", "gpu_ours:Ours", needs, works, options=options, device="gpu")


def _torch(name: str, works: tuple[str, ...], cls: str = "Torch", **more: Any) -> Contender:
    seconds = 180.0 if more.get("compiled") else 0.0
    return Contender(f"torch {name}", "torch", f"gpu_torch:{cls}", ("torch",), works, options=more,
                     device="gpu", seconds=seconds)  # fmt: skip


CONTENDERS: tuple[Contender, ...] = (
    _ours("cupy", "cupy", (), (*_ALL, *_STREAMS)),
    _ours("cupy 256 a graph", "cupy", (), ("G4",), updates=256),
    _ours("cupy eager", "cupy", (), ("G1", "G2", "G4"), eager=True),
    _ours("cupy resident", "cupy", (), _STREAMS, resident=True),
    _ours("torch gpu", "torch", ("torch",), _ALL),
    _ours("jax gpu", "jax", ("jax",), _ALL),
    _torch("eager gpu", _ALL),
    _torch("fused gpu", _ALL, fused=True),
    _torch("compile gpu", _ALL, fused=True, compiled=True),
    _torch("graph gpu", _ALL, "Graphed"),
    _torch("slices gpu", _STREAMS, "Streamed"),
    _torch("pinned gpu", _STREAMS, "Streamed", pinned=True),
    Contender("jax scan gpu", "jax", "gpu_jax:Scanned", ("jax",), _ALL, device="gpu"),
    Contender("jax slices gpu", "jax", "gpu_jax:Streamed", ("jax",), _STREAMS, device="gpu"),
    Contender("plain numpy host", "numpy", "gpu_plain:Host", (), ("G4",), device="gpu"),
)
REFERENCES = (
    Contender("reference on the GPU", "numpy", "gpu_plain:OnCuPy", (), _ALL, device="gpu"),
    Contender("reference on the host", "numpy", "gpu_plain:Reference", (), _ALL, device="gpu"),
)
DRY: tuple[Contender, ...] = (
    replace(_ours("numpy dry", "numpy", (), ("G1", "G4", *_STREAMS)), device="cpu"),
    replace(_ours("numpy dry eager", "numpy", (), ("G1",), eager=True), device="cpu"),
    Contender("plain numpy dry", "numpy", "gpu_plain:Host", (), ("G1", "G4", *_STREAMS)),
)
PLANTED = (
    Contender("planted failure", "numpy", "planted:Failing", (), ("G1",), seconds=5.0),
    Contender("planted hang", "numpy", "planted:Hanging", (), ("G1",), seconds=0.5),
    Contender("planted late hang", "numpy", "planted:HangingLate", (), ("G1",), seconds=1.5),
)
RACERS = (*CONTENDERS, *DRY, *PLANTED)


def dry() -> list[Work]:
    """Some of the works, small and for the processor, to see in seconds that all of it runs."""
    small: dict[str, Any] = {"device": "cpu", "threads": (1,), "seconds": 0.01, "check": 4, "least": 4}
    return [
        replace(work, widths=(12, 8, 4), batch=min(work.batch, 16), steps=8, precision="float32", **small)
        for work in WORKS
        if work.name in ("G1", "G4", "G5u8")
    ]


def find(wanted: str, works: list[Work]) -> list[Work]:
    """The works of these names, parted by commas, G3 meaning all that begin with G3/; all without names.

    Raises:
        ValueError: a name that no work has.
    """
    words = [word for word in wanted.split(",") if word]
    known = {work.name for work in works} | {work.name.partition("/")[0] for work in works}
    if unknown := [word for word in words if word not in known]:
        msg = f"there is no work {unknown[0]!r} here; there are {', '.join(work.name for work in works)}"
        raise ValueError(msg)
    return [work for work in works if not words or {work.name, work.name.partition("/")[0]} & set(words)]
