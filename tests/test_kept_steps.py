"""Kept steps: as many steps as full training, in thinner batches, with the gradient of full training."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import (
    ErrorMass,
    Fraction,
    InvalidType,
    InvalidValue,
    RandomFraction,
    Schedule,
    Subsampler,
    Threshold,
)
from fallow.core.kept_steps import KeptSteps
from fallow.core.loading import EpochBatches

examples = settings(max_examples=100, deadline=None)


def thinned(n, batch, policy, *, ranks=1, rank=0, monkeypatch=None, accumulate=1, epochs=4):
    """Return a subsampler in its second epoch, and its loader."""
    if monkeypatch is not None:
        monkeypatch.setattr("fallow.arrays.distributed.rank_and_size", lambda group: (rank, ranks))
    sub = Subsampler(n, policy, Schedule(epochs=epochs), seed=1)
    loader = sub.loader(range(n), batch, kept_steps=True, accumulate=accumulate)
    return sub, loader


def first_epoch(sub, loader, scores):
    for index, _ in loader:
        sub.record(index, scores[index])
    sub.step()


@examples
@given(n=st.integers(40, 400), batch=st.integers(1, 40), share=st.floats(0, 0.95))
def test_an_epoch_has_the_steps_of_full_training_and_no_batch_is_too_thin(n, batch, share):
    sub, loader = thinned(n, batch, Fraction(share))
    steps = -(-n // batch)
    assert len(loader) == steps
    first_epoch(sub, loader, torch.rand(n))
    sizes = [len(index) for index, _ in loader]
    assert len(sizes) == len(loader) == steps
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch
    kept = n - min(round(share * n), n - 1)
    # An eighth of a batch at least, and eight samples or half of a batch.
    assert sum(sizes) == max(kept, min(n, steps * max(min(8, -(-batch // 2)), batch // 8)))
    used = [i for index, _ in loader for i in index.tolist()]
    assert used == sub.order()[:].tolist()


@examples
@given(n=st.integers(64, 300), batch=st.integers(3, 8), share=st.floats(0.0, 0.45))
def test_ranks_share_each_batch_and_agree_on_progress_after_it(n, batch, share):
    found, progress = {}, {}
    for ranks in (1, 2, 4):
        for rank in range(ranks):
            with pytest.MonkeyPatch.context() as monkeypatch:
                sub = Subsampler(n, Fraction(share), Schedule(epochs=2), seed=1)
                loader = sub.loader(range(n), 4 * batch, kept_steps=True)
                first_epoch(sub, loader, torch.linspace(0, 1, n))
                assert len(sub.under_way.plan.kept) == int(sub.kept.sum())
                place = (rank, ranks)
                monkeypatch.setattr("fallow.arrays.distributed.rank_and_size", lambda group, at=place: at)
                steps = KeptSteps(4 * batch // ranks, 1, sub.under_way.scores.ranks)
                sub.under_way.kept_steps = steps
                batches = EpochBatches(sub.under_way, 4 * batch // ranks, kept_steps=steps)
                sub.under_way.planned, sub.under_way.reached = batches.planned, batches.reached
                mine, seen = [], []
                for part in batches:
                    mine.append(list(part))
                    sub.record(torch.tensor(part), torch.ones(len(part)))
                    seen.append(sub.progress)
                found[ranks, rank], progress[ranks, rank] = mine, seen
    whole = found[1, 0]
    for ranks in (2, 4):
        parts = zip(*(found[ranks, rank] for rank in range(ranks)), strict=True)
        assert [[i for part in step for i in part] for step in parts] == whole
        assert all(progress[ranks, rank] == progress[1, 0] for rank in range(ranks))
    assert all(a < b for a, b in itertools.pairwise(progress[1, 0]))
    assert progress[1, 0][-1] == 1.0


def gradients(n, batch, policy, scores):
    """Return the gradient that each sample's loss gets in the second epoch."""
    sub, loader = thinned(n, batch, policy)
    first_epoch(sub, loader, scores)
    got = torch.zeros(n)
    for index, _ in loader:
        losses = torch.ones(len(index), requires_grad=True)
        loss = sub.record(index, losses)
        assert loss.item() == 1.0  # the value stays the mean
        loss.backward()
        got[index] = losses.grad
    return sub, got


def test_a_learned_sample_counts_as_one_without_a_gradient():
    n, batch, scores = 240, 24, torch.linspace(0.1, 3, 240)
    sub, got = gradients(n, batch, Fraction(0.5), scores)
    assert torch.allclose(got[sub.kept], torch.tensor(1 / batch))
    assert not got[sub.removed].any()
    full, everyone = gradients(n, batch, Fraction(0.0), scores)
    assert torch.allclose(everyone, torch.tensor(1 / batch))
    assert not full.removed.any()


