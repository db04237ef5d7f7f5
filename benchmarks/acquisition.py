"""Does it pay to collect what fallow names? A class is hidden; what to buy of a pool with junk in it?

    python benchmarks/acquisition.py                     digits, every class x 5 seeds: about 25 minutes
    python benchmarks/acquisition.py --junk 0            the same pool without junk
    python benchmarks/acquisition.py --data fashion-mnist --classes 0,5,8 --seeds 3 --rows 6000 --budget 200

One class is taken out of the training set. The network learns two coarse labels (odd or even; the upper or
the lower half of the classes, by turns of the seed). The pool holds all classes, and junk, a quarter of it:
noise, another data set, shuffled pixels and salt and pepper, in equal parts. Each method chooses as many
candidates as the budget says and pays for every one. What is bought is labelled (junk can have no label and
is lost) and a network is trained from scratch on all there is then, for the same number of steps. Reported is
the accuracy on test samples of the hidden class and on all.

Margin, k-center, BADGE and TypiClust see the features before the last linear layer; the gate is the one that
``fallow collect`` has. No setting was chosen on these seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from data import located
from fallow import ActivationDensity, kl_divergence
from fallow.datasets import load_images
from fallow.densities.k_means import k_means
from fallow.gaps import LIMIT, Surveyor, choose
from fallow.models import image_model

EPOCHS, BATCH = 15, 64
FIRST = 300
"""The first seed; those below were used to design the method."""


def train(images: Tensor, labels: Tensor, seed: int, steps: int) -> nn.Module:
    """Train a network on coarse labels; SGD, the rate up and down linearly."""
    torch.manual_seed(seed)
    network = image_model("small-conv", images.shape[1], tuple(images.shape[2:]), 2)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=steps + 1, anneal_strategy="linear"
    )
    draw = torch.Generator().manual_seed(seed)
    done = 0
    while done < steps:
        order = torch.randperm(len(images), generator=draw)
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH)[: steps - done]:
            loss = kl_divergence(network(images[batch]), labels[batch]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
            done += 1
    return network.eval()


def junk_of(images: Tensor, other: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """Return noise, another data set, shuffled pixels, and salt and pepper."""
    each, side = -(-count // 4), images.shape[-1]
    noise = torch.rand(each, 1, side, side, generator=draw)
    foreign = other[torch.randperm(len(other), generator=draw)[:each]]
    foreign = interpolate(foreign, (side, side), mode="bilinear", antialias=True)
    source = images[torch.randperm(len(images), generator=draw)[: 2 * each]]
    shuffled = source[:each].flatten(2)[..., torch.randperm(side * side, generator=draw)]
    salted = source[each:].clone()
    where = torch.rand(salted.shape, generator=draw) < 0.3
    salted[where] = (torch.rand(salted.shape, generator=draw)[where] > 0.5).float()
    return torch.cat([noise, foreign, shuffled.reshape(noise.shape), salted])[
        torch.randperm(4 * each, generator=draw)[:count]
    ]


@torch.no_grad()
def features(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the input of the last linear layer, and the probabilities."""
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    kept: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0].flatten(1)))
    probabilities = torch.cat([network(part).softmax(1) for part in images.split(512)])
    hook.remove()
    return torch.cat(kept), probabilities


def k_center(x: Tensor, known: Tensor, budget: int) -> list[int]:
    """Return the rows that lie farthest from what is known, one after the other."""
    nearest, chosen = torch.cdist(x, known).amin(1), []
    for _ in range(budget):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, torch.cdist(x, x[chosen[-1]][None])[:, 0])
    return chosen


def badge(x: Tensor, probabilities: Tensor, budget: int, draw: torch.Generator) -> list[int]:
    """Return k-means++ seeds of the gradients of the last layer (Ash et al., 2020)."""
    guess = torch.nn.functional.one_hot(probabilities.argmax(1), probabilities.shape[1])
    gradients = ((probabilities - guess)[:, :, None] * x[:, None, :]).flatten(1)
    chosen = [int(gradients.norm(dim=1).argmax())]
    nearest = torch.cdist(gradients, gradients[chosen])[:, 0].square()
    while len(chosen) < budget:
        chosen.append(int(torch.multinomial(nearest.clamp_min(1e-12), 1, generator=draw)))
        nearest = torch.minimum(nearest, torch.cdist(gradients, gradients[chosen[-1:]])[:, 0].square())
    return chosen


