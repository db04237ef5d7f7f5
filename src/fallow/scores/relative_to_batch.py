"""A score less the mean of its batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .base import NO_SCORE, Score, is_no_score


@dataclass(frozen=True)
class RelativeToBatch(Score):
    r"""Another score less its mean over the batch, :math:`s_i - \frac{1}{B} \sum_j s_j`, in its unit.

    All scores of a batch come from one state of the network, so they compare with each other where the scores
    of an epoch's first and last batch do not. The mean goes over the rows that have a finite score; rows
    without a score keep ``NO_SCORE``, and a bad row stays bad and alone. With several ranks the batch is the
    rank's own.

    Its rows see each other: the same sample scores otherwise in another batch.

    References:
        Inconsistency Biases in Dynamic Data Pruning (Zhou et al., 2026)

    Args:
        score: what is measured.

    Example:
        >>> import torch
        >>> from fallow.scores import KLDivergence
        >>> logits = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
        >>> RelativeToBatch(KLDivergence())(logits, torch.tensor([0, 0])).sign().tolist()
        [1.0, -1.0]
    """

    score: Score

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the relative score of each sample, ``(B,)``."""
        scores = self.score(outputs, targets)
        unscored = is_no_score(scores)
        counted = scores.isfinite() & ~unscored
        mean = scores.where(counted, 0.0).sum() / counted.sum().clamp_min(1)
        relative = scores - mean
        # A difference a hair below 0 would be read as "no score"; 0 is a score, and not below the mean.
        return relative.masked_fill(is_no_score(relative), 0.0).masked_fill(unscored, NO_SCORE)
