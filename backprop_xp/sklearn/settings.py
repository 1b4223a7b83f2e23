"""A learner from the settings of an estimator."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from numbers import Integral
from typing import Any

from .. import activations, losses, schedules, updates
from ..activations import Activation
from ..arrays import as_integer
from ..errors import BackpropError, listed
from ..layers import Dense, Dropout, Embedding, Input, Integers
from ..learner import Learner
from ..losses import Loss
from ..net import Net, chain, concat, named
from ..number import is_number
from .table import NUMBERS

WIDEST = 50  # numbers in the vector of a category, at most; else count // 2 + 1 for count categories
SCHEDULES = ("cosine", "one_cycle", "plateau")


def batch_size(given: Any, n: int) -> int:
    """The rows of a step, at most all n rows; "auto" is min(200, n)."""
    if given == "auto":
        return min(200, n)
    size = as_integer(given)
    if size is None or size < 1:
        msg = f"batch_size must be 'auto' or a positive integer, got {given!r}"
        raise BackpropError(msg)
    return min(size, n)


def loss_of(given: Any, usual: Loss, kinds: Sequence[str], refused: tuple[type, ...] = ()) -> Loss:
    """The loss that the user gave, by name or as an object; `usual` if none is given.

    Args:
        given: the setting of the user.
        usual: the default.
        kinds: the kinds of targets that the estimator can give to a loss.
        refused: classes of losses that need an activation in the last layer, which has none.

    Raises:
        BackpropError: there is no such loss, or it is for other targets.
    """
    known = {name: each for name, each in losses.ALL.items() if _fits(each, kinds, refused)}
    found = usual if given is None else known.get(given) if isinstance(given, str) else given
    if not isinstance(found, Loss) or not _fits(found, kinds, refused):
        msg = f"loss must be one of {listed(known)}, or a loss object of such a kind; got {given!r}"
        raise BackpropError(msg)
    return found


def _fits(loss: Loss, kinds: Sequence[str], refused: tuple[type, ...]) -> bool:
    return loss.targets in kinds and not isinstance(loss, refused)


def net_of(
    hidden: Any, activation: Any, dropout: Any, features: int, units: int, categories: Sequence[int] = ()
) -> Net:
    """A net of hidden layers, given by width or as layers, and a last layer without an activation.

    Args:
        hidden: widths, and anything that `bp.chain` takes; a single width need not be in a tuple.
        activation: the activation of the layers given by width, by name or as an object; or one for each.
        dropout: the share of outputs dropped after each of these layers.
        features: the number of numeric columns of X.
        units: the number of output units.
        categories: the number of categories of each text column, without the unknown one.

    Raises:
        BackpropError: an activation is not known, or there are not as many as widths.
    """
    layers = [hidden] if isinstance(hidden, Integral) or not isinstance(hidden, Iterable) else list(hidden)
    widths = [k for k, each in enumerate(layers) if isinstance(each, Integral)]
    several = isinstance(activation, (list, tuple))
    chosen = list(activation) if several else [activation] * len(widths)
    if len(chosen) != len(widths):
        msg = f"activation must be a single one, or one for each of {len(widths)} widths; got {len(chosen)}"
        raise BackpropError(msg)
    for k, f in reversed(list(zip(widths, chosen, strict=True))):
        layers[k : k + 1] = [Dense(layers[k], _activation(f)), *([Dropout(dropout)] if dropout else [])]
    return chain(*_first(features, categories), *layers, Dense(units))


def _first(features: int, categories: Sequence[int]) -> list[Any]:
    """The first layers: the numeric columns beside the output of an embedding for each text column."""
    found: list[Any] = [named(NUMBERS, Input(features))] if features and categories else [features]
    found, sources = (found, [NUMBERS]) if features else ([], [])
    for k, count in enumerate(categories, 1):
        table = Embedding(count + 1, min(WIDEST, count // 2 + 1))
        found += [named(f"category{k}", Integers(1)), named(f"embedding{k}", table)]
        sources.append(f"embedding{k}")
    return [*found, concat(*sources[:-1])] if categories and len(sources) > 1 else found


def _activation(given: Any) -> Activation:
    if isinstance(given, str) and given not in activations.ALL:
        msg = f"activation must be one of {listed(activations.ALL)}, got {given!r}"
        raise BackpropError(msg)
    return activations.ALL[given] if isinstance(given, str) else given


def learner_of(net: Net, loss: Loss, settings: Mapping[str, Any], n: int) -> Learner:
    """The learner of a net: its update rule, penalty and clip.

    Args:
        net: the net.
        loss: the loss.
        settings: the settings of the estimator, by name.
        n: the number of training rows, for a schedule over all steps.

    Raises:
        BackpropError: a setting is not known or out of range.
    """
    penalty = settings["penalty"]
    if is_number(penalty):
        penalty = {"*.w": updates.L2(float(penalty))} if penalty else None
    return Learner(net, loss, _update(settings, n), penalty=penalty, clip=settings["clip"])


def _update(settings: Mapping[str, Any], n: int) -> Any:
    update, rate, schedule = settings["update"], settings["rate"], settings["schedule"]
    if not isinstance(update, str):
        if schedule is not None:
            msg = f"schedule={schedule!r} is for a rule given by name; give the rule object the schedule"
            raise BackpropError(msg)
        return update
    if update not in updates.ALL:
        msg = f"update must be one of {listed(updates.ALL)}, or a rule object; got {update!r}"
        raise BackpropError(msg)
    if schedule is not None and (not isinstance(schedule, str) or schedule not in SCHEDULES):
        msg = f"schedule must be one of {listed(SCHEDULES)}, got {schedule!r}; give other schedules as rate="
        raise BackpropError(msg)
    if schedule == "plateau":
        rate = schedules.Plateau(rate)
    elif schedule is not None:
        steps = int(settings["max_iter"]) * ceil(n / batch_size(settings["batch_size"], n))
        rate = schedules.ALL[schedule](rate, steps)
    return updates.ALL[update](rate)
