"""Are samples of another data set told by how they look to a network and its density?

    python benchmarks/out_of_distribution.py          Fashion-MNIST against digits: about 10 minutes
    python benchmarks/out_of_distribution.py --data cifar10 --other fashion-mnist --model small-resnet

A network is trained on the classes; then its test samples and as many of the other data set, scaled to
the same shape, are scored by every method on that one network. AUROC of the other data set against the
test samples, over seeds.

Ours: ``surprise``, the density of the activations of two layers (``ActivationDensity``, in evaluation),
and of each of them; ``strangeness``, how inputs are made (``InputNovelty``), which knows no network; and
both, the mean of their ranks among the training samples. The others see the input of the last linear
layer: Mahalanobis (Lee et al., 2018), RMDS (Ren et al., 2021), kNN (Sun et al., 2022), ViM (Wang et al.,
2022), the energy and the largest softmax.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from data import located
from fallow import ActivationDensity, kl_divergence
from fallow.datasets import load_images
from fallow.gaps import Surveyor
from fallow.models import image_model

BATCH = 128


def train(model: str, images: Tensor, labels: Tensor, epochs: int, seed: int) -> nn.Module:
    """Train a network; SGD, the rate up and down linearly."""
    torch.manual_seed(seed)
    network = image_model(model, images.shape[1], tuple(images.shape[2:]), int(labels.max()) + 1)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = epochs * (len(images) // BATCH)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=steps + 1, anneal_strategy="linear"
    )
    draw = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=draw)
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            loss = kl_divergence(network(images[batch]), labels[batch]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
    return network.eval()


@torch.no_grad()
def features(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, nn.Linear]:
    """Return the input of the last linear layer, its output, and the layer."""
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    kept: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0].flatten(1)))
    logits = torch.cat([network(part) for part in images.split(512)])
    hook.remove()
    return torch.cat(kept).double(), logits.double(), last


def others(network: nn.Module, seen: Tensor, labels: Tensor, asked: Tensor) -> dict[str, Tensor]:
    """Return the scores of the other methods; higher is stranger."""
    x, logits, last = features(network, seen)
    y, asked_logits, _ = features(network, asked)
    classes = int(labels.max()) + 1
    means = torch.stack([x[labels == k].mean(0) for k in range(classes)])

    def distances(rows: Tensor, centres: Tensor, covariance: Tensor) -> Tensor:
        ridge = 1e-6 * covariance.trace() / len(covariance) * torch.eye(len(covariance))
        root = torch.linalg.cholesky(torch.linalg.pinv(covariance + ridge))
        return torch.cdist(rows @ root, centres @ root).square()

    tied = (x - means[labels]).T @ (x - means[labels]) / len(x)
    by_class = distances(y, means, tied)
    background = distances(y, x.mean(0)[None], torch.cov(x.T))
    near = torch.cdist(normalize(y), normalize(x)).topk(50, largest=False)[0][:, -1]
    weight, bias = last.weight.detach().double(), last.bias.detach().double()
    origin = -torch.linalg.pinv(weight) @ bias
    _, vectors = torch.linalg.eigh((x - origin).T @ (x - origin) / len(x))
    null = vectors[:, : x.shape[1] // 2]
    residual, of_seen = ((rows - origin) @ null for rows in (y, x))
    alpha = logits.amax(1).mean() / of_seen.norm(dim=1).mean()
    energy = -asked_logits.logsumexp(1)
    return {
        "Mahalanobis": by_class.amin(1),
        "RMDS": (by_class - background).amin(1),
        "kNN": near,
        "ViM": alpha * residual.norm(dim=1) + energy,
        "energy": energy,
        "largest softmax": -asked_logits.softmax(1).amax(1),
    }


def ours(network: nn.Module, seen: Tensor, labels: Tensor, asked: Tensor, seed: int) -> dict[str, Tensor]:
    """Return our scores; higher is stranger."""

    def batches(images: Tensor, given: Tensor | None = None):
        for start in range(0, len(images), 512):
            yield images[start : start + 512], None if given is None else given[start : start + 512]

    surveyor = Surveyor(ActivationDensity(network, seed=seed), network).learn(batches(seen, labels))
    training, found = surveyor.survey(batches(seen, labels), training=True), surveyor.survey(batches(asked))
    layers = []
    for images, _ in batches(asked):
        pairs = zip(surveyor.monitor.layers, surveys(surveyor, images), strict=True)
        layers.append(torch.stack([layer.surprise(survey) for layer, survey in pairs], 1))
    by_layer = torch.cat(layers)

    def rank(name: str) -> Tensor:
        known = np.sort(getattr(training, name))
        return torch.from_numpy(np.searchsorted(known, getattr(found, name)) / len(known))

    novelty = torch.from_numpy(found.novelty.astype(np.float64))
    ties = novelty.argsort().argsort() / len(novelty)  # beyond all training samples ranks are equal
    both = rank("surprise") + rank("novelty") + 1e-6 * ties
    return {
        "ours: surprise": torch.from_numpy(found.surprise),
        "ours: first layer": by_layer[:, 0],
        "ours: last layer": by_layer[:, -1],
        "ours: strangeness": novelty,
        "ours: both": both,
    }


def surveys(surveyor: Surveyor, images: Tensor) -> list:
    """Return what each layer says of images."""
    with surveyor._evaluation_mode():
        surveyor.forward(images)
        return surveyor.monitor.survey()


def main() -> None:
    """Run all, print the table and keep the rows."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--other", default="digits")
    parser.add_argument("--model", default="small-conv")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, other = (load_images(located(name)) for name in (arguments.data, arguments.other))
    unit = 255.0 if data.train.images.dtype == torch.uint8 else 1.0
    images, test = data.train.images[: arguments.rows].float() / unit, data.test.images[:2000].float() / unit
    labels = data.train.labels[: arguments.rows]
    others = other.train.images.float()
    foreign = others[: len(test)] / others.max()
    foreign = interpolate(foreign, tuple(images.shape[2:]), mode="bilinear", antialias=True)
    foreign = foreign.expand(-1, images.shape[1], -1, -1)
    mean = images.mean((0, 2, 3), keepdim=True)
    std = images.std((0, 2, 3), keepdim=True)
    asked = (torch.cat([test, foreign]) - mean) / std
    truth = np.repeat([0, 1], [len(test), len(foreign)])
    found: dict[str, list[float]] = {}
    for seed in range(arguments.seeds):
        network = train(arguments.model, (images - mean) / std, labels, arguments.epochs, seed)
        right = features(network, asked[: len(test)])[1].argmax(1) == data.test.labels[: len(test)]
        seen = (images - mean) / std
        scores = {**others(network, seen, labels, asked), **ours(network, seen, labels, asked, seed)}
        for name, score in scores.items():
            found.setdefault(name, []).append(float(roc_auc_score(truth, score.numpy())))
        print(f"seed {seed}: accuracy {right.double().mean():.3f}", flush=True)
        for name, values in found.items():
            print(
                f"{name:20} {np.mean(values):.4f}  {' '.join(f'{value:.3f}' for value in values)}", flush=True
            )
    if arguments.out:
        arguments.out.write_text(json.dumps({"settings": {**vars(arguments), "out": None}, "auroc": found}))


if __name__ == "__main__":
    main()
