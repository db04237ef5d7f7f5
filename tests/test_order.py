"""The order of an epoch: all kept samples once, a pure function, read from anywhere."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fallow.arrays.bitset import Bitset
from fallow.core.order import BLOCK, Order, RemainingOrder
from fallow.errors import InvalidType, InvalidValue

examples = settings(max_examples=60, deadline=None)

MASKS = npst.arrays(np.bool_, st.integers(0, 300))


@examples
@given(MASKS, st.integers(-(2**63), 2**63), st.integers(0, 1000), st.booleans())
def test_every_kept_sample_comes_once(mask, seed, epoch, shuffle):
    order = Order(Bitset(mask), seed, epoch, shuffle=shuffle)
    read = order[:]
    assert read.dtype == torch.int64
    assert len(order) == len(read)
    assert sorted(read.tolist()) == np.flatnonzero(mask).tolist()
    assert list(order) == read.tolist()
    if not shuffle:
        assert read.tolist() == np.flatnonzero(mask).tolist()


@examples
@given(MASKS, st.integers(-400, 400) | st.none(), st.integers(-400, 400) | st.none())
def test_a_slice_is_that_of_the_whole(mask, start, stop):
    order = Order(Bitset(mask), seed=1, epoch=2)
    whole = order[:]
    assert torch.equal(order[start:stop], whole[start:stop])


def test_one_position_is_an_int():
    order = Order(Bitset(np.arange(50) % 3 > 0), seed=1, epoch=2)
    whole = order[:].tolist()
    assert [order[i] for i in range(-len(order), len(order))] == whole + whole
    assert order[np.int64(3)] == whole[3]
    assert type(order[0]) is int


def test_blocks_join_without_a_seam():
    mask = np.random.default_rng(0).random(3 * BLOCK) < 0.8
    order = Order(Bitset(mask), seed=0, epoch=0)
    whole = order[:]
    assert np.array_equal(np.sort(whole.numpy()), np.flatnonzero(mask))
    for edge in (BLOCK, 2 * BLOCK):
        assert torch.equal(order[edge - 3 : edge + 3], whole[edge - 3 : edge + 3])
    head = [index for index, _ in zip(order, range(BLOCK + 5), strict=False)]
    assert head == whole[: BLOCK + 5].tolist()


def test_seed_epoch_and_members_change_the_order():
    bits = Bitset(np.ones(1000, bool))
    orders = [Order(bits, seed, epoch)[:] for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert (one == other).sum() < 10
    fewer = Order(Bitset(np.arange(1000) != 7), 0, 0)[:]
    assert 7 not in fewer


def test_the_order_is_the_frozen_one():
    everyone = Bitset(np.ones(10, bool))
    assert Order(everyone, seed=0, epoch=0)[:].tolist() == [7, 8, 2, 6, 1, 4, 9, 0, 3, 5]
    assert Order(everyone, seed=0, epoch=1)[:].tolist() == [5, 7, 6, 4, 2, 9, 0, 1, 8, 3]
    assert Order(everyone, seed=1, epoch=0)[:].tolist() == [0, 6, 4, 3, 8, 9, 1, 5, 2, 7]
    assert Order(Bitset(np.arange(12) % 3 != 0), seed=5, epoch=7)[:].tolist() == [4, 1, 10, 11, 8, 5, 7, 2]
    assert Order(Bitset(np.ones(100_000, bool)), seed=5, epoch=7)[50_000:50_005].tolist() == [
        95511,
        50301,
        54254,
        68047,
        98855,
    ]


@examples
@given(MASKS, st.integers(0, 99), st.booleans())
def test_the_rest_of_an_order_is_the_order_without_the_used(mask, seed, shuffle):
    used = np.random.default_rng(seed).random(mask.size) < 0.4
    whole = Order(Bitset(mask), seed, epoch=1, shuffle=shuffle)
    rest = RemainingOrder(whole, used)
    expected = [index for index in whole if not used[index]]
    assert len(rest) == len(expected)
    assert list(rest) == rest[:].tolist() == expected
    assert rest[2:5].tolist() == expected[2:5]


def test_an_empty_order():
    order = Order(Bitset(np.zeros(5, bool)), 0, 0)
    assert len(order) == 0
    assert order[:].tolist() == list(order) == []
    with pytest.raises(IndexError):
        order[0]


@pytest.mark.parametrize("position", [5, -6, 10**20])
def test_a_position_outside_raises(position):
    with pytest.raises(IndexError, match=r"below 5, the number of kept samples\. Found"):
        Order(Bitset(np.ones(5, bool)), 0, 0)[position]


@pytest.mark.parametrize("position", [1.0, True, "1", None])
def test_a_position_of_another_kind_raises(position):
    with pytest.raises(InvalidType, match="whole number or a slice"):
        Order(Bitset(np.ones(5, bool)), 0, 0)[position]


@pytest.mark.parametrize("step", [-1, 2])
def test_other_steps_raise(step):
    with pytest.raises(InvalidValue, match="steps of 1"):
        Order(Bitset(np.ones(5, bool)), 0, 0)[::step]
