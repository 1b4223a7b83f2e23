"""The table of contenders, and how one is opened on a work.

A contender is a class with `__init__(work, data, threads, **options)`, which prepares everything, and
`run(steps)`, which goes on from the weights of the run before, trains on the stored batches in order, again
and again, and returns the loss of each step. In works of whole epochs, a step is an epoch in random order,
and every run begins with the first weights; there, `check(steps)` does the same in the rows' own order, for
the comparison with the reference. A contender may also have `gemm()`, one matrix product of the work's
size, and `facts()`, further figures for the results. It keeps no reference to `data`, whose weights would
count as its memory. To add a contender, add a line here.
"""

from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..data import Data
from ..works import Work

_EPSILON = 3.0  # allowance for contenders that add Adam's ε before they correct the bias of the root
_SMALL = ("W1", "W2", "W3", "W4")
_STORED = (*_SMALL, "W6")
_REGULAR = ("W9",)
_LLVM = ("llvmlite",)
_GPU = ("G1", "G2", "G2'", "G3", "G3d", "G4", "G4'")
_STREAMS = ("G5", "G5u8")
_CPU, _CUDA, _BOTH = ("cpu",), ("cuda",), ("cpu", "cuda")


@dataclass(frozen=True)
class Contender:
    """One library, or one way to use it.

    Attributes:
        name: its name in tables; the first word is the family, 'ours' for the library.
        where: "module:class"; the module's name is absolute, or begins with a dot for one of this package.
        needs: distributions that must be installed.
        works: the stems of the works it can run.
        devices: the devices it runs on.
        options: arguments for its class.
        slow: whether it takes long to prepare: then quick runs leave it out, and others give it more time.
        seconds: how long it may take; 0 for the usual time.
        allowance: a factor for the tolerance, where its formula is known to differ a little.
    """

    name: str
    where: str
    needs: tuple[str, ...]
    works: tuple[str, ...]
    devices: tuple[str, ...] = _CPU
    options: dict[str, Any] = field(default_factory=dict)
    slow: bool = False
    seconds: float = 0.0
    allowance: float = 1.0

    @property
    def missing(self) -> tuple[str, ...]:
        """The distributions it needs that are not installed."""
        return tuple(name for name in self.needs if not installed(name))

    def does(self, work: Work) -> bool:
        """Whether it can run a work."""
        return work.device in self.devices and work.stem in self.works

    def load(self) -> Any:
        """Import its class, and with it the libraries it needs."""
        module, _, cls = self.where.partition(":")
        return getattr(import_module(module, __name__), cls)

    def open(self, work: Work, data: Data, threads: int) -> Any:
        """Prepare it to run a work."""
        return self.load()(work, data, threads, **self.options)


def family(name: str) -> str:
    """The library a contender belongs to, such as 'torch'."""
    return name.partition(" ")[0]


