"""A step that updates layer by layer, as in the article "backpropagation further backwards".

It goes from the last layer that learns to the first. For each it makes a forward pass with the weights as
they are then, a backward pass, and an update of that layer only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .arrays import Array, Namespace
from .step import State, Step
from .watch import Watched


@dataclass(frozen=True)
class LayerwiseStep(Step):
    """A step that updates one layer after the other, by plain gradient descent."""

    def __call__(self, w: Array, s: State, *batch: Any, xp: Namespace, watch: Iterable[str] = ()) -> Any:
        """One update from a batch; the loss and the layers' states are those of the first forward pass.

        A layer that learns is watched in its own pass, any other layer in the first pass that reaches it.
        """
        first, count = None, s.rule.count + 1
        watched = Watched(self.net, watch, to_input=self.to_input) if watch else None
        for k, step, part in self._one_layer_each:
            rates = s.rule.rates
            own = s if isinstance(rates, tuple) else s._replace(rule=s.rule._replace(rates=rates[part]))
            here = watched and watched.fresh()
            gradient = step.gradient(w, own, *batch, xp=xp, watched=here)
            w, _, _ = step.apply(w, own, gradient, xp=xp, watched=here)
            if watched is not None and here is not None:
                passed = range(len(self.net.nodes)) if self.to_input or first is None else step.net.path
                shown = {k, *passed} - (self.net.trainable - {k})
                watched.seen = {key: a for key, a in here.seen.items() if key[0] in shown} | watched.seen
            first = first or gradient
        assert first is not None
        state = s._replace(rule=s.rule._replace(count=count), layers=first.layers, step=s.step + 1)
        return (w, state, first.loss) if watched is None else (w, state, first.loss, watched.found)

    @cached_property
    def _one_layer_each(self) -> tuple[tuple[int, Step, slice], ...]:
        """For each layer that learns, last first: its node, a step that updates only it, and its rates."""
        found, slices = [], self.net.layout.gradient_slices
        for k in sorted(self.net.trainable, reverse=True):
            own = [b for b in slices if b.rpartition(".")[0] == self.net.nodes[k].name]
            net = self.net.freeze(*(b for b in slices if b not in own))
            part = slice(slices[own[0]].start, slices[own[-1]].stop)
            step = Step(net, self.loss, self.update, self.reduction, self.to_input)
            found.append((k, step, part))
        return tuple(found)
