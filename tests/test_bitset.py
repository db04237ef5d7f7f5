"""Rank and select over packed bits, against numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fallow.arrays import bitset
from fallow.arrays.bitset import LISTED, Bitset, unpack


@pytest.fixture(scope="module", params=[0, LISTED], ids=["directory", "list"], autouse=True)
def _path(request):
    """Run every test through the directory of large sets and through the list of small ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitset, "LISTED", request.param)
        yield


examples = settings(max_examples=60, deadline=None)


@st.composite
def runs(draw):
    """Draw a mask made of runs, short and long, kept and removed in turn."""
    lengths = draw(st.lists(st.one_of(st.integers(1, 5), st.integers(50, 3000)), max_size=12))
    start = draw(st.booleans())
    return np.repeat((np.arange(len(lengths)) % 2).astype(bool) ^ start, lengths)


def assert_is(bits, mask):
    """Assert that ``bits`` is the set of the true positions of ``mask``."""
    members = np.flatnonzero(mask)
    assert len(bits) == members.size
    ranks = np.arange(members.size)
    found = bits.select(ranks)
    assert found.dtype == np.int64
    assert np.array_equal(found, members)
    assert np.array_equal(bits.select(ranks[::-1].astype(np.uint64)), members[::-1])
    assert np.array_equal(bits.mask(), mask)
    assert bits.mask().dtype == np.bool_
    assert bits.packed().size == -(-mask.size // 8)
    assert np.array_equal(unpack(bits.packed(), mask.size), mask)


@examples
@given(npst.arrays(np.bool_, st.integers(0, 500)))
def test_any_mask(mask):
    assert_is(Bitset(mask), mask)


@examples
@given(runs())
def test_masks_in_runs(mask):
    assert_is(Bitset(mask), mask)


@examples
@given(st.integers(0, 20_000), st.sampled_from([0.0, 0.001, 0.02, 0.5, 0.98, 0.999, 1.0]), st.integers(0, 99))
def test_sparse_and_dense_masks(n, share, seed):
    mask = np.random.default_rng(seed).random(n) < share
    assert_is(Bitset(mask), mask)


@pytest.mark.parametrize("n", [0, 1, 8, 63, 64, 65, 4096, 4097])
@pytest.mark.parametrize("value", [False, True])
def test_none_and_all(n, value):
    mask = np.full(n, value)
    assert_is(Bitset(mask), mask)


def test_members_a_long_way_apart():
    mask = np.zeros(1_000_003, bool)
    mask[[0, 5, 70_000, 70_001, 500_000, 999_999, 1_000_002]] = True
    assert_is(Bitset(mask), mask)
    assert_is(Bitset(~mask), ~mask)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64])
def test_ranks_may_be_integers_of_any_width(dtype):
    members = Bitset(np.arange(400) % 4 == 1)
    assert members.select(np.array([0, 7, 3, 99], dtype)).tolist() == [1, 29, 13, 397]


def test_the_bits_are_in_little_order():
    mask = np.zeros(11, bool)
    mask[[0, 9]] = True
    assert Bitset(mask).packed().tolist() == [1, 2]


def test_the_packed_bits_are_a_copy():
    bits = Bitset(np.ones(5, bool))
    bits.packed()[:] = 0
    assert bits.mask().all()
