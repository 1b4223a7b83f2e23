"""Who takes part: a table of contenders, and how one is opened on a work.

A contender is a class with `__init__(work, data, threads, **options)`, where everything is made ready, and
`run(steps)`, which trains on the first stored batches, goes on from the weights of the run before, and gives
the loss of each step. `gemm()`, where there is one, does one product of the work's own size. To add a
contender, add a line here.
"""

from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from ..data import Data
from ..works import Work

STORED = ("W1", "W2", "W3", "W4", "W6")  # works on stored batches
SMALL = ("W1", "W2", "W3", "W4")
EXTRAS = ("numba", "mkl")  # that the library uses where it finds them
CLASSIC = ("W2", "W3")
_EPSILON = 3.0  # Adam's ε added to the root before its correction, as the paper's faster form has it


class Running(Protocol):
    """A contender opened on a work."""

    def run(self, steps: int) -> Any:
        """Train on the first `steps` batches; the losses."""
        ...


@dataclass(frozen=True)
class Contender:
    """One way to do the works.

    Attributes:
        name: for tables.
        family: of contenders that are one rival, such as 'torch'; 'ours' for the library.
        where: "module:class" in this package.
        needs: distributions that must be installed.
        works: beginnings of the names of the works it does; "W5" is the training, "W5r" the reading.
        hides: extras it may not use, though they are installed.
        options: for its class.
        slow: to get ready; left out of quick runs.
        allowance: how many times the tolerance, where its formula is known to differ a little.
        device: it runs on works of the same device.
        seconds: it may take on a GPU, if not the usual time.
    """

    name: str
    family: str
    where: str
    needs: tuple[str, ...] = ()
    works: tuple[str, ...] = STORED
    hides: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    slow: bool = False
    allowance: float = 1.0
    device: str = "cpu"
    seconds: float = 0.0

    def does(self, work: Work) -> bool:
        """Whether it takes part in a work."""
        stem = work.name.partition("/")[0].rstrip("ab")
        return self.device == work.device and stem in self.works

    @property
    def missing(self) -> tuple[str, ...]:
        """What would have to be installed."""
        return tuple(name for name in self.needs if not installed(name))

    def load(self) -> Any:
        """Its class; imports what it needs."""
        module, _, cls = self.where.partition(":")
        return getattr(import_module(f"{__name__}.{module}"), cls)

    def open(self, work: Work, data: Data, threads: int) -> Running:
        """Ready to run."""
        return self.load()(work, data, threads, **self.options)  # type: ignore[no-any-return]


def installed(name: str) -> str:
    """The version of a distribution; empty where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _ours(backend: str, *needs: str) -> Contender:
    options = {"backend": backend}
    return Contender(f"ours {backend}", "ours", "ours:Ours", needs, hides=EXTRAS, options=options)


def _torch(name: str, **options: Any) -> Contender:
    return Contender(f"torch {name}", "torch", "with_torch:Torch", ("torch",), options=options)


def _file(name: str, family: str, where: str, *needs: str, **options: Any) -> Contender:
    works = ("W5r",) if name.endswith("read") else ("W5",)
    return Contender(name, family, where, needs, works, hides=EXTRAS, options=options)


CONTENDERS: tuple[Contender, ...] = (
    _ours("numpy"),
    Contender("ours numpy+numba", "ours", "ours:Ours", ("numba",), ("W1",), ("mkl",), {"warm": True}),
    Contender("ours numpy+mkl", "ours", "ours:Ours", ("mkl",), ("W3", "W4"), ("numba",)),
    _ours("jax", "jax"),
    _ours("torch", "torch"),
    Contender("ours torch compile", "ours", "ours:Ours", ("torch",), SMALL, hides=EXTRAS,
              options={"backend": "torch", "whole": True}, slow=True),
    _torch("eager", fused=False),
    _torch("fused", fused=True),
    Contender("torch compile", "torch", "with_torch:Torch", ("torch",), SMALL,
              options={"fused": True, "compiled": True}, slow=True),
    Contender("jax jit", "jax", "with_jax:Jitted", ("jax",)),
    Contender("jax scan", "jax", "with_jax:Scanned", ("jax",)),
    Contender("plain numpy", "numpy", "plain:Plain"),
    Contender("scikit-learn", "scikit-learn", "with_sklearn:Sklearn", ("scikit-learn",), CLASSIC,
              allowance=_EPSILON),
    Contender("thinc", "thinc", "with_thinc:Thinc", ("thinc",), CLASSIC, allowance=_EPSILON),
    _file("ours numpy file", "ours", "ours:OursFile"),
    _file("ours numpy in memory", "ours", "ours:OursFile", memory=True),
    _file("torch DataLoader", "torch", "with_torch:TorchFile", "torch", rowwise=True),
    _file("torch slices", "torch", "with_torch:TorchFile", "torch"),
    _file("jax slices", "jax", "with_jax:JaxFile", "jax"),
    _file("plain numpy slices", "numpy", "plain:PlainFile"),
    _file("ours read", "ours", "ours:Reading"),
    _file("torch DataLoader read", "torch", "with_torch:Reading", "torch"),
    _file("plain numpy read", "numpy", "plain:Reading"),
)  # fmt: skip


def taking_part(work: Work) -> list[Contender]:
    """Those installed that do this work."""
    return [each for each in CONTENDERS if each.does(work) and not each.missing]


def missing() -> dict[str, str]:
    """Those that cannot take part, with what is missing."""
    return {each.name: ", ".join(each.missing) for each in CONTENDERS if each.missing}


def by_name(name: str) -> Contender:
    """The contender of this name."""
    from ..gpu.works import RACERS

    return next(each for each in (*CONTENDERS, *RACERS) if each.name == name)
