"""Total variation distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Divergence, per_sample


def total_variation(
    logits: Tensor, targets: Tensor, *, ignore_index: int = -100, bernoulli: bool = False
) -> Tensor:
    r"""Return the total variation distance of each sample: the share of misplaced probability.

    .. math:: \tfrac12 \sum_c |q_c - p_c|

    With class ids it is :math:`1 - p_y`.

    References:
        On Choosing and Bounding Probability Metrics (Gibbs and Su, 2002)

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
        >>> logits, ids = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
        >>> p_y = logits.softmax(1).gather(1, ids[:, None]).squeeze(1)
        >>> torch.allclose(total_variation(logits, ids), 1 - p_y)
        True
    """
    return per_sample(
        logits,
        targets,
        between=lambda q, log_p: (q - log_p.exp()).abs().sum(1) / 2,
        of_surprisal=lambda s: -torch.expm1(-s),  # 1 - p without cancellation near p = 1
        ignore_index=ignore_index,
        bernoulli=bernoulli,
    )


@dataclass(frozen=True)
class TotalVariation(Divergence):
    """Total variation distance between label and output, see :func:`total_variation`.

    Example:
        >>> TotalVariation.range
        (0.0, 1.0)
    """

    name: ClassVar[str] = "tv"
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the distance of each sample, ``(B,)`` in [0, 1]."""
        return total_variation(outputs, targets, ignore_index=self.ignore_index, bernoulli=self.bernoulli)
