"""Accuracy by class, counted batch by batch on the device."""

from __future__ import annotations

import torch
from torch import Tensor


class ClassAccuracy:
    """Counts the right predictions of each class over the batches of one pass.

    Attributes:
        counts: right and all predictions of each class, int64 ``(2, classes)``; None at first.

    >>> counted = ClassAccuracy()
    >>> counted.add(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), classes=3)
    >>> counted.shares()
    [0.5, 1.0, None]
    """

    def __init__(self) -> None:
        self.counts: Tensor | None = None

    def clear(self) -> None:
        """Begin a new pass."""
        self.counts = None

    def add(self, predicted: Tensor, labels: Tensor, classes: int) -> None:
        """Count a batch; nothing waits for the device.

        Args:
            predicted: class ids ``(B,)``.
            labels: class ids ``(B,)``.
            classes: how many there are.
        """
        if self.counts is None:
            self.counts = torch.zeros(2, classes, dtype=torch.int64, device=labels.device)
        self.counts[0].index_add_(0, labels, (predicted == labels).to(torch.int64))
        self.counts[1].index_add_(0, labels, torch.ones_like(labels))

    def shares(self) -> list[float | None]:
        """Return the accuracy of each class in [0, 1]; None for a class without a sample."""
        if self.counts is None:
            return []
        right, all_ = self.counts.tolist()
        return [r / a if a else None for r, a in zip(right, all_, strict=True)]
