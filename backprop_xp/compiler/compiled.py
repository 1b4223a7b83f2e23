"""The interface of a compiled function. In this base class it is not compiled: it runs eagerly."""

import os
from collections.abc import Callable
from typing import Any

import numpy

from ..arrays import Array
from ..errors import BackpropError
from ..library import Library
from .ir import leaves, mapped

Function = Callable[..., Any]
Carry = tuple[Function, Function]  # pack(*state) and unpack(*state), for the form a scan keeps
LARGEST_STACK = 256 << 20  # bytes that a scan may stack


class Compiled:
    """A function f(*state, *held, *rows, xp=…) -> (*new_state, *out), to be called many times.

    A call consumes the state: its memory may hold the new state afterwards. Held arguments and rows
    are left as they are, and what is returned beside the state belongs to the caller. Every argument
    may be a tree of arrays, in tuples and dicts.

    Args:
        library: of the arrays.
        function: pure but for its state.
        donate: how many leading arguments are state, replaced by as many leading results; with 0 the
            function may return anything.
        hold: how many arguments after them stay the same from row to row, such as the weights of a
            prediction.
        carry: two functions of the library's arrays, from the state to the form that a scan keeps
            between its steps and back, or None where it is the same.
        check: called with all arguments before their signature is met for the first time.
        native: whether to compile to machine code, for libraries whose arrays are in the host's memory;
            None: yes, unless the environment variable BACKPROP_XP_NATIVE is 0.

    Attributes:
        compilations: how often the function was compiled, once for each signature.
        code: whose code runs; results of other code may differ in the last bits.
        any_length: whether a scan of another length runs without compiling again.
        shares_pages: whether `to_device` shares the memory of fresh rows that begin at a page.
    """

    any_length = True
    code = "the library's"
    shares_pages = False

    def __init__(
        self,
        library: Library,
        function: Function,
        *,
        donate: int = 0,
        hold: int = 0,
        carry: Carry | None = None,
        check: Function | None = None,
        native: bool | None = None,
    ) -> None:
        self.library, self.function = library, function
        self.donate, self.hold, self.carry = donate, hold, carry
        self.check: Function = check or (lambda *_: None)
        self.native = os.environ.get("BACKPROP_XP_NATIVE") != "0" if native is None else native
        self.compilations = 0

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__).lower()
        times = f"{self.compilations} time{'' if self.compilations == 1 else 's'}"
        return f"{type(self).__name__}({name} on {self.library.name}, compiled {times})"

    def code_for(self, a: Array) -> str:
        """The `code` for arrays like this one."""
        return self.code

    def __call__(self, *args: Any) -> Any:
        """One call; consumes the state."""
        self.check(*args)
        return self.function(*args, xp=self.library.xp)

    def into(self, out: Array, *args: Any) -> None:
        """One call, whose one result is written to `out`: an array of NumPy's, or of the library."""
        found = self(*args)
        out[...] = found if self.library.owns(out) else self.library.to_host(found)

    def scan(self, *args: Any) -> Any:
        """One call for each row of index, in order, on those rows.

        Args:
            args: the state (consumed), what is held, rows in any number, and last the index: integers
                of shape (steps, batch), of the library or NumPy's.

        Returns:
            The new state, then what the calls returned beside it, stacked along a new first axis.

        Raises:
            BackpropError: the rows have wrong shapes, or an index on the host names rows that do not exist.
                An index on a device is not read.
        """
        *given, index = args
        batch_size(index)
        self.check(*given)
        state, held, rows = self._parts(given)
        xp, found = self.library.xp, []
        index = self.index_to_device(rows, index)
        if not index.shape[0]:
            msg = f"a scan that is not compiled needs at least one step, got an index of shape {index.shape}"
            raise BackpropError(msg)

        def gathered(k: int) -> Any:
            return mapped(rows, lambda a: xp.take(a, index[k, :], axis=0))

        for k in range(index.shape[0]):
            result = self.function(*state, *held, *gathered(k), xp=xp)
            if self.donate:
                state, result = result[: self.donate], result[self.donate :]
            found.append(result)
        stacked = stack(found, xp.stack)
        return (*state, *stacked) if self.donate else stacked

    def pack(self, *state: Any) -> Any:
        """The state in the form that scans keep; a scan takes either form and returns the one it got."""
        return state

    def unpack(self, *state: Any) -> Any:
        """The state in its own form, from either."""
        return state

    def to_device(self, like: Array, a: Array, *, fresh: bool = False) -> Array:
        """Rows for many scans, on the device of another array; NumPy arrays are copied there.

        Args:
            like: the other array.
            a: the rows.
            fresh: whether nobody else holds them, so that their memory may be shared.

        Raises:
            BackpropError: the library would change their precision.
        """
        if not isinstance(a, numpy.ndarray) or self.library.owns(a):  # strict and exact leave it to the check
            return a
        sent = self.library.asarray(a, None, self.library.device_of(like))
        if a.dtype.kind == "f" and sent.dtype.itemsize != a.dtype.itemsize:
            msg = f"rows of {a.dtype} would become {sent.dtype} on the device: convert them first"
            raise BackpropError(msg)
        return sent

    def finish(self, state: Any) -> None:
        """Wait for the calls under way that lead to this state, where they hold rows in the host's memory."""

    def index_to_device(self, rows: Any, index: Array) -> Array:
        """An index on the device of the rows; one on the host is checked first."""
        if not isinstance(index, numpy.ndarray):
            return index
        first = leaves(rows)[0]
        check_rows(index, first)
        return self.library.asarray(index, self.library.xp.int32, self.library.device_of(first))

    def _parts(self, args: Any) -> tuple[Any, Any, Any]:
        """State, held arguments and rows."""
        k, n = self.donate, self.donate + self.hold
        return tuple(args[:k]), tuple(args[k:n]), tuple(args[n:])


