"""Watching: intermediate values of a step, returned with its result under static names.

A name is a layer and a field, such as "dense1.delta"; either may be a pattern. Eight fields are the
values of a layer; four more are those from which the update rule made the change. Values of the whole step
are "step.clip_factor", "step.loss_scale" and "step.applied".
"""

from collections.abc import Iterable
from copy import copy
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from .arrays import Array, Namespace, leaves, mapped
from .errors import BackpropError, listed
from .net import Net
from .params import join

RULE = ("grad_used", "scalars", "moments_before", "moments_after")  # from which a change was made
FIELDS = ("net", "o", "e", "delta", "grad", "change", "w_before", "w_after", *RULE)
BY_PARAMETER = ("grad", "change", "w_before", "w_after", *RULE)
WHOLE = ("clip_factor", "loss_scale", "applied")  # of the whole step, if it has them
STEP = -1  # the whole step, in place of the number of a node


class Watched:
    """Which values of a step are kept, and those kept so far.

    Args:
        net: the net.
        names: layers and fields, such as "dense1.delta" or "*.o".
        to_input: whether the backward pass goes on to the input.
        whole: those of WHOLE that this step has.

    Attributes:
        wanted: pairs of a node's number and a field; STEP stands for the whole step.
        seen: the values kept, by the same pairs; fields of parameters are mappings by parameter.

    Raises:
        BackpropError: a name that matches nothing in this net.

    >>> from backprop_xp import Dense, chain
    >>> sorted(Watched(chain(2, Dense(3), Dense(1)), ["*.delta", "dense2.grad"]).wanted)
    [(1, 'delta'), (2, 'delta'), (2, 'grad')]
    """

    def __init__(
        self, net: Net, names: Iterable[str], *, to_input: bool = False, whole: Iterable[str] = ()
    ) -> None:
        names = [names] if isinstance(names, str) else list(names)
        if wrong := [each for each in names if not isinstance(each, str)]:
            msg = f"watch= takes names such as '*.o' or 'dense1.delta', got {wrong[0]!r}"
            raise BackpropError(msg)
        self.net = net
        there: dict[tuple[int, str], str] = {(STEP, field): f"step.{field}" for field in whole}
        for k, node in enumerate(net.nodes):
            own = [field for field in FIELDS if _exists(net, k, field, to_input=to_input)]
            there |= {(k, field): f"{node.name}.{field}" for field in own}
        self.names = there
        self.wanted = {key for key, name in there.items() if any(fnmatchcase(name, each) for each in names)}
        if unknown := [each for each in names if not any(fnmatchcase(n, each) for n in there.values())]:
            msg = f"this step has no {listed(unknown)} to watch; it has {listed(there.values())}"
            raise BackpropError(msg)
        self.seen: dict[tuple[int, str], Any] = {}

    @property
    def found(self) -> dict[str, Any]:
        """The values kept, by name: those of the whole step, then layer by layer."""
        return {name: self.seen[key] for key, name in self.names.items() if key in self.seen}

    def fresh(self) -> "Watched":
        """A copy that wants the same values and has none yet."""
        other = copy(self)
        other.seen = {}
        return other

    def wants(self, *fields: str) -> bool:
        """Whether one of these fields is wanted, of any layer."""
        return any(field in fields for _, field in self.wanted)

    def see(self, k: int, field: str, value: Any) -> None:
        """Keep a field of node k, or of the whole step, if it is wanted."""
        if (k, field) in self.wanted:
            self.seen[k, field] = value

    def see_blocks(self, field: str, blocks: dict[str, Array]) -> None:
        """Keep a field of each node's parameters, given by block name."""
        for k, node in enumerate(self.net.nodes):
            own = {b.rpartition(".")[2]: a for b, a in blocks.items() if b.rpartition(".")[0] == node.name}
            if own:
                self.see(k, field, own)

    def see_parts(self, parts: "list[Watched]", *, xp: Namespace) -> None:
        """Keep the values of the parts of a batch together: rows joined, gradients added up."""
        for key in parts[0].seen:
            each = [part.seen[key] for part in parts]
            together = _sum if key[1] == "grad" else partial(join, xp=xp)
            columns = iter([together(list(c)) for c in zip(*map(leaves, each), strict=True)])
            self.seen[key] = mapped(each[0], lambda _: next(columns))  # noqa: B023 (used at once)


def _sum(parts: list[Array]) -> Array:
    """A sum along the tree of `step.total`."""
    half = len(parts) // 2
    return parts[0] if len(parts) == 1 else _sum(parts[:half]) + _sum(parts[half:])


def _exists(net: Net, k: int, field: str, *, to_input: bool) -> bool:
    """Whether a step computes this field at node k."""
    if field in ("e", "delta"):
        return k in (net.path_to_input if to_input else net.path)
    if field == "grad" or field in RULE:
        return k in net.trainable
    return field not in BY_PARAMETER or any(b.rpartition(".")[0] == net.nodes[k].name for b in net.shapes)
