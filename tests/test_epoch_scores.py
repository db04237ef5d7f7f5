"""From the batches of an epoch into the table: nothing lost, nothing twice, in any order of pages."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.core.epoch_scores import PAGE, EpochScores, Pages
from fallow.core.table import MEASURED, PREDICTED, TRAINED, UNSEEN
from fallow.policies import Reason

batches = st.lists(
    st.lists(st.tuples(st.integers(0, 8), st.floats(0, 50, width=32)), min_size=1, max_size=6), max_size=12
)


def fill(under_way, rows, classes=None):
    index = np.array([i for i, _ in rows])
    scores = torch.tensor([v for _, v in rows])
    under_way.record(index, scores, None if classes is None else torch.tensor(classes))


def averages(rows, n=9):
    """The mean score of each sample, by hand; NaN where there is none."""
    found = np.full(n, np.nan)
    for sample in {i for i, _ in rows}:
        found[sample] = np.mean([float(np.float32(v)) for i, v in rows if i == sample])
    return found


@given(batches, st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_scores_arrive_averaged_whenever_the_ledger_is_read(parts, read_at):
    under_way = EpochScores(9)
    for at, rows in enumerate(parts):
        fill(under_way, rows)
        if at == read_at:
            under_way.flush()
    under_way.flush()
    under_way.table.average_repeats()
    rows = [row for part in parts for row in part]
    np.testing.assert_allclose(under_way.table.scores, averages(rows), rtol=1e-6, atol=1e-30)
    assert under_way.table.recorded == len(rows)
    assert set(np.flatnonzero(under_way.table.seen == TRAINED)) == {i for i, _ in rows}
    assert (under_way.table.scored_in == np.where(np.isnan(averages(rows)), 0, 1)).all()


def test_a_caller_may_write_over_what_it_recorded():
    under_way = EpochScores(4)
    index, scores = np.array([1, 2]), torch.tensor([3.0, 4.0])
    under_way.record(index, scores, None)
    index[:], scores[:] = 0, 99.0
    under_way.flush()
    assert under_way.table.scores[1:3].tolist() == [3.0, 4.0]
    assert np.isnan(under_way.table.scores[[0, 3]]).all()


def test_measured_samples_are_not_trained_ones():
    under_way = EpochScores(4)
    under_way.table.reason[2] = Reason.OUTLIER
    fill(under_way, [(0, 1.0)])
    pages = Pages(4)
    pages.append(np.array([2]), torch.tensor([0.5]))
    under_way.measure(pages, Pages(4, torch.int32))
    assert under_way.measured
    assert under_way.recorded == 1
    assert under_way.table.seen.tolist() == [TRAINED, UNSEEN, MEASURED, UNSEEN]
    assert under_way.table.scores[2] == 0.5
    assert under_way.recorded_here().tolist() == [True, False, False, False]


def test_unbegun_until_something_is_recorded_or_measured():
    under_way = EpochScores(4)
    assert under_way.untouched
    assert under_way.recorded_here() is None
    under_way.measure(Pages(4), Pages(4, torch.int32))
    assert not under_way.untouched
    under_way.begin(1)
    assert under_way.untouched
    fill(under_way, [(0, 1.0)])
    assert not under_way.untouched


def test_predictions_without_any_make_no_column():
    under_way = EpochScores(4)
    fill(under_way, [(0, 1.0)])
    under_way.flush()
    assert under_way.table.columns == {}
    fill(under_way, [(1, 1.0)], classes=[6])
    under_way.flush()
    assert under_way.table.columns[PREDICTED].tolist() == [0, 7, 0, 0]


def test_recorded_here_is_without_what_was_resumed():
    under_way = EpochScores(4)
    fill(under_way, [(0, 1.0), (1, 1.0)])
    under_way.flush()
    under_way.recorded = 0
    under_way.resume()
    assert under_way.resumed.tolist() == [True, True, False, False]
    assert not under_way.untouched
    assert under_way.recorded_here() is None
    fill(under_way, [(3, 1.0)])
    assert under_way.recorded_here().tolist() == [False, False, False, True]


def test_growing_keeps_what_is_known():
    under_way = EpochScores(2)
    fill(under_way, [(0, 1.0), (1, 2.0)], classes=[3, 4])
    under_way.flush()
    under_way.begin(1)
    under_way.grow(2)
    fill(under_way, [(3, 9.0)])
    under_way.flush()
    assert under_way.table.scores[[0, 1, 3]].tolist() == [1.0, 2.0, 9.0]
    assert np.isnan(under_way.table.scores[2])
    assert under_way.table.columns[PREDICTED].tolist() == [4, 5, 0, 0]
    assert len(under_way.table) == 4


# --- pages ---


@pytest.mark.parametrize("size", [1 << 10, PAGE, PAGE + 5])
def test_batches_larger_than_a_page_and_pages_larger_than_a_batch(size):
    n = 3 * PAGE
    under_way = EpochScores(n)
    order = np.random.default_rng(0).permutation(n)
    for start in range(0, n, size):
        part = order[start : start + size]
        under_way.record(part, torch.from_numpy(part * 0.5), None)
    under_way.flush()
    assert under_way.recorded == n
    assert (under_way.table.scores == np.arange(n, dtype=np.float32) * 0.5).all()


def test_a_full_page_on_the_host_is_handed_on_without_being_asked():
    under_way = EpochScores(PAGE + 10)
    for start in (0, PAGE - 5):
        index = np.arange(start, start + PAGE - 5 if start == 0 else PAGE + 10)
        under_way.record(index, torch.ones(index.size), None)
    assert under_way.table.recorded == PAGE + 10


def test_a_full_page_on_a_device_waits():
    pages = Pages(3 * PAGE)
    for start in range(0, 3 * PAGE, PAGE):
        pages.append(np.arange(start, start + PAGE), torch.ones(PAGE, device="meta"))
        assert not pages.can_flush


def test_no_graph_is_kept():
    under_way = EpochScores(2)
    losses = (torch.ones(2, requires_grad=True) * 2).double()
    under_way.record(np.arange(2), losses, None)
    ((_, values),) = under_way._scores.drain()
    assert values.dtype == np.float32
    assert values.tolist() == [2.0, 2.0]


def test_rows_without_a_backward_pass_are_measured_only():
    under_way = EpochScores(4)
    under_way.record(
        np.array([0, 1, 2]), torch.tensor([1.0, 2.0, 3.0]), None, torch.tensor([True, False, True])
    )
    under_way.flush()
    assert under_way.table.seen.tolist() == [TRAINED, MEASURED, TRAINED, UNSEEN]
    assert under_way.table.scores[:3].tolist() == [1.0, 2.0, 3.0]
    assert under_way.recorded == 3
    assert under_way.recorded_here().tolist() == [True, True, True, False]


def test_classes_predicted_while_measuring_are_kept():
    under_way = EpochScores(3)
    scored, predicted = Pages(3), Pages(3, torch.int32)
    scored.append(np.array([1]), torch.tensor([0.5]))
    predicted.append(np.array([1]), torch.tensor([7], dtype=torch.int32))
    under_way.measure(scored, predicted)
    assert under_way.table.columns[PREDICTED].tolist() == [0, 8, 0]


@pytest.mark.parametrize("flushed", [False, True])
def test_a_second_view_that_tells_no_class_leaves_that_of_the_first(flushed):
    under_way = EpochScores(2)
    under_way.record(np.arange(2), torch.ones(2), torch.tensor([4, 5]))
    if flushed:
        under_way.flush()
    under_way.record(np.array([1]), torch.ones(1), None)
    under_way.flush()
    assert under_way.table.columns[PREDICTED].tolist() == [5, 6]


def test_measuring_without_classes_forgets_those_before():
    under_way = EpochScores(3)
    under_way.record(np.arange(3), torch.ones(3), torch.tensor([4, 5, 6]))
    under_way.flush()
    under_way.begin(1)
    scored = Pages(3)
    scored.append(np.array([1]), torch.tensor([0.5]))
    under_way.measure(scored, Pages(3, torch.int32))
    assert under_way.table.columns[PREDICTED].tolist() == [5, 0, 7]


# --- pages: batches as they came ---


def batch(start, count):
    return np.arange(start, start + count), torch.arange(start, start + count, dtype=torch.float32) / 4


def drained(pages):
    parts = pages.drain()
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    return np.concatenate([i for i, _ in parts]), np.concatenate([v for _, v in parts])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([1, 3, 128, PAGE // 2 + 1, PAGE - 1, PAGE, PAGE + 1]), max_size=8))
def test_what_is_taken_down_is_handed_on_in_order(counts):
    pages, start = Pages(10**7), 0
    for count in counts:
        pages.append(*batch(start, count))
        start += count
    index, values = drained(pages)
    assert index.dtype == np.int64
    assert values.dtype == np.float32
    assert np.array_equal(index, np.arange(start))
    assert np.array_equal(values, np.arange(start, dtype=np.float32) / 4)
    assert pages.drain() == []


def test_what_was_handed_on_does_not_change_afterwards():
    pages = Pages(100)
    pages.append(*batch(0, 5))
    index, values = drained(pages)
    pages.append(*batch(50, 5))
    assert index.tolist() == [0, 1, 2, 3, 4]
    assert values.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert drained(pages)[0].tolist() == [50, 51, 52, 53, 54]


@pytest.mark.parametrize("n", [2**24 + 10, 2**31 - 1, 2**31, 2**40])
def test_the_largest_index_is_exact(n):
    pages = Pages(n)
    pages.append(np.array([n - 1, 0, 2**24 + 1]), torch.ones(3, dtype=torch.bfloat16))
    assert drained(pages)[0].tolist() == [n - 1, 0, 2**24 + 1]


def test_classes_are_whole_numbers():
    pages = Pages(10, torch.int32)
    pages.append(np.arange(2), torch.tensor([2**24 + 1, 7]))
    assert drained(pages)[1].tolist() == [2**24 + 1, 7]


def test_it_is_ripe_when_a_page_on_the_host_is_full():
    pages = Pages(10**6)
    assert not pages.can_flush
    pages.append(*batch(0, PAGE))
    assert not pages.can_flush
    pages.append(*batch(PAGE, 1))
    assert pages.can_flush
    pages.drain()
    assert not pages.can_flush


def test_an_empty_batch_leaves_no_trace():
    pages = Pages(10)
    pages.append(*batch(0, 0))
    assert pages.drain() == []
