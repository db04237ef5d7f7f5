"""torch.distributed.checkpoint, inside an epoch and on other numbers of ranks: a run goes on as it would."""

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

from fallow import ErrorMass, Schedule, Subsampler
from fallow.errors import InvalidValue
from ranks import in_ranks

N, GLOBAL, EPOCHS = 420, 24, 6
LABELS = torch.arange(N) % 4


def made(size):
    sub = Subsampler(N, ErrorMass(), Schedule(EPOCHS), seed=3, labels=LABELS)
    return sub, sub.loader(range(N), GLOBAL // size)


def losses_of(index, epoch):
    draw = torch.rand(N, generator=torch.Generator().manual_seed(epoch)).square() * 3
    draw[::3] /= 500
    return draw[index]


def train(sub, loader, stop=None):
    """Train to the end, or to a number of batches; return what each epoch used."""
    batches = 0
    while sub.epoch < EPOCHS:
        for index, _ in loader:
            if batches == stop:
                return None
            sub.record(index, losses_of(index, sub.epoch), predicted=index % 4)
            batches += 1
        if batches == stop:
            return None
        sub.step()
    return [record.used for record in sub.history], sub.scores


def save(rank, size, folder, stops):
    for stop in stops:
        sub, loader = made(size)
        train(sub, loader, stop)
        dcp.save({"subsampler": sub, "weight": torch.ones(3)}, checkpoint_id=f"{folder}/{size}-{stop}")


def load(rank, size, folder, names):
    for name in names:
        sub, loader = made(size)
        dcp.load({"subsampler": sub, "weight": torch.zeros(3)}, checkpoint_id=f"{folder}/{name}")
        torch.save(train(sub, loader), f"{folder}/on-{size}-{name}-{rank}.pt")


STOPS = (0, 5, 18, 40, 77)
"""Before anything, inside the first epoch, at its end, and inside epochs with samples left out."""


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_run_goes_on_from_inside_an_epoch_on_more_or_fewer_ranks(tmp_path):
    whole = train(*made(1))
    assert any(not used.all() for used in whole[0])
    save(0, 1, str(tmp_path), STOPS)
    in_ranks(save, 2, str(tmp_path), STOPS)
    names = [f"{size}-{stop}" for size in (1, 2) for stop in STOPS]
    load(0, 1, str(tmp_path), names)
    in_ranks(load, 2, str(tmp_path), names)
    for name in names:
        for size in (1, 2):
            for rank in range(size):
                used, scores = torch.load(tmp_path / f"on-{size}-{name}-{rank}.pt")
                assert all(map(torch.equal, used, whole[0])), (name, size)
                assert torch.equal(scores, whole[1])


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    sub, loader = made(1)
    train(sub, loader, 30)
    dcp.save({"subsampler": sub}, checkpoint_id=tmp_path / "saved")
    other = Subsampler(N - 1, ErrorMass(), Schedule(EPOCHS), seed=3)
    with pytest.raises(InvalidValue, match=r"The state must have the same `n`: 419. Found 420"):
        dcp.load({"subsampler": other}, checkpoint_id=tmp_path / "saved")
    assert other.epoch == 0
    assert not dist.is_initialized()
