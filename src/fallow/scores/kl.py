"""Kullback-Leibler divergence from the output to the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .base import Divergence, per_sample, weighed


def kl_divergence(
    logits: Tensor, targets: Tensor, *, ignore_index: int = -100, bernoulli: bool = False
) -> Tensor:
    r"""Return the Kullback-Leibler divergence of each sample: loss and score in one.

    .. math:: D(q \,\|\, p) = \sum_c q_c (\log q_c - \log p_c)

    With class ids, value and gradient equal those of the cross-entropy, to the last bit. With
    probabilities, it is the cross-entropy minus the entropy of the label, which no network can
    undercut. So 0 is a perfect answer under label smoothing, mixup or several annotators too, and
    the gradient is still that of the cross-entropy.

    References:
        On Information and Sufficiency (Kullback and Leibler, 1951)

    Args:
        logits: ``(B, C)`` before the softmax, or ``(B, C, *spatial)``; then a sample's score is the
            mean over its valid positions. Half precision is computed in float32.
        targets: class ids ``(B, *spatial)`` of any integer dtype, or probabilities of the shape of
            ``logits``. No gradient flows into them.
        ignore_index: the target value of positions to leave out. A position with probabilities is
            left out if all C of them equal it.
        bernoulli: treat each logit as a yes-or-no question: logits ``(B, *any)``, targets of the
            same shape in [0, 1] (floats, bools or integers). The score is the *mean* over the
            logits of a sample. Logits of shape ``(B,)`` are always treated this way.

    Returns:
        ``(B,)`` in nats, float32, or float64 for float64 logits; ``NO_SCORE`` (see
        :func:`~fallow.scores.is_no_score`) if all targets of the sample are ignored.

    Raises:
        InvalidType: if a dtype is invalid.
        InvalidValue: if shapes do not match, or a target on the host is out of range. Targets on an
            accelerator are left to torch, since checking them would wait for the device.

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
        of_surprisal=lambda s: s,  # the cross-entropy itself
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
