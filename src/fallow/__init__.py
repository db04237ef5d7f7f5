"""Train on what still surprises the network.

While a network trains, fallow measures how much each training sample still surprises it. Samples that no
longer teach it anything (and, if asked, those that look like outliers or wrong labels) are left out of the
following epochs. They come back on a schedule, so that they are measured again.

More policies, scores and densities are in :mod:`fallow.policies`, :mod:`fallow.scores` and
:mod:`fallow.densities`. Names are imported on first use, so ``import fallow`` loads no torch.
"""

from . import import_path as import_path  # must be first: it removes run folders from the import path

# isort: split
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

if TYPE_CHECKING:
    from .activations import ActivationDensity as ActivationDensity
    from .collecting.collect import collect as collect
    from .collecting.find_gaps import find_gaps as find_gaps
    from .comparison import compare as compare
    from .core.history import EpochRecord as EpochRecord
    from .core.keyed import KeyedSubsampler as KeyedSubsampler
    from .core.schedule import Schedule as Schedule
    from .core.sharded import ShardedSubsampler as ShardedSubsampler
    from .core.subsampler import Subsampler as Subsampler
    from .densities import GaussianMixture as GaussianMixture
    from .errors import DamagedData as DamagedData
    from .errors import FallowError as FallowError
    from .errors import InvalidType as InvalidType
    from .errors import InvalidValue as InvalidValue
    from .errors import NotWritten as NotWritten
    from .errors import WrongState as WrongState
    from .policies import ErrorMass as ErrorMass
    from .policies import Fraction as Fraction
    from .policies import Policy as Policy
    from .policies import PolicyInput as PolicyInput
    from .policies import RandomFraction as RandomFraction
    from .policies import Reason as Reason
    from .policies import Threshold as Threshold
    from .policies import Watch as Watch
    from .prompts import Prompts as Prompts
    from .results.run import Run as Run
    from .results.run import load as load
    from .scores import NO_SCORE as NO_SCORE
    from .scores import KLDivergence as KLDivergence
    from .scores import Score as Score
    from .scores import kl_divergence as kl_divergence
    from .scores import linear_kl as linear_kl
    from .scores import sequence_kl as sequence_kl
    from .step_rules import StepRule as StepRule
    from .training.from_python import train as train
    from .training.recorder import Recorder as Recorder

_HOMES = {
    "activations": ["ActivationDensity"],
    "collecting.collect": ["collect"],
    "collecting.find_gaps": ["find_gaps"],
    "comparison": ["compare"],
    "core.history": ["EpochRecord"],
    "core.keyed": ["KeyedSubsampler"],
    "core.schedule": ["Schedule"],
    "core.sharded": ["ShardedSubsampler"],
    "core.subsampler": ["Subsampler"],
    "densities": ["GaussianMixture"],
    "errors": ["DamagedData", "FallowError", "InvalidType", "InvalidValue", "NotWritten", "WrongState"],
    "policies": [
        "ErrorMass", "Fraction", "Policy", "PolicyInput", "RandomFraction", "Reason", "Threshold", "Watch",
    ],
    "prompts": ["Prompts"],
    "results.run": ["Run", "load"],
    "scores": ["NO_SCORE", "KLDivergence", "Score", "kl_divergence", "linear_kl", "sequence_kl"],
    "step_rules": ["StepRule"],
    "training.from_python": ["train"],
    "training.recorder": ["Recorder"],
}  # fmt: skip
_MOVED = {
    "collecting.collect": ["Collected"],
    "comparison": ["Comparison"],
    "core.order": ["Order"],
    "densities": ["Density", "Gaussian", "Halves"],
    "policies": ["IES", "UCB", "BelowMean", "Kakurenbo", "OrderDP", "RePB", "SeTa"],
    "scores": [
        "Hellinger", "JensenShannon", "RelativeToBatch", "Renyi", "ReverseKL", "SequenceKL", "TotalVariation",
        "hellinger", "jensen_shannon", "renyi", "reverse_kl", "token_kl", "total_variation",
    ],
    "step_rules": ["SelectiveBackprop"],
}  # fmt: skip
"""Names that were exported here in version 0.1, by their new module."""
_ROOMS = (
    "activations",
    "comparison",
    "datasets",
    "densities",
    "gaps",
    "integrations",
    "models",
    "policies",
    "prompts",
    "scores",
    "step_rules",
)

_HOME = {name: home for home, names in _HOMES.items() for name in names}
_NEW_HOME = {name: home for home, names in _MOVED.items() for name in names}
_LEFT = dict.fromkeys(("ClassGaussian", "Flow", "NearestNeighbours"), "densities")
"""Removed densities: the module raises an error that says what to use instead."""

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if home := _HOME.get(name) or _LEFT.get(name):
        return getattr(import_module(f".{home}", __name__), name)
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name in _NEW_HOME:
        home = f"fallow.{_NEW_HOME[name]}"
        warnings.warn(
            f"fallow.{name} is now {home}.{name}; the old name will be removed in the next version.",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(home), name)
    raise AttributeError(f"module 'fallow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
