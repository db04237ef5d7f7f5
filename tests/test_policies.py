"""What every policy promises, and what each one is."""

from inspect import isabstract

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

import fallow.policies as policies
from drawing import inclusion
from fallow.errors import InvalidType, InvalidValue
from fallow.policies import (
    IES,
    UCB,
    BelowMean,
    ErrorMass,
    Fraction,
    Kakurenbo,
    OrderDP,
    Policy,
    RandomFraction,
    Reason,
    RePB,
    SeTa,
    Threshold,
    Watch,
)
from standings import distinct, inputs, noisy, removed, suited

examples = settings(max_examples=60, deadline=None)

EXAMPLES = {
    Threshold: [
        Threshold(low=0.5),
        Threshold(high=2.0),
        Threshold(low=0.5, high=2.0, visits=2),
        Threshold(low=0.2, high=0.9, quantiles=True),
        Threshold(low="auto"),
        Threshold(low="auto", high="auto", visits=3),
    ],
    Fraction: [
        Fraction(0.4),
        Fraction(0.4, remove="highest"),
        Fraction(0.4, exponent=1.0),
        Fraction(0.4, remove="highest", exponent=0.5),
        Fraction(0.4, high=2.0, visits=1),
        Fraction(0.4, exponent=0.5, high="auto"),
    ],
    ErrorMass: [ErrorMass(), ErrorMass(0.4, high=None), ErrorMass(0.2, high=2.0, visits=1)],
    BelowMean: [BelowMean(0.5), BelowMean(0.5, weighted=False), BelowMean(budget=0.3)],
    RandomFraction: [RandomFraction(0.4)],
    SeTa: [SeTa(0.2), SeTa(0.2, groups=4, window=0.3), SeTa(budget=0.55), SeTa(0.3, annealing=1.0)],
    Kakurenbo: [Kakurenbo(0.3), Kakurenbo(0.3, confidence=0.0, steps=())],
    UCB: [UCB(0.4), UCB(0.4, smoothing=0.5, exploration=0.0)],
    RePB: [RePB(0.5), RePB(0.5, weighted=False), RePB(budget=0.3, clip=None)],
    OrderDP: [OrderDP(), OrderDP(pool=0.5, keep=0.9), OrderDP(budget=0.4)],
    IES: [IES(0.01), IES(window=1, budget=0.3)],
    Watch: [Watch()],
}
FAMILY = [
    member
    for member in (getattr(policies, name) for name in policies.__all__)
    if isinstance(member, type) and issubclass(member, Policy) and not isabstract(member)
]
EVERY = [policy for member in FAMILY for policy in EXAMPLES[member]]
HARD = [p for p in EVERY if isinstance(p, Threshold) or (isinstance(p, Fraction) and p.exponent is None)]
DRAWING = [p for p in EVERY if p not in HARD and not isinstance(p, ErrorMass | Kakurenbo | UCB | IES | Watch)]
every_policy = pytest.mark.parametrize("policy", EVERY, ids=repr)
every_hard_policy = pytest.mark.parametrize("policy", HARD, ids=repr)
every_drawing_policy = pytest.mark.parametrize("policy", DRAWING, ids=repr)


# What every policy promises


def test_the_family_is_found_and_has_examples():
    assert set(EXAMPLES) == set(FAMILY)
    assert len({member.name for member in FAMILY}) == len(FAMILY)


@every_policy
def test_a_decision_is_one_reason_a_sample(policy):
    for n in (1, 2, 10, 1001):
        decided = policy.decide(inputs(suited(policy, distinct(n))))
        assert decided.shape == (n,)
        assert decided.dtype == np.uint8
        assert set(decided.tolist()) <= {Reason.KEPT, Reason.LEARNED, Reason.OUTLIER, Reason.NOT_DRAWN}
        assert n <= 2 or (decided == Reason.KEPT).any()


@every_policy
def test_a_decision_changes_nothing_that_is_shown(policy):
    shown = inputs(suited(policy, distinct(50)), reason=np.arange(50) % 4)
    before = shown.scores.copy(), shown.fresh.copy(), shown.reason.copy()
    policy.weights(shown, policy.decide(shown))
    for old, new in zip(before, (shown.scores, shown.fresh, shown.reason), strict=True):
        assert np.array_equal(old, new)


