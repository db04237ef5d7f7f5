"""The conductor over whole trainings: what is kept, when it comes back, and what is never touched."""

import random
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from fallow import Fraction, RandomFraction, Reason, Schedule, Subsampler, Threshold
from fallow.errors import InvalidType, InvalidValue, WrongState
from fallow.policies import BelowMean
from toy_epochs import N, draws, epoch_of, subsampler


def train(sub, batch=8, **options):
    """A whole training; returns its batches."""
    loader = sub.loader(range(sub.n), batch, **options)
    return [epoch_of(sub, draws(epoch, sub.n), loader) for epoch in range(sub.epoch, sub.schedule.epochs)]


def history(sub):
    """All that is remembered of the epochs but how long they took."""
    rows = [{**r.aggregates(), "used": r.used.tolist(), "record_seconds": None} for r in sub.history]
    return repr(rows)


# --- rule 1 and rule 5: pure functions of the seed ---


def random_states():
    numpy = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), numpy[1].tolist(), numpy[2], random.getstate()


@pytest.mark.parametrize(
    "policy", [Threshold(low=0.5, high=3.0), Fraction(0.3, exponent=0.5), BelowMean(0.5), RandomFraction(0.4)]
)
def test_nothing_random_is_global(policy):
    schedule = Schedule(epochs=4, readmit_every=2)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        before = random_states()
        sub = subsampler(policy, schedule=schedule)
        loader = sub.loader(range(N), 8)
        batches = []
        for epoch in range(4):
            for index, _ in loader:
                sub.record(index, draws(epoch)[index])
                batches.append(index.tolist())
            sub.remeasure(range(N), lambda index, batch: torch.ones(len(index)) + 0 * torch.rand(1))
            sub.step()
        assert random_states() == before
        found.append((batches, history(sub)))
    assert found[0] == found[1]


def test_same_seed_same_history_and_another_seed_another_one():
    runs = {}
    for seed in (0, 0, 7):
        sub = subsampler(Fraction(0.4, exponent=1.0), seed=seed)
        found = train(sub), history(sub)
        assert runs.setdefault(seed, found) == found
    assert runs[0][0] != runs[7][0]
    assert runs[0][1] != runs[7][1]


# --- rule 3: what comes twice ---


# --- rule 4: when in doubt, keep ---


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_bad_score_removes_nothing_and_moves_nobody(bad):
    losses = torch.arange(N) * 0.1
    clean, spoiled = subsampler(Threshold(low=1.0, high=3.0)), subsampler(Threshold(low=1.0, high=3.0))
    epoch_of(clean, losses)
    losses[[2, 35]] = bad
    epoch_of(spoiled, losses)
    moved = (clean.reason != spoiled.reason).nonzero().flatten().tolist()
    assert moved == [2, 35]
    assert spoiled.kept[[2, 35]].all()
    assert spoiled.scores[[2, 35]].isnan().all()
    assert spoiled.history[0].bad == 2


@pytest.mark.parametrize(("bad", "removes"), [(2, True), (3, False)])
def test_more_than_five_percent_bad_scores_remove_nothing(bad, removes):
    sub = subsampler()
    losses = torch.full((N,), 0.1)
    losses[20:] = 1.0
    losses[-bad:] = float("nan")
    loader = sub.loader(range(N), 8)
    for index, _ in loader:
        sub.record(index, losses[index])
    if removes:
        sub.step()
        assert sub.removed.sum() == 20
    else:
        with pytest.warns(
            RuntimeWarning, match="3 of 40 scores of epoch 1 of .* are not finite.*nothing is removed"
        ):
            sub.step()
        assert sub.kept.all()


def test_min_kept_holds_with_the_highest_learned():
    sub = subsampler(Threshold(low=10.0), min_kept=7)
    losses = draws(0)
    epoch_of(sub, losses)
    assert sub.kept.nonzero().flatten().tolist() == sorted(losses.argsort()[-7:].tolist())


def test_class_floors_hold():
    labels = torch.tensor([0] * 20 + [1] * 18 + [2] * 2)
    sub = subsampler(Threshold(low=0.5), labels=labels, min_kept_per_class=4)
    losses = torch.where(labels == 0, 1.0, 0.01 * torch.arange(N))
    epoch_of(sub, losses)
    assert torch.bincount(labels[sub.kept]).tolist() == [20, 4, 2]
    assert sub.kept[labels == 1].nonzero().flatten().tolist() == [14, 15, 16, 17]
    assert torch.equal(sub.labels, labels)


