"""Decisions over parts: those of ErrorMass over one table, for any division."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import ErrorMass, InvalidValue, Schedule
from fallow.arrays.distributed import Ranks
from fallow.core.plan import Floors, plan_epoch
from fallow.core.shard import GROUP, NO_SCORE_HALF, ErrorTable, Shard, decide
from fallow.core.table import TRAINED, Table

EPOCHS = 8


def scores_of(n, epoch, seed):
    """Scores in float16 that fall from epoch to epoch, with noise."""
    own = np.random.default_rng(seed).gamma(0.3, 1.0, n)
    noise = np.random.default_rng([seed, epoch]).normal(0, 0.6, n)
    return np.minimum(own * np.exp(noise - 0.35 * epoch), 20).astype(np.float16)


def divided(n, parts, directory=None):
    groups = math.ceil(n / GROUP)
    rows = math.ceil(groups / parts) * GROUP
    return [Shard(start, min(start + rows, n), directory) for start in range(0, n, rows)]


def kept_of(shards):
    bits = [np.unpackbits(shard.kept_bits(), bitorder="little")[: len(shard)] for shard in shards]
    return np.concatenate(bits).astype(bool)


def turn_of(schedule, epoch, seed):
    if schedule.in_tail(epoch):
        return lambda start, stop: np.ones(stop - start, bool)
    return lambda start, stop: schedule.turn(epoch, seed, start, stop)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(150, 5_000),
    parts=st.integers(1, 9),
    error=st.sampled_from([0.05, 0.15, 0.4]),
    tail=st.sampled_from([0.0, 0.2]),
    share=st.sampled_from([0.0, 0.1, 0.8]),
    multiple=st.sampled_from([1, 1, 7]),
)
def test_parts_decide_as_one_table(seed, n, parts, error, tail, share, multiple):
    policy = ErrorMass(error, high=None)
    schedule = Schedule(EPOCHS, full_tail=tail).or_turns(policy.returns_every)
    least = max(1, int(share * n))
    table, shards, errors, notes = Table(n), divided(n, parts), ErrorTable(np.inf), {}
    kept = np.ones(n, bool)
    for epoch in range(EPOCHS - 1):
        index = np.flatnonzero(kept)
        scores = scores_of(n, epoch, seed)[index]
        table.write(index, scores.astype(np.float32), epoch, TRAINED)
        for shard in shards:
            own = (index >= shard.start) & (index < shard.stop)
            shard.write(index[own] - shard.start, scores[own])
        floors = Floors(kept=least, multiple=multiple)
        reason, plan = plan_epoch(table, policy, schedule, floors, epoch + 1, seed)
        # A part keeps the upper half of each mean.
        table.column("mean_error", np.float32).view(np.uint32)[:] &= 0xFFFF0000
        table.reason = reason
        table.begin_epoch()
        turn = turn_of(schedule, epoch + 1, seed)
        decision = decide(shards, policy, errors, notes, turn, least, multiple, Ranks())
        kept = reason == 0
        assert np.array_equal(kept_of(shards), kept)
        assert (decision.kept, decision.readmitted) == (kept.sum(), plan.readmitted)
        assert decision.notes == pytest.approx(plan.notes, rel=1e-6)
        notes = decision.notes


def test_samples_are_left_out_so_that_the_comparison_says_something():
    policy, n = ErrorMass(high=None), 3_000
    schedule = Schedule(EPOCHS).or_turns(policy.returns_every)
    shards, errors, notes, kept = divided(n, 3), ErrorTable(np.inf), {}, np.ones(n, bool)
    for epoch in range(EPOCHS - 1):
        for shard in shards:
            own = np.flatnonzero(kept[shard.start : shard.stop])
            shard.write(own, scores_of(n, epoch, 1)[shard.start : shard.stop][own])
        turn = turn_of(schedule, epoch + 1, 1)
        notes = decide(shards, policy, errors, notes, turn, 1, 1, Ranks()).notes
        kept = kept_of(shards)
    assert 0.2 < (~kept).mean() < 0.8
    assert notes["error_found"] > 0


def test_odd_scores():
    shard = Shard(64, 70)
    shard.write(np.arange(6), np.array([1, 2, np.nan, np.inf, NO_SCORE_HALF, -1e-4], np.float16))
    assert shard.recorded == 6
    assert shard.bad == 2
    assert -2e-4 < shard.lowest[0] < 0
    assert shard.lowest[1] == 69
    assert shard.scores[:6].tolist() == [1, 2, 0, 0, 0, 0]
    # Known: the finite ones, also the one that rounding left below 0.
    tally = ErrorTable(np.inf).tally(shard)
    assert tally.means.sum() == 3
    # A later score that is not finite takes the first one away; no score takes nothing away.
    shard.keep_all()
    shard.write(np.array([0, 1]), np.array([np.nan, NO_SCORE_HALF], np.float16))
    assert ErrorTable(np.inf).tally(shard).means.sum() == 2


def test_zero_of_either_sign_is_a_score():
    shard = Shard(0, 3)
    shard.write(np.arange(3), np.array([0.0, -0.0, -1e-9], np.float16))
    assert ErrorTable(np.inf).tally(shard).means.sum() == 3


def test_rows_behind_the_last_sample_are_in_no_epoch():
    shard = Shard(128, 128 + 70)
    assert np.unpackbits(shard.kept_bits(), bitorder="little").sum() == 70
    shard.keep_all()
    assert np.unpackbits(shard.kept_bits(), bitorder="little").sum() == 70


def test_a_part_in_a_file_leaves_nothing_behind(tmp_path):
    in_file, in_memory = Shard(0, 1_000, tmp_path), Shard(0, 1_000)
    assert list(tmp_path.iterdir()) == []
    scores = scores_of(1_000, 0, 0)
    for shard in (in_file, in_memory):
        shard.write(np.arange(1_000), scores)
    tallies = [ErrorTable(np.inf).tally(shard) for shard in (in_file, in_memory)]
    assert np.array_equal(tallies[0].means, tallies[1].means)
    assert np.array_equal(in_file.means, in_memory.means)


def test_a_folder_without_room_is_refused(tmp_path):
    with pytest.raises(InvalidValue, match=r"must have room for files of .* bytes"):
        Shard(0, 10**17, tmp_path)
    assert list(tmp_path.iterdir()) == []
