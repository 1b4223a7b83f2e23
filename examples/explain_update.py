"""Why did each weight move? One update of a neuron with three weights, in words and on a page.

    python examples/explain_update.py why.html

Change the weights, the inputs and the names to yours. Numbers may be fractions, and are then exact.
"""

import sys

import backprop_xp as bp


def main(page: str) -> str:
    """Write the page, and return the explanation as text."""
    net = bp.chain(3, bp.layers.Linear(1, bias=False), bp.layers.Activate(bp.relu))
    learner = bp.Learner(net, bp.half_squared_error, bp.GradientDescent("1/100"))
    w, s = learner.init(backend="exact", weights={"dense1.w": [["1/2"], ["-1/4"], ["3/4"]]})
    x, t = bp.exact.asarray([[4, 2, 1]]), bp.exact.asarray([[1]])
    labels = {"inputs": ["rain", "sun", "wind"], "outputs": ["growth"]}
    why = bp.explain(learner, w, s, x, t, labels=labels)
    why.page(page)
    print(why)
    return why.text()


if __name__ == "__main__":
    main(*sys.argv[1:2])
