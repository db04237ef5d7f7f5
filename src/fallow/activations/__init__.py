"""The density of a network's activation maps, learned while it trains."""

from .watch import ActivationDensity as ActivationDensity
