"""Policies: they see the table, never a batch, and say which samples the next epoch leaves out."""

from __future__ import annotations

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
    "policy_names",
]


def policy_names() -> dict[str, type[Policy]]:
    """Return the policies by command-line name.

    Example:
        >>> sorted(name for name, policy in policy_names().items() if policy is BelowMean)
        ['below-mean', 'infobatch']
    """
    kinds = (globals()[public] for public in __all__)
    policies = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Policy)]
    named = [policy for policy in policies if policy is not Policy]
    return {name: policy for policy in named for name in (policy.name, *policy.aliases)}
