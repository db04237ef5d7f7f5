"""What a step rule is: it sees the scores of one batch, never the table, and says which rows to train on.

A policy decides once an epoch, from the table, which samples the next epoch leaves out altogether. A step
rule decides in each step, from scores measured a moment ago by a forward pass, which rows of the batch get a
backward pass. So it saves backward passes only, and both may be used together.

>>> # with forward_only():
>>> #     losses = fallow.kl_divergence(model(x), y)
>>> # chosen = rule.choose(losses, key)
>>> # rows = chosen_rows(chosen, rule.count(len(y)))
>>> # fallow.kl_divergence(model(x[rows]), y[rows]).mean().backward()
>>> # subsampler.record(index, losses, backward=chosen)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class StepRule(ABC):
    """Chooses the rows of a batch that a step trains on.

    How many are chosen depends on the size of the batch alone, so that nothing has to wait for the device;
    what is random in the choice is a pure function of the key.

    Attributes:
        name: as it is called on the command line.
    """

    name: ClassVar[str]

    @abstractmethod
    def count(self, batch: int) -> int:
        """Return how many rows of a batch of that size are chosen, at least 1."""

    @abstractmethod
    def choose(self, scores: Tensor, key: int) -> Tensor:
        """Return which rows to train on: bool ``(B,)`` with ``count(B)`` of them True.

        Args:
            scores: ``(B,)``, without a graph, on any device.
            key: any integer, another for each step; best made by :func:`fallow.arrays.keyed.mix`.
        """

    def acts(self, progress: float) -> bool:
        """Return whether the rule acts at that progress of the training, in [0, 1]; else all rows train."""
        return True


def chosen_rows(chosen: Tensor, count: int) -> Tensor:
    """Return the positions of the ``count`` rows that are True, ascending: int64 ``(count,)``; no waiting.

    Example:
        >>> chosen_rows(torch.tensor([False, True, True, False]), 2).tolist()
        [1, 2]
    """
    return torch.argsort(~chosen, stable=True)[:count]
