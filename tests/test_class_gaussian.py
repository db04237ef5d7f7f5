"""A Gaussian a class: scipy's density, brute-force refits, classes without rows, wrong labels."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score

from fallow.densities import ClassGaussian
from fallow.densities.shrinking import Shrunk
from fallow.errors import InvalidType, InvalidValue


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def data(n=240, d=4, classes=3, apart=3.0):
    labels = torch.arange(n) % classes
    centres = apart * torch.randn(classes, d, dtype=torch.float64)
    return torch.randn(n, d, dtype=torch.float64) + centres[labels], labels


def parts(x, labels, shrinkage):
    """Count, mean and covariance of each class, as the docstring states them."""
    n, d = x.shape
    means = torch.stack([x[labels == c].mean(0) for c in labels.unique()])
    scatters = [(x[labels == c] - means[c]).T @ (x[labels == c] - means[c]) for c in labels.unique()]
    pooled = sum(scatters) / n
    pooled = pooled + 1e-6 * pooled.diagonal().mean() * torch.eye(d, dtype=torch.float64)
    found = []
    for c, scatter in enumerate(scatters):
        count = int((labels == c).sum())
        scale = (torch.linalg.solve(pooled, scatter).trace() + d) / (d * (count + 1))
        found.append((count, means[c], (scatter + shrinkage * scale * pooled) / (count + shrinkage)))
    return found


@pytest.mark.parametrize("shrinkage", [0, 5.0])
def test_it_is_the_mixture_of_the_classes(shrinkage):
    x, labels = data()
    at = data(40)[0]
    logs = [
        multivariate_normal(mean, cov).logpdf(at) + torch.tensor(count / len(x)).log().item()
        for count, mean, cov in parts(x, labels, shrinkage)
    ]
    density = ClassGaussian(shrinkage).fit(x, labels=labels)
    want = torch.tensor(logsumexp(logs, axis=0))
    logs = np.array(logs)
    torch.testing.assert_close(density.log_prob(at), want, rtol=1e-6, atol=1e-6)
    label = torch.arange(40) % 3
    joint = torch.tensor(logs).T
    ratio = joint[torch.arange(40), label] - want
    torch.testing.assert_close(density.label_log_ratio(at, label), ratio, rtol=1e-6, atol=1e-6)
    given = ratio + want - torch.tensor([count / len(x) for count, *_ in parts(x, labels, 0)])[label].log()
    torch.testing.assert_close(density.given(at, label), given, rtol=1e-5, atol=1e-5)


def test_a_row_left_out_is_a_refit_of_its_class_to_the_same_shape():
    x, labels = data(60)
    density = ClassGaussian(3.0).fit(x, labels=labels)
    moments, shrunk = density._moments, density._shrunk
    factor = torch.linalg.inv(shrunk.basis[0])
    target = factor.T @ factor
    found = density.left_out(x, labels=labels)
    for row in range(len(x)):
        keep = (labels == labels[row]) & (torch.arange(60) != row)
        mean = x[keep].mean(0)
        scatter = (x[keep] - mean).T @ (x[keep] - mean)
        own = Shrunk(mean[None], scatter[None], keep.sum()[None].double(), target, 3.0)
        logs = shrunk.log_prob(x[row : row + 1])[0] + moments.count.log()
        logs[labels[row]] = own.log_prob(x[row : row + 1])[0, 0] + keep.sum().double().log()
        want = logs.logsumexp(0) - torch.tensor(59.0).double().log()
        torch.testing.assert_close(found[row], want, rtol=1e-9, atol=1e-9)


def test_a_class_without_rows_and_a_class_of_one():
    x, _ = data(30)
    labels = torch.zeros(30, dtype=torch.int64)
    labels[4] = 3
    density = ClassGaussian().fit(x, labels=labels)
    assert density.classes == 2
    assert density.log_prob(x).isfinite().all()
    with pytest.raises(InvalidValue, match=r"among the 2 classes that it was fitted on\. Found 1"):
        density.given(x[:2], torch.tensor([1, 3]))
    found = density.left_out(x, labels=labels)
    assert found.isfinite().all(), "the other class explains the only row of its own"
    assert density.label_left_out(x, labels)[4] == -torch.inf


def test_rows_without_a_label_are_no_part_of_it():
    x, labels = data(90)
    some = labels.clone()
    some[::3] = -100
    known = some >= 0
    one = ClassGaussian(2.0).fit(x, labels=some)
    two = ClassGaussian(2.0).fit(x[known], labels=some[known])
    torch.testing.assert_close(one.log_prob(x), two.log_prob(x), rtol=1e-6, atol=1e-6)
    assert one.label_log_ratio(x[:1], some[:1]).isnan().all()
    with pytest.raises(InvalidValue, match="needs a label"):
        ClassGaussian().fit(x, labels=torch.full((90,), -1))


def test_wrong_labels_are_seen_by_the_ratio_and_not_by_the_density():
    """A mislabelled row is typical of its true class."""
    x, labels = data(900, 8, apart=2.0)
    flipped = torch.rand(900) < 0.1
    given = torch.where(flipped, (labels + 1) % 3, labels)
    density = ClassGaussian().fit(x, labels=given)
    assert roc_auc_score(flipped, -density.label_left_out(x, given)) > 0.97
    assert abs(roc_auc_score(flipped, -density.left_out(x, labels=given)) - 0.5) < 0.1


def test_wrong_kinds_of_labels():
    x, labels = data(30)
    with pytest.raises(InvalidType, match="class ids"):
        ClassGaussian().fit(x, labels=labels.double())
    with pytest.raises(InvalidType, match="class ids"):
        ClassGaussian().fit(x, labels=labels[:4])
    density = ClassGaussian().fit(x, labels=labels)
    with pytest.raises(InvalidValue, match=r"among the 3 classes that it was fitted on\. Found 3"):
        density.given(x, labels + 1)
