"""Why each weight moved: the diagram of one step, from the second article."""

from backprop_xp import articles
from backprop_xp.articles.site import explanation


def draw():
    """The third sample's step."""
    (article,) = articles.load(2)
    return explanation(article).picture("diagram", step=2)
