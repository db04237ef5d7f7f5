"""What is remembered: the last score, exact whatever the order in which scores came."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.core.table import MEASURED, TRAINED, UNSEEN, Table
from fallow.policies import Reason

examples = settings(max_examples=60, deadline=None)
NO_SCORE = -(2.0**-126)
SCORES = st.floats(0, 1e6, width=32) | st.sampled_from([np.nan, np.inf, -np.inf, NO_SCORE, -1.5, -0.0, 3e38])
NEWS = st.lists(st.tuples(st.integers(0, 6), SCORES), max_size=40)


def write(table, news, epoch=0, kind=TRAINED):
    index = np.array([i for i, _ in news], np.int64)
    table.write(index, np.array([s for _, s in news], np.float32), epoch, kind)


def in_chunks(news, cuts):
    edges = [0, *sorted(min(cut, len(news)) for cut in cuts), len(news)]
    return [news[a:b] for a, b in pairwise(edges)]


def reference(news, n=7):
    """Return the scores after one epoch: the mean of each sample's scores, in float64, rounded once."""
    expected = np.full(n, np.nan, np.float32)
    for i in range(n):
        mine = [s for j, s in news if j == i and s != NO_SCORE]
        if mine and np.isfinite(mine).all():
            expected[i] = np.float32(np.sort(np.float64(mine)).sum() / len(mine))
    return expected


@examples
@given(NEWS, st.lists(st.integers(0, 40), max_size=6), st.randoms())
def test_scores_of_an_epoch_are_averaged_whatever_their_order_and_chunks(news, cuts, random):
    straight, shuffled = Table(7), Table(7)
    write(straight, news)
    mixed = list(news)
    random.shuffle(mixed)
    for chunk in in_chunks(mixed, cuts):
        write(shuffled, chunk)
    for table in (straight, shuffled):
        table.average_repeats()
    assert np.array_equal(straight.scores, shuffled.scores, equal_nan=True)
    assert np.array_equal(straight.scored_in, shuffled.scored_in)
    assert straight.bad == shuffled.bad == sum(not np.isfinite(s) for _, s in news)
    assert straight.recorded == shuffled.recorded == len(news)
    assert np.allclose(straight.scores, reference(news), rtol=2e-7, atol=0, equal_nan=True)


@examples
@given(NEWS, st.lists(st.integers(0, 40), max_size=4))
def test_repeats_carried_over_settle_to_the_same(news, cuts):
    whole, half = Table(7), Table(7)
    write(whole, news)
    parts = in_chunks(news, cuts)
    for chunk in parts[:-1]:
        write(half, chunk)
    resumed = Table(7)
    resumed.scores, resumed.scored_in = half.scores.copy(), half.scored_in.copy()
    resumed.repeat(*half.repeated())
    write(resumed, parts[-1])
    for table in (whole, resumed):
        table.average_repeats()
    assert np.array_equal(whole.scores, resumed.scores, equal_nan=True)


def test_a_sample_recorded_once_keeps_its_score_to_the_bit():
    table, scores = Table(5), np.float32([0.1, 1e-30, 3e38, 0.0, 7])
    table.write(np.arange(5), scores, 0)
    table.average_repeats()
    assert np.array_equal(table.scores, scores)
    assert table.repeated()[0].size == 0


def test_the_average_does_not_lose_small_scores_beside_large_ones():
    table = Table(1)
    write(table, [(0, 2.0**24), *[(0, 1.0)] * 8])
    table.average_repeats()
    assert table.scores[0] == np.float32((2.0**24 + 8) / 9)


def test_scores_that_cancel_average_to_the_same_in_every_order():
    found = set()
    for order in permutations([3e30, 1.0, -3e30, 2.0]):
        table = Table(1)
        for score in order:
            write(table, [(0, score)])
        table.average_repeats()
        found.add(float(table.scores[0]))
    assert len(found) == 1


