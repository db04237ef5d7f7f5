"""Sums over rows: against numpy, far from zero, in any order, over any number of parts."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fallow.densities.moments import Moments
from fallow.errors import InvalidValue


def rows(n=200, d=4, mean=0.0, seed=0):
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=draw, dtype=torch.float64)
    return torch.randn(n, d, generator=draw, dtype=torch.float64) @ mixing + mean


def weighed(x, shares):
    """Mean and covariance of each group, by numpy."""
    means, covariances = [], []
    for weights in shares.T:
        means.append(np.average(x, axis=0, weights=weights))
        covariances.append(np.cov(x.T, aweights=weights, ddof=0))
    return torch.tensor(np.array(means)), torch.tensor(np.array(covariances))


def test_mean_and_covariance_of_weighed_groups():
    x = rows()
    shares = torch.rand(200, 3, dtype=torch.float64)
    moments = Moments.zeros(3, x[0]).add(x, shares)
    mean, covariance = weighed(x.numpy(), shares.numpy())
    torch.testing.assert_close(moments.mean(), mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moments.covariance(), covariance, rtol=1e-10, atol=1e-10)


def test_rows_that_belong_to_one_group_each_count_there_alone():
    x, group = rows(), torch.arange(200) % 5
    moments = Moments.zeros(5, x[0]).add(x, torch.nn.functional.one_hot(group, 5))
    for k in range(5):
        torch.testing.assert_close(moments.covariance()[k], x[group == k].T.cov(correction=0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_far_from_zero_keep_their_variance(dtype):
    """Raw float32 moments of a mean of 1,000 deviations give a negative eigenvalue."""
    x = rows(20_000, 6, mean=1000.0).to(dtype)
    moments = Moments.zeros(1, x[:100].double().mean(0)).add(x)
    exact = x.double().T.cov(correction=0)
    torch.testing.assert_close(moments.covariance()[0], exact, rtol=1e-9, atol=1e-9)
    assert torch.linalg.eigvalsh(moments.covariance()[0]).min() > 0


@given(cuts=st.lists(st.integers(0, 200), max_size=5), far=st.floats(-1e3, 1e3))
def test_parts_add_up_about_any_origin(cuts, far):
    x = rows()
    whole = Moments.zeros(1, x[0]).add(x)
    edges = [0, *sorted(cuts), 200]
    total = Moments.zeros(1, torch.full((4,), far, dtype=torch.float64))
    for low, high in itertools.pairwise(edges):
        total = total.plus(Moments.zeros(1, x[low % 200]).add(x[low:high]))
    torch.testing.assert_close(total.mean(), whole.mean(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(total.covariance(), whole.covariance(), rtol=1e-6, atol=1e-6)


def test_groups_stand_beside_each_other():
    x = rows()
    one, two = Moments.zeros(1, x[0]).add(x[:50]), Moments.zeros(2, x[0]).add(x[50:], torch.rand(150, 2))
    both = one.beside(two)
    assert both.groups == 3
    torch.testing.assert_close(both.covariance(), torch.cat([one.covariance(), two.covariance()]))


def test_only_their_like_join():
    with pytest.raises(InvalidValue, match=r"1 groups of 3 numbers .* Found 2 groups of 3"):
        Moments.zeros(1, torch.zeros(3)).plus(Moments.zeros(2, torch.zeros(3)))


def test_a_state_is_all_there_is():
    x = rows()
    moments = Moments.zeros(1, x[0]).add(x)
    again = Moments.from_state_dict(moments.state_dict())
    assert torch.equal(again.covariance(), moments.covariance())
    again.add(x)
    assert float(moments.count) == 200, "the state is a copy"


def test_a_group_without_rows_has_no_spread():
    moments = Moments.zeros(2, torch.ones(3)).add(rows(d=3), torch.tensor([[1.0, 0.0]]).expand(200, 2))
    assert torch.equal(moments.covariance()[1], torch.zeros(3, 3, dtype=torch.float64))
    assert torch.equal(moments.mean()[1], torch.ones(3, dtype=torch.float64))
