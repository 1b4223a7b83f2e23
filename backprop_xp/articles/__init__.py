"""Five introductory articles, recomputed by this library, every printed figure beside ours.

    >>> from backprop_xp import articles
    >>> [article.title for article in articles.load(1)]
    ["Weights' Balancing"]
    >>> articles.run(articles.load(1)[0].examples[0]).ok
    True

The articles have words of their own; they are mapped to the library's here and nowhere else. Each
number comes from the library: `nets` makes a learner of an example's data, the others say in the
articles' words what it shows.
"""

from .examples import Article as Article
from .examples import Example as Example
from .examples import Printed as Printed
from .examples import load as load
from .report import main as main
from .runner import Figure as Figure
from .runner import Result as Result
from .runner import run as run
