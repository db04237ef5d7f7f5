"""Kullback-Leibler divergence from the label to the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..errors import check_real, invalid
from .base import Divergence, per_sample, weighed


def reverse_kl(
    logits: Tensor,
    targets: Tensor,
    *,
    smoothing: float = 0.01,
    ignore_index: int = -100,
    bernoulli: bool = False,
) -> Tensor:
    r"""Return the reverse Kullback-Leibler divergence of each sample; it is bounded.

    .. math::

        D(p \,\|\, q') = \sum_c p_c (\log p_c - \log q'_c), \qquad
        q' = (1 - \epsilon) q + \epsilon / C

    The smoothing keeps the divergence finite for one-hot labels. A wrong label costs at most
    :math:`\log(C / \epsilon)`, so label noise moves this score less than :func:`kl_divergence`. It
    is zero for p = q', and about :math:`\epsilon` for p = q.

    References:
        Symmetric Cross Entropy for Robust Learning with Noisy Labels (Wang et al., 2019)

    Args:
        logits: ``(B, C)`` or ``(B, C, *spatial)``, see :func:`kl_divergence`.
        targets: class ids ``(B, *spatial)`` or probabilities of the shape of ``logits``.
        smoothing: the share :math:`\epsilon` of the uniform distribution in q', in (0, 1). At 0.01,
            a learned sample scores 0.01 and a confidently wrong one 4.6 + log C.
        ignore_index: the target value of positions to leave out.
        bernoulli: treat each logit as a yes-or-no question; return the mean over them.

    Returns:
        ``(B,)`` in nats; ``NO_SCORE`` if all targets of the sample are ignored.

    Raises:
        InvalidType: if a dtype is invalid.
        InvalidValue: if the smoothing is outside (0, 1), or as in :func:`kl_divergence`.

    Example:
        >>> import math, torch
        >>> logits, ids = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
        >>> bool((reverse_kl(1e4 * logits, ids) <= math.log(3 / 0.01)).all())
        True
    """
    _check_smoothing(smoothing)

    # There is no `of_surprisal`: even for class ids the value depends on the entropy of p.
    def between(q: Tensor, log_p: Tensor) -> Tensor:
        log_q = ((1 - smoothing) * q + smoothing / q.shape[1]).log()
        return weighed(log_p.exp(), log_p - log_q).sum(1)

    return per_sample(logits, targets, between, ignore_index=ignore_index, bernoulli=bernoulli)


@dataclass(frozen=True)
class ReverseKL(Divergence):
    """Kullback-Leibler divergence from the label to the output, see :func:`reverse_kl`.

    Example:
        >>> ReverseKL(0.1)
        ReverseKL(ignore_index=-100, bernoulli=False, smoothing=0.1)
    """

    name: ClassVar[str] = "reverse-kl"

    smoothing: float = 0.01

    def __post_init__(self) -> None:
        _check_smoothing(self.smoothing)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the divergence of each sample, ``(B,)`` in nats."""
        return reverse_kl(
            outputs,
            targets,
            smoothing=self.smoothing,
            ignore_index=self.ignore_index,
            bernoulli=self.bernoulli,
        )


def _check_smoothing(smoothing: float) -> None:
    if not 0 < check_real("smoothing", smoothing) < 1:
        raise invalid("`smoothing` must be in (0, 1).", smoothing, "At 0 every class id is infinitely far.")
