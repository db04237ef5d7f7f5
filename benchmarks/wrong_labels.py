"""Finding wrong labels by the KL divergence: one rater of VADER as the label, and CIFAR-10N.

    python -m benchmarks.wrong_labels [--data vader-movies vader-tweets aggre_label random_label1] [--seeds 3]

A network is trained on the noisy labels, on every sample in every epoch. A text of VADER has the label of one
of its raters, drawn by the seed, and the truth is what most of the others say (ties are left out); CIFAR-10N
has its truth. Rows: fallow's score, the KL divergence of the training passes, of the last epoch and as the
mean over the epochs after the first; the order of `fallow suspects`, the mean over all passes of the root of
the given label's probability, each pass with its weight; cleanlab's three label quality scores (`pip install
cleanlab`) on the probabilities of the last pass, on their mean over the passes after the first, and over all;
and for VADER the divergence from the soft label of all raters, which says how far the crowd itself disagrees
with the network. With a hard label cleanlab's self-confidence ranks as the KL divergence of the same pass
does, since one is exp(-) of the other: it is listed so that this can be seen.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable

import numpy as np
import torch
from benchmarks.data import SIGNS, path
from cleanlab.rank import get_label_quality_scores
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

import fallow
from fallow.datasets import soft_labels
from fallow.datasets.tokenizing import Tokenizer
from fallow.datasets.tokens import TokenDataset
from fallow.models import SmallConvNet, SmallTransformer
from fallow.runs.suspects import roots, weight

EPOCHS = {"vader-movies": 8, "vader-tweets": 8, "aggre_label": 10, "random_label1": 10}
METHODS = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


def trained(
    n: int,
    batch: Callable[[Tensor], Tensor],
    labels: Tensor,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    size: int,
) -> Tensor:
    """Train on everything, and return the log-probabilities of the training passes, ``(epochs, N, C)``."""
    passes = []
    rate = optimizer.param_groups[0]["lr"]
    for epoch in range(epochs):
        model.train()
        found = torch.zeros(n, int(labels.max()) + 1)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch))
        rows_of = order.split(size)
        for turn, rows in enumerate(rows_of):
            progress = (epoch + turn / len(rows_of)) / epochs
            optimizer.param_groups[0]["lr"] = rate * min(progress / 0.2, (1 - progress) / 0.8)
            logits = model(batch(rows))
            fallow.kl_divergence(logits, labels[rows]).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            found[rows] = logits.detach().log_softmax(1)
        passes.append(found)
    return torch.stack(passes)


def rated(name: str) -> tuple[list[str], np.ndarray]:
    """Return texts, and the class that each rater named, ``(N, R)``; -1 after a text's last rater."""
    with path(name).open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    ids = {"": -1} | {sign: place for place, sign in enumerate(SIGNS)}
    return [row[0] for row in rows], np.array([[ids[cell] for cell in row[1:]] for row in rows])


def vader(part: str, seed: int) -> tuple[Tensor, np.ndarray, np.ndarray, Tensor, Tensor]:
    """Return passes, labels, whether each is wrong, which count, and the raters' soft labels."""
    texts, ratings = rated("vader" if part == "movies" else "vader-tweets")
    draw = np.random.default_rng(seed)
    places = (draw.random(len(texts)) * (ratings >= 0).sum(1)).astype(int)
    rows = np.arange(len(texts))
    labels = ratings[rows, places]
    others = ratings.copy()
    others[rows, places] = -1
    counts = soft_labels(others, len(SIGNS))
    counted = (counts == counts.max(1, keepdims=True)).sum(1) == 1
    wrong = labels != counts.argmax(1)
    tokenizer = Tokenizer.train("bpe", texts, 8000)
    data = TokenDataset(tokenizer.encode(texts, 64), torch.from_numpy(labels), tokenizer.pad)
    torch.manual_seed(seed)
    model = SmallTransformer(len(tokenizer), len(SIGNS), 64, tokenizer.pad)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    passes = trained(
        len(texts),
        lambda chosen: data.__getitems__(chosen)[0],
        data.labels,
        model,
        optimizer,
        EPOCHS[f"vader-{part}"],
        64,
    )
    return passes, labels, wrong, torch.from_numpy(counted), torch.from_numpy(soft_labels(ratings, 3))


