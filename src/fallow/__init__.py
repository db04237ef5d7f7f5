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

if TYPE_CHECKING:
    from ._checks import FallowError as FallowError
    from .activations import ActivationDensity as ActivationDensity
    from .comparison import Comparison as Comparison
    from .comparison import compare as compare
    from .densities import Density as Density
    from .densities import Gaussian as Gaussian
    from .densities import GaussianMixture as GaussianMixture
    from .densities import Halves as Halves
    from .history import EpochRecord as EpochRecord
    from .order import Order as Order
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
    from .schedule import Schedule as Schedule
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
    from .subsampler import Subsampler as Subsampler
    from .tasks.collecting import Collected as Collected
    from .tasks.collecting import collect as collect
    from .tasks.gaps import find_gaps as find_gaps

__version__ = "0.1.0.dev0"

_HOMES = {
    "_checks": ["FallowError"],
    "activations": ["ActivationDensity"],
    "comparison": ["Comparison", "compare"],
    "densities": ["Density", "Gaussian", "GaussianMixture", "Halves"],
    "history": ["EpochRecord"],
    "order": ["Order"],
    "policies": [
        "IES", "UCB", "BelowMean", "Fraction", "Kakurenbo", "OrderDP", "Policy", "RandomFraction", "RePB",
        "Reason", "SeTa", "Threshold",
    ],
    "schedule": ["Schedule"],
    "scores": [
        "NO_SCORE", "Hellinger", "JensenShannon", "KLDivergence", "RelativeToBatch", "Renyi", "ReverseKL",
        "Score", "SequenceKL", "TotalVariation", "hellinger", "jensen_shannon", "kl_divergence", "linear_kl",
        "renyi", "reverse_kl", "sequence_kl", "token_kl", "total_variation",
    ],
    "step_rules": ["SelectiveBackprop", "StepRule"],
    "subsampler": ["Subsampler"],
    "tasks.collecting": ["Collected", "collect"],
    "tasks.gaps": ["find_gaps"],
}  # fmt: skip
_ROOMS = (
    "activations", "charts", "comparison", "datasets", "densities", "gaps", "integrations", "models",
    "policies", "scores", "step_rules",
)  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_LEFT = dict.fromkeys(("ClassGaussian", "Flow", "NearestNeighbours"), "densities")
"""Names of earlier versions: their room says what to use instead."""

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if home := _HOME.get(name) or _LEFT.get(name):
        return getattr(import_module(f".{home}", __name__), name)
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'fallow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
