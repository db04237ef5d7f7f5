"""The accuracy of each class, counted batch by batch on the device."""

from __future__ import annotations

import torch
from torch import Tensor


class ClassAccuracy:
    """Counter of the right predictions of each class over the batches of one pass.

    Attributes:
        counts: right predictions and samples of each class, int64 ``(2, classes)``; None at first.

    >>> counted = ClassAccuracy()
    >>> counted.add(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), classes=3)
    >>> counted.shares()
    [0.5, 1.0, None]
    """

    def __init__(self) -> None:
        self.counts: Tensor | None = None

    def clear(self) -> None:
        """Start a new pass."""
        self.counts = None

    def add(self, predicted: Tensor, labels: Tensor, classes: int) -> None:
        """Count a batch of class ids, ``(B,)`` each, without waiting for the device."""
        if self.counts is None:
            self.counts = torch.zeros(2, classes, dtype=torch.int64, device=labels.device)
        self.counts[0].index_add_(0, labels, (predicted == labels).to(torch.int64))
        self.counts[1].index_add_(0, labels, torch.ones_like(labels))

    def shares(self) -> list[float | None]:
        """Return the accuracy of each class in [0, 1]; None for a class without a sample."""
        if self.counts is None:
            return []
        right, samples = self.counts.tolist()
        return [r / n if n else None for r, n in zip(right, samples, strict=True)]
