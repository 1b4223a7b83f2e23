"""Binding a compiled function to a state and to held arguments: what all CPU targets share."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..library import Library
from .ir import leaves, mapped


class Bound:
    """A state that changes in place, and held arguments that are read where they are.

    Args:
        state: the state; changed in place from now on.
        held: the held arguments.
        library: of their arrays.

    Attributes:
        state: the state as it is returned.
        memory: its arrays, as NumPy arrays.
        read: the arrays of the held arguments, as C-contiguous NumPy arrays.
        rows: the buffers for the rows.
        out: the buffers of the results beside the state.
    """

    rows: list[Any]
    out: list[Any]
    run: Callable[[], None]

    def __init__(self, state: Any, held: Any, library: Library) -> None:
        self.held = held
        self.memory: list[Any] = []
        self.state = mapped(state, lambda a: library.from_host(self._writable(library.to_host(a)), a))
        self._given = leaves((self.state, held))
        where = [np.asarray(library.to_host(a)) for a in leaves(held)]
        self._copied = not all(a.flags.c_contiguous for a in where)
        self.read = [np.ascontiguousarray(a) for a in where]

    def holds(self, state: Any, held: Any) -> bool:
        """Whether it is bound to this very state and these held arguments."""
        if self._copied:
            return False
        if all(map(operator.is_, (*state, *held), (*self.state, *self.held))):
            return True
        given = leaves((state, held))
        return len(given) == len(self._given) and all(map(operator.is_, given, self._given))

    def into(self, out: Any) -> None:
        """One call, whose one result is written to an array."""
        self.run()
        out[...] = self.out[0]

    def _writable(self, a: Any) -> Any:
        """The array of a state, or a copy of it where it cannot be changed in place."""
        own = isinstance(a, np.ndarray) and a.flags.writeable and a.flags.c_contiguous
        self.memory.append(a if own else np.array(a))
        return self.memory[-1]
