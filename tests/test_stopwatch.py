"""Where the time of an epoch goes, on a clock that the test turns."""

import pytest
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader, Dataset

from fallow.training import stopwatch
from fallow.training.stopwatch import Stopwatch
from trainers import quiet_trainer


class Clock:
    now = 0.0

    def perf_counter(self):
        return self.now


class Slow(Dataset):
    """Takes two seconds for each sample."""

    def __init__(self, clock):
        self.clock = clock

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.clock.now += 2.0
        return float(index)


class Module(LightningModule):
    """Takes three seconds a step and five for an evaluation batch."""

    def __init__(self, clock):
        super().__init__()
        self.clock, self.layer = clock, nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        self.clock.now += 3.0
        return self.layer(batch.float()[:, None]).mean()

    def validation_step(self, batch, batch_idx):
        self.clock.now += 5.0

    def configure_optimizers(self):
        import torch

        return torch.optim.SGD(self.parameters(), lr=0.1)


class Readings(Stopwatch):
    def __init__(self):
        super().__init__()
        self.read = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.read.append((self.waiting, self.evaluating, self.seconds))


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    return clock


def test_waiting_and_evaluating_are_told_apart(clock, tmp_path):
    watch = Readings()
    trainer = quiet_trainer(max_epochs=2, default_root_dir=tmp_path, callbacks=[watch])
    trainer.fit(Module(clock), DataLoader(Slow(clock), batch_size=2), DataLoader(Slow(Clock()), batch_size=4))
    # Lightning fetches one batch ahead: all waiting is there, wherever in the epoch it falls.
    assert [reading[:2] for reading in watch.read] == [(8.0, 5.0), (8.0, 5.0)]
    assert [reading[2] for reading in watch.read] == [2 * 4 + 2 * 3 + 5] * 2
