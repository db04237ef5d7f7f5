"""Accelerate: what it prepares, and what it must not prepare on several processes."""

import os

import pytest
import torch
from accelerate import Accelerator, skip_first_batches
from torch import nn
from torch.utils.data import TensorDataset

from fallow import Schedule, Subsampler, Threshold
from fallow.errors import WrongState
from ranks import in_ranks

N, EPOCHS = 64, 3


def made(batch_size):
    data = TensorDataset(torch.randn(N, 3, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 2)
    sub = Subsampler(N, Threshold(0.6), Schedule(EPOCHS), seed=1)
    torch.manual_seed(2)
    return sub, sub.loader(data, batch_size), nn.Linear(3, 2)


def train(sub, loader, model, optimizer, accelerator):
    while sub.epoch < EPOCHS:
        for index, (x, y) in loader:
            losses = nn.functional.cross_entropy(model(x), y, reduction="none")
            accelerator.backward(sub.record(index, losses))
            optimizer.step()
            optimizer.zero_grad()
        sub.step()
    return [record.used for record in sub.history]


@pytest.mark.parametrize("skipped", [3, 5, 9])
@pytest.mark.filterwarnings("ignore:.*pin_memory")
def test_batches_are_not_skipped_twice(skipped):
    """After a state from the middle of an epoch, with 5 of 8 batches left."""
    accelerator = Accelerator(cpu=True)
    sub, loader, model = made(8)
    for _, (index, _) in zip(range(3), loader, strict=False):
        sub.record(index, torch.rand(8, requires_grad=True))
    again, loader, model = made(8)
    again.load_state_dict(sub.state_dict())
    rest = skip_first_batches(loader, skipped)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    with pytest.raises(WrongState, match=r"Epoch 1 of 3 was resumed.*remove Accelerate's skip_first_batches"):
        train(again, rest, model, optimizer, accelerator)
    train(again, loader, model, optimizer, accelerator)
    assert all(record.used.all() for record in again.history[:1])


def work(rank, size, folder):
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "ACCELERATE_USE_CPU": 1}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}
    os.environ |= {name: str(value) for name, value in names.items()}
    accelerator = Accelerator(cpu=True)
    sub, loader, model = made(4)
    with pytest.raises(WrongState, match="must not prepare this loader on 2 processes") as error:
        accelerator.prepare(loader)
    assert "model, optimizer = accelerator.prepare(model, optimizer)" in str(error.value)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.5))
    torch.save(train(sub, loader, model, optimizer, accelerator), f"{folder}/{rank}")


@pytest.mark.filterwarnings("ignore:.*pin_memory")
def test_one_process_prepares_all_and_two_all_but_the_loader(tmp_path):
    accelerator = Accelerator(cpu=True)
    sub, loader, model = made(8)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    expected = train(sub, *accelerator.prepare(loader, model, optimizer), accelerator)
    assert any(not used.all() for used in expected)
    in_ranks(work, 2, str(tmp_path))
    for rank in range(2):
        assert all(map(torch.equal, torch.load(tmp_path / str(rank)), expected))
