"""Policies: each decides from the table of scores which samples the next epoch leaves out."""

from .base import Policy, PolicyInput, Reason
from .fraction import Fraction
from .papers.below_mean import BelowMean
from .papers.ies import IES
from .papers.kakurenbo import Kakurenbo
from .papers.order_dp import OrderDP
from .papers.repb import RePB
from .papers.seta import SeTa
from .papers.ucb import UCB
from .persistence import Persistence
from .random_fraction import RandomFraction
from .threshold import Threshold

__all__ = [
    "IES",
    "UCB",
    "BelowMean",
    "Fraction",
    "Kakurenbo",
    "OrderDP",
    "Persistence",
    "Policy",
    "PolicyInput",
    "RandomFraction",
    "RePB",
    "Reason",
    "SeTa",
    "Threshold",
]
