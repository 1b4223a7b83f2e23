"""The first weights and the first state of a learner, the same on every backend."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

from . import backends, loss_scale, rng
from .arrays import Array, Shape
from .backends import Backend
from .checks import check_block
from .errors import BackpropError, got_instead, listed, too_large
from .groups import check_patterns, first_match, matches
from .initialization import Initializer
from .net import Net
from .number import number
from .params import Param, join
from .step import LAYER_STREAMS, State, Step
from .updates import RuleState

Initial = Initializer | Mapping[str, Initializer]

_WEIGHTS = 0  # the stream of random bits for initial weights
_AT_ONCE = 1 << 16  # numbers drawn in one part; each part is converted before the next is drawn
_NO_MEMORY = ("memory", "resource_exhausted")  # in the messages of Torch and JAX


def initial_values(
    params: Mapping[Any, Param], seed: int, stream: int, chosen: Mapping[Any, Initializer] | None = None
) -> Iterator[tuple[Any, Iterator[Array]]]:
    """The initial values of each parameter, flat and in parts, so that little memory is needed.

    Args:
        params: the parameters by name; each continues the random stream where the one before ended.
        seed: the seed of the run.
        stream: the number of the stream of random bits.
        chosen: initializers by name, used instead of the parameter's own centre and spread.

    Returns:
        Pairs of a name and an iterator over float64 vectors on the host, drawn lazily.

    >>> [(name, [part.shape for part in parts]) for name, parts in initial_values({"w": Param((2, 3))}, 0, 0)]
    [('w', [(6,)])]
    """
    start = 0
    for name, param in params.items():
        yield name, _drawn(param, (chosen or {}).get(name), seed, stream, start)
        start += prod(param.shape)


def _drawn(param: Param, rule: Initializer | None, seed: int, stream: int, start: int) -> Iterator[Array]:
    """Numbers from an initializer, or drawn uniformly from centre ± spread."""
    xp, size = backends.get("numpy").xp, prod(param.shape)
    at_once = max(size, 1) if rule is not None and rule.whole else _AT_ONCE
    for first in range(0, size, at_once):
        n = min(at_once, size - first)
        words = rng.bits(seed, stream, start + first, n, xp=xp)
        if rule is None:
            yield param.centre + param.spread * (2 * rng.uniform(words, xp.float64, xp=xp) - 1)
            continue
        numbers = rule.numbers(words, param.shape, xp=xp)
        if tuple(getattr(numbers, "shape", ())) != (n,):
            got = getattr(numbers, "shape", numbers)
            msg = f"the method numbers of {rule} must return a vector of {n} numbers, got {got}"
            raise BackpropError(msg)
        yield numbers


def chosen_initializers(initial: Initial | None, shapes: Mapping[str, Shape]) -> dict[str, Initializer]:
    """The initializers of blocks: for each block the first that matches its name and fits its shape, if any.

    Args:
        initial: one for all blocks; or initializers by layer, block or pattern.
        shapes: the shapes of the blocks.

    Raises:
        BackpropError: an entry that is not an initializer, a pattern that matches no block, or an
            initializer that fits none of the blocks that it is given for.

    >>> from backprop_xp.initialization import Constant, HeNormal
    >>> shapes = {"dense1.w": (2, 3), "dense1.b": (3,), "dense2.w": (3, 1)}
    >>> chosen_initializers({"dense1": HeNormal(), "*.b": Constant(1)}, shapes)
    {'dense1.w': HeNormal(), 'dense1.b': Constant(value=1)}
    """
    table: Mapping[str, Any] = (
        {} if initial is None else initial if isinstance(initial, Mapping) else {"*": initial}
    )
    for pattern, each in table.items():
        if not isinstance(each, Initializer):
            msg = (
                f"the initial values of '{pattern}' must come from an initializer such as "
                f"bp.initialization.HeNormal(), {got_instead(each)}"
            )
            raise BackpropError(msg)
    check_patterns(table, shapes, "initial values")
    for pattern, each in table.items():
        named = {block: shape for block, shape in shapes.items() if matches(pattern, block)}
        if not any(each.fits(shape) for shape in named.values()):
            msg = (
                f"{each} fits no block that '{pattern}' names: "
                f"{', '.join(f'{block} of shape {shape}' for block, shape in named.items())}; most "
                "initializers are for weights of shape (n_in, n_out), Constant and Uniform for any shape"
            )
            raise BackpropError(msg)
    found = {
        block: first_match({p: each for p, each in table.items() if each.fits(shape)}, block)
        for block, shape in shapes.items()
    }
    return {block: each for block, each in found.items() if each is not None}


@contextmanager
def enough_memory(step: Step, to: Backend, device: Any, kind: Any) -> Iterator[None]:
    """A context manager in which weights and state are made, if there is memory for them and the gradient.

    Raises:
        BackpropError: there is not. It is raised before anything is made if the free memory is known, else
            when the library runs out of memory.
    """
    layout, size = step.net.layout, _size(step, to, kind)
    parts = "their gradient" + " and moments" * bool(step.moments)
    free = to.free_memory(device)
    if free is not None and size > free:
        raise too_large(layout.size, parts, size, free)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(w in str(error).lower() for w in _NO_MEMORY):
            raise
        raise too_large(layout.size, parts, size, None) from error


def _size(step: Step, to: Backend, kind: Any) -> int:
    """The bytes of weights, gradient and moments; fractions take more than is counted here."""
    bits = to.xp.finfo(kind).bits if hasattr(to.xp, "finfo") else 64
    learning = sum(b.stop - b.start for b in step.net.layout.learning)
    return bits // 8 * (step.net.layout.size + (1 + step.moments) * learning)


def given_weights(
    net: Net, weights: Mapping[str, Any], to: Backend, device: Any, kind: Any, *, partial: bool
) -> dict[str, Array]:
    """The blocks that are given, as arrays of a backend.

    Raises:
        BackpropError: wrong shapes, values that are not finite, or missing blocks without `partial`.
    """
    own = {block: backends.convert(values, to, kind, device) for block, values in weights.items()}
    for block, part in own.items():
        check_block(block, part, net.shapes[block])
    missing = [block for block in net.shapes if block not in own]
    if own and missing and not partial:
        msg = f"weights lack {listed(missing)}: give all blocks, or write partial=True to draw these"
        raise BackpropError(msg)
    return own


def first_weights(
    net: Net,
    seed: int,
    to: Backend,
    device: Any,
    kind: Any,
    given: Mapping[str, Array],
    chosen: Mapping[str, Initializer],
) -> Array:
    """The flat vector of all parameters: those given, the others drawn."""
    parts = []
    for block, drawn in initial_values(net.params, seed, _WEIGHTS, chosen):
        if block in given:
            parts.append(to.xp.reshape(given[block], (-1,)))
        else:
            parts += (to.asarray(part, kind, device) for part in drawn)
    parts = parts or [to.xp.zeros((0,), dtype=kind, device=device)]
    return join(parts, xp=to.xp) if len(parts) > 1 else backends.copy(parts[0])  # not the caller's array


def first_state(
    step: Step, seed: int, w: Array, to: Backend, *, rates: Array, decays: Array, scaled: bool
) -> State:
    """The state before the first step.

    Args:
        step: the step of the learner.
        seed: the seed of the run.
        w: the weights, or an abstract array like them.
        to: their backend.
        rates: the rate of each learning weight if rates differ, else ().
        decays: the weight decay of each learning weight if decays differ, else ().
        scaled: whether there is a loss scale.
    """
    xp, device = to.xp, to.device_of(w)
    word = rng.word(xp)
    learning = step.net.layout.learning_part(w, xp=xp)
    layers = []
    for k, params in enumerate(step.net.state):
        own = []
        for i, drawn in initial_values(dict(enumerate(params)), seed, LAYER_STREAMS + k):
            parts = [to.asarray(part, w.dtype, device) for part in drawn]
            own.append(xp.reshape(join(parts, xp=xp), params[i].shape))
        layers.append(tuple(own))
    plateau = [number(a, xp=xp) for a in step.plateau.first()] if step.plateau else []
    return State(
        rule=RuleState(
            count=xp.zeros((), dtype=xp.int32, device=device),
            rates=rates,
            moments=tuple(xp.zeros_like(learning) for _ in range(step.moments)),
            decays=decays,
            plateau=to.asarray(plateau, w.dtype, device) if plateau else (),
        ),
        layers=tuple(layers),
        step=xp.zeros((), dtype=word, device=device),
        seed=xp.full((), rng.constant(seed, word, xp=xp), dtype=word, device=device),
        scale=loss_scale.first_scale(w, xp=xp, device=device) if scaled else (),
    )
