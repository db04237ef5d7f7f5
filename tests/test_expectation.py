"""The expected next error, against laws that are known and a plain reading of its definition."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.isotonic import IsotonicRegression

from fallow.policies import Reason
from fallow.policies.expectation import FEWEST, FLOOR, GROUPS, PAIRS, _groups, expected_errors, isotonic
from standings import inputs

examples = settings(max_examples=100, deadline=None)


def shown(errors, **more):
    """What a policy sees of a score that is the error itself."""
    return inputs(np.asarray(errors, np.float32), largest=1.0, **more)


def expected_of(given):
    """Return what is expected if no sample was left out."""
    return expected_errors(given, np.zeros(len(given), bool), 1.0)


def expected(epochs, fresh=None):
    """Return what is expected after each of the epochs; None if nothing tells."""
    columns = {}
    fresh = [None] * len(epochs) if fresh is None else fresh
    return [
        expected_of(shown(errors, epoch=epoch, fresh=which, columns=columns))
        for epoch, (errors, which) in enumerate(zip(epochs, fresh, strict=True))
    ]


def cell(mean):
    """The middle of the eighth of an octave that a mean lies in."""
    fraction, exponent = math.frexp(max(float(mean), FLOOR))
    return (math.floor(fraction * 16) + 0.5) / 16 * 2.0**exponent


def parts_of(before):
    """The middles that share a group, ascending: each takes until it has its share of what is left."""
    middles, counts = np.unique([cell(mean) for mean in before], return_counts=True)
    parts, at = [], 0
    while at < middles.size:
        share = max(PAIRS, counts[at:].sum() / (GROUPS - len(parts)))
        stop = at + 1
        while stop < middles.size and (counts[at:stop].sum() < share or counts[stop:].sum() < PAIRS):
            stop += 1
        parts.append(middles[at:stop])
        at = stop
    return parts


def by_definition(before, now, means):
    """What is expected at ``means`` by the pairs ``(before, now)``, group by group."""
    places, levels, sizes = [], [], []
    of, now = np.array([cell(mean) for mean in before]), np.maximum(now.astype(np.float64), FLOOR)
    for part in parts_of(before):
        inside = np.isin(of, part)
        sizes.append(inside.sum())
        levels.append(now[inside].mean())
        places.append(np.log(of[inside]).mean())
    level = IsotonicRegression().fit_transform(np.arange(len(levels)), levels, sample_weight=sizes)
    return np.exp(np.interp([math.log(cell(mean)) for mean in means], places, np.log(level)))


@examples
@given(st.data())
def test_isotonic_is_isotonic_regression(data):
    size = data.draw(st.integers(1, 25))
    values = data.draw(arrays(np.float64, size, elements=st.floats(-1e3, 1e3)))
    weights = data.draw(arrays(np.float64, size, elements=st.floats(0.5, 100)))
    reference = IsotonicRegression().fit_transform(np.arange(size), values, sample_weight=weights)
    assert np.allclose(isotonic(values, weights), reference, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(("n", "seed"), [(230, 0), (1999, 1), (5000, 2)])
@pytest.mark.parametrize("zeros", [0.0, 0.9])
def test_it_is_what_its_definition_says(n, seed, zeros):
    rng = np.random.default_rng(seed)
    ease = rng.lognormal(-2, 2, n) * (rng.random(n) > zeros)
    epochs = [-np.expm1(-ease * rng.lognormal(0, 1, n)).astype(np.float32) for _ in range(4)]
    fresh = [np.ones(n, bool), *(rng.random(n) < 0.6 for _ in range(3))]
    mean, last, seen = np.maximum(epochs[0], FLOOR), epochs[0], [epochs[0]]
    for errors, which in zip(epochs[1:], fresh[1:], strict=True):
        before, last = mean, np.where(which, errors, last)
        mean = np.where(which, before + 0.4 * (np.maximum(last, FLOOR) - before), before)
        seen.append(last)
    found = expected(seen, fresh)[-1]
    if len(parts_of(before[which])) < FEWEST:
        assert found is None
    else:
        # Rounding may move a mean to the next cell.
        same = np.isclose(found, by_definition(before[which], last[which], mean), rtol=1e-3)
        assert same.mean() > 0.99


def test_every_group_has_its_pairs_and_one_mean_takes_no_room_from_the_others():
    rng = np.random.default_rng(0)
    for zeros in (0, 500, 9_000, 9_700, 9_900):
        errors = np.concatenate([np.zeros(zeros), rng.random(10_000 - zeros) ** 3]).astype(np.float32)
        _, counts = np.unique([cell(error) for error in errors], return_counts=True)
        sizes = np.bincount(_groups(counts, counts.astype(float)), counts)
        assert sizes.min() >= PAIRS
        assert GROUPS >= sizes.size >= FEWEST
        levels = np.unique(expected([errors, errors])[1])
        assert levels.size > 15 or zeros == 9_900


def test_errors_that_tell_nothing_are_all_expected_to_be_the_mean():
    rng = np.random.default_rng(0)
    epochs = rng.random((6, 40_000)).astype(np.float32) ** 3
    assert np.abs(expected(epochs)[-1] / epochs[-1].mean() - 1).max() < 0.1


def test_a_known_law_is_found():
    """The next error is drawn about 0.3 times the square root of the one before."""
    rng = np.random.default_rng(0)
    first = np.minimum(rng.lognormal(-3, 1.5, 100_000), 1).astype(np.float32)
    second = np.minimum(0.3 * np.sqrt(first) * rng.exponential(size=first.size), 1).astype(np.float32)
    found, mean = expected([first, second])[1], first + 0.4 * (second - first)
    middle = (mean > np.quantile(first, 0.05)) & (mean < np.quantile(first, 0.8))
    assert np.abs(found / (0.3 * np.sqrt(mean)) - 1)[middle].max() < 0.15


def test_several_visits_tell_more_than_the_last_one():
    """Each sample has an error of its own, and a visit shows it with much noise."""
    rng = np.random.default_rng(0)
    own = rng.random(20_000) ** 2 / 2
    epochs = [np.minimum(own * rng.lognormal(0, 1, own.size), 1).astype(np.float32) for _ in range(8)]
    by_all, by_last = expected(epochs)[-1], expected(epochs[-2:])[-1]
    assert np.corrcoef(by_all, own)[0, 1] > np.corrcoef(by_last, own)[0, 1] + 0.05


def test_the_recent_visits_count_most():
    hard_then_easy = np.float32([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    columns = {}
    for errors in hard_then_easy:
        expected_of(shown(errors, columns=columns))
    assert np.allclose(columns["mean_error"], [0.1 + 0.8 * 0.36, 0.9 - 0.8 * 0.36])


def test_samples_that_came_back_count_as_all_that_were_out():
    """A tenth of the easier half trained: what is expected is what all of them would have told."""
    rng = np.random.default_rng(0)
    own = np.sort(rng.random(20_000)) ** 4
    first, second = np.minimum(own * rng.lognormal(0, 0.3, (2, own.size)), 1).astype(np.float32)
    out = np.arange(own.size) < own.size // 2
    back = out & (rng.random(own.size) < 0.1)
    reason = np.where(out & ~back, Reason.LEARNED, Reason.KEPT)
    seen, found = np.where(out & ~back, first, second), {}
    for each in (1.0, out.sum() / back.sum()):
        columns = {}
        expected_of(shown(first, columns=columns))
        told = shown(seen, reason=reason, fresh=reason == Reason.KEPT, columns=columns)
        found[each] = expected_errors(told, back, each)
    everyone = expected([first, second])[1]
    alone, weighted = (np.abs(np.log(one[back] / everyone[back])).mean() for one in found.values())
    assert weighted < 0.1 < alone


@examples
@given(st.integers(8 * PAIRS, 2000), st.integers(0, 99), st.sampled_from([0.0, 0.3]))
def test_a_higher_error_is_never_expected_to_be_lower(n, seed, zeros):
    rng = np.random.default_rng(seed)
    second = rng.random(n).astype(np.float32) ** 2
    second[rng.random(n) < zeros] = 0
    # All had the same error before, so that the mean follows the last one.
    found = expected([second, np.full(n, 0.5), second])[2]
    assume(found is not None)
    found = found[np.argsort(second, kind="stable")]
    assert np.isfinite(found).all()
    assert (found > 0).all()


@pytest.mark.parametrize("n", [0, 1, FEWEST * PAIRS - 1])
def test_too_few_pairs_tell_nothing(n):
    errors = np.geomspace(0.01, 1, n, dtype=np.float32)
    assert expected([errors, errors]) == [None, None]


def test_equal_errors_tell_nothing():
    assert expected([np.full(1000, 0.7), np.geomspace(0.01, 1, 1000)])[1] is None


def test_samples_that_were_only_measured_make_no_pair_and_are_remembered():
    rng = np.random.default_rng(0)
    first, second, third = rng.random((3, 2000)).astype(np.float32) ** 3
    out = rng.random(2000) < 0.3
    reason = np.where(out, Reason.OUTLIER, Reason.KEPT)
    second[out] = 1
    columns, all_kept = {}, {}
    assert expected_of(shown(first, columns=columns)) is None
    found = expected_of(shown(second, reason=reason, columns=columns))
    alone = expected([first[~out], second[~out]])[1]
    assert np.allclose(found[~out], alone, rtol=1e-6)
    for errors in (first, second):
        expected_of(shown(errors, columns=all_kept))
    assert np.array_equal(columns["mean_error"], all_kept["mean_error"])
    assert np.array_equal(
        expected_of(shown(third, columns=columns)), expected_of(shown(third, columns=all_kept))
    )


def test_a_sample_without_a_score_stays_without_one_and_changes_no_memory():
    rng = np.random.default_rng(0)
    first = rng.random(1000).astype(np.float32) ** 2
    broken = first.copy()
    broken[::3] = np.nan
    columns = {}
    for errors, fresh in ((first, None), (broken, np.ones(1000, bool))):
        found = expected_of(shown(errors, fresh=fresh, columns=columns))
    assert np.array_equal(np.isnan(found), np.isnan(broken))
    assert np.array_equal(columns["mean_error"][::3], np.maximum(first[::3], FLOOR))


def test_infinite_and_slightly_negative_scores_are_errors_of_1_and_next_to_0():
    rng = np.random.default_rng(0)
    first, second = rng.exponential(size=(2, 1000)).astype(np.float32)
    second[:3] = np.inf, -1e-4, 0
    columns = {}
    for scores in (first, second):
        found = expected_of(inputs(scores, columns=columns))
    error = -np.expm1(-first[:3])
    assert np.allclose(columns["mean_error"][:3], error + 0.4 * (np.array([1, FLOOR, FLOOR]) - error))
    assert np.isfinite(found).all()
