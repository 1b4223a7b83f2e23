"""The learner: call `init` once, then `step` for every batch.

This is the public boundary: here arguments are checked, and backends and initial values are chosen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import inf, isfinite
from types import NoneType
from typing import Any, Literal

from . import backends, rng
from .arrays import Array, Namespace, as_integer, is_array, leaves, mapped
from .backends import Backend
from .checks import (
    check_batch,
    check_categories,
    check_inputs,
    check_names,
    check_state,
    check_values,
    check_vector,
    check_writable,
)
from .compiler.compiled import Carry, Compiled, Function
from .compiler.ir import abstract
from .compiler.passes import StepProgram
from .compiler.recorder import record
from .errors import BackpropError, consumed, got_instead, listed
from .groups import Penalties, Updates
from .inference import in_batches, input_gradient, outputs
from .initial import (
    Initial,
    chosen_initializers,
    enough_memory,
    first_state,
    first_weights,
    given_weights,
)
from .layers import check_count
from .layerwise import LayerwiseStep
from .losses import Loss, half_squared_error
from .net import Net
from .number import number
from .params import join
from .printed import settings
from .shapes import check_shapes
from .step import Reduction, State, Step
from .updates import Averaged, Clip, GradientDescent, Penalty, RuleState, Update

_SPLIT_FROM = 20_000  # weights, for rules with moments; below, one long update is faster than many short

Order = Literal["together", "layer by layer"]


@dataclass(frozen=True, repr=False)
class Learner:
    """A net with a loss and an update rule: all that is needed to train it.

    `step(w, s, x, t) -> (w, s, loss)` consumes w and s: it may overwrite them, so use only those that it
    returned. To keep old ones, make copies with `snapshot`. A batch is (x, t) or (x, t, weight); a
    weight multiplies the loss and the error of its row, and 'mean' divides by the number of rows.

    Args:
        net: from `chain`.
        loss: one of `losses.ALL`, or a loss of your own.
        update: the update rule; or rules by layer, block or pattern, such as
            {"*.b": bp.Adam(0.01), "*": bp.Adam()}: the first that matches a block is its rule.
        reduction: loss and gradient of a batch are the 'mean' or the 'sum' over its samples.
        order: 'together' computes all gradients from the old weights. 'layer by layer' goes from the
            last layer that learns to the first, each with a forward pass, a learning flow (the
            backward pass) and an update of that layer only (plain gradient descent only).
        to_input: continue the learning flow to the input, as the articles do; ∂E/∂x can then be watched
            as "input.e". A net in which nothing learns is then accepted, and a step leaves w as it is.
        penalty: a penalty on the weights, such as bp.updates.L2(0.01). It is added to the gradient before
            clipping; the loss does not contain it. Or penalties by layer, block or pattern, such as
            {"*.w": bp.updates.L2(0.01)}: the first that matches a block is its penalty; others have none.
        clip: a bound on the whole gradient, such as bp.updates.ClipByNorm(1).
        shards: the number of parts of a batch; their gradients are added up along a fixed tree, so that
            any number of workers that share the parts gets the same bits.
        precision: the precision of matrix products of float32: 'float32', 'tf32', 'bfloat16' or
            'float16', if the backend has it; weights, state and sums stay float32.

    Raises:
        BackpropError: an unknown setting, or a net in which nothing learns.

    >>> import numpy as np, backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)), bp.half_squared_error, bp.GradientDescent(0.1))
    >>> w, s = learner.init(dtype="float64", weights={"dense1.w": [[1], [2]], "dense1.b": [0]})
    >>> w, s, loss = learner.step(w, s, np.asarray([[1.0, 1.0]]), np.asarray([[1.0]]))
    >>> float(loss), [round(float(each), 6) for each in w]
    (2.0, [0.8, 1.8, -0.2])
    """

    net: Net
    loss: Loss = half_squared_error
    update: Updates = GradientDescent(0.1)
    reduction: Reduction = "mean"
    order: Order = "together"
    to_input: bool = False
    penalty: Penalties | None = None
    clip: Clip | None = None
    shards: int = 1
    precision: str | None = None

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.reduction, ("mean", "sum"), "the reduction over the batch"),
            (self.order, ("together", "layer by layer"), "the order of updates"),
        ):
            if value not in known:
                msg = f"{what} must be one of {listed(known)}, got {value!r}"
                raise BackpropError(msg)
        kinds: tuple[tuple[Any, Any, str], ...] = (
            (self.net, Net, "the net must be one such as bp.chain(8, bp.Dense(1))"),
            (self.loss, Loss, "the loss must be one such as bp.softmax_cross_entropy"),
            (self.update, (Update, Mapping), "the update rule must be one such as bp.GradientDescent(0.1)"),
            (
                self.penalty,
                (Penalty, Mapping, NoneType),
                "the penalty must be one such as bp.updates.L2(0.01)",
            ),
            (self.clip, (Clip, NoneType), "clip= must be a bound such as bp.updates.ClipByNorm(1)"),
        )
        for value, kind, example in kinds:
            if not isinstance(value, kind) or isinstance(value, type):
                msg = f"{example}, {got_instead(value)}"
                raise BackpropError(msg)
        self.loss.check_units(self._units)
        object.__setattr__(self, "shards", check_count(self.shards, "the number of shards"))
        if not self.net.layout.learning and (not self.to_input or self.order != "together"):
            msg = (
                "nothing learns in this net: give it a layer with weights, or thaw one; "
                "or, for the gradient of the input alone, write to_input=True"
            )
            raise BackpropError(msg)
        if self.order == "layer by layer":
            self._check_layerwise()
        if self.shards > 1 and any(self.net.state):
            msg = "layers with running state, such as BatchNorm, need the whole batch: write shards=1"
            raise BackpropError(msg)
        _ = self.pure.parts, self.pure.penalties, self.pure.plateau  # computing them checks them

    def __repr__(self) -> str:
        shown = [(f.name, getattr(self, f.name), f.default) for f in fields(self)]
        parts = [
            f"{name}={settings(own)}" for k, (name, own, usual) in enumerate(shown) if k < 3 or own != usual
        ]
        return f"Learner({', '.join(parts)})"

    def _check_layerwise(self) -> None:
        if not all(isinstance(rule, GradientDescent) for rule in self.pure.rules):
            rule = next(type(r).__name__ for r in self.pure.rules if not isinstance(r, GradientDescent))
            msg = f"order='layer by layer' needs GradientDescent, got {rule}: write order='together'"
            raise BackpropError(msg)
        if self.penalty is not None or self.clip is not None or self.shards > 1:
            msg = "penalty=, clip= and shards= need the whole gradient: write order='together'"
            raise BackpropError(msg)

    @cached_property
    def pure(self) -> Step:
        """The step as a pure function of arrays and their namespace, without checks."""
        kind = LayerwiseStep if self.order == "layer by layer" else Step
        return kind(
            self.net,
            self.loss,
            self.update,
            self.reduction,
            self.to_input,
            self.penalty,
            self.clip,
            self.shards,
        )

    def init(
        self,
        seed: int = 0,
        *,
        like: Array = None,
        backend: str | None = None,
        device: Any = None,
        dtype: Any = None,
        weights: Mapping[str, Any] | None = None,
        partial: bool = False,
        initial: Initial | None = None,
    ) -> tuple[Array, State]:
        """Initial weights and state, the same on every backend.

        Args:
            seed: the seed of initial weights, shuffling and dropout; 0 <= seed < 2³².
            like: an array whose library, device and dtype are used.
            backend: the name of a library, if there is no `like`; by default the one chosen by
                `with bp.backend(...)`, else NumPy.
            device: a device of that library.
            dtype: 'float32' (the default) or 'float64', or such a dtype of the library or of NumPy;
                'rational' on the exact backend.
            weights: values by block name ("dense1.w"), shape (n_in, n_out), for all blocks or none.
            partial: `weights` may have only some of the blocks; the others are initialized as usual.
            initial: an initializer, or several by layer, block or pattern, such as
                {"*.w": HeNormal(), "dense2.b": Constant(0.1)} from `bp.initialization`: the first that
                matches a block and fits its shape is used. Other blocks start as their layer says.

        Returns:
            The flat vector w of all parameters, and the state s.

        Raises:
            BackpropError: unknown names, wrong shapes, values that are not finite, more weights than
                there is memory for.

        >>> import backprop_xp as bp
        >>> from backprop_xp.initialization import Constant, HeNormal
        >>> learner = bp.Learner(bp.chain(8, bp.Dense(4, bp.relu), bp.Dense(1)))
        >>> w, s = learner.init(seed=1, initial={"*.w": HeNormal(), "dense1.b": Constant(0.5)})
        >>> learner.weights(w)["dense1.b"].tolist()
        [0.5, 0.5, 0.5, 0.5]
        """
        seed = rng.check_seed(seed)
        to, device, kind = backends.resolve(like, backend, device, dtype)
        if not to.xp.isdtype(kind, "real floating"):
            msg = f"the dtype of weights must be one of {listed(to.floats)}, got {dtype!r}"
            raise BackpropError(msg)
        check_names(weights or {}, self.net.shapes, "weights")
        chosen = chosen_initializers(initial, self.net.shapes)
        with enough_memory(self.pure, to, device, kind):
            given = given_weights(self.net, weights or {}, to, device, kind, partial=partial)
            w = first_weights(self.net, seed, to, device, kind, given, chosen)
            self._precise(to)
            return mapped((w, self._first_state(seed, w, to)), to.committed)  # type: ignore[no-any-return]

    def _precise(self, to: Backend) -> Backend:
        """The backend with the learner's precision of products."""
        return to.with_precision(self.precision, scaled=self.order == "together")

    def _first_state(self, seed: int, w: Array, to: Backend) -> State:
        scaled = self.precision == "float16"
        rates, decays = (self._spread(each, w, xp=to.xp) for each in (self.pure.rates, self.pure.decays))
        return first_state(self.pure, seed, w, to, rates=rates, decays=decays, scaled=scaled)

    def abstract(self, dtype: str) -> tuple[Array, State]:
        """Stand-ins for weights and state: NumPy arrays of their shapes and dtypes that take no memory.

        Args:
            dtype: the name of the weights' dtype.
        """
        learning = sum(b.stop - b.start for b in self.net.layout.learning)
        scaled = self.precision == "float16"
        s = State(
            rule=RuleState(
                count=abstract((), "int32"),
                rates=abstract((learning,), dtype) if self.pure.rates else (),
                moments=tuple(abstract((learning,), dtype) for _ in range(self.pure.moments)),
                decays=abstract((learning,), dtype) if self.pure.decays else (),
                plateau=abstract((3,), dtype) if self.pure.plateau else (),
            ),
            layers=tuple(tuple(abstract(each.shape, dtype) for each in own) for own in self.net.state),
            step=abstract((), "uint32"),
            seed=abstract((), "uint32"),
            scale=(abstract((), dtype), abstract((), "int32")) if scaled else (),
        )
        return abstract((self.net.layout.size,), dtype), s

    def _spread(self, values: tuple[Any, ...], w: Array, *, xp: Namespace) -> Array:
        """The number of each learning block, repeated for each of its weights; () if there are none."""
        pairs = zip(self.net.layout.learning, values, strict=False)
        parts = [xp.ones_like(w[b.start : b.stop]) * number(value, xp=xp) for b, value in pairs]
        return join(parts, xp=xp) if parts else ()

    def snapshot(self, w: Array, s: State) -> tuple[Array, State]:
        """Copies of w and s, which later steps do not overwrite.

        >>> import numpy as np, backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)))
        >>> w, s = learner.init()
        >>> first_w, first_s = learner.snapshot(w, s)
        >>> w, s, loss = learner.step(w, s, np.ones((4, 2), "float32"), np.ones((4, 1), "float32"))
        >>> int(first_s.step), int(s.step)
        (0, 1)
        """
        if any(backends.of(a).consumed(a) for a in leaves((w, s))):
            raise consumed()
        return backends.copy(w), backends.copy(s)

    def weights(self, w: Array) -> dict[str, Array]:
        """The blocks of w by name, each in its shape.

        >>> import backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)))
        >>> w, s = learner.init(weights={"dense1.w": [[3], [4]], "dense1.b": [0.5]})
        >>> {name: block.tolist() for name, block in learner.weights(w).items()}
        {'dense1.w': [[3.0], [4.0]], 'dense1.b': [0.5]}
        """
        check_vector(w, self.net.layout)
        return self.net.layout.views(w, xp=backends.of(w).xp)

    def freeze(self, names: str | Iterable[str], w: Array, s: State) -> tuple["Learner", Array, State]:
        """A learner in which the named layers or blocks are frozen, with w and s that fit it.

        >>> import backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(2, bp.Dense(3, bp.relu), bp.Dense(1)), update=bp.Adam())
        >>> learner, w, s = learner.freeze("dense1", *learner.init())
        >>> [block.name for block in learner.net.layout.learning]
        ['dense2.w', 'dense2.b']
        """
        return self._carried(self.net.freeze(*_names(names)), w, s)

    def thaw(self, names: str | Iterable[str], w: Array, s: State) -> tuple["Learner", Array, State]:
        """A learner in which the named layers or blocks learn again, with w and s that fit it.

        Blocks that already learned keep their moments and counts; those of the others start at 0.
        """
        return self._carried(self.net.thaw(*_names(names)), w, s)

    def _carried(self, net: Net, w: Array, s: State) -> tuple["Learner", Array, State]:
        learner, xp, old = replace(self, net=net), backends.of(w).xp, self.net.layout.gradient_slices
        zeros = xp.zeros_like(self.net.layout.learning_part(w, xp=xp))
        moments = (*s.rule.moments, *(zeros for _ in range(learner.pure.moments)))[: learner.pure.moments]

        def carried(vector: Array) -> Array:
            if not net.layout.learning:
                return vector[:0]
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
            rates=learner._spread(learner.pure.rates, w, xp=xp),  # noqa: SLF001
            decays=learner._spread(learner.pure.decays, w, xp=xp),  # noqa: SLF001
            moments=tuple(map(carried, moments)),
        )
        with_moments = s.rule.moments or learner.pure.moments
        if with_moments and old and net.layout.learning:
            ran = xp.astype(zeros, s.rule.count.dtype) + s.rule.count
            rule = rule._replace(count=carried(ran))
        elif with_moments:
            rule = rule._replace(
                count=xp.zeros((), dtype=s.rule.count.dtype, device=backends.of(w).device_of(w))
            )
        return learner, w, s._replace(rule=rule)

    # ------------------------------------------------------------ steps
    def step(self, w: Array, s: State, *batch: Any, watch: Iterable[str] = ()) -> Any:
        """One update from a batch; consumes w and s.

        Read-only w and s are refused here; a compiled step copies them.

        Args:
            w: the weights, from `init` or the previous step.
            s: the state, from the same place.
            batch: x, inputs of shape (batch, features), in w's library and dtype, or uint8, read as
                x / 255; a dict of arrays by name if the net has several inputs; t, targets of shape
                (batch, units), or integer labels (batch,) for categorical losses; and optionally a weight
                for each row, shape (batch,).
            watch: names of values to return as well: a layer and a field, such as "dense1.delta"; either
                may be a pattern, as in "*.o". Fields are the eight of a trace, net, o, e, delta, grad,
                change, w_before, w_after; and grad_used, scalars, moments_before, moments_after, from which
                the update rule made the change. "step.clip_factor", "step.loss_scale" and "step.applied"
                are of the whole step, if it has them.

        Returns:
            The new weights, the new state, and the loss E before the update (0-d); if something is
            watched, also a dict of it, by name.

        Raises:
            BackpropError: shapes, dtypes, libraries or devices that do not fit; nothing is changed.

        >>> import numpy as np, backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(1, bp.Dense(1)))
        >>> w, s = learner.init(dtype="float64", weights={"dense1.w": [[3]], "dense1.b": [0]})
        >>> x, t = np.asarray([[1.0]]), np.asarray([[5.0]])
        >>> w, s, loss, watched = learner.step(w, s, x, t, watch="dense1.delta")
        >>> float(loss), watched
        (2.0, {'dense1.delta': array([[-2.]])})
        """
        to = self._precise(self.check(w, s, *batch))
        check_writable((w, *s.rule.moments))
        return self.pure(w, s, *batch, xp=to.xp, watch=watch)

    def compile(self, w: Array, *, watch: Iterable[str] = (), native: bool | None = None) -> Compiled:
        """The step compiled for the library of w: machine code or a recorded plan, jit, or a CUDA graph.

        The result is called like `step`, and its `scan` makes many steps in one call. Each set of
        shapes is checked and compiled when it is first used. The result owns buffers: make one for
        each thread.

        Args:
            w: the weights; only their library matters.
            watch: as for `step`.
            native: whether to compile to machine code, which NumPy and Torch on the CPU do if llvmlite is
                installed; None follows the environment variable BACKPROP_XP_NATIVE: yes unless it is 0.

        >>> import numpy as np, backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)))
        >>> w, s = learner.init(dtype="float64")
        >>> step = learner.compile(w)
        >>> w, s, loss = step(w, s, np.ones((4, 2)), np.zeros((4, 1)))
        """
        names = tuple([watch] if isinstance(watch, str) else watch)

        def step(w: Array, s: State, *batch: Any, xp: Namespace) -> Any:
            return self.pure(w, s, *batch, xp=xp, watch=names)

        return self.compile_step(w, step if names else self.pure, native)

    def compile_step(self, w: Array, function: Function, native: bool | None = None) -> Compiled:
        """A step of your own, f(w, s, *batch, xp=…) -> (w, s, …), compiled as by `compile`."""
        carry = self._carry if self.order == "together" else None
        return self._to(w).compile(function, donate=2, carry=carry, check=self.check, native=native)

    def compile_gradient(self, w: Array, *, rows: int | None = None, packed: bool = False) -> Compiled:
        """The first half of a step, `gradient(w, s, first, *batch) -> Gradient`, compiled.

        Args:
            w: the weights; only their library matters.
            rows: the number of rows of the whole batch, if the gradients of its parts are to be added up by
                `step.total`; `first`, a 0-d integer array, is the number of a part's first row.
            packed: return one vector: g, the loss, and a 0 in which the caller may put a flag.
        """

        def gradient(w: Array, s: State, first: Array, *batch: Any, xp: Namespace) -> Any:
            found = self.pure.gradient(w, s, *batch, xp=xp, rows=rows, first=first)
            if not packed:
                return found
            loss = xp.reshape(found.loss, (1,))
            return xp.concat([*leaves(found.g), loss, 0 * loss])

        def check(w: Array, s: State, first: Array, *batch: Any) -> None:  # noqa: ARG001
            self.check(w, s, *batch)

        return self._to(w).compile(gradient, hold=2, check=check)

    def compile_apply(self, w: Array) -> Compiled:
        """The second half of a step, `apply(w, s, gradient) -> (w, s, loss)`, compiled; consumes w and s."""
        return self._to(w).compile(self.pure.apply, donate=2)

    def compile_predict(self, w: Array) -> Compiled:
        """`predict(w, s, x)`, compiled."""
        return self._to(w).compile(self.pure.predict, hold=2, check=self._check_inputs)

    def compile_evaluate(self, w: Array, *, predictions: bool = False) -> Compiled:
        """`evaluate(w, s, *batch)`, the sum of a batch's losses (and that of its weights), compiled.

        Args:
            w: the weights; only their library matters.
            predictions: also return the predictions of the batch, last.
        """

        def evaluate(w: Array, s: State, *batch: Any, xp: Namespace) -> tuple[Array, ...]:
            return *self.pure.evaluate(w, s, *batch, xp=xp), self.pure.predict(w, s, batch[0], xp=xp)

        function = evaluate if predictions else self.pure.evaluate
        return self._to(w).compile(function, hold=2, check=self.check)

    def program(self, *batch: Any) -> StepProgram:
        """The step on a batch of these shapes as a program, after each pass of the compiler.

        Args:
            batch: x, t and, if wanted, weights, of any library; only their shapes and dtypes matter.

        >>> import numpy as np, backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(3, bp.layers.Linear(1, bias=False)))
        >>> print(learner.program(np.ones((1, 3), "float32"), np.ones((1, 1), "float32"))["dead code"])
        step(w: f32[3], s.rule.count: i32[], s.step: u32[], s.seed: u32[], x: f32[1,3], t: f32[1,1]):
          # dense1: net = x w + b, o = f(net)
            dense1.net = matmul(x, dense1.w)       f32[1,1]
        ...
        """
        kind = next(
            (str(a.dtype).rpartition(".")[2] for a in leaves(batch) if "float" in str(a.dtype)), "float32"
        )
        w, s = self.abstract(kind)
        given = mapped(batch, lambda a: abstract(tuple(a.shape), str(a.dtype).rpartition(".")[2]))
        self.check(w, s, *given)
        return StepProgram(record(self.pure, w, s, *given, names=("w", "s", "x", "t", "weight")))

    def _to(self, w: Array) -> Backend:
        return self._precise(backends.of(w))

    @property
    def _carry(self) -> Carry:
        """Functions that split weights and moments by block, and join them: some compilers scan faster so."""

        def pack(w: Array, s: State, *, xp: Namespace) -> tuple[Any, State]:
            if isinstance(w, tuple) or (s.rule.moments and w.size <= _SPLIT_FROM):
                return w, s
            layout = self.net.layout
            moments = tuple(layout.split_learning(m, xp=xp) for m in s.rule.moments)
            return layout.split(w, xp=xp), s._replace(rule=s.rule._replace(moments=moments))

        def unpack(w: Any, s: State, *, xp: Namespace) -> tuple[Array, State]:
            if not isinstance(w, tuple):
                return w, s

            def joined(blocks: Any) -> Array:
                return xp.concat([xp.reshape(block, (-1,)) for block in blocks])

            moments = tuple(joined(m) for m in s.rule.moments)
            return joined(w), s._replace(rule=s.rule._replace(moments=moments))

        return pack, unpack

    def check(self, w: Array, s: State, *batch: Any) -> Backend:
        """Check weights, state and a batch as `step` does; no value is read.

        Returns:
            The backend of w.

        Raises:
            BackpropError: shapes, dtypes, libraries or devices that do not fit.
        """
        if not 2 <= len(batch) <= 3:
            msg = f"a batch is inputs, targets and, if wanted, weights; got {len(batch)} arguments"
            raise BackpropError(msg)
        if not isinstance(w, tuple):
            check_vector(w, self.net.layout)
        check_state(s, State, self.pure.moments)
        self._check_rule(s.rule)
        to = check_batch(batch, leaves(w)[0], self.net, self.loss)
        if not self._looked_at:
            check_shapes(self.pure, w, s, batch, self._carry[1])
            self._looked_at.append(True)
        return to

    def _check_rule(self, rule: RuleState) -> None:
        """Check that the state has rates, decays and a plateau exactly if this learner needs them there."""
        for name in ("rates", "decays", "plateau"):
            wanted, there = bool(getattr(self.pure, name)), not isinstance(getattr(rule, name), tuple)
            if wanted != there:
                msg = (
                    f"the state s must come from init of this learner, {'with' if wanted else 'without'} "
                    f"{name}; it was made with another update rule"
                )
                raise BackpropError(msg)

    @cached_property
    def _looked_at(self) -> list[bool]:
        """Not empty once `check_shapes` has passed."""
        return []

    def check_values(self, *batch: Any, first: int = 0) -> None:
        """Check the values of rows: finite numbers, targets and categories in range; this reads them.

        `bp.fit` and the rest of `bp.train` do this where data enter; `step` does not.

        Args:
            batch: inputs, targets and, if wanted, weights.
            first: the number of the first row, for the message.

        Raises:
            BackpropError: NaN or infinity, or targets or categories out of range; the message names the
                first such row.

        >>> import numpy as np, backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(2, bp.Dense(3)), bp.softmax_cross_entropy)
        >>> learner.check_values(np.zeros((2, 2)), np.asarray([0, 3]))
        Traceback (most recent call last):
            ...
        backprop_xp.errors.BackpropError: labels must be 0 to 2 for 3 output units, got 0 to 3, ...
        """
        if 2 <= len(batch) <= 3:
            check_values(batch, self.loss, self._units, first)
            self._check_categories(batch[0], first)

    def check_source(self, source: Any) -> None:
        """Check the values of a source that is checked once, not row by row, such as `bp.data.Stored`."""
        if hasattr(source, "check_for"):
            source.check_for(self.loss, self._units)
            for start in range(0, source.n, source.window) if self.net.categories else ():
                rows = source.rows(start, min(start + source.window, source.n))
                self._check_categories(rows[0], start)

    def _check_categories(self, x: Any, first: int) -> None:
        """Check the categories in inputs; their shapes and dtypes are left to the static checks."""
        for name, categories in self.net.categories.items():
            own: Any = x.get(name) if isinstance(x, dict) else x
            what = f"input {name!r}" if isinstance(x, dict) else "inputs"
            if is_array(own) and backends.of(own).xp.isdtype(own.dtype, "integral"):
                check_categories(own, categories, what, first)

    @property
    def _units(self) -> int:
        return self.net.outputs[-1][-1] if self.net.outputs[-1] else 1

    def _check_inputs(self, w: Array, s: State, x: Any) -> Backend:
        check_vector(w, self.net.layout)
        check_state(s, State, self.pure.moments)
        return check_inputs(x, w, self.net)

    # ------------------------------------------------------------ what it has learnt
    def predict(
        self, w: Array, s: State, x: Any, *, net_input: bool = False, batch_size: int | None = None
    ) -> Array:
        """The net's predictions for x; for losses on net input (logits) these are probabilities.

        Args:
            w: the weights.
            s: the state.
            x: inputs, shape (batch, features), or a dict of them by name.
            net_input: return the last layer's output itself (the logits), without the loss's `link`.
            batch_size: the rows in a batch, so that memory stays bounded; None for all at once.

        Returns:
            The predictions, shape (batch, units).

        >>> import numpy as np, backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(2, bp.Dense(2)), bp.softmax_cross_entropy)
        >>> zero = {"dense1.w": np.zeros((2, 2)), "dense1.b": [0, 0]}
        >>> w, s = learner.init(weights=zero)
        >>> learner.predict(w, s, np.ones((1, 2), "float32")).tolist()
        [[0.5, 0.5]]
        """
        xp = self._precise(self._check_inputs(w, s, x)).xp

        def part(x: Any) -> Array:
            o = self.pure.forward(w, s, x, training=False, xp=xp)[1][-1].o
            return o if net_input else self.loss.link(o, xp=xp)

        return in_batches(part, x, batch_size, xp=xp)

    def outputs(
        self,
        w: Array,
        s: State,
        x: Any,
        *names: str,
        net_input: bool = False,
        batch_size: int | None = None,
    ) -> dict[str, Array]:
        """The outputs o of layers for x, by name: the hidden activations. As for `predict`, without dropout.

        Args:
            w: the weights.
            s: the state.
            x: inputs, shape (batch, features), or a dict of them by name.
            names: the names of layers; without any, all layers.
            net_input: return the layers' net inputs instead of their outputs.
            batch_size: the rows in a batch, so that memory stays bounded; None for all at once.

        Raises:
            BackpropError: the net has no layer of this name.

        >>> import numpy as np, backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(1, bp.Dense(1, bp.relu), bp.Dense(1)))
        >>> blocks = {"dense1.w": [[2]], "dense1.b": [1], "dense2.w": [[1]], "dense2.b": [0]}
        >>> w, s = learner.init(dtype="float64", weights=blocks)
        >>> learner.outputs(w, s, np.asarray([[1.0], [-1.0]]), "dense1")
        {'dense1': array([[3.],
               [0.]])}
        """
        known = [node.name for node in self.net.nodes]
        check_names(names, known, "outputs")
        xp = self._precise(self._check_inputs(w, s, x)).xp

        def part(x: Any) -> dict[str, Array]:
            return outputs(self.pure, w, s, x, names or known, net_input=net_input, xp=xp)

        return in_batches(part, x, batch_size, xp=xp)  # type: ignore[no-any-return]

    def input_gradient(
        self,
        w: Array,
        s: State,
        x: Any,
        t: Array = None,
        *,
        unit: int | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """The gradient with respect to the inputs: ∂E/∂x of each row if targets are given, else ∂o/∂x.

        E is each row's own loss, not divided by the number of rows; o is the output of the last layer
        itself (the logits, if the loss has a link). The net runs as in `predict`. For uint8 inputs the
        derivative is by the numbers x / 255 that the net reads. (Simonyan, Vedaldi, Zisserman: Deep inside
        convolutional networks, 2013.)

        Args:
            w: the weights.
            s: the state.
            x: inputs, shape (batch, features), or a dict of them by name.
            t: targets, as for `step`.
            unit: the output unit whose ∂o/∂x is wanted; None for all of them.
            batch_size: the rows in a batch, so that memory stays bounded; None for all at once.

        Returns:
            An array of the shape of x, or, for all units, (batch, units, features). If the net has several
            inputs, a dict of such arrays by name, without those of integers.

        Raises:
            BackpropError: both targets and a unit are given, there is no such unit, or all inputs are
                integers.

        >>> import numpy as np, backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)))
        >>> w, s = learner.init(dtype="float64", weights={"dense1.w": [[3], [4]], "dense1.b": [0]})
        >>> x, t = np.asarray([[1.0, 1.0]]), np.asarray([[5.0]])
        >>> learner.input_gradient(w, s, x, t), learner.input_gradient(w, s, x, unit=0)
        (array([[6., 8.]]), array([[3., 4.]]))
        """
        to = self._check_inputs(w, s, x) if t is None else self.check(w, s, x, t)
        if unit is not None:
            unit = self._check_unit(unit, t)
        xp = self._precise(to).xp

        def part(rows: Any) -> Any:
            return input_gradient(self.pure, w, s, *rows, unit=unit, xp=xp)

        return in_batches(part, (x,) if t is None else (x, t), batch_size, xp=xp)

    def _check_unit(self, unit: Any, t: Array) -> int:
        found, units = as_integer(unit), self._units
        if t is not None:
            msg = "t= asks for ∂E/∂x and unit= for ∂o/∂x: give one of the two"
            raise BackpropError(msg)
        if found is None or not 0 <= found < units:
            msg = f"an output unit is an integer from 0 to {units - 1}, got {unit!r}"
            raise BackpropError(msg)
        return found

    def averaged(self, w: Array, s: State) -> Array:
        """The averages of the weights, to predict with; w and s are not changed.

        Blocks that are frozen, whose rule keeps no average, or that were never updated stay as in w.

        Args:
            w: the weights.
            s: the state.

        Raises:
            BackpropError: no rule of the learner is `bp.updates.Averaged`, which has an example.
        """
        check_vector(w, self.net.layout)
        check_state(s, State, self.pure.moments)
        if not any(isinstance(rule, Averaged) for rule in self.pure.rules):
            msg = "no rule of this learner keeps an average: write update=bp.updates.Averaged(bp.Adam())"
            raise BackpropError(msg)
        return self.pure.averaged(w, s, xp=backends.of(w).xp)

    def penalty_value(self, w: Array) -> Array:
        """The sum of the penalties on the weights that learn, 0-d; the loss does not contain it.

        >>> import backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(1, bp.Dense(1)), penalty=bp.updates.L2(0.5))
        >>> w, s = learner.init(weights={"dense1.w": [[2]], "dense1.b": [0]})
        >>> float(learner.penalty_value(w))
        1.0
        """
        check_vector(w, self.net.layout)
        return self.pure.penalty_value(w, xp=backends.of(w).xp)

    def observe(self, s: State, loss: float) -> State:
        """The state after an epoch with this loss, for rates that are a `bp.schedules.Plateau`.

        `bp.fit` and `bp.train.epochs` call it; in a loop of your own, call it after each epoch.

        Args:
            s: the state.
            loss: the loss of the epoch; one that is not finite counts as infinite.

        Returns:
            The new state; s itself if no rate is a Plateau.

        >>> import backprop_xp as bp
        >>> rule = bp.GradientDescent(bp.schedules.Plateau(0.5, factor=0.5, patience=0))
        >>> learner = bp.Learner(bp.chain(1, bp.Dense(1)), update=rule)
        >>> w, s = learner.init()
        >>> for loss in (2.0, 2.0):
        ...     s = learner.observe(s, loss)
        >>> float(s.rule.plateau[0])
        0.25
        """
        plateau = self.pure.plateau
        if plateau is None:
            return s
        xp, loss = backends.of(s.rule.plateau).xp, float(loss)
        new = plateau.observe(s.rule.plateau, loss if isfinite(loss) else inf, xp=xp)
        return s._replace(rule=s.rule._replace(plateau=new))

    def losses(self, w: Array, s: State, *batch: Any) -> Array:
        """The loss E of each sample, times its weight, shape (batch,); nothing is updated.

        The net runs as in `predict`, without dropout.

        >>> import numpy as np, backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(1, bp.Dense(1)))
        >>> w, s = learner.init(dtype="float64", weights={"dense1.w": [[2]], "dense1.b": [0]})
        >>> learner.losses(w, s, np.asarray([[1.0], [2.0]]), np.asarray([[0.0], [4.0]])).tolist()
        [2.0, 0.0]
        """
        xp = self._precise(self.check(w, s, *batch)).xp
        return self.pure.losses(w, s, *batch, xp=xp)

    def gradient(self, w: Array, s: State, *batch: Any) -> dict[str, Array]:
        """∂E/∂w of each learning block, by name; nothing is updated.

        It is the gradient of a step before penalty and clipping, in training mode (with dropout).

        >>> import numpy as np, backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(1, bp.Dense(1)))
        >>> w, s = learner.init(dtype="float64", weights={"dense1.w": [[2]], "dense1.b": [0]})
        >>> g = learner.gradient(w, s, np.asarray([[3.0]]), np.asarray([[0.0]]))
        >>> {name: block.tolist() for name, block in g.items()}
        {'dense1.w': [[18.0]], 'dense1.b': [6.0]}
        """
        xp, layout = self._precise(self.check(w, s, *batch)).xp, self.net.layout
        g = self.pure.gradient(w, s._replace(scale=()), *batch, xp=xp).g
        return {b.name: xp.reshape(g[layout.gradient_slices[b.name]], b.shape) for b in layout.learning}

    def value_and_grad(self, w: Array, s: State, *batch: Any) -> tuple[Array, Array]:
        """The objective that training minimizes, and its gradient; nothing is updated.

        The objective is E, reduced over the batch as in a step, plus the penalty if there is one. `clip` and
        the loss scale are not applied. The net runs in training mode, with the dropout masks that the
        state's seed and step determine: for the same s the objective is a function of w only, as optimizers
        need it. See docs/scipy.md for L-BFGS.

        Args:
            w: the weights; not changed.
            s: the state; not changed.
            batch: x, t and, if wanted, weights.

        Returns:
            The objective, 0-d, and its gradient, one vector over the learning weights in net order;
            `to_vector` and `from_vector` convert between w and such vectors.

        >>> import numpy as np, backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(1, bp.Dense(1)))
        >>> w, s = learner.init(dtype="float64", weights={"dense1.w": [[2]], "dense1.b": [0]})
        >>> value, g = learner.value_and_grad(w, s, np.asarray([[3.0]]), np.asarray([[0.0]]))
        >>> float(value), g.tolist()
        (18.0, [18.0, 6.0])
        """
        xp = self._precise(self.check(w, s, *batch)).xp
        return self.pure.value_and_grad(w, s, *batch, xp=xp)

    def compile_value_and_grad(self, w: Array) -> Compiled:
        """`value_and_grad(w, s, *batch)`, compiled."""
        return self._to(w).compile(self.pure.value_and_grad, hold=2, check=self.check)

    def to_vector(self, w: Array) -> Any:
        """The learning weights as one NumPy vector of float64, as SciPy's optimizers take them.

        >>> import backprop_xp as bp
        >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)).freeze("dense1.b"))
        >>> w, s = learner.init(weights={"dense1.w": [[1], [2]], "dense1.b": [7]})
        >>> learner.to_vector(w).tolist()
        [1.0, 2.0]
        >>> learner.from_vector([3, 4], w).tolist()
        [3.0, 4.0, 7.0]
        """
        check_vector(w, self.net.layout)
        own = self.net.layout.learning_part(w, xp=backends.of(w).xp)
        return backends.host(own).astype("float64")

    def from_vector(self, vector: Any, w: Array) -> Array:
        """Weights like w, with these numbers for those that learn; a new array.

        Args:
            vector: one number for each learning weight, as from `to_vector`, of any library.
            w: weights whose frozen blocks, library, dtype and device are used; not changed.

        Raises:
            BackpropError: vector does not have one number for each learning weight.
        """
        check_vector(w, self.net.layout)
        to, spans = backends.of(w), self.net.layout.spans
        own = backends.copy(backends.convert(vector, to, w.dtype, to.device_of(w)))
        if tuple(own.shape) != (size := spans[-1].last if spans else 0,):
            msg = f"the weights that learn must be a vector of {size} numbers, got shape {tuple(own.shape)}"
            raise BackpropError(msg)
        return self.net.layout.merge(w, [(span, own[span.first : span.last]) for span in spans], xp=to.xp)


def _names(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