@every_policy
def test_a_sample_without_a_score_is_kept(policy):
    for count in (1, 7, 20):
        scores, columns = suited(policy, distinct(20)), {}
        scores[:count] = np.nan
        for epoch in (1, 2, 3):
            assert not removed(policy, scores, epoch=epoch, columns=columns)[:count].any()


@every_policy
def test_the_decision_is_the_same_however_often_a_policy_is_made(policy):
    twin = type(policy)(**vars(policy))
    assert twin == policy
    assert repr(twin) == repr(policy)
    scores = suited(policy, distinct(100))
    assert np.array_equal(removed(twin, scores), removed(policy, scores))


@every_hard_policy
def test_a_hard_rule_follows_the_samples_when_they_change_places(policy):
    shuffle = np.random.default_rng(3).permutation(1001)
    there, moved, notes, same = {}, {}, {}, {}
    for epoch in (1, 2, 3):
        shown, _ = noisy(1001, 0.3, epoch=epoch)
        straight = policy.decide(inputs(**shown, epoch=epoch, columns=there, notes=notes))
        assert straight.any() or policy.visits > epoch
        shown = {name: value[shuffle] for name, value in shown.items()}
        turned = policy.decide(inputs(**shown, epoch=epoch, columns=moved, notes=same))
        assert np.array_equal(turned, straight[shuffle])
        assert notes == pytest.approx(same)


@every_hard_policy
def test_a_hard_rule_is_monotone_in_the_score(policy):
    scores = np.unique(noisy(1001, 0.3)[0]["scores"])
    columns, unknown = {}, {"labels": None, "predicted": None}  # these speak too, where they are known
    for epoch in (1, 2, 3):
        decided = policy.decide(inputs(scores, epoch=epoch, columns=columns, **unknown))
        learned = np.flatnonzero(decided == Reason.LEARNED)
        outliers = np.flatnonzero(decided == Reason.OUTLIER)
        assert learned.tolist() == list(range(learned.size))
        assert outliers.tolist() == list(range(scores.size - outliers.size, scores.size))
    highest = policy.remove == "highest" if isinstance(policy, Fraction) else False
    assert outliers.size > 0 or (policy.high is None and not highest)


@every_hard_policy
def test_a_hard_rule_draws_nothing(policy):
    scores = distinct(60)
    assert np.array_equal(removed(policy, scores, seed=0), removed(policy, scores, seed=1))


@every_drawing_policy
def test_a_draw_depends_on_seed_and_epoch(policy):
    scores = suited(policy, distinct(300))
    first = removed(policy, scores)
    assert not np.array_equal(first, removed(policy, scores, seed=1))
    assert not np.array_equal(first, removed(policy, scores, epoch=2))


class Play:
    """Epoch after epoch of one policy on a set with wrong labels; what it left out is not scored."""

    def __init__(self, policy, n=600, seed=0):
        self.policy, self.n, self.seed, self.epoch = policy, n, seed, 0
        self.columns, self.notes = {}, {}
        self.reason, self.scores = np.zeros(n, np.uint8), np.full(n, np.nan, np.float32)

    def step(self, bad=()):
        self.epoch += 1
        shown, self.wrong = noisy(self.n, 0.3, seed=self.seed, epoch=self.epoch)
        scores = suited(self.policy, shown.pop("scores"))
        scores[list(bad)] = np.nan
        every = self.policy.measures_removed or self.epoch % 4 == 0  # as where samples are re-admitted
        fresh = (self.reason == Reason.KEPT) | every
        self.scores = np.where(fresh, scores, self.scores)
        self.shown = inputs(
            self.scores, seed=self.seed, epoch=self.epoch, fresh=fresh, reason=self.reason,
            columns=self.columns, notes=self.notes, **shown,
        )  # fmt: skip
        self.reason = self.policy.decide(self.shown)
        return self.reason


@every_policy
def test_what_loses_its_score_while_it_is_kept_stays(policy):
    """Also a sample that was high on every visit before."""
    play, lost = Play(policy), 0
    for _ in range(9):
        rng = np.random.default_rng(play.epoch)
        before, bad = play.reason, np.flatnonzero(rng.random(play.n) < 0.3)
        now = play.step(bad)
        unscored = np.isnan(play.shown.scores) & (before == Reason.KEPT)
        lost += np.count_nonzero(unscored)
        assert not now[unscored].any()
    assert lost > 100
    assert now.any() or isinstance(policy, Watch)


