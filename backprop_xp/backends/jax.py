"""JAX: compiled by XLA for CPU, GPU and TPU."""

from copy import copy
from typing import Any

import numpy

from ..arrays import Array, BackpropError, Namespace, listed
from ._base import Backend, Compiled, Step, batch_size, no_memory, unavailable

TYPES = ("jax", "jaxlib")
_PRECISIONS = {"float32": "highest", "tf32": "high", "bfloat16": "default"}  # JAX's own names
_FLAT_AT_MOST = 20_000  # weights of a rule with moments


class Jax(Backend):
    """jax.numpy is its own Array API namespace."""

    name = "jax"

    def __init__(self) -> None:
        import jax

        self.jax = jax
        self.xp = jax.numpy

    def owns(self, a: Any) -> bool:
        """Arrays, and what stands for them while JAX traces."""
        return isinstance(a, self.jax.Array)

    def device(self, name: Any) -> Any:
        """A platform ("cpu", "gpu"), one of its devices ("gpu:1"), or a JAX device."""
        if not isinstance(name, str):
            return name
        platform, _, number = name.partition(":")
        try:
            return self.jax.devices(platform)[int(number or 0)]
        except (RuntimeError, IndexError, ValueError) as error:
            here = ", ".join(str(d) for d in self.jax.devices())
            msg = f"JAX has no device {name!r}; it has {here}"
            raise BackpropError(msg) from error

    def device_of(self, a: Array) -> Any:
        """The device; None while JAX traces."""
        return None if isinstance(a, self.jax.core.Tracer) else a.device

    def dtype(self, name: str | None) -> Any:
        """The type of this name; 64 bits need JAX_ENABLE_X64."""
        if name in ("float64", "int64") and not self.jax.config.jax_enable_x64:
            msg = (
                f"JAX has {name} only with JAX_ENABLE_X64=1 in the environment; set it, or use {name[:-2]}32"
            )
            raise BackpropError(msg)
        return super().dtype(name)

    def asarray(self, data: Any, dtype: Any, device: Any) -> Array:
        """Lists, NumPy arrays or JAX arrays, as a JAX array."""
        if not isinstance(data, self.jax.Array):
            data = numpy.array(data)  # a copy: JAX may keep host memory, which NumPy steps write into
        return self.xp.asarray(data, dtype=dtype, device=device)

    def to_host(self, a: Array) -> Any:
        """A NumPy copy."""
        return numpy.asarray(a)

    def precise(self, precision: str | None, *, scaled: bool = True) -> "Jax":
        """This backend, its products of float32 computed in another precision.

        Without one JAX chooses, and takes tf32 on a GPU that has it. On the CPU tf32 is float32.
        """
        if precision is None:
            return self
        if precision not in _PRECISIONS:
            msg = f"the precision of products on JAX is one of {listed(_PRECISIONS)}, got {precision!r}"
            raise BackpropError(msg)
        other = copy(self)
        other.xp = _Precise(self.xp, precision)
        return other

    def compile(self, step: Step, check: Step | None = None, layout: Any = None) -> Compiled:
        """`jax.jit` and `jax.lax.scan`, weights and state donated."""
        return Jitted(self, step, check, layout)

    def synchronize(self) -> None:
        """Wait for all devices."""
        self.jax.effects_barrier()


class _Precise:
    """jax.numpy with products of float32 in a precision of choice; sums are float32."""

    def __init__(self, xp: Namespace, precision: str) -> None:
        self._xp, self._precision = xp, precision

    def __getattr__(self, name: str) -> Any:
        return getattr(self._xp, name)

    def matmul(self, a: Array, b: Array) -> Array:
        """The product a b."""
        xp = self._xp
        if a.dtype != xp.float32:
            return xp.matmul(a, b)
        if self._precision == "bfloat16":
            a, b = (xp.astype(factor, xp.bfloat16) for factor in (a, b))
        return xp.matmul(a, b, precision=_PRECISIONS[self._precision], preferred_element_type=xp.float32)


class Jitted(Compiled):
    """A step under `jax.jit`, and many of them under `jax.lax.scan`.

    Inside a scan the weights are carried split, one array a block, since XLA cuts and joins a flat
    vector in every step. Only moments turn this round: up to some thousand weights one long update
    is faster than many short ones.
    """

    def __init__(self, backend: Jax, step: Step, check: Step | None = None, layout: Any = None) -> None:
        super().__init__(backend, step, check)
        jax, self.layout = backend.jax, layout

        def one(w: Array, s: Any, x: Array, t: Array) -> Any:
            self.compilations += 1
            self.check(w, s, x, t)
            return step(w, s, x, t, xp=backend.xp)

        def many(w: Array, s: Any, x: Array, t: Array, index: Array) -> Any:
            self.compilations += 1
            self.check(w, s, x, t)

            def body(carry: Any, rows: Array) -> Any:
                w, s, loss = step(*carry, x[rows], t[rows], xp=backend.xp)
                return (w, s), loss

            split = self.layout is not None and (w.size > _FLAT_AT_MOST or not s.rule.moments)
            carry, losses = jax.lax.scan(body, self._split(w, s) if split else (w, s), index)
            w, s = self._joined(*carry) if split else carry
            return w, s, losses

        self._one, self._many = (jax.jit(f, donate_argnums=(0, 1)) for f in (one, many))

    def _split(self, w: Array, s: Any) -> tuple[Any, Any]:
        xp = self.backend.xp
        moments = tuple(self.layout.split_learning(m, xp=xp) for m in s.rule.moments)
        return self.layout.split(w, xp=xp), s._replace(rule=s.rule._replace(moments=moments))

    def _joined(self, w: Any, s: Any) -> tuple[Array, Any]:
        xp = self.backend.xp

        def joined(blocks: Any) -> Array:
            return xp.concat([xp.reshape(block, (-1,)) for block in blocks])

        moments = tuple(joined(m) for m in s.rule.moments)
        return joined(w), s._replace(rule=s.rule._replace(moments=moments))

    def __call__(self, w: Array, s: Any, x: Array, t: Array) -> tuple[Array, Any, Array]:
        """One step."""
        return self._run(self._one, w, s, x, t)  # type: ignore[no-any-return]

    def scan(self, w: Array, s: Any, x: Array, t: Array, index: Array) -> tuple[Array, Any, Array]:
        """Many steps in one call."""
        batch_size(index)
        return self._run(self._many, w, s, x, t, index)  # type: ignore[no-any-return]

    def _run(self, function: Step, w: Array, s: Any, x: Array, t: Array, *index: Array) -> Any:
        try:
            return function(w, s, x, t, *(self.placed(w, x, each) for each in index))
        except (TypeError, AttributeError):  # what came is nothing that JAX knows
            self.check(w, s, x, t)
            raise
        except RuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            rows = index[0].shape[1] if index else x.shape[0]
            raise no_memory(rows, error, usable=not w.is_deleted()) from error


def load() -> Backend:
    """The JAX backend."""
    try:
        return Jax()
    except ImportError as error:
        raise unavailable(library="JAX", extra="jax") from error
