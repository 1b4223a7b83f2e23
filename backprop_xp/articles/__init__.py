"""Five introductory articles on backpropagation, recomputed: every printed figure beside ours.

    >>> from backprop_xp import articles
    >>> [article.title for article in articles.load(1)]
    ["Weights' Balancing"]
    >>> articles.run(articles.load(1)[0].examples[0]).ok
    True

Each article has its own notation; only this package translates it. Every number is computed by the
library: `nets` builds a learner from an example's data, and `articles_1_2`, `articles_3_5`, `article_4`
and `general` return its numbers under the articles' names.
"""

from .examples import Article as Article
from .examples import Example as Example
from .examples import Printed as Printed
from .examples import load as load
from .report import main as main
from .runner import Figure as Figure
from .runner import Result as Result
from .runner import run as run
