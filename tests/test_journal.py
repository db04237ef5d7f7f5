"""Batches as they came: nothing lost, nothing changed, nothing shared."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.core.journal import PAGE, Journal


def batch(start, count):
    return np.arange(start, start + count), torch.arange(start, start + count, dtype=torch.float32) / 4


def drained(journal):
    parts = journal.drain()
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    return np.concatenate([i for i, _ in parts]), np.concatenate([v for _, v in parts])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([1, 3, 128, PAGE // 2 + 1, PAGE - 1, PAGE, PAGE + 1]), max_size=8))
def test_what_is_taken_down_is_handed_on_in_order(counts):
    journal, start = Journal(10**7), 0
    for count in counts:
        journal.append(*batch(start, count))
        start += count
    index, values = drained(journal)
    assert index.dtype == np.int64
    assert values.dtype == np.float32
    assert np.array_equal(index, np.arange(start))
    assert np.array_equal(values, np.arange(start, dtype=np.float32) / 4)
    assert journal.drain() == []


def test_what_was_handed_on_does_not_change_afterwards():
    journal = Journal(100)
    journal.append(*batch(0, 5))
    index, values = drained(journal)
    journal.append(*batch(50, 5))
    assert index.tolist() == [0, 1, 2, 3, 4]
    assert values.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert drained(journal)[0].tolist() == [50, 51, 52, 53, 54]


def test_a_batch_is_copied_when_it_is_taken_down():
    journal = Journal(100)
    index, values = batch(0, 3)
    journal.append(index, values)
    index[:], values[:] = 9, 9.0
    assert drained(journal)[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_scores_of_any_precision_become_float32(dtype):
    journal = Journal(10)
    journal.append(np.arange(3), torch.tensor([0.5, 2.0, 1024.0], dtype=dtype))
    assert drained(journal)[1].tolist() == [0.5, 2.0, 1024.0]


@pytest.mark.parametrize("n", [2**24 + 10, 2**31 - 1, 2**31, 2**40])
def test_the_largest_index_is_exact(n):
    journal = Journal(n)
    journal.append(np.array([n - 1, 0, 2**24 + 1]), torch.ones(3, dtype=torch.bfloat16))
    assert drained(journal)[0].tolist() == [n - 1, 0, 2**24 + 1]


def test_classes_are_whole_numbers():
    journal = Journal(10, torch.int32)
    journal.append(np.arange(2), torch.tensor([2**24 + 1, 7]))
    assert drained(journal)[1].tolist() == [2**24 + 1, 7]


def test_it_is_ripe_when_a_page_on_the_host_is_full():
    journal = Journal(10**6)
    assert not journal.ripe
    journal.append(*batch(0, PAGE))
    assert not journal.ripe
    journal.append(*batch(PAGE, 1))
    assert journal.ripe
    journal.drain()
    assert not journal.ripe


def test_values_wait_on_their_own_device():
    journal = Journal(10)
    journal.append(*batch(0, 3))
    journal.append(np.arange(3), torch.ones(3, device="meta"))
    journal.append(*batch(3, 3))
    assert not journal.ripe


def test_an_empty_batch_leaves_no_trace():
    journal = Journal(10)
    journal.append(*batch(0, 0))
    assert journal.drain() == []
