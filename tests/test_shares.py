"""How far a share varies by chance, and whether one is higher than another."""

import pytest
from scipy.stats import fisher_exact

from fallow.arrays.shares import error_of_share, fisher_p_value


@pytest.mark.parametrize(
    "counts", [(4, 7, 18, 353), (0, 5, 3, 40), (5, 5, 0, 10), (3, 9, 30, 90), (1, 1, 0, 0)]
)
def test_it_is_the_tail_of_fishers_test(counts):
    hits, size, other, rest = counts
    expected = fisher_exact([[hits, size - hits], [other, rest - other]], alternative="greater").pvalue
    assert fisher_p_value(*counts) == pytest.approx(expected, rel=1e-9)


def test_all_right_of_a_few_is_not_sure():
    assert error_of_share(1.0, 4) == pytest.approx((5 / 6 * 1 / 6 / 4) ** 0.5)
    assert error_of_share(0.5, 10_000) == pytest.approx(0.005)
    assert error_of_share(0.5, 0) is None
