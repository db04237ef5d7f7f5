"""InfoBatch's rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...arrays.selection import blocks, smallest
from ...errors import check_flag, check_share
from .._shares import capped, check_budget, scored, uniform_draws
from ..base import Policy, PolicyInput, Reason


@dataclass(frozen=True)
class BelowMean(Policy):
    r"""Leave out a random share of the samples that score below the mean, and give the rest larger weights.

    :math:`\bar s` is the mean of all last scores, and :math:`n_{<}` the number of samples with
    :math:`s_i < \bar s`. Exactly :math:`\mathrm{round}(f n_{<})` of these are left out; the others get the
    loss weight :math:`n_{<} / k_{<} \approx 1 / (1 - f)`, which preserves the expected gradient of the whole
    set. :math:`k_{<}` counts those that are kept after re-admission and floors. (InfoBatch keeps
    :math:`\lfloor (1 - f) n_{<} \rfloor`, which can be one fewer, and always weighs by
    :math:`1 / (1 - f)`.)

    A ``budget`` b sets f for each epoch so that :math:`\mathrm{round}(b N)` of the N samples with a score are
    left out: :math:`f = b N / n_{<}`, at most 0.9. If too few samples are below the mean, fewer are left out.

    References:
        InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning (Qin et al., 2024)

    Args:
        fraction: the share of those below the mean to leave out, in [0, 1); a budget replaces it.
        weighted: whether to weigh samples; without, every weight is 1.
        budget: the share of all scored samples to leave out each epoch, in [0, 1); None for ``fraction``.

    Raises:
        InvalidValue: if a share is outside [0, 1).

    Example:
        >>> BelowMean(0.5)
        BelowMean(fraction=0.5, weighted=True, budget=None)
    """

    name: ClassVar[str] = "below-mean"
    aliases: ClassVar[tuple[str, ...]] = ("infobatch",)

    fraction: float = 0.5
    weighted: bool = True
    budget: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weighted", check_flag("weighted", self.weighted))
        share = check_share("fraction", self.fraction, closed=False, step="To remove nothing, pass 0.")
        object.__setattr__(self, "fraction", share)
        object.__setattr__(self, "budget", check_budget(self.budget))

    @property
    def weighs(self) -> bool:
        """The option ``weighted``."""
        return self.weighted

    @property
    def draws(self) -> bool:
        """Samples are left out at random."""
        return True

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Draw from all samples below the mean."""
        low = inputs.scores < self._mean(inputs.scores)
        count = int(np.count_nonzero(low))
        if self.budget is None:
            out = round(self.fraction * count)
        else:
            out = capped(self.budget, int(np.count_nonzero(scored(inputs))), count)
        decided = np.zeros(len(inputs), np.uint8)
        decided[smallest(uniform_draws(inputs, low), len(inputs), out)] = Reason.NOT_DRAWN
        return decided

    def weights(self, inputs: PolicyInput, reason: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Return 1 / (share kept) for the samples below the mean, 1 for the others."""
        if not self.weighted:
            return None
        # Samples removed by hand do not come back, so they are not part of the set to be estimated.
        low = (inputs.scores < self._mean(inputs.scores)) & (reason != Reason.BY_HAND)
        kept = int(np.count_nonzero(low & (reason == Reason.KEPT)))
        return np.where(low, np.float32(np.count_nonzero(low) / max(1, kept)), np.float32(1.0))

    @staticmethod
    def _mean(scores: NDArray[np.float32]) -> float:
        """Return the mean of the scores, without NaN, summed in float64."""
        total = 0.0
        count = 0
        for start, stop in blocks(scores.size):
            block = scores[start:stop]
            has_score = ~np.isnan(block)
            total += float(block.sum(dtype=np.float64, where=has_score))
            count += int(np.count_nonzero(has_score))
        return total / count if count else 0.0