def test_a_policy_that_would_keep_nothing_at_first_raises_and_the_epoch_goes_on():
    sub = subsampler(Threshold(low=99.0))
    loader = sub.loader(range(N), 8)
    for index, _ in loader:
        sub.record(index, draws(0)[index])
    with pytest.raises(InvalidValue, match=r"at least one sample.*none of 40 kept by Threshold\(low=99"):
        sub.step()
    assert (sub.epoch, len(sub.history)) == (0, 0)
    assert sub.kept.all()
    sub.policy = Threshold(low=0.5)
    sub.step()
    assert torch.equal(sub.kept, draws(0) >= 0.5)


# --- by hand ---


@pytest.mark.parametrize("begun", [False, True])
def test_removed_by_hand_until_kept(begun):
    sub = subsampler(Threshold(low=0.0), schedule=Schedule(epochs=6, readmit_every=1))
    loader = sub.loader(range(N), 8)
    first = next(iter(loader))[0]
    if begun:
        sub.record(first, torch.ones(8))
    out = [int(i) for i in range(N) if i not in first][:3]
    sub.remove(out)
    assert sub.reason[out].tolist() == [Reason.BY_HAND] * 3
    assert sub.removed.sum() == 3
    planned = set(sub.order()[:].tolist())
    assert planned.isdisjoint(out) is not begun
    for epoch in range(2):
        epoch_of(sub, draws(epoch), loader)
        assert set(sub.order()[:].tolist()) == set(range(N)) - set(out)
    sub.keep(torch.tensor(out[:2]))
    assert set(sub.order()[:].tolist()) == set(range(N)) - {out[2]}
    sub.remove([])
    assert sub.removed.sum() == 1


def test_what_is_kept_by_hand_may_be_removed_again():
    sub = subsampler()
    losses = torch.where(torch.arange(N) < 5, 0.1, 1.0)
    epoch_of(sub, losses)
    sub.keep([0, 1])
    assert sub.removed.sum() == 3
    epoch_of(sub, losses)
    assert sub.removed.nonzero().flatten().tolist() == [0, 1, 2, 3, 4]


def test_removing_too_many_raises_and_changes_nothing():
    sub = subsampler(min_kept=38)
    with pytest.raises(InvalidValue, match=r"min_kept=38 samples must stay\. Found 37"):
        sub.remove([1, 2, 3])
    assert sub.kept.all()


def test_new_samples_join_kept_and_without_a_score():
    sub = subsampler(BelowMean(0.5), labels=[0] * N)
    epoch_of(sub, draws(0))
    before = sub.kept
    with pytest.raises(InvalidValue, match="needs `labels`"):
        sub.extend(4)
    sub.extend(4, labels=[1] * 4)
    assert (sub.n, sub.labels.tolist()[-5:]) == (44, [0, 1, 1, 1, 1])
    assert torch.equal(sub.kept, torch.cat([before, torch.ones(4, dtype=torch.bool)]))
    assert sub.scores[40:].isnan().all()
    assert sub.weights(torch.arange(40, 44)).tolist() == [1.0] * 4
    with pytest.raises(InvalidValue, match=r"Found 40 samples.*put back"):
        sub.loader(range(40), 8)
    seen = [i for part in epoch_of(sub, draws(1, 44)) for i in part]
    assert set(range(40, 44)) <= set(seen)
    assert (sub.history[0].n, sub.history[1].n) == (40, 44)
    sub.record(torch.arange(8), torch.ones(8))
    with pytest.raises(WrongState, match=r"Epoch 3 of .* is under way"):
        sub.extend(1, labels=[0])


# --- re-admission and measuring ---


def with_outliers(outliers="remeasure", epochs=6, readmit_every=3):
    """A training in which samples 0 to 3 became outliers after the first epoch."""
    schedule = Schedule(epochs=epochs, readmit_every=readmit_every, outliers=outliers)
    sub = subsampler(Threshold(low=0.5, high=3.0), schedule=schedule)
    epoch_of(sub, OUTLYING)
    assert sub.reason[:5].tolist() == [Reason.OUTLIER] * 4 + [Reason.LEARNED]
    return sub


OUTLYING = torch.tensor([5.0] * 4 + [0.1] + [1.0] * 35)


