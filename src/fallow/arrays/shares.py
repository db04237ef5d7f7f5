"""Statistics of shares of few samples: their standard error, and a test of one against another."""

from __future__ import annotations

import math


def error_of_share(share: float, samples: int | None) -> float | None:
    r"""Return the standard error of a share of samples; None if their number is unknown.

    .. math:: \sqrt{q (1 - q) / M}, \quad q = (M p + 1) / (M + 2)

    Laplace's estimate q keeps the error above 0 for shares of 0 and 1.

    >>> round(error_of_share(0.9, 10_000), 4), error_of_share(0.9, None)
    (0.003, None)
    """
    if not samples:
        return None
    smoothed = (share * samples + 1) / (samples + 2)
    return math.sqrt(max(0.0, smoothed * (1 - smoothed)) / samples)


def fisher_p_value(hits: int, size: int, other_hits: int, other_size: int) -> float:
    r"""Return the one-sided p-value of Fisher's exact test: a group has at least this many hits by chance.

    .. math:: P = \sum_{i \ge k} \binom{m}{i} \binom{M}{W - i} \Big/ \binom{m + M}{W}, \quad W = k + K

    References:
        On the Interpretation of chi-squared from Contingency Tables (Fisher, 1922)

    Args:
        hits: k, hits in the group.
        size: m, size of the group.
        other_hits: K, hits in the other group.
        other_size: M, size of the other group.

    >>> round(fisher_p_value(2, 2, 0, 2), 6)
    0.166667
    """
    all_hits = hits + other_hits
    log_total = _log_choose(size + other_size, all_hits)
    least = max(hits, all_hits - other_size)
    most = min(size, all_hits)
    logs = [
        _log_choose(size, i) + _log_choose(other_size, all_hits - i) - log_total
        for i in range(least, most + 1)
    ]
    return min(1.0, math.fsum(math.exp(value) for value in logs))


def _log_choose(n: int, k: int) -> float:
    # Logarithms, because binomials of thousands overflow a float.
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
