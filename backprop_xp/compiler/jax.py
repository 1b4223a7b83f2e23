"""Compiled functions on JAX: `jax.jit`, and many calls under `jax.lax.scan`."""

from functools import partial
from typing import Any

import numpy

from ..arrays import Array
from ..errors import BackpropError, consumed, no_memory
from ..library import Library
from .compiled import Compiled, Function, batch_size, check_stack
from .ir import leaves, mapped
from .memory import give_back


def _no() -> bool:
    return False


def _same(*state: Any, xp: Any) -> Any:  # noqa: ARG001 (as the functions of a carry)
    return state


class Jitted(Compiled):
    """A function under `jax.jit`, and many calls of it under `jax.lax.scan`.

    A scan keeps the state in the form of `carry`, such as weights split by block, since XLA would cut
    and join a flat vector in every step. Packing and unpacking are programs of their own: inside the
    scan's they would keep XLA from running products on several threads.
    """

    any_length = False
    shares_pages = True

    def __init__(self, library: Library, jax: Any, function: Any, **settings: Any) -> None:
        super().__init__(library, function, **settings)
        self._jax, n, xp = jax, self.donate, library.xp
        self._leaves = jax.tree_util.tree_leaves  # in C: short scans end before Python walks a tree
        self._shapes = jax.eval_shape
        self._not_traced = (
            jax.errors.ConcretizationTypeError,
            jax.errors.TracerArrayConversionError,
            jax.errors.TracerIntegerConversionError,
        )

        def one(*args: Any) -> Any:
            self.check(*args)
            return function(*args, xp=xp)

        def many(*args: Any) -> Any:
            *given, index = args
            self.check(*given)
            state, held, rows = self._parts(given)

            def body(carry: Any, batch: Array) -> Any:
                result = function(*carry, *held, *mapped(rows, lambda a: a[batch]), xp=xp)
                state, out = (tuple(result[:n]), tuple(result[n:])) if n else ((), result)
                check_stack(leaves(out), index.shape[0])  # when it is traced: nothing has run
                return state, out

            state, out = jax.lax.scan(body, state, index)
            return (*state, *out) if n else out

        donated = tuple(range(n))
        self._one, self._many = (jax.jit(f, donate_argnums=donated) for f in (one, many))
        self._pack, self._unpack = (jax.jit(partial(f, xp=xp)) for f in self.carry or (_same, _same))
        self._packs: dict[Any, bool] = {}

    @property
    def compilations(self) -> int:
        """How often XLA compiled the function, by itself or in a scan."""
        return sum(
            f._cache_size()  # noqa: SLF001 (JAX has no public count)
            for f in (self._one, self._many)
        )

    @compilations.setter
    def compilations(self, value: int) -> None:
        """Counted by JAX."""

    def pack(self, *state: Any) -> Any:
        """The state in the form that scans keep, in either form."""
        return self._pack(*state) if self._changes(self._pack, state) else state

    def unpack(self, *state: Any) -> Any:
        """The state in its own form, from either."""
        return self._unpack(*state) if self._changes(self._unpack, state) else state

    def to_device(self, like: Array, a: Array, *, fresh: bool = False) -> Array:
        """Rows for many scans; on the processor after the steps under way, which hold earlier rows."""
        if self.library.owns(a):
            return a if len(like.devices()) == 1 else self._jax.device_put(a, like.device)
        if getattr(like.device, "platform", "") == "cpu":
            like.block_until_ready()
            if fresh and isinstance(a, numpy.ndarray) and a.dtype.itemsize <= 4:  # kept as they are
                a = self._jax.device_put(a, like.device, may_alias=True)
        return super().to_device(like, a)

    def finish(self, state: Any) -> None:
        """Wait for the calls under way, on the processor."""
        for a in self._leaves(state):
            if getattr(a.device, "platform", "") == "cpu":
                a.block_until_ready()

    def _check_there(self, args: Any) -> None:
        """Check that no argument was consumed."""
        if any(getattr(a, "is_deleted", _no)() for a in self._leaves(args)):
            raise consumed()

    def _changes(self, function: Any, state: Any) -> bool:
        """Whether packing or unpacking gives another form than the state has."""
        arrays = self._leaves(state)
        if not arrays:
            return False
        key = function is self._pack, len(arrays), arrays[0].shape
        if key not in self._packs:
            self._packs[key] = len(self._leaves(self._shapes(function, *state))) != len(arrays)
        return self._packs[key]

    def __call__(self, *args: Any) -> Any:
        """One call; the state may be packed."""
        return self._run(self._one, args)

    def scan(self, *args: Any) -> Any:
        """Many calls in one; the state comes back in the form it had."""
        *given, index = args
        batch_size(index)
        state, held, rows = self._parts(given)
        self._check_there(given)
        index = self.index_to_device(rows, index)
        try:
            changes = self._changes(self._pack, state)
            packed = self._pack(*state) if changes else state
        except (TypeError, AttributeError, IndexError):
            self.check(*given)
            raise
        result = self._run(self._many, (*packed, *held, *rows), index)
        if not changes:
            return result
        for a in self._leaves(state):
            a.delete()  # consumed, as the packed one was
        return (*self._unpack(*result[: self.donate]), *result[self.donate :])

    def _run(self, function: Any, args: Any, *index: Array) -> Any:
        if not index:
            self._check_there(args)
        before = self.compilations
        try:
            found = function(*args, *index)
        except self._not_traced as error:
            msg = (
                "a compiled step cannot read a value or use a NumPy function on an array: "
                f"write xp.cos for np.cos, and xp.where for if ({str(error).partition(chr(10))[0]})"
            )
            raise BackpropError(msg) from error
        except (TypeError, AttributeError, BackpropError):  # nothing JAX can take: let the check say why
            self.check(*args)
            raise
        except RuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            state, _, rows = self._parts(args)
            n = index[0].shape[1] if index else max((a.shape[0] for a in leaves(rows) if a.ndim), default=0)
            usable = not any(a.is_deleted() for a in self._leaves(state))
            raise no_memory(n, error, usable=usable) from error
        if self.compilations > before:
            give_back()  # some 60 MB that XLA took to compile a net of half a million weights
        return found


