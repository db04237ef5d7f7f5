"""Rows as bytes: what goes in comes out, and a usual epoch is short."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.arrays.row_packing import Rows, pack, unpack


def drawn(n, share, classes, seed=0, kinds=1, more=0):
    rng = np.random.default_rng(seed)
    index = np.flatnonzero(rng.random(n) < share)
    distinct = index.size
    index = np.concatenate([index, rng.integers(0, n, more)]).astype(np.int64)
    scores = rng.normal(size=index.size).astype(np.float32)
    scores[: index.size // 9] = np.nan
    kind = (1 + rng.integers(0, kinds, index.size)).astype(np.uint8)
    return Rows(index, scores, kind, rng.integers(0, classes + 1, index.size).astype(np.int32)), distinct


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 400), st.floats(0, 1), st.sampled_from([0, 1, 255, 256, 65_535, 65_536, 2**31 - 2]),
    st.integers(0, 99), st.integers(1, 2), st.integers(0, 5),
)  # fmt: skip
def test_what_is_packed_is_unpacked(n, share, classes, seed, kinds, more):
    rows, distinct = drawn(n, share, classes, seed, kinds, more)
    found = unpack(pack(rows, distinct, n), n)
    for ours, theirs in zip(vars(found).values(), vars(rows).values(), strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")


@pytest.mark.parametrize(
    ("classes", "used", "most"),
    [(9, 1.0, 5.6), (9, 0.5, 6.1), (999, 1.0, 6.6), (999, 0.5, 7.1), (0, 0.5, 5.1)],
)
def test_bytes_a_sample_of_a_quarter_of_an_epoch(classes, used, most):
    """Four ranks, each with a quarter of the samples that the epoch trains on."""
    rows, distinct = drawn(400_000, used / 4, classes)
    assert len(pack(rows, distinct, 400_000)) / distinct < most


def test_few_samples_are_sent_by_their_numbers():
    rows, distinct = drawn(1_000_000, 0.001, 9)
    assert len(pack(rows, distinct, 1_000_000)) / distinct < 9.1
