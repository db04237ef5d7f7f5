"""A score minus the mean of its batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .base import NO_SCORE, Score, is_no_score


@dataclass(frozen=True)
class RelativeToBatch(Score):
    r"""Another score minus its mean over the batch, :math:`s_i - \frac{1}{B} \sum_j s_j`, in its unit.

    All scores of a batch come from the same state of the network, so they are comparable; those of an epoch's
    first and last batch are not. The mean covers the rows with a finite score. Rows without a score keep
    ``NO_SCORE``; a non-finite row stays so and affects no other. Each rank uses its own batch.

    A sample's score therefore depends on the batch that it is in.

    References:
        Inconsistency Biases in Dynamic Data Pruning (Zhou et al., 2026)

    Args:
        score: the score to compare within the batch.

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
        # clamp_min serves a batch without a single finite score.
        mean = scores.where(counted, 0.0).sum() / counted.sum().clamp_min(1)
        relative = scores - mean
        # A difference just below 0 would be read as "no score", so it is rounded to 0.
        return relative.masked_fill(is_no_score(relative), 0.0).masked_fill(unscored, NO_SCORE)
