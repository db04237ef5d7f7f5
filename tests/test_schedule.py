"""When samples may be removed and when they come back."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.core.schedule import MAX_EPOCHS, Schedule
from fallow.errors import InvalidType, InvalidValue

examples = settings(max_examples=60, deadline=None)


def epochs_where(schedule, says):
    return [epoch for epoch in range(schedule.epochs) if says(epoch)]


def test_the_defaults_are_one_full_epoch_and_no_return():
    schedule = Schedule(epochs=5)
    assert epochs_where(schedule, schedule.warms_up) == [0]
    assert epochs_where(schedule, schedule.readmits) == []
    assert epochs_where(schedule, schedule.in_tail) == []
    assert epochs_where(schedule, schedule.returns_all) == [0]
    assert schedule.outliers == "remeasure"


@pytest.mark.parametrize("warmup", [1, 3, 5])
def test_the_first_epochs_are_full(warmup):
    schedule = Schedule(epochs=5, warmup=warmup)
    assert epochs_where(schedule, schedule.warms_up) == list(range(warmup))


@pytest.mark.parametrize("k", [1, 2, 3, 5, 20])
def test_every_kth_epoch_readmits(k):
    schedule = Schedule(epochs=10, readmit_every=k)
    assert epochs_where(schedule, schedule.readmits) == list(range(k, 10, k))


def test_listed_epochs_readmit_also():
    schedule = Schedule(epochs=12, readmit_every=4, readmit_at=(3, 4, 7))
    assert epochs_where(schedule, schedule.readmits) == [3, 4, 7, 8]
    assert epochs_where(schedule, schedule.returns_all) == [0, 3, 4, 7, 8]


@pytest.mark.parametrize("listed", [[3, 7], (7, 3), {3, 7}, iter([3, 7]), np.array([3, 7]), range(3, 8, 4)])
def test_epochs_may_be_listed_in_any_form(listed):
    schedule = Schedule(epochs=10, readmit_at=listed)
    assert epochs_where(schedule, schedule.readmits) == [3, 7]
    assert repr(schedule.readmit_at) in ("(3, 7)", "(7, 3)")


@pytest.mark.parametrize(
    ("share", "epochs"), [(0.125, 90), (0.125, 100), (0.125, 30), (0.125, 10), (0.125, 200)]
)
def test_the_tail_is_its_share_of_the_epochs_rounded(share, epochs):
    schedule = Schedule(epochs=epochs, full_tail=share)
    tail = epochs_where(schedule, schedule.in_tail)
    assert tail == list(range(epochs - math.floor(share * epochs + 0.5), epochs))
    assert tail[-1] == epochs - 1


@examples
@given(st.integers(1, 300), st.floats(0, 1))
def test_the_tail_is_never_longer_or_shorter_than_its_share_by_more_than_half_an_epoch(epochs, share):
    schedule = Schedule(epochs=epochs, full_tail=share)
    tail = epochs_where(schedule, schedule.in_tail)
    assert abs(len(tail) - share * epochs) <= 0.5 + 1e-9
    assert tail == list(range(epochs - len(tail), epochs))


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_staggered_samples_each_have_one_turn_in_k_epochs(k):
    schedule, n = Schedule(epochs=40, readmit_every=k, stagger=True), 7001
    turns = np.array([schedule.turn(epoch, 5, 0, n) for epoch in range(1, 40)])
    for first in range(39 - k):
        assert (turns[first : first + k].sum(axis=0) == 1).all()
    share = turns.mean(axis=1)
    assert np.abs(share - 1 / k).max() < 5 * math.sqrt(1 / k / n)
    assert epochs_where(schedule, schedule.readmits) == []


def test_staggered_turns_are_drawn_by_seed_and_index():
    schedule = Schedule(epochs=9, readmit_every=3, stagger=True)
    whole = schedule.turn(4, 1, 0, 1000)
    assert np.array_equal(schedule.turn(4, 1, 300, 700), whole[300:700])
    assert not np.array_equal(schedule.turn(4, 2, 0, 1000), whole)
    assert not schedule.turn(0, 1, 0, 1000).any()


def test_listed_epochs_give_back_all_at_once_with_stagger_too():
    schedule = Schedule(epochs=9, readmit_every=3, stagger=True, readmit_at=(5,))
    assert schedule.turn(5, 0, 0, 100).all()
    assert 0 < schedule.turn(6, 0, 0, 100).sum() < 100


def test_without_stagger_a_turn_is_everybodys_or_nobodys():
    schedule = Schedule(epochs=9, readmit_every=3)
    shares = [schedule.turn(epoch, 0, 10, 60).mean() for epoch in range(9)]
    assert shares == [0, 0, 0, 1, 0, 0, 1, 0, 0]
    assert schedule.turn(3, 0, 10, 60).shape == (50,)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"epochs": 0}, InvalidValue, "`epochs` must be at least 1. Found 0"),
        ({"epochs": MAX_EPOCHS + 1}, InvalidValue, "`epochs` must be at most 65,534. Found 65535"),
        ({"epochs": 2.0}, InvalidType, "`epochs` must be a whole number. Found 2.0"),
        ({"warmup": 0}, InvalidValue, "`warmup` must be at least 1. Found 0. No scores are known"),
        ({"warmup": None}, InvalidType, "`warmup` must be a whole number"),
        (
            {"readmit_every": 0},
            InvalidValue,
            "`readmit_every` must be at least 1. Found 0. None never re-admits",
        ),
        ({"readmit_every": 2.5}, InvalidType, "`readmit_every` must be a whole number"),
        ({"readmit_at": 5}, InvalidType, "`readmit_at` must list epochs. Found 5"),
        ({"readmit_at": (0,)}, InvalidValue, "`readmit_at` must be at least 1. Found 0"),
        ({"readmit_at": (3, 10)}, InvalidValue, "`readmit_at` must name epochs below 10. Found 10"),
        ({"readmit_at": (1.5,)}, InvalidType, "`readmit_at` must be a whole number"),
        ({"stagger": True}, InvalidValue, "`stagger` needs `readmit_every`"),
        ({"full_tail": 1.1}, InvalidValue, r"`full_tail` must be in \[0, 1\]. Found 1.1"),
        ({"full_tail": -0.1}, InvalidValue, "`full_tail`"),
        ({"full_tail": "0.1"}, InvalidType, "`full_tail`"),
        (
            {"outliers": "back"},
            InvalidValue,
            '`outliers` must be "remeasure", "readmit" or "never". Found \'back\'',
        ),
        ({"remeasure_every": 0}, InvalidValue, "`remeasure_every` must be at least 1. Found 0"),
        ({"remeasure_every": 2.5}, InvalidType, "`remeasure_every` must be a whole number"),
        (
            {"remeasure_every": 2, "outliers": "never"},
            InvalidValue,
            '`remeasure_every` needs outliers="remeasure". Found "never"',
        ),
    ],
)
def test_what_cannot_be_meant_raises(options, error, text):
    with pytest.raises(error, match=text):
        Schedule(**{"epochs": 10, **options})


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({}, [0, 1]),
        ({"readmit_every": 3}, [0, 1]),
        ({"readmit_every": 3, "outliers": "readmit"}, [0, 1, 3, 6, 9]),
        ({"readmit_at": (4,), "full_tail": 0.3, "outliers": "readmit"}, [0, 1, 4]),
        ({"readmit_every": 3, "stagger": True, "outliers": "readmit"}, [0, 1]),
    ],
)
def test_outliers_all_train_while_warming_up_and_where_they_are_readmitted(options, epochs):
    schedule = Schedule(epochs=10, warmup=2, **options)
    assert epochs_where(schedule, schedule.returns_outliers) == epochs


def test_outliers_are_measured_when_samples_come_back_or_at_times_of_their_own():
    def shares(**options):
        schedule = Schedule(epochs=8, **options)
        found = [schedule.measured(epoch, 5, 0, 900).mean() for epoch in range(8)]
        assert [share > 0 for share in found] == [schedule.measures(epoch) for epoch in range(8)]
        return found

    assert shares() == [0, 0, 0, 0, 0, 1, 0, 0]
    assert shares(readmit_at=(4,)) == [0, 0, 0, 0, 1, 0, 0, 0]
    assert shares(readmit_every=3) == [0, 0, 0, 1, 0, 0, 1, 0]
    assert shares(remeasure_every=3) == [0, 0, 0, 1, 0, 0, 1, 0]
    assert shares(readmit_every=2, remeasure_every=3) == [0, 0, 0, 1, 0, 0, 1, 0]
    staggered = shares(readmit_every=3, stagger=True)
    assert staggered[0] == 0
    assert all(0.2 < share < 0.5 for share in staggered[1:])
    assert shares(readmit_every=3, stagger=True, remeasure_every=4) == [0, 0, 0, 0, 1, 0, 0, 0]


def test_the_longest_training():
    schedule = Schedule(epochs=MAX_EPOCHS, readmit_every=MAX_EPOCHS, stagger=True)
    assert schedule.turn(MAX_EPOCHS - 1, 0, 0, 10).dtype == np.bool_
