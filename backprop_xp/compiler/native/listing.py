"""Machine code for people to read: the kernels of a program, their LLVM IR and their assembly."""

from ...errors import BackpropError
from ..ir import Program
from ..listing import Listing, aligned
from . import machine
from .function import Unknown
from .module import Call, Module


class MachineCode:
    """The kernels of a program as machine code for this processor.

    `print` it for the kernels, each with the equations it computes; ask for the `ir` or the `assembly` of
    one by its name.

    Args:
        program: the program of f(*state, …) -> (*new_state, *results).
        donate: how many of its arguments are state.

    Raises:
        BackpropError: there is no machine code for it; the message says why.
    """

    def __init__(self, program: Program, donate: int) -> None:
        try:
            self.target = machine.host()
            integers = {dtype: integer for dtype, (_, integer) in machine.gemm().items()}
            self.module = Module(program, donate, 0, None, self.target, integers)
        except ImportError as error:
            msg = "no machine code: llvmlite is not installed; pip install backprop-xp[fast]"
            raise BackpropError(msg) from error
        except Unknown as error:
            msg = f"no machine code: there is none for {error}; the step runs as NumPy calls"
            raise BackpropError(msg) from error

    @property
    def summary(self) -> str:
        """How many kernels and functions there are, and for which processor."""
        calls = self.module.calls
        functions = len({call.function for call in calls})
        return f"{len(calls)} kernels, {functions} functions, for {self.target.cpu}"

    def __str__(self) -> str:
        listing = Listing(self.module.fused.program)
        lines = []
        for call in self.module.calls:
            origins = dict.fromkeys(op.origin for op in call.kernel.ops)
            lines.append(call.function)
            lines += [f"  # {part}: {equation}" for part, equation in origins]
            statements = [(f"    {listing.statement(op)}",) for op in call.kernel.ops]
            lines += aligned(statements)
        return "\n".join(lines)

    @property
    def names(self) -> list[str]:
        """The functions, in the order in which they first run."""
        return list(dict.fromkeys(call.function for call in self.module.calls))

    def kernels(self, equation: str) -> list[str]:
        """The functions that compute some of these equations, or parts of the step, such as "dense1"."""
        return list(dict.fromkeys(c.function for c in self.module.calls if self._is_of(c, equation)))

    @staticmethod
    def _is_of(call: Call, equation: str) -> bool:
        return any(equation in f"{part}: {text}" for part, text in (op.origin for op in call.kernel.ops))

    def ir(self, name: str | None = None) -> str:
        """The LLVM IR of a kernel; without a name, of the whole module.

        Raises:
            BackpropError: there is no such kernel.
        """
        if name is None:
            return self.module.text
        if name not in self.names:
            msg = f"there is no kernel {name!r}: the kernels are {', '.join(self.names)}"
            raise BackpropError(msg)
        return self.module.function_text(name)

    def assembly(self, name: str | None = None) -> str:
        """The optimized assembly of a kernel, or without a name of the whole module."""
        text = self.ir(name)
        if name is not None:
            text = "\n".join([*self.module.declared, text.replace("define internal", "define", 1)])
        return machine.assembly(text, self.target)