def typiclust(x: Tensor, known: Tensor, budget: int, draw: torch.Generator) -> list[int]:
    """Return the most typical rows of the largest clusters without a known row.

    After Hacohen et al. (2022), with fewer clusters where many rows are known, which buys more here.
    """
    every = torch.nn.functional.normalize(torch.cat([known, x]).double(), dim=1)
    clusters = min(budget + max(10, len(known) // 20), 500)
    cluster = k_means(every, torch.ones(len(every), dtype=torch.float64), clusters, draw)
    count, covered = cluster.bincount(minlength=clusters), cluster[: len(known)].bincount(minlength=clusters)
    chosen: list[int] = []
    order = sorted(range(clusters), key=lambda k: (int(covered[k]), -int(count[k])))
    while len(chosen) < budget:
        before = len(chosen)
        for k in order:
            rows = (cluster[len(known) :] == k).nonzero()[:, 0]
            rows = rows[[int(row) not in set(chosen) for row in rows]] if len(rows) else rows
            if not len(rows) or len(chosen) == budget:
                continue
            near = torch.cdist(every[len(known) + rows], every[cluster == k])
            typical = near.topk(min(20, near.shape[1]), largest=False)[0].mean(1)
            chosen.append(int(rows[int(typical.argmin())]))
        if len(chosen) == before:
            break
    return chosen


def choices(network, train_x, train_y, pool_x, budget: int, seed: int) -> dict[str, list[int]]:
    """Return what each method buys."""
    draw = torch.Generator().manual_seed(seed)
    known, _ = features(network, train_x)
    x, probabilities = features(network, pool_x)

    def batches(images, labels=None):
        for start in range(0, len(images), 512):
            yield images[start : start + 512], None if labels is None else labels[start : start + 512]

    surveyor = Surveyor(ActivationDensity(network, seed=seed), network).learn(batches(train_x, train_y))
    training = surveyor.survey(batches(train_x, train_y), training=True)
    pool = surveyor.survey(batches(pool_x))
    sound = np.flatnonzero(pool.novelty <= LIMIT)
    shuffled = torch.randperm(len(pool_x), generator=draw)
    top = probabilities.topk(2, dim=1)[0]
    return {
        "random": shuffled[:budget].tolist(),
        "margin": (top[:, 0] - top[:, 1]).argsort()[:budget].tolist(),
        "k-center": k_center(x, known, budget),
        "badge": badge(x, probabilities, budget, draw),
        "typiclust": typiclust(x, known, budget, draw),
        "gate + random": [row for row in shuffled.tolist() if row in set(sound.tolist())][:budget],
        "gate + k-center": sound[k_center(x[sound], known, budget)].tolist(),
        "fallow": [choice.row for choice in choose(training, pool, budget, seed=seed).choices],
    }


def run(arguments, hidden: int, seed: int, images, labels, other) -> list[dict]:
    """Return a row a method of one hidden class and seed."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=draw)
    first, second = arguments.rows, arguments.rows + arguments.pool
    known, offered, test = order[:first], order[first:second], order[second : second + 3000]
    known = known[labels[known] != hidden]
    coarse = (labels >= 5).long() if seed % 2 else labels % 2
    count = round(len(offered) * arguments.junk / (1 - arguments.junk))
    junk = junk_of(images, other, count, draw)
    pool = torch.cat([images[offered], junk])
    mean, std = images[known].mean(), images[known].std()
    steps = EPOCHS * (len(known) // BATCH)
    network = train((images[known] - mean) / std, coarse[known], seed, steps)
    bought = choices(
        network, (images[known] - mean) / std, coarse[known], (pool - mean) / std, arguments.budget, seed
    )
    rows = []
    for method, chosen in {"nothing": [], **bought}.items():
        sound = [row for row in chosen if row < len(offered)]
        every = torch.cat([known, offered[sound]])
        after = train((images[every] - mean) / std, coarse[every], seed, steps)
        with torch.no_grad():
            right = after((images[test] - mean) / std).argmax(1) == coarse[test]
        found = labels[test] == hidden
        rows.append({
            "hidden": hidden, "seed": seed, "method": method, "bought": len(chosen),
            "hidden_accuracy": float(right[found].float().mean()), "accuracy": float(right.float().mean()),
            "rare": int((labels[offered[sound]] == hidden).sum()), "junk": len(chosen) - len(sound),
        })  # fmt: skip
    return rows


def table(rows: list[dict], budget: int) -> str:
    """Return the means over classes and seeds, and the differences to random with their standard error."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    by = {m: {(r["hidden"], r["seed"]): r for r in rows if r["method"] == m} for m in methods}
    lines = [f"{'method':16} {'hidden class':>13} {'- random':>15} {'all':>7} {'of it':>6} {'junk':>6}"]
    for method in methods:
        found = by[method]
        value = np.mean([row["hidden_accuracy"] for row in found.values()])
        less = np.array(
            [row["hidden_accuracy"] - by["random"][key]["hidden_accuracy"] for key, row in found.items()]
        )
        every, rare, junk = (
            np.mean([row[k] for row in found.values()]) for k in ("accuracy", "rare", "junk")
        )
        error = less.std(ddof=1) / len(less) ** 0.5 if len(less) > 1 else 0.0
        lines.append(
            f"{method:16} {100 * value:13.1f} {100 * less.mean():+8.1f} ±{100 * error:5.1f} "
            f"{100 * every:7.1f} {rare:6.1f} {junk / budget:6.1%}"
        )
    return "\n".join(lines)


def read(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return all images and labels of a data set, and the images of another one, in [0, 1]."""
    found = load_images(located(name))
    foreign = load_images(located("fashion-mnist" if name == "digits" else "digits")).train.images.float()
    images = torch.cat([found.train.images, found.test.images]).float()
    labels = torch.cat([found.train.labels, found.test.labels])
    return images / images.max(), labels, foreign / foreign.max()


def main() -> None:
    """Run all, print the table and keep the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--classes", default="0,1,2,3,4,5,6,7,8,9")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=FIRST)
    parser.add_argument("--rows", type=int, default=900, help="training samples, the hidden class included")
    parser.add_argument("--pool", type=int, help="default 500 with digits, 4,000 otherwise")
    parser.add_argument("--budget", type=int, default=30)
    parser.add_argument("--junk", type=float, default=0.25, help="share of the pool")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.pool = arguments.pool or (500 if arguments.data == "digits" else 4000)
    torch.set_num_threads(1)
    images, labels, foreign = read(arguments.data)
    rows: list[dict] = []
    begun = time.perf_counter()
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        for hidden in map(int, arguments.classes.split(",")):
            rows += run(arguments, hidden, seed, images, labels, foreign)
        print(f"seed {seed}, {time.perf_counter() - begun:.0f} s", flush=True)
        print(table(rows, arguments.budget), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps({"settings": {**vars(arguments), "out": None}, "rows": rows}))


if __name__ == "__main__":
    main()
