"""The base class of step rules: from the scores of one batch, never the table, to the rows to train on.

A policy decides once per epoch, from the table, which samples the next epoch leaves out. A step rule decides
in each step, from scores that a forward pass just measured, which rows of the batch get a backward pass. So
it saves only backward passes. Both can be combined.

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

    The number of chosen rows depends only on the size of the batch, so that nothing waits for the device.
    Randomness is a pure function of the key.

    Attributes:
        name: name on the command line.
    """

    name: ClassVar[str]

    @abstractmethod
    def count(self, batch: int) -> int:
        """Return how many rows of a batch of size ``batch`` to choose, at least 1."""

    @abstractmethod
    def choose(self, scores: Tensor, key: int) -> Tensor:
        """Return which rows to train on: bool ``(B,)`` with ``count(B)`` of them True.

        Args:
            scores: ``(B,)``, detached, on any device.
            key: any integer, different for each step; best made by :func:`fallow.arrays.keyed.mix`.
        """

    def acts(self, progress: float) -> bool:
        """Return whether the rule applies at this training progress, in [0, 1]; if not, all rows train."""
        return True


def chosen_rows(chosen: Tensor, count: int) -> Tensor:
    """Return the positions of the ``count`` True rows, ascending: int64 ``(count,)``.

    Example:
        >>> chosen_rows(torch.tensor([False, True, True, False]), 2).tolist()
        [1, 2]
    """
    # `nonzero` would wait for the device, as its size depends on the values.
    return torch.argsort(~chosen, stable=True)[:count]
