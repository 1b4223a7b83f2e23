"""Layers: each is the four textbook equations, one method each.

    forward   net, o        from the inputs x and the parameters p
    delta     ∂E/∂net       from e = ∂E/∂o
    grad      ∂E/∂w         from delta, one for each parameter
    pull      ∂E/∂x         from delta, one for each input

A layer is a frozen dataclass of its settings. It knows nothing of traces, freezing or skip
connections: the forward and backward pass in `net` decide which of the four are needed. Arrays are
(batch, units). `ALL` lists the layers; tests run over that list.
"""

from .base import Context as Context
from .base import Flow as Flow
from .base import Layer as Layer
from .base import check_activation as check_activation
from .base import check_count as check_count
from .base import listed_shapes as listed_shapes
from .base import units as units
from .dense import Activate as Activate
from .dense import Dense as Dense
from .dense import Linear as Linear
from .dense import PReLU as PReLU
from .dropout import Dropout as Dropout
from .embedding import Embedding as Embedding
from .inputs import Input as Input
from .inputs import Integers as Integers
from .normalization import BatchNorm as BatchNorm
from .normalization import LayerNorm as LayerNorm
from .skips import Add as Add
from .skips import Concat as Concat
from .skips import Multiply as Multiply

ALL: dict[str, type[Layer]] = {
    "input": Input,
    "integers": Integers,
    "dense": Dense,
    "activate": Activate,
    "prelu": PReLU,
    "add": Add,
    "concat": Concat,
    "multiply": Multiply,
    "layernorm": LayerNorm,
    "batchnorm": BatchNorm,
    "dropout": Dropout,
    "embedding": Embedding,
}