def stack(results: list[Any], stacked: Callable[[list[Array]], Array]) -> Any:
    """Results of one structure as one tree, each of its arrays stacked along a new first axis.

    >>> stack([(1, {"a": numpy.zeros(2)}), (1, {"a": numpy.ones(2)})], numpy.stack)
    (1, {'a': array([[0., 0.],
           [1., 1.]])})
    """
    columns = iter([stacked(list(column)) for column in zip(*map(leaves, results), strict=True)])
    return mapped(results[0], lambda _: next(columns))


def check_stack(like: list[Any], steps: int) -> None:
    """Check that a scan does not stack too much.

    Raises:
        BackpropError: its results would take more than LARGEST_STACK bytes, 256 MiB.
    """
    size = steps * sum(a.nbytes for a in like)
    if size > LARGEST_STACK:
        msg = (
            f"{steps} steps would stack {size / 1e6:,.0f} MB of results, more than the "
            f"{LARGEST_STACK / 1e6:,.0f} MB that a scan keeps: scan fewer steps at once, or watch less"
        )
        raise BackpropError(msg)


def batch_size(index: Array) -> int:
    """The batch size of an index.

    Raises:
        BackpropError: the index is not an array of integers of shape (steps, batch), or batch is 0.
    """
    shape: tuple[Any, ...] = getattr(index, "shape", ())
    if len(shape) != 2 or "int" not in str(index.dtype):
        got = (
            f"shape {tuple(shape)} and dtype {index.dtype}"
            if hasattr(index, "dtype")
            else type(index).__name__
        )
        msg = f"an index must be an array of integers of shape (steps, batch), got {got}"
        raise BackpropError(msg)
    if not shape[1]:
        msg = f"each step of an index needs at least one row, got (steps, batch) = {tuple(shape)}"
        raise BackpropError(msg)
    return int(shape[1])


def check_rows(index: Array, x: Array) -> None:
    """Check that x has every row that an index on the host names."""
    if index.size and not 0 <= index.min() <= index.max() < x.shape[0]:
        msg = f"the rows of an index must be 0 to {x.shape[0] - 1}, got {index.min()} to {index.max()}"
        raise BackpropError(msg)
