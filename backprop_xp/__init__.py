"""Backpropagation that can be read, trusted and run anywhere."""

__version__ = "0.1.0"


from .activations import (
    Activation as Activation,
    LeakyReLU as LeakyReLU,
    ReLU as ReLU,
    identity as identity,
    leaky_relu as leaky_relu,
    relu as relu,
    sigmoid as sigmoid,
    softmax as softmax,
    tanh as tanh,
)
from .arrays import (
    Array as Array,
    BackendUnavailable as BackendUnavailable,
    BackpropError as BackpropError,
    Diverged as Diverged,
)
from .backends import (
    Backend as Backend,
    asarray as asarray,
    backend as backend,
)
from .backends import _rational as exact
from .layers import (
    Activate as Activate,
    Add as Add,
    Concat as Concat,
    Context as Context,
    Dense as Dense,
    Flow as Flow,
    Input as Input,
    Layer as Layer,
    Linear as Linear,
)
from .learner import Learner as Learner, State as State
from .losses import (
    Loss as Loss,
    binary_cross_entropy as binary_cross_entropy,
    categorical_cross_entropy as categorical_cross_entropy,
    half_squared_error as half_squared_error,
    mean_absolute_error as mean_absolute_error,
    mean_squared_error as mean_squared_error,
    sigmoid_cross_entropy as sigmoid_cross_entropy,
    softmax_cross_entropy as softmax_cross_entropy,
    squared_error as squared_error,
)
from .net import (
    Learn as Learn,
    Net as Net,
    Node as Node,
    add as add,
    chain as chain,
    concat as concat,
    name as name,
)
from .params import Layout as Layout, Param as Param
from .updates import GradientDescent as GradientDescent, RuleState as RuleState
