"""Leaving out by density, at equal samples: against random subsets and fewer epochs, with and without labels.

    python benchmarks/density_pruning.py                       Fashion-MNIST, 10,000 images: about 15 minutes
    python benchmarks/density_pruning.py --task autoencoder    the same images, labels never looked at

Density (soft and hard draws) leaves samples out as soon as it is to be trusted. The share that the soft
rule saves is then given to a random subset each epoch and, rounded to whole epochs, to fewer epochs, so
that all see nearly the same number of samples. Classifiers are told by test accuracy, autoencoders by the
mean squared error on test images.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import torch

from data import located
from fallow.options.train_options import TrainOptions
from fallow.tasks.console import Console
from fallow.training.train import train


def run(arguments, seed: int, out: Path, **options) -> dict:
    """Train once and return the summary."""
    given = {"epochs": arguments.epochs, **options}
    return train(
        TrainOptions(data=located(arguments.data), samples=arguments.samples, task=arguments.task, seed=seed,
                     accelerator="cpu", out=str(out), **given),
        Console.nowhere(),
    )  # fmt: skip


def arms(arguments, seed: int, folder: Path) -> dict[str, dict]:
    """Return the summary of each arm of one seed."""
    density = {"score": "density", "high": "none", "fraction": arguments.fraction}
    found = {
        "full": run(arguments, seed, folder / "full", policy="full"),
        "soft, density": run(arguments, seed, folder / "soft", policy="soft", **density),
        "hard, density": run(arguments, seed, folder / "hard", policy="fraction", **density),
    }
    saved = found["soft, density"]["saved_fraction"]
    share = saved * arguments.epochs / (arguments.epochs - 1)
    fewer = max(1, math.ceil(arguments.epochs * (1 - saved)))
    found["random"] = run(arguments, seed, folder / "random", policy="random", fraction=share)
    found["fewer epochs"] = run(arguments, seed, folder / "fewer", policy="full", epochs=fewer)
    found["fewer epochs"]["saved_fraction"] = 1 - fewer / arguments.epochs
    if arguments.task == "image":
        found["soft, KL"] = run(arguments, seed, folder / "kl", policy="soft", fraction=share)
    return found


def main() -> None:
    """Run all seeds and print the table."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    parser.add_argument("--task", default="image")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--fraction", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for arm, summary in arms(arguments, seed, Path(folder)).items():
                value = (
                    summary["accuracy"] if arguments.task == "image" else summary["epochs"][-1]["test_loss"]
                )
                measured = summary["samples_backward"] + summary["samples_forward_only"] / 3
                cost = measured / (arguments.samples * arguments.epochs)
                rows.append({"arm": arm, "seed": seed, "value": value, "saved": summary["saved_fraction"],
                             "saved_with_measuring": 1 - cost})  # fmt: skip
        print(f"seed {seed}", flush=True)
        for arm in dict.fromkeys(row["arm"] for row in rows):
            values, saved, cost = (
                np.array([row[name] for row in rows if row["arm"] == arm])
                for name in ("value", "saved", "saved_with_measuring")
            )
            full = np.array([row["value"] for row in rows if row["arm"] == "full"])
            spread = values.std(ddof=1) if len(values) > 1 else 0.0
            costs = f"saved {saved.mean():6.1%} ({cost.mean():6.1%} with measuring)"
            less = f"against full {(values - full).mean():+.5f}"
            print(f"{arm:14} {costs}  {values.mean():.5f} +- {spread:.5f}  {less}", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps({"settings": {**vars(arguments), "out": None}, "rows": rows}))


if __name__ == "__main__":
    main()
