"""The rules of other papers against plain readings of them, their budgets and their memory."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import Schedule, Subsampler
from fallow.arrays.keyed import mix, uniform
from fallow.errors import InvalidType, InvalidValue
from fallow.policies import IES, UCB, BelowMean, Kakurenbo, OrderDP, Reason, RePB, SeTa, Threshold
from fallow.policies._groups import group_edges
from standings import EPOCHS, distinct, inputs, removed, suited

examples = settings(max_examples=50, deadline=None)
sizes, seeds, shares = st.integers(1, 150), st.integers(0, 99), st.floats(0, 0.95)


def lots_of(n, seed, epoch):
    return uniform(mix(seed, epoch), 0, n)


def losses(n, seed):
    return np.random.default_rng(seed).exponential(size=n).astype(np.float32)


class Run:
    """Epoch after epoch of one policy: what it left out is not scored, unless it measures that."""

    def __init__(self, policy, n, seed=0):
        self.policy, self.n, self.seed, self.epoch = policy, n, seed, 0
        self.columns, self.notes = {}, {}
        self.reason, self.scores = np.zeros(n, np.uint8), np.full(n, np.nan, np.float32)

    def step(self, scores, **more):
        fresh = (self.reason == Reason.KEPT) | self.policy.measures_removed
        self.scores = np.where(fresh, scores, self.scores).astype(np.float32)
        self.epoch += 1
        self.shown = inputs(
            self.scores,
            seed=self.seed,
            epoch=self.epoch,
            fresh=fresh,
            reason=self.reason,
            columns=self.columns,
            notes=self.notes,
            **more,
        )
        self.reason = self.policy.decide(self.shown)
        return self.reason


# What they all do

SMALL = [
    Threshold(low=0.5, high=3.0),
    BelowMean(0.5),
    BelowMean(budget=0.3),
    SeTa(0.2, groups=3),
    SeTa(groups=4, budget=0.4),
    Kakurenbo(0.5, confidence=0.3),
    UCB(0.4),
    RePB(0.5),
    RePB(budget=0.4),
    OrderDP(),
    OrderDP(budget=0.6),
    IES(0.5, window=1),
    IES(window=2, budget=0.3),
]
every_rule = pytest.mark.parametrize("policy", SMALL, ids=repr)


@every_rule
@pytest.mark.parametrize("where", [0, 7, 39])
def test_a_bad_score_decides_as_though_its_sample_were_not_there(policy, where):
    n, others = 40, np.arange(40) != where
    labels = np.arange(n, dtype=np.int32) % 3
    guess = np.where(np.arange(n) % 4 == 0, 0, labels).astype(np.int32)
    whole, alone = {}, {}
    notes = {}, {}
    reason = np.zeros(n, np.uint8)
    for epoch in range(1, 8):
        scores = suited(policy, distinct(n, epoch))
        scores[where] = np.nan
        shown = inputs(
            scores, epoch=epoch, columns=whole, reason=reason, labels=labels, predicted=guess, notes=notes[0]
        )
        fewer = inputs(
            scores[others],
            epoch=epoch,
            columns=alone,
            reason=reason[others],
            labels=labels[others],
            predicted=guess[others],
            notes=notes[1],
        )
        draw = shown.uniform(0, n)[others]
        object.__setattr__(fewer, "uniform", lambda a, b, draw=draw: draw[a:b])
        reason = policy.decide(shown)
        assert np.array_equal(reason[others], policy.decide(fewer))
        assert reason[where] == Reason.KEPT
    assert reason.any()


@every_rule
def test_a_saved_run_goes_on_as_it_was(policy):
    n, labels = 48, torch.arange(48) % 3

    def make():
        return Subsampler(n, policy, Schedule(epochs=9, readmit_at=(6,)), seed=3, labels=labels, min_kept=4)

    def play(sub, epochs, states=None):
        for _ in range(epochs):
            draw = torch.from_numpy(suited(policy, distinct(n, sub.epoch)))
            for at, (index, _) in enumerate(sub.loader(range(n), 8)):
                sub.record(index, draw[index], predicted=labels[index])
                if states is not None and at == 1:
                    states.append(sub.state_dict())
            sub.remeasure(range(n), lambda index, _, draw=draw: (draw[index], labels[index]))
            sub.step()
        return sub

    states = []
    whole = play(make(), 9, states)
    assert any(record.kept < n for record in whole.history)
    for state in states[1::2]:
        again = make()
        again.load_state_dict(state)
        play(again, 9 - again.epoch)
        assert [r.used.tolist() for r in again.history] == [r.used.tolist() for r in whole.history]
        assert [r.notes for r in again.history] == [r.notes for r in whole.history]
        assert torch.equal(again.reason, whole.reason)


@pytest.mark.parametrize("make", [BelowMean, SeTa, RePB, OrderDP, IES])
def test_a_budget_is_a_share(make):
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(InvalidValue, match=r"`budget` must be in \[0, 1\)\..* its own parameter"):
            make(budget=share)
    with pytest.raises(InvalidType, match="`budget`"):
        make(budget="0.3")


@pytest.mark.parametrize("policy", [SeTa(budget=0.3), OrderDP(budget=0.3), UCB(0.3)], ids=repr)
@examples
@given(sizes, seeds, st.integers(0, 20))
def test_an_exact_budget_holds_in_every_epoch(policy, n, seed, unscored):
    run = Run(policy, n, seed)
    for epoch in range(1, 5):
        scores = losses(n, seed + epoch) ** 4
        scores[: min(unscored, n)] = np.nan
        out = run.step(scores)
        scored = n - min(unscored, n)
        assert np.count_nonzero(out) == min(round(0.3 * scored), max(0, scored - 1))
        assert policy.kept_count(scored) == scored - np.count_nonzero(out)


@examples
@given(sizes, seeds, shares)
def test_a_budget_of_below_mean_is_exact_up_to_nine_tenths_of_those_below(n, seed, share):
    scores = losses(n, seed)
    low = scores < np.float32(scores.mean(dtype=np.float64))
    out = removed(BelowMean(budget=share), scores, seed=seed)
    assert not (out & ~low).any()
    assert np.count_nonzero(out) == min(round(share * n), max(0, n - 1), int(0.9 * low.sum()))


# SeTa


def optimum(values, groups):
    """Return the least sum of squares to the group means, over all ways to cut the sorted values."""
    values = np.sort(values.astype(float))
    n = len(values)

    def spread(a, b):
        return float(((values[a:b] - values[a:b].mean()) ** 2).sum())

    best = [spread(0, b) for b in range(1, n + 1)]
    for _ in range(groups - 1):
        best = [
            min([best[b - 1]] + [best[a - 1] + spread(a, b) for a in range(1, b)]) for b in range(1, n + 1)
        ]
    return best[-1]


def within(values, edges):
    group = np.searchsorted(edges, values, side="right")
    return sum(
        float(((values[group == g].astype(float) - values[group == g].astype(float).mean()) ** 2).sum())
        for g in range(len(edges) + 1)
    )


@pytest.mark.parametrize("shape", ["exponential", "lognormal", "uniform"])
@pytest.mark.parametrize("groups", [2, 4])
def test_groups_come_near_the_best_there_are(shape, groups):
    values = getattr(np.random.default_rng(1), shape)(size=45).astype(np.float32)
    edges = group_edges(values, groups)
    assert len(edges) == groups - 1
    assert within(values, edges) <= 1.2 * optimum(values, groups)


@examples
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=80), st.integers(1, 8))
def test_groups_are_stretches_around_their_own_means(values, groups):
    values = np.asarray(values, np.float32)
    edges = group_edges(values, groups)
    group = np.searchsorted(edges, values, side="right")
    assert set(group.tolist()) == set(range(len(edges) + 1))
    assert len(edges) < min(groups, len(set(values.tolist()))) + (values.size == 0)
    means = [values[group == g].astype(float).mean() for g in range(len(edges) + 1)]
    own = np.abs(values - np.asarray(means)[group])
    nearest = np.abs(values[:, None] - np.asarray(means)).min(axis=1)
    assert (own <= nearest + 1e-4 * np.abs(values).max()).all()


@pytest.mark.parametrize("value", [0.0, 2.5, 3e38])
def test_equal_scores_are_one_group_and_stay(value):
    assert group_edges(np.full(9, value, np.float32), 4).size == 0
    assert not removed(SeTa(0, groups=4), np.full(9, value)).any()


def blobs(n, groups, seed):
    """Return scores in groups that nobody could part otherwise, and which group each belongs to."""
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), rng.integers(groups, size=n - groups)])
    rng.shuffle(group)
    return (10 * group + rng.random(n)).astype(np.float32), group


@pytest.mark.parametrize(("groups", "window"), [(10, 0.5), (5, 0.3), (4, 1.0), (3, 0.1)])
def test_seta_keeps_the_drawn_samples_inside_its_window(groups, window):
    n, policy, columns, notes = 400, SeTa(0.1, groups=groups, window=window), {}, {}
    width = max(1, round(groups * window))
    starts = set()
    for epoch in range(3, 3 + 2 * groups):
        scores, group = blobs(n, groups, epoch)
        out = policy.decide(inputs(scores, epoch=epoch, columns=columns, notes=notes)) != Reason.KEPT
        drawn = np.argsort(np.argsort(lots_of(n, 0, epoch))) < n - round(0.1 * n)
        start = (epoch - 3) % (groups - width + 1)
        starts.add(start)
        assert np.array_equal(~out, drawn & (group >= start) & (group < start + width))
    assert starts == set(range(groups - width + 1))


@pytest.mark.parametrize("budget", [0.2, 0.5, 0.9])
def test_a_budget_of_seta_fills_up_from_the_groups_next_to_the_window(budget):
    n, columns, notes = 300, {}, {}
    nearest = [[(0, 1, 2), 3, 4, 5], [(1, 2, 3), 0, 4, 5], [(2, 3, 4), 1, 5, 0], [(3, 4, 5), 2, 1, 0]]
    for epoch in range(1, 6):
        scores, group = blobs(n, 6, epoch)
        shown = inputs(scores, epoch=epoch, columns=columns, notes=notes)
        kept = SeTa(groups=6, budget=budget).decide(shown) == Reason.KEPT
        left = n - round(budget * n)
        for near in nearest[(epoch - 1) % 4]:
            here = np.isin(group, near)
            assert np.count_nonzero(kept & here) == min(left, np.count_nonzero(here))
            left -= min(left, np.count_nonzero(here))
        assert left == 0


def test_seta_draws_at_random_in_its_last_epochs():
    scores, _ = blobs(200, 10, 0)
    policy = SeTa(0.3, annealing=0.25)
    for epoch in (EPOCHS - 10, EPOCHS - 1):
        out = removed(policy, scores, epoch=epoch)
        assert np.array_equal(out, np.argsort(np.argsort(lots_of(200, 0, epoch))) >= 140)
    assert np.count_nonzero(removed(policy, scores, epoch=EPOCHS - 11)) > 80


# Kakurenbo


@examples
@given(sizes, seeds, shares, st.floats(0, 1), st.integers(1, EPOCHS - 1))
def test_kakurenbo_hides_the_lowest_that_are_surely_right(n, seed, share, confidence, epoch):
    rng = np.random.default_rng(seed)
    scores = rng.permutation(np.geomspace(1e-3, 3, n)).astype(np.float32)
    labels = rng.integers(3, size=n).astype(np.int32)
    predicted = rng.integers(-1, 3, size=n).astype(np.int32)
    out = removed(Kakurenbo(share, confidence), scores, epoch=epoch, labels=labels, predicted=predicted)
    largest = share * (1 if epoch < 12 else 0.8 if epoch < 24 else 0.6 if epoch < 32 else 0.4)
    lowest = sorted(range(n), key=lambda i: scores[i])[: min(round(largest * n), n - 1)]
    hidden = [i for i in lowest if predicted[i] == labels[i] and math.exp(-scores[i]) >= confidence]
    assert np.flatnonzero(out).tolist() == sorted(hidden)


def test_kakurenbo_says_what_it_needs():
    with pytest.raises(InvalidValue, match=r"needs `labels`.*Found none\. Pass `labels=`"):
        removed(Kakurenbo(), distinct(9), labels=None)
    with pytest.raises(InvalidValue, match=r"needs `predicted`.*Found none\. Pass `predicted=logits"):
        removed(Kakurenbo(), distinct(9), predicted=None)
    with pytest.raises(InvalidValue, match=r"-log p of the label\. Found Hellinger\(\) in \[0, 1\]"):
        Kakurenbo().check_range(0.0, 1.0, "Hellinger()")
    Kakurenbo().check_range(0.0, math.inf, "KLDivergence()")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"confidence": 1.1}, InvalidValue, "`confidence`"),
        ({"steps": (0.5, 0.3)}, InvalidValue, "`steps` must be at most 3 ascending shares"),
        ({"steps": (0.1, 0.2, 0.3, 0.4)}, InvalidValue, "`steps` must be at most 3 ascending shares"),
        ({"steps": 0.3}, InvalidType, "`steps` must list shares"),
        ({"steps": (1.5,)}, InvalidValue, "`steps`"),
    ],
)
def test_wrong_options_of_kakurenbo_raise(options, error, text):
    with pytest.raises(error, match=text):
        Kakurenbo(**options)


# UCB


@examples
@given(st.integers(2, 60), seeds, shares, st.floats(0, 0.9), st.floats(0, 3))
def test_ucb_keeps_the_highest_bounds(n, seed, share, smoothing, exploration):
    run = Run(UCB(share, smoothing, exploration), n, seed)
    mean, visits = [0.0] * n, [0] * n
    for epoch in range(1, 6):
        scores, seen = losses(n, 100 * seed + epoch), run.reason == Reason.KEPT
        out = run.step(scores)
        for i in np.flatnonzero(seen):
            mean[i] = smoothing * mean[i] + (1 - smoothing) * scores[i] if visits[i] else float(scores[i])
            visits[i] += 1
        bound = [m + exploration * math.sqrt(math.log(epoch) / v) for m, v in zip(mean, visits, strict=True)]
        count = min(round(share * n), n - 1)
        assert np.count_nonzero(out) == count
        if 0 < count < n:
            left = max(bound[i] for i in np.flatnonzero(out))
            assert left <= min(bound[i] for i in np.flatnonzero(out == 0)) + 1e-4


@pytest.mark.parametrize("exploration", [-1, math.inf, math.nan])
def test_an_exploration_that_is_no_amount_raises(exploration):
    with pytest.raises(InvalidValue, match="`exploration` must be a number of at least 0"):
        UCB(0.3, exploration=exploration)
    with pytest.raises(InvalidType, match="`exploration` must be a number"):
        UCB(0.3, exploration="1")


# RePB


@examples
@given(sizes, seeds, st.floats(0, 0.95))
def test_repb_draws_for_those_below_their_batch_and_those_that_sat_out(n, seed, rho):
    rng, run = np.random.default_rng(seed), Run(RePB(rho, clip=None), n, seed)
    used, out = [0] * n, [False] * n
    for epoch in range(1, 8):
        scores = rng.normal(size=n).astype(np.float32)
        used = [u + (not o) for u, o in zip(used, out, strict=True)]
        lot = lots_of(n, seed, epoch)
        out = [bool(lot[i] <= np.float32(rho) and (out[i] or scores[i] < 0)) for i in range(n)]
        reason = run.step(scores)
        assert (reason != Reason.KEPT).tolist() == out
        weights = run.policy.weights(run.shown, reason)
        np.testing.assert_allclose(weights, [epoch / u for u in used], rtol=1e-6)


@examples
@given(sizes, seeds, shares)
def test_a_budget_of_repb_is_drawn_from_all_that_may_sit_out(n, seed, share):
    rng, run = np.random.default_rng(seed), Run(RePB(budget=share), n, seed)
    out = np.zeros(n, np.bool_)
    for _ in range(6):
        scores = rng.normal(size=n).astype(np.float32)
        may = out | (scores < 0)
        out = run.step(scores) != Reason.KEPT
        assert not (out & ~may).any()
        assert np.count_nonzero(out) == min(round(share * n), max(0, n - 1), int(0.9 * may.sum()))


def test_weights_of_repb_end_at_the_clip_and_count_each_sample_once_otherwise():
    run, wide = Run(RePB(0.7, clip=2.0), 500), Run(RePB(0.7, clip=None), 500)
    scores = np.full(500, -1.0)
    for _ in range(12):
        clipped = run.policy.weights(run.shown, run.reason) if run.epoch else None
        run.step(scores), wide.step(scores)
    clipped = run.policy.weights(run.shown, run.reason)
    free = wide.policy.weights(wide.shown, wide.reason)
    assert free.max() > 4
    assert clipped.max() == 2
    np.testing.assert_allclose(clipped, np.minimum(free, 2))
    assert RePB(0.7, weighted=False).weights(run.shown, run.reason) is None


def test_a_score_of_exactly_0_is_not_below_its_batch():
    assert not removed(RePB(0.99), np.zeros(50)).any()
    assert not removed(RePB(budget=0.9), np.zeros(50)).any()


def test_repb_judges_fresh_scores_only():
    out = removed(RePB(0.999), [-1.0] * 40, fresh=np.arange(40) < 20)
    assert out[:20].all()
    assert not out[20:].any()


def test_repb_asks_for_scores_relative_to_their_batch():
    with pytest.raises(InvalidValue, match=r"Found KLDivergence\(\) in \[0, inf\]\. Record `RelativeToBatch"):
        RePB().check_range(0.0, math.inf, "KLDivergence()")
    sub = Subsampler(4, RePB(), Schedule(epochs=3))
    sub.record(torch.arange(4), torch.rand(4))
    with pytest.raises(InvalidValue, match="Found the recorded scores"):
        sub.step()


@pytest.mark.parametrize(
    ("clip", "error"), [(0.5, InvalidValue), (math.inf, InvalidValue), ("2", InvalidType)]
)
def test_a_clip_that_is_no_weight_raises(clip, error):
    with pytest.raises(error, match="`clip` must be"):
        RePB(clip=clip)


# OrderDP


@examples
@given(sizes, seeds, st.floats(0.01, 1), st.floats(0.01, 1))
def test_order_dp_keeps_the_highest_of_its_pool(n, seed, pool, keep):
    scores = distinct(n, seed)
    kept = ~removed(OrderDP(pool, keep), scores, seed=seed)
    drawn = sorted(range(n), key=lambda i: lots_of(n, seed, 1)[i])[: max(1, round(pool * n))]
    best = sorted(drawn, key=lambda i: -scores[i])[: max(1, round(keep * len(drawn)))]
    assert np.flatnonzero(kept).tolist() == sorted(best)


def test_a_budget_of_order_dp_widens_a_pool_that_is_too_small():
    scores = distinct(100)
    assert np.count_nonzero(~removed(OrderDP(pool=0.2, budget=0.5), scores)) == 50
    random = np.argsort(np.argsort(lots_of(100, 0, 1))) < 50
    assert np.array_equal(~removed(OrderDP(pool=0.2, budget=0.5), scores), random)


@pytest.mark.parametrize("name", ["pool", "keep"])
def test_a_part_of_nothing_raises(name):
    with pytest.raises(InvalidValue, match=f"`{name}` must be above 0"):
        OrderDP(**{name: 0})
    with pytest.raises(InvalidValue, match=f"`{name}` must be in"):
        OrderDP(**{name: 1.5})


# IES


def averages(history, window):
    """Return the mean of the last absolute second differences, or None where there are not enough."""
    second = [abs(c - 2 * b + a) for (a, b), (_, c) in pairwise(pairwise(history))]
    return sum(second[-window:]) / window if len(second) >= window else None


@examples
@given(st.integers(1, 40), seeds, st.integers(1, 5), st.sampled_from([0.05, 0.3, 1.0]))
def test_ies_leaves_out_what_runs_straight_on_and_takes_it_back(n, seed, window, threshold):
    rng, run = np.random.default_rng(seed), Run(IES(threshold, window), n, seed)
    history = [[] for _ in range(n)]
    for _ in range(10):
        scores = (rng.random(n) * rng.choice([0.01, 1.0], n)).astype(np.float32)
        out = run.step(scores) != Reason.KEPT
        for i in range(n):
            history[i].append(float(scores[i]))
            mean = averages(history[i], window)
            if mean is None:
                assert not out[i]
            elif abs(mean - threshold) > 1e-5:
                assert out[i] == (mean < threshold)


@examples
@given(st.integers(1, 60), seeds, st.integers(1, 4), shares)
def test_a_budget_of_ies_leaves_out_the_straightest(n, seed, window, share):
    rng, run = np.random.default_rng(seed), Run(IES(window=window, budget=share), n, seed)
    history = [[] for _ in range(n)]
    for epoch in range(1, 9):
        scores = rng.random(n).astype(np.float32)
        out = run.step(scores) != Reason.KEPT
        for i in range(n):
            history[i].append(float(scores[i]))
        count = 0 if epoch < window + 2 else min(round(share * n), n - 1)
        assert np.count_nonzero(out) == count
        if 0 < count < n:
            mean = np.array([averages(row, window) for row in history])
            assert mean[out].max() <= mean[~out].min() + 1e-5


def test_a_bad_score_begins_the_history_anew():
    run = Run(IES(0.1, window=1), 1)
    out = [bool(run.step(np.array([score])).any()) for score in (1, 1, 1, 1, np.nan, 1, 1, 1)]
    assert out == [False, False, True, True, False, False, False, True]


def test_ies_does_not_move_on_what_was_not_measured():
    policy, columns = IES(0.1, window=1), {}
    for epoch in (1, 2, 3):
        policy.decide(inputs([1.0], epoch=epoch, columns=columns))
    before = {name: column.copy() for name, column in columns.items()}
    assert removed(policy, [1.0], epoch=4, columns=columns, fresh=[False]).all()
    assert all(np.array_equal(before[name], columns[name]) for name in columns)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"threshold": 0}, InvalidValue, "`threshold` must be positive"),
        ({"threshold": math.nan}, InvalidValue, "`threshold` must be positive"),
        ({"threshold": "1"}, InvalidType, "`threshold` must be a number"),
        ({"window": 0}, InvalidValue, "`window` must be at least 1"),
        ({"window": 17}, InvalidValue, "`window` must be at most 16"),
    ],
)
def test_wrong_options_of_ies_raise(options, error, text):
    with pytest.raises(error, match=text):
        IES(**options)


def test_kakurenbo_without_labels_is_refused_before_the_first_epoch():
    with pytest.raises(InvalidValue, match="Kakurenbo needs `labels`"):
        Subsampler(9, Kakurenbo(), Schedule(epochs=2))
    Subsampler(9, Kakurenbo(), Schedule(epochs=2), labels=np.zeros(9, np.int64))


@pytest.mark.parametrize(
    ("policy", "weighs"),
    [(BelowMean(), True), (BelowMean(weighted=False), False), (RePB(), True), (UCB(0.3), False)],
    ids=repr,
)
def test_policies_say_whether_they_weigh(policy, weighs):
    assert policy.weighs is weighs
