"""The checks of a layer."""

from collections import namedtuple
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Shape
from ..errors import BackpropError
from ..exact import namespace
from ..layers import Context, Input, Layer
from .formula import CLOSE, Formula, compare, exactly, fractions
from .gradient import agree, agree_exactly, differences
from .points import ROWS, points
from .report import CheckFailed, NotApplicable, Report, run
from .shared import Checks, check_made, family, rows_alone

_STREAM = 3


class Given(NamedTuple):
    """What a layer is given: parameters, inputs, ∂E/∂o, words of random bits, the first row, its state."""

    p: Any
    x: tuple[Any, ...]
    e: Any
    words: tuple[Any, Any]
    first: Any
    state: tuple[Any, ...]


def check_layer(layer: Layer, inputs: tuple[Any, ...] = ((5,),)) -> Report:
    """Check a layer of one's own: its derivatives, state and random bits, and that it runs everywhere.

    Args:
        layer: the layer.
        inputs: for each of its inputs the shape of a sample, such as (5,), or an array of four rows, as for a
            layer that reads integers.

    Returns:
        What was checked.

    Raises:
        CheckFailed: the first check that does not hold, in one sentence.
        BackpropError: it is no layer, or the inputs are not a shape or an array for each.

    >>> import backprop_xp as bp
    >>> check_layer(bp.Dense(2), inputs=((3,),)).held("exact")
    True
    """
    fit = isinstance(inputs, Sequence) and all(isinstance(a, Sequence) or hasattr(a, "shape") for a in inputs)
    if not fit:
        msg = f"the inputs are a shape, or an array, for each of them, as in inputs=((5,),); got {inputs!r}"
        raise BackpropError(msg)
    check_made(layer, "a layer derives from bp.layers.Layer", fits=isinstance(layer, Layer))
    return run(layer, _Checked(layer, inputs).checks())


