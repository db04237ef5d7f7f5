"""A random subset each epoch: the baseline that every other policy must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import smallest
from ..errors import check_share
from ._shares import left_out, scored, uniform_draws
from .base import Policy, PolicyInput, Reason


@dataclass(frozen=True)
class RandomFraction(Policy):
    r"""Leave out :math:`\mathrm{round}(f N)` samples, drawn again each epoch, whatever their scores.

    N counts the samples with a score; samples without one are kept.

    References:
        Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning (Okanovic et al., 2024)

    Args:
        fraction: the share to leave out, in [0, 1).

    Raises:
        InvalidValue: if a share is outside [0, 1).

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
        return n - left_out(self.fraction, n)

    @property
    def draws(self) -> bool:
        """Return whether any are left out."""
        return self.fraction > 0

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Draw the subset of the planned epoch."""
        n = len(inputs)
        has_score = scored(inputs)
        out = left_out(self.fraction, int(np.count_nonzero(has_score)))
        decided = np.zeros(n, np.uint8)
        decided[smallest(uniform_draws(inputs, has_score), n, out)] = Reason.NOT_DRAWN
        return decided
