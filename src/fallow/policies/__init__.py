"""Policies: each decides from the table of scores which samples the next epoch leaves out."""

from .base import Policy as Policy
from .base import PolicyInput as PolicyInput
from .base import Reason as Reason
from .fraction import Fraction as Fraction
from .papers.below_mean import BelowMean as BelowMean
from .papers.ies import IES as IES
from .papers.kakurenbo import Kakurenbo as Kakurenbo
from .papers.order_dp import OrderDP as OrderDP
from .papers.repb import RePB as RePB
from .papers.seta import SeTa as SeTa
from .papers.ucb import UCB as UCB
from .persistence import Persistence as Persistence
from .random_fraction import RandomFraction as RandomFraction
from .threshold import Threshold as Threshold

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
