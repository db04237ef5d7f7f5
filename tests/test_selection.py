"""The k smallest, against a stable sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fallow.arrays.selection import BLOCK, blocks, kth_smallest, smallest

examples = settings(max_examples=60, deadline=None)

VALUES = npst.arrays(
    np.float32,
    st.integers(0, 80),
    elements=st.one_of(
        st.floats(width=32),
        st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4e38]),
    ),
)


def chosen(values, count):
    """Return the mask of the smallest, the same whether the values are held or computed in each pass."""
    held = smallest(lambda a, b: values[a:b], values.size, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fallow.arrays.selection.HELD", -1)
        anew = smallest(lambda a, b: values[a:b], values.size, count)
    assert np.array_equal(held, anew)
    return held


def reference(values, count):
    mask = np.zeros(values.size, bool)
    mask[np.argsort(values, kind="stable")[:count]] = True
    return mask


@examples
@given(VALUES, st.data())
def test_smallest_is_the_head_of_a_stable_sort(values, data):
    count = data.draw(st.integers(0, int(np.count_nonzero(~np.isnan(values)))))
    found = chosen(values, count)
    assert found.dtype == np.bool_
    assert np.array_equal(found, reference(values, count))


@examples
@given(VALUES, st.data())
def test_kth_smallest_is_that_of_a_sort(values, data):
    sound = int(np.count_nonzero(~np.isnan(values)))
    if sound:
        k = data.draw(st.integers(1, sound))
        assert kth_smallest(lambda a, b: values[a:b], values.size, k) == np.sort(values)[k - 1]


def test_more_values_than_are_held_are_computed_block_by_block(monkeypatch):
    monkeypatch.setattr("fallow.arrays.selection.HELD", 0)
    asked = []

    def values(start, stop):
        asked.append((start, stop))
        return np.arange(start, stop, dtype=np.float32)

    assert smallest(values, BLOCK + 10, 7)[:8].tolist() == [True] * 7 + [False]
    assert asked == [(0, BLOCK), (BLOCK, BLOCK + 10)] * 3


@pytest.mark.parametrize("value", [0.0, -7.0, np.inf])
@pytest.mark.parametrize("count", [0, 4, 9])
def test_of_equal_values_the_first_are_chosen(value, count):
    assert chosen(np.full(9, value, np.float32), count).tolist() == [True] * count + [False] * (9 - count)


def test_nan_is_not_chosen_whatever_its_sign():
    values = np.array([np.nan, 5.0, -np.nan, np.inf], np.float32)
    values[2:3].view(np.uint32)[0] |= 0x80000000
    assert chosen(values, 2).tolist() == [False, True, False, True]


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, BLOCK + 9, 2 * BLOCK + 2, 2 * BLOCK + 3])
def test_several_blocks_and_ties_across_them(count):
    values = np.random.default_rng(1).integers(-3, 4, 2 * BLOCK + 3).astype(np.float32)
    assert np.array_equal(chosen(values, count), reference(values, count))


def test_values_that_share_their_upper_bits():
    values = (np.float32(1.0) + np.arange(5000, dtype=np.float32) * np.float32(2.0**-23))[::-1].copy()
    assert np.array_equal(chosen(values, 1234), reference(values, 1234))


@examples
@given(st.integers(0, 1000), st.integers(1, 1200))
def test_blocks_cover_the_range_once(n, size):
    covered = [i for start, stop in blocks(n, size) for i in range(start, stop)]
    assert covered == list(range(n))
    assert all(0 < stop - start <= size for start, stop in blocks(n, size))
