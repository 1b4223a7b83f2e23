"""The program of a step after each pass of the compiler, to be printed and read."""

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from ..errors import BackpropError
from .cpu.plan import Plan
from .fusion import fuse
from .ir import VIEWS, Program
from .listing import Listing
from .native.listing import MachineCode
from .placement import concat_in_place, write_back
from .simplify import common_subexpressions, dead_code, fold_constants


class StepProgram:
    """The program of a step, after each pass.

    `print` it for the final form, with the buffer that holds each result on the CPU and the kernel that
    computes it on a GPU; index it by the name of a pass for an earlier form.

    Args:
        recorded: the program of step(w, s, *batch) -> (w, s, …).

    Attributes:
        passes: the program after each pass, by the name of the pass.
        plan: its calls and buffers on the CPU.

    >>> import numpy as np, backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(3, bp.layers.Linear(1, bias=False)))
    >>> program = learner.program(np.ones((1, 3), "float32"), np.ones((1, 1), "float32"))
    >>> print(*program.passes, sep=", ")
    recorded, common subexpressions, constants folded, dead code, state written back, parts in place
    """

    def __init__(self, recorded: Program) -> None:
        self.passes: dict[str, Program] = {"recorded": recorded}
        passes: dict[str, Callable[[Program], Program]] = {
            "common subexpressions": common_subexpressions,
            "constants folded": fold_constants,
            "dead code": dead_code,
            "state written back": lambda p: write_back(p, donated=2),
            "parts in place": lambda p: concat_in_place(p, can_write=lambda _: True),
        }
        program = recorded
        for name, each in passes.items():
            program = self.passes[name] = each(program)
        self.plan = Plan(recorded, donate=2, hold=0)
        self._kernels = fuse(recorded, donate=2).kernels
        self._recorded = recorded

    @cached_property
    def native(self) -> MachineCode:
        """The step as machine code for this processor: its kernels, their LLVM IR and assembly.

        Raises:
            BackpropError: there is no machine code for it; the message says why.
        """
        return MachineCode(self._recorded, donate=2)

    def __getitem__(self, name: str) -> Listing:
        """The listing of the program after a pass."""
        return Listing(self.passes[name])

    def __str__(self) -> str:
        program = self.passes["parts in place"]
        columns = {"buffer": self._buffers(program), "kernel": self._kernel_numbers()}
        counts = [f"{name}: {_operations(each)}" for name, each in self.passes.items()]
        size = sum({id(_owner(a)): _owner(a).nbytes for a in self.plan.buffers.values()}.values())
        return "\n".join([
            "operations, pass by pass: " + ", ".join(counts),
            f"on a CPU: {len(self.plan.calls)} NumPy calls, buffers of {size:,} bytes",
            *self._about_native(),
            f"on a GPU: {len(self._kernels)} kernels",
            str(Listing(program, columns)),
        ])  # fmt: skip

    def _about_native(self) -> list[str]:
        """A line on machine code, or on why there is none; nothing where it is turned off."""
        if os.environ.get("BACKPROP_XP_NATIVE") == "0":
            return []
        try:
            return [f"as machine code: {self.native.summary}"]
        except BackpropError as why:
            return [str(why)]

    def _buffers(self, program: Program) -> dict[int, str]:
        """Where each value lies on the CPU: in the state, in a larger vector, or in a shared buffer."""
        names, found, numbers = Listing(program), {}, dict[int, int]()
        state = {ref.value for ref in self.plan.state}
        for op in program.ops:
            owner = self.plan.root(op.out)
            if op.name in VIEWS:
                continue
            if owner in state:
                found[op.out] = names.name(owner)
            elif owner in program.slices:
                whole, start = program.slices[owner]
                found[op.out] = f"{names.name(whole)}[{start}:{start + program.values[owner].size}]"
            elif owner in self.plan.buffers:
                memory = _owner(self.plan.buffers[owner])
                found[op.out] = f"b{numbers.setdefault(id(memory), len(numbers))}"
        return found

    def _kernel_numbers(self) -> Mapping[int, str]:
        return {op.out: f"k{k}" for k, each in enumerate(self._kernels) for op in each.ops}


def _operations(program: Program) -> int:
    return sum(op.name not in VIEWS for op in program.ops)


def _owner(a: Any) -> Any:
    """The array that owns the memory of a view."""
    while a.base is not None:
        a = a.base
    return a
