"""Train on the biggest losers of each batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..arrays.keyed import uniform
from ..arrays.no_score import NO_SCORE_FLOOR
from ..errors import check_share, invalid
from .base import StepRule


@dataclass(frozen=True)
class SelectiveBackprop(StepRule):
    r"""Train on a share of each batch, drawn with odds that rise with the rank of the loss.

    With :math:`p_i = (r_i + \tfrac12) / B` the percentile of a row's score in its batch (r from 0, the
    lowest), :math:`\mathrm{round}(\text{keep} \cdot B)` rows are drawn without replacement with odds
    :math:`\propto p_i^{1 / \text{keep} - 1}`: those with the smallest :math:`E_i / p_i^{1 / \text{keep} -
    1}`, where :math:`E_i` is a standard exponential draw. The paper keeps each row with probability
    :math:`p_i^\beta` of its percentile among recent losses, which keeps :math:`1 / (1 + \beta)` of them in
    expectation; the exact count, with :math:`\beta = 1 / \text{keep} - 1`, is that of MosaicML's Composer.
    Rows without a finite score rank lowest.

    References:
        Accelerating Deep Learning by Focusing on the Biggest Losers (Jiang et al., 2019);
        Weighted random sampling with a reservoir (Efraimidis and Spirakis, 2006)

    Args:
        keep: the share of a batch that is trained on, in (0, 1].
        start: training progress from which the rule applies, in [0, 1).
        end: training progress from which it no longer applies, in (start, 1]. Composer uses 0.5 to 0.9.

    Raises:
        InvalidValue: if a share is outside its interval.

    Example:
        >>> int(SelectiveBackprop(keep=0.25).choose(torch.rand(64), key=1).sum())
        16
    """

    name: ClassVar[str] = "selective-backprop"

    keep: float = 0.5
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        for name in ("keep", "start", "end"):
            object.__setattr__(self, name, check_share(name, getattr(self, name), closed=name != "start"))
        if self.keep == 0:
            raise invalid("`keep` must be above 0.", self.keep, "It is the share that is trained on.")
        if self.end <= self.start:
            raise invalid("`end` must be above `start`.", f"start={self.start}, end={self.end}")

    def acts(self, progress: float) -> bool:
        """Return whether ``start <= progress < end``."""
        return self.start <= progress < self.end

    def count(self, batch: int) -> int:
        """Return ``round(keep * batch)``, at least 1."""
        return max(min(batch, 1), round(self.keep * batch))

    def choose(self, scores: Tensor, key: int) -> Tensor:
        """Return which rows of a batch to train on, drawn by the rank of their scores: bool ``(B,)``."""
        scores = scores.detach()
        size = scores.shape[0]
        percentile = (np.arange(size) + 0.5) / size
        draw = uniform(key, 0, size).astype(np.float64) - 2.0**-25  # in (0, 1), both ends excluded
        # The ranks are drawn on the host, without the scores, so that no step waits for the device.
        keys = np.log(-np.log(draw)) - (1 / self.keep - 1) * np.log(percentile)
        ranks = np.zeros(size, np.bool_)
        ranks[np.argsort(keys, kind="stable")[: self.count(size)]] = True
        unscored = ~scores.isfinite() | ((scores < 0) & (scores > NO_SCORE_FLOOR))
        by_rank = torch.argsort(scores.masked_fill(unscored, -torch.inf), stable=True)
        drawn = torch.from_numpy(ranks).to(scores.device, non_blocking=True)
        return torch.empty_like(drawn).scatter_(0, by_rank, drawn)
