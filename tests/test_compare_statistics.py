"""Paired statistics against scipy and brute force."""

import math
import statistics as plain

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fallow.comparison.statistics import between, deviation, mean, paired, t_quantile

accuracies = st.lists(st.floats(0, 1), min_size=2, max_size=12)


@given(accuracies)
def test_mean_and_deviation(values):
    assert mean(values) == pytest.approx(plain.fmean(values))
    assert deviation(values) == pytest.approx(plain.stdev(values), abs=1e-12)


@given(st.data())
def test_the_interval_is_that_of_scipys_paired_t_test(data):
    first = data.draw(accuracies)
    second = [a + data.draw(st.floats(-0.1, 0.1)) for a in first]
    differences = np.subtract(first, second)
    found = paired(dict(enumerate(first)), dict(enumerate(second)))
    assert found.n == len(first)
    assert found.mean == pytest.approx(differences.mean())
    half = scipy.stats.t.ppf(0.975, len(first) - 1) * differences.std(ddof=1) / math.sqrt(len(first))
    assert (found.low, found.high) == pytest.approx(
        (differences.mean() - half, differences.mean() + half), abs=1e-12
    )
    if differences.std() < 1e-9:  # scipy warns of lost precision there
        return
    wanted = scipy.stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_only_seeds_that_both_have_are_paired():
    found = paired({0: 0.9, 1: 0.8, 5: 0.1}, {1: 0.7, 0: 0.7, 6: 0.3})
    assert (found.n, found.mean) == (2, pytest.approx(0.15))
    assert paired({0: 0.9}, {1: 0.9}) is None


def test_a_single_pair_has_no_interval():
    found = paired({3: 0.9}, {3: 0.7})
    assert (found.n, found.low, found.high) == (1, None, None)
    assert deviation([0.3]) is None


@pytest.mark.parametrize("n", [2, 3, 6])
def test_differences_that_agree_to_the_step_have_the_interval_of_one_step_of_deviation(n):
    """Three times the same count of 360 right answers settles nothing to a third of a point."""
    step = 1 / 360
    first, second = ({seed: right + seed * step for seed in range(n)} for right in (0.95, 0.94))
    found = paired(first, second, step)
    half = scipy.stats.t.ppf(0.975, n - 1) * step / math.sqrt(n)
    assert (found.low, found.high) == pytest.approx((0.01 - half, 0.01 + half))
    wide = paired({0: 0.9, 1: 0.8}, {0: 0.7, 1: 0.7}, step)
    assert wide == paired({0: 0.9, 1: 0.8}, {0: 0.7, 1: 0.7})


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    seeds = 4
    hits = 0
    for _ in range(2000):
        level = rng.normal(0, 3, seeds)  # what a seed does to both arms is taken out by pairing
        first, second = level + 0.5 + rng.normal(0, 1, seeds), level + rng.normal(0, 1, seeds)
        found = paired(dict(enumerate(first)), dict(enumerate(second)))
        hits += found.low <= 0.5 <= found.high
    assert abs(hits / 2000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_quantiles_of_students_t():
    assert t_quantile(1) == pytest.approx(12.7062, abs=1e-4)
    assert t_quantile(4) == pytest.approx(2.7764, abs=1e-4)


@given(st.dictionaries(st.floats(0, 1), st.floats(0, 1), min_size=1, max_size=6), st.floats(0, 1))
def test_between_is_linear_interpolation_inside_the_points(points, at):
    x = sorted(points)
    found = between(points, at)
    if not x[0] <= at <= x[-1]:
        assert found is None
    elif min(np.diff(x), default=1.0) > 1e-9:
        assert found == pytest.approx(np.interp(at, x, [points[v] for v in x]))
