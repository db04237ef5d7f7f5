"""From the scores of one epoch to the samples of the next: trust, re-admission, floors."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import Subsampler
from fallow.core.plan import Floors, apply_floors, due, plan_epoch, planned_counts, readmit
from fallow.core.schedule import Schedule
from fallow.core.state import opened
from fallow.core.table import MEASURED, PREDICTED, Table
from fallow.errors import InvalidValue, WrongState
from fallow.policies import BelowMean, Fraction, Policy, RandomFraction, Reason, Threshold

KEPT, LEARNED, OUTLIER, NOT_DRAWN, BY_HAND = Reason
examples = settings(max_examples=60, deadline=None)
NONE = Floors()


def table_of(scores, *, epoch=0, reason=None, kind=1):
    """Return a table that saw ``scores`` in ``epoch``; None is a sample that was not recorded."""
    table = Table(len(scores))
    if reason is not None:
        table.reason[:] = reason
    index = np.array([i for i, score in enumerate(scores) if score is not None], np.int64)
    table.write(index, np.float32([scores[i] for i in index]), epoch, kind)
    table.average_repeats()
    return table


def planned(table, policy, schedule=None, floors=NONE, *, epoch=1, seed=0):
    schedule = schedule or Schedule(epochs=100)
    reason, plan = plan_epoch(table, policy, schedule, floors, epoch, seed)
    assert np.array_equal(plan.kept.mask(), reason == KEPT)
    assert plan.epoch == epoch
    return reason.tolist(), plan


@dataclass(frozen=True)
class Says(Policy):
    """A policy that returns what it was given."""

    answer: object
    name = "says"

    def decide(self, inputs):
        return inputs.reason if self.answer is None else self.answer


# What is trusted


def test_a_warm_up_epoch_is_full_but_for_the_samples_removed_by_hand():
    table = table_of([0, 0, 9, 9], reason=[LEARNED, BY_HAND, OUTLIER, KEPT])
    reason, plan = planned(table, Threshold(low=1, high=2), Schedule(epochs=9, warmup=3), epoch=2)
    assert reason == [KEPT, BY_HAND, KEPT, KEPT]
    assert plan.readmitted == 2
    assert plan.weights is None


def test_the_table_stays_as_it_is():
    table = table_of([0.0, 5.0, 9.0], reason=[KEPT, LEARNED, KEPT])
    for policy in (Threshold(low=1, high=8), Says(None), Fraction(0.5)):
        planned(table, policy, Schedule(epochs=9, readmit_every=1), epoch=1)
        assert table.reason.tolist() == [KEPT, LEARNED, KEPT]
        assert table.scores.tolist() == [0.0, 5.0, 9.0]


@pytest.mark.parametrize(
    "policy", [Threshold(low=1), Fraction(0.5), RandomFraction(0.5), BelowMean(0.9)], ids=repr
)
def test_by_hand_stands_whatever_the_policy_says(policy):
    table = table_of([5.0, 0.0, 5.0, 0.0], reason=[BY_HAND, BY_HAND, KEPT, KEPT])
    for schedule in (
        Schedule(epochs=9),
        Schedule(epochs=9, readmit_every=1),
        Schedule(epochs=9, full_tail=1),
    ):
        assert planned(table, policy, schedule)[0][:2] == [BY_HAND, BY_HAND]


class Watch(RandomFraction):
    """Keeps what it is shown, and notes the epoch."""

    def decide(self, inputs):
        object.__setattr__(self, "shown", inputs)
        inputs.notes["planned"] = float(inputs.epoch)
        return np.zeros(len(inputs), np.uint8)


def test_what_a_policy_is_shown():
    table, policy, labels = table_of([1.0, 2.0, None]), Watch(0.5), np.int32([2, 0, 1])
    planned(table, policy, Schedule(epochs=9), Floors(labels))
    shown = policy.shown
    assert (shown.epoch, shown.epochs, len(shown)) == (1, 9, 3)
    assert shown.labels is labels
    assert shown.predicted is None
    assert shown.fresh.tolist() == [True, True, False]
    assert shown.notes is table.notes
    table.column(PREDICTED, np.int32)[:2] = [3, 1]
    planned(table, policy)
    assert policy.shown.predicted.tolist() == [2, 0, -1]
    assert policy.shown.labels is None


def test_a_plan_keeps_the_notes_of_its_own_epoch():
    table, policy = table_of([1.0, 2.0]), Watch(0.5)
    plans = [planned(table, policy, epoch=epoch)[1] for epoch in (1, 2, 3)]
    assert [plan.notes for plan in plans] == [{"planned": 1.0}, {"planned": 2.0}, {"planned": 3.0}]
    assert planned(table, policy, Schedule(epochs=9, warmup=5), epoch=4)[1].notes == {"planned": 3.0}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("policy", [Threshold(low=1), Fraction(0.5), BelowMean(0.9)], ids=repr)
def test_above_a_share_of_bad_scores_nothing_is_removed(policy, bad):
    scores = [0.0] * 50 + [5.0] * 44 + [bad] * 6
    reason = np.full(100, KEPT, np.uint8)
    reason[[0, 60, 61]] = LEARNED, OUTLIER, BY_HAND
    table = table_of(scores, reason=reason)
    with pytest.warns(
        RuntimeWarning, match=r"6 of 100 scores of epoch 1 of .* are not finite, more than 5%: nothing"
    ):
        found, plan = planned(table, policy)
    assert [i for i, r in enumerate(found) if r != KEPT] == [60, 61]
    assert plan.weights is None or (plan.weights == 1).all()


def test_the_share_is_of_the_samples_recorded():
    table = table_of([0.0] * 20 + [5.0] * 17 + [np.nan] * 3 + [None] * 60)
    with pytest.warns(RuntimeWarning, match="3 of 40 scores"):
        assert planned(table, Threshold(low=1))[0] == [KEPT] * 100


def test_up_to_that_share_only_the_bad_are_kept():
    table = table_of([0.0] * 50 + [5.0] * 45 + [np.nan] * 5)
    assert planned(table, Threshold(low=1))[0] == [LEARNED] * 50 + [KEPT] * 50


def test_bad_scores_of_an_earlier_epoch_do_not_count():
    table = table_of([np.nan] * 5 + [0.0] * 5)
    table.begin_epoch()
    table.write(np.arange(3, 10), np.float32([0] + [5] * 6), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert planned(table, Threshold(low=1), epoch=2)[0] == [KEPT] * 3 + [LEARNED] + [KEPT] * 6


def test_only_scores_of_the_epoch_that_ended_are_judged():
    table = table_of([0.0, 0.0, 9.0])
    table.begin_epoch()
    table.write(np.array([1, 2]), np.float32([0, 9]), 1)
    assert planned(table, Threshold(low=1), Schedule(epochs=9, warmup=2), epoch=2)[0] == [KEPT, LEARNED, KEPT]


def test_the_first_decision_must_keep_a_sample():
    table = table_of([0.1, 0.2, 0.3])
    with pytest.raises(
        InvalidValue, match=r"at least one sample.*none of 3 kept by Threshold.*from 0\.1 to 0\.3"
    ):
        planned(table, Threshold(low=1))
    assert table.reason.tolist() == [KEPT] * 3
    with pytest.raises(InvalidValue, match="first decision"):
        planned(table_of([0.1] * 3, epoch=3), Threshold(low=1), Schedule(epochs=9, warmup=4), epoch=4)


def test_a_later_decision_keeps_the_floor_instead():
    table = table_of([0.1, 0.3, 0.2], epoch=1)
    assert planned(table, Threshold(low=1), epoch=2)[0] == [LEARNED, KEPT, LEARNED]
    asked = planned(table_of([0.1, 0.3, 0.2]), Threshold(low=1), floors=Floors(kept=2))
    assert asked[0] == [LEARNED, KEPT, KEPT]


@pytest.mark.parametrize(
    "answer",
    [
        np.zeros(4, np.uint8),
        np.zeros(3, np.int64),
        np.zeros((3, 1), np.uint8),
        np.zeros(3, bool),
        [0, 0, 0],
        0,
    ],
)
def test_a_policy_that_answers_in_another_form_raises(answer):
    policy = Says(answer)
    with pytest.raises(
        InvalidValue, match=r"A policy must return uint8 of shape \(3,\)\. Found .* from Says"
    ):
        planned(table_of([1.0, 2.0, 3.0]), policy)


@pytest.mark.parametrize("epochs", [10, 90])
def test_full_epochs_weigh_every_sample_alike(epochs):
    policy = BelowMean(0.5)
    schedule = Schedule(epochs=epochs, warmup=2, readmit_at=(5,), full_tail=0.125)
    scores = [0.0] * 8 + [9.0] * 8
    for epoch in range(1, epochs):
        reason, plan = planned(table_of(scores, epoch=epoch - 1), policy, schedule, epoch=epoch)
        full = epoch < 2 or epoch == 5 or schedule.in_tail(epoch)
        assert (plan.weights is None) == full
        assert (reason == [KEPT] * 16) == full
    assert schedule.in_tail(epochs - 1)


@pytest.mark.parametrize(
    ("schedule", "floors"),
    [
        (Schedule(epochs=9), NONE),
        (Schedule(epochs=9, readmit_every=2, stagger=True), NONE),
        (Schedule(epochs=9), Floors(kept=900)),
        (Schedule(epochs=9), Floors(multiple=128)),
        (Schedule(epochs=9), Floors(np.arange(1000, dtype=np.int32) % 10, per_class=85)),
    ],
)
def test_the_weights_make_up_for_what_is_really_left_out(schedule, floors):
    scores = np.random.default_rng(0).exponential(size=1000).astype(np.float32)
    reason, plan = planned(table_of(scores), BelowMean(0.5), schedule, floors)
    kept = np.array(reason) == KEPT
    assert kept.sum() < 1000
    assert plan.weights[kept].sum() == pytest.approx(1000, rel=1e-5)


# What comes back


def reasons(*held):
    return np.array(held, np.uint8)


ALL = (KEPT, LEARNED, OUTLIER, NOT_DRAWN, BY_HAND)


@pytest.mark.parametrize("outliers", ["remeasure", "readmit", "never"])
def test_readmission_gives_back_by_reason(outliers):
    back = KEPT if outliers == "readmit" else OUTLIER
    for schedule, epoch in (
        (Schedule(epochs=9, readmit_every=3, outliers=outliers), 6),
        (Schedule(epochs=9, readmit_at=(6,), outliers=outliers), 6),
    ):
        reason = reasons(*ALL)
        readmit(reason, schedule, epoch, seed=0)
        assert reason.tolist() == [KEPT, KEPT, back, KEPT, BY_HAND]
        reason = reasons(*ALL)
        readmit(reason, schedule, epoch - 1, seed=0)
        assert reason.tolist() == list(ALL)


@pytest.mark.parametrize("outliers", ["remeasure", "readmit", "never"])
def test_in_the_tail_all_learned_samples_train_and_outliers_do_not(outliers):
    reason = reasons(*ALL)
    readmit(reason, Schedule(epochs=10, full_tail=0.2, outliers=outliers), 8, seed=0)
    assert reason.tolist() == [KEPT, KEPT, OUTLIER, KEPT, BY_HAND]


@pytest.mark.parametrize("k", [2, 3, 5])
def test_with_stagger_each_removed_sample_waits_at_most_k_epochs(k):
    n, schedule = 500, Schedule(epochs=40, readmit_every=k, stagger=True)
    used = np.zeros((40, n), bool)
    table, everyone = Table(n), np.arange(n)
    used[0] = True
    for epoch in range(1, 40):
        kept = np.flatnonzero(table.reason == KEPT)
        table.write(kept, np.where(everyone[kept] < 450, 0, 9).astype(np.float32), epoch - 1)
        table.reason, plan = plan_epoch(table, Threshold(low=1), schedule, NONE, epoch, seed=3)
        table.begin_epoch()
        used[epoch] = plan.kept.mask()
    assert used[:, 450:].all()
    for first in range(1, 40 - k + 1):
        assert used[first : first + k].any(axis=0).all()
    share = used[1:, :450].mean(axis=1)
    assert np.abs(share - 1 / k).max() < 5 * np.sqrt(1 / k / 450)


def test_readmitted_counts_those_that_were_left_out_before():
    table = table_of([0.0, 9.0, None, None], reason=[KEPT, KEPT, LEARNED, OUTLIER])
    _, plan = planned(table, Threshold(low=1, high=20), Schedule(epochs=9, readmit_every=2), epoch=2)
    assert plan.readmitted == 1
    assert planned(table, Threshold(low=1, high=20))[1].readmitted == 0


def test_outliers_are_due_when_the_others_come_back():
    table = table_of([None] * 5, reason=ALL)
    schedule = Schedule(epochs=9, readmit_every=3)
    assert [due(table, RandomFraction(0), schedule, epoch, 0).tolist() for epoch in range(11)] == [
        [2] if epoch in (3, 6) else [] for epoch in range(11)
    ]
    assert due(table, RandomFraction(0), schedule, 3, 0).dtype == np.int64
    for other in ("readmit", "never"):
        assert not due(
            table, RandomFraction(0), Schedule(epochs=9, readmit_every=3, outliers=other), 3, 0
        ).size


def test_outliers_can_be_measured_at_times_of_their_own():
    table = table_of([None] * 5, reason=ALL)
    schedule = Schedule(epochs=9, readmit_every=3, remeasure_every=4)
    found = [due(table, RandomFraction(0), schedule, epoch, 0).tolist() for epoch in range(11)]
    assert found == [[2] if epoch in (4, 8) else [] for epoch in range(11)]


def test_a_policy_can_ask_for_all_removed_samples():
    class Nosy(RandomFraction):
        measures_removed = True

    table = table_of([None] * 5, reason=ALL)
    schedule = Schedule(epochs=9, warmup=2, readmit_every=3)
    found = [due(table, Nosy(0.5), schedule, epoch, 0).tolist() for epoch in (1, 2, 3, 9)]
    assert found == [[], [1, 2, 3], [1, 2, 3], []]


def test_with_stagger_a_part_of_the_outliers_is_due_each_epoch():
    table = table_of([None] * 400, reason=[OUTLIER] * 400)
    schedule = Schedule(epochs=9, readmit_every=4, stagger=True)
    parts = [due(table, RandomFraction(0), schedule, epoch, 0) for epoch in range(1, 5)]
    assert all(part.size for part in parts)
    assert np.sort(np.concatenate(parts)).tolist() == list(range(400))
    assert all((np.diff(part) > 0).all() for part in parts)


@pytest.mark.parametrize(("measured", "expected"), [(0.5, LEARNED), (1.5, KEPT), (5.0, OUTLIER)])
def test_a_measured_outlier_comes_back_by_what_was_measured(measured, expected):
    table = table_of([1.5, 1.5, None], reason=[KEPT, KEPT, OUTLIER])
    table.write(np.array([2]), np.float32([measured]), 0, MEASURED)
    assert planned(table, Threshold(low=1, high=2), Schedule(epochs=9))[0] == [KEPT, KEPT, expected]


def test_an_outlier_that_was_not_measured_stays_out_unless_it_is_readmitted():
    for outliers, expected in (("remeasure", OUTLIER), ("never", OUTLIER), ("readmit", KEPT)):
        table = table_of([1.5, 1.5, None], reason=[KEPT, KEPT, OUTLIER])
        schedule = Schedule(epochs=9, readmit_every=2, outliers=outliers)
        assert planned(table, Threshold(low=1, high=2), schedule, epoch=2)[0][2] == expected


# Floors


def test_min_kept_takes_the_highest_learned_then_the_lowest_outliers():
    scores = np.float32([0.1, 0.3, 0.2, 9.0, 7.0, 8.0, 0.0])
    held = (LEARNED, NOT_DRAWN, LEARNED, OUTLIER, OUTLIER, OUTLIER, BY_HAND)
    back = []
    for floor in range(8):
        reason = reasons(*held)
        apply_floors(reason, scores, Floors(kept=floor))
        back.append(np.flatnonzero(reason == KEPT).tolist())
    assert back == [
        [],
        [1],
        [1, 2],
        [0, 1, 2],
        [0, 1, 2, 4],
        [0, 1, 2, 4, 5],
        [0, 1, 2, 3, 4, 5],
        [0, 1, 2, 3, 4, 5],
    ]


@pytest.mark.parametrize(("multiple", "expected"), [(1, 3), (2, 4), (3, 3), (4, 4), (5, 5), (7, 6)])
def test_a_multiple_is_filled_with_learned_samples_only(multiple, expected):
    scores = np.float32([9, 9, 9, 0.1, 0.3, 0.2, 5.0, 5.0])
    reason = reasons(KEPT, KEPT, KEPT, LEARNED, LEARNED, LEARNED, OUTLIER, BY_HAND)
    apply_floors(reason, scores, Floors(multiple=multiple))
    assert np.count_nonzero(reason == KEPT) == expected
    assert reason[6:].tolist() == [OUTLIER, BY_HAND]
    if expected > 3:
        assert reason[4] == KEPT


@examples
@given(st.integers(1, 60), st.integers(0, 70), st.integers(1, 9), st.integers(0, 12), st.integers(0, 99))
def test_floors_hold_and_give_back_no_more_than_needed(n, kept, multiple, per_class, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n).astype(np.int32)
    scores = rng.exponential(size=n).astype(np.float32)
    before = rng.integers(0, 5, n).astype(np.uint8)
    reason = before.copy()
    apply_floors(reason, scores, Floors(labels, kept, per_class, multiple))
    back = reason != before
    assert (reason[back] == KEPT).all()
    assert (before[back] != BY_HAND).all()
    free = before != BY_HAND
    for c in range(4):
        mine = labels == c
        had = np.count_nonzero(before[mine] == KEPT)
        now = np.count_nonzero(reason[mine] == KEPT)
        assert now >= min(per_class, np.count_nonzero(free & mine))
        if kept <= 1 and multiple == 1 and np.count_nonzero(before == KEPT) >= 1:
            assert now == max(had, min(per_class, np.count_nonzero(free & mine)))
        for side, sign in ((before == LEARNED) | (before == NOT_DRAWN), -1), (before == OUTLIER, 1):
            returned, left = scores[back & mine & side], scores[~back & mine & side]
            assert not returned.size or not left.size or (sign * returned).max() <= (sign * left).min()
    total = np.count_nonzero(reason == KEPT)
    assert total >= min(kept, np.count_nonzero(free))
    learned_left = np.isin(reason, (LEARNED, NOT_DRAWN)).any()
    assert total % multiple == 0 or not learned_left


def test_a_class_takes_back_its_learned_before_its_outliers():
    reason = reasons(LEARNED, OUTLIER, LEARNED, OUTLIER)
    apply_floors(
        reason, np.float32([-1.0, 0.5, -2.0, 0.1]), Floors(np.zeros(4, np.int32), kept=0, per_class=3)
    )
    assert reason.tolist() == [KEPT, OUTLIER, KEPT, KEPT]


def test_class_floors_hold_through_the_plan():
    scores = [0.1, 0.3, 0.2, 9.0, 8.0, 7.0, 1.5, 0.0]
    labels = np.int32([0, 0, 0, 5, 5, 5, 7, 9])
    reason, _ = planned(table_of(scores), Threshold(low=1, high=2), floors=Floors(labels, per_class=2))
    assert reason == [LEARNED, KEPT, KEPT, OUTLIER, KEPT, KEPT, KEPT, KEPT]


# What is known beforehand


@pytest.mark.parametrize("policy", [Fraction(0.3), Fraction(0.3, exponent=1), RandomFraction(0.3)], ids=repr)
@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(epochs=8),
        Schedule(epochs=8, warmup=2, readmit_every=3, full_tail=0.25),
        Schedule(epochs=8, readmit_at=(2, 4)),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "floors", [NONE, Floors(kept=19), Floors(multiple=4), Floors(kept=17, multiple=8)], ids=repr
)
def test_planned_counts_are_those_of_the_plans(policy, schedule, floors):
    n = 21
    scores = np.random.default_rng(0).exponential(size=n).astype(np.float32)
    plans = [
        planned(table_of(scores, epoch=epoch - 1), policy, schedule, floors, epoch=epoch)[1]
        for epoch in range(1, 8)
    ]
    assert planned_counts(policy, schedule, floors, n) == [n, *(len(plan.kept) for plan in plans)]


@pytest.mark.parametrize(
    ("policy", "schedule", "floors"),
    [
        (Threshold(low=1), Schedule(epochs=4), NONE),
        (BelowMean(0.5), Schedule(epochs=4), NONE),
        (Fraction(0.5, remove="highest"), Schedule(epochs=4, readmit_every=2), NONE),
        (Fraction(0.5), Schedule(epochs=4, readmit_every=2, stagger=True), NONE),
        (Fraction(0.5), Schedule(epochs=4), Floors(np.zeros(10, np.int32), per_class=1)),
        (Fraction(0.5, high=1.0), Schedule(epochs=4, readmit_every=2), NONE),
        (Fraction(0.5, high="auto"), Schedule(epochs=4, full_tail=0.5, outliers="readmit"), NONE),
        (Fraction(0.5, high="auto"), Schedule(epochs=4), Floors(multiple=4)),
    ],
)
def test_counts_that_depend_on_the_scores_raise(policy, schedule, floors):
    with pytest.raises(WrongState, match=r"depends on the scores.*`subsampler\.progress`"):
        planned_counts(policy, schedule, floors, 10)


@pytest.mark.parametrize(
    ("schedule", "floors"),
    [
        (Schedule(epochs=8), NONE),
        (Schedule(epochs=8, warmup=3, remeasure_every=3, outliers="remeasure"), Floors(kept=45)),
        (Schedule(epochs=8, outliers="never"), Floors(multiple=6)),
        (Schedule(epochs=8, readmit_every=3, readmit_at=(4,), outliers="readmit"), NONE),
    ],
    ids=repr,
)
@pytest.mark.parametrize("high", [0.7, "auto"])
@pytest.mark.parametrize("exponent", [None, 0.5])
def test_counts_with_outliers_are_those_of_the_plans(exponent, high, schedule, floors):
    """Half of 60 have wrong labels, more than a share of 0.4 leaves out."""
    n, policy, table = 60, Fraction(0.4, exponent=exponent, high=high, visits=2), Table(60)
    counts = [n]
    for epoch in range(1, 8):
        scores = np.random.default_rng(epoch).exponential(0.05, n).astype(np.float32)
        scores[::2] += 4
        kept = np.flatnonzero(table.reason == KEPT)
        table.begin_epoch()
        table.write(kept, scores[kept], epoch - 1)
        reason, plan = plan_epoch(table, policy, schedule, floors, epoch, 0)
        counts.append(len(plan.kept))
        table.reason = reason
        if epoch == 7:
            assert np.count_nonzero(reason == OUTLIER) >= 15
    assert counts == planned_counts(policy, schedule, floors, n)


def test_a_refused_first_decision_is_forgotten():
    def make(losses):
        subsampler = Subsampler(40, Threshold("auto", "auto"), Schedule(epochs=3))
        subsampler.record(torch.arange(40), losses, predicted=torch.arange(40))
        return subsampler

    refused, straight = make(torch.full((40,), 0.01)), make(torch.full((40,), 0.01))
    for _ in range(3):
        with pytest.raises(InvalidValue, match="first decision"):
            refused.step()
    for subsampler in (refused, straight):
        subsampler.record(torch.tensor([3]), torch.tensor([2.0]))
        subsampler.step()
        assert subsampler.kept.nonzero().flatten().tolist() == [3]
        assert subsampler.predicted.tolist() == list(range(40))  # two views of 3 in one epoch, one class
    tables = [opened(subsampler.state_dict())["table"] for subsampler in (refused, straight)]
    assert tables[0]["notes"] == tables[1]["notes"] == {"low": 0.05}
    assert tables[0]["columns"].keys() == tables[1]["columns"].keys()
    for name, column in tables[0]["columns"].items():
        assert torch.equal(column, tables[1]["columns"][name])
