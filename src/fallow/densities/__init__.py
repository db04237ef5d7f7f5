"""Densities of activation maps: how well the training set covers a point. One file each."""

from .base import Density as Density
from .class_gaussian import ClassGaussian as ClassGaussian
from .flow import Flow as Flow
from .gaussian import Gaussian as Gaussian
from .gaussian_mixture import GaussianMixture as GaussianMixture
from .halves import Halves as Halves
from .nearest import NearestNeighbours as NearestNeighbours
