"""IES's rule: leave out samples whose loss no longer changes its slope."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...arrays.selection import blocks, smallest
from ...errors import check_integer, invalid, invalid_type
from .._shares import check_budget, left_out, scored
from ..base import Policy, PolicyInput, Reason

_LAST, _BEFORE, _COUNT = "ies_last", "ies_before", "ies_count"
MAX_WINDOW = 16  # the window costs one float32 column per epoch in it


@dataclass(frozen=True)
class IES(Policy):
    r"""Leave out samples whose loss follows a straight line: its second difference is small.

    .. math:: d_t = |s_t - 2 s_{t-1} + s_{t-2}|, \qquad \bar d = \frac{1}{w} \sum_{k=0}^{w-1} d_{t-k}

    A sample with :math:`\bar d <` ``threshold`` is left out. A forward pass measures it in every epoch, so it
    returns when its score starts to move. The average needs w + 2 scores in a row, so nothing is left out
    before epoch w + 2; after a non-finite score the row starts again. Weights stay 1.

    A ``budget`` b replaces the threshold: the :math:`\mathrm{round}(b N)` samples with the lowest averages
    are left out, or all that have one if these are fewer. N counts the samples with a score; ties are broken
    at random.

    References:
        Instance-dependent Early Stopping (Yuan et al., 2025)

    Args:
        threshold: in the unit of the score; the paper uses 1e-3 for CIFAR-10 and 2e-3 for CIFAR-100. A
            budget replaces it.
        window: w, the number of epochs in the average, 1 to 16.
        budget: the share of all scored samples to leave out each epoch, in [0, 1); None for ``threshold``.

    Raises:
        InvalidValue: if the threshold is not positive, or the window or the budget is out of range.

    Example:
        >>> IES(budget=0.3)
        IES(threshold=0.001, window=3, budget=0.3)
    """

    name: ClassVar[str] = "ies"
    measures_removed: ClassVar[bool] = True

    threshold: float = 1e-3
    window: int = 3
    budget: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.threshold, bool) or not isinstance(self.threshold, int | float):
            raise invalid_type("`threshold` must be a number.", repr(self.threshold))
        if not 0 < self.threshold < math.inf:
            raise invalid("`threshold` must be positive and finite.", self.threshold)
        object.__setattr__(self, "threshold", float(self.threshold))
        object.__setattr__(self, "window", check_integer("window", self.window, 1))
        if self.window > MAX_WINDOW:
            raise invalid(f"`window` must be at most {MAX_WINDOW}.", self.window)
        object.__setattr__(self, "budget", check_budget(self.budget))

    def first_epoch(self) -> int:
        """Return ``window + 2``, the number of scores in one average."""
        return self.window + 2

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Store the fresh scores and leave out the samples that no longer change."""
        n = len(inputs)
        change = self._average_change(inputs)
        if self.budget is None:
            out = change < np.float32(self.threshold)
        else:
            known = int(np.count_nonzero(change == change))
            count = min(left_out(self.budget, int(np.count_nonzero(scored(inputs)))), known)
            out = smallest(lambda a, b: change[a:b], n, count, inputs.uniform)
        return np.where(out, np.uint8(Reason.LEARNED), np.uint8(Reason.KEPT))

    def _average_change(self, inputs: PolicyInput) -> NDArray[np.float32]:
        """Store the fresh scores in the columns; return the average change, NaN if there is none yet."""
        last, before = inputs.column(_LAST, np.float32), inputs.column(_BEFORE, np.float32)
        count = inputs.column(_COUNT, np.uint8)
        changes = [inputs.column(f"ies_change_{k}", np.float32) for k in range(self.window)]
        average = np.empty(len(inputs), np.float32)
        for start, stop in blocks(len(inputs), 1 << 16):
            rows = slice(start, stop)
            score, fresh = inputs.scores[rows], inputs.fresh[rows]
            finite = score == score  # the table holds NaN for every non-finite score
            update = fresh & finite
            count[rows][fresh & ~finite] = 0
            change = np.abs(score - 2 * last[rows] + before[rows])
            for k in range(self.window - 1):
                np.copyto(changes[k][rows], changes[k + 1][rows], where=update)
            np.copyto(changes[-1][rows], change, where=update)
            np.copyto(before[rows], last[rows], where=update)
            np.copyto(last[rows], score, where=update)
            count[rows] += update & (count[rows] < MAX_WINDOW + 2)
            # A running sum would be cheaper, but rounding errors would add up over the epochs.
            total = changes[0][rows].copy()
            for column in changes[1:]:
                total += column[rows]
            ready = finite & (count[rows] >= self.window + 2)
            average[rows] = np.where(ready, total / np.float32(self.window), np.float32(np.nan))
        return average
