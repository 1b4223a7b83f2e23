"""Estimators for scikit-learn: neural nets with `fit` and `predict`, on arrays of any library.

`import backprop_xp` does not import this package: write `import backprop_xp.sklearn`. It needs scikit-learn
1.8 or newer.
"""

from .classifier import BackpropClassifier as BackpropClassifier
from .mlp import from_sklearn as from_sklearn
from .mlp import to_sklearn as to_sklearn
from .regressor import BackpropRegressor as BackpropRegressor
