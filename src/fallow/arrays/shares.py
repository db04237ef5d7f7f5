"""Shares of a few samples: how far they vary by chance, and whether one is higher than another."""

from __future__ import annotations

import math


def error_of_share(share: float, samples: int | None) -> float | None:
    r"""Return the standard error of a share of samples; None if nobody knows how many there are.

    .. math:: \sqrt{q (1 - q) / M}, \quad q = (M p + 1) / (M + 2)

    so that it is above 0 if all of a few samples are right.

    >>> round(error_of_share(0.9, 10_000), 4), error_of_share(0.9, None)
    (0.003, None)
    """
    if not samples:
        return None
    moved = (share * samples + 1) / (samples + 2)
    return math.sqrt(max(0.0, moved * (1 - moved)) / samples)


def chance_of_as_many(hits: int, size: int, other_hits: int, other_size: int) -> float:
    r"""Return how likely so many hits, or more, fall into one of two groups if both have the same share.

    .. math:: P = \sum_{i \ge k} \binom{m}{i} \binom{M}{W - i} \Big/ \binom{m + M}{W}, \quad W = k + K

    References:
        On the Interpretation of chi-squared from Contingency Tables (Fisher, 1922)

    Args:
        hits: k, in the group.
        size: m, of the group.
        other_hits: K, outside.
        other_size: M, outside.

    >>> round(chance_of_as_many(2, 2, 0, 2), 6)
    0.166667
    """
    together = hits + other_hits
    whole = _log_choose(size + other_size, together)
    most = min(size, together)
    least = max(hits, together - other_size)
    logs = [
        _log_choose(size, i) + _log_choose(other_size, together - i) - whole for i in range(least, most + 1)
    ]
    return min(1.0, math.fsum(math.exp(value) for value in logs))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
