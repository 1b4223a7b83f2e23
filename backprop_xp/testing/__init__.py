"""Testing: every check that this library's own units pass, on a unit of yours.

    check_activation   an activation
    check_loss         a loss
    check_layer        a layer
    check_update       an update rule

Each runs the family of checks of its kind, returns a report of what was checked, and raises `CheckFailed`,
an AssertionError, with one sentence where something is wrong. No test runner is needed; under pytest one
line is a test.
"""

from .activation import check_activation as check_activation
from .formula import Formula as Formula
from .layer import check_layer as check_layer
from .loss import check_loss as check_loss
from .report import Check as Check
from .report import CheckFailed as CheckFailed
from .report import Report as Report
from .update import check_update as check_update
