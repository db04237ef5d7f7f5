"""The density of a network's activation maps, learned while it trains."""

from .monitor import ActivationDensity as ActivationDensity
