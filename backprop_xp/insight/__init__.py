"""Insight: traces, which hold every number of a training step."""

from .trace import LayerTrace as LayerTrace
from .trace import Trace as Trace
from .trace import from_watched as from_watched
from .trace import trace as trace
from .trace import trace_each as trace_each
