"""Insight: every number of a training step (traces), and why each weight moved (explanations)."""

from .explain import Explanation as Explanation
from .explain import explain as explain
from .shares import Shares as Shares
from .shares import shares as shares
from .trace import LayerTrace as LayerTrace
from .trace import Trace as Trace
from .trace import from_watched as from_watched
from .trace import trace as trace
from .trace import trace_each as trace_each
