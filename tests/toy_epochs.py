"""A small subsampler and its epochs, for several test files."""

import torch

from fallow import Schedule, Subsampler, Threshold

N = 40


def draws(epoch, n=N):
    """Losses of one epoch: the same whoever asks, and few of them equal."""
    return torch.rand(n, generator=torch.Generator().manual_seed(epoch)).square() * 4


def subsampler(policy=None, *, n=N, epochs=6, seed=0, schedule=None, **options):
    plan = schedule or Schedule(epochs=epochs)
    return Subsampler(n, policy or Threshold(low=0.5), plan, seed=seed, **options)


def epoch_of(sub, losses, loader=None):
    """One epoch in which sample i has the loss ``losses[i]``; returns the batches."""
    seen = []
    for index, _ in loader or sub.loader(range(sub.n), 8):
        sub.record(index, losses[index])
        seen.append(index.tolist())
    sub.step()
    return seen
