"""Insight: every number of a training step (traces), and why each weight moved (explanations)."""

from .explain import Explanation as Explanation
from .explain import explain as explain
from .flow import Descents as Descents
from .flow import Flow as Flow
from .flow import agreement as agreement
from .flow import descents as descents
from .flow import flow as flow
from .flow import multiplications as multiplications
from .flow import votes as votes
from .gradient_check import check_gradient as check_gradient
from .health import health as health
from .shares import Shares as Shares
from .shares import shares as shares
from .trace import LayerTrace as LayerTrace
from .trace import Trace as Trace
from .trace import from_watched as from_watched
from .trace import trace as trace
from .trace import trace_each as trace_each
