"""Ray Train: two workers, a loader that it has prepared, and a worker that dies."""

import os
import tempfile
from pathlib import Path

import pytest
import ray
import ray.train
import torch
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, prepare_data_loader, prepare_model
from torch import nn
from torch.utils.data import TensorDataset

from fallow import Schedule, Subsampler, Threshold

N, EPOCHS = 64, 3


def made(batch_size):
    data = TensorDataset(torch.randn(N, 3, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 2)
    sub = Subsampler(N, Threshold(0.6), Schedule(EPOCHS, readmit_every=2), seed=1)
    torch.manual_seed(2)
    model = nn.Linear(3, 2)
    return sub, sub.loader(data, batch_size, kept_steps=True), model


def step(sub, model, optimizer, index, x, y):
    losses = nn.functional.cross_entropy(model(x), y, reduction="none")
    optimizer.zero_grad()
    sub.record(index, losses).backward()
    optimizer.step()


def plain():
    sub, loader, model = made(8)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    while sub.epoch < EPOCHS:
        for index, (x, y) in loader:
            step(sub, model, optimizer, index, x, y)
        sub.step()
    return [record.used for record in sub.history], model.state_dict()


def work(config):
    """Save after every step; die once, in the middle of an epoch."""
    rank, folder = ray.train.get_context().get_world_rank(), Path(config["folder"])
    sub, loader, model = made(4)
    loader, model = prepare_data_loader(loader), prepare_model(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    if (checkpoint := ray.train.get_checkpoint()) is not None:
        with checkpoint.as_directory() as saved:
            state = torch.load(f"{saved}/state.pt", weights_only=True)
        sub.load_state_dict(state["subsampler"])
        model.load_state_dict(state["model"])
        (folder / f"resumed-{rank}").write_text(str(sub.under_way.scores.table.recorded))
    while sub.epoch < EPOCHS:
        for number, (index, (x, y)) in enumerate(loader):
            step(sub, model, optimizer, index, x, y)
            state = {"subsampler": sub.state_dict(), "model": model.state_dict()}
            with tempfile.TemporaryDirectory() as made_here:
                torch.save(state, f"{made_here}/state.pt")
                ray.train.report({}, checkpoint=Checkpoint.from_directory(made_here) if rank == 0 else None)
            if rank == 1 and (sub.epoch, number) == (1, 3) and not (folder / "died").exists():
                (folder / "died").touch()
                os._exit(1)
        sub.step()
    torch.save(([record.used for record in sub.history], model.module.state_dict()), folder / f"{rank}.pt")


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_two_workers_of_which_one_dies_are_the_plain_loop(tmp_path):
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {"env_vars": {"PYTHONPATH": here, "OMP_NUM_THREADS": "1"}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    try:
        TorchTrainer(
            work,
            train_loop_config={"folder": str(tmp_path)},
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(
                storage_path=str(tmp_path / "ray"), failure_config=FailureConfig(max_failures=1)
            ),
        ).fit()
    finally:
        ray.shutdown()
    expected, weights = plain()
    assert any(not used.all() for used in expected)
    for rank in range(2):
        assert int((tmp_path / f"resumed-{rank}").read_text()) > 0
        used, model = torch.load(tmp_path / f"{rank}.pt")
        assert all(map(torch.equal, used, expected))
        for name, weight in model.items():
            torch.testing.assert_close(weight, weights[name])
