"""The sharded subsampler: that of one process, on any number of ranks, also after a resume."""

import json
import os
from itertools import chain

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp

from fallow import (
    ErrorMass,
    Fraction,
    InvalidType,
    InvalidValue,
    Schedule,
    ShardedSubsampler,
    Subsampler,
    WrongState,
)
from fallow.scores import Hellinger
from ranks import in_ranks

N, GLOBAL, EPOCHS = 2_011, 48, 6
POLICY = ErrorMass(high=None)


def losses_of(index, epoch):
    """Scores that float16 holds, low for most samples."""
    noise = torch.rand(N, generator=torch.Generator().manual_seed(epoch))
    own = torch.rand(N, generator=torch.Generator().manual_seed(99)) ** 6
    return (own * noise * 4).half().float()[index]


def made(size=1, **options):
    sub = ShardedSubsampler(N, POLICY, Schedule(EPOCHS), seed=3, **options)
    return sub, sub.loader(range(N), GLOBAL // size)


def train(sub, loader, stop=None):
    """Train to the end, or to a number of batches; return what this rank used in each epoch."""
    batches, used = 0, [[] for _ in range(EPOCHS)]
    while sub.epoch < EPOCHS:
        for index, _ in loader:
            if batches == stop:
                return used
            sub.record(index, losses_of(index, sub.epoch))
            used[sub.epoch] += index.tolist()
            batches += 1
        if batches == stop:
            return used
        sub.step()
    return used


@pytest.mark.filterwarnings("ignore:.*are not finite:RuntimeWarning")
@pytest.mark.parametrize("odd", ["none", "zeros", "bad"])
def test_it_is_the_subsampler_of_one_process(odd):
    def spoiled(losses, index, epoch):
        """Learned samples of zeros of either sign, or an epoch with many bad scores."""
        if odd == "zeros":
            return torch.where(losses < 0.05, torch.where(index % 2 == 0, -0.0, -1e-9), losses)
        if odd == "bad" and epoch == 2:
            return torch.where(index % 5 == 0, torch.nan, losses)
        return losses

    plain = Subsampler(N, POLICY, Schedule(EPOCHS), seed=3)
    sub, loader = made()
    both = plain.loader(range(N), GLOBAL)
    for epoch in range(EPOCHS):
        assert torch.equal(sub.keeps(torch.arange(N)), plain.kept)
        assert sub.kept == int(plain.kept.sum())
        assert len(loader) == len(both)
        for (index, _), (other, _) in zip(loader, both, strict=True):
            assert torch.equal(index, other)
            losses = spoiled(losses_of(index, epoch), index, epoch)
            mine, its = (losses.clone().requires_grad_() for _ in range(2))
            sub.record(index, mine).backward()
            plain.record(index, its).backward()
            assert torch.equal(mine.grad, its.grad) or odd == "bad"
            assert sub.progress == plain.progress
        sub.step()
        plain.step()
        if (means := plain.under_way.scores.table.columns.get("mean_error")) is not None:
            means.view(np.uint32)[:] &= 0xFFFF0000  # as a part keeps them
    assert [record.kept for record in sub.history] == [record.kept for record in plain.history]
    assert [record.backward for record in sub.history] == [record.backward for record in plain.history]
    assert [record.readmitted for record in sub.history] == [record.readmitted for record in plain.history]
    assert min(record.kept for record in sub.history) < 0.8 * N
    for mine, its in zip(sub.history, plain.history, strict=True):
        assert mine.notes == pytest.approx(its.notes)


def on_ranks(rank, size, folder, stops):
    sub, loader = made(size, directory=folder)
    torch.save((train(sub, loader), sub.history), f"{folder}/whole-{size}-{rank}.pt")
    for stop in stops:
        sub, loader = made(size)
        train(sub, loader, stop)
        dcp.save({"fallow": sub}, checkpoint_id=f"{folder}/{size}-{stop}")


def resumed(rank, size, folder, names):
    for name in names:
        sub, loader = made(size)
        dcp.load({"fallow": sub}, checkpoint_id=f"{folder}/{name}")
        torch.save((train(sub, loader), sub.history), f"{folder}/on-{size}-{name}-{rank}.pt")


def together(folder, name, size):
    """Return what all ranks used in each epoch, and the history of each rank."""
    parts = [torch.load(f"{folder}/{name}-{rank}.pt", weights_only=False) for rank in range(size)]
    epochs = zip(*(used for used, _ in parts), strict=True)
    return [sorted(chain.from_iterable(epoch)) for epoch in epochs], [history for _, history in parts]


STOPS = (0, 5, 42, 100, 170)
"""Before anything, inside the first epoch, at its end, and inside epochs with samples left out."""


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_any_number_of_ranks_is_the_same_run_also_from_inside_an_epoch(tmp_path):
    folder = str(tmp_path)
    on_ranks(0, 1, folder, STOPS)
    whole, (history,) = together(folder, "whole-1", 1)
    assert min(map(len, whole)) < 0.8 * N
    for size in (2, 4):
        in_ranks(on_ranks, size, folder, STOPS[:4:3] if size == 4 else STOPS)
        used, histories = together(folder, f"whole-{size}", size)
        assert used == whole
        assert histories == [history] * size
    names = [f"1-{stop}" for stop in STOPS] + [f"2-{stop}" for stop in STOPS] + ["4-0", "4-100"]
    for size in (1, 2):
        resumed(0, 1, folder, names) if size == 1 else in_ranks(resumed, 2, folder, names)
        for name in names:
            used, histories = together(folder, f"on-{size}-{name}", size)
            stop, done = int(name.split("-")[1]), 0
            for epoch, (rest, all_of_it) in enumerate(zip(used, whole, strict=True)):
                if done + 42 > stop:  # each epoch has 42 batches
                    before = max(0, stop - done) * len(all_of_it) // 42
                    assert len(rest) == len(all_of_it) - before, (name, epoch)
                    assert set(rest) <= set(all_of_it)
                else:
                    assert rest == []
                done += 42
            assert histories == [history] * size


def test_a_state_of_one_process_is_tensors_that_torch_saves(tmp_path):
    sub, loader = made()
    train(sub, loader, 100)
    torch.save(sub.state_dict(), tmp_path / "state.pt")
    whole = train(*made())
    again, loader = made()
    again.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert again.progress == sub.progress
    rest = train(again, loader)
    assert rest[3:] == whole[3:]
    assert rest[2] == whole[2][-len(rest[2]) :]
    assert 0 < len(rest[2]) < len(whole[2])


def test_batches_that_wait_for_an_optimizer_step_are_repeated():
    sub, loader = made()
    for batch, (index, _) in enumerate(loader):
        sub.record(index, losses_of(index, 0), accumulating=batch >= 7)
        if batch == 8:
            break
    again, after = made()
    again.load_state_dict(sub.state_dict())
    assert len(after) == len(loader) - 7
    train(again, after)
    assert again.history[0].recorded == N


def test_another_iterator_goes_on_where_batches_were_recorded():
    whole = train(*made())
    sub, loader = made()
    assert train(sub, loader, 5)[0] + train(sub, loader)[0] == whole[0]
    with pytest.raises(WrongState, match="All 6 epochs are done"):
        iter(loader)


def test_an_epoch_that_is_over_yields_nothing_more():
    sub, loader = made()
    for index, _ in loader:
        sub.record(index, losses_of(index, 0))
    with pytest.raises(WrongState, match="Epoch 1 of 6 has ended"):
        iter(loader)


def test_accumulation_takes_fewer_batches():
    sub = ShardedSubsampler(N, POLICY, Schedule(EPOCHS), seed=3)
    loader = sub.loader(range(N), GLOBAL // 4, accumulate=4)
    train(sub, loader, 4 * 42)
    sub.step()
    assert sub.accumulate == 4
    train(sub, loader, len(loader))
    sub.step()
    assert sub.accumulate < 4


def refused(kind, match, call, *arguments, **options):
    with pytest.raises(kind, match=match):
        call(*arguments, **options)


def test_what_it_refuses(tmp_path):
    refused(InvalidValue, "without outliers", ShardedSubsampler, N, ErrorMass(), Schedule(3))
    refused(InvalidValue, "without outliers", ShardedSubsampler, N, Fraction(0.5), Schedule(3))
    refused(InvalidType, "must be a Schedule", ShardedSubsampler, N, POLICY, 3)
    refused(InvalidValue, "at most n", ShardedSubsampler, N, POLICY, Schedule(3), min_kept=N + 1)
    refused(InvalidValue, "Pass directory=", ShardedSubsampler, 10**13, POLICY, Schedule(3))
    none = tmp_path / "none"
    refused(
        InvalidValue,
        "`directory` must be a folder",
        ShardedSubsampler,
        N,
        POLICY,
        Schedule(3),
        directory=none,
    )
    sub, _ = made()
    refused(WrongState, "loader already", sub.loader, range(N), 8)
    refused(WrongState, "No sample was recorded", sub.step)
    refused(InvalidValue, "position in the training set", sub.record, torch.tensor([N]), torch.ones(1))
    refused(InvalidValue, "one value per sample", sub.record, torch.arange(3), torch.ones(4))
    sub = ShardedSubsampler(N, POLICY, Schedule(3))
    sub.record(torch.arange(3), torch.tensor([1.0, -0.5, 2.0]))
    refused(InvalidValue, "at least 0: .* -0.5 at sample 1", sub.step)
    for directory in (True, 5, "", b"x"):
        refused(
            InvalidValue, "path of a folder", ShardedSubsampler, N, POLICY, Schedule(3), directory=directory
        )
    refused(
        InvalidValue, "in this machine", ShardedSubsampler, 2**62, POLICY, Schedule(3), directory=tmp_path
    )


def test_the_length_of_the_dataset_is_checked():
    sub = ShardedSubsampler(N, POLICY, Schedule(3))
    refused(InvalidValue, "must be the training set of 2,011", sub.loader, range(N + 1), 8)
    for option in ("drop_last", "kept_steps", "group", "stateful", "full_batches"):
        refused(InvalidValue, f"takes no `{option}`", sub.loader, range(N), 8, **{option: True})
    refused(InvalidValue, "sampler", sub.loader, range(N), 8, sampler=range(N))
    assert len(sub.loader(range(N), np.uint8(200))) == 11


def test_many_scores_that_are_not_finite_remove_nothing():
    sub, loader = made()
    train(sub, loader, 2 * 42)
    sub.step()
    for batch, (index, _) in enumerate(loader):
        losses = losses_of(index, 2)
        sub.record(index, losses * float("nan") if batch < 5 else losses)
    with pytest.warns(RuntimeWarning, match="More than 5% of the scores of epoch 3 of 6 are not finite"):
        sub.step()
    assert sub.kept == N
    train(sub, loader, 42)
    sub.step()
    assert sub.kept < 0.9 * N


def test_samples_that_were_not_recorded_are_told_once():
    sub = ShardedSubsampler(N, POLICY, Schedule(EPOCHS))
    index = torch.arange(9)
    sub.record(index, losses_of(index, 0))
    with pytest.warns(UserWarning, match=r"of the 2,011 samples of epoch 1 of 6 were not recorded"):
        sub.step()
    sub.record(index, losses_of(index, 1))
    sub.step()


def test_a_state_of_another_training_is_refused_and_changes_nothing():
    sub, loader = made()
    train(sub, loader, 60)
    state = sub.state_dict()
    other = ShardedSubsampler(N, POLICY, Schedule(EPOCHS), seed=4)
    refused(InvalidValue, "`seed` must be that of the state", other.load_state_dict, state)
    longer = ShardedSubsampler(N + 64, POLICY, Schedule(EPOCHS), seed=3)
    refused(InvalidValue, "`n` must be that of the state", longer.load_state_dict, state)
    for spoiled in ({}, None, {**state, "run": "{"}, {**state, "flags": torch.zeros(3)}):
        refused(InvalidValue, "state", other.load_state_dict, spoiled)
    assert (other.epoch, other.kept) == (0, N)
    other.record(torch.arange(N), losses_of(torch.arange(N), 0))
    other.step()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_checkpoint_that_is_refused_changes_nothing(tmp_path):
    sub, loader = made()
    train(sub, loader, 60)
    dcp.save({"fallow": sub}, checkpoint_id=tmp_path)
    other = ShardedSubsampler(N, POLICY, Schedule(EPOCHS), seed=4)
    refused(Exception, "seed", dcp.load, {"fallow": other}, checkpoint_id=tmp_path)
    assert not other.shard.flags[:N].any()
    dcp.load({"fallow": made()[0]}, checkpoint_id=tmp_path)


def test_a_state_stays_what_it_was():
    sub, loader = made()
    train(sub, loader, 100)
    state, kept = sub.state_dict(), sub.kept
    rest = train(sub, loader)
    sub.load_state_dict(state)
    assert (sub.epoch, sub.kept) == (2, kept)
    assert train(sub, loader) == rest


def changed(state, **numbers):
    return {**state, "run": json.dumps(json.loads(state["run"]) | numbers)}


@pytest.mark.parametrize(
    "change",
    [
        {"used": -1},
        {"used": 10**9},
        {"epoch": -1},
        {"epoch": 99},
        {"kept": 5},
        {"history": [{}]},
        {"history": []},
        {"notes": 3},
        {"recorded": None},
        {"version": 2},
    ],
    ids=str,
)
def test_damaged_numbers_of_a_state(change):
    sub, loader = made()
    train(sub, loader, 60)
    state = sub.state_dict()
    other, _ = made()
    refused(InvalidValue, "must", other.load_state_dict, changed(state, **change))
    assert (other.epoch, other.kept) == (0, N)
    assert not other.shard.flags[:N].any()


@pytest.mark.parametrize("name", ["scores", "means", "flags"])
def test_damaged_arrays_of_a_state(name):
    sub, loader = made()
    train(sub, loader, 100)
    state = sub.state_dict()
    good = state[name]
    other, _ = made()
    damages = [good.to(torch.int64), good[1:], good.to("meta"), good.view(-1), None]
    damages += [torch.full_like(good, value) for value in ((0, 200) if name == "flags" else (-1, torch.nan))]
    for damaged in damages:
        refused(InvalidValue, "must", other.load_state_dict, {**state, name: damaged})
    assert not other.shard.flags[:N].any()
    other.load_state_dict(state)
    assert other.progress == sub.progress


def test_a_state_loads_into_an_object_that_was_used():
    states = {}
    for seed in (1, 2):
        sub = ShardedSubsampler(N, POLICY, Schedule(EPOCHS), seed=3)
        loader = sub.loader(range(N), GLOBAL)
        for _ in range(4):
            for index, _ in loader:
                sub.record(index, losses_of((index * seed) % N, sub.epoch))
            sub.step()
        states[seed] = (sub.state_dict(), sub.kept)
        assert sum(len(index) for index, _ in loader) == sub.kept
    assert states[1][1] != states[2][1]
    sub.load_state_dict(states[1][0])
    assert sum(len(index) for index, _ in loader) == sub.kept == states[1][1]


def test_batches_are_recorded_in_their_order_once_each():
    sub, loader = made()
    refused(WrongState, "that it has not yielded", sub.record, torch.arange(3), torch.ones(3))
    iterator = iter(loader)
    first, second = next(iterator)[0], next(iterator)[0]
    refused(WrongState, "come next", sub.record, second, torch.ones(len(second)))
    twice = torch.cat([first, first])
    refused(WrongState, "one row", sub.record, twice, torch.ones(len(twice)))
    sub.record(first[:5], torch.ones(5))  # a batch in parts
    sub.record(first[5:], torch.ones(len(first) - 5))
    refused(WrongState, "come next", sub.record, first, torch.ones(len(first)))
    sub.record(second, torch.ones(len(second)))


def test_an_iterator_of_an_epoch_that_is_over():
    sub, loader = made()
    state = sub.state_dict()
    train(sub, loader, 42)
    sub.step()
    iterator = iter(loader)
    next(iterator)
    sub.load_state_dict(state)
    with pytest.raises(WrongState, match="one of epoch 2 of 6, which is over"):
        list(iterator)


def test_a_score_with_a_largest_value():
    sub = ShardedSubsampler(N, POLICY, Schedule(3), score=Hellinger())
    sub.record(torch.arange(N), torch.linspace(0, 2.5, N))
    refused(InvalidValue, "must be at most 1. Found 2.5 at sample 2010", sub.step)
    sub = ShardedSubsampler(N, POLICY, Schedule(3), score=Hellinger())
    sub.record(torch.arange(N), torch.linspace(0, 1, N))
    sub.step()


def made_too_early(rank, size, folder):
    group = torch.distributed.new_group([0])
    sub = ShardedSubsampler(N, POLICY, Schedule(EPOCHS), group=group if rank == 0 else None)
    sub._ranks.group = None
    if rank == 0:
        with pytest.raises(WrongState, match="divided among 1 ranks, and now there are 2"):
            sub.record(torch.arange(3), torch.ones(3))
        with pytest.raises(WrongState, match="init_process_group"):
            sub.state_dict()
    open(f"{folder}/{rank}", "w").close()


def test_ranks_that_meet_later_are_refused(tmp_path):
    in_ranks(made_too_early, 2, str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]


def one_wrong(rank, size, folder):
    sub, loader = made(size)
    train(sub, loader, 50)
    state, kept = sub.state_dict(), sub.kept
    with pytest.raises(InvalidValue if rank else WrongState, match=r"must|Another rank"):
        sub.load_state_dict({} if rank else state)
    assert sub.kept == kept
    train(sub, loader)
    open(f"{folder}/{rank}", "w").close()


def test_a_state_that_one_rank_cannot_load(tmp_path):
    in_ranks(one_wrong, 2, str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]


def alone(rank, size, folder):
    sub, loader = made(size)
    train(sub, loader, 3 + rank)
    with pytest.raises(WrongState, match="A state must be of one batch"):
        sub.state_dict()
    open(f"{folder}/{rank}", "w").close()


def test_a_state_of_ranks_apart_is_refused(tmp_path):
    in_ranks(alone, 2, str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]
