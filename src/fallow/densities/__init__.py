"""Densities of activation maps: how well the training set covers a point. One file each."""

from .base import Density as Density
from .base import DensityLike as DensityLike
from .gaussian import Gaussian as Gaussian
from .gaussian_mixture import GaussianMixture as GaussianMixture
from .halves import Halves as Halves

LEFT = ("ClassGaussian", "Flow", "NearestNeighbours")
"""Densities of earlier versions."""


def __getattr__(name: str) -> object:
    if name in LEFT:
        step = "Any object with fit(x) and log_prob(x) is a density: see examples/flow_density.py."
        raise AttributeError(f"{name} has left fallow. {step}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
