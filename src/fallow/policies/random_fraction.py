"""A random subset each epoch: a control that no rule may claim to beat without showing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import smallest
from ..errors import check_share
from .base import Policy, PolicyInput, Reason


@dataclass(frozen=True)
class RandomFraction(Policy):
    r"""Leave out :math:`\mathrm{round}(f N)` samples drawn anew each epoch, whatever they score.

    N counts the samples that have a score; one without is kept.

    References:
        Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning (Okanovic et al., 2024)

    Args:
        fraction: the share that is left out, in [0, 1).

    Raises:
        InvalidValue: for a share outside [0, 1).

    Example:
        >>> RandomFraction(0.3).kept_count(10)
        7
    """

    name: ClassVar[str] = "random"

    fraction: float

    def __post_init__(self) -> None:
        share = check_share("fraction", self.fraction, closed=False, step="To remove nothing, pass 0.")
        object.__setattr__(self, "fraction", share)

    def kept_count(self, n: int) -> int:
        """Return ``n - round(fraction * n)``, at least 1."""
        return n - min(round(self.fraction * n), max(0, n - 1))

    @property
    def draws(self) -> bool:
        """Return whether any are left out."""
        return self.fraction > 0

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Draw the subset of the planned epoch."""
        n, scores = len(inputs), inputs.scores
        scored = n - int(np.count_nonzero(np.isnan(scores)))

        def lottery(start: int, stop: int) -> NDArray[np.float32]:
            draw = inputs.uniform(start, stop)
            return np.where(np.isnan(scores[start:stop]), np.float32(np.nan), draw)

        decided = np.zeros(n, np.uint8)
        out = smallest(lottery, n, scored - self.kept_count(scored))
        decided[out] = Reason.NOT_DRAWN
        return decided