@every_policy
def test_memory_is_all_there_is(policy):
    """A policy made anew, with the columns and notes of the old one, goes on as the old one does."""
    whole, parts = Play(policy), Play(policy)
    for _ in range(9):
        expected = whole.step()
        parts.policy = type(policy)(**vars(policy))
        parts.columns = {name: column.copy() for name, column in parts.columns.items()}
        parts.notes = dict(parts.notes)
        assert np.array_equal(parts.step(), expected)
        assert parts.notes == whole.notes
        assert all(type(value) is float and np.isfinite(value) for value in whole.notes.values())
    for name, column in whole.columns.items():
        assert np.array_equal(column, parts.columns[name])


AUTOMATIC = [p for p in EVERY if "auto" in (getattr(p, "low", None), getattr(p, "high", None))]


@pytest.mark.parametrize("policy", AUTOMATIC, ids=repr)
def test_what_finds_itself_is_noted(policy):
    play = Play(policy)
    for _ in range(9):
        play.step()
    assert ("low" in play.notes) == (getattr(policy, "low", None) == "auto")
    assert ("high" in play.notes) == (policy.high == "auto")
    outlier = play.reason == Reason.OUTLIER
    assert outlier.any() == (policy.high == "auto")
    assert np.count_nonzero(outlier & play.wrong) >= 0.9 * np.count_nonzero(outlier)


@every_policy
def test_only_a_policy_that_finds_outliers_names_any(policy):
    play, named = Play(policy), False
    for _ in range(6):
        named |= bool((play.step() == Reason.OUTLIER).any())
    assert named == policy.finds_outliers


@pytest.mark.parametrize(
    "policy",
    [
        Fraction(0),
        Fraction(0.0, remove="highest"),
        Fraction(0, exponent=1),
        Fraction(0, high=0.1, visits=1),
        Fraction(0, exponent=1, high="auto"),
        BelowMean(0),
        BelowMean(budget=0),
        RandomFraction(0),
        SeTa(budget=0),
        SeTa(0, window=1),
        Kakurenbo(0),
        UCB(0),
        RePB(0),
        RePB(budget=0),
        OrderDP(pool=1, keep=1),
        OrderDP(budget=0),
        IES(window=1, budget=0),
        Threshold(low=0.0, high=1.0, quantiles=True),
    ],
    ids=repr,
)
def test_a_share_of_0_removes_nothing(policy):
    shown = inputs(suited(policy, distinct(97)))
    decided = policy.decide(shown)
    assert not decided.any()
    weights = policy.weights(shown, decided)
    assert weights is None or (weights == 1).all()


@every_policy
def test_kept_count_is_what_is_kept(policy):
    for n in (1, 2, 5, 10, 33, 1000):
        count = policy.kept_count(n)
        if count is not None:
            assert np.count_nonzero(~removed(policy, distinct(n))) == count


@pytest.mark.parametrize("make", [Fraction, BelowMean, RandomFraction, SeTa, Kakurenbo, UCB])
@pytest.mark.parametrize("share", [-0.1, 1.0, 1.3, float("nan")])
def test_a_share_outside_raises(make, share):
    with pytest.raises(InvalidValue, match=r"`fraction` must be in \[0, 1\)\. Found .* pass 0\."):
        make(share)


@pytest.mark.parametrize("make", [Fraction, BelowMean, RandomFraction, SeTa, Kakurenbo, UCB])
@pytest.mark.parametrize("share", ["0.3", None, True])
def test_a_share_of_another_kind_raises(make, share):
    with pytest.raises(InvalidType, match="`fraction`"):
        make(share)


# Fraction and RandomFraction


@examples
@given(st.integers(1, 200), st.floats(0, 0.999), st.booleans(), st.integers(0, 50))
def test_fraction_leaves_out_exactly_its_share(n, share, lowest, seed):
    scores = distinct(n, seed)
    out = min(n - 1, round(share * n))
    rank = np.argsort(np.argsort(scores))
    found = removed(Fraction(share, remove="lowest" if lowest else "highest"), scores)
    assert np.array_equal(found, rank < out if lowest else rank >= n - out)
    assert np.count_nonzero(removed(Fraction(share, exponent=0.7), scores, seed=seed)) == out
    assert np.count_nonzero(removed(RandomFraction(share), scores, seed=seed)) == out


