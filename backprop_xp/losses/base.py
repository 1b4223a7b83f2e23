"""The base classes of losses: of all, and of those whose targets are a distribution over classes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Literal

from ..arrays import Array, Namespace, as_integer
from ..errors import BackpropError

Targets = Literal["numbers", "counts", "signs", "probabilities", "distribution"]


@dataclass(frozen=True)
class Loss(ABC):
    """The base class of losses; unless a loss says otherwise, targets are numbers and `link` is the identity.

    Attributes:
        targets: 'numbers' (any finite number per unit), 'counts' (each 0 or more), 'signs' (each -1 or 1),
            'probabilities' (each in [0, 1]) or 'distribution' (each in [0, 1]; integer labels of shape
            (batch,) are also accepted).

    >>> class FourthPower(Loss):
    ...     def value(self, o, t, *, xp):
    ...         return xp.sum((o - t) ** 4, axis=-1)
    ...
    ...     def error(self, o, t, *, xp):
    ...         return 4 * (o - t) ** 3
    >>> import backprop_xp as bp
    >>> bp.Learner(bp.chain(2, bp.Dense(1)), FourthPower()).loss
    FourthPower()
    """

    targets: ClassVar[Targets] = "numbers"

    @property
    def ignored(self) -> int | None:
        """The label of rows that the loss ignores; None for none."""
        return None

    def check_units(self, units: int) -> None:  # noqa: B027 (few losses have such settings)
        """Check that the settings fit a net with this many output units; a learner calls it once.

        Raises:
            BackpropError: they do not.
        """

    def encode(self, t: Array, o: Array, *, xp: Namespace) -> Array:
        """Targets as numbers, shape (batch, units): integer labels become one-hot rows."""
        if t.ndim == o.ndim:
            return t
        t = t if t.dtype == xp.int32 else xp.astype(t, xp.int32)
        k = xp.arange(o.shape[-1], dtype=xp.int32, device=getattr(o, "device", None))
        return xp.astype(xp.expand_dims(t, axis=-1) == k, o.dtype)

    @abstractmethod
    def value(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The loss E of each sample, shape (batch,)."""

    @abstractmethod
    def error(self, o: Array, t: Array, *, xp: Namespace) -> Array:
        """The error e = ∂E/∂o of each sample, shape (batch, units)."""

    def link(self, o: Array, *, xp: Namespace) -> Array:
        """What `predict` returns for the output o, shape (batch, units)."""
        return o


@dataclass(frozen=True)
class DistributionLoss(Loss):
    """The base class of losses on classes: targets are integer labels, or the probability of each class.

    Such a loss is linear in t, so its settings only change the targets: the row y, one-hot for a label or
    given as probabilities, becomes t_k = v_k ((1 − s) y_k + s Σ_j y_j / n) over the n classes. This equals
    PyTorch's `cross_entropy` in every combination of settings, except that 'mean' divides by the number of
    rows, ignored ones included, where PyTorch divides by the sum of the class weights of the labels.

    Args:
        smoothing: the share s, 0 <= s < 1, of a target that is spread evenly over all classes
            (Szegedy and others: Rethinking the Inception architecture for computer vision, 2016).
        class_weights: the weight v_k of each class, 0 or more; None for 1.
        ignored: the label of rows that add nothing to the loss or the error, such as -100; it may be a
            class. Rows of probabilities are never ignored: give them a weight of 0.

    Raises:
        BackpropError: a setting is out of range.

    >>> import numpy as np, backprop_xp as bp
    >>> loss = bp.losses.SoftmaxCrossEntropy(smoothing=0.5, class_weights=(1, 4), ignored=-1)
    >>> loss.encode(np.asarray([0, 1, -1]), np.zeros((3, 2)), xp=np).tolist()
    [[0.75, 1.0], [0.25, 3.0], [0.0, 0.0]]
    """

    targets = "distribution"
    smoothing: float = 0
    class_weights: Sequence[float] | None = None
    ignored: int | None = None

    def __post_init__(self) -> None:
        check_setting(self, "smoothing", lambda s: 0 <= s < 1, "a number with 0 <= smoothing < 1")
        if self.ignored is not None:
            label = as_integer(self.ignored)
            if label is None or not -(2**31) <= label < 2**31:
                msg = f"the ignored label must be an integer of 32 bits such as -100, got {self.ignored!r}"
                raise BackpropError(msg)
            object.__setattr__(self, "ignored", label)
        if self.class_weights is not None:
            object.__setattr__(self, "class_weights", _class_weights(self.class_weights))

    def check_units(self, units: int) -> None:
        """Check that there is a class weight for each output unit.

        Raises:
            BackpropError: there is not.
        """
        if self.class_weights is not None and len(self.class_weights) != units:
            msg = (
                f"class_weights of {type(self).__name__} must have one number for each of {units} output "
                f"units, got {len(self.class_weights)}"
            )
            raise BackpropError(msg)

    def encode(self, t: Array, o: Array, *, xp: Namespace) -> Array:
        """Targets as rows t_k = v_k ((1 − s) y_k + s Σ_j y_j / n), shape (batch, units); 0 if ignored."""
        rows, n, device = super().encode(t, o, xp=xp), o.shape[-1], getattr(o, "device", None)
        is_class = self.ignored is not None and 0 <= self.ignored < n  # other labels have rows of 0 already
        if t.ndim < o.ndim and is_class:
            rows = xp.where(xp.arange(n, dtype=xp.int32, device=device) == self.ignored, 0, rows)
        if self.smoothing:
            total = xp.sum(rows, axis=-1, keepdims=True)
            rows = rows + self.smoothing * (total - n * rows) / n
        if self.class_weights is None:
            return rows
        return rows * xp.asarray(self.class_weights, dtype=o.dtype, device=device)


def check_setting(loss: Any, name: str, fits: Callable[[Any], bool], words: str) -> None:
    """Check a setting that is a number; a scalar of NumPy or another library becomes a Python number.

    Args:
        loss: the loss that has the setting.
        name: the name of the setting.
        fits: whether a number is in range.
        words: what it must be, for the message.

    Raises:
        BackpropError: it is not a number, or out of range.
    """
    value = _number(getattr(loss, name))
    if value is None or not fits(value):
        msg = f"{name} of {type(loss).__name__} must be {words}, got {getattr(loss, name)!r}"
        raise BackpropError(msg)
    object.__setattr__(loss, name, value)


def _number(value: Any) -> int | float | None:
    """A number as a Python int or float; None for anything else, booleans too."""
    value = value.item() if hasattr(value, "item") and not value.ndim else value
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _class_weights(given: Any) -> tuple[int | float, ...]:
    found = () if isinstance(given, (str, dict)) or not hasattr(given, "__len__") else tuple(given)
    weights = tuple(_number(v) for v in found)
    if not weights or not all(v is not None and 0 <= v < inf for v in weights):
        want = "a sequence of finite numbers, each 0 or more, one per class"
        msg = f"class_weights must be {want}; got {given!r}"
        raise BackpropError(msg)
    return weights  # type: ignore[return-value]
