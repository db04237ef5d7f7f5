"""A training loop of plain PyTorch that may be stopped after any step and goes on exactly there.

python examples/stop_and_go_on.py STATE.pt          # Ctrl-C, then the same again
"""

import os
import sys
from pathlib import Path

import torch

import fallow
from plain_pytorch import data


def train(path: Path, epochs: int = 10, stop_after: int | None = None) -> torch.Tensor | None:
    """Train to the end, or for so many steps; return the weights at the end."""
    torch.manual_seed(0)
    train_set, _ = data()
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(64, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    policy, schedule = fallow.Threshold(low=0.05), fallow.Schedule(epochs, readmit_every=5)
    subsampler = fallow.Subsampler(len(train_set), policy, schedule)
    loader = subsampler.loader(train_set, batch_size=64, full_batches=True)
    if path.exists():
        # shown from here
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        subsampler.load_state_dict(state["subsampler"])
        torch.set_rng_state(state["generator"])
        # shown to here
    for _ in range(subsampler.epoch, epochs):
        for index, (x, y) in loader:
            loss = subsampler.record(index, fallow.kl_divergence(model(x), y))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if stop_after is not None and (stop_after := stop_after - 1) == 0:
                save(path, model, optimizer, subsampler)
                return None
        subsampler.step()
        save(path, model, optimizer, subsampler)
    return torch.cat([weight.flatten() for weight in model.state_dict().values()])


def save(path, model, optimizer, subsampler):
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "subsampler": subsampler.state_dict(),
        "generator": torch.get_rng_state(),
    }
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)  # the old state or the new one, never half of it


if __name__ == "__main__":
    print(train(Path(sys.argv[1])).norm())
