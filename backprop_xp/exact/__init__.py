"""Exact arithmetic: an array type that holds fractions, and its Array API namespace.

>>> from backprop_xp import exact
>>> exact.asarray([0.5, 1, "1/3"])
exact.asarray(['1/2', '1', '1/3'])
"""

from .array import ExactArray as ExactArray
from .array import fraction as fraction
from .array import rational as rational
from .namespace import asarray as asarray
