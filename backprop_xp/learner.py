"""The learner: `init` once, then `step` for every batch.

This is the public boundary: here arguments are checked, and backends and initial values are chosen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import backends, rng
from .arrays import Array, Namespace
from .backends import Backend
from .checks import check_batch, check_block, check_inputs, check_names, check_state, check_vector
from .compiler.compiled import Compiled
from .errors import BackpropError, listed
from .initialization import initial_values
from .losses import Loss
from .net import Net
from .params import Block, join
from .step import LAYER_STREAMS, State, Step
from .updates import GradientDescent, RuleState, Update

_WEIGHTS = 0  # the stream of random bits for initial weights


@dataclass(frozen=True)
class Learner(Step):
    """A net with a loss and an update rule: all that is needed to train it.

    `step(w, s, x, t) -> (w, s, loss)` consumes w and s: it may overwrite them, so use only what it
    returned. To keep old ones, make copies with `snapshot`.

    Args:
        net: from `chain`.
        loss: one of `losses.ALL`.
        update: the update rule.
        reduction: loss and gradient of a batch are the 'mean' or the 'sum' over its samples.
        order: 'together' computes all gradients from the old weights. 'layer by layer' goes from the
            last layer that learns to the first; each time a forward pass, a learning flow (the
            backward pass) and an update of that layer alone (plain gradient descent only).
        to_input: continue the learning flow to the input, as the articles do.

    Raises:
        BackpropError: an unknown setting, or a net in which nothing learns.

    >>> import numpy as np, backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)), bp.half_squared_error, bp.GradientDescent(0.1))
    >>> w, s = learner.init(dtype="float64", weights={"dense1.w": [[1], [2]]})
    >>> w, s, loss = learner.step(w, s, np.asarray([[1.0, 1.0]]), np.asarray([[1.0]]))
    >>> float(loss), [round(float(each), 6) for each in w]
    (2.0, [0.8, 1.8, -0.2])
    """

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.reduction, ("mean", "sum"), "the reduction over the batch"),
            (self.order, ("together", "layer by layer"), "the order of updates"),
        ):
            if value not in known:
                msg = f"{what} must be one of {listed(known)}, got {value!r}"
                raise BackpropError(msg)
        kinds: tuple[tuple[Any, type, str], ...] = (
            (self.net, Net, "the net must be one such as bp.chain(8, bp.Dense(1))"),
            (self.loss, Loss, "the loss must be one such as bp.softmax_cross_entropy"),
            (self.update, Update, "the update rule must be one such as bp.GradientDescent(0.1)"),
        )
        for value, kind, example in kinds:
            if not isinstance(value, kind):
                msg = f"{example}, got {value!r}"
                raise BackpropError(msg)
        if not self.net.layout.learning:
            msg = "nothing learns in this net: give it a layer with weights, or thaw one"
            raise BackpropError(msg)
        if self.order == "layer by layer" and not isinstance(self.update, GradientDescent):
            rule = type(self.update).__name__
            msg = f"order='layer by layer' needs GradientDescent, got {rule}: write order='together'"
            raise BackpropError(msg)
        if isinstance(self.update.rate, Mapping):
            names = [*(node.name for node in self.net.nodes), *self.net.shapes]
            check_names(self.update.rate, names, "rates")
            for block in self.net.layout.learning:
                self._rate_of(block)

    def _rate_of(self, block: Block) -> Any:
        rates, layer = self.update.rate, block.name.rpartition(".")[0]
        if block.name not in rates and layer not in rates:
            msg = f"a mapping of rates must name every layer that learns; '{layer}' is not in {listed(rates)}"
            raise BackpropError(msg)
        return rates.get(block.name, rates.get(layer))

    def init(
        self,
        seed: int = 0,
        *,
        like: Array = None,
        backend: str | None = None,
        device: Any = None,
        dtype: str | None = None,
        weights: Mapping[str, Any] | None = None,
    ) -> tuple[Array, State]:
        """Initial weights and state, the same on every backend.

        Args:
            seed: of initial weights, shuffling and dropout; 0 <= seed < 2³².
            like: an array whose library, device and dtype are used.
            backend: else this library, by name; else the one chosen by `with bp.backend(...)`.
            device: of that library.
            dtype: 'float32' (the default), 'float64'; 'rational' on the exact backend.
            weights: values by block name ("dense1.w"), shape in × out, in place of random ones.

        Returns:
            The flat vector w of all parameters, and the state s.

        Raises:
            BackpropError: unknown names, wrong shapes, values that are not finite.
        """
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 32:
            msg = f"a seed must be an integer with 0 <= seed < 2**32, got {seed!r}"
            raise BackpropError(msg)
        to, device, kind = backends.resolve(like, backend, device, dtype)
        if not to.xp.isdtype(kind, "real floating"):
            msg = f"the dtype of weights must be one of {listed(to.floats)}, got {dtype!r}"
            raise BackpropError(msg)
        given = weights or {}
        check_names(given, self.net.shapes, "weights")
        parts = []
        for block, drawn in initial_values(self.net.params, seed, _WEIGHTS):
            if block in given:
                part = backends.convert(given[block], to, kind, device)
                check_block(block, part, self.net.shapes[block])
                parts.append(to.xp.reshape(part, (-1,)))
            else:
                parts += (to.asarray(part, kind, device) for part in drawn)
        w = join(parts, xp=to.xp) if len(parts) > 1 else backends.copy(parts[0])  # not the caller's own
        return w, self._first_state(seed, w, to)

    def _first_state(self, seed: int, w: Array, to: Backend) -> State:
        xp, device = to.xp, to.device_of(w)
        word = rng.word(xp)
        learning = self.net.layout.learning_part(w, xp=xp)
        layers = []
        for k, params in enumerate(self.net.state):
            own = []
            for i, drawn in initial_values(dict(enumerate(params)), seed, LAYER_STREAMS + k):
                parts = [to.asarray(part, w.dtype, device) for part in drawn]
                own.append(xp.reshape(join(parts, xp=xp), params[i].shape))
            layers.append(tuple(own))
        return State(
            rule=RuleState(
                count=xp.zeros((), dtype=xp.int32, device=device),
                rates=self._rates(w, xp=xp),
                moments=tuple(xp.zeros_like(learning) for _ in range(self.update.moments)),
            ),
            layers=tuple(layers),
            step=xp.zeros((), dtype=word, device=device),
            seed=xp.full((), rng.constant(seed, word, xp=xp), dtype=word, device=device),
        )

    def _rates(self, w: Array, *, xp: Namespace) -> Array:
        """One rate per learning weight where rates differ by layer, else ()."""
        if not isinstance(self.update.rate, Mapping):
            return ()
        blocks = self.net.layout.learning
        return join([xp.ones_like(w[b.start : b.stop]) * self._rate_of(b) for b in blocks], xp=xp)

    def snapshot(self, w: Array, s: State) -> tuple[Array, State]:
        """Copies of w and s, which later steps do not overwrite."""
        return backends.copy(w), backends.copy(s)

    def weights(self, w: Array) -> dict[str, Array]:
        """The blocks of w by name, each in its shape."""
        check_vector(w, self.net.layout)
        return self.net.layout.views(w, xp=backends.of(w).xp)

    def freeze(self, names: str | Iterable[str], w: Array, s: State) -> tuple["Learner", Array, State]:
        """A learner in which the named layers or blocks are frozen, with w and s that fit it."""
        return self._carried(self.net.freeze(*_names(names)), w, s)

    def thaw(self, names: str | Iterable[str], w: Array, s: State) -> tuple["Learner", Array, State]:
        """A learner in which the named layers or blocks learn again, with w and s that fit it.

        Blocks that learned before keep their moments and counts; those of the others start at 0.
        """
        return self._carried(self.net.thaw(*_names(names)), w, s)

    def _carried(self, net: Net, w: Array, s: State) -> tuple["Learner", Array, State]:
        learner, xp, old = replace(self, net=net), backends.of(w).xp, self.net.layout.gradient_slices

        def carried(vector: Array) -> Array:
            return join(
                [
                    vector[old[b.name]]
                    if b.name in old
                    else xp.astype(xp.zeros_like(w[b.start : b.stop]), vector.dtype)
                    for b in net.layout.learning
                ],
                xp=xp,
            )

        rule = s.rule._replace(
            rates=learner._rates(w, xp=xp),  # noqa: SLF001
            moments=tuple(carried(m) for m in s.rule.moments),
        )
        if s.rule.moments:
            ran = xp.astype(xp.zeros_like(s.rule.moments[0]), s.rule.count.dtype) + s.rule.count
            rule = rule._replace(count=carried(ran))
        return learner, w, s._replace(rule=rule)

    def step(self, w: Array, s: State, x: Array, t: Array) -> tuple[Array, State, Array]:
        """One update from a batch; consumes w and s.

        Args:
            w: the weights, from `init` or the previous step.
            s: the state, likewise.
            x: inputs, shape (batch, features), in w's library and dtype; or uint8, read as x / 255.
            t: targets, shape (batch, units), or integer labels (batch,) for categorical losses.

        Returns:
            The new weights, the new state, and the loss E before the update (0-d).

        Raises:
            BackpropError: shapes, dtypes, libraries or devices that do not fit; nothing is changed.
        """
        to = self.check(w, s, x, t)
        return self.pure_step(w, s, x, t, xp=to.xp)

    def compile(self, w: Array, *, precision: str | None = None) -> Compiled:
        """The step compiled for the library of w: recorded and replayed, jitted, or a CUDA graph.

        The result is called like `step`, and its `scan` makes many steps in one call. Each set of
        shapes is checked and compiled when it is first used. The result owns buffers: make one for
        each thread.

        Args:
            w: the weights; only their library matters.
            precision: of matrix products in float32: 'float32', 'tf32', 'bfloat16' or 'float16', as far
                as the backend has it; weights, state and sums stay float32.

        Raises:
            BackpropError: a precision the backend does not have.

        >>> import numpy as np, backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)))
        >>> w, s = learner.init(dtype="float64")
        >>> step = learner.compile(w)
        >>> w, s, loss = step(w, s, np.ones((4, 2)), np.zeros((4, 1)))
        """
        to = backends.of(w).with_precision(precision, scaled=self.order == "together")
        return to.compile(self.pure_step, self.check, self.splits)

    def check(self, w: Array, s: State, x: Array, t: Array) -> Backend:
        """Check weights, state and a batch as `step` does; no value is read.

        Returns:
            The backend of w.

        Raises:
            BackpropError: something does not fit.
        """
        check_vector(w, self.net.layout)
        check_state(s, State, self.update.moments)
        return check_batch(x, t, w, self.net.outputs[0], self.net.outputs[-1], self.loss)

    def predict(self, w: Array, s: State, x: Array, *, net_input: bool = False) -> Array:
        """The net's predictions for x; for losses on net input (logits) these are probabilities.

        Args:
            w: the weights.
            s: the state.
            x: inputs, shape (batch, features).
            net_input: return the last layer's output itself (the logits), without the loss's `link`.

        Returns:
            Shape (batch, units).

        Raises:
            BackpropError: weights or inputs that do not fit.
        """
        check_vector(w, self.net.layout)
        xp = check_inputs(x, w, self.net.outputs[0]).xp
        _, flows, _ = self.forward(w, s, x, training=False, xp=xp)
        return flows[-1].o if net_input else self.loss.link(flows[-1].o, xp=xp)

    def losses(self, w: Array, s: State, x: Array, t: Array) -> Array:
        """The loss E of each sample, shape (batch,); nothing is updated."""
        xp = self.check(w, s, x, t).xp
        _, flows, _ = self.forward(w, s, x, training=False, xp=xp)
        o = flows[-1].o
        return self.loss.value(o, self.loss.encode(t, o, xp=xp), xp=xp)

    def gradient(self, w: Array, s: State, x: Array, t: Array) -> dict[str, Array]:
        """∂E/∂w of each learning block, by name; nothing is updated."""
        xp, layout = self.check(w, s, x, t).xp, self.net.layout
        g = self.gradient_of(self.forward_loss(w, s, x, t, xp=xp), xp=xp)
        return {b.name: xp.reshape(g[layout.gradient_slices[b.name]], b.shape) for b in layout.learning}


def _names(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
