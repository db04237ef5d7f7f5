"""Hellinger distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Divergence, per_sample


def hellinger(
    logits: Tensor, targets: Tensor, *, ignore_index: int = -100, bernoulli: bool = False
) -> Tensor:
    r"""Return the Hellinger distance of each sample.

    .. math:: \tfrac{1}{\sqrt 2} \|\sqrt q - \sqrt p\|_2 = (1 - \sum_c \sqrt{q_c p_c})^{1/2}

    With class ids it is :math:`(1 - \sqrt{p_y})^{1/2}`. The gradient at p = q is taken as zero.

    References:
        Neue Begründung der Theorie quadratischer Formen von unendlichvielen Veränderlichen
        (Hellinger, 1909)

    Args:
        logits: ``(B, C)`` or ``(B, C, *spatial)``, see :func:`kl_divergence`.
        targets: class ids ``(B, *spatial)`` or probabilities of the shape of ``logits``.
        ignore_index: the target value of positions to leave out.
        bernoulli: treat each logit as a yes-or-no question; return the mean over them.

    Returns:
        ``(B,)`` in [0, 1], no unit; ``NO_SCORE`` if all targets of the sample are ignored.

    Raises:
        InvalidType: if a dtype is invalid.
        InvalidValue: if a shape or value is invalid, as in :func:`kl_divergence`.

    Example:
        >>> p, q = torch.rand(2, 4, 3, dtype=torch.float64).softmax(2)
        >>> overlap = (p * q).sqrt().sum(1)
        >>> torch.allclose(hellinger(p.log(), q) ** 2, 1 - overlap)
        True
    """
    return per_sample(
        logits, targets, _between, _of_surprisal, ignore_index=ignore_index, bernoulli=bernoulli
    )


def _between(q: Tensor, log_p: Tensor) -> Tensor:
    # At zero, torch gives the norm a zero gradient, but a square root an infinite one.
    norm: Tensor = torch.linalg.vector_norm(q.sqrt() - (log_p / 2).exp(), dim=1)
    return norm / math.sqrt(2)


def _of_surprisal(s: Tensor) -> Tensor:
    squared = -torch.expm1(-s / 2)  # 1 - sqrt(p) without cancellation near p = 1
    # Masking before and after keeps the infinite gradient of sqrt at 0 out of backward.
    equal = squared == 0
    return squared.masked_fill(equal, 1.0).sqrt().masked_fill(equal, 0.0)


@dataclass(frozen=True)
class Hellinger(Divergence):
    """Hellinger distance between label and output, see :func:`hellinger`.

    Example:
        >>> Hellinger.range
        (0.0, 1.0)
    """

    name: ClassVar[str] = "hellinger"
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the distance of each sample, ``(B,)`` in [0, 1]."""
        return hellinger(outputs, targets, ignore_index=self.ignore_index, bernoulli=self.bernoulli)
