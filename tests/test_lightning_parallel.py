"""Lightning's ModelParallelStrategy: two replicas of a network, each split over two processes."""

import os

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from fallow import ActivationDensity, ErrorMass, FallowError, Fraction, Schedule, Subsampler
from fallow.densities import Gaussian
from fallow.integrations.lightning import SubsamplingCallback
from ranks import in_ranks
from trainers import quiet_trainer

N, EPOCHS, GLOBAL = 420, 5, 28
RUNS = ("losses", "densities")
INSIDE = 10, 40
LAST = 30
"""The last step of the second epoch: under kept steps each has 15."""


class Split(LightningModule):
    """A network whose first layer is split by columns and whose last one by rows."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        layers = nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4)
        self.net = nn.Sequential(*layers).double()
        self.seen = []

    def configure_model(self):
        if self.device_mesh is not None:
            plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
            parallelize_module(self.net, self.device_mesh["tensor_parallel"], plan)
            fully_shard(self.net, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch, batch_idx):
        points, labels, rows = batch
        self.seen.append(rows.tolist())
        losses = cross_entropy(self.net(points), labels, reduction="none")
        return {"loss": losses.mean(), "per_sample_loss": losses}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.2, momentum=0.8)


def data():
    labels = torch.arange(N) % 4
    points = torch.randn(N, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return TensorDataset(points + 3 * nn.functional.one_hot(labels, 4)[:, :3], labels, torch.arange(N))


def train(run, replicas=1, checkpoints=(), resumed=None, **options):
    """Train by the losses, or by the density of the outputs."""
    module = Split()
    policy, monitor = ErrorMass(), None
    if run == "densities":
        policy, monitor = Fraction(0.3), ActivationDensity(module, "net.2", Gaussian(), panel=100)
    sub = Subsampler(N, policy, Schedule(EPOCHS), seed=3)
    loader = sub.loader(data(), GLOBAL // replicas)
    callback = SubsamplingCallback(sub, monitor=monitor)
    trainer = quiet_trainer(
        max_epochs=EPOCHS,
        callbacks=[callback, *checkpoints],
        enable_checkpointing=bool(checkpoints),
        **options,
    )
    trainer.fit(module, loader, ckpt_path=resumed)
    weights = [w.full_tensor() if hasattr(w, "full_tensor") else w for w in module.parameters()]
    return {
        "used": [record.used for record in sub.history],
        "seen": module.seen,
        "scores": sub.scores,
        "weights": [weight.detach() for weight in weights],
        "refreshes": monitor and monitor.refreshes,
    }


def split(run, size, **options):
    strategy = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=2)
    return train(run, 2, devices=size, strategy=strategy, **options)


def refusal(run, size, **options):
    try:
        split(run, size, **options)
    except FallowError as error:
        return str(error)


def work(rank, size, folder):
    os.environ["LOCAL_RANK"] = str(rank)  # Lightning starts no processes of its own then
    saving = [
        ModelCheckpoint(
            folder, "{step}", save_top_k=-1, every_n_train_steps=10, enable_version_counter=False
        ),
        ModelCheckpoint(folder, "end-{epoch}", save_top_k=-1, save_on_train_epoch_end=True),
    ]
    found = {"losses": split("losses", size, checkpoints=saving), "densities": split("densities", size)}
    resumed = [f"{folder}/step={step}.ckpt" for step in INSIDE] + [f"{folder}/end-epoch=1.ckpt"]
    found["resumed"] = [split("losses", size, resumed=path) for path in resumed]
    found["refusal"] = refusal("losses", size, resumed=f"{folder}/step={LAST}.ckpt")
    torch.save(found, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    in_ranks(work, 4, str(folder))
    return [torch.load(folder / f"{rank}.pt") for rank in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_the_run_is_that_of_one_process(ranks, run):
    alone = train(run)
    assert any(not used.all() for used in alone["used"])
    for rank in ranks:
        found = rank[run]
        assert all(map(torch.equal, found["used"], alone["used"]))
        assert found["refreshes"] == alone["refreshes"]
        torch.testing.assert_close(found["scores"], alone["scores"], rtol=0, atol=1e-6, equal_nan=True)
        for weight, expected in zip(found["weights"], alone["weights"], strict=True):
            assert torch.allclose(weight, expected, rtol=0, atol=1e-10)
    first, second = ranks[0][run]["seen"], ranks[2][run]["seen"]
    assert ranks[1][run]["seen"] == first
    assert ranks[3][run]["seen"] == second
    assert [a + b for a, b in zip(first, second, strict=True)] == alone["seen"]


@pytest.mark.slow
def test_a_run_goes_on_from_lightnings_checkpoints(ranks):
    for rank in ranks:
        whole = rank["losses"]
        for found in rank["resumed"]:
            assert len(found["used"]) == EPOCHS
            assert all(map(torch.equal, found["used"], whole["used"]))
            torch.testing.assert_close(found["scores"], whole["scores"], rtol=0, atol=1e-6, equal_nan=True)
            for weight, expected in zip(found["weights"], whole["weights"], strict=True):
                assert torch.allclose(weight, expected, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_a_checkpoint_of_an_epoch_that_had_not_ended_is_refused(ranks):
    assert all("All batches of epoch 2 of 5 were done" in str(rank["refusal"]) for rank in ranks)
