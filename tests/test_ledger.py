"""From the batches of an epoch into the table: nothing lost, nothing twice, in any order of pages."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import NO_SCORE
from fallow.core.journal import PAGE, Journal
from fallow.core.ledger import Ledger
from fallow.core.table import MEASURED, PREDICTED, TRAINED, UNSEEN
from fallow.policies import Reason

batches = st.lists(
    st.lists(st.tuples(st.integers(0, 8), st.floats(0, 50, width=32)), min_size=1, max_size=6), max_size=12
)


def fill(ledger, rows, classes=None):
    index = np.array([i for i, _ in rows])
    scores = torch.tensor([v for _, v in rows])
    ledger.record(index, scores, None if classes is None else torch.tensor(classes))


def averages(rows, n=9):
    """The mean score of each sample, by hand; NaN where there is none."""
    found = np.full(n, np.nan)
    for sample in {i for i, _ in rows}:
        found[sample] = np.mean([float(np.float32(v)) for i, v in rows if i == sample])
    return found


@given(batches, st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_scores_arrive_averaged_whenever_the_ledger_is_read(parts, read_at):
    ledger = Ledger(9)
    for at, rows in enumerate(parts):
        fill(ledger, rows)
        if at == read_at:
            ledger.flush()
    ledger.flush()
    ledger.table.settle()
    rows = [row for part in parts for row in part]
    np.testing.assert_allclose(ledger.table.scores, averages(rows), rtol=1e-6, atol=1e-30)
    assert ledger.table.recorded == len(rows)
    assert set(np.flatnonzero(ledger.table.seen == TRAINED)) == {i for i, _ in rows}
    assert (ledger.table.scored_in == np.where(np.isnan(averages(rows)), 0, 1)).all()


@given(batches, st.permutations(range(12)))
@settings(max_examples=40, deadline=None)
def test_the_order_of_batches_does_not_matter(parts, places):
    here, there = Ledger(9), Ledger(9)
    for rows in parts:
        fill(here, rows)
    for place in places:
        if place < len(parts):
            fill(there, parts[place])
    for ledger in (here, there):
        ledger.flush()
        ledger.table.settle()
    assert here.table.scores.tobytes() == there.table.scores.tobytes()


def test_a_caller_may_write_over_what_it_recorded():
    ledger = Ledger(4)
    index, scores = np.array([1, 2]), torch.tensor([3.0, 4.0])
    ledger.record(index, scores, None)
    index[:], scores[:] = 0, 99.0
    ledger.flush()
    assert ledger.table.scores[1:3].tolist() == [3.0, 4.0]
    assert np.isnan(ledger.table.scores[[0, 3]]).all()


def test_no_score_and_bad_scores_leave_no_number():
    ledger = Ledger(4)
    fill(ledger, [(0, 1.0), (1, NO_SCORE), (2, float("nan")), (3, float("-inf"))])
    ledger.flush()
    assert np.isnan(ledger.table.scores).tolist() == [False, True, True, True]
    assert ledger.table.scored_in.tolist() == [1, 0, 1, 1]
    assert (ledger.table.bad, ledger.table.recorded) == (2, 4)


def test_one_bad_visit_of_two_leaves_no_score():
    ledger = Ledger(2)
    fill(ledger, [(0, 1.0), (1, 1.0)])
    fill(ledger, [(0, float("nan"))])
    ledger.flush()
    ledger.table.settle()
    assert np.isnan(ledger.table.scores).tolist() == [True, False]


def test_a_later_epoch_writes_over_an_earlier_one():
    ledger = Ledger(3)
    fill(ledger, [(0, 1.0), (1, 2.0)])
    ledger.flush()
    ledger.begin(1)
    fill(ledger, [(1, 5.0)])
    ledger.flush()
    assert ledger.table.scores[:2].tolist() == [1.0, 5.0]
    assert ledger.table.scored_in.tolist() == [1, 2, 0]
    assert ledger.table.seen.tolist() == [UNSEEN, TRAINED, UNSEEN]


def test_measured_samples_are_not_trained_ones():
    ledger = Ledger(4)
    ledger.table.reason[2] = Reason.OUTLIER
    fill(ledger, [(0, 1.0)])
    journal = Journal(4)
    journal.append(np.array([2]), torch.tensor([0.5]))
    ledger.measure(journal, Journal(4, torch.int32))
    assert ledger.measured
    assert ledger.recorded == 1
    assert ledger.table.seen.tolist() == [TRAINED, UNSEEN, MEASURED, UNSEEN]
    assert ledger.table.scores[2] == 0.5
    assert ledger.done_here().tolist() == [True, False, False, False]


def test_unbegun_until_something_is_recorded_or_measured():
    ledger = Ledger(4)
    assert ledger.unbegun
    assert ledger.done_here() is None
    ledger.measure(Journal(4), Journal(4, torch.int32))
    assert not ledger.unbegun
    ledger.begin(1)
    assert ledger.unbegun
    fill(ledger, [(0, 1.0)])
    assert not ledger.unbegun


def test_predictions_without_any_make_no_column():
    ledger = Ledger(4)
    fill(ledger, [(0, 1.0)])
    ledger.flush()
    assert ledger.table.columns == {}
    fill(ledger, [(1, 1.0)], classes=[6])
    ledger.flush()
    assert ledger.table.columns[PREDICTED].tolist() == [0, 7, 0, 0]


def test_done_here_is_without_what_was_resumed():
    ledger = Ledger(4)
    fill(ledger, [(0, 1.0), (1, 1.0)])
    ledger.flush()
    ledger.recorded = 0
    ledger.resume()
    assert ledger.resumed.tolist() == [True, True, False, False]
    assert not ledger.unbegun
    assert ledger.done_here() is None
    fill(ledger, [(3, 1.0)])
    assert ledger.done_here().tolist() == [False, False, False, True]


def test_growing_keeps_what_is_known():
    ledger = Ledger(2)
    fill(ledger, [(0, 1.0), (1, 2.0)], classes=[3, 4])
    ledger.flush()
    ledger.begin(1)
    ledger.grow(2)
    fill(ledger, [(3, 9.0)])
    ledger.flush()
    assert ledger.table.scores[[0, 1, 3]].tolist() == [1.0, 2.0, 9.0]
    assert np.isnan(ledger.table.scores[2])
    assert ledger.table.columns[PREDICTED].tolist() == [4, 5, 0, 0]
    assert len(ledger.table) == 4


# --- pages ---


@pytest.mark.parametrize("size", [1 << 10, PAGE - 1, PAGE, PAGE + 5])
def test_batches_larger_than_a_page_and_pages_larger_than_a_batch(size):
    n = 3 * PAGE
    ledger = Ledger(n)
    order = np.random.default_rng(0).permutation(n)
    for start in range(0, n, size):
        part = order[start : start + size]
        ledger.record(part, torch.from_numpy(part * 0.5), None)
    ledger.flush()
    assert ledger.recorded == n
    assert (ledger.table.scores == np.arange(n, dtype=np.float32) * 0.5).all()


def test_a_full_page_on_the_host_is_handed_on_without_being_asked():
    ledger = Ledger(PAGE + 10)
    for start in (0, PAGE - 5):
        index = np.arange(start, start + PAGE - 5 if start == 0 else PAGE + 10)
        ledger.record(index, torch.ones(index.size), None)
    assert ledger.table.recorded == PAGE + 10


def test_a_full_page_on_a_device_waits():
    journal = Journal(3 * PAGE)
    for start in range(0, 3 * PAGE, PAGE):
        journal.append(np.arange(start, start + PAGE), torch.ones(PAGE, device="meta"))
        assert not journal.ripe


def test_drained_values_are_the_readers_own():
    journal = Journal(10)
    journal.append(np.array([4]), torch.tensor([1.0]))
    ((index, values),) = journal.drain()
    journal.append(np.array([5]), torch.tensor([2.0]))
    assert (index.tolist(), values.tolist()) == ([4], [1.0])
    ((index, values),) = journal.drain()
    assert (index.tolist(), values.tolist()) == ([5], [2.0])
    assert journal.drain() == []


@pytest.mark.parametrize("n", [10, 2**31 - 1, 2**31, 2**40])
def test_indices_are_kept_whole_for_any_n(n):
    journal = Journal(n)
    journal.append(np.array([n - 1, 0]), torch.tensor([1.0, 2.0]))
    assert journal.drain()[0][0].tolist() == [n - 1, 0]


def test_no_graph_is_kept():
    ledger = Ledger(2)
    losses = (torch.ones(2, requires_grad=True) * 2).double()
    ledger.record(np.arange(2), losses, None)
    ((_, values),) = ledger._scores.drain()
    assert values.dtype == np.float32
    assert values.tolist() == [2.0, 2.0]


def test_rows_without_a_backward_pass_are_measured_only():
    ledger = Ledger(4)
    ledger.record(np.array([0, 1, 2]), torch.tensor([1.0, 2.0, 3.0]), None, torch.tensor([True, False, True]))
    ledger.flush()
    assert ledger.table.seen.tolist() == [TRAINED, MEASURED, TRAINED, UNSEEN]
    assert ledger.table.scores[:3].tolist() == [1.0, 2.0, 3.0]
    assert ledger.recorded == 3
    assert ledger.done_here().tolist() == [True, True, True, False]


def test_classes_predicted_while_measuring_are_kept():
    ledger = Ledger(3)
    scored, predicted = Journal(3), Journal(3, torch.int32)
    scored.append(np.array([1]), torch.tensor([0.5]))
    predicted.append(np.array([1]), torch.tensor([7], dtype=torch.int32))
    ledger.measure(scored, predicted)
    assert ledger.table.columns[PREDICTED].tolist() == [0, 8, 0]


@pytest.mark.parametrize("flushed", [False, True])
def test_a_second_view_that_tells_no_class_leaves_that_of_the_first(flushed):
    ledger = Ledger(2)
    ledger.record(np.arange(2), torch.ones(2), torch.tensor([4, 5]))
    if flushed:
        ledger.flush()
    ledger.record(np.array([1]), torch.ones(1), None)
    ledger.flush()
    assert ledger.table.columns[PREDICTED].tolist() == [5, 6]


def test_measuring_without_classes_forgets_those_before():
    ledger = Ledger(3)
    ledger.record(np.arange(3), torch.ones(3), torch.tensor([4, 5, 6]))
    ledger.flush()
    ledger.begin(1)
    scored = Journal(3)
    scored.append(np.array([1]), torch.tensor([0.5]))
    ledger.measure(scored, Journal(3, torch.int32))
    assert ledger.table.columns[PREDICTED].tolist() == [5, 0, 7]
