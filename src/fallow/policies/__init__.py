"""Policies: they see the table, never a batch, and say which samples the next epoch leaves out."""

from .base import Policy as Policy
from .base import PolicyInput as PolicyInput
from .base import Reason as Reason
from .below_mean import BelowMean as BelowMean
from .fraction import Fraction as Fraction
from .ies import IES as IES
from .kakurenbo import Kakurenbo as Kakurenbo
from .order_dp import OrderDP as OrderDP
from .persistence import Persistence as Persistence
from .random_fraction import RandomFraction as RandomFraction
from .repb import RePB as RePB
from .seta import SeTa as SeTa
from .threshold import Threshold as Threshold
from .ucb import UCB as UCB

__all__ = [
    "IES",
    "UCB",
    "BelowMean",
    "Fraction",
    "Kakurenbo",
    "OrderDP",
    "Persistence",
    "Policy",
    "RandomFraction",
    "RePB",
    "Reason",
    "SeTa",
    "Standing",
    "Threshold",
]
