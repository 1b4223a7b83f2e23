"""Parameter groups: which update rule each block of weights follows, and which penalty it has.

Rules that differ only in their rate or weight decay are of one kind: they run together, over one vector
of rates and one of decays.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from .errors import BackpropError, got_instead, listed
from .number import is_number
from .params import Block, Layout, Span
from .schedules import Plateau
from .updates import Averaged, Penalty, Update

Updates = Update | Mapping[str, Update]
Penalties = Penalty | Mapping[str, Penalty]


class Part(NamedTuple):
    """Adjacent blocks that follow one kind of rule, or have one penalty."""

    rule: Any
    span: Span


def matches(pattern: str, block: str) -> bool:
    """Whether a pattern matches a block, by the name of the block or that of its layer.

    >>> [matches(p, "dense1.b") for p in ("dense1", "dense1.b", "*.b", "dense*", "dense")]
    [True, True, True, True, False]
    """
    return any(fnmatchcase(name, pattern) for name in (block, block.rpartition(".")[0]))


def first_match(table: Mapping[str, Any], block: str) -> Any:
    """The entry of the first pattern that matches the block; None if none does."""
    return next((value for pattern, value in table.items() if matches(pattern, block)), None)


def check_patterns(table: Iterable[str], blocks: Iterable[str], what: str) -> None:
    """Check that every pattern matches a block.

    Raises:
        BackpropError: one matches none.
    """
    blocks = list(blocks)
    if unknown := [p for p in table if not (isinstance(p, str) and any(matches(p, b) for b in blocks))]:
        msg = (
            f"the net has no {listed(unknown)}; {what} can be given for {listed(blocks)}, their layers, and "
            "patterns such as '*.b'"
        )
        raise BackpropError(msg)


def rules(update: Updates, layout: Layout) -> tuple[Update, ...]:
    """The rule of each learning block; its rate is a number or a schedule.

    Args:
        update: one rule for all; or rules by layer, block or pattern, of which the first that matches
            a block is its rule. A rule whose rate is a mapping stands for one rule per entry.
        layout: the layout of the net.

    Raises:
        BackpropError: a pattern that matches no block, or a learning block that no pattern matches.

    >>> from backprop_xp.updates import GradientDescent
    >>> layout = Layout.of({"a.w": (2,), "a.b": (1,)})
    >>> [rule.rate for rule in rules({"*.b": GradientDescent(1), "a": GradientDescent(2)}, layout)]
    [2, 1]
    """
    if isinstance(update, Mapping):
        _check_rules(update)
        check_patterns(update, [b.name for b in layout.blocks], "rules")
    return tuple(_rule_of(block, update, layout) for block in layout.learning)


def _check_rules(update: Mapping[str, Any]) -> None:
    for pattern, rule in update.items():
        if not (hasattr(rule, "element") and hasattr(rule, "scalars")) or isinstance(rule, type):
            msg = (
                f"the update rule of '{pattern}' must be one such as bp.GradientDescent(0.1), "
                f"{got_instead(rule)}"
            )
            raise BackpropError(msg)


def _rule_of(block: Block, update: Updates, layout: Layout) -> Update:
    rule = first_match(update, block.name) if isinstance(update, Mapping) else update
    if rule is None:
        msg = f"update rules must name every block that learns; '{block.name}' is not in {listed(update)}"
        raise BackpropError(msg)
    if not isinstance(rule.rate, Mapping):
        return rule
    check_patterns(rule.rate, [b.name for b in layout.blocks], "rates")
    rate = rule.rate.get(block.name, first_match(rule.rate, block.name))  # its own name wins
    if rate is None:
        layer = block.name.rpartition(".")[0]
        msg = f"a mapping of rates must name every layer that learns; '{layer}' is not in {listed(rule.rate)}"
        raise BackpropError(msg)
    return _with_rate(rule, rate)


def _with_rate(rule: Any, rate: Any) -> Update:
    if isinstance(rule, Averaged):
        return replace(rule, rule=_with_rate(rule.rule, rate))
    return replace(rule, rate=rate)  # type: ignore[no-any-return]


def penalties(penalty: Penalties | None, layout: Layout) -> tuple[Penalty | None, ...]:
    """The penalty of each learning block.

    Args:
        penalty: one for all; or penalties by layer, block or pattern, of which the first that matches a
            block is its penalty. A block that no pattern matches has none.
        layout: the layout of the net.

    Raises:
        BackpropError: a pattern that matches no block, or an entry that is not a penalty.

    >>> from backprop_xp.updates import L2
    >>> penalties({"*.w": L2(0.5)}, Layout.of({"a.w": (2,), "a.b": (1,)}))
    (L2(strength=0.5), None)
    """
    if not isinstance(penalty, Mapping):
        return (penalty,) * len(layout.learning)
    for pattern, own in penalty.items():
        if not isinstance(own, Penalty) or isinstance(own, type):
            msg = f"the penalty of '{pattern}' must be one such as bp.updates.L2(0.01), {got_instead(own)}"
            raise BackpropError(msg)
    check_patterns(penalty, [b.name for b in layout.blocks], "penalties")
    return tuple(first_match(penalty, block.name) for block in layout.learning)


def parts(each: tuple[Any, ...], layout: Layout, kind: Callable[[Any], Any]) -> tuple[Part, ...]:
    """Adjacent blocks whose rules (or penalties) are of one kind, merged.

    Args:
        each: the rule, or the penalty, of each learning block.
        layout: the layout of the net.
        kind: gives the kind of a rule or penalty; blocks of equal kind are merged.
    """
    found: list[Part] = []
    first = 0
    for block, rule in zip(layout.learning, each, strict=True):
        n = block.stop - block.start
        span = Span(block.start, block.stop, first, first + n)
        first += n
        if found and found[-1].span.stop == block.start and kind(found[-1].rule) == kind(rule):
            old = found[-1].span
            found[-1] = found[-1]._replace(span=old._replace(stop=span.stop, last=span.last))
        else:
            found.append(Part(rule, span))
    return tuple(found)


def kind(rule: Any) -> Any:
    """The kind of a rule: its class and settings, without the numbers in which rules of a kind may differ."""
    if isinstance(rule, Averaged):
        return Averaged, rule.decay, kind(rule.rule)
    if not is_dataclass(rule):
        return rule
    own = {f.name: getattr(rule, f.name) for f in fields(rule)}
    for name in getattr(rule, "numbers", ("rate",)):
        if is_number(own.get(name)):
            own.pop(name)
    return type(rule), tuple(own.items())


def rates(update: Updates, each: tuple[Update, ...]) -> tuple[Any, ...]:
    """The rate of each learning block if rates of one kind of rule differ, else (); for a schedule, 1.

    A mapping of rates counts as differing, so that its numbers are part of the state.
    """
    constant = {(kind(rule), rule.rate) for rule in each if is_number(rule.rate)}
    mapping = not isinstance(update, Mapping) and isinstance(update.rate, Mapping)
    if not mapping and len(constant) == len({one for one, _ in constant}):
        return ()
    return tuple(rule.rate if is_number(rule.rate) else 1 for rule in each)


def decays(each: tuple[Update, ...]) -> tuple[Any, ...]:
    """The weight decay of each learning block if decays of one kind of rule differ, else ()."""
    own = tuple(_decay(rule) for rule in each)
    different = {(kind(rule), decay) for rule, decay in zip(each, own, strict=True)}
    return () if len(different) == len({one for one, _ in different}) else own


def _decay(rule: Any) -> Any:
    if isinstance(rule, Averaged):
        return _decay(rule.rule)
    return rule.decay if "decay" in getattr(rule, "numbers", ()) else 0


def plateau(each: tuple[Update, ...]) -> Plateau | None:
    """The Plateau that the rules have as their rate; None if they have none.

    Raises:
        BackpropError: there are two different ones; the state has room for one.
    """
    found = [rule.rate for rule in each if isinstance(rule.rate, Plateau)]
    if any(other != found[0] for other in found):
        shown = listed(dict.fromkeys(found))
        msg = f"all groups with a bp.schedules.Plateau must have the same one, got {shown}"
        raise BackpropError(msg)
    return found[0] if found else None
