"""Kullback-Leibler divergence from the output to the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .base import Divergence, per_sample, weighed


def kl_divergence(
    logits: Tensor, targets: Tensor, *, ignore_index: int = -100, bernoulli: bool = False
) -> Tensor:
    r"""Return the Kullback-Leibler divergence of each sample, loss and score in one.

    .. math:: D(q \,\|\, p) = \sum_c q_c (\log q_c - \log p_c)

    With class ids it is the cross-entropy to the last bit, and so is its gradient. With
    probabilities it is the cross-entropy less the label's own entropy, which no network can get
    below: 0 is a perfect answer with label smoothing, mixup or several annotators too, and the
    gradient is the cross-entropy's.

    References:
        On Information and Sufficiency (Kullback and Leibler, 1951)

    Args:
        logits: ``(B, C)`` before the softmax, or ``(B, C, *spatial)``, where a sample's score is
            the mean over its valid positions. Half precision is computed in float32.
        targets: class ids ``(B, *spatial)`` of any integer dtype, or probabilities of the shape of
            ``logits``. They are constants: no gradient flows into them.
        ignore_index: the target of positions to leave out. Probabilities are left out where all C
            of them are equal to it.
        bernoulli: each logit answers a yes-or-no question of its own: logits ``(B, *any)``,
            targets of the same shape in [0, 1] (floats, bools or integers). The score is the *mean*
            over the logits of a sample. Logits of shape ``(B,)`` are always read so.

    Returns:
        ``(B,)`` in nats, float32, or float64 for float64 logits; ``NO_SCORE`` (see
        :func:`~fallow.scores.is_no_score`) for a sample of which every target is ignored.

    Raises:
        InvalidType: for a dtype that cannot be meant.
        InvalidValue: for shapes that do not fit, and, where the targets live on the host, for a
            value out of range. On an accelerator that cannot be known without waiting, so there it
            is left to torch.

    Example:
        >>> import torch
        >>> logits = torch.randn(4, 3, dtype=torch.float64)
        >>> bool((kl_divergence(logits, logits.softmax(1)).abs() < 1e-12).all())
        True
    """
    return per_sample(
        logits,
        targets,
        between=lambda q, log_p: weighed(q, q.log() - log_p).sum(1),
        of_surprisal=lambda s: s,
        ignore_index=ignore_index,
        bernoulli=bernoulli,
    )


@dataclass(frozen=True)
class KLDivergence(Divergence):
    """Kullback-Leibler divergence from the output to the label, see :func:`kl_divergence`.

    Example:
        >>> KLDivergence(ignore_index=255)
        KLDivergence(ignore_index=255, bernoulli=False)
    """

    name: ClassVar[str] = "kl"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the divergence of each sample, ``(B,)`` in nats."""
        return kl_divergence(outputs, targets, ignore_index=self.ignore_index, bernoulli=self.bernoulli)