def test_a_later_epoch_replaces_the_score():
    table = Table(3)
    write(table, [(0, 1.0), (0, 3.0), (1, 5.0)])
    table.begin_epoch()
    assert table.scores[:2].tolist() == [2.0, 5.0]
    write(table, [(0, 8.0)], epoch=1)
    table.begin_epoch()
    assert table.scores[:2].tolist() == [8.0, 5.0]
    assert table.scored_in.tolist() == [2, 1, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_score_leaves_the_sample_without_one(bad):
    table = Table(3)
    write(table, [(0, 1.0), (1, 2.0)])
    table.begin_epoch()
    write(table, [(0, bad), (1, 4.0), (1, bad), (2, 1.0)], epoch=1)
    assert table.bad == 2
    table.average_repeats()
    assert np.isnan(table.scores).tolist() == [True, True, False]
    assert table.scored_in.tolist() == [2, 2, 2]


@pytest.mark.parametrize("value", [NO_SCORE, 7 * NO_SCORE, -9e-31])
def test_no_score_changes_no_score_but_the_sample_was_seen(value):
    table = Table(2)
    write(table, [(0, 1.0)])
    table.begin_epoch()
    write(table, [(0, value), (1, value)], epoch=1)
    table.average_repeats()
    assert table.scores[0] == 1.0
    assert np.isnan(table.scores[1])
    assert table.scored_in.tolist() == [1, 0]
    assert table.seen.tolist() == [TRAINED, TRAINED]
    assert (table.bad, table.recorded) == (0, 2)


@pytest.mark.parametrize("value", [0.0, -0.0, -1e-30, -1e-29, -1.0, 1e-38, -3e38])
def test_what_is_a_score_though_it_lies_near_no_score(value):
    table = Table(1)
    write(table, [(0, value)])
    assert table.scores[0] == np.float32(value)
    assert table.scored_in[0] == 1


def test_trained_and_measured_are_told_apart_and_forgotten():
    table = Table(3)
    write(table, [(0, 1.0)])
    write(table, [(2, 1.0)], kind=MEASURED)
    assert table.seen.tolist() == [TRAINED, UNSEEN, MEASURED]
    table.begin_epoch()
    assert table.seen.tolist() == [UNSEEN] * 3
    assert (table.bad, table.recorded) == (0, 0)
    assert table.scores[[0, 2]].tolist() == [1.0, 1.0]


def test_indices_beyond_those_a_float_can_hold():
    n = 2**24 + 8
    table = Table(n)
    index = np.array([2**24 - 1, 2**24, 2**24 + 1, 2**24 + 3, n - 1, 2**24 + 1], np.int64)
    table.write(index, np.float32([1, 2, 3, 4, 5, 7]), 0)
    table.average_repeats()
    assert np.flatnonzero(table.scored_in).tolist() == sorted(set(index.tolist()))
    assert table.scores[2**24 - 1 :].tolist()[:3] == [1, 2, 5]
    assert table.scores[[2**24 + 3, n - 1]].tolist() == [4, 5]


def test_the_last_epoch_has_a_stamp_of_its_own():
    table = Table(1)
    write(table, [(0, 1.0)], epoch=65_533)
    assert table.scored_in.tolist() == [65_534]


def test_columns_begin_at_zero_and_stay():
    table = Table(3)
    column = table.column("streak", np.uint8)
    assert column.dtype == np.uint8
    column[1] = 7
    assert table.column("streak", np.uint8).tolist() == [0, 7, 0]


def test_new_samples_are_kept_without_a_score():
    table = Table(2)
    write(table, [(0, 1.0), (1, 2.0)])
    table.reason[1] = Reason.LEARNED
    table.column("streak", np.uint8)[:] = 3
    table.begin_epoch()
    table.grow(2)
    assert len(table) == 4
    assert np.array_equal(table.scores, np.float32([1, 2, np.nan, np.nan]), equal_nan=True)
    assert table.scored_in.tolist() == [1, 1, 0, 0]
    assert table.reason.tolist() == [Reason.KEPT, Reason.LEARNED, Reason.KEPT, Reason.KEPT]
    assert table.seen.tolist() == [UNSEEN] * 4
    assert table.columns["streak"].tolist() == [3, 3, 0, 0]
    assert [a.dtype for a in (table.scores, table.scored_in, table.reason)] == [
        np.float32,
        np.uint16,
        np.uint8,
    ]
    write(table, [(3, 9.0)], epoch=1)
    assert table.scores[3] == 9.0
