"""Scores: each measures how far a network's output is from a sample's label."""

from __future__ import annotations

from inspect import isabstract, signature
from typing import Any

from ..errors import unknown_name
from ..spelling import kebab_case
from .base import NO_SCORE, Score, is_no_score
from .hellinger import Hellinger, hellinger
from .jensen_shannon import JensenShannon, jensen_shannon
from .kl import KLDivergence, kl_divergence
from .linear import Measured, linear_kl
from .relative_to_batch import RelativeToBatch
from .renyi import Renyi, renyi
from .reverse_kl import ReverseKL, reverse_kl
from .sequence import SequenceKL, sequence_kl, token_kl
from .total_variation import TotalVariation, total_variation

__all__ = [
    "NO_SCORE",
    "Hellinger",
    "JensenShannon",
    "KLDivergence",
    "Measured",
    "RelativeToBatch",
    "Renyi",
    "ReverseKL",
    "Score",
    "SequenceKL",
    "TotalVariation",
    "hellinger",
    "is_no_score",
    "jensen_shannon",
    "kl_divergence",
    "linear_kl",
    "renyi",
    "reverse_kl",
    "score_by_name",
    "score_names",
    "sequence_kl",
    "token_kl",
    "total_variation",
]


def score_names() -> dict[str, type[Score]]:
    """Return the score classes by command-line name: the class name in kebab case and the short name.

    A score without a short name, such as one that wraps another score, is not listed.

    Example:
        >>> sorted(name for name, score in score_names().items() if score is KLDivergence)
        ['kl', 'kl-divergence']
    """
    names: dict[str, type[Score]] = {}
    for public in __all__:
        score = globals()[public]
        # Functions and base classes are exported too, but have no name on the command line.
        if isinstance(score, type) and issubclass(score, Score) and score.name and not isabstract(score):
            names |= {kebab_case(public): score, score.name: score}
    return names


def score_by_name(name: str, **options: Any) -> Score:
    """Build the score with that command-line name from ``options``.

    Raises:
        InvalidValue: if the name or an option is unknown.

    Example:
        >>> score_by_name("renyi", alpha=2.0) == Renyi(2.0)
        True
    """
    names = score_names()
    if name not in names:
        raise unknown_name("score", name, names)
    known = signature(names[name]).parameters
    for option in options:
        if option not in known:
            raise unknown_name(f"option of the score '{name}'", option, known)
    return names[name](**options)