def installed(name: str) -> str:
    """The version of a distribution; empty where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _ours(name: str, needs: tuple[str, ...], works: tuple[str, ...], devices: tuple[str, ...],
          **options: Any) -> Contender:  # fmt: skip
    return Contender(f"ours {name}", ".ours:Ours", needs, works, devices, options)


def _torch(name: str, cls: str, works: tuple[str, ...], devices: tuple[str, ...],
           **options: Any) -> Contender:  # fmt: skip
    slow = options.get("compiled", False)
    return Contender(f"torch {name}", f".with_torch:{cls}", ("torch",), works, devices, options, slow)


CONTENDERS: tuple[Contender, ...] = (
    # a quick run moves all works to the CPU, hence those of a GPU here
    _ours("numpy", (), (*_STORED, *_REGULAR, *_GPU, *_STREAMS), _CPU),
    _ours("native", _LLVM, (*_STORED, *_REGULAR), _CPU, native=True),
    _ours("torch native", ("torch", *_LLVM), ("W2", "W3", *_REGULAR), _CPU, backend="torch", native=True),
    _ours("cupy", (), (*_GPU, *_STREAMS), _CUDA, backend="cupy"),
    _ours("cupy 256 a graph", (), ("G4",), _CUDA, backend="cupy", steps_of_a_graph=256),
    _ours("cupy no epilogues", (), ("G1", "G2", "G4"), _CUDA, backend="cupy", epilogues=False),
    _ours("cupy timed", (), ("G1", "G2", "G3", "G4"), _CUDA, backend="cupy", timed=True),
    _ours("cupy eager", (), ("G1", "G2", "G4"), _CUDA, backend="cupy", eager=True),
    _ours("cupy resident", (), _STREAMS, _CUDA, backend="cupy", resident=True),
    _ours("jax", ("jax",), (*_STORED, *_REGULAR, *_GPU), _BOTH, backend="jax"),
    _ours("torch", ("torch",), (*_STORED, *_REGULAR, *_GPU), _BOTH, backend="torch"),
    Contender("ours numpy fit", ".ours:Fit", (), ("W0",)),
    Contender("ours native fit", ".ours:Fit", _LLVM, ("W0",), options={"native": True}),
    Contender("ours native file", ".ours:FromFile", _LLVM, ("W5",), options={"native": True}),
    Contender("ours numpy scans", ".ours:Scans", (), ("W0",)),
    Contender("ours numpy file", ".ours:FromFile", (), ("W5",)),
    Contender("ours numpy in memory", ".ours:FromFile", (), ("W5",), options={"memory": True}),
    Contender("ours read", ".ours:Reading", (), ("W5r",)),
    _torch("eager", "Torch", (*_STORED, *_GPU), _BOTH, fused=False),
    _torch("fused", "Torch", (*_STORED, *_GPU), _BOTH),
    _torch("compile", "Torch", (*_SMALL, *_GPU), _BOTH, compiled=True),
    _torch("regular eager", "Regular", _REGULAR, _CPU, fused=False),
    _torch("regular fused", "Regular", _REGULAR, _CPU),
    _torch("regular compile", "Regular", _REGULAR, _CPU, compiled=True),
    _torch("graph", "Graphed", _GPU, _CUDA),
    Contender("jax jit", ".with_jax:Jitted", ("jax",), _STORED),
    Contender("jax scan", ".with_jax:Scanned", ("jax",), (*_STORED, *_GPU), _BOTH),
    Contender("plain numpy", ".plain:Plain", (), (*_STORED, "W5", "G4"), _BOTH),
    Contender("plain numpy out", ".plain:Buffered", (), _STORED),
    Contender("numba", ".with_numba:Loop", ("numba",), ("W1",)),
    Contender("scikit-learn", ".with_sklearn:Sklearn", ("scikit-learn",), ("W2", "W3"), allowance=_EPSILON),
    Contender("scikit-learn fit", ".with_sklearn:Fit", ("scikit-learn",), ("W0",), allowance=_EPSILON),
    _torch("fused fit", "Epochs", ("W0",), _CPU),
    Contender("plain numpy fit", ".plain:Epochs", (), ("W0",)),
    Contender("thinc", ".with_thinc:Thinc", ("thinc",), ("W2", "W3"), allowance=_EPSILON),
    # batches from a file, or from the host to a GPU
    _torch("DataLoader", "Loaded", ("W5",), _CPU),
    _torch("slices", "Sliced", ("W5", *_STREAMS), _BOTH),
    _torch("pinned", "Pinned", _STREAMS, _CUDA),
    Contender("jax slices", ".with_jax:Sliced", ("jax",), ("W5", *_STREAMS), _BOTH),
    _torch("DataLoader read", "Reading", ("W5r",), _CPU),
    Contender("plain numpy read", ".plain:Reading", (), ("W5r",)),
)
_FLOAT64 = {"dtype": "float64"}
REFERENCES: tuple[Contender, ...] = (  # the first of them that runs is used
    Contender("reference on the GPU", ".plain:Plain", (), ("G1", "G2", "G2'", "G3", "G3d", *_STREAMS), _CUDA,
              _FLOAT64 | {"library": "cupy"}),
    Contender("reference on the host", ".plain:Plain", (), (*_STORED, "W5", *_GPU, *_STREAMS), _BOTH,
              _FLOAT64),
    Contender("reference by torch", ".with_torch:Regular", ("torch",), _REGULAR, _CPU,
              {"fused": False, "double": True}),
    Contender("reference in epochs", ".plain:Epochs", (), ("W0",), _CPU, _FLOAT64),
    Contender("reference", ".plain:Reading", (), ("W5r",)),
)  # fmt: skip


def missing(device: str) -> dict[str, str]:
    """The contenders that cannot take part on a device, with what is missing."""
    return {
        each.name: ", ".join(each.missing) for each in CONTENDERS if each.missing and device in each.devices
    }
