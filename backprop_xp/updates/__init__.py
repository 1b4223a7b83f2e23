"""Update rules (optimizers), and the penalties and gradient clipping that come before them.

A rule is two functions. `scalars` is called once per step and returns what all weights share (the
rate, bias corrections). `element` is elementwise on any slice of the learning weights, so it can run on
the whole vector, in blocks, or fused. `ALL` lists the rules, `PENALTIES` the penalties and `CLIPS` the
kinds of clipping; tests run over these lists.
"""

from typing import Any

from ..number import number as number
from .adaptive import Adadelta as Adadelta
from .adaptive import Adagrad as Adagrad
from .adaptive import Adam as Adam
from .adaptive import AdamW as AdamW
from .adaptive import Lion as Lion
from .adaptive import NAdam as NAdam
from .adaptive import RMSProp as RMSProp
from .averaged import Averaged as Averaged
from .clipping import Clip as Clip
from .clipping import ClipByNorm as ClipByNorm
from .clipping import ClipByValue as ClipByValue
from .descent import GradientDescent as GradientDescent
from .descent import Momentum as Momentum
from .descent import bounded as bounded
from .penalties import L1 as L1
from .penalties import L2 as L2
from .penalties import Penalty as Penalty
from .rule import Rate as Rate
from .rule import RuleState as RuleState
from .rule import Update as Update
from .rule import decay_now as decay_now
from .rule import rate_now as rate_now

ALL: dict[str, Any] = {
    "gradient_descent": GradientDescent,
    "momentum": Momentum,
    "adagrad": Adagrad,
    "rmsprop": RMSProp,
    "adadelta": Adadelta,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": NAdam,
    "lion": Lion,
}
PENALTIES: dict[str, Any] = {"l1": L1, "l2": L2}
CLIPS: dict[str, Any] = {"norm": ClipByNorm, "value": ClipByValue}
