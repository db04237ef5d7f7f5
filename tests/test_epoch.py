"""What is read off a subsampler: order, lengths, progress, and copies of what it knows."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import Fraction, RandomFraction, Schedule, Subsampler, Threshold
from fallow.errors import InvalidValue, WrongState
from fallow.policies import BelowMean
from toy_epochs import N, draws, epoch_of, subsampler


def test_the_order_is_what_the_loader_yields_and_can_be_read_anywhere():
    sub = subsampler()
    loader = sub.loader(range(N), 8)
    for epoch in range(3):
        order = sub.order()
        whole = order[:].tolist()
        assert len(order) == int(sub.kept.sum())
        assert order[5:11].tolist() == whole[5:11]
        assert [i for part in epoch_of(sub, draws(epoch), loader) for i in part] == whole
        assert sub.order(epoch)[:].tolist() == whole
    with pytest.raises(InvalidValue, match=r"must be in \[0, 3\]\. Found 4"):
        sub.order(4)


# --- lengths and progress ---


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("full_batches", [False, True])
@pytest.mark.parametrize(
    "schedule",
    [Schedule(epochs=5), Schedule(epochs=7, warmup=2, readmit_every=3), Schedule(epochs=8, full_tail=0.3)],
)
@pytest.mark.parametrize("policy", [Fraction(0.3), RandomFraction(0.6)], ids=repr)
def test_total_steps_are_the_counted_batches(policy, schedule, full_batches, batch):
    sub = subsampler(policy, schedule=schedule)
    loader = sub.loader(range(N), batch, full_batches=full_batches)
    total, counted = sub.total_steps(batch), 0
    for epoch in range(schedule.epochs):
        length = len(loader)
        batches = epoch_of(sub, draws(epoch), loader)
        assert len(batches) == length
        counted += length
    assert counted == total


@pytest.mark.parametrize("policy", [Threshold(low=0.1), BelowMean(0.3)], ids=repr)
def test_total_steps_raise_where_scores_decide(policy):
    with pytest.raises(WrongState, match=r"depends on the scores.*subsampler\.progress"):
        subsampler(policy).total_steps(8)


def test_full_batches_are_topped_up_with_the_highest_learned():
    sub = subsampler()
    loader = sub.loader(range(N), 8, full_batches=True)
    losses = torch.where(torch.arange(N) < 21, 0.01 * torch.arange(N), 1.0)
    epoch_of(sub, losses, loader)
    assert sub.removed.nonzero().flatten().tolist() == list(range(16))
    assert [len(index) for index, _ in loader] == [8, 8, 8]
    sub.remove([39])
    assert sub.removed.nonzero().flatten().tolist() == [*range(15), 39]
    assert [len(index) for index, _ in loader] == [8, 8, 8]
    with pytest.raises(InvalidValue, match=r"must agree on the batch size\. Found 8 and 5"):
        sub.loader(range(N), 5, full_batches=True)


@given(batch=st.integers(1, 50), drop_last=st.booleans(), low=st.floats(0, 2))
@settings(max_examples=25, deadline=None)
def test_progress_runs_from_0_to_1(batch, drop_last, low):
    sub = subsampler(Threshold(low=low), epochs=3, min_kept=2)
    loader = sub.loader(range(N), batch, drop_last=drop_last)
    seen = [sub.progress]
    for epoch in range(3):
        assert sub.progress == pytest.approx(epoch / 3)
        for index, _ in loader:
            sub.record(index, draws(epoch)[index])
            seen.append(sub.progress)
        assert sub.progress == pytest.approx((epoch + 1) / 3)
        sub.step()
    assert (seen[0], sub.progress) == (0.0, 1.0)
    assert all(a < b for a, b in itertools.pairwise(seen))


# --- what is handed out is the reader's own ---


@pytest.mark.parametrize(
    "name", ["kept", "removed", "reason", "scores", "last_scored", "predicted", "labels"]
)
def test_writing_over_what_was_read_changes_nothing(name):
    sub = subsampler(labels=[1] * N)
    epoch_of(sub, draws(0))
    before = getattr(sub, name).clone()
    getattr(sub, name).fill_(1)
    getattr(sub, name).zero_()
    assert torch.equal(getattr(sub, name).nan_to_num(-1), before.nan_to_num(-1))
    assert before.nan_to_num(-1).unique().numel() > 1 or name in ("labels", "predicted", "last_scored")


def test_types_and_first_values():
    sub = subsampler()
    found = {name: getattr(sub, name) for name in ("kept", "removed", "reason", "scores", "last_scored")}
    dtypes = [torch.bool, torch.bool, torch.uint8, torch.float32, torch.int64]
    assert [t.dtype for t in found.values()] == dtypes
    assert all(t.shape == (N,) for t in found.values())
    assert found["kept"].all()
    assert not found["removed"].any()
    assert found["scores"].isnan().all()
    assert (found["last_scored"] == -1).all()
    assert (sub.predicted == -1).all()
    assert sub.labels is None
    assert (sub.epoch, sub.progress, sub.record_seconds) == (0, 0.0, 0.0)


def test_scores_of_the_running_epoch_can_be_read():
    sub = subsampler()
    epoch_of(sub, draws(0))
    loader = sub.loader(range(N), 8)
    index, _ = next(iter(loader))
    sub.record(index, torch.full((8,), 9.0))
    assert (sub.scores[index] == 9.0).all()
    assert (sub.last_scored[index] == 1).all()
    others = torch.ones(N, dtype=torch.bool)
    others[index] = False
    assert torch.equal(sub.scores[others], draws(0)[others])
    assert (sub.last_scored[others] == 0).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loop_that_skips_what_the_loader_has_skipped_is_told(workers):
    half, data = Subsampler(20, Threshold(0.1), Schedule(3)), list(range(20))
    for (index, _), _ in zip(half.loader(data, 4), range(2), strict=False):
        half.record(index, torch.ones(len(index)))
    sub = Subsampler(20, Threshold(0.1), Schedule(3))
    sub.load_state_dict(half.state_dict())
    loader = sub.loader(data, 4, num_workers=workers)
    for at, (index, _) in enumerate(loader):
        if at == 2:
            with pytest.raises(WrongState, match="`continue` over the first batches"):
                sub.record(index, torch.ones(4))
    assert sub.under_way.scores.table.recorded == 8
    with pytest.raises(WrongState, match="were not recorded"):
        sub.step()
    # Its parts may be recorded one by one, or in another order.
    for index, _ in loader:
        for part in index.split(2)[::-1]:
            sub.record(part, torch.ones(2))
    sub.step()
    assert sub.history[0].backward == 20


def test_a_resumed_epoch_may_end_without_another_batch():
    half = Subsampler(20, Threshold(0.1), Schedule(3))
    half.record(torch.arange(8), torch.ones(8))
    sub = Subsampler(20, Threshold(0.1), Schedule(3))
    sub.load_state_dict(half.state_dict())
    sub.step()
    assert sub.epoch == 1


def test_other_loops_after_a_resume_are_left_alone():
    """A batch that is skipped for its own sake, batches in another order, a limit, a look."""

    def resumed():
        half, data = Subsampler(40, Threshold(0.1), Schedule(3)), list(range(40))
        for (index, _), _ in zip(half.loader(data, 4), range(3), strict=False):
            half.record(index, torch.ones(len(index)))
        sub = Subsampler(40, Threshold(0.1), Schedule(3))
        sub.load_state_dict(half.state_dict())
        return sub, sub.loader(data, 4)

    sub, loader = resumed()
    for at, (index, _) in enumerate(loader):
        if at:
            sub.record(index, torch.ones(4))
    with pytest.warns(UserWarning, match="were recorded"):
        sub.step()
    sub, loader = resumed()
    for index, _ in list(loader)[::-1]:
        sub.record(index, torch.ones(4))
    sub.step()
    assert sub.history[0].backward == 40
    sub, loader = resumed()
    for _ in loader:
        break
    sub.step()
    sub, loader = resumed()
    next(iter(loader))
    order = torch.as_tensor(sub.order()[:])
    sub.record(order[-3:], torch.ones(3))
    sub.record(order[:-3], torch.ones(len(order) - 3))
    sub.step()
    assert sub.history[0].backward == 40