def cifar(name: str, seed: int) -> tuple[Tensor, np.ndarray, np.ndarray, Tensor, None]:
    """Return passes, labels, whether each is wrong, and which count."""
    with np.load(path("cifar10n")) as known:
        labels, truth, images = known[name], known["clean_label"], torch.from_numpy(known["x_train"])
    mean = images.float().mean((0, 2, 3), keepdim=True) / 255
    torch.manual_seed(seed)
    model = SmallConvNet(3, 32, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.15, momentum=0.9, nesterov=True, weight_decay=5e-4)
    passes = trained(
        len(images),
        lambda rows: (images[rows].float() / 255 - mean) / 0.25,
        torch.from_numpy(labels),
        model,
        optimizer,
        EPOCHS[name],
        128,
    )
    return passes, labels, labels != truth, torch.ones(len(labels), dtype=torch.bool), None


def suspects_order(nats: np.ndarray) -> np.ndarray:
    """Return what ``fallow suspects`` orders by, for the scores of all passes ``(epochs, N)``: ``(N,)``."""
    values = [roots(scores, probabilities=True) for scores in nats]
    weights = [weight(each) for each in values]
    return 1 - np.average(values, axis=0, weights=weights) ** 2


def rows(name: str, seed: int) -> dict[str, list[float]]:
    """Return AUROC and AP of each way of ranking."""
    found = vader(name.removeprefix("vader-"), seed) if name.startswith("vader") else cifar(name, seed)
    passes, labels, wrong, counted, soft = found
    nats = -passes[:, torch.arange(len(labels)), torch.from_numpy(labels)]
    ranked = {"KL, last pass": nats[-1].numpy(), "KL, mean of passes": nats[1:].mean(0).numpy()}
    ranked["fallow suspects"] = suspects_order(nats.numpy())
    means = {"last pass": passes[-1], "mean of passes": passes[1:].exp().mean(0).log()}
    for which, log_p in (means | {"mean of all passes": passes.exp().mean(0).log()}).items():
        p = log_p.double().softmax(1).numpy()
        for method in METHODS:
            quality = get_label_quality_scores(labels, p, method=method)
            ranked[f"cleanlab {method}, {which}"] = -quality
    if soft is not None:
        ranked["KL from all raters, mean of passes"] = (
            torch.stack([fallow.kl_divergence(log_p, soft) for log_p in passes[1:]]).mean(0).numpy()
        )
    keep = counted.numpy()
    told = {
        key: [
            float(measure(wrong[keep], values[keep])) for measure in (roc_auc_score, average_precision_score)
        ]
        for key, values in ranked.items()
    }
    told["wrong share, counted"] = [float(wrong[keep].mean()), float(keep.mean())]
    above = {f"KL > {low}": nats[1:].mean(0).numpy() > low for low in (1.0, 1.5, 2.0)}
    for key, chosen in above.items():
        hit = (wrong & chosen & keep).sum()
        told[f"{key}: precision, recall"] = [
            float(hit / max(1, (chosen & keep).sum())),
            float(hit / wrong[keep].sum()),
        ]
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", nargs="*", default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    for name in asked.data:
        runs = []
        for seed in range(asked.seeds):
            runs.append(rows(name, seed))
            print(json.dumps({"data": name, "seed": seed, **runs[-1]}), flush=True)
        print(f"{name}: mean ± standard deviation of {asked.seeds} seeds (AUROC, AP)")
        for key in runs[0]:
            values = np.array([run[key] for run in runs])
            shown = ", ".join(
                f"{m:.3f} ± {s:.3f}" for m, s in zip(values.mean(0), values.std(0), strict=True)
            )
            print(f"  {key:45} {shown}")


if __name__ == "__main__":
    main()
