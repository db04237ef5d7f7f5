r"""The base class of scores, and the mathematics that all divergences share.

A divergence compares the label distribution q with the softmax output p at each *position* (a
sample, or a pixel of it). A sample's score is the mean over its valid positions. For a class id y,
q is one at y and zero elsewhere, and most divergences depend on the surprisal alone:

.. math:: s = -\log p_y

Then only the softmax needs a tensor of the size of the logits.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arrays.no_score import NO_SCORE as NO_SCORE
from ..arrays.no_score import NO_SCORE_FLOOR
from ._inputs import aligned


class Score(ABC):
    """A measure of each sample in a batch: one float per sample, low if the network is not surprised.

    Attributes:
        name: the short name on the command line; the class name in kebab case works too.
        unit: "nats", or "" for a pure number.
        range: the smallest and the largest possible score.
    """

    name: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    @abstractmethod
    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the score of each sample, ``(B,)``, differentiable in ``outputs``."""


@dataclass(frozen=True, kw_only=True)
class Divergence(Score):
    """A divergence between labels and outputs, with the options that all of them share.

    Args:
        ignore_index: the target value that means "not labelled".
        bernoulli: whether each logit is a separate yes-or-no question.
    """

    unit: ClassVar[str] = "nats"
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)

    ignore_index: int = -100
    bernoulli: bool = False


def is_no_score(scores: Tensor) -> Tensor:
    """Return which entries of ``scores`` mean "no score": a bool tensor of the same shape.

    Any value in the open interval (-1e-30, 0) counts, so the mark survives multiplication by a
    weight. Zero of either sign is a score.

    Example:
        >>> import torch
        >>> is_no_score(torch.tensor([NO_SCORE, 7 * NO_SCORE, 0.0, -0.0, -1e-9])).tolist()
        [True, True, False, False, False]
    """
    return (scores < 0) & (scores > NO_SCORE_FLOOR)


def weighed(weights: Tensor, values: Tensor) -> Tensor:
    """Return ``weights * values``; a weight of 0 gives 0 without a gradient, even for infinite values."""
    # Masking the product instead would leave a NaN gradient, since backward multiplies 0 by infinity.
    return weights * values.masked_fill(weights == 0, 0.0)


def per_sample(
    logits: Tensor,
    targets: Tensor,
    between: Callable[[Tensor, Tensor], Tensor],
    of_surprisal: Callable[[Tensor], Tensor] | None = None,
    *,
    ignore_index: int,
    bernoulli: bool,
) -> Tensor:
    """Return the mean divergence over the valid positions of each sample, in float32 or float64.

    Args:
        logits: see :func:`fallow.scores.kl_divergence`.
        targets: see :func:`fallow.scores.kl_divergence`; no gradient flows into them.
        between: (q, log p) -> divergence, ``(B, C, *spatial)`` twice -> ``(B, *spatial)``.
        of_surprisal: the same divergence for class ids, as a function of ``-log p_y``, both
            ``(B, *spatial)``. Without it, class ids are expanded to one-hot rows.
        ignore_index: the target value of a position to leave out. A position with probabilities is
            left out if all C of them equal it.
        bernoulli: whether each logit is a separate yes-or-no question.

    Returns:
        ``(B,)``; ``NO_SCORE`` for a sample without a valid position.
    """
    logits, targets = aligned(logits, targets, ignore_index=ignore_index, bernoulli=bernoulli)
    if targets.is_floating_point():
        valid = (targets != ignore_index).any(1)
        # Ignored positions become uniform: NaN gradients would spread through the masked mean.
        q = targets.where(valid.unsqueeze(1), 1 / logits.shape[1])
    else:
        valid = targets != ignore_index
        if of_surprisal is not None:
            surprisal = F.cross_entropy(logits, targets, ignore_index=ignore_index, reduction="none")
            return _mean(of_surprisal(surprisal), valid)
        # `ignore_index` is no column, so ignored ids become class 0; `_mean` drops their values.
        q = torch.zeros_like(logits).scatter_(1, targets.where(valid, 0).unsqueeze(1), 1.0)
    values = between(q, logits.log_softmax(1))
    # Rounding may leave a divergence just below 0, which would be read as "no score".
    return _mean(values.masked_fill(is_no_score(values), 0.0), valid)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of the valid values, ``(B, *spatial) -> (B,)``, or ``NO_SCORE``."""
    if values.dim() > 1:
        count = valid.flatten(1).sum(1)
        values = values.where(valid, 0.0).flatten(1).sum(1) / count.clamp_min(1)
        valid = count > 0
    return values.where(valid, NO_SCORE)
