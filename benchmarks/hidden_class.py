"""Is a class that is missing from the training set told by the density of activations?

    python benchmarks/hidden_class.py                    digits, every class x 5 seeds: about 6 minutes
    python benchmarks/hidden_class.py --data fashion-mnist --classes 0,5,8 --seeds 3 --rows 6000

One class is taken out of the training set. The network learns two coarse labels (odd or even; the upper or
the lower half of the classes), by turns of the seed, so that the hidden class is one that somebody would have
called part of a label. Of the test samples each score says how surprising they are; AUROC of the hidden class
against all others.

Ours is what ``ActivationDensity`` has learned while the network trained, in its last state. The others see
all training samples at the end: kNN and one Gaussian on the network's last features, the margin of its
softmax, and the mixture, one Gaussian and kNN on the raw input (the same mixture, dim and seed as ours).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from data import located
from fallow import ActivationDensity, GaussianMixture, kl_divergence
from fallow.activations.subspace import Subspace
from fallow.datasets import load_images
from fallow.densities import Gaussian, Halves
from fallow.models import image_model

EPOCHS, BATCH = 15, 64


def train(images: Tensor, labels: Tensor, seed: int) -> tuple[nn.Module, ActivationDensity]:
    """Train a network on coarse labels, watched; SGD, the rate up and down linearly."""
    torch.manual_seed(seed)
    network = image_model("small-conv", images.shape[1], tuple(images.shape[2:]), 2)
    monitor = ActivationDensity(network, seed=seed)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = EPOCHS * (len(images) // BATCH)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=steps + 1, anneal_strategy="linear"
    )
    draw = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images), generator=draw)
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            loss = kl_divergence(network(images[batch]), labels[batch]).mean()
            monitor.scores(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
    # Each sample is seen once more as it is in evaluation.
    network.eval()
    monitor.taps.in_evaluation = True
    with torch.no_grad():
        for batch in torch.arange(len(images)).split(512):
            network(images[batch])
            monitor.see(batch)
    monitor.refresh()
    return network, monitor


def features(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the input of the last linear layer, and the probabilities."""
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    kept: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        probabilities = torch.cat([network(part).softmax(1) for part in images.split(512)])
    hook.remove()
    return torch.cat(kept), probabilities


def surprise(density, seen: Tensor, asked: Tensor) -> Tensor:
    """Return -log p in the directions in which the seen rows vary."""
    subspace = Subspace.of(seen, 32)
    return -density.fit(subspace(seen)[0]).log_prob(subspace(asked)[0])


def tenth_nearest(seen: Tensor, asked: Tensor) -> Tensor:
    """Return the distance of each row to the tenth nearest that was seen."""
    parts = [torch.cdist(part.double(), seen.double()) for part in asked.split(512)]
    return torch.cat([apart.topk(10, largest=False).values[:, -1] for apart in parts])


def compare(images: Tensor, labels: Tensor, tested: Tensor, theirs: Tensor, hidden: int, seed: int) -> dict:
    """Return the AUROC of each score for one hidden class."""
    classes = int(labels.max()) + 1
    coarse = (lambda y: (y >= classes // 2).long()) if seed % 2 else (lambda y: y % 2)
    kept = labels != hidden
    images, labels = images[kept], labels[kept]
    mean, std = images.mean(), images.std()
    images, tested = (images - mean) / std, (tested - mean) / std
    network, monitor = train(images, coarse(labels), seed)
    with torch.no_grad():
        parts = []
        for part in tested.split(512):
            network(part)
            parts.append(
                torch.stack(
                    [monitor.surprise(surveys := monitor.survey()), monitor.surprise(surveys, off=False)]
                )
            )
    ours = torch.cat(parts, 1)
    seen, _ = features(network, images)
    asked, probabilities = features(network, tested)
    top = probabilities.topk(2, 1).values
    unit, raw, raw_asked = nn.functional.normalize, images.flatten(1), tested.flatten(1)
    scores = {
        "ours": ours[0],
        "ours, within the subspaces": ours[1],
        "margin": 1 - (top[:, 0] - top[:, 1]),
        "one Gaussian, last features": surprise(Gaussian(), seen, asked),
        "kNN-10, last features": tenth_nearest(unit(seen), unit(asked)),
        "raw input, mixture": surprise(Halves(GaussianMixture(16)), raw, raw_asked),
        "raw input, one Gaussian": surprise(Gaussian(), raw, raw_asked),
        "raw input, kNN-10": tenth_nearest(raw, raw_asked),
    }
    wanted = (theirs == hidden).numpy()
    return {name: float(roc_auc_score(wanted, score.numpy())) for name, score in scores.items()}


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--classes", default="")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=0, help="Of the training set; 0 for all.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = load_images(located(asked.data))
    unit = 255.0 if data.train.images.dtype == torch.uint8 else 1.0
    images, labels = data.train.images.float() / unit, data.train.labels
    tested, theirs = data.test.images.float() / unit, data.test.labels
    classes = [int(word) for word in asked.classes.split(",") if word] or range(int(labels.max()) + 1)
    found: list[dict] = []
    for hidden in classes:
        for seed in range(asked.seeds):
            some = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
            some = some[: asked.rows or None]
            found.append(
                {"hidden": hidden, "seed": seed}
                | compare(images[some], labels[some], tested, theirs, hidden, seed)
            )
            print(found[-1], flush=True)
    names = [name for name in found[0] if name not in ("hidden", "seed")]
    rows = {name: np.array([one[name] for one in found]) for name in names}
    for name, values in sorted(rows.items(), key=lambda row: -row[1].mean()):
        gap = rows["ours"] - values
        error = gap.std(ddof=1) / len(gap) ** 0.5
        apart = f"ours {gap.mean():+.3f} +- {error:.3f}, above in {(gap > 0).mean():.0%}"
        print(f"{name:32} {values.mean():.3f}   {apart}")
    asked.out.mkdir(exist_ok=True)
    path = asked.out / f"hidden-class-{asked.data}.json"
    path.write_text(json.dumps({"epochs": EPOCHS, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