def sum_of_parts(jax: Any, mesh: Any, function: Function, held: Any, parts: Any) -> Array:
    """The sum of a function over parts, of which each device computes some; the same bits for any number.

    A device computes its parts one after the other, all by one program, and adds them up along a fixed
    tree. Then each finishes the tree for a slice of the vector, and all get all slices.

    Args:
        jax: the module.
        mesh: of a power of two of devices, which divides the number of parts.
        function: f(*held, *part) is a vector.
        held: what is the same for all parts, on every device.
        parts: arrays whose first axis counts the parts.
    """
    spec, (axis,), devices = jax.sharding.PartitionSpec, mesh.axis_names, mesh.size
    xp, alone = jax.numpy, jax.lax.optimization_barrier  # XLA would fuse a scan of one part

    def on_device(held: Any, own: Any) -> Array:
        def one(_: None, part: Any) -> tuple[None, Array]:
            return None, alone(function(*held, *alone(part)))

        found = _tree(jax.lax.scan(one, None, own)[1])
        if devices == 1:
            return alone(found)
        slices = xp.pad(found, (0, -found.size % devices)).reshape(devices, -1)
        slices = jax.lax.all_to_all(slices, axis, 0, 0)
        return alone(jax.lax.all_gather(_tree(slices), axis, tiled=True)[: found.size])

    specs = (spec(), spec(axis))
    return jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=spec(), check_vma=False)(held, parts)


def _tree(vectors: Array) -> Array:
    """The sum of the rows of a matrix along a tree of halves, as `step.total` adds up."""
    n = vectors.shape[0]
    return vectors[0] if n == 1 else _tree(vectors[: n // 2]) + _tree(vectors[n // 2 :])
