"""Make a learner from the settings of an estimator."""

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

WIDEST = 50  # the largest embedding; with n categories it has n // 2 + 1 numbers, if that is less
SCHEDULES = ("cosine", "one_cycle", "plateau")


def batch_size(given: Any, n: int) -> int:
    """The rows of a step: as many as asked for, but at most n; "auto" is min(200, n)."""
    if given == "auto":
        return min(200, n)
    size = as_integer(given)
    if size is None or size < 1:
        msg = f"batch_size must be 'auto' or a positive integer, got {given!r}"
        raise BackpropError(msg)
    return min(size, n)


def loss_of(given: Any, usual: Loss, kinds: Sequence[str], refused: tuple[type, ...] = ()) -> Loss:
    """The loss that the user gave, by name or as a loss; `usual` for None.

    Args:
        given: the user's setting.
        usual: the default.
        kinds: the kinds of targets that a loss may be for.
        refused: classes of losses that do not fit the estimator's last layer.

    Raises:
        BackpropError: there is no such loss, or it is for other targets.
    """
    known = {name: each for name, each in losses.ALL.items() if _fits(each, kinds, refused)}
    found = usual if given is None else known.get(given) if isinstance(given, str) else given
    if not isinstance(found, Loss) or not _fits(found, kinds, refused):
        msg = f"loss must be {listed(known)}, or such a loss with settings of its own; got {given!r}"
        raise BackpropError(msg)
    return found


def _fits(loss: Loss, kinds: Sequence[str], refused: tuple[type, ...]) -> bool:
    return loss.targets in kinds and not isinstance(loss, refused)


def net_of(
    hidden: Any, activation: Any, dropout: Any, features: int, units: int, categories: Sequence[int] = ()
) -> Net:
    """A net with these hidden layers, and a last layer without an activation.

    Args:
        hidden: widths, and layers as for `bp.chain`; or a single width.
        activation: the activation for all widths, by name or as an activation; or a list with one for each.
        dropout: the fraction of units dropped after each layer given by its width.
        features: the number of numeric columns in X.
        units: the number of output units.
        categories: the number of categories in each column of text, not counting unknown ones.
    """
    layers = [hidden] if isinstance(hidden, Integral) or not isinstance(hidden, Iterable) else list(hidden)
    widths = [k for k, each in enumerate(layers) if isinstance(each, Integral)]
    several = isinstance(activation, (list, tuple))
    chosen = list(activation) if several else [activation] * len(widths)
    if len(chosen) != len(widths):
        msg = f"activation must be one, or one for each of {len(widths)} widths; got {len(chosen)}"
        raise BackpropError(msg)
    for k, f in reversed(list(zip(widths, chosen, strict=True))):
        layers[k : k + 1] = [Dense(layers[k], _activation(f)), *([Dropout(dropout)] if dropout else [])]
    return chain(*_first(features, categories), *layers, Dense(units))


def _first(features: int, categories: Sequence[int]) -> list[Any]:
    """The inputs: numbers, and an embedding for each column of categories, concatenated."""
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
        settings: the estimator's settings, by name.
        n: the number of rows to train on, for a schedule over all steps.
    """
    penalty = settings["penalty"]
    if is_number(penalty):
        penalty = {"*.w": updates.L2(float(penalty))} if penalty else None
    return Learner(net, loss, _update(settings, n), penalty=penalty, clip=settings["clip"])


def _update(settings: Mapping[str, Any], n: int) -> Any:
    update, rate, schedule = settings["update"], settings["rate"], settings["schedule"]
    if not isinstance(update, str):
        return update
    if update not in updates.ALL:
        msg = f"update must be one of {listed(updates.ALL)}, or such a rule as it is; got {update!r}"
        raise BackpropError(msg)
    if schedule is not None and (not isinstance(schedule, str) or schedule not in SCHEDULES):
        msg = f"schedule must be one of {listed(SCHEDULES)}, got {schedule!r}: give others as rate="
        raise BackpropError(msg)
    if schedule == "plateau":
        rate = schedules.Plateau(rate)
    elif schedule is not None:
        steps = int(settings["max_iter"]) * ceil(n / batch_size(settings["batch_size"], n))
        rate = schedules.ALL[schedule](rate, steps)
    return updates.ALL[update](rate)
