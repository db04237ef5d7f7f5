"""Two halves: a row is scored by the one it is not in, and few rows are told."""

import pytest
import torch
from scipy.stats import spearmanr

from fallow.densities import Gaussian, GaussianMixture, Halves
from fallow.densities.halves import rank_correlation
from fallow.errors import InvalidType, InvalidValue

pytestmark = pytest.mark.usefixtures("_seed")


def test_a_row_is_scored_by_the_half_without_it():
    x, index = torch.randn(200, 3), torch.arange(1000, 1200)
    halves = Halves(Gaussian(1.0)).fit(x, index=index)
    half = halves.half(index)
    assert 70 < int(half.sum()) < 130
    for which in (0, 1):
        own, others = half == which, half != which
        refit = Gaussian(1.0).fit(x[others])
        torch.testing.assert_close(halves.left_out(x[own], index=index[own]), refit.log_prob(x[own]))


def test_of_a_fresh_row_both_tell():
    x, fresh = torch.randn(200, 3), torch.randn(20, 3)
    halves = Halves(Gaussian(1.0)).fit(x)
    shares = torch.tensor([part.count for part in halves.halves]) / 200
    both = torch.stack([part.log_prob(fresh).exp() for part in halves.halves], 1)
    torch.testing.assert_close(halves.log_prob(fresh).exp(), (both * shares).sum(1))


def test_a_planted_outlier_is_not_flattered():
    """A mixture gives an outlier a component of its own."""
    x = torch.cat([torch.randn(300, 8), torch.full((1, 8), 30.0)])
    alone, halves = GaussianMixture(8, shrinkage=0.5).fit(x), Halves(GaussianMixture(8, shrinkage=0.5)).fit(x)
    assert halves.left_out(x).argmin() == 300
    assert halves.left_out(x)[300] < alone.log_prob(x)[300] - 50


def test_halves_of_few_rows_do_not_agree_and_of_many_do():
    few, many = torch.randn(60, 16), torch.randn(20_000, 4)
    assert Halves(GaussianMixture(8)).fit(few).agreement(few) < 0.7
    assert Halves(GaussianMixture(2)).fit(many).agreement(many) > 0.9


def test_the_rank_correlation_is_that_of_scipy():
    a, b = torch.randn(500), torch.randn(500)
    assert rank_correlation(a, a + b) == pytest.approx(spearmanr(a, a + b).statistic)


def test_a_start_goes_to_the_half_of_its_rows():
    x = torch.cat([torch.randn(200, 2) - 5, torch.randn(200, 2) + 5])
    start = torch.zeros(400, 2)
    start[:200, 0] = start[200:, 1] = 1
    halves = Halves(GaussianMixture(2, iterations=1)).fit(x, start=start)
    for part in halves.halves:
        assert part.component(x[:1]) == 0
        assert part.component(x[-1:]) == 1


def test_only_halves_of_the_same_seed_merge_and_only_densities_are_halved():
    x = torch.randn(50, 2)
    with pytest.raises(InvalidValue, match="same seed"):
        Halves(Gaussian(), seed=1).fit(x).merge(Halves(Gaussian(), seed=2).fit(x))
    with pytest.raises(InvalidType, match="`density` must be an object with fit"):
        Halves(3)
