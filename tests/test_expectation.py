"""The expected next error, against laws that are known and a plain reading of its definition."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.isotonic import IsotonicRegression

from fallow.policies import Fraction, Reason
from fallow.policies.expectation import FEWEST, FLOOR, GROUPS, PAIRS, _groups, expectation, isotonic
from standings import inputs, noisy

examples = settings(max_examples=100, deadline=None)


def power_of(power):
    """The power as the error of a score; a power above 1 counts as 1, as in a draw."""
    power = np.float32(min(power, 1.0))
    return lambda scores: scores**power


def told(epochs, fresh=None, *, power=1.0):
    """Return what is expected after each of the epochs; None where nothing tells."""
    columns, found = {}, []
    fresh = [None] * len(epochs) if fresh is None else fresh
    for epoch, (scores, which) in enumerate(zip(epochs, fresh, strict=True)):
        scores = np.asarray(scores, np.float32)
        expected = expectation(inputs(scores, epoch=epoch, fresh=which, columns=columns), power_of(power))
        found.append(None if expected is None else expected(scores) ** (1 / min(power, 1.0)))
    return found


def cell(score):
    """The middle of the eighth of an octave that a score lies in."""
    fraction, exponent = math.frexp(max(float(score), FLOOR))
    return (math.floor(fraction * 16) + 0.5) / 16 * 2.0**exponent


def parts_of(before):
    """The middles that share a group, ascending: each takes until it has its share of what is left."""
    middles, counts = np.unique([cell(score) for score in before], return_counts=True)
    parts, at = [], 0
    while at < middles.size:
        share = max(PAIRS, counts[at:].sum() / (GROUPS - len(parts)))
        stop = at + 1
        while stop < middles.size and (counts[at:stop].sum() < share or counts[stop:].sum() < PAIRS):
            stop += 1
        parts.append(middles[at:stop])
        at = stop
    return parts


def by_definition(before, now, scores, power):
    """What is expected of ``scores`` by the pairs ``(before, now)``, group by group."""
    places, means, sizes = [], [], []
    of, now = np.array([cell(score) for score in before]), np.maximum(now.astype(np.float64), FLOOR)
    for part in parts_of(before):
        inside = np.isin(of, part)
        sizes.append(inside.sum())
        means.append((now[inside] ** power).mean())
        places.append(np.log(of[inside]).mean())
    level = IsotonicRegression().fit_transform(np.arange(len(means)), means, sample_weight=sizes)
    at = [math.log(cell(score)) for score in scores]
    return np.exp(np.interp(at, places, np.log(level) / power))


@examples
@given(st.data())
def test_isotonic_is_isotonic_regression(data):
    size = data.draw(st.integers(1, 25))
    values = data.draw(arrays(np.float64, size, elements=st.floats(-1e3, 1e3)))
    weights = data.draw(arrays(np.float64, size, elements=st.floats(0.5, 100)))
    reference = IsotonicRegression().fit_transform(np.arange(size), values, sample_weight=weights)
    assert np.allclose(isotonic(values, weights), reference, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(("n", "seed", "power"), [(230, 0, 1.0), (1999, 1, 0.5), (5000, 2, 0.25)])
@pytest.mark.parametrize("zeros", [0.0, 0.9])
def test_it_is_what_its_definition_says(n, seed, power, zeros):
    rng = np.random.default_rng(seed)
    ease = rng.lognormal(-2, 2, n) * (rng.random(n) > zeros)
    epochs = [(ease * rng.lognormal(0, 1, n)).astype(np.float32) for _ in range(4)]
    fresh = [np.ones(n, bool), *(rng.random(n) < 0.6 for _ in range(3))]
    last, shown = epochs[0], [epochs[0]]
    for scores, which in zip(epochs[1:], fresh[1:], strict=True):
        before, last = last, np.where(which, scores, last)
        shown.append(last)
    found = told(shown, fresh, power=power)[-1]
    if len(parts_of(before[which])) < FEWEST:
        assert found is None
    else:
        assert np.allclose(found, by_definition(before[which], last[which], last, power), rtol=1e-4)


def test_every_group_has_its_pairs_and_one_score_takes_no_room_from_the_others():
    rng = np.random.default_rng(0)
    for zeros in (0, 500, 9_000, 9_700, 9_900):
        scores = np.concatenate([np.zeros(zeros), rng.lognormal(size=10_000 - zeros)]).astype(np.float32)
        _, counts = np.unique([cell(score) for score in scores], return_counts=True)
        sizes = np.bincount(_groups(counts), counts)
        assert sizes.min() >= PAIRS
        assert GROUPS >= sizes.size >= FEWEST
        levels = np.unique(told([scores, scores])[1])
        assert levels.size > 15 or zeros == 9_900


def test_scores_that_tell_nothing_are_all_expected_to_be_the_mean():
    rng = np.random.default_rng(0)
    first, second = rng.exponential(size=(2, 40_000)).astype(np.float32)
    assert np.abs(told([first, second])[1] / second.mean() - 1).max() < 0.1
    half = np.mean(np.sqrt(second)) ** 2
    assert np.abs(told([first, second], power=0.5)[1] / half - 1).max() < 0.1


def test_a_known_law_is_found():
    """The next score is drawn about 0.3 times the square root of the one before."""
    rng = np.random.default_rng(0)
    first = rng.lognormal(-1, 1.5, 100_000).astype(np.float32)
    second = (0.3 * np.sqrt(first) * rng.exponential(size=first.size)).astype(np.float32)
    found = told([first, second])[1]
    middle = (second > np.quantile(first, 0.05)) & (second < np.quantile(first, 0.95))
    assert np.abs(found / (0.3 * np.sqrt(second)) - 1)[middle].max() < 0.12


def test_one_wild_score_moves_the_expected_odds_of_the_others_little():
    rng = np.random.default_rng(0)
    first = rng.lognormal(-2, 1.5, 20_000).astype(np.float32)
    second = (first * rng.lognormal(0, 0.5, first.size)).astype(np.float32)
    wild = second.copy()
    wild[np.argsort(first)[50]] = 1e3
    calm, moved = (told([first, now], power=0.5)[1] for now in (second, wild))
    steady = np.arange(first.size) != np.argsort(first)[50]
    assert np.abs(moved / calm - 1)[steady].max() < 1.5
    assert np.abs(moved / calm - 1)[steady & (second > np.quantile(first, 0.1))].max() < 0.05


@pytest.mark.parametrize("power", [1, 1.5, 300])
def test_a_power_above_1_counts_as_1(power):
    rng = np.random.default_rng(0)
    first, second = rng.lognormal(0, 2, size=(2, 1000)).astype(np.float32)
    assert np.array_equal(told([first, second], power=power)[1], told([first, second])[1])


@examples
@given(st.integers(8 * PAIRS, 2000), st.integers(0, 99), st.floats(0.01, 2), st.sampled_from([0.0, 0.3]))
def test_a_higher_score_is_never_expected_to_be_lower(n, seed, power, zeros):
    rng = np.random.default_rng(seed)
    first, second = rng.lognormal(0, 2, size=(2, n)).astype(np.float32)
    second[rng.random(n) < zeros] = 0
    found = told([first, second], power=power)[1]
    assume(found is not None)
    found = found[np.argsort(second, kind="stable")]
    assert np.isfinite(found).all()
    assert (found > 0).all()
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("n", [0, 1, FEWEST * PAIRS - 1])
def test_too_few_pairs_tell_nothing(n):
    scores = np.geomspace(1, 99, n, dtype=np.float32)
    assert told([scores, scores]) == [None, None]


def test_equal_scores_tell_nothing():
    scores = np.full(1000, 0.7, np.float32)
    assert told([scores, np.geomspace(1, 99, 1000)])[1] is None


def test_samples_that_were_only_measured_make_no_pair_and_are_remembered():
    rng = np.random.default_rng(0)
    first, second, third = rng.lognormal(size=(3, 2000)).astype(np.float32)
    out = rng.random(2000) < 0.3
    reason = np.where(out, Reason.OUTLIER, Reason.KEPT)
    second[out] *= 1000
    columns = {}
    shown = inputs(first, columns=columns), inputs(second, reason=reason, columns=columns)
    assert expectation(shown[0], power_of(1)) is None
    found = expectation(shown[1], power_of(1))(second)
    alone = told([first[~out], second[~out]])[1]
    assert np.allclose(found[~out], alone, rtol=1e-6)
    after = expectation(inputs(third, columns=columns), power_of(1))(third)
    assert np.array_equal(after, told([second, third])[1])


def test_a_sample_without_a_score_stays_without_one():
    scores = np.geomspace(0.1, 2, 1000, dtype=np.float32)
    scores[::3] = np.nan
    assert np.array_equal(np.isnan(told([scores, scores])[1]), np.isnan(scores))


def test_scores_that_are_not_finite_make_no_pair_and_change_no_memory():
    rng = np.random.default_rng(0)
    first, third = rng.lognormal(size=(2, 1000)).astype(np.float32)
    broken = first.copy()
    broken[:500] = np.inf
    broken[400:600] = np.nan
    found = told([first, broken, third])
    # The pairs of the third epoch are those of the first and the third.
    assert np.array_equal(found[2], told([first, third])[1])


def test_an_infinite_score_is_expected_to_be_as_high_as_any():
    scores = np.geomspace(0.1, 2, 1000, dtype=np.float32)
    shown = scores.copy()
    shown[7] = np.inf
    found = told([scores, shown])[1]
    assert found[7] == found[-1]
    assert np.isfinite(found).all()


def test_scores_below_the_floor_count_as_it():
    rng = np.random.default_rng(0)
    first, second = rng.lognormal(size=(2, 2000)).astype(np.float32)
    low = rng.random((2, 2000)) < 0.4
    at = [np.where(which, FLOOR, scores) for which, scores in zip(low, (first, second), strict=True)]
    for below in (0.0, -1e-4, FLOOR / 3):
        under = [np.where(which, below, scores) for which, scores in zip(low, (first, second), strict=True)]
        for power in (0.5, 1.0):
            assert np.array_equal(told(under, power=power)[1], told(at, power=power)[1])


# In a draw


@pytest.mark.parametrize("doubt", [0.0, 1.0])
@pytest.mark.parametrize("exponent", [0.5, 2.0])
def test_a_calibrated_draw_is_a_draw_by_the_expected_scores(doubt, exponent):
    policy = Fraction(0.5, exponent=exponent, doubt=doubt, keep_rare=True, calibrate=True)
    one, other, own, reason = {}, {}, {}, None
    for epoch in range(1, 6):
        shown, _ = noisy(epoch=epoch)
        decided = policy.decide(inputs(**shown, epoch=epoch, columns=one, reason=reason))
        expected = expectation(inputs(**shown, epoch=epoch, columns=own, reason=reason), power_of(exponent))
        scores = shown["scores"]
        if expected is not None:
            scores = expected(scores) ** np.float32(1 / min(exponent, 1.0))
        assert (expected is None) == (epoch == 1)
        plain = replace(policy, calibrate=False)
        same = plain.decide(inputs(**{**shown, "scores": scores}, epoch=epoch, columns=other, reason=reason))
        assert np.array_equal(decided, same)
        reason = decided


def test_the_high_side_sees_the_scores_themselves():
    found = []
    for calibrate in (True, False):
        policy = Fraction(0.5, exponent=0.5, high="auto", calibrate=calibrate)
        columns, notes = {}, {}
        for epoch in range(1, 6):
            shown, _ = noisy(epoch=epoch)
            decided = policy.decide(inputs(**shown, epoch=epoch, columns=columns, notes=notes))
            assert np.count_nonzero(decided == Reason.KEPT) == 1000
        found.append((decided == Reason.OUTLIER, dict(notes)))
    assert found[0][0].sum() > 100
    assert np.array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
