"""A compiled step on JAX: `jax.jit`, and many steps under `jax.lax.scan`."""

from typing import Any

from ..arrays import Array
from ..errors import no_memory
from ..library import Library
from .compiled import Compiled, Step, batch_size

_FLAT_AT_MOST = 20_000  # weights: with moments, up to so many are updated faster as one vector


class JittedStep(Compiled):
    """A step under `jax.jit`, and many of them under `jax.lax.scan`.

    A scan carries the weights split, one array for each block, since XLA would split and join a flat
    vector in every step. With moments, small nets are the exception: there one long update is faster
    than many short ones.

    Args:
        library: JAX's arrays, and the namespace the step runs on.
        jax: the module.
        step: as for `Compiled`.
        check: likewise.
        layout: of the weights, if the step takes them split.
    """

    def __init__(
        self, library: Library, jax: Any, step: Step, check: Step | None = None, layout: Any = None
    ) -> None:
        super().__init__(library, step, check)
        self.layout = layout

        def one(w: Array, s: Any, x: Array, t: Array) -> Any:
            self.compilations += 1
            self.check(w, s, x, t)
            return step(w, s, x, t, xp=library.xp)

        def many(w: Array, s: Any, x: Array, t: Array, index: Array) -> Any:
            self.compilations += 1
            self.check(w, s, x, t)

            def body(carry: Any, rows: Array) -> Any:
                w, s, loss = step(*carry, x[rows], t[rows], xp=library.xp)
                return (w, s), loss

            split = self.layout is not None and (w.size > _FLAT_AT_MOST or not s.rule.moments)
            carry, losses = jax.lax.scan(body, self._split(w, s) if split else (w, s), index)
            w, s = self._joined(*carry) if split else carry
            return w, s, losses

        self._one, self._many = (jax.jit(f, donate_argnums=(0, 1)) for f in (one, many))

    def _split(self, w: Array, s: Any) -> tuple[Any, Any]:
        xp = self.library.xp
        moments = tuple(self.layout.split_learning(m, xp=xp) for m in s.rule.moments)
        return self.layout.split(w, xp=xp), s._replace(rule=s.rule._replace(moments=moments))

    def _joined(self, w: Any, s: Any) -> tuple[Array, Any]:
        xp = self.library.xp

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
            return function(w, s, x, t, *(self.index_to_device(w, x, each) for each in index))
        except (TypeError, AttributeError):  # an argument that JAX does not know
            self.check(w, s, x, t)
            raise
        except RuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            rows = index[0].shape[1] if index else x.shape[0]
            raise no_memory(rows, error, usable=not w.is_deleted()) from error
