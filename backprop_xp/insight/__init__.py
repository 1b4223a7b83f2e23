"""Looking inside: traces of every number of a step."""

from .trace import LayerTrace as LayerTrace
from .trace import Trace as Trace
from .trace import explain as explain
from .trace import trace as trace