def test_fraction_names_its_reasons():
    scores = distinct(10)
    for policy, reason in (
        (Fraction(0.5), Reason.LEARNED),
        (Fraction(0.5, remove="highest"), Reason.OUTLIER),
        (Fraction(0.5, exponent=1), Reason.NOT_DRAWN),
        (RandomFraction(0.5), Reason.NOT_DRAWN),
        (BelowMean(0.9), Reason.NOT_DRAWN),
    ):
        assert set(policy.decide(inputs(scores)).tolist()) == {Reason.KEPT, reason}


def test_fraction_judges_by_every_last_score_whatever_held_before():
    scores = distinct(30)
    fresh, reason = np.arange(30) % 2 == 0, np.arange(30) % 4
    assert np.array_equal(
        removed(Fraction(0.3), scores, fresh=fresh, reason=reason), removed(Fraction(0.3), scores)
    )


def test_a_share_does_not_count_the_samples_without_a_score():
    scores = np.array([np.nan, np.nan, 1, 2, 3, 4, 5, 6, 7, 8], np.float32)
    assert np.flatnonzero(removed(Fraction(0.25), scores)).tolist() == [2, 3]
    assert np.flatnonzero(removed(Fraction(0.25, remove="highest"), scores)).tolist() == [8, 9]
    assert np.count_nonzero(removed(Fraction(0.25, exponent=1), scores)) == 2
    assert np.count_nonzero(removed(RandomFraction(0.25), scores)) == 2


def test_equal_scores_are_told_apart_by_lot():
    """Else a set sorted by class would lose whole classes once its scores are all zero."""
    times = sum(removed(Fraction(0.5), np.zeros(200), epoch=epoch).astype(int) for epoch in range(1, 41))
    assert times.sum() == 40 * 100
    assert times.min() > 5
    assert times.max() < 35


def test_of_hard_outliers_no_count_is_promised():
    assert Fraction(0.3, remove="highest").kept_count(10) is None
    assert Fraction(0.3, remove="highest", exponent=1).kept_count(10) == 7


@pytest.mark.parametrize(("remove", "exponent"), [("lowest", 0.5), ("lowest", 2.0), ("highest", 1.0)])
@pytest.mark.parametrize("keep", [1, 3])
def test_soft_fraction_draws_with_the_odds_it_states(remove, exponent, keep):
    scores = np.array([0.5, 1.0, 2.0, 0.25, 1.5], np.float32)
    odds = (scores**exponent if remove == "lowest" else scores**-exponent).astype(float)
    policy = Fraction(1 - keep / 5, remove=remove, exponent=exponent)
    seeds = 600
    kept = sum(~removed(policy, scores, seed=seed) for seed in range(seeds))
    assert kept.sum() == keep * seeds
    for count, chance in zip(kept, inclusion(odds, keep), strict=True):
        assert binomtest(int(count), seeds, chance).pvalue > 1e-5


def test_soft_fraction_of_many_follows_the_odds():
    scores = np.repeat(np.float32([1, 2, 4]), 20_000)
    kept = ~removed(Fraction(0.99, exponent=1), scores)
    by_score = kept.reshape(3, -1).sum(axis=1)
    for count, chance in zip(by_score, (1 / 7, 2 / 7, 4 / 7), strict=True):
        assert binomtest(int(count), int(kept.sum()), chance).pvalue > 1e-4


@pytest.mark.parametrize("remove", ["lowest", "highest"])
@pytest.mark.parametrize("exponent", [0.01, 1, 8, 300])
def test_a_soft_draw_survives_any_exponent(remove, exponent):
    scores = np.geomspace(1e-7, 1e4, 1000, dtype=np.float32)
    sets = [removed(Fraction(0.5, remove, exponent), scores, seed=seed) for seed in (0, 1)]
    assert all(np.count_nonzero(found) == 500 for found in sets)
    assert np.array_equal(*sets) == (exponent == 300)
    if exponent >= 8:
        hard = removed(Fraction(0.5, remove), scores)
        assert all(np.count_nonzero(found != hard) < 30 for found in sets)