def test_an_outlier_comes_back_only_when_it_measures_low():
    sub = with_outliers()
    calls = []

    def score_batch(index, batch):
        assert not torch.is_grad_enabled()
        assert torch.equal(index, batch)
        calls.append(index.tolist())
        return torch.tensor([1.0, 5.0, 0.1, float("nan")])[index]

    assert sub.remeasure(range(N), score_batch) == 0
    epoch_of(sub, OUTLYING)
    sub.record(sub.order()[:], torch.ones(35))
    assert sub.remeasure(range(N), score_batch, batch_size=3) == 4
    assert calls == [[0, 1, 2], [3]]
    sub.step()
    assert sub.epoch == 3
    assert sub.kept[:5].tolist() == [True, False, True, False, True]
    assert sub.reason[[1, 3]].tolist() == [Reason.OUTLIER] * 2
    assert [r.forward_only for r in sub.history] == [0, 0, 4]
    assert sub.history[2].backward == 35
    assert sub.last_scored[:2].tolist() == [2, 2]


def test_due_and_never_measured_warns_once():
    sub = with_outliers(readmit_every=2)
    with pytest.warns(
        UserWarning, match=r"4 outliers are due.*before epoch 3 of .*remeasure\(dataset, score_batch"
    ):
        epoch_of(sub, OUTLYING)
    for _ in range(3):
        epoch_of(sub, OUTLYING)
    assert (sub.reason[:4] == Reason.OUTLIER).all()


@pytest.mark.parametrize(("outliers", "back"), [("readmit", True), ("never", False)])
def test_outliers_come_back_as_scheduled_and_without_a_warning(outliers, back):
    sub = with_outliers(outliers, readmit_every=2)
    epoch_of(sub, OUTLYING)
    assert sub.kept[:4].tolist() == [back] * 4
    assert sub.kept[4]
    assert sub.history[-1].readmitted == 0
    epoch_of(sub, OUTLYING)
    assert sub.history[-1].readmitted == 1 + 4 * back


# --- the moments of calls, and arguments ---


def test_step_without_a_record_raises():
    with pytest.raises(WrongState, match=r"No sample was recorded in epoch 1 of .*record\(index, losses\)"):
        subsampler().step()


def test_after_the_last_step_everything_can_be_read_and_nothing_done():
    sub = subsampler(epochs=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(sub)
    assert (sub.epoch, sub.progress, len(sub.history)) == (2, 1.0, 2)
    assert 0 < sub.record_seconds == pytest.approx(sum(r.record_seconds for r in sub.history))
    for call in (sub.step, lambda: sub.remeasure(range(N), len)):
        with pytest.raises(WrongState, match="All 2 epochs are done"):
            call()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n": 0}, InvalidValue, "`n` must be at least 1"),
        ({"n": range(4)}, InvalidType, "`n` must be a whole number"),
        ({"policy": 0.05}, InvalidType, r"`policy` must be a Policy.*ErrorMass"),
        ({"schedule": 30}, InvalidType, r"`schedule` must be a Schedule.*Schedule\(epochs"),
        ({"min_kept": 41}, InvalidValue, "at most n=40. Found 41"),
        ({"min_kept": 0}, InvalidValue, "`min_kept` must be at least 1"),
        ({"min_kept_per_class": 2}, InvalidValue, "needs `labels`"),
        ({"labels": [0, 1]}, InvalidValue, r"\(40,\)"),
        ({"seed": 0.5}, InvalidType, "`seed`"),
    ],
    ids=str,
)
def test_wrong_arguments_raise(arguments, error, words):
    good = {"n": N, "policy": Threshold(low=0.5), "schedule": Schedule(epochs=2)}
    with pytest.raises(error, match=words):
        Subsampler(**{**good, **arguments})


def test_an_epoch_that_ends_short_is_said_once():
    """As where something between the loader and the loop drops batches."""
    sub = Subsampler(8, Threshold(low=0.0), Schedule(epochs=3))
    loader = sub.loader(TensorDataset(torch.arange(8)), batch_size=2)
    for epoch in range(2):
        index, _ = next(iter(loader))
        sub.record(index, torch.ones(2))
        if epoch:
            sub.step()
        else:
            with pytest.warns(UserWarning, match="2 of 8 samples planned for epoch 1 of"):
                sub.step()


def test_two_views_of_a_sample_count_once():
    sub = Subsampler(8, Threshold(low=0.0), Schedule(epochs=1))
    loader = sub.loader(TensorDataset(torch.arange(8)), batch_size=2)
    for at, (index, _) in enumerate(loader):
        sub.record(index, torch.ones(2))
        sub.record(index, torch.ones(2))
        assert sub.progress == (at + 1) / 4
        if at == 1:
            break
    assert sum(1 for _ in loader) == 2


def test_a_negative_threshold_for_scores_that_are_not_is_refused_when_first_used():
    sub = Subsampler(4, Threshold(low=-0.5), Schedule(epochs=2))
    sub.record(torch.arange(4), torch.rand(4))
    with pytest.raises(InvalidValue, match="range of the recorded scores"):
        sub.step()
