"""Jensen-Shannon divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Divergence, per_sample, weighed


def jensen_shannon(
    logits: Tensor, targets: Tensor, *, ignore_index: int = -100, bernoulli: bool = False
) -> Tensor:
    r"""Return the Jensen-Shannon divergence of each sample: symmetric, and at most log 2.

    .. math:: \tfrac12 D(q \,\|\, m) + \tfrac12 D(p \,\|\, m), \qquad m = \tfrac12 (p + q)

    References:
        Divergence Measures Based on the Shannon Entropy (Lin, 1991)

    Args:
        logits: ``(B, C)`` or ``(B, C, *spatial)``, see :func:`kl_divergence`.
        targets: class ids ``(B, *spatial)`` or probabilities of the shape of ``logits``.
        ignore_index: the target value of positions to leave out.
        bernoulli: treat each logit as a yes-or-no question; return the mean over them.

    Returns:
        ``(B,)`` in nats, in [0, log 2]; ``NO_SCORE`` if all targets of the sample are ignored.

    Raises:
        InvalidType: if a dtype is invalid.
        InvalidValue: if a shape or value is invalid, as in :func:`kl_divergence`.

    Example:
        >>> p, q = torch.rand(2, 4, 3, dtype=torch.float64).softmax(2)
        >>> bool(torch.allclose(jensen_shannon(p.log(), q), jensen_shannon(q.log(), p)))
        True
    """
    return per_sample(
        logits, targets, _between, _of_surprisal, ignore_index=ignore_index, bernoulli=bernoulli
    )


def _between(q: Tensor, log_p: Tensor) -> Tensor:
    p = log_p.exp()
    # If m underflows, both weights are 0; the floor keeps the gradient of its logarithm finite.
    log_m = ((p + q) / 2).clamp_min(torch.finfo(p.dtype).tiny).log()
    return (weighed(q, q.log() - log_m) + weighed(p, log_p - log_m)).sum(1) / 2


def _of_surprisal(s: Tensor) -> Tensor:
    # m is (1 + p) / 2 = 1 - rest / 2 at y, and p_c / 2 elsewhere. expm1 and log1p stay exact near p = 1.
    p = torch.exp(-s)
    rest = -torch.expm1(-s)
    return (rest * math.log(2) - weighed(p, s) - (1 + p) * torch.log1p(-rest / 2)) / 2


@dataclass(frozen=True)
class JensenShannon(Divergence):
    """Jensen-Shannon divergence between label and output, see :func:`jensen_shannon`.

    Example:
        >>> JensenShannon.range == (0.0, math.log(2))
        True
    """

    name: ClassVar[str] = "js"
    range: ClassVar[tuple[float, float]] = (0.0, math.log(2))

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the divergence of each sample, ``(B,)`` in nats."""
        return jensen_shannon(outputs, targets, ignore_index=self.ignore_index, bernoulli=self.bernoulli)
