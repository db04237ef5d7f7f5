"""Persistent outliers: streaks and means against brute force, the valley by hand, and made-up populations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fallow import Schedule, Subsampler
from fallow.errors import InvalidType, InvalidValue
from fallow.policies import Fraction, Reason, Threshold
from fallow.policies.persistence import AUTO, BINS, MARGIN, Persistence, check_high, find_valley
from standings import distinct, inputs, noisy

examples = settings(max_examples=60, deadline=None)


def found(persistence, epochs, most=None):
    """Return what is found after each epoch; an epoch is a dict of what ``inputs`` takes."""
    columns, notes, results = {}, {}, []
    for at, epoch in enumerate(epochs, 1):
        shown = inputs(epoch=at, columns=columns, notes=notes, **epoch)
        results.append((persistence.find(shown, most), dict(notes)))
    return results


# A number: streaks


def streak_of(visits, high):
    """How many of the last scores in a row lie above ``high``: ``None`` was no visit."""
    length = 0
    for score in visits:
        if score is not None and not math.isnan(score):
            length = length + 1 if np.float32(score) > high else 0
    return length


@examples
@given(
    st.lists(
        st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0, -1.0, math.nan, None]), min_size=7, max_size=7),
        min_size=1,
        max_size=9,
    ),
    st.integers(1, 4),
)
def test_a_sample_is_found_while_its_last_visits_lay_above(history, visits):
    columns, last = {}, np.full(7, np.nan, np.float32)
    for epoch, row in enumerate(history, 1):
        fresh = np.array([score is not None for score in row])
        last[fresh] = [score for score in row if score is not None]
        shown = inputs(last.copy(), epoch=epoch, fresh=fresh, columns=columns)
        streaks = [streak_of([past[i] for past in history[:epoch]], 1.0) for i in range(7)]
        expected = (np.array(streaks) >= visits) & ~np.isnan(last)
        assert np.array_equal(Persistence(1.0, visits).find(shown), expected)


# What both kinds leave alone

EVERY = [Persistence(1.0, 1), Persistence(0.5, 3), Persistence(AUTO, 1), Persistence(AUTO, 3)]
every_kind = pytest.mark.parametrize("persistence", EVERY, ids=repr)


@every_kind
def test_without_any_score_nothing_is_found_or_remembered(persistence):
    columns, notes = {}, {}
    shown = inputs(np.full(9, np.nan), columns=columns, notes=notes)
    assert not persistence.find(shown).any()
    assert not any(column.any() for column in columns.values())
    assert notes == {}


@every_kind
def test_a_bad_score_moves_no_other_sample(persistence):
    for where in (0, 1, 1999):
        others = np.arange(2000) != where
        whole, alone = [], []
        for epoch in range(5):
            shown, _ = noisy(epoch=epoch)
            shown["scores"][where] = np.nan
            shown["predicted"][where] = -1
            whole.append(shown)
            alone.append({name: value[others] for name, value in shown.items()})
        for (all_, notes), (fewer, same) in zip(
            found(persistence, whole), found(persistence, alone), strict=True
        ):
            assert np.array_equal(all_[others], fewer)
            assert notes == same


@every_kind
@pytest.mark.parametrize("n", [1 << 16, (1 << 17) + 1])
def test_blocks_leave_no_seam(persistence, n):
    """Sample i of a long table is found as sample i of the short one that it repeats."""
    tile = 1000
    epochs = [noisy(tile, epoch=epoch)[0] for epoch in range(4)]
    long = [{name: np.resize(value, n) for name, value in shown.items()} for shown in epochs]
    caps = {"labels": None, "predicted": None}  # a cap cuts through equal samples
    short_found, notes = found(persistence, [shown | caps for shown in epochs])[-1]
    long_found, same = found(persistence, [shown | caps for shown in long])[-1]
    assert np.array_equal(long_found, np.resize(short_found, n))
    assert long_found.any()
    assert notes == same


@every_kind
@examples
@given(st.integers(0, 40), st.integers(0, 9))
def test_most_takes_the_highest_ties_by_index(persistence, most, seed):
    epochs = [noisy(300, 0.3, seed=seed, epoch=epoch)[0] for epoch in range(4)]
    for shown in epochs:
        shown["scores"] = np.round(shown["scores"], 1)  # equal ones among them
    everyone = found(persistence, epochs)[-1][0]
    columns, notes = {}, {}
    for epoch, shown in enumerate(epochs, 1):
        fewer = persistence.find(inputs(epoch=epoch, columns=columns, notes=notes, **shown), most)
    values = columns["mean_score"] if persistence.high == AUTO else epochs[-1]["scores"]
    ranked = sorted(np.flatnonzero(everyone), key=lambda i: (-values[i], i))
    assert np.flatnonzero(fewer).tolist() == sorted(ranked[:most])


# The running mean, the visits and the wrong predictions


@examples
@given(
    st.lists(
        npst.arrays(np.float32, 5, elements=st.sampled_from([0.0, 0.25, 1.5, 7.0, -2.0, math.nan, math.inf])),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_means_visits_and_wrong_streaks_are_those_of_a_plain_reading(history, visits, seed):
    rng, columns = np.random.default_rng(seed), {}
    mean, seen, wrong = [0.0] * 5, [0] * 5, [0] * 5
    labels, last = rng.integers(0, 3, 5).astype(np.int32), np.full(5, np.nan, np.float32)
    for epoch, scores in enumerate(history, 1):
        fresh = (rng.random(5) < 0.7) & ~np.isinf(scores)  # inf stands for no visit here
        predicted = rng.integers(-1, 3, 5).astype(np.int32)
        last = np.where(fresh, scores, last)
        shown = inputs(last, epoch=epoch, fresh=fresh, columns=columns, labels=labels, predicted=predicted)
        Persistence(AUTO, visits).find(shown)
        for i in np.flatnonzero(fresh & ~np.isnan(scores)):
            seen[i] += 1
            mean[i] += (float(scores[i]) - mean[i]) / min(seen[i], visits)
            missed = predicted[i] >= 0 and predicted[i] != labels[i]
            wrong[i] = wrong[i] + 1 if missed else 0
        assert columns["visits"].tolist() == seen
        assert columns["visits_wrong"].tolist() == wrong
        np.testing.assert_allclose(columns["mean_score"], mean, rtol=1e-5, atol=1e-5)


def test_memory_is_two_bytes_and_a_float_a_sample():
    columns = {}
    Persistence(AUTO, 3).find(inputs(**noisy()[0], columns=columns))
    assert {name: str(column.dtype) for name, column in columns.items()} == {
        "mean_score": "float32",
        "visits": "uint8",
        "visits_wrong": "uint8",
    }
    few = {}
    Persistence(AUTO, 3).find(inputs(distinct(9), columns=few, predicted=None))
    assert set(few) == {"mean_score", "visits"}
    one = {}
    Persistence(2.0, 3).find(inputs(distinct(9), columns=one))
    assert {name: str(column.dtype) for name, column in one.items()} == {"visits_above_high": "uint8"}


# The valley


def valley_by_hand(counts):
    """The rule in plain Python."""
    counts = [float(c) for c in counts]
    n = len(counts)
    around = [counts[0], *counts, counts[-1]]
    smooth = [(around[i] + 2 * around[i + 1] + around[i + 2]) / 4 for i in range(n)]
    for edge in range(1, int(0.4 * n) + 1):
        top, low = max(smooth[:edge]), smooth[edge]
        ahead = smooth[edge : edge + math.ceil(n / 4)]
        if low > 0.65 * top or top - low <= 4 * math.sqrt(top + low):
            continue
        if sum(ahead) / len(ahead) >= 0.95 * low and sum(smooth[edge:]) >= 0.3 * sum(smooth):
            return edge
    return None


@examples
@given(npst.arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 3000)))
def test_the_valley_is_that_of_a_plain_reading(counts):
    assert find_valley(counts) == valley_by_hand(counts)


@examples
@given(
    st.integers(2, 12), st.integers(3, 12), st.integers(300, 5000), st.integers(300, 5000), st.floats(0, 0.2)
)
def test_a_hill_apart_from_the_rest_has_a_valley_between(hill, gap, top, far, floor):
    """A hill, a gap that holds a small share of it, and the rest at the right."""
    rest = 40 - hill - gap
    far = max(far, top * hill // rest)
    counts = np.array([top] * hill + [int(floor * min(top, far))] * gap + [far] * rest)
    assert find_valley(counts) in (hill, hill + 1)


@pytest.mark.parametrize(
    "counts",
    [
        np.zeros(40, int),
        np.full(40, 100),
        np.arange(40) ** 2,
        np.arange(40)[::-1] ** 2,
        (1000 * 0.8 ** np.arange(40)).astype(int),
        np.eye(40, dtype=int)[0] * 10_000,
        np.eye(40, dtype=int)[39] * 10_000,
        np.array([0] * 25 + [50] * 15),
        np.array([12, 4, 1] + [2] * 37),  # few: a hill that chance makes
        np.array([9000, 10] + [20] * 38),  # hardly anything beyond
        np.array([100] * 20 + [10] * 5 + [100] * 15),  # a hill that reaches too far
    ],
    ids=["empty", "flat", "rising", "falling", "geometric", "hill alone", "learned", "no hill", "chance",
         "nothing beyond", "far hill"],
)  # fmt: skip
def test_what_has_no_valley(counts):
    assert find_valley(counts) is None


@pytest.mark.parametrize(("share", "edge"), [(0.5, 5), (0.65, 5), (0.75, None), (0.95, None)])
def test_a_hill_of_more_than_seven_in_ten_is_the_rest(share, edge):
    counts = np.zeros(40, np.int64)
    counts[:4], counts[20:] = share * 25_000, (1 - share) * 5_000
    assert find_valley(counts) == edge


# Made-up populations


def scenario(epochs=6, **options):
    """What is found after each epoch, and the wrong labels."""
    shown = [noisy(5000, **options, epoch=epoch) for epoch in range(epochs)]
    return found(Persistence(AUTO, 3), [s for s, _ in shown]), shown[0][1]


@pytest.mark.parametrize("wrong", [0.05, 0.2, 0.4])
def test_wrong_labels_are_found_once_they_were_visited_often_enough(wrong):
    results, bad = scenario(wrong=wrong)
    assert not results[0][0].any()
    assert not results[1][0].any()
    for which, notes in results[2:]:
        assert (which & bad).sum() > 0.95 * which.sum()
        assert (which & bad).sum() > 0.9 * bad.sum()
        assert math.log(10) + MARGIN <= notes["high"] < 6


@pytest.mark.parametrize("seed", range(2))
def test_clean_labels_have_no_valley(seed):
    results, _ = scenario(wrong=0.0, seed=seed)
    assert not any(which.any() or notes for which, notes in results)


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("labelled", [True, False])
def test_the_bound_is_the_valley_of_numpys_histogram_or_chance_where_that_is_more(classes, labelled):
    shown = [noisy(5000, classes=classes, epoch=epoch)[0] for epoch in range(3)]
    mean = np.mean([epoch["scores"] for epoch in shown], axis=0)
    counts, edges = np.histogram(np.exp(-mean), BINS, (0, 1))
    valley, chance = -math.log(edges[valley_by_hand(counts)]), math.log(classes) + MARGIN
    assert (valley < chance) == (classes == 100)
    if not labelled:
        shown = [epoch | {"labels": None} for epoch in shown]
    notes = found(Persistence(AUTO, 3), shown)[-1][1]
    assert notes == {"high": pytest.approx(max(valley, chance) if labelled else valley)}


def test_a_hard_set_that_is_not_learned_yet_loses_nothing():
    """Everything scores about log C, and the histogram of exp(-score) falls from a hill at 1 / C."""
    rng = np.random.default_rng(0)
    for classes in (10, 100):
        shown = [
            {
                "scores": np.maximum(math.log(classes) + rng.normal(0, 0.4, 5000), 0.01),
                "labels": rng.integers(0, classes, 5000).astype(np.int32),
                "predicted": rng.integers(0, classes, 5000).astype(np.int32),
            }
            for _ in range(5)
        ]
        assert not any(which.any() for which, _ in found(Persistence(AUTO, 3), shown))


def test_half_learned_and_half_at_chance_stays_too():
    """A valley lies between the learned half and the half at chance, but these are not denied: they wait."""
    rng = np.random.default_rng(1)
    waiting = np.arange(6000) < 3000
    labels = rng.integers(0, 10, 6000).astype(np.int32)
    results = []
    columns, notes = {}, {}
    for epoch in range(1, 6):
        at_chance = math.log(10) + rng.normal(0, 0.15, 6000)
        scores = np.where(waiting, at_chance, rng.exponential(0.2, 6000))
        predicted = np.where(waiting, (labels + 1) % 10, labels).astype(np.int32)
        shown = inputs(scores, epoch=epoch, columns=columns, notes=notes, labels=labels, predicted=predicted)
        results.append(Persistence(AUTO, 3).find(shown))
    assert notes["high"] == pytest.approx(math.log(10) + MARGIN)
    assert not any(which.any() for which in results)


def test_what_was_predicted_right_on_one_of_the_last_visits_stays():
    shown = [noisy(5000, epoch=epoch)[0] for epoch in range(3)]
    once = np.arange(5000) % 2 == 0
    shown[1]["predicted"] = np.where(once, shown[1]["labels"], shown[1]["predicted"])
    last = found(Persistence(AUTO, 3), shown)[-1][0]
    assert not last[once].any()
    assert last[~once].any()


def test_what_has_no_prediction_was_not_predicted_wrong():
    shown = [noisy(5000, epoch=epoch)[0] for epoch in range(3)]
    none = np.arange(5000) % 2 == 0
    for epoch in shown:
        epoch["predicted"][none] = -1
    last = found(Persistence(AUTO, 3), shown)[-1][0]
    assert not last[none].any()
    assert last[~none].any()


@pytest.mark.parametrize("missing", ["labels", "predicted", "both"])
def test_without_labels_or_predictions_the_scores_decide(missing):
    less = dict.fromkeys(("labels", "predicted") if missing == "both" else (missing,))
    _, bad = noisy(5000)
    shown = [noisy(5000, epoch=epoch)[0] | less for epoch in range(4)]
    which = found(Persistence(AUTO, 3), shown)[-1][0]
    assert (which & bad).sum() > 0.9 * which.sum()
    assert (which & bad).sum() > 0.9 * bad.sum()


@pytest.mark.parametrize("missing", ["labels", "predicted"])
def test_without_labels_or_predictions_no_more_than_half_is_found(missing):
    """Six of ten denied: without a truth to tell, half of a class, or of all, is the most."""
    shown = [noisy(5000, 0.6, classes=4, epoch=epoch)[0] | {missing: None} for epoch in range(4)]
    which, notes = found(Persistence(AUTO, 3), shown)[-1]
    assert notes["high"] > 0
    if missing == "labels":
        assert which.sum() == 2500
    else:
        sizes = np.bincount(shown[0]["labels"])
        assert (np.bincount(shown[0]["labels"][which]) <= sizes // 2).all()
        assert which.sum() > 0.95 * (sizes // 2).sum()


def with_two_more(first, second):
    """Epochs with wrong labels, and two classes more; five samples of the second are predicted right."""
    shown = [noisy(5000, 0.2, epoch=epoch)[0] for epoch in range(4)]
    for epoch in shown:
        epoch["labels"] = np.where(first, 10, np.where(second, 11, epoch["labels"])).astype(np.int32)
        epoch["scores"] = np.where(first | second, 5 + epoch["scores"] / 10, epoch["scores"])
        epoch["predicted"] = np.where(first | second, 0, epoch["predicted"]).astype(np.int32)
        epoch["predicted"][np.flatnonzero(second)[:5]] = 11
    return shown


def test_a_class_that_is_still_to_be_learned_loses_no_more_than_is_predicted_right():
    none, few = np.arange(5000) < 250, (np.arange(5000) >= 250) & (np.arange(5000) < 500)
    which = found(Persistence(AUTO, 3), with_two_more(none, few))[-1][0]
    assert not which[none].any()
    assert which[few].sum() == 5
    assert which[~(none | few)].sum() > 700


def test_a_rare_class_loses_nothing():
    rare, few = np.arange(5000) < 60, (np.arange(5000) >= 60) & (np.arange(5000) < 120)
    which = found(Persistence(AUTO, 3), with_two_more(rare, few))[-1][0]
    assert not which[rare | few].any()
    assert which[~(rare | few)].sum() > 700


def test_rare_classes_make_no_valley():
    shown = [noisy(5000, 0.1, epoch=epoch)[0] for epoch in range(4)]
    denied = noisy(5000, 0.1)[1]
    assert found(Persistence(AUTO, 3), shown)[-1][0].sum() > 300
    # The samples that the network denies are now those of eight rare classes, but for a few.
    for epoch in shown:
        others = (denied | (np.arange(5000) % 97 == 0)) & (np.arange(5000) % 11 > 0)
        epoch["labels"] = np.where(others, 10 + np.arange(5000) % 8, epoch["labels"]).astype(np.int32)
    assert max(np.bincount(shown[0]["labels"])[10:]) <= 5000 / 18 / 2
    assert (denied & ~others).sum() > 30
    assert not found(Persistence(AUTO, 3), shown)[-1][0].any()


def capped_by_hand(found_, mean, labels, predicted):
    """Class after class, the highest means first, up to as many as are predicted right."""
    left = set()
    for c in set(labels.tolist()):
        mine = [i for i in np.flatnonzero(found_) if labels[i] == c]
        cap = sum(1 for a, b in zip(predicted, labels, strict=True) if a == b == c)
        left |= set(sorted(mine, key=lambda i: (-mean[i], i))[:cap])
    return left


@examples
@given(st.integers(0, 500), st.integers(2, 12), st.floats(0.3, 0.6))
def test_no_class_loses_more_than_it_has_predicted_right(seed, classes, wrong):
    epochs = [noisy(600, wrong, classes=classes, seed=seed, epoch=epoch)[0] for epoch in range(4)]
    for shown in epochs:
        shown["scores"] = np.round(shown["scores"], 1)
    columns, notes = {}, {}
    for epoch, shown in enumerate(epochs, 1):
        which = Persistence(AUTO, 3).find(inputs(epoch=epoch, columns=columns, notes=notes, **shown))
    if "high" not in notes:
        assert not which.any()
        return
    free = (columns["mean_score"] > np.float32(notes["high"])) & (columns["visits_wrong"] >= 3)
    expected = capped_by_hand(free, columns["mean_score"], shown["labels"], shown["predicted"])
    assert set(np.flatnonzero(which).tolist()) == expected


def test_a_valley_that_is_gone_is_no_longer_noted():
    shown = [noisy(5000, epoch=epoch)[0] for epoch in range(3)]
    learned = [noisy(5000, 0.0, epoch=epoch)[0] for epoch in range(12)]
    results = found(Persistence(AUTO, 3), shown + learned)
    assert "high" in results[2][1]
    assert "high" not in results[-1][1]
    assert not results[-1][0].any()


def test_outliers_that_are_left_out_stay_found_while_they_are_not_measured():
    columns, notes, reason = {}, {}, np.zeros(5000, np.uint8)
    scores = np.full(5000, np.nan, np.float32)
    for epoch in range(1, 9):
        shown, bad = noisy(5000, epoch=epoch)
        fresh = reason == Reason.KEPT
        scores = np.where(fresh, shown["scores"], scores)
        which = Persistence(AUTO, 3).find(
            inputs(**(shown | {"scores": scores}), epoch=epoch, fresh=fresh, columns=columns, notes=notes)
        )
        assert not (reason == Reason.OUTLIER)[~which].any()
        reason = np.where(which, np.uint8(Reason.OUTLIER), np.uint8(Reason.KEPT))
    assert (which & bad).sum() > 0.9 * bad.sum()


# Other scores, and next to nothing


@pytest.mark.parametrize("missing", [{}, {"predicted": None}])
def test_scores_that_are_no_nats_lie_below_chance(missing):
    """Total variation, 0 to 1: never above log C, so nothing is found where labels are known."""
    shown = [noisy(5000, epoch=epoch)[0] for epoch in range(4)]
    for epoch in shown:
        epoch["scores"] = 1 - np.exp(-epoch["scores"])
    assert not any(which.any() for which, _ in found(Persistence(AUTO, 3), [s | missing for s in shown]))


def test_negative_scores_count_as_none():
    """As relative scores are: those below 0 have a likelihood of 1."""
    shown = [noisy(5000, epoch=epoch)[0] for epoch in range(4)]
    for epoch in shown:
        epoch["scores"] = np.where(epoch["scores"] < 1, -epoch["scores"] - 3, epoch["scores"])
    which, notes = found(Persistence(AUTO, 3), shown)[-1]
    assert which.any()
    assert (shown[-1]["scores"][which] > 0).all()
    assert notes["high"] >= math.log(10) + MARGIN


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("score", [0.0, 3.0, 3e38])
def test_next_to_no_samples_have_no_valley(n, score):
    shown = [{"scores": np.full(n, score), "predicted": np.ones(n, np.int32)}] * 4
    assert not any(which.any() for which, _ in found(Persistence(AUTO, 1), shown))


# Through the policies


@pytest.mark.parametrize("high", [AUTO, 3.0])
@pytest.mark.parametrize("exponent", [None, 0.5])
@examples
@given(st.integers(1, 400), st.floats(0, 0.9), st.floats(0, 0.5), st.integers(0, 20))
def test_a_share_with_a_high_side_keeps_as_many_as_without(high, exponent, n, share, wrong, seed):
    columns, notes = {}, {}
    rng = np.random.default_rng(seed)
    for epoch in range(1, 5):
        shown, _ = noisy(n, wrong, seed=seed, epoch=epoch)
        shown["scores"][rng.random(n) < 0.1] = np.nan
        with_, without = Fraction(share, exponent=exponent, high=high), Fraction(share, exponent=exponent)
        decided = with_.decide(inputs(**shown, epoch=epoch, seed=seed, columns=columns, notes=notes))
        plain = without.decide(inputs(**shown, epoch=epoch, seed=seed))
        assert np.count_nonzero(decided) == np.count_nonzero(plain)
        assert not decided[np.isnan(shown["scores"])].any()


@pytest.mark.parametrize("exponent", [None, 0.5])
def test_a_share_leaves_out_the_outliers_first_and_then_as_it_did(exponent):
    columns, notes = {}, {}
    for epoch in range(1, 5):
        shown, bad = noisy(5000, epoch=epoch)
        given_ = inputs(**shown, epoch=epoch, columns=columns, notes=notes)
        decided = Fraction(0.5, exponent=exponent, high=AUTO).decide(given_)
    outlier = decided == Reason.OUTLIER
    assert (outlier & bad).sum() > 0.9 * bad.sum()
    others = np.where(outlier, np.float32(np.nan), shown["scores"])
    left = 2500 - np.count_nonzero(outlier)
    rest = Fraction(left / np.count_nonzero(~outlier), exponent=exponent)
    expected = rest.decide(inputs(**(shown | {"scores": others}), epoch=4))
    assert np.array_equal(np.where(outlier, 0, decided), expected)


def test_a_share_smaller_than_the_outliers_takes_the_highest_of_them():
    columns, notes = {}, {}
    for epoch in range(1, 5):
        shown, bad = noisy(5000, epoch=epoch)
        decided = Fraction(0.1, high=AUTO).decide(inputs(**shown, epoch=epoch, columns=columns, notes=notes))
    assert np.bincount(decided, minlength=3).tolist() == [4500, 0, 500]
    highest = columns["mean_score"][decided == Reason.OUTLIER].min()
    left_in = bad & (decided == Reason.KEPT) & (columns["visits_wrong"] >= 3)
    assert left_in.sum() > 300
    assert highest >= columns["mean_score"][left_in].max()


@pytest.mark.parametrize("high", [AUTO, 3.0])
def test_a_threshold_leaves_out_what_is_found(high):
    columns, own, notes, same = {}, {}, {}, {}
    for epoch in range(1, 5):
        shown, bad = noisy(5000, epoch=epoch)
        decided = Threshold(low=0.1, high=high, visits=3).decide(
            inputs(**shown, epoch=epoch, columns=columns, notes=notes)
        )
        which = Persistence(high, 3).find(inputs(**shown, epoch=epoch, columns=own, notes=same))
        assert np.array_equal(decided == Reason.OUTLIER, which)
        learned = (shown["scores"] < np.float32(0.1)) & ~which
        assert np.array_equal(decided == Reason.LEARNED, learned)
        assert notes == same
    assert (which & bad).sum() > 0.9 * bad.sum()


def test_a_threshold_leaves_an_outlier_that_was_not_measured_as_it_was():
    shown, _ = noisy(100)
    reason = np.full(100, Reason.OUTLIER, np.uint8)
    given_ = inputs(**shown, reason=reason, fresh=np.arange(100) < 50)
    decided = Threshold(high=AUTO).decide(given_)
    assert decided.tolist() == [Reason.KEPT] * 50 + [Reason.OUTLIER] * 50


# Through a training that is stopped

EPOCHS, SIZE = 12, 300
TRAINED = [
    Fraction(0.5, exponent=0.5, high=AUTO),
    Fraction(0.5, high=3.0, visits=2),
]


def make(policy):
    labels = torch.from_numpy(noisy(SIZE)[0]["labels"])
    return Subsampler(SIZE, policy, Schedule(epochs=EPOCHS, remeasure_every=4), seed=2, labels=labels)


@pytest.mark.parametrize("policy", TRAINED, ids=repr)
def test_total_steps_with_a_high_side_are_the_counted_batches(policy):
    sub = make(policy)
    total, before = sub.total_steps(16), [len(sub.order())]
    loader, counted = sub.loader(range(SIZE), 16), 0
    for epoch in range(EPOCHS):
        shown, _ = noisy(SIZE, epoch=epoch)
        counted += len(loader)
        for index, _ in loader:
            losses, predicted = (torch.from_numpy(shown[name][index]) for name in ("scores", "predicted"))
            sub.record(index, losses, predicted=predicted)
        sub.remeasure(range(SIZE), lambda index, _, s=shown: torch.from_numpy(s["scores"][index]))
        sub.step()
        before.append(int(sub.kept.sum()))
    assert counted == total
    assert before[1:] == [150] * EPOCHS
    assert (sub.reason == Reason.OUTLIER).any()


# Arguments


@pytest.mark.parametrize("high", [3, 3.0, np.float32(3).item(), -2, "auto", None])
def test_valid_bounds(high):
    checked = check_high(high, 3)
    assert checked == high
    assert isinstance(checked, float | str) or checked is None


@pytest.mark.parametrize(
    ("high", "visits", "error", "text"),
    [
        ("car", 3, InvalidType, "`high` must be a number, \"auto\" or None. Found 'car'"),
        (True, 3, InvalidType, "`high` must be a number"),
        ([3.0], 3, InvalidType, "`high` must be a number"),
        (math.nan, 3, InvalidValue, "`high` must be a finite float32. Found nan"),
        (math.inf, 3, InvalidValue, "`high` must be a finite float32"),
        (1e39, 3, InvalidValue, "`high` must be a finite float32"),
        (AUTO, 0, InvalidValue, "`visits` must be at least 1"),
        (AUTO, 256, InvalidValue, "`visits` must be at most 255. Found 256"),
        (None, 2.5, InvalidType, "`visits` must be a whole number"),
    ],
)
def test_invalid_bounds_raise(high, visits, error, text):
    with pytest.raises(error, match=text):
        check_high(high, visits)
    with pytest.raises(error, match=text):
        Fraction(0.5, high=high, visits=visits)


def test_a_high_side_goes_with_the_lowest():
    with pytest.raises(InvalidValue, match=r'`high` goes with remove="lowest"\. Found high=\'auto\''):
        Fraction(0.5, remove="highest", high=AUTO)
