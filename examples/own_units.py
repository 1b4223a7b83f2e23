"""An activation and a layer of your own, checked as the library checks its own, and trained.

python examples/own_units.py
"""

from dataclasses import dataclass

import backprop_xp as bp
from backprop_xp import testing
from backprop_xp.layers import Flow, Layer
from backprop_xp.params import Param


@dataclass(frozen=True)
class SignedSquare:
    """o = net |net|, f′ = 2 |net|."""

    def __call__(self, net, *, xp):
        """o = net |net|."""
        return net * xp.abs(net)

    def delta(self, e, net, o, *, xp):
        """delta = e f′(net)."""
        return e * 2 * xp.abs(net)


@dataclass(frozen=True)
class Scale(Layer):
    """o = net = x w, with a weight for each unit; ∂E/∂w = Σ_batch x delta; ∂E/∂x = delta w."""

    def params(self, *inputs):
        """w of shape (units,), 1 at first."""
        return {"w": Param(inputs[0], centre=1.0)}

    def forward(self, p, *x, ctx, xp):
        """net = x w."""
        return Flow(x[0] * p.w, x[0] * p.w), ()

    def grad(self, p, flow, delta, *x, xp):
        """∂E/∂w = Σ_batch x delta."""
        return (xp.sum(x[0] * delta, axis=0),)

    def pull(self, p, flow, delta, *x, xp):
        """∂E/∂x = delta w."""
        return (delta * p.w,)


def main(epochs: int = 5) -> float:
    """Check both, train a net of them, and return its last loss."""
    print(testing.check_activation(SignedSquare()))
    print(testing.check_layer(Scale()))
    data = bp.data.Teacher(seed=1, n=2000, features=4)
    net = bp.chain(4, Scale(), bp.Dense(16, SignedSquare()), bp.Dense(1))
    learner = bp.Learner(net, update=bp.Adam(0.003))
    w, s, history = bp.fit(learner, *learner.init(seed=0), data, epochs=epochs)
    print(f"loss {history[-1].loss:.4f}")
    return history[-1].loss


if __name__ == "__main__":
    main()
