"""Densities of activations: how well the training set covers a point. One density a file."""

from .base import Density as Density
from .base import DensityLike as DensityLike
from .gaussian import Gaussian as Gaussian
from .gaussian_mixture import GaussianMixture as GaussianMixture
from .halves import Halves as Halves

LEFT = ("ClassGaussian", "Flow", "NearestNeighbours")
"""Densities of version 0.1; their names get an error that says what to use instead."""


def __getattr__(name: str) -> object:
    if name in LEFT:
        step = "Any object with fit(x) and log_prob(x) is a density: see examples/flow_density.py."
        raise AttributeError(f"{name} has left fallow. {step}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
