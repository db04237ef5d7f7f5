"""The expected next score, against laws that are known and a plain reading of its definition."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.isotonic import IsotonicRegression

from fallow.policies import Fraction, Reason
from fallow.policies.expectation import FLOOR, GROUPS, PAIRS, expected_scores, isotonic
from standings import noisy, standing

examples = settings(max_examples=100, deadline=None)
positive = st.floats(0.0009765625, 1024, width=32)


def told(epochs, fresh=None):
    """Return what is expected after each of the epochs, whose scores are given one after the other."""
    columns, found = {}, []
    fresh = [None] * len(epochs) if fresh is None else fresh
    for epoch, (scores, which) in enumerate(zip(epochs, fresh, strict=True)):
        found.append(expected_scores(standing(scores, epoch=epoch, fresh=which, columns=columns)))
    return found


def cell(score):
    """The middle of the eighth of an octave that a score lies in."""
    fraction, exponent = math.frexp(max(float(score), FLOOR))
    return (math.floor(fraction * 16) + 0.5) / 16 * 2.0**exponent


def by_definition(before, now, scores):
    """What is expected of ``scores`` by the pairs ``(before, now)``, sample by sample."""
    groups = min(GROUPS, len(before) // PAIRS)
    middles = sorted({cell(score) for score in before})
    members = {
        middle: [n for b, n in zip(before, now, strict=True) if cell(b) == middle] for middle in middles
    }
    parts, passed = {}, 0
    for middle in middles:
        count = len(members[middle])
        parts.setdefault(int((passed + (count - 1) / 2) * groups / len(before)), []).append(middle)
        passed += count
    places, means, weights = [], [], []
    for part in parts.values():
        inside = [value for middle in part for value in members[middle]]
        weights.append(len(inside))
        means.append(sum(inside) / len(inside))
        places.append(sum(len(members[m]) * math.log(m) for m in part) / len(inside))
    level = IsotonicRegression().fit_transform(np.arange(len(means)), means, sample_weight=weights)
    return np.exp(
        np.interp([math.log(cell(score)) for score in scores], places, np.log(np.maximum(level, FLOOR)))
    )


@examples
@given(st.data())
def test_isotonic_is_isotonic_regression(data):
    size = data.draw(st.integers(1, 25))
    values = data.draw(arrays(np.float64, size, elements=st.floats(-1e3, 1e3)))
    weights = data.draw(arrays(np.float64, size, elements=st.floats(0.5, 100)))
    reference = IsotonicRegression().fit_transform(np.arange(size), values, sample_weight=weights)
    assert np.allclose(isotonic(values, weights), reference, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(("n", "seed"), [(230, 0), (1999, 1), (5000, 2)])
def test_it_is_what_its_definition_says(n, seed):
    rng = np.random.default_rng(seed)
    ease = rng.lognormal(-2, 2, n)
    epochs = [(ease * rng.lognormal(0, 1, n)).astype(np.float32) for _ in range(4)]
    fresh = [np.ones(n, bool), *(rng.random(n) < 0.6 for _ in range(3))]
    last, shown = epochs[0], [epochs[0]]
    for scores, which in zip(epochs[1:], fresh[1:], strict=True):
        before, last = last, np.where(which, scores, last)
        shown.append(last)
    reference = by_definition(before[which], last[which], last)
    assert np.allclose(told(shown, fresh)[-1], reference, rtol=1e-4)


def test_scores_that_stay_are_expected_to_stay():
    scores = np.geomspace(0.001, 8, 4000, dtype=np.float32)
    found = told([scores, scores])[1]
    inside = slice(200, -200)  # the outermost groups have one value
    assert np.abs(found[inside] / scores[inside] - 1).max() < 0.1


def test_scores_that_tell_nothing_are_all_expected_to_be_the_mean():
    rng = np.random.default_rng(0)
    first, second = rng.exponential(size=(2, 40_000)).astype(np.float32)
    assert np.abs(told([first, second])[1] / second.mean() - 1).max() < 0.1


def test_a_known_law_is_found():
    """The next score is drawn about 0.3 times the square root of the one before."""
    rng = np.random.default_rng(0)
    first = rng.lognormal(-1, 1.5, 100_000).astype(np.float32)
    second = (0.3 * np.sqrt(first) * rng.exponential(size=first.size)).astype(np.float32)
    found = told([first, second])[1]
    middle = (second > np.quantile(first, 0.05)) & (second < np.quantile(first, 0.95))
    assert np.abs(found / (0.3 * np.sqrt(second)) - 1)[middle].max() < 0.12


@examples
@given(
    arrays(np.float32, st.integers(0, 400), elements=positive | st.just(0.0) | st.just(float("inf"))),
    st.data(),
)
def test_a_higher_score_is_never_expected_to_be_lower(scores, data):
    again = data.draw(arrays(np.float32, scores.size, elements=positive))
    found = told([again, scores, again])[2][np.argsort(again)]
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("n", [0, 1, 2 * PAIRS - 1])
def test_too_few_pairs_tell_nothing(n):
    scores = np.linspace(1, 2, n, dtype=np.float32)
    for found in told([scores, scores]):
        assert np.array_equal(found, scores)


def test_from_twice_as_many_on_they_tell():
    scores = np.linspace(1, 2, 2 * PAIRS, dtype=np.float32)
    first, second = told([scores, scores])
    assert np.array_equal(first, scores)
    assert not np.array_equal(second, scores)


def test_equal_scores_tell_nothing():
    scores = np.full(1000, 0.7, np.float32)
    assert np.array_equal(told([scores, scores])[1], scores)


def test_a_sample_without_a_score_stays_without_one():
    scores = np.linspace(0.1, 2, 1000, dtype=np.float32)
    scores[::3] = np.nan
    for found in told([scores, scores]):
        assert np.array_equal(np.isnan(found), np.isnan(scores))


def test_scores_that_are_not_finite_make_no_pair_and_change_no_memory():
    rng = np.random.default_rng(0)
    first, third = rng.lognormal(size=(2, 1000)).astype(np.float32)
    broken = first.copy()
    broken[:500] = np.inf
    broken[400:600] = np.nan
    columns = {}
    for epoch, scores in enumerate((first, broken, third)):
        found = expected_scores(standing(scores, epoch=epoch, columns=columns))
    # The pairs of the third epoch are those of the first and the third.
    assert np.array_equal(found, told([first, third])[1])


def test_an_infinite_score_is_expected_to_be_as_high_as_any():
    scores = np.linspace(0.1, 2, 1000, dtype=np.float32)
    shown = scores.copy()
    shown[7] = np.inf
    found = told([scores, shown])[1]
    assert found[7] == found[-1]
    assert np.isfinite(found).all()


def test_scores_below_the_floor_count_as_it():
    rng = np.random.default_rng(0)
    scores = np.where(rng.random(2000) < 0.5, 0, rng.lognormal(size=2000)).astype(np.float32)
    raised = np.maximum(scores, np.float32(FLOOR))
    assert np.array_equal(told([scores, scores])[1], told([scores, raised])[1])
    assert (told([scores, scores])[1] > 0).all()


# In a draw


@pytest.mark.parametrize("doubt", [0.0, 1.0])
def test_a_calibrated_draw_is_a_draw_by_the_expected_scores(doubt):
    policy = Fraction(0.5, exponent=0.5, doubt=doubt, keep_rare=True, calibrate=True)
    one, other, own = {}, {}, {}
    for epoch in range(1, 6):
        shown, _ = noisy(epoch=epoch)
        decided = policy.decide(standing(**shown, epoch=epoch, columns=one))
        expected = expected_scores(standing(**shown, epoch=epoch, columns=own))
        plain = replace(policy, calibrate=False)
        same = plain.decide(standing(**{**shown, "scores": expected}, epoch=epoch, columns=other))
        assert np.array_equal(decided, same)
    assert not np.array_equal(expected, shown["scores"])


def test_the_high_side_sees_the_scores_themselves():
    found = []
    for calibrate in (True, False):
        policy = Fraction(0.5, exponent=0.5, high="auto", calibrate=calibrate)
        columns, notes = {}, {}
        for epoch in range(1, 6):
            shown, _ = noisy(epoch=epoch)
            decided = policy.decide(standing(**shown, epoch=epoch, columns=columns, notes=notes))
            assert np.count_nonzero(decided == Reason.KEPT) == 1000
        found.append((decided == Reason.OUTLIER, dict(notes)))
    assert found[0][0].sum() > 100
    assert np.array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_where_scores_tell_nothing_the_draw_is_as_good_as_random():
    """By its odds alone, a plain draw would take the higher half twice as often and more."""
    rng = np.random.default_rng(0)
    kept = []
    for calibrate in (True, False):
        policy, columns = Fraction(0.5, exponent=1.0, calibrate=calibrate), {}
        for epoch in range(1, 4):
            scores = rng.exponential(size=20_000).astype(np.float32)
            drawn = policy.decide(standing(scores, epoch=epoch, columns=columns)) == Reason.KEPT
        kept.append(drawn[scores > np.median(scores)].mean())
    assert abs(kept[0] - 0.5) < 0.02
    assert kept[1] > 0.65
