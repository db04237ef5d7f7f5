"""Policies: each decides from the table of scores which samples the next epoch leaves out."""

from __future__ import annotations

from .base import Policy, PolicyInput, Reason
from .error_mass import ErrorMass
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
from .watch import Watch

__all__ = [
    "IES",
    "UCB",
    "BelowMean",
    "ErrorMass",
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
    "Watch",
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
