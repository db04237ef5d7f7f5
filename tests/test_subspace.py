"""Principal directions: scikit-learn's, null directions, wide rows."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from fallow.activations.subspace import Subspace, mixing_matrix

pytestmark = pytest.mark.usefixtures("_seed")


def rows(n=500, d=12):
    return torch.randn(n, d, dtype=torch.float64) * torch.linspace(4, 0.5, d) @ torch.randn(d, d).double() + 7


def test_directions_are_those_of_scikit_learn():
    x = rows()
    pca = PCA(5).fit(x.numpy())
    y, residual = Subspace.of(x, 5)(x)
    np.testing.assert_allclose(y.abs().numpy(), np.abs(pca.transform(x.numpy())), rtol=1e-8, atol=1e-8)
    off = ((x.numpy() - pca.inverse_transform(pca.transform(x.numpy()))) ** 2).sum(1)
    np.testing.assert_allclose(residual.numpy(), off, rtol=1e-8, atol=1e-8)


def test_directions_in_which_nothing_varies_are_dropped():
    x = rows()
    padded = torch.cat([x, x[:, :3], torch.full((500, 4), 2.0, dtype=torch.float64)], 1)
    one, two = Subspace.of(x, 64), Subspace.of(padded, 64)
    assert one.dim == two.dim == 12
    assert (one.rest, two.rest) == (0, 0)


def test_rows_that_are_all_the_same():
    subspace = Subspace.of(torch.ones(50, 6), 4)
    y, residual = subspace(torch.ones(3, 6))
    assert subspace.dim == 1
    assert y.isfinite().all()
    assert residual.isfinite().all()


def test_wide_rows_keep_their_distances_and_the_seed_decides():
    assert mixing_matrix(512, 0) is None
    mixing = mixing_matrix(3000, 1)
    assert torch.equal(mixing, mixing_matrix(3000, 1))
    assert not torch.equal(mixing, mixing_matrix(3000, 2))
    x = torch.randn(200, 3000)
    ratio = torch.pdist(x @ mixing) / torch.pdist(x)
    assert abs(ratio.mean() - 1) < 0.02
    assert ratio.std() < 0.06
    subspace = Subspace.of(x @ mixing, 8, mixing)
    assert subspace(subspace.mixed(x))[0].shape == (200, 8)
