"""What scoring costs in a training step on texts: fallow's step against the same step without it.

    python -m benchmarks.text_step [--turns 40]

Both steps are of one network, optimizer and batch, in turns; a row is the median of the ratios of neighbours,
with quartiles. Without fallow a classifier's loss is `F.cross_entropy`, and a language model's is that of all
its logits. With it the loss is the score: `kl_divergence`, `sequence_kl` or `linear_kl`, and `record` keeps
it. ``record`` alone is what the subsampler counts of its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from statistics import median, quantiles
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import fallow
from fallow.models import SmallGPT, SmallTransformer

N = 100_000


class Steps:
    """One network's steps, with fallow and without.

    Args:
        model: what is trained.
        plain: its loss without fallow.
        scored: its loss, recorded.
    """

    def __init__(self, model: nn.Module, plain: Callable[[], Tensor], scored: Callable[[], Tensor]) -> None:
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        self.plain, self.scored = plain, scored

    def seconds(self, loss: Callable[[], Tensor]) -> float:
        began = perf_counter()
        loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return perf_counter() - began


def classifier(subsampler: fallow.Subsampler, index: Tensor) -> Steps:
    model = SmallTransformer(16_000, 20, 192)
    tokens, labels = torch.randint(1, 16_000, (64, 192)), torch.randint(20, (64,))

    def scored() -> Tensor:
        logits = model(tokens)
        losses = fallow.kl_divergence(logits, labels)
        return subsampler.record(index, losses, predicted=logits.argmax(1))

    return Steps(model, lambda: cross_entropy(model(tokens), labels), scored)


def language_model(subsampler: fallow.Subsampler, index: Tensor, *, linear: bool) -> Steps:
    model = SmallGPT(1024)
    windows = torch.randint(1024, (len(index), 129))
    tokens, targets = windows[:, :-1], windows[:, 1:]

    def scored() -> Tensor:
        if not linear:
            return subsampler.record(index, fallow.sequence_kl(model(tokens), targets))
        found = fallow.linear_kl(model.hidden(tokens), model.head.weight, targets)
        subsampler.record(index, found.scores)
        return found.loss

    return Steps(model, lambda: cross_entropy(model(tokens).flatten(0, 1), targets.flatten()), scored)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=40)
    turns = parser.parse_args().turns
    torch.manual_seed(0)
    for name in ("small-transformer, kl_divergence", "small-gpt, sequence_kl", "small-gpt, linear_kl"):
        subsampler = fallow.Subsampler(N, fallow.Threshold(low=0.1), fallow.Schedule(2))
        batch = 64 if name.startswith("small-transformer") else 32
        index = torch.arange(batch)
        steps = (
            classifier(subsampler, index)
            if batch == 64
            else language_model(subsampler, index, linear="linear" in name)
        )
        for loss in (steps.plain, steps.scored) * 2:
            steps.seconds(loss)
        before = subsampler.record_seconds
        pairs = [(steps.seconds(steps.plain), steps.seconds(steps.scored)) for _ in range(turns)]
        recorded = (subsampler.record_seconds - before) / turns
        ratios = [with_it / without for without, with_it in pairs]
        low, _, high = quantiles(ratios, n=4)
        row = {"step": name, "plain_ms": round(1e3 * median(a for a, _ in pairs), 2)}
        row |= {"ratio": round(median(ratios), 4), "quartiles": [round(low, 4), round(high, 4)]}
        row |= {"record_share": round(recorded / median(b for _, b in pairs), 5)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
