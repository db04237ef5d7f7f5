"""The store of keys against a dictionary."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import InvalidType
from fallow.arrays.key_store import KeyStore, digest, digests, unique

keys = st.one_of(st.text(max_size=6), st.integers(-(2**63), 2**64 - 1))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(keys, max_size=8), max_size=5), st.lists(keys, max_size=8))
def test_it_is_a_dictionary(batches, asked):
    store, known = KeyStore(), {}
    for batch in batches:
        # Numbers of 64 bits, with and without a sign, share their bits.
        new = {d.tobytes(): d for d in digests(batch) if d.tobytes() not in known}
        for word in new:
            known[word] = len(known)
        store.add(np.array(list(new.values()), np.uint64).reshape(-1, 2))
    found = store.find(digests(asked))
    assert found.tolist() == [known.get(d.tobytes(), -1) for d in digests(asked)]
    assert [d.tobytes() for d in store.digests()] == list(known)
    assert len(store) == len(known)
    for key, row in zip(asked, found, strict=True):
        assert digest(key) == tuple(digests([key])[0].tolist())
        assert store.row(*digest(key)) == row


def test_keys_whose_first_words_are_equal_are_told_apart():
    crafted = np.array([[7, 3], [7, 1], [5, 2], [7, 2], [9, 9]], np.uint64)
    store = KeyStore()
    store.add(crafted)
    asked = np.concatenate([crafted, np.array([[7, 0], [7, 4], [9, 8], [4, 2], [10, 0]], np.uint64)])
    assert store.find(asked).tolist() == [0, 1, 2, 3, 4, -1, -1, -1, -1, -1]
    assert [store.row(*key) for key in asked.tolist()] == [0, 1, 2, 3, 4, -1, -1, -1, -1, -1]
    assert unique(crafted)[0].tolist() == sorted(crafted.tolist())


def test_twenty_bytes_a_key():
    store = KeyStore()
    store.add(digests(np.arange(100_000)))
    assert store.nbytes == 20 * 100_000
    assert (store.find(digests(np.arange(50_000, 150_000))) >= 0).sum() == 50_000


def test_texts_and_numbers_are_different_keys():
    mixed = digests(["1", 1, "a", -1, "\ud800"])
    assert len(unique(mixed)[0]) == 5
    assert np.array_equal(digests([1, 2]), digests(np.array([1, 2], np.int32)))
    again, first, which = unique(digests([3, 1, 3, 1, 2]))
    assert len(again) == 3
    assert sorted(first.tolist()) == [0, 1, 4]
    assert np.array_equal(again[which], digests([3, 1, 3, 1, 2]))


@pytest.mark.parametrize(
    "wrong", ["abc", b"abc", 3, [1.5], [True], [None], [b"a"], [2**64], [-(2**63) - 1], [[1]]]
)
def test_other_keys_are_refused(wrong):
    with pytest.raises(InvalidType, match="texts or whole numbers of at most 64 bits"):
        digests(wrong)