class _Checked:
    """A layer, and what it is given."""

    def __init__(self, layer: Layer, inputs: tuple[Any, ...]) -> None:
        self.layer = layer
        shapes = [tuple(a.shape[1:]) if hasattr(a, "shape") else tuple(a) for a in inputs]
        self.x = tuple(
            np.asarray(a) if hasattr(a, "shape") else points((ROWS, *a), k, 2.0) for k, a in enumerate(inputs)
        )
        ends = isinstance(layer, Input)  # it passes no error back
        self.flows = {f"x{k}": a for k, a in enumerate(self.x) if a.dtype.kind == "f" and not ends}
        self.shape: Shape = (ROWS, *layer.shape(*shapes))
        self.params = {name: tuple(param.shape) for name, param in layer.params(*shapes).items()}
        self.states = tuple(tuple(param.shape) for param in layer.state(*shapes))

    @cached_property
    def given(self) -> Given:
        """Arguments of fixed numbers; a state is positive, since it may be a variance."""
        make = namedtuple("P", self.params)  # type: ignore[misc]
        p = make(*(points(shape, 5 + k, 1.0) for k, shape in enumerate(self.params.values())))
        state = tuple(abs(points(shape, 3, 1.0)) + 0.5 for shape in self.states)
        words = tuple(np.asarray(word, dtype=np.uint32) for word in (7, 11))
        return Given(p, self.x, points(self.shape, 4), words, np.asarray(0, dtype=np.int32), state)  # type: ignore[arg-type]

    def forward(self, given: Given, *, xp: Any, training: bool = True, stream: int = _STREAM) -> Any:
        """Flow and new state."""
        ctx = Context(training, *given.words, stream, given.state, given.first)
        return self.layer.forward(given.p, *given.x, ctx=ctx, xp=xp)

    def all_of(self, given: Given, kept: Any, *, xp: Any) -> Any:
        """All results of the layer, by name."""
        flow, state = self.forward(given, xp=xp)
        still, same = self.forward(given, xp=xp, training=False)
        delta = self.layer.delta(given.p, flow, given.e, xp=xp)
        grad = self.layer.grad(given.p, flow, delta, *given.x, xp=xp)
        pull = self.layer.pull(given.p, flow, delta, *given.x, xp=xp)
        x = self.x if self.flows or pull else ()
        counts = (("grad", grad, self.params), ("pull", pull, x), ("state", state, self.states))
        for name, made, wanted in counts:
            if len(made) != len(wanted):
                msg = f"{name} must give {len(wanted)} arrays, a tuple, got {len(made)}"
                raise CheckFailed(msg)
        return {
            "o": flow.o,
            "delta": delta,
            "grad": dict(zip(self.params, grad, strict=True)),
            "pull": {f"x{k}": a for k, a in enumerate(pull) if f"x{k}" in self.flows},
            "state": tuple(state),
            "o in evaluation": still.o,
            "state in evaluation": tuple(same),
        }

    def checks(self) -> Checks:
        """The checks of this layer, in their order."""
        formula = Formula(self.all_of, self.given)
        shapes = {"o": self.shape, "o in evaluation": self.shape}
        shapes |= {f"grad.{name}": shape for name, shape in self.params.items()}
        shapes |= {f"pull.{name}": a.shape for name, a in self.flows.items()}
        shapes |= {f"state[{k}]": shape for k, shape in enumerate(self.states)}
        own = {"gradient": self.gradient, "evaluation": self.evaluation, "random bits": self.random_bits}
        return family(self.layer, formula, shapes, own, lambda: self.exact(formula))

    @cached_property
    def variables(self) -> dict[tuple[str, str], Any]:
        """The arrays with respect to which the layer has derivatives, by method and name."""
        found = {("grad", name): getattr(self.given.p, name) for name in self.params}
        return found | {("pull", name): a for name, a in self.flows.items()}

    def gradient(self) -> str:
        """Every derivative against central differences."""
        made, counted, wrong = self.all_of(self.given, (), xp=np), [], []
        for (method, name), at in self.variables.items():

            def o(y: Any, method: str = method, name: str = name) -> Any:
                return self.forward(_with(self.given, method, name, y), xp=np)[0].o

            try:
                n = agree(
                    f"{method}.{name}",
                    made[method][name],
                    differences(o, at, self.given.e),
                    f"the method {method}",
                )
                counted.append(f"{method}.{name} at {n} points")
            except CheckFailed as error:
                wrong.append(error)
        if wrong:
            every = 1 < len(wrong) == len(self.variables)
            msg = f"{wrong[0]}{', or at delta, since no derivative is right' if every else ''}"
            raise CheckFailed(msg) from wrong[0]
        if not counted:
            reason = "it has no parameters, and no derivative flows on from it"
            raise NotApplicable(reason)
        return ", ".join(counted)

    def exact(self, formula: Formula) -> str:
        """On fractions the same numbers, and every derivative without rounding."""
        note, given, at = exactly(formula), fractions(self.given), fractions(self.variables)
        made = self.all_of(given, (), xp=namespace)
        for (method, name), x in at.items():

            def o(y: Any, method: str = method, name: str = name) -> Any:
                return self.forward(_with(given, method, name, y), xp=namespace)[0].o

            agree_exactly(f"{method}.{name}", o, x, given.e, made[method][name], f"the method {method}")
        return note

    def evaluation(self) -> str:
        """Outside training each row is what it is alone, nothing is random, and the state stays."""

        def looked(given: Any, kept: Any, *, xp: Any) -> Any:  # noqa: ARG001
            return {"o": self.forward(self.given._replace(x=given), xp=xp, training=False)[0].o}

        rows_alone(Formula(looked, self.x))
        o, state = self._looked(self.given)
        compare(
            {"state": state},
            {"state": self.given.state},
            "after a prediction",
            against="before: only training changes it",
        )
        compare(
            {"o": self._looked(self.given._replace(words=self.given.words[::-1]))[0]},
            {"o": o},
            "in a prediction with another seed",
            against="with this one: only training is random",
        )
        return "each row is what it is alone, and the state stays"

    def _looked(self, given: Given) -> Any:
        flow, state = self.forward(given, xp=np, training=False)
        return flow.o, state

    def random_bits(self) -> str:
        """Random numbers differ by seed, step, layer and row, and do not depend on how a batch is cut.

        Raises:
            NotApplicable: nothing is random.
        """
        seed, step = self.given.words
        one = np.asarray(1, dtype=np.uint32)
        others = {
            "seed": self._random(words=(seed + one, step)),
            "step": self._random(words=(seed, step + one)),
            "stream of the layer": self._random(stream=_STREAM + 1),
        }
        o = self._random()
        same = [what for what, other in others.items() if np.array_equal(o, other)]
        if len(same) == len(others):
            reason = "nothing is random"
            raise NotApplicable(reason)
        if same:
            msg = f"its random bits do not change with the {same[0]}: use ctx.seed, ctx.stream and ctx.step"
            raise CheckFailed(msg)
        half = ROWS // 2
        part = self._random(x=tuple(a[half:] for a in self.x), first=np.asarray(half, dtype=np.int32))
        compare(
            {"o": part},
            {"o": o[half:]},
            f"of the rows from {half} on, given with ctx.first = {half},",
            CLOSE["float64"],
            against="in the whole batch",
            look=": count rows from ctx.first, so that parts of a batch have masks of their own",
        )
        return "by seed, step, layer and row"

    def _random(self, *, stream: int = _STREAM, **changed: Any) -> Any:
        return self.forward(self.given._replace(**changed), xp=np, stream=stream)[0].o


def _with(given: Given, method: str, name: str, y: Any) -> Given:
    """The arguments with one parameter or input replaced."""
    if method == "grad":
        return given._replace(p=given.p._replace(**{name: y}))
    return given._replace(x=tuple(y if f"x{k}" == name else a for k, a in enumerate(given.x)))
