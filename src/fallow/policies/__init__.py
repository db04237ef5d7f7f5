"""Policies: they see the table, never a batch, and say which samples the next epoch leaves out."""

from .base import Policy as Policy
from .base import Reason as Reason
from .base import Standing as Standing
from .below_mean import BelowMean as BelowMean
from .fraction import Fraction as Fraction
from .persistence import Persistence as Persistence
from .random_fraction import RandomFraction as RandomFraction
from .threshold import Threshold as Threshold

__all__ = [
    "BelowMean",
    "Fraction",
    "Persistence",
    "Policy",
    "RandomFraction",
    "Reason",
    "Standing",
    "Threshold",
]