def test_a_soft_draw_leaves_scores_of_0_a_chance():
    scores = np.zeros(100, np.float32)
    kept = sum(~removed(Fraction(0.5, exponent=1), scores, seed=seed) for seed in range(200))
    assert kept.min() > 60


def test_a_soft_draw_of_negative_scores_raises():
    with pytest.raises(InvalidValue, match=r"scores of at least 0.*Found -2 at sample 1\."):
        Fraction(0.5, exponent=1).decide(inputs([1.0, -2.0, np.nan, 3.0]))
    assert np.count_nonzero(removed(Fraction(0.5, exponent=1), [1.0, -1e-6, 2.0, 3.0])) == 2


@pytest.mark.parametrize("high", [1.5, "auto"])
def test_a_draw_that_raises_remembers_nothing(high):
    columns, notes = {}, {}
    shown = inputs([1.0, -2.0, 3.0], columns=columns, notes=notes)
    with pytest.raises(InvalidValue, match="scores of at least 0"):
        Fraction(0.5, exponent=1, high=high).decide(shown)
    assert not any(column.any() for column in columns.values())
    assert notes == {}


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"remove": "low"}, InvalidValue, '`remove` must be "lowest" or "highest". Found \'low\''),
        ({"exponent": 0}, InvalidValue, "`exponent` must be positive"),
        ({"exponent": -1.0}, InvalidValue, "`exponent` must be positive"),
        ({"exponent": float("inf")}, InvalidValue, "`exponent` must be positive"),
        ({"exponent": float("nan")}, InvalidValue, "`exponent` must be positive"),
        ({"exponent": "1"}, InvalidType, "`exponent` must be a number"),
        ({"exponent": True}, InvalidType, "`exponent` must be a number"),
    ],
)
def test_wrong_options_of_fraction_raise(options, error, text):
    with pytest.raises(error, match=text):
        Fraction(0.3, **options)


def test_random_fraction_takes_each_sample_equally_often():
    scores = distinct(40)
    seeds = 500
    out = sum(removed(RandomFraction(0.25), scores, seed=seed).astype(int) for seed in range(seeds))
    assert out.sum() == 10 * seeds
    assert all(binomtest(int(count), seeds, 0.25).pvalue > 1e-5 for count in out)


# Threshold


def test_threshold_is_strict_on_both_sides():
    decided = Threshold(low=1.0, high=2.0).decide(inputs([0.99, 1.0, 1.5, 2.0, 2.01]))
    assert decided.tolist() == [Reason.LEARNED, Reason.KEPT, Reason.KEPT, Reason.KEPT, Reason.OUTLIER]


def test_threshold_compares_in_the_precision_of_the_score():
    low = np.nextafter(np.float32(0.1), np.float32(0))
    assert removed(Threshold(low=0.1), [0.1, low]).tolist() == [False, True]


def test_threshold_judges_fresh_scores_only():
    reason = [Reason.LEARNED, Reason.LEARNED, Reason.OUTLIER, Reason.OUTLIER, Reason.NOT_DRAWN, Reason.KEPT]
    shown = inputs([5.0, 5.0, 1.0, 1.0, 0.0, 0.0], fresh=[0, 1, 0, 1, 0, 0], reason=reason)
    assert Threshold(low=0.5, high=9).decide(shown).tolist() == [
        Reason.LEARNED,
        Reason.KEPT,
        Reason.OUTLIER,
        Reason.KEPT,
        Reason.NOT_DRAWN,
        Reason.KEPT,
    ]


@pytest.mark.parametrize("visits", [1, 2, 255])
def test_an_outlier_lies_over_high_so_many_visits_in_a_row(visits):
    policy, columns = Threshold(high=1.0, visits=visits), {}
    for epoch in range(1, visits + 3):
        assert removed(policy, [2.0], epoch=epoch, columns=columns).tolist() == [epoch >= visits]


def test_a_lower_visit_ends_the_streak_and_a_missed_one_does_not():
    policy, columns = Threshold(low=0.1, high=1.0, visits=3), {}
    seen = [2, 2, 0.5, 2, 2, np.nan, None, 2, 0.01, 2, 2, 2]
    outlier = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    found, reason = [], [Reason.KEPT]
    for epoch, score in enumerate(seen, 1):
        shown = inputs(
            [np.nan if score is None else score],
            epoch=epoch,
            fresh=[score is not None],
            reason=reason,
            columns=columns,
        )
        reason = policy.decide(shown)
        found.append(int(reason[0] == Reason.OUTLIER))
    assert found == outlier


