"""The record of an epoch: bits and aggregates, against numpy over the same table."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fallow.core.history import EDGES, QUANTILES, EpochRecord, describe
from fallow.core.table import MEASURED, TRAINED, Table
from fallow.policies import Reason

SCORES = npst.arrays(
    np.float32, st.integers(1, 200), elements=st.floats(0, 2.0**40, width=32, allow_subnormal=False)
)


def filled(scores, epoch=0):
    table = Table(len(scores))
    table.write(np.arange(len(scores)), np.asarray(scores, np.float32), epoch)
    return table


@settings(max_examples=60, deadline=None)
@given(SCORES)
def test_mean_quantiles_and_histogram_are_those_of_the_scores(scores):
    record = describe(filled(scores), 0, 0, 0.0)
    assert record.mean_score == pytest.approx(scores.mean(dtype=np.float64), rel=1e-6)
    exact = np.quantile(scores, QUANTILES, method="inverted_cdf")
    assert np.allclose(record.score_quantiles, exact, rtol=0.01, atol=1e-37)
    counts, _ = np.histogram(scores, [*EDGES, np.inf])
    assert record.score_histogram.tolist() == counts.tolist()
    assert record.score_histogram.dtype == np.int64


@pytest.mark.parametrize("edge", range(len(EDGES)))
def test_a_score_on_an_edge_counts_above_it(edge):
    record = describe(filled([EDGES[edge]]), 0, 0, 0.0)
    assert record.score_histogram[edge] == 1
    assert record.score_histogram.sum() == 1


def test_edges_ascend_in_two_steps_an_octave():
    assert EDGES[0] == 0.0
    assert EDGES[-1] == 64.0
    assert all(1.3 < b / a <= 1.5 for a, b in pairwise(EDGES[1:]))


@pytest.mark.parametrize("score", [-0.0, -1e-9, -5.0])
def test_scores_that_are_not_positive_count_as_0(score):
    record = describe(filled([score] * 40), 0, 0, 0.0)
    assert record.score_histogram[0] == 40
    assert record.score_quantiles == (0.0,) * 5
    assert record.mean_score == pytest.approx(score, abs=1e-12)


def test_only_the_samples_trained_on_in_this_epoch_are_described():
    table = filled([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    table.begin_epoch()
    table.write(np.array([0, 1]), np.float32([10, 20]), 1)
    table.write(np.array([5]), np.float32([999]), 1, MEASURED)
    table.write(np.array([2]), np.float32([-(2.0**-126)]), 1)
    table.write(np.array([3]), np.float32([np.nan]), 1)
    record = describe(table, 1, 0, 0.0)
    assert record.mean_score == 15
    assert record.score_histogram.sum() == 2
    assert record.used.tolist() == [True, True, True, True, False, False]
    assert (record.backward, record.forward_only, record.bad) == (4, 1, 1)


def test_reasons_are_counted():
    table = filled(np.ones(15))
    table.reason[:] = np.repeat(list(Reason), [1, 2, 3, 4, 5])
    record = describe(table, 0, 7, 1.5)
    counted = (record.kept, record.learned, record.outliers, record.not_drawn, record.by_hand)
    assert counted == (1, 2, 3, 4, 5)
    assert (record.readmitted, record.record_seconds, record.epoch, record.n) == (7, 1.5, 0, 15)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000])
def test_used_takes_one_bit_a_sample(n):
    table = Table(n)
    used = np.random.default_rng(n).random(n) < 0.5
    table.seen[used] = TRAINED
    record = describe(table, 0, 0, 0.0)
    assert record.used_bits.nbytes == math.ceil(n / 8)
    assert record.used.tolist() == used.tolist()


def test_an_epoch_without_a_score_has_no_mean():
    record = describe(Table(5), 0, 0, 0.0)
    assert math.isnan(record.mean_score)
    assert all(math.isnan(q) for q in record.score_quantiles)
    assert record.score_histogram.tolist() == [0] * len(EDGES)


def test_notes_are_a_copy_and_none_are_needed():
    notes = {"high": 3.25}
    record = describe(filled([0.5]), 0, 0, 0.0, notes)
    notes["high"] = 0.0
    assert record.notes == {"high": 3.25}
    assert describe(filled([0.5]), 0, 0, 0.0).notes == {}
    plain = record.aggregates()
    del plain["notes"]  # as of a run before there were any
    assert EpochRecord.restore(record.used_bits, plain).notes == {}


def test_aggregates_go_through_json_and_back():
    record = describe(filled([0.5, 2.0, 100.0]), 0, 3, 0.25, {"low": 0.05, "wrong_removals": 1 / 3})
    plain = json.loads(json.dumps(record.aggregates()))
    assert "used_bits" not in plain
    again = EpochRecord.restore(record.used_bits, plain)
    assert again.aggregates() == record.aggregates()
    assert again.used.tolist() == record.used.tolist()
    assert again.score_quantiles == record.score_quantiles
    assert again.score_histogram.dtype == record.score_histogram.dtype
