"""A Gaussian: scipy's density, brute-force refits, and few rows in many directions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from fallow.densities import Gaussian
from fallow.errors import InvalidType, InvalidValue

pytestmark = pytest.mark.usefixtures("_seed")


def rows(n, d, dtype=torch.float64):
    return (torch.randn(n, d, dtype=torch.float64) @ torch.randn(d, d, dtype=torch.float64) + 3).to(dtype)


def covariance(x, rows_of_sphere):
    """The covariance that the docstring states."""
    n, d = x.shape
    scatter = (x - x.mean(0)).T @ (x - x.mean(0))
    scale = (scatter.trace() + d) / (d * (n + 1))
    return (scatter + rows_of_sphere * scale * torch.eye(d, dtype=torch.float64)) / (n + rows_of_sphere)


@pytest.mark.parametrize("shrinkage", [0, 2.5, 100.0])
def test_it_is_the_normal_distribution_of_its_covariance(shrinkage):
    x, at = rows(200, 5), rows(40, 5)
    want = multivariate_normal(x.mean(0), covariance(x, shrinkage)).logpdf(at)
    found = Gaussian(shrinkage).fit(x)
    torch.testing.assert_close(found.log_prob(at), torch.tensor(want), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.log_prob(at.float()), torch.tensor(want), rtol=1e-4, atol=1e-3)


def refits(x, weights, shrinkage):
    """Each row under a Gaussian fitted to all others."""
    others = ~torch.eye(len(x), dtype=torch.bool)
    return torch.cat(
        [Gaussian(shrinkage).fit(x[keep], weights=weights[keep]).log_prob(x[~keep]) for keep in others]
    )


@given(n=st.integers(3, 40), d=st.integers(1, 30), shrinkage=st.floats(0.01, 100), weighed=st.booleans())
def test_a_row_left_out_is_a_refit_without_it(n, d, shrinkage, weighed):
    x = rows(n, d)
    weights = torch.rand(n, dtype=torch.float64) + 0.5 if weighed else torch.ones(n, dtype=torch.float64)
    found = Gaussian(shrinkage).fit(x, weights=weights).left_out(x, weights=weights)
    torch.testing.assert_close(found, refits(x, weights, shrinkage), rtol=1e-9, atol=1e-9)


def test_the_default_shrinks_few_rows_and_leaves_many_alone():
    few, many = Gaussian().fit(rows(20, 40)), Gaussian().fit(rows(20_000, 8))
    assert few._shrunk.rows > 10
    assert many._shrunk.rows < 20_000 / 1000


def test_the_default_has_the_highest_leave_one_out_likelihood_of_powers_of_ten():
    x = rows(60, 20)
    chosen = Gaussian().fit(x)._shrunk.rows
    fits = {step: Gaussian(20 * 10.0**step).fit(x).left_out(x).sum().item() for step in range(-6, 4)}
    assert chosen == pytest.approx(20 * 10.0 ** max(fits, key=fits.get))


def test_an_outlier_among_fewer_rows_than_directions_ranks_first():
    """In-sample distances of 50 rows in 128 directions are all equal."""
    x = torch.randn(50, 128)
    x[7] *= 10
    density = Gaussian().fit(x)
    assert density.left_out(x).argmin() == 7


def test_a_fresh_row_scores_as_a_row_left_out():
    """In the sample the density of 200 rows in 64 directions is 0.3 nats a direction too high."""
    x, fresh = torch.randn(400, 64), torch.randn(4000, 64)
    density = Gaussian().fit(x)
    gap = density.left_out(x).mean() - density.log_prob(fresh).mean()
    naive = density.log_prob(x).mean() - density.log_prob(fresh).mean()
    assert abs(gap) / 64 < 0.02
    assert naive > 2 * abs(gap)


def test_the_only_row_left_has_no_density():
    x = rows(2, 3)
    weights = torch.tensor([1.0, 0.0])
    assert Gaussian().fit(x, weights=weights).left_out(x, weights=weights)[0] == -torch.inf


@pytest.mark.parametrize(
    ("shrinkage", "error"), [(-1.0, InvalidValue), ("much", InvalidType), (None, InvalidType)]
)
def test_wrong_shrinkage(shrinkage, error):
    with pytest.raises(error, match="`shrinkage`"):
        Gaussian(shrinkage)
