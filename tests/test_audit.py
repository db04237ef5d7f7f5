"""The low threshold that an audit of re-admitted samples holds: ``Threshold(low="auto")``."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import Schedule, Subsampler, Threshold
from fallow.core.state import opened
from fallow.policies import Reason
from fallow.policies.threshold import FEWEST, FIRST_LOW
from standings import inputs

AUTO = Threshold(low="auto")
examples = settings(max_examples=60, deadline=None)


def corrected(low, scores, fresh, learned):
    """The threshold after an audit and the share of wrong removals, in plain Python; the share or None."""
    known = [float(s) for s, f in zip(scores, fresh, strict=True) if f and not math.isnan(s)]
    back = [float(s) for s, f, b in zip(scores, fresh, learned, strict=True) if f and b and not math.isnan(s)]
    if len(back) < 30:
        return low, None
    mean = math.fsum(known) / len(known)
    wrong = sum(score > mean for score in back) / len(back)
    if wrong < 0.05 or wrong > 0.10:
        low *= 2 if wrong <= 0.0375 else 0.5 if wrong >= 0.15 else 0.075 / wrong
    return low, wrong


def audited(wrong, right, *, others=500, notes=None):
    """Notes after an audit of so many wrong and right removals that all came back."""
    n = wrong + right + others
    scores = np.concatenate([np.full(wrong, 3.0), np.full(right, 0.02), np.linspace(0.5, 1.5, others)])
    columns = {"learned": np.arange(n) < wrong + right}
    notes = {} if notes is None else notes
    decided = AUTO.decide(inputs(scores, columns=columns, notes=notes))
    assert np.array_equal(decided == Reason.LEARNED, scores.astype(np.float32) < np.float32(notes["low"]))
    return notes


@pytest.mark.parametrize(
    ("wrong", "factor"),
    [(0, 2), (1, 2), (3, 2), (4, 1.875), (5, 1), (7, 1), (8, 1), (10, 1), (11, 7.5 / 11), (14, 7.5 / 14),
     (15, 0.5), (40, 0.5), (100, 0.5)],
)  # fmt: skip
def test_wrong_removals_move_the_threshold(wrong, factor):
    notes = audited(wrong, 100 - wrong)
    assert notes == {"low": pytest.approx(FIRST_LOW * factor), "wrong_removals": wrong / 100}
    notes = audited(wrong, 100 - wrong, notes={"low": 0.4})
    assert notes["low"] == pytest.approx(0.4 * factor)


@pytest.mark.parametrize("wrong", [0, 29])
def test_fewer_than_30_that_came_back_move_nothing(wrong):
    assert FEWEST == 30
    assert audited(wrong, 29 - wrong) == {"low": FIRST_LOW}
    assert audited(wrong, 30 - wrong)["low"] == FIRST_LOW * (0.5 if wrong else 2)


def test_without_an_audit_the_last_one_is_not_noted():
    notes = audited(0, 100)
    assert notes["wrong_removals"] == 0
    audited(0, 5, notes=notes)
    assert notes == {"low": 2 * FIRST_LOW}


@examples
@given(st.integers(1, 300), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.2), st.integers(0, 999))
def test_the_audit_is_that_of_a_plain_reading(n, share, seen, bad, seed):
    rng = np.random.default_rng(seed)
    learned, fresh = rng.random(n) < share, rng.random(n) < seen
    scores = rng.exponential(1, n).astype(np.float32)
    scores[learned] *= rng.random() / 2
    scores[rng.random(n) < bad] = np.nan
    columns, notes = {"learned": learned.copy()}, {"low": 0.3}
    reason = np.where(learned & ~fresh, np.uint8(Reason.LEARNED), np.uint8(Reason.KEPT))
    decided = AUTO.decide(inputs(scores, fresh=fresh, reason=reason, columns=columns, notes=notes))
    low, wrong = corrected(0.3, scores, fresh, learned)
    assert notes == ({"low": pytest.approx(low)} | ({} if wrong is None else {"wrong_removals": wrong}))
    judged = fresh & ~np.isnan(scores)
    verdict = np.where(scores < notes["low"], np.uint8(Reason.LEARNED), np.uint8(Reason.KEPT))
    assert np.array_equal(decided, np.where(judged, verdict, reason))
    assert np.array_equal(columns["learned"], decided == Reason.LEARNED)


def test_what_stays_out_is_not_audited():
    columns, notes = {"learned": np.ones(100, np.bool_)}, {}
    shown = inputs(
        np.full(200, 2.0), fresh=np.arange(200) >= 100, columns={"learned": np.arange(200) < 100}, notes=notes
    )
    AUTO.decide(shown)
    assert notes == {"low": FIRST_LOW}
    AUTO.decide(inputs(np.full(100, np.nan), columns=columns, notes=notes))
    assert notes == {"low": FIRST_LOW}


def test_equal_scores_surprise_no_more_than_their_mean():
    """In float64 the mean of many equal float32 is that number; nothing lies above it."""
    for value in (0.1, 3.0, 1e-7, 1e6):
        notes = {}
        AUTO.decide(
            inputs(np.full(70_001, value), columns={"learned": np.ones(70_001, np.bool_)}, notes=notes)
        )
        assert notes == {"low": 2 * FIRST_LOW, "wrong_removals": 0.0}


def test_the_high_side_is_judged_beside_it():
    notes = {"low": 0.2}
    decided = Threshold(low="auto", high=2.0).decide(inputs([0.1, 0.2, 1.0, 2.5], notes=notes))
    assert decided.tolist() == [Reason.LEARNED, Reason.KEPT, Reason.KEPT, Reason.OUTLIER]


# Through a training that re-admits

N = 400
SCHEDULE = Schedule(epochs=40, readmit_every=3)


def scores_at(epoch, sub):
    """What the network says of each sample: what was left out for longer is forgotten a little more."""
    rng = np.random.default_rng(epoch)
    ease = np.random.default_rng(99).lognormal(-2.5, 1.2, N)
    age = epoch - sub.last_scored.numpy()
    return torch.from_numpy((ease * rng.lognormal(0, 0.35 * np.sqrt(age), N)).astype(np.float32))


def make(**options):
    return Subsampler(N, AUTO, SCHEDULE, seed=1, min_kept=20, **options)


def play(sub, stops=None):
    """Train to the end; keep the state after the second batch of each epoch."""
    loader = sub.loader(range(N), 16)
    while sub.epoch < SCHEDULE.epochs:
        scores = scores_at(sub.epoch, sub)
        for at, (index, _) in enumerate(loader):
            sub.record(index, scores[index])
            if stops is not None and at == 1:
                stops.append((deepcopy(opened(sub.state_dict())), scores))
        sub.step()
    return sub


def test_the_threshold_follows_what_became_of_the_removed():
    """Held against a plain reading of the same training, epoch for epoch."""
    sub = make()
    low, learned, expected = FIRST_LOW, np.zeros(N, bool), []
    last = np.full(N, np.nan, np.float32)
    while sub.epoch < SCHEDULE.epochs:
        epoch, kept = sub.epoch, sub.kept.numpy()
        scores = scores_at(epoch, sub).numpy()
        last = np.where(kept, scores, last)
        sub.record(torch.from_numpy(np.flatnonzero(kept)), torch.from_numpy(scores[kept]))
        sub.step()
        low, wrong = corrected(low, last, kept, learned)
        learned = np.where(kept, last < np.float32(low), learned)
        expected.append({"low": pytest.approx(low)} | ({} if wrong is None else {"wrong_removals": wrong}))
    notes = [record.notes for record in sub.history]
    assert notes == [{}, *expected[: SCHEDULE.epochs - 1]]
    audits = [epoch for epoch, note in enumerate(notes) if "wrong_removals" in note]
    assert set(range(4, 40, 3)) <= set(audits)
    assert notes[-1]["low"] > 1.5 * FIRST_LOW
    held = [note["wrong_removals"] for note in notes[20:] if "wrong_removals" in note]
    assert 0.03 < np.mean(held) < 0.12


def test_a_stopped_training_goes_on_with_the_same_thresholds():
    stops = []
    whole = play(make(), stops)
    assert len({record.notes.get("low") for record in whole.history}) > 4
    for state, scores in stops[1::12]:
        again = make()
        again.load_state_dict(state)
        for index, _ in again.loader(range(N), 16):
            again.record(index, scores[index])
        again.step()
        play(again)
        assert [r.notes for r in again.history] == [r.notes for r in whole.history]
        assert [r.used.tolist() for r in again.history] == [r.used.tolist() for r in whole.history]
        assert torch.equal(again.reason, whole.reason)


def test_without_its_memory_the_thresholds_are_others():
    stops = []
    whole = play(make(), stops)
    state, scores = next(stop for stop in stops if stop[0]["epoch"] == 9)
    for forget in (
        lambda table: table["notes"].clear(),
        lambda table: table["columns"]["learned"].zero_(),
    ):
        broken = deepcopy(state)
        forget(broken["table"])
        again = make()
        again.load_state_dict(broken)
        for index, _ in again.loader(range(N), 16):
            again.record(index, scores[index])
        again.step()
        play(again)
        assert [r.notes for r in again.history] != [r.notes for r in whole.history]
