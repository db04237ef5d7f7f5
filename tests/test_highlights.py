"""Which samples are shown: held against a plain sort of all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.errors import InvalidValue
from fallow.policies.base import Reason
from fallow.runs.highlights import candidates, choose
from test_batch_checks import lines_run


def plain(scores, reason, times, labels, predicted, sizes):
    """Return the same choice, by sorting tuples."""
    n = len(scores)
    known = np.isfinite(scores)

    def high(i):
        return (-scores[i] if known[i] else np.inf, i)

    def low(i):
        return (times[i], scores[i] if known[i] else np.inf, i)

    def wrong(i):
        return labels is not None and predicted is not None and labels[i] >= 0 <= predicted[i] != labels[i]

    out = [i for i in range(n) if reason[i] == Reason.OUTLIER]
    outliers = sorted(out, key=lambda i: (not wrong(i), *high(i)))[: sizes[0]]
    kept = [i for i in range(n) if reason[i] == Reason.KEPT and known[i]]
    needless = [i for i in range(n) if reason[i] not in (Reason.OUTLIER, Reason.BY_HAND)]
    return outliers, sorted(kept, key=high)[: sizes[1]], sorted(needless, key=low)[: sizes[2]]


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_equals_a_plain_sort(data):
    n = data.draw(st.integers(1, 40))
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scores = draw.integers(0, 5, n).astype(np.float32)  # many ties
    scores[draw.random(n) < 0.2] = data.draw(st.sampled_from([np.nan, np.inf]))
    reason = draw.integers(0, len(Reason), n).astype(np.uint8)
    times = draw.integers(0, 3, n)
    labels = draw.integers(-1, 3, n).astype(np.int32) if data.draw(st.booleans()) else None
    predicted = draw.integers(-1, 3, n).astype(np.int32) if data.draw(st.booleans()) else None
    sizes = [data.draw(st.integers(0, 12)) for _ in range(3)]
    found = choose(
        scores, reason, times, labels, predicted, outliers=sizes[0], surprising=sizes[1], unneeded=sizes[2]
    )
    outliers, surprising, unneeded = plain(scores, reason, times, labels, predicted, sizes)
    assert found.outliers.tolist() == outliers
    assert found.surprising.tolist() == surprising
    assert found.unneeded.tolist() == unneeded
    assert found.fewest == (times[unneeded[0]] if unneeded else 0)
    every = [*outliers, *surprising, *unneeded]
    assert found.index.tolist() == list(dict.fromkeys(every))
    if labels is not None and predicted is not None:
        wrong = [i for i in outliers if labels[i] >= 0 <= predicted[i] != labels[i]]
        assert outliers[: found.candidates] == wrong


def test_wrong_labels_come_before_higher_scores():
    scores = np.array([9, 5, 7, 1], np.float32)
    reason = np.full(4, Reason.OUTLIER, np.uint8)
    labels, predicted = np.array([0, 0, 0, 0], np.int32), np.array([0, 1, 2, -1], np.int32)
    found = choose(scores, reason, np.ones(4, int), labels, predicted)
    assert found.outliers.tolist() == [2, 1, 0, 3]
    assert found.candidates == candidates(reason, labels, predicted) == 2
    assert found.surprising.size == found.unneeded.size == found.fewest == 0


def test_a_million_samples_take_no_loop():
    n = 1_000_000
    draw = np.random.default_rng(0)
    scores = draw.random(n, np.float32)
    reason = draw.integers(0, 4, n).astype(np.uint8)
    times, found = draw.integers(0, 9, n), []
    assert (
        lines_run(lambda: found.append(choose(scores, reason, times, reason.astype(np.int32), None))) < 2000
    )
    assert [part.size for part in (found[0].outliers, found[0].surprising, found[0].unneeded)] == [60, 24, 24]


@pytest.mark.parametrize("name", ["reason", "times_used", "labels", "predicted"])
def test_one_value_a_sample(name):
    rows = {name: np.zeros(3, np.int32) for name in ("reason", "times_used", "labels", "predicted")}
    rows[name] = np.zeros(2, np.int32)
    with pytest.raises(InvalidValue, match=f"`{name}` must have one value per sample"):
        choose(np.zeros(3, np.float32), **rows)
