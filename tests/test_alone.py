"""Ranks that do not do what all of them must do: told within seconds, or before the first batch."""

import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from fallow import Schedule, Subsampler, Threshold
from fallow.arrays import distributed
from fallow.core.state import opened
from fallow.errors import WrongState
from ranks import in_ranks


def begun():
    sub = Subsampler(64, Threshold(0.2), Schedule(3))
    loader = sub.loader(range(64), 8)
    batches = iter(loader)
    index, _ = next(batches)
    sub.record(index, index / 64)
    return sub, batches


def alone(rank, size, folder):
    """The first rank saves alone, and the other goes on with its gradients."""
    sub, batches = begun()
    if rank == 0:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(distributed, "PATIENCE", timedelta(seconds=1))
            with pytest.raises(WrongState) as error:
                sub.state_dict()
        torch.save(str(error.value), f"{folder}/said.pt")
    else:
        next(batches)
        with pytest.raises(RuntimeError):
            dist.all_reduce(torch.ones(3))  # the first rank has gone


def late(rank, size, folder):
    """The first rank comes late, and the others wait longer than it would."""
    sub, _ = begun()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "PATIENCE", timedelta(seconds=1))
        if rank == 0:
            time.sleep(3)
        torch.save(opened(sub.state_dict())["table"]["seen"], f"{folder}/{rank}.pt")
        distributed._barrier(None, 60.0)


def test_a_state_that_one_rank_saves_is_refused_and_names_the_call(tmp_path):
    in_ranks(alone, 2, str(tmp_path))
    said = torch.load(tmp_path / "said.pt")
    assert said == (
        "state_dict() is a collective call inside an epoch: each of the 2 ranks must make it. Found some "
        "that have not come in 1 seconds. Call it on every rank, and write its result on one."
    )


def test_a_first_rank_that_comes_late_is_waited_for(tmp_path):
    in_ranks(late, 2, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    assert first.sum() == 16


def test_ranks_that_have_not_met_are_told_once(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    sub = Subsampler(8, Threshold(0.2), Schedule(3))
    loader = sub.loader(range(8), 4)
    with pytest.warns(UserWarning, match=r"WORLD_SIZE is 4, .* each of the 4 processes trains on every"):
        assert len(list(loader)) == 2
    assert len(list(loader)) == 2
    for value in ("1", "", "many"):
        monkeypatch.setenv("WORLD_SIZE", value)
        assert len(list(Subsampler(8, Threshold(0.2), Schedule(3)).loader(range(8), 4))) == 2


def skips_twice(rank, size):
    data = list(range(64))
    half, sub = (Subsampler(64, Threshold(0.1), Schedule(3)) for _ in range(2))
    for (index, _), _ in zip(half.loader(data, 4), range(3), strict=False):
        half.record(index, torch.ones(4))
    for state in (half.state_dict(local=True), half.state_dict()):
        sub.load_state_dict(state)
        for at, (index, _) in enumerate(sub.loader(data, 4)):
            if at == 3:
                with pytest.raises(WrongState, match="were not recorded"):
                    sub.record(index, torch.ones(4))


def test_two_ranks_do_not_skip_twice():
    in_ranks(skips_twice, 2)
