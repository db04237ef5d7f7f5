"""Means, deviations and paired intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """A mean difference over seeds, with its confidence interval.

    Attributes:
        n: the number of pairs.
        mean: of the differences.
        low, high: the ends of the interval; None for a single pair.
    """

    n: int
    mean: float
    low: float | None
    high: float | None


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean, summed exactly."""
    return math.fsum(values) / len(values)


def deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation with n - 1 in the denominator; None for a single value.

    >>> deviation([1.0, 3.0])
    1.4142135623730951
    """
    if len(values) < 2:
        return None
    middle = mean(values)
    return math.sqrt(math.fsum((v - middle) ** 2 for v in values) / (len(values) - 1))


def paired(
    first: Mapping[int, float], second: Mapping[int, float], resolution: float = 0.0
) -> Difference | None:
    r"""Return the mean of ``first`` minus ``second`` over the seeds that both have.

    The interval is :math:`\bar d \pm t_{0.975,\,n-1}\, s_d / \sqrt n` (95 %), of the differences
    :math:`d` seed by seed. It assumes only that the differences are about normally distributed.

    References:
        The Probable Error of a Mean (Student, 1908)

    Args:
        first: values by seed.
        second: the values to compare with, by seed.
        resolution: the smallest step of a value and the least deviation that is assumed, since differences
            that agree to the step may still differ below it.

    Returns:
        None if no seed is in both.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    differences = [first[seed] - second[seed] for seed in seeds]
    middle = mean(differences)
    spread = deviation(differences)
    if spread is None:
        return Difference(1, middle, None, None)
    half = t_quantile(len(seeds) - 1) * max(spread, resolution) / math.sqrt(len(seeds))
    return Difference(len(seeds), middle, middle - half, middle + half)


def t_quantile(freedom: int, level: float = LEVEL) -> float:
    """Return the half width of a two-sided interval of Student's t, in standard errors."""
    # Optional, and only an interval needs it.
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, freedom))


def between(points: Mapping[float, float], at: float) -> float | None:
    """Return the value at ``at`` on the straight line between the two nearest points; None outside them.

    >>> between({0.0: 90.0, 0.5: 88.0}, 0.25)
    89.0
    """
    left = max((x for x in points if x <= at), default=None)
    right = min((x for x in points if x >= at), default=None)
    if left is None or right is None:
        return None
    if left == right:
        return points[left]
    return points[left] + (points[right] - points[left]) * (at - left) / (right - left)
