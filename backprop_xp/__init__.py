"""Backpropagation that can be read, trusted and run anywhere.

The names most programs need are here; the others are in modules: `bp.layers`, `bp.activations`,
`bp.losses`, `bp.updates`, `bp.schedules`, `bp.initialization`, `bp.data`, `bp.train`, `bp.files`,
`bp.insight`, `bp.workers`, `bp.convert`, `bp.onnx`, `bp.exact`, `bp.testing`, `bp.errors`, `bp.backends`.
Estimators for scikit-learn are in `backprop_xp.sklearn`, which has to be imported by itself.
"""

__version__ = "0.1.0"

from . import activations as activations
from . import arrays as arrays
from . import backends as backends
from . import convert as convert
from . import data as data
from . import errors as errors
from . import exact as exact
from . import files as files
from . import initialization as initialization
from . import insight as insight
from . import layers as layers
from . import losses as losses
from . import net as net
from . import onnx as onnx
from . import params as params
from . import schedules as schedules
from . import step as step
from . import testing as testing
from . import train as train
from . import updates as updates
from . import workers as workers
from .activations import relu as relu
from .activations import sigmoid as sigmoid
from .activations import softmax as softmax
from .activations import tanh as tanh
from .backends import asarray as asarray
from .backends import backend as backend
from .errors import BackpropError as BackpropError
from .files import RunDir as RunDir
from .files import load as load
from .files import save as save
from .insight import explain as explain
from .insight import trace as trace
from .layers import Dense as Dense
from .learner import Learner as Learner
from .losses import half_squared_error as half_squared_error
from .losses import softmax_cross_entropy as softmax_cross_entropy
from .net import add as add
from .net import chain as chain
from .net import concat as concat
from .net import multiply as multiply
from .net import named as named
from .net import residual as residual
from .onnx import to_onnx as to_onnx
from .train import fit as fit
from .train import metrics as metrics
from .updates import Adam as Adam
from .updates import GradientDescent as GradientDescent
