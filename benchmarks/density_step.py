"""What the density of activations costs a training step, and what a refresh costs.

    python benchmarks/density_step.py [--model small-resnet] [--model resnet] [--rows 60000]

Steps with and without it alternate within one run, on the same batches of 128 images of 28 x 28 pixels;
medians of several. The floor is the work: pooling reads each map once, and a row of p = 32 numbers under K =
16 components takes 2 K p^2 operations a layer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from fallow import ActivationDensity, kl_divergence
from fallow.models import image_model

BATCH, FILL = 128, 8192


def steps(network, images, labels, names, watch, count):
    """Return the seconds of each of so many steps."""
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    taken = []
    for _ in range(count):
        index = names[torch.randint(len(names), (BATCH,))]
        began = time.perf_counter()
        loss = kl_divergence(network(images), labels).mean()
        if watch is not None:
            watch.scores(index)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        taken.append(time.perf_counter() - began)
    return taken


def measure(model: str, rows: int, count: int) -> dict:
    """Return medians for one network."""
    torch.manual_seed(0)
    network = image_model(model, 1, 28, 10)
    images, labels, names = torch.rand(BATCH, 1, 28, 28), torch.randint(10, (BATCH,)), torch.arange(rows)
    watch = ActivationDensity(network)
    hooks = list(watch.taps._hooks)
    network.train()
    with torch.no_grad():
        for start in range(0, FILL, BATCH):  # enough for a whole panel
            network(torch.rand(len(names[start : start + BATCH]), 1, 28, 28))
            watch.see(names[start : start + BATCH])
    refreshes = []
    for _ in range(5):
        began = time.perf_counter()
        watch.refresh()
        refreshes.append(time.perf_counter() - began)
    watch.refresh, watch.stability, watch.agreement = (lambda: None), 1.0, 1.0
    plain_network = image_model(model, 1, 28, 10)
    plain_network.load_state_dict(network.state_dict())
    ratios, plains, withs = [], [], []
    for _ in range(7):
        plain = statistics.median(steps(plain_network, images, labels, names, None, count))
        watched = statistics.median(steps(network, images, labels, names, watch, count))
        ratios.append(watched / plain - 1)
        plains.append(plain)
        withs.append(watched)
    every = max(1, rows // 2)
    return {
        "model": model,
        "layers": watch.taps.names,
        "hooks": len(hooks),
        "step_ms": 1e3 * statistics.median(plains),
        "with_density_ms": 1e3 * statistics.median(withs),
        "overhead": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
        "refresh_s": statistics.median(refreshes),
        "refresh_share": statistics.median(refreshes) / (every / BATCH * statistics.median(plains)),
        "panel": len(watch.panel),
        "panel_bytes": sum(layer.numel() * layer.element_size() for layer in watch.panel.rows),
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    found = [
        measure(model, asked.rows, 3 if model == "resnet" else 60)
        for model in asked.model or ["small-resnet", "resnet"]
    ]
    for one in found:
        print(json.dumps(one, indent=1))
    asked.out.mkdir(exist_ok=True)
    (asked.out / "density-step.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