def test_one_visit_needs_no_memory():
    columns = {}
    removed(Threshold(high=1.0), [2.0], columns=columns)
    assert not columns


@examples
@given(st.integers(1, 300), st.floats(0, 0.5), st.floats(0.51, 1), st.integers(0, 9))
def test_quantiles_are_shares_of_the_last_scores(n, low, high, seed):
    decided = Threshold(low=low, high=high, quantiles=True).decide(inputs(distinct(n, seed)))
    assert np.count_nonzero(decided == Reason.LEARNED) == min(n - 1, round(low * n))
    assert np.count_nonzero(decided == Reason.OUTLIER) == n - max(1, round(high * n))


@pytest.mark.parametrize("share", [0.1, 0.29, 0.3])
def test_quantiles_on_both_sides_take_as_many(share):
    n = 1000
    decided = Threshold(low=share, high=1 - share, quantiles=True).decide(inputs(distinct(n)))
    assert np.bincount(decided)[1:].tolist() == [round(share * n)] * 2


def test_quantiles_count_the_removed_and_skip_those_without_a_score():
    scores = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, np.nan, np.nan], np.float32)
    fresh = np.arange(12) % 2 == 0
    found = removed(Threshold(low=0.4, quantiles=True), scores, fresh=fresh)
    assert np.flatnonzero(found).tolist() == [0, 2]
    found = removed(Threshold(high=0.6, quantiles=True), scores, fresh=fresh)
    assert np.flatnonzero(found).tolist() == [6, 8]


def test_quantiles_of_equal_scores_remove_nothing():
    assert not removed(Threshold(low=0.3, high=0.7, quantiles=True), np.full(20, 1.5)).any()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, InvalidValue, "needs `low`, `high` or both"),
        ({"low": 2.0, "high": 1.0}, InvalidValue, "`low` must be below `high`. Found low=2.0, high=1.0"),
        ({"low": 1.0, "high": 1.0}, InvalidValue, "`low` must be below `high`"),
        ({"low": float("nan")}, InvalidValue, "`low` must be a finite float32. Found nan"),
        ({"high": float("inf")}, InvalidValue, "`high` must be a finite float32"),
        ({"high": 1e39}, InvalidValue, "`high` must be a finite float32"),
        ({"high": 10**400}, InvalidValue, "`high` must be a finite float32"),
        ({"low": "0.1"}, InvalidType, "`low` must be a number"),
        ({"high": True}, InvalidType, "`high` must be a number"),
        ({"low": "outo"}, InvalidType, "`low` must be a number, \"auto\" or None. Found 'outo'"),
        (
            {"low": 0.1, "high": "none"},
            InvalidType,
            "`high` must be a number, \"auto\" or None. Found 'none'",
        ),
        ({"low": "auto", "quantiles": True}, InvalidValue, "`low` must be a share with quantiles=True"),
        ({"low": 0.1, "high": "auto", "quantiles": True}, InvalidValue, "`high` must be a share"),
        ({"low": 0.1, "high": "auto", "visits": 0}, InvalidValue, "`visits` must be at least 1"),
        ({"high": 1.0, "visits": 0}, InvalidValue, "`visits` must be at least 1"),
        ({"high": 1.0, "visits": 256}, InvalidValue, "`visits` must be at most 255"),
        ({"high": 1.0, "visits": 1.5}, InvalidType, "`visits` must be a whole number"),
        ({"low": 1.5, "quantiles": True}, InvalidValue, r"`low` must be in \[0, 1\]. Found 1.5"),
        ({"high": -0.5, "quantiles": True}, InvalidValue, r"`high` must be in \[0, 1\]"),
    ],
)
def test_wrong_options_of_threshold_raise(options, error, text):
    with pytest.raises(error, match=text):
        Threshold(**options)


