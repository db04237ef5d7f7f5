"""Nearest neighbours: scikit-learn's distances, rows left out by name, a reservoir."""

import math

import pytest
import torch
from sklearn.neighbors import NearestNeighbors as Theirs

from fallow.densities import NearestNeighbours
from fallow.errors import InvalidValue


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def formula(radius, k, n, d):
    volume = math.pi ** (d / 2) / math.gamma(d / 2 + 1)
    return torch.tensor(k / (n * volume)).log() - d * torch.tensor(radius).log()


def test_it_is_the_formula_with_the_distances_of_scikit_learn():
    x, at = torch.randn(300, 4), torch.randn(50, 4)
    distances, _ = Theirs(n_neighbors=7).fit(x.double().numpy()).kneighbors(at.double().numpy())
    found = NearestNeighbours(7).fit(x).log_prob(at)
    torch.testing.assert_close(found, formula(distances[:, -1], 7, 300, 4))


def test_a_row_left_out_is_a_refit_without_it():
    x = torch.randn(40, 3)
    density = NearestNeighbours(3).fit(x)
    found = density.left_out(x)
    for row in range(40):
        others = torch.arange(40) != row
        refit = NearestNeighbours(3).fit(x[others])
        torch.testing.assert_close(found[row], refit.log_prob(x[row : row + 1])[0])


def test_only_so_many_rows_are_held():
    x = torch.randn(5000, 2)
    density = NearestNeighbours(5, most=500).fit(x)
    assert density.count == 500
    whole = NearestNeighbours(5).fit(x)
    at = torch.randn(200, 2)
    assert (density.log_prob(at) - whole.log_prob(at)).abs().median() < 0.6


def test_more_neighbours_than_rows():
    x = torch.randn(3, 2)
    assert NearestNeighbours(10).fit(x).left_out(x).isfinite().all()


def test_only_rows_of_as_many_numbers_merge():
    with pytest.raises(InvalidValue, match="of 2 numbers merge"):
        NearestNeighbours().fit(torch.randn(5, 2)).merge(NearestNeighbours().fit(torch.randn(5, 3)))
