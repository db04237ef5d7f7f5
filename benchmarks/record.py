"""Time inside ``record`` against the training step it belongs to.

    python benchmarks/record.py [--repeats 7]

One process, one thread. Each repeat trains the small network on random 28x28 images for some steps with
``record`` in the loop, under the default rule and its kept steps, and times both in the same steps; the
medians over repeats are printed. Floor: the two copies of B scores and B indices, 12 bytes a sample, and the
mean of the losses, which any loop takes.
"""

from __future__ import annotations

import argparse
import json
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F

import fallow
from fallow.datasets import ImageDataset
from fallow.models import image_model


def time_record(batch_size: int, steps: int) -> tuple[float, float, float]:
    """Return seconds a step, inside ``record``, and in ``losses.mean()`` alone: medians over steps."""
    n = batch_size * steps
    subsampler = fallow.Subsampler(n, fallow.ErrorMass(), fallow.Schedule(epochs=2))
    network = image_model("small-conv", 1, 28, 10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    data = ImageDataset(torch.randint(0, 256, (n, 1, 28, 28), dtype=torch.uint8), torch.arange(n) % 10)
    loader = subsampler.loader(data, batch_size, collate_fn=data.collate)
    whole, inside, mean = [], [], []
    for index, (pixels, labels) in loader:
        images = pixels / 255
        began = perf_counter()
        losses = F.cross_entropy(network(images), labels, reduction="none")
        before = perf_counter()
        loss = subsampler.record(index, losses)
        after = perf_counter()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        whole.append(perf_counter() - began)
        inside.append(after - before)
        before = perf_counter()
        losses.mean()
        mean.append(perf_counter() - before)
    return sum(whole[3:]) / len(whole[3:]), sum(inside[3:]) / len(inside[3:]), median(mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for batch_size, steps in ((128, 200), (256, 120), (1024, 60)):
        runs = [time_record(batch_size, steps) for _ in range(options.repeats)]
        step, inside, mean = (median(run[i] for run in runs) for i in range(3))
        share = median(run[1] / run[0] for run in runs)
        print(
            json.dumps(
                {
                    "batch_size": batch_size,
                    "step_ms": round(step * 1e3, 2),
                    "record_us": round(inside * 1e6, 1),
                    "mean_alone_us": round(mean * 1e6, 1),
                    "share_of_step": round(share, 5),
                    "share_range": [round(f(r[1] / r[0] for r in runs), 5) for f in (min, max)],
                }
            )
        )


if __name__ == "__main__":
    main()