def test_views_of_a_sample_count_once_and_parts_of_a_batch_add_up():
    """A batch recorded whole, with every sample twice, with its mean computed elsewhere, and in two parts."""
    scores = torch.rand(240, generator=torch.Generator().manual_seed(0))

    def views(sub, index, losses):
        twice = torch.cat([losses, losses])
        return sub.record(index.repeat(2), twice)

    def elsewhere(sub, index, losses):
        loss = losses.mean()
        assert sub.record(index, losses.detach(), loss=loss) is loss
        return loss

    def parts(sub, index, losses):
        return sub.record(index[:7], losses[:7]) + sub.record(index[7:], losses[7:])

    found = []
    for record in (lambda sub, *batch: sub.record(*batch), views, elsewhere, parts):
        sub, loader = thinned(240, 24, Fraction(0.5))
        first_epoch(sub, loader, scores)
        gradients, progress = torch.zeros(240), []
        for index, _ in loader:
            losses = scores[index].clone().requires_grad_()
            record(sub, index, losses).backward()
            gradients[index] = losses.grad
            progress.append(sub.progress)
        sub.step()
        found.append((gradients, progress, sub.scores))
    assert torch.allclose(found[0][0][found[0][0] > 0], torch.tensor(1 / 24))
    for gradients, progress, kept in found[1:]:
        assert torch.allclose(gradients, found[0][0])
        assert progress == found[0][1]
        assert torch.allclose(kept, found[0][2])


def test_views_in_batches_that_wait_for_their_step_count_once():
    sub, loader = thinned(48, 12, Fraction(0.5), accumulate=2)
    seen = []
    for number, (index, _) in enumerate(loader):
        sub.record(index.repeat(2), torch.ones(2 * len(index)), accumulating=number % 2 == 0)
        seen.append(sub.progress)
    assert seen == pytest.approx([1 / 16, 2 / 16, 3 / 16, 4 / 16])


@pytest.mark.parametrize(
    ("loss", "message"),
    [(3.0, "Found float"), (torch.ones(2), r"Found shape \(2,\)"), (torch.tensor(1), r"Found shape \(\)")],
)
def test_a_mean_that_is_none_raises_and_stores_nothing(loss, message):
    sub, _ = thinned(48, 12, Fraction(0.5))
    with pytest.raises(InvalidType, match=message):
        sub.record(torch.arange(12), torch.ones(12), loss=loss)
    assert sub.under_way.scores.untouched


