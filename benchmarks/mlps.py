"""skorch and Keras for W8: the net, rule, batches and epochs of the estimators, with their fastest settings.

Both compute in float32, their default, while scikit-learn and our estimators compute in the float64 of the
rows. Keras runs on JAX, where it is faster than on Torch, with a compiled step; its model is built and
compiled once, and each fit begins with the first weights again. skorch's callbacks are off, its Adam is
fused, and rows come as whole batches, not one by one.
"""

import os
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from .contenders import installed

STEPS = 32  # how many steps Keras makes in one compiled call


class MLP(ABC):
    """The base class: settings of the fit, and the score of the predictions.

    Args:
        width: the units of the hidden layer.
        numbers: whether the targets are numbers; else they are classes.
        rate: the learning rate of Adam.
        epochs: the epochs of a fit.
        seed: the seed of the first weights.
    """

    def __init__(self, width: int, numbers: bool, rate: float, epochs: int, seed: int) -> None:
        self.width, self.numbers, self.rate, self.epochs, self.seed = width, numbers, rate, epochs, seed

    def outputs(self, y: Any) -> int:
        """Units of the output layer."""
        return 1 if self.numbers else int(y.max()) + 1

    def told(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Rows as float32, and targets as a column of float32 or as labels."""
        return x.astype("float32"), y.astype("float32")[:, None] if self.numbers else y.astype("int64")

    @abstractmethod
    def fit(self, x: Any, y: Any) -> "MLP":
        """Fit anew."""

    @abstractmethod
    def predicted(self, x: Any) -> Any:
        """The outputs of the net, a row for each row of x."""

    def score(self, x: Any, y: Any) -> float:
        """R² for numbers, accuracy for classes."""
        from sklearn.metrics import accuracy_score, r2_score

        found = self.predicted(x.astype("float32"))
        return float(r2_score(y, found[:, 0]) if self.numbers else accuracy_score(y, found.argmax(axis=1)))


class Skorch(MLP):
    """skorch's NeuralNetRegressor or NeuralNetClassifier around a `torch.nn.Sequential`."""

    def __init__(self, *settings: Any) -> None:
        import skorch
        import torch

        super().__init__(*settings)
        self.skorch, self.torch = skorch, torch

    def fit(self, x: Any, y: Any) -> "Skorch":
        """Fit anew."""
        skorch, torch, data = self.skorch, self.torch, self.torch.utils.data
        torch.set_num_threads(1)
        torch.manual_seed(self.seed)
        nn, batch = torch.nn, min(200, len(x))
        kind = skorch.NeuralNetRegressor if self.numbers else skorch.NeuralNetClassifier
        order = data.RandomSampler(range(len(x)))
        self.net = kind(
            nn.Sequential(
                nn.Linear(x.shape[1], self.width), nn.ReLU(), nn.Linear(self.width, self.outputs(y))
            ),
            criterion=nn.MSELoss if self.numbers else nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            optimizer__fused=True,
            lr=self.rate,
            max_epochs=self.epochs,
            iterator_train__sampler=data.BatchSampler(order, batch, drop_last=False),
            iterator_train__batch_size=None,
            train_split=None,
            callbacks="disable",
            verbose=0,
        )
        self.net.fit(*self.told(x, y))
        return self

    def predicted(self, x: Any) -> Any:
        """The outputs of the module."""
        return self.net.forward(x).numpy()


class Keras(MLP):
    """Keras's Sequential on JAX, compiled with jit."""

    def __init__(self, *settings: Any) -> None:
        os.environ["KERAS_BACKEND"] = "jax"
        import keras

        super().__init__(*settings)
        self.keras, self.model = keras, None

    def fit(self, x: Any, y: Any) -> "Keras":
        """Fit from the first weights; the model is built at the first call."""
        if self.model is None:
            self._make(x.shape[1], self.outputs(y))
        for variable, value in self._first:
            variable.assign(value)
        x, y = self.told(x, y)
        self.model.fit(x, y, batch_size=min(200, len(x)), epochs=self.epochs, verbose=0)
        return self

    def _make(self, features: int, outputs: int) -> None:
        keras, layers, losses = self.keras, self.keras.layers, self.keras.losses
        keras.utils.set_random_seed(self.seed)
        self.model = keras.Sequential(
            [keras.Input((features,)), layers.Dense(self.width, activation="relu"), layers.Dense(outputs)]
        )
        self.model.compile(
            keras.optimizers.Adam(self.rate, epsilon=1e-8),
            losses.MeanSquaredError()
            if self.numbers
            else losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=True,
            steps_per_execution=STEPS,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        variables = [*self.model.trainable_variables, *self.model.optimizer.variables]
        self._first = [(each, np.asarray(each)) for each in variables]

    def predicted(self, x: Any) -> Any:
        """The outputs of the model."""
        return np.asarray(self.model.predict(x, batch_size=len(x), verbose=0))


ALL = {"skorch": Skorch, "Keras": Keras}
_NEEDS = {"skorch": ("skorch", "torch"), "Keras": ("keras", "jax")}


def missing(name: str) -> str:
    """Why a library cannot take part here; empty if it can."""
    absent = [each for each in _NEEDS[name] if not installed(each)]
    return f"{name} is left out: {' and '.join(absent)} not installed" if absent else ""
