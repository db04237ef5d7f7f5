"""Shares: checks, counts and draws of the policies that leave out a share of the samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import Values
from ..errors import check_share, invalid
from .base import PolicyInput

LARGEST = 0.9
"""Maximum probability of being left out under a budget; InfoBatch's own fraction has the same limit."""


def check_budget(budget: Any) -> float | None:
    """Return ``budget`` as a share in [0, 1), or None."""
    if budget is None:
        return None
    return check_share("budget", budget, closed=False, step="None leaves the rule to its own parameter.")


def check_part(name: str, value: Any) -> float:
    """Return ``value`` as a share in (0, 1]."""
    share = check_share(name, value, closed=True)
    if share == 0:
        raise invalid(f"`{name}` must be above 0.", value)
    return share


def left_out(share: float, n: int) -> int:
    """Return how many of ``n`` samples to leave out for ``share``; at least one is kept."""
    return min(round(share * n), max(0, n - 1))


def capped(share: float, n: int, candidates: int) -> int:
    """Return how many of ``candidates`` to leave out for a share of ``n``, at most ``LARGEST`` of them."""
    return min(left_out(share, n), int(LARGEST * candidates))


def scored(inputs: PolicyInput) -> NDArray[np.bool_]:
    """Return which samples have a score: ``(N,)``."""
    return np.equal(inputs.scores, inputs.scores)  # NaN differs from itself


def without_nan(scores: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the scores with 0 for those that are not known; themselves if all are.

    So a product with booleans can take the place of ``np.where`` afterwards. With a mask that changes often
    it is several times as fast.
    """
    return scores if known.all() else np.where(known, scores, np.float32(0))


def uniform_draws(inputs: PolicyInput, among: NDArray[np.bool_]) -> Values:
    """Return uniform draws for the samples in ``among``, and NaN, which ``smallest`` skips, for others."""

    def draw(start: int, stop: int) -> NDArray[np.float32]:
        return np.where(among[start:stop], inputs.uniform(start, stop), np.float32(np.nan))

    return draw
