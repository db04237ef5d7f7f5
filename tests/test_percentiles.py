"""Where values stand: uniform over the panel, in order beyond it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from fallow.activations.percentiles import Percentiles


def panel(n=4000, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_fresh_values_of_the_same_kind_are_uniform():
    found = Percentiles.of(panel())(panel(4000, 1))
    assert kstest(found.numpy(), "uniform").pvalue > 0.01
    surprise = Percentiles.of(panel()).surprise(panel(4000, 1))
    assert surprise.mean() == pytest.approx(1.0, abs=0.06)


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=40))
def test_it_never_turns_the_order_around(values):
    ordered = torch.tensor(sorted(values), dtype=torch.float64)
    for found in (Percentiles.of(panel())(ordered), Percentiles.of(panel()).surprise(ordered)):
        assert (found.diff() >= 0).all()


def test_beyond_the_panel_there_is_still_an_order():
    found = Percentiles.of(panel()).surprise(torch.tensor([4.0, 5.0, 9.0, 100.0]))
    assert (found.diff() > 0).all()
    shares = Percentiles.of(panel())(torch.tensor([-100.0, 100.0]))
    assert shares.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("values", [torch.zeros(100), torch.tensor([1.0]), torch.arange(3.0)])
def test_few_and_equal_values(values):
    found = Percentiles.of(values)(torch.tensor([-1.0, 0.0, 0.5, 5.0]))
    assert found.isfinite().all()
    assert ((found >= 0) & (found <= 1)).all()


def test_what_is_not_finite_has_no_place():
    found = Percentiles.of(panel())(torch.tensor([float("nan"), float("inf"), 0.0]))
    assert found.isnan().tolist() == [True, True, False]