@pytest.mark.parametrize("accumulate", [2, 3, 4])
@pytest.mark.parametrize("share", [0.3, 0.48, 0.6])
def test_batches_of_one_sample_make_all_steps_too(share, accumulate):
    sub, loader = thinned(400, 1, Fraction(share), accumulate=accumulate)
    steps = -(-400 // accumulate)
    while sub.epoch < sub.epochs:
        assert -(-len(loader) // sub.accumulate) == steps
        for index, _ in loader:
            assert len(index) == 1
            sub.record(index, index / 400)
        sub.step()
    assert sub.total_steps(1) == 4 * steps
    assert sub.history[-1].kept < 400 or share < 0.6


def test_samples_left_out_by_chance_or_as_outliers_leave_the_mean_as_it_is():
    scores = torch.linspace(0.1, 3, 240)
    for policy in (RandomFraction(0.5), Fraction(0.5, remove="highest")):
        sub, got = gradients(240, 24, policy, scores)
        assert torch.allclose(got[sub.kept], torch.tensor(1 / 12))


@pytest.mark.parametrize("stop", range(9))
def test_a_resumed_epoch_has_the_batches_that_were_planned(stop):
    scores = torch.rand(203, generator=torch.Generator().manual_seed(0))
    sub, loader = thinned(203, 24, Fraction(0.4))
    first_epoch(sub, loader, scores)
    planned = [index.tolist() for index, _ in loader]
    for index, _ in itertools.islice(loader, stop):
        sub.record(index, scores[index])
    again, rest = thinned(203, 24, Fraction(0.4))
    again.load_state_dict(sub.state_dict())
    assert [index.tolist() for index, _ in rest] == planned[stop:]
    assert again.progress == sub.progress
    assert again.under_way.gradient_factor(10) == sub.under_way.gradient_factor(10)


def test_a_removal_by_hand_inside_an_epoch_does_not_change_its_batches_after_a_resume():
    sub, loader = thinned(200, 20, Fraction(0.4))
    first_epoch(sub, loader, torch.linspace(0, 1, 200))
    planned = [index.tolist() for index, _ in loader]
    index, _ = next(iter(loader))
    sub.record(index, torch.ones(len(index)))
    sub.remove(range(150, 200))
    again, rest = thinned(200, 20, Fraction(0.4))
    again.load_state_dict(sub.state_dict())
    for (index, _), expected in zip(rest, planned[1:], strict=True):
        assert index.tolist() == expected
        again.record(index, torch.ones(len(index)))
    again.step()
    assert len(rest) == -(-150 // 20)


def test_a_thin_epoch_accumulates_over_fewer_batches():
    sub, loader = thinned(480, 10, Fraction(0.5), accumulate=4)
    assert (len(loader), sub.accumulate) == (48, 4)
    first_epoch(sub, loader, torch.rand(480))
    assert (len(loader), sub.accumulate) == (24, 2)
    weight = torch.zeros(480)
    for index, _ in loader:
        assert len(index) == 10
        losses = torch.ones(10, requires_grad=True)
        (sub.record(index, losses) / sub.accumulate).backward()
        weight[index] = losses.grad
    assert torch.allclose(weight[sub.kept], torch.tensor(1 / 40))


@pytest.mark.parametrize(
    ("n", "batch", "accumulate", "batches"),
    [(130, 16, 8, 10), (100, 16, 32, 7), (33, 16, 100, 3), (64, 16, 2, 4)],
)
def test_a_full_epoch_has_the_batches_that_its_samples_fill(n, batch, accumulate, batches):
    """However many batches a step of full training would take."""
    sub, loader = thinned(n, batch, Fraction(0.5), accumulate=accumulate)
    sizes = [len(index) for index, _ in loader]
    assert len(sizes) == batches
    assert max(sizes) - min(sizes) <= 1
    assert batches % sub.accumulate == 0
    assert batches // sub.accumulate == -(-n // (batch * accumulate))


@pytest.mark.parametrize("resumed", [{"batch": 20}, {"batch": 7}, {"accumulate": 3}])
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_the_rest_of_an_epoch_comes_whole_in_other_batches_too(stop, resumed):
    sub, loader = thinned(203, 12, Fraction(0.4))
    first_epoch(sub, loader, torch.rand(203, generator=torch.Generator().manual_seed(0)))
    order, used = sub.order()[:].tolist(), 0
    for index, _ in itertools.islice(loader, stop):
        sub.record(index, torch.ones(len(index)))
        used += len(index)
    again, rest = thinned(203, **{"batch": 12, "policy": Fraction(0.4), **resumed})
    again.load_state_dict(sub.state_dict())
    found = [index.tolist() for index, _ in rest]
    assert [i for part in found for i in part] == order[used:]
    assert len(found) == len(rest)
    for index, _ in rest:
        again.record(index, torch.ones(len(index)))
    assert again.progress == pytest.approx(0.5)
    again.step()


def test_the_first_decision_is_checked_under_kept_steps_too():
    for kept_steps in (False, True):
        sub = Subsampler(256, Threshold(low=5.0), Schedule(4))
        loader = sub.loader(range(256), 16, kept_steps=kept_steps)
        for index, _ in loader:
            sub.record(index, torch.ones(len(index)))
        with pytest.raises(InvalidValue, match="must keep at least one sample at its first decision"):
            sub.step()


def test_the_number_of_steps_is_known_whatever_the_scores():
    sub, loader = thinned(203, 24, ErrorMass())
    assert sub.total_steps(24) == 4 * len(loader) == 36
    with pytest.raises(InvalidValue, match=r"must be that of the loader\. Found 20 and 24"):
        sub.total_steps(20)
    first_epoch(sub, loader, torch.rand(203))
    sub.extend(100)
    assert sub.total_steps(24) == 9 + 3 * 13
    sub.finish(2)
    assert sub.total_steps(24) == 9 + 2 * 13


def test_the_policy_decides_unless_it_is_told():
    for policy, kept in ((ErrorMass(), True), (Fraction(0.5), False)):
        for wish in (None, True, False):
            sub = Subsampler(80, policy, Schedule(epochs=3))
            sub.loader(range(80), 8, kept_steps=wish)
            assert (sub.under_way.kept_steps is not None) == (kept if wish is None else wish)


def test_no_batch_is_dropped_under_kept_steps():
    sub = Subsampler(40, Fraction(0.5), Schedule(2))
    with pytest.raises(
        InvalidValue, match=r"`drop_last` goes with steps that are dropped\. Found kept_steps"
    ):
        sub.loader(range(40), 16, drop_last=True, kept_steps=True)
    loader = sub.loader(range(40), 16, drop_last=True, kept_steps=False)
    assert [len(index) for index, _ in loader] == [16, 16]


def test_wrong_use_raises():
    sub, _ = thinned(80, 8, Fraction(0.5))
    with pytest.raises(InvalidValue, match="must agree on the batches"):
        sub.loader(range(80), 10, kept_steps=True)
    with pytest.raises(InvalidValue, match=r"must agree on kept_steps\. Found one with and one without"):
        sub.loader(range(80), 8)
    other = Subsampler(80, Fraction(0.5), Schedule(epochs=3))
    other.loader(range(80), 8)
    with pytest.raises(InvalidValue, match=r"must agree on kept_steps\. Found one with and one without"):
        other.loader(range(80), 8, kept_steps=True)
    other = Subsampler(80, Fraction(0.5), Schedule(epochs=3))
    with pytest.raises(InvalidValue, match=r"`accumulate` goes with kept_steps\. Found 2"):
        other.loader(range(80), 8, accumulate=2)
    with pytest.raises(InvalidType, match="`kept_steps` must be"):
        other.loader(range(80), 8, kept_steps="yes")
    with pytest.raises(InvalidValue, match="`accumulate`"):
        other.loader(range(80), 8, kept_steps=True, accumulate=0)
