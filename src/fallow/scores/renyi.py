"""Rényi divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import check_real, invalid
from .base import Divergence, per_sample


def renyi(
    logits: Tensor, targets: Tensor, *, alpha: float = 0.5, ignore_index: int = -100, bernoulli: bool = False
) -> Tensor:
    r"""Return the Rényi divergence of each sample.

    .. math:: D_\alpha(q \,\|\, p) = \frac{1}{\alpha - 1} \log \sum_c q_c^\alpha \, p_c^{1 - \alpha}

    It grows with alpha and tends to :func:`kl_divergence` as alpha tends to 1. With class ids it is
    :math:`-\log p_y` for every alpha; alpha matters only for probabilities.

    References:
        On Measures of Entropy and Information (Rényi, 1961)

    Args:
        logits: ``(B, C)`` or ``(B, C, *spatial)``, see :func:`kl_divergence`.
        targets: class ids ``(B, *spatial)`` or probabilities of the shape of ``logits``.
        alpha: the order, above 0 and not 1.
        ignore_index: the target value of positions to leave out.
        bernoulli: treat each logit as a yes-or-no question; return the mean over them.

    Returns:
        ``(B,)`` in nats; ``NO_SCORE`` if all targets of the sample are ignored.

    Raises:
        InvalidType: if a dtype is invalid.
        InvalidValue: if alpha is not positive or is 1, or as in :func:`kl_divergence`.

    Example:
        >>> p, q = torch.rand(2, 4, 3, dtype=torch.float64).softmax(2)
        >>> overlap = (p * q).sqrt().sum(1)
        >>> torch.allclose(renyi(p.log(), q, alpha=0.5), -2 * overlap.log())
        True
    """
    _check_alpha(alpha)

    def between(q: Tensor, log_p: Tensor) -> Tensor:
        # For alpha > 1 a class with q = p = 0 would give -inf + inf.
        terms = (alpha * q.log() + (1 - alpha) * log_p).masked_fill(q == 0, -math.inf)
        return torch.logsumexp(terms, 1) / (alpha - 1)

    return per_sample(logits, targets, between, lambda s: s, ignore_index=ignore_index, bernoulli=bernoulli)


@dataclass(frozen=True)
class Renyi(Divergence):
    """Rényi divergence of order alpha between label and output, see :func:`renyi`.

    Example:
        >>> Renyi(2.0)
        Renyi(ignore_index=-100, bernoulli=False, alpha=2.0)
    """

    name: ClassVar[str] = "renyi"

    alpha: float = 0.5

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the divergence of each sample, ``(B,)`` in nats."""
        return renyi(
            outputs, targets, alpha=self.alpha, ignore_index=self.ignore_index, bernoulli=self.bernoulli
        )


def _check_alpha(alpha: float) -> None:
    if not 0 < check_real("alpha", alpha) < math.inf or alpha == 1:
        raise invalid(
            "`alpha` must be above 0, finite and not 1.", alpha, "For alpha = 1 use the KL divergence."
        )
