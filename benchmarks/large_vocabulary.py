"""Loss, score and gradients of a large vocabulary: in one pass over blocks against logits as a whole.

    python -m benchmarks.large_vocabulary

Each way runs in a process of its own, so that its peak memory is its own: what it takes beyond the
parameters, the hidden states and a warm-up on one token. Times are medians of alternating runs, after a first
one. The floor is three products of 2 N V D operations, and a pass over N V logits for the softmax.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

import fallow

WAYS = ("whole", "blocks", "from logits")


def inputs(tokens: int, width: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(8, tokens // 8, width, generator=generator).requires_grad_()
    weight = (torch.randn(vocabulary, width, generator=generator) / width**0.5).requires_grad_()
    return hidden, weight, torch.randint(vocabulary, (8, tokens // 8), generator=generator)


def step(way: str, hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return loss and scores, and leave gradients; whole logits give the scores from the losses."""
    if way == "blocks":
        found = fallow.linear_kl(hidden, weight, targets)
        loss, scores = found.loss, found.scores
    elif way == "whole":
        losses = cross_entropy(linear(hidden, weight).flatten(0, 1), targets.flatten(), reduction="none")
        scores = losses.view(targets.shape).mean(1)
        loss = scores.mean()
    else:
        scores = fallow.sequence_kl(linear(hidden, weight), targets)
        loss = scores.mean()
    loss.backward()
    return loss.detach(), scores.detach()


def held(name: str) -> float:
    """Return the memory that this process holds (VmRSS), or has held at most (VmHWM), in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def alone(way: str, tokens: int, width: int, vocabulary: int) -> None:
    """Print the peak of one step beyond its inputs, and what it gives as numbers."""
    hidden, weight, targets = inputs(tokens, width, vocabulary)
    step(way, hidden[:1, :1], weight[:64], targets[:1, :1] % 64)
    hidden.grad = weight.grad = None
    Path("/proc/self/clear_refs").write_text("5")  # forget the most that was held so far
    before = held("VmRSS")
    step(way, hidden, weight, targets)
    print(json.dumps({"peak": held("VmHWM") - before}))


def compared(tokens: int, width: int, vocabulary: int, repeats: int) -> dict[str, object]:
    """Return times, memory and differences of the three ways."""
    hidden, weight, targets = inputs(tokens, width, vocabulary)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    results = {}
    for turn in range(repeats + 1):
        for way in WAYS:
            hidden.grad = weight.grad = None
            began = time.perf_counter()
            loss, scores = step(way, hidden, weight, targets)
            if turn:
                seconds[way].append(time.perf_counter() - began)
            else:
                results[way] = loss, scores, hidden.grad.clone(), weight.grad.clone()
    memory = {}
    for way in WAYS:
        command = [sys.executable, "-m", "benchmarks.large_vocabulary", "--alone", way]
        command += [f"--tokens={tokens}", f"--width={width}", f"--vocabulary={vocabulary}"]
        memory[way] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)[
            "peak"
        ]
    row: dict[str, object] = {"vocabulary": vocabulary, "tokens": tokens, "width": width}
    for way in WAYS:
        rows = [a / b for a, b in zip(seconds[way], seconds["whole"], strict=True)]
        row[way] = {
            "seconds": round(statistics.median(seconds[way]), 3),
            "time_ratio": round(statistics.median(rows), 3),
            "time_ratios": [round(min(rows), 3), round(max(rows), 3)],
            "peak_mib": round(memory[way]),
            "memory_ratio": round(memory[way] / memory["whole"], 3),
            "differences": [
                float((a - b).abs().max() / b.abs().max())
                for a, b in zip(results[way], results["whole"], strict=True)
            ],
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--alone", choices=WAYS)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, nargs="*", default=[32_000, 128_000])
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    if asked.alone:
        alone(asked.alone, asked.tokens, asked.width, asked.vocabulary[0])
        return
    for vocabulary in asked.vocabulary:
        print(json.dumps(compared(asked.tokens, asked.width, vocabulary, asked.repeats)), flush=True)


if __name__ == "__main__":
    main()
