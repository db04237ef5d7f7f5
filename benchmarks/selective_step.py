"""What putting the buffers back costs in a step of selective backprop.

    python benchmarks/selective_step.py [--repeats 7]

One thread, random images. The step of `fallow train` with `SelectiveBackprop(0.5)` against the same step
whose first pass is only `torch.no_grad()`, which moves the running statistics twice. The least of each; a
JSON line a network.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from time import perf_counter
from unittest import mock

import torch

import fallow
import fallow.tasks.image as image
from fallow.models import image_model
from fallow.step_rules import SelectiveBackprop


def seconds(steps: list[Callable[[], None]], repeats: int) -> list[float]:
    """Return the least seconds of each step; they take turns, so that a busy machine hinders all alike."""
    found: list[list[float]] = [[] for _ in steps]
    for _ in range(repeats + 1):
        for step, times in zip(steps, found, strict=True):
            began = perf_counter()
            step()
            times.append(perf_counter() - began)
    return [min(times[1:]) for times in found]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    for name, size in (("small-conv", 256), ("small-conv", 64), ("resnet", 64)):
        subsampler = fallow.Subsampler(size, fallow.RandomFraction(0), fallow.Schedule(epochs=2))
        network = image_model(name, 1, (28, 28), 10)
        mean, rule, recipe = torch.zeros(1), SelectiveBackprop(0.5), image.Recipe(0.1, 5e-4, 0.2)
        task = image.ImageTask(network, mean, mean + 1, subsampler, recipe, None, rule)
        plain = image.ImageTask(network, mean, mean + 1, subsampler, recipe)
        batch = torch.rand(size, 1, 28, 28), torch.arange(size) % 10

        def bare(task: image.ImageTask = task, batch: image.Batch = batch) -> None:
            with mock.patch.object(image, "forward_only", torch.no_grad):
                task.training_step(batch, 0)["loss"].backward()

        steps = [
            lambda plain=plain, batch=batch: plain.training_step(batch, 0)["loss"].backward(),
            lambda task=task, batch=batch: task.training_step(batch, 0)["loss"].backward(),
            bare,
        ]
        found = [round(1e3 * value, 2) for value in seconds(steps, repeats)]
        names = ("full_step_ms", "selective_step_ms", "with_no_grad_only_ms")
        print(json.dumps({"network": name, "batch_size": size, **dict(zip(names, found, strict=True))}))


if __name__ == "__main__":
    main()
