"""A mixture: scikit-learn's from the same start, a likelihood that never falls, dead and rare components."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture as Theirs

from fallow.densities import GaussianMixture
from fallow.densities.gaussian_mixture import _DEAD
from fallow.errors import InvalidValue

pytestmark = pytest.mark.usefixtures("_seed")


def clusters(n=2000, d=5, k=6, apart=4.0, noise=1.0):
    centres = apart * torch.randn(k, d, dtype=torch.float64)
    return centres[torch.arange(n) % k] + noise * torch.randn(n, d, dtype=torch.float64)


@pytest.mark.parametrize("iterations", [1, 5, 1000])
def test_it_is_that_of_scikit_learn_from_the_same_start(iterations):
    x = clusters() @ torch.randn(5, 5, dtype=torch.float64)
    start = torch.tensor(KMeans(4, n_init=1, random_state=0).fit(x.numpy()).labels_).long()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Theirs(4, reg_covar=0, tol=1e-13, max_iter=iterations, random_state=0).fit(x.numpy())
    ours = GaussianMixture(4, shrinkage=0, iterations=iterations, tolerance=1e-13)
    ours.fit(x, start=torch.nn.functional.one_hot(start, 4))
    for mine, other in (
        (ours.shares, theirs.weights_),
        (ours.means, theirs.means_),
        (ours.covariances, theirs.covariances_),
        (ours.log_prob(x), theirs.score_samples(x.numpy())),
    ):
        np.testing.assert_allclose(mine.numpy(), other, rtol=1e-5, atol=1e-8)


def test_the_likelihood_never_falls():
    x = clusters(noise=3.0)
    heights = [
        GaussianMixture(5, shrinkage=0, iterations=steps, tolerance=0).fit(x).log_prob(x).mean().item()
        for steps in range(1, 15)
    ]
    assert all(after >= before - 1e-12 for before, after in itertools.pairwise(heights))


def test_it_finds_the_clusters_that_are_there():
    x = clusters(apart=8.0)
    density = GaussianMixture(6).fit(x)
    assert density.shares.min() > 0.15
    assert len(density.component(x).unique()) == 6
    assert (density.component(x)[6:] == density.component(x)[:-6]).float().mean() > 0.99


@pytest.mark.parametrize("k", [1, 40])
def test_more_components_than_clusters_and_repeated_rows(k):
    x = torch.cat([clusters(200, k=2), torch.zeros(50, 5), torch.ones(50, 5)])
    density = GaussianMixture(k).fit(x)
    assert density.log_prob(x).isfinite().all()
    assert density.log_prob(x).mean() > density.log_prob(x + 30).mean()
    assert len(density.shares) <= k


def test_fewer_different_rows_than_components():
    x = torch.tensor([[0.0], [1.0], [5.0]]).repeat(20, 1)
    assert GaussianMixture(16).fit(x).log_prob(x).isfinite().all()


def test_a_dead_component_is_moved_to_rows_that_lie_thin_and_together():
    x = torch.cat([torch.randn(500, 2), torch.randn(30, 2) * 0.3 + 12])
    start = torch.zeros(530, 2)
    start[:, 0] = 1.0
    start[0, 1], start[0, 0] = 1.0, 0.0
    density = GaussianMixture(2, tolerance=1e-6).fit(x, start=start)
    assert density.shares.min() > _DEAD / 2
    assert len(density.component(x[500:]).unique()) == 1
    assert (density.component(x[500:]) != density.component(x[:1])).all()


def test_a_component_that_dies_of_its_shape_alone_does_not_break_it():
    """Rows that lie on a line, and an outlier that a component collapses on."""
    x = torch.cat([torch.linspace(0, 1, 300)[:, None].repeat(1, 3), torch.full((1, 3), 50.0)])
    density = GaussianMixture(8).fit(x)
    assert density.log_prob(x).isfinite().all()


def test_shrinkage_makes_components_of_few_rows_alike():
    x = clusters(60, d=20, k=3)
    free, drawn = GaussianMixture(3, shrinkage=1e-3).fit(x), GaussianMixture(3).fit(x)
    assert drawn.log_prob(x).mean() < free.log_prob(x).mean()
    assert torch.linalg.cond(drawn.covariances).max() < torch.linalg.cond(free.covariances).max()


def test_a_rare_group_is_not_junk():
    """1 % of a legitimate cluster and 1 % of isolated junk: the thinnest 1.5 % are junk."""
    rare, junk = 40, 40
    bulk = clusters(3920, d=6, k=4, apart=5.0)
    group = torch.full((6,), 25.0, dtype=torch.float64) + 0.7 * torch.randn(rare, 6, dtype=torch.float64)
    lost = 60 * (torch.rand(junk, 6, dtype=torch.float64) - 0.5)
    x = torch.cat([bulk, group, lost])
    log_prob = GaussianMixture(16).fit(x).log_prob(x)
    thin = log_prob.argsort()[: junk + 20]
    assert (thin >= len(x) - junk).sum() >= 0.8 * junk
    assert ((thin >= 3920) & (thin < 3960)).sum() <= 0.05 * rare


def test_a_group_that_was_never_seen_lies_thin():
    x, unseen = clusters(1500, k=5), clusters(1500, k=5) + 9
    density = GaussianMixture(8).fit(x)
    assert roc_auc_score([0] * 1500 + [1] * 1500, -density.log_prob(torch.cat([x, unseen]))) > 0.95


def test_the_same_seed_gives_the_same_mixture_and_no_generator_is_touched():
    x = clusters()
    before = torch.random.get_rng_state()
    one, two = GaussianMixture(5, seed=3).fit(x), GaussianMixture(5, seed=3).fit(x)
    assert torch.equal(one.means, two.means)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"components": 0}, "`components`"),
        ({"shrinkage": -1}, "`shrinkage`"),
        ({"iterations": 0}, "`iterations`"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(InvalidValue, match=words):
        GaussianMixture(**arguments)


def test_a_start_of_another_length():
    with pytest.raises(InvalidValue, match=r"`start` must be of shape \(2000, K\)"):
        GaussianMixture(2).fit(clusters(), start=torch.ones(3, 2))
