"""Scores: each measures how far a network's output is from a sample's label."""

from __future__ import annotations

import re
from inspect import isabstract, signature
from typing import Any

from ..errors import unknown_name
from .base import NO_SCORE as NO_SCORE
from .base import Score as Score
from .base import is_no_score as is_no_score
from .hellinger import Hellinger as Hellinger
from .hellinger import hellinger as hellinger
from .jensen_shannon import JensenShannon as JensenShannon
from .jensen_shannon import jensen_shannon as jensen_shannon
from .kl import KLDivergence as KLDivergence
from .kl import kl_divergence as kl_divergence
from .linear import Measured as Measured
from .linear import linear_kl as linear_kl
from .relative_to_batch import RelativeToBatch as RelativeToBatch
from .renyi import Renyi as Renyi
from .renyi import renyi as renyi
from .reverse_kl import ReverseKL as ReverseKL
from .reverse_kl import reverse_kl as reverse_kl
from .sequence import SequenceKL as SequenceKL
from .sequence import sequence_kl as sequence_kl
from .sequence import token_kl as token_kl
from .total_variation import TotalVariation as TotalVariation
from .total_variation import total_variation as total_variation

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
        if isinstance(score, type) and issubclass(score, Score) and score.name and not isabstract(score):
            kebab = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", public).lower()
            names |= {kebab: score, score.name: score}
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
