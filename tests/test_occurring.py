"""Values that occur, counted: the same as sorted ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fallow.arrays.occurring import occurring

KINDS = st.sampled_from([np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64, np.float32])


@given(arrays.arrays(KINDS, st.integers(0, 40)))
def test_it_is_what_a_sort_finds(numbers):
    numbers = np.nan_to_num(numbers)
    values, places = occurring(numbers)
    expected, of = np.unique(numbers, return_inverse=True)
    assert (values.dtype, values.tolist()) == (expected.dtype, expected.tolist())
    assert places.tolist() == of.tolist()


@pytest.mark.parametrize("low", [-1, 0, 2**31 - 1000])
def test_classes_are_not_sorted(monkeypatch, low):
    numbers = np.random.default_rng(0).integers(low, low + 999, 5000)
    expected = np.unique(numbers, return_inverse=True)
    monkeypatch.setattr(np, "unique", lambda *_, **__: pytest.fail("They were sorted."))
    for found, wanted in zip(occurring(numbers), expected, strict=True):
        assert np.array_equal(found, wanted)
