"""What it costs to keep a run: the file of an epoch, a generation of the state, their share of a training.

    python benchmarks/keeping.py [--samples 1281167] [--train] [--out FOLDER]

The floor of a write is its bytes on the disk, synced: the same number of bytes written to one file and
synced is timed beside each. Medians of several.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import fallow
from fallow.core.state import opened
from fallow.files.state_file import dump
from fallow.runs.directory import RunDirectory
from fallow.runs.epoch_file import EpochFile, other_classes
from fallow.runs.schema import About

REPEATS = 7


def timed(work, *arguments):
    began = time.perf_counter()
    found = work(*arguments)
    return time.perf_counter() - began, found


def floor(folder, size):
    """Return how long so many bytes take to be on the disk, without anything else."""
    data, path = os.urandom(size), folder / "floor"
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        taken.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(taken)


def trained(n):
    """Return a subsampler after two epochs of n samples, with classes, as `fallow train` makes it."""
    labels = torch.arange(n) % 1000
    rule = fallow.ErrorMass()
    sub = fallow.Subsampler(n, rule, fallow.Schedule(epochs=90), labels=labels)
    draw = torch.Generator().manual_seed(0)
    for _ in range(2):
        index = torch.as_tensor(sub.order()[:])
        scores = torch.rand(len(index), generator=draw) ** 4 * 6
        sub.record(index, scores, predicted=torch.where(scores > 4, labels[index] + 1, labels[index]))
        sub.step()
    return sub


def files(n, folder):
    sub = trained(n)
    with RunDirectory.create(folder / "run") as run:
        predicted, labels = (values.numpy() for values in (sub.predicted, sub.labels))
        other = other_classes(predicted, labels)
        file = EpochFile(sub.history[-1], sub.scores.numpy(), sub.reason.numpy(), other)
        epoch = [timed(run.write_epoch, file)[0] for _ in range(REPEATS)]
        size = run.epoch_path(1).stat().st_size
        states, packed = [], []
        for number in range(REPEATS):
            taken, data = timed(lambda: dump({**opened(sub.state_dict()), "history": []}))
            packed.append(taken)
            states.append(taken + timed(run.checkpoints.write, data, About(epoch=number), {})[0])
    return {
        "samples": n,
        "taken_for_another_class": int((other > 0).sum()),
        "epoch_bytes": size,
        "epoch_seconds": statistics.median(epoch),
        "epoch_floor_seconds": floor(folder, size),
        "state_bytes": len(data),
        "state_seconds": statistics.median(states),
        "state_packing_seconds": statistics.median(packed),
        "state_floor_seconds": floor(folder, len(data)),
    }


def share(folder, samples, epochs):
    """Return which share of a training on Fashion-MNIST is spent on keeping it."""
    from data import located
    from fallow.options.train_options import TrainOptions
    from fallow.training.checkpointing import Checkpointer
    from fallow.training.epoch_writer import EpochWriter
    from fallow.training.train import train

    spent = {"state": 0.0, "history": 0.0, "pictures": 0.0}

    def counting(kind, owner, name):
        real = getattr(owner, name)

        def method(self, *arguments):
            began = time.perf_counter()
            try:
                return real(self, *arguments)
            finally:
                spent[kind] += time.perf_counter() - began

        setattr(owner, name, method)

    counting("state", Checkpointer, "save")
    counting("history", EpochWriter, "write_pending")
    counting("pictures", EpochWriter, "show")
    options = TrainOptions(
        data=located("fashion-mnist"), samples=samples, epochs=epochs, augment="crop-flip",
        out=str(folder / "trained"),
    )  # fmt: skip
    summary = train(options)
    return {
        "samples": samples or 60_000,
        "epochs": epochs,
        "run_seconds": summary["seconds"],
        **{f"{kind}_seconds": seconds for kind, seconds in spent.items()},
        "share": sum(spent.values()) / summary["seconds"],
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1_281_167)
    parser.add_argument("--train", action="store_true", help="train on Fashion-MNIST too, some minutes")
    parser.add_argument("--out", help="a folder for keeping.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = {"files": files(given.samples, Path(place))}
        if given.train:
            found["training"] = share(Path(place), None, 5)
    print(json.dumps(found, indent=1))
    if given.out:
        Path(given.out).mkdir(parents=True, exist_ok=True)
        (Path(given.out) / "keeping.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