def test_thresholds_must_lie_where_scores_can():
    with pytest.raises(
        InvalidValue, match=r"`high` must lie in \[0, 1\], the range of Hellinger\(\)\. Found 3"
    ):
        Threshold(low=0.1, high=3.0).check_range(0.0, 1.0, "Hellinger()")
    with pytest.raises(InvalidValue, match="`low` must lie in"):
        Threshold(low=-1.0).check_range(0.0, float("inf"), "KLDivergence()")
    with pytest.raises(InvalidValue, match=r"`high` must lie in .* Found 3\.0\. Look at the scores"):
        Fraction(0.5, high=3.0).check_range(0.0, 1.0, "Hellinger()")
    Fraction(0.5, high=0.9).check_range(0.0, 1.0, "Hellinger()")
    for policy in (Fraction(0.5, high="auto"), Threshold("auto", "auto"), Threshold(low=0.1, high="auto")):
        policy.check_range(0.0, 1.0, "Hellinger()")
    with pytest.raises(InvalidValue, match="`low` must lie in"):
        Threshold(low=-1.0, high="auto").check_range(0.0, 1.0, "Hellinger()")
    Threshold(low=0.0, high=1.0).check_range(0.0, 1.0, "Hellinger()")
    Threshold(low=0.1, high=0.9, quantiles=True).check_range(5.0, 6.0, "anything")


@every_policy
def test_a_range_without_ends_suits_every_policy_but_error_mass(policy):
    if isinstance(policy, ErrorMass | Watch):
        with pytest.raises(InvalidValue, match="needs scores of at least 0"):
            policy.check_range(float("-inf"), float("inf"), "anything")
        return
    policy.check_range(float("-inf"), float("inf"), "anything")


# BelowMean


@examples
@given(st.integers(1, 200), st.floats(0, 0.99), st.integers(0, 99))
def test_below_mean_leaves_out_its_share_of_those_below(n, share, seed):
    scores = np.random.default_rng(seed).exponential(size=n).astype(np.float32)
    low = scores < np.float32(scores.mean(dtype=np.float64))
    found = removed(BelowMean(share), scores, seed=seed)
    assert not (found & ~low).any()
    assert np.count_nonzero(found) == round(share * np.count_nonzero(low))


@examples
@given(st.integers(1, 200), st.floats(0, 0.99), st.integers(0, 99))
def test_the_weights_of_below_mean_make_up_for_those_left_out(n, share, seed):
    shown = inputs(np.random.default_rng(seed).exponential(size=n), seed=seed)
    reason = BelowMean(share).decide(shown)
    weights = BelowMean(share).weights(shown, reason)
    low = shown.scores < np.float32(shown.scores.mean(dtype=np.float64))
    kept = reason == Reason.KEPT
    assert weights.dtype == np.float32
    assert (weights[~low] == 1).all()
    if (kept & low).any():
        assert weights[kept & low].sum() == pytest.approx(np.count_nonzero(low), rel=1e-5)


def test_samples_given_back_or_removed_by_hand_are_weighed_by_what_is_left():
    shown = inputs([0, 0, 0, 0, 0, 0, 9, 9])
    given_back = np.array([3, 3, 0, 0, 0, 0, 0, 0], np.uint8)
    assert BelowMean(0.5).weights(shown, given_back)[2:].tolist() == [1.5] * 4 + [1, 1]
    by_hand = np.array([4, 4, 3, 3, 0, 0, 0, 4], np.uint8)
    assert BelowMean(0.5).weights(shown, by_hand)[4:7].tolist() == [2, 2, 1]
    assert (BelowMean(0.5).weights(shown, np.zeros(8, np.uint8)) == 1).all()


def test_below_mean_without_weights_gives_none():
    shown = inputs(distinct(10))
    policy = BelowMean(0.5, weighted=False)
    assert policy.weights(shown, policy.decide(shown)) is None


@pytest.mark.parametrize("value", [0.1, 1e-30, 3e38])
def test_equal_scores_are_not_below_their_mean(value):
    assert not removed(BelowMean(0.9), np.full(700_001, value)).any()


def test_the_mean_of_many_scores_does_not_drift():
    scores = np.full(700_001, 3.0, np.float32)
    scores[-1] = 3.5
    assert np.count_nonzero(removed(BelowMean(0.5), scores)) == 350_000


@pytest.mark.parametrize("reason", list(Reason))
def test_reasons_are_shown_in_words(reason):
    words = ["kept", "learned", "outlier", "not drawn", "by hand"]
    assert reason.text == words[reason]
