"""Train on what still surprises the network.

While a network trains, fallow measures how much each sample still surprises it, leaves out of the
following epochs the samples that no longer teach it anything (and, if asked, those that look like
outliers or wrong labels), and brings them back on a schedule so that they are measured again.

Names are imported when they are first used, so that ``import fallow`` loads no torch.
"""

from . import import_path as import_path  # first of all: it decides where all others come from

# isort: split
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

if TYPE_CHECKING:
    from .activations import ActivationDensity as ActivationDensity
    from .collecting.collect import Collected as Collected
    from .collecting.collect import collect as collect
    from .collecting.find_gaps import find_gaps as find_gaps
    from .comparison import Comparison as Comparison
    from .comparison import compare as compare
    from .core.history import EpochRecord as EpochRecord
    from .core.order import Order as Order
    from .core.schedule import Schedule as Schedule
    from .core.subsampler import Subsampler as Subsampler
    from .densities import ClassGaussian as ClassGaussian
    from .densities import Density as Density
    from .densities import Flow as Flow
    from .densities import Gaussian as Gaussian
    from .densities import GaussianMixture as GaussianMixture
    from .densities import Halves as Halves
    from .densities import NearestNeighbours as NearestNeighbours
    from .errors import FallowError as FallowError
    from .policies import IES as IES
    from .policies import UCB as UCB
    from .policies import BelowMean as BelowMean
    from .policies import Fraction as Fraction
    from .policies import Kakurenbo as Kakurenbo
    from .policies import OrderDP as OrderDP
    from .policies import Policy as Policy
    from .policies import RandomFraction as RandomFraction
    from .policies import Reason as Reason
    from .policies import RePB as RePB
    from .policies import SeTa as SeTa
    from .policies import Threshold as Threshold
    from .scores import NO_SCORE as NO_SCORE
    from .scores import Hellinger as Hellinger
    from .scores import JensenShannon as JensenShannon
    from .scores import KLDivergence as KLDivergence
    from .scores import RelativeToBatch as RelativeToBatch
    from .scores import Renyi as Renyi
    from .scores import ReverseKL as ReverseKL
    from .scores import Score as Score
    from .scores import SequenceKL as SequenceKL
    from .scores import TotalVariation as TotalVariation
    from .scores import hellinger as hellinger
    from .scores import jensen_shannon as jensen_shannon
    from .scores import kl_divergence as kl_divergence
    from .scores import linear_kl as linear_kl
    from .scores import renyi as renyi
    from .scores import reverse_kl as reverse_kl
    from .scores import sequence_kl as sequence_kl
    from .scores import token_kl as token_kl
    from .scores import total_variation as total_variation
    from .step_rules import SelectiveBackprop as SelectiveBackprop
    from .step_rules import StepRule as StepRule

_HOMES = {
    "errors": ["FallowError"],
    "activations": ["ActivationDensity"],
    "comparison": ["Comparison", "compare"],
    "densities": [
        "ClassGaussian", "Density", "Flow", "Gaussian", "GaussianMixture", "Halves", "NearestNeighbours",
    ],
    "core.history": ["EpochRecord"],
    "core.order": ["Order"],
    "policies": [
        "IES", "UCB", "BelowMean", "Fraction", "Kakurenbo", "OrderDP", "Policy", "RandomFraction", "RePB",
        "Reason", "SeTa", "Threshold",
    ],
    "core.schedule": ["Schedule"],
    "scores": [
        "NO_SCORE", "Hellinger", "JensenShannon", "KLDivergence", "RelativeToBatch", "Renyi", "ReverseKL",
        "Score", "SequenceKL", "TotalVariation", "hellinger", "jensen_shannon", "kl_divergence", "linear_kl",
        "renyi", "reverse_kl", "sequence_kl", "token_kl", "total_variation",
    ],
    "step_rules": ["SelectiveBackprop", "StepRule"],
    "core.subsampler": ["Subsampler"],
    "collecting.collect": ["Collected", "collect"],
    "collecting.find_gaps": ["find_gaps"],
}  # fmt: skip
_ROOMS = (
    "activations", "comparison", "datasets", "densities", "gaps", "integrations", "models",
    "policies", "scores", "step_rules",
)  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'fallow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
