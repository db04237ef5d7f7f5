"""k-means: scikit-learn's cost, weights, repeated rows."""

import torch
from sklearn.cluster import KMeans

from fallow.densities.k_means import distances, draw, k_means


def generator():
    return torch.Generator().manual_seed(0)


def cost(x, cluster):
    return sum(((x[cluster == k] - x[cluster == k].mean(0)) ** 2).sum().item() for k in cluster.unique())


def test_its_cost_is_that_of_scikit_learn():
    draws = generator()
    centres = 5 * torch.randn(12, 4, generator=draws, dtype=torch.float64)
    x = centres[torch.arange(1200) % 12] + torch.randn(1200, 4, generator=draws, dtype=torch.float64)
    ours = cost(x, k_means(x, torch.ones(1200, dtype=torch.float64), 12, generator(), rounds=50))
    theirs = KMeans(12, n_init=10, random_state=0).fit(x.numpy()).inertia_
    assert ours < 1.1 * theirs


def test_distances_are_exact_where_they_are_zero():
    x = 1e6 + torch.randn(50, 3, dtype=torch.float64)
    found = distances(x, x)
    assert torch.equal(found.diagonal(), torch.zeros(50, dtype=torch.float64))


def test_rows_without_weight_are_nobody_s_centre():
    x = torch.cat([torch.zeros(10, 1), torch.full((10, 1), 9.0), torch.full((1, 1), 1e6)]).double()
    weights = torch.ones(21, dtype=torch.float64)
    weights[-1] = 0
    cluster = k_means(x, weights, 2, generator())
    assert cluster[0] != cluster[10]


def test_fewer_different_rows_than_clusters():
    x = torch.tensor([[1.0], [1.0], [2.0], [2.0]]).double()
    cluster = k_means(x, torch.ones(4, dtype=torch.float64), 3, generator())
    assert cluster[0] == cluster[1] != cluster[2] == cluster[3]


def test_draws_follow_the_odds():
    found = draw(torch.tensor([0.0, 1.0, 3.0, 0.0]), 40_000, generator())
    assert set(found.tolist()) == {1, 2}
    assert abs((found == 2).float().mean() - 0.75) < 0.01
