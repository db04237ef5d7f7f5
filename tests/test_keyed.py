"""Keyed permutations and draws: bijective, even over keys, the same wherever they are evaluated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from fallow.arrays.keyed import SMALL, Permutation, mix, uniform

examples = settings(max_examples=60, deadline=None)

KEYS = st.integers(-(2**63), 2**64 - 1)
UNLIKELY = 1e-5
"""A right generator falls below this p-value for one choice of seeds in 100,000; ours are fixed."""


def permuted(n, key):
    return Permutation(n, key)(np.arange(n)).astype(np.int64)


def assert_even(counts, expected):
    """Assert that ``counts`` could come from cells that are all expected ``expected`` times."""
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert chi2.sf(statistic, counts.size - 1) > UNLIKELY


def test_every_small_permutation_is_bijective():
    for n in range(301):
        assert np.array_equal(np.sort(permuted(n, key=mix(5, n))), np.arange(n))


@examples
@given(st.integers(0, 10**5), KEYS)
def test_a_permutation_is_bijective(n, key):
    assert (np.bincount(permuted(n, key), minlength=n) == 1).all()


@examples
@given(st.integers(1, 10**5), KEYS, st.data())
def test_any_position_can_be_asked_for_alone(n, key, data):
    some = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=20)), np.int64)
    assert np.array_equal(Permutation(n, key)(some), permuted(n, key)[some])


@pytest.mark.parametrize("n", [5, 6, 16])
def test_small_permutations_are_even_over_seeds(n):
    seeds = 2000
    at, next_to = np.zeros((n, n)), np.zeros((n, n))
    for seed in range(seeds):
        order = permuted(n, mix(1, seed))
        at[np.arange(n), order] += 1
        next_to[order[:-1], order[1:]] += 1
    assert_even(at, seeds / n)
    assert_even(next_to[~np.eye(n, dtype=bool)], seeds / n)


@pytest.mark.parametrize("n", [200, SMALL + 1])
def test_larger_permutations_are_even_over_seeds(n):
    seeds = 400
    first, step, far = np.zeros(100), np.zeros(n), np.zeros(n)
    for seed in range(seeds):
        order = permuted(n, mix(2, seed))
        first[order[:20] * 100 // n] += 1
        step += np.bincount((order[1:] - order[:-1]) % n, minlength=n)
        far += np.bincount((order[32:] - order[:-32]) % n, minlength=n)
    assert step[0] == far[0] == 0
    assert_even(step[1:], seeds)
    assert_even(far[1:], seeds * (n - 32) / (n - 1))
    assert_even(first, seeds * 20 / 100 * np.diff(-(-np.arange(101) * n // 100)) / n * 100)


def test_neighbours_in_an_order_are_uncorrelated():
    n = 10_000
    found = [np.corrcoef(o[1:], o[:-1])[0, 1] for o in (permuted(n, mix(3, s)) for s in range(50))]
    assert abs(np.mean(found)) < 5 / np.sqrt(n * 50)


@pytest.mark.parametrize("n", [1000, 100_000])
def test_other_keys_give_unrelated_orders(n):
    orders = [permuted(n, mix(seed, epoch)) for seed in range(4) for epoch in range(4)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert np.count_nonzero(one == other) < 10
            assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(n)


@pytest.mark.parametrize("n", [2**31 + 11, 2**40, 2**40 + 1, 10**15 + 7, 2**62])
def test_64_bit_positions_stay_below_n_and_apart(n):
    rng = np.random.default_rng(0)
    edges = np.array([0, 1, 2, n - 2, n - 1, 2**31, 2**31 - 1])
    some = np.unique(np.concatenate([edges, rng.integers(0, n, 100_000)]))
    image = Permutation(n, mix(9, n))(some)
    assert image.dtype == np.uint64
    assert (image < n).all()
    assert np.unique(image).size == some.size
    assert_even(np.bincount((image // np.uint64(-(-n // 64))).astype(np.int64), minlength=64), some.size / 64)


@pytest.mark.parametrize("n", [1, 2, 10, 16_384, 16_385, 10**6, 2**34])
def test_tabulated_rounds_are_those_computed(n, monkeypatch):
    some = np.unique(np.linspace(0, n - 1, 500).astype(np.int64))
    tabulated = Permutation(n, key=6)(some)
    monkeypatch.setattr("fallow.arrays.keyed.TABLE", 0)
    assert np.array_equal(Permutation(n, key=6)(some), tabulated)


def test_the_permutation_is_the_frozen_one():
    assert permuted(10, mix(0, 0)).tolist() == [3, 4, 1, 8, 7, 2, 5, 9, 0, 6]
    assert permuted(1000, mix(1, 2))[:6].tolist() == [416, 543, 932, 20, 661, 786]
    assert permuted(50_000, mix(3, 4))[:6].tolist() == [21808, 42120, 49349, 30652, 10849, 40323]
    assert Permutation(2**40, mix(5))(np.arange(3)).tolist() == [155445570585, 83938271048, 870028425552]


def test_mix_and_the_draws_are_the_frozen_ones():
    assert [mix(), mix(0), mix(1, 2), mix(-1)] == [
        11400714819323198485,
        15590649930234121703,
        5640054598490828357,
        8658983634636877031,
    ]
    draws = uniform(mix(7), 0, 4) * 2**24
    assert draws.tolist() == [2256120.0, 2238408.0, 7822635.0, 9810793.0]


def test_mix_tells_words_apart():
    assert len({mix(a, b) for a in range(-50, 50) for b in range(50)}) == 5000
    assert mix(1, 2) != mix(2, 1) != mix(2, 1, 0)
    assert all(0 <= mix(a) < 2**64 for a in (-1, 2**63, -(2**63)))


@examples
@given(KEYS, st.integers(0, 2**40), st.integers(0, 300), st.integers(0, 300))
def test_a_draw_depends_on_its_position_only(key, start, skip, count):
    whole = uniform(key, start, start + skip + count)
    assert np.array_equal(uniform(key, start + skip, start + skip + count), whole[skip:])
    assert whole.dtype == np.float32
    assert ((whole > 0) & (whole <= 1)).all()


@pytest.mark.parametrize("start", [0, 2**32 - 1000, 2**40])
def test_draws_are_even_and_independent(start):
    n = 1 << 18
    draw = uniform(mix(4, start), start, start + n)
    assert_even(np.bincount((draw * 999.999).astype(np.int64), minlength=1000), n / 1000)
    pairs = (draw[1:] * 31.9999).astype(np.int64) * 32 + (draw[:-1] * 31.9999).astype(np.int64)
    assert_even(np.bincount(pairs, minlength=1024), (n - 1) / 1024)
    for other in (
        uniform(mix(4, start + 1), start, start + n),
        uniform(mix(4, start), start + 2**32, start + 2**32 + n),
    ):
        assert abs(np.corrcoef(draw, other)[0, 1]) < 5 / np.sqrt(n)
