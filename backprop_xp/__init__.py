"""Backpropagation that can be read, trusted and run anywhere."""

__version__ = "0.1.0"

from .activations import Activation as Activation
from .activations import Identity as Identity
from .activations import LeakyReLU as LeakyReLU
from .activations import ReLU as ReLU
from .activations import Sigmoid as Sigmoid
from .activations import Softmax as Softmax
from .activations import Tanh as Tanh
from .activations import identity as identity
from .activations import leaky_relu as leaky_relu
from .activations import relu as relu
from .activations import sigmoid as sigmoid
from .activations import softmax as softmax
from .activations import tanh as tanh
from .arrays import Array as Array
from .arrays import BackendUnavailable as BackendUnavailable
from .arrays import BackpropError as BackpropError
from .arrays import Diverged as Diverged
from .backends import Backend as Backend
from .backends import _rational
from .backends import asarray as asarray
from .backends import backend as backend
from .data import Source as Source
from .data import Stored as Stored
from .data import Teacher as Teacher
from .insight import LayerTrace as LayerTrace
from .insight import Trace as Trace
from .insight import explain as explain
from .insight import trace as trace
from .layers import Activate as Activate
from .layers import Add as Add
from .layers import Concat as Concat
from .layers import Context as Context
from .layers import Dense as Dense
from .layers import Flow as Flow
from .layers import Input as Input
from .layers import Layer as Layer
from .layers import Linear as Linear
from .learner import Learner as Learner
from .losses import Loss as Loss
from .losses import binary_cross_entropy as binary_cross_entropy
from .losses import categorical_cross_entropy as categorical_cross_entropy
from .losses import half_squared_error as half_squared_error
from .losses import mean_absolute_error as mean_absolute_error
from .losses import mean_squared_error as mean_squared_error
from .losses import sigmoid_cross_entropy as sigmoid_cross_entropy
from .losses import softmax_cross_entropy as softmax_cross_entropy
from .losses import squared_error as squared_error
from .net import Learn as Learn
from .net import Net as Net
from .net import Node as Node
from .net import add as add
from .net import chain as chain
from .net import concat as concat
from .net import name as name
from .params import Layout as Layout
from .params import Param as Param
from .step import State as State
from .train import Fitted as Fitted
from .train import Report as Report
from .train import fit as fit
from .train import per_sample as per_sample
from .updates import Adam as Adam
from .updates import GradientDescent as GradientDescent
from .updates import Momentum as Momentum
from .updates import RuleState as RuleState

exact = _rational
